//! Whether the engine takes new calls. A pass asks when a container has ended unasked: an engine on its way down takes its
//! containers along. While the engine does not answer, one pass asks for all of them.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::runtime::RuntimeError;

/// For this long a failed check holds for every server.
const HOLDS: Duration = Duration::from_secs(3);

/// The last failed check, and when it failed.
#[derive(Default)]
pub struct EngineCheck {
    failed: Mutex<Option<(Instant, RuntimeError)>>,
    /// Held by the pass that checks while the last check has failed.
    checking: tokio::sync::Mutex<()>,
}

impl EngineCheck {
    /// Asks the engine. An answer is true of its moment alone, so each pass asks for itself; a failure holds for some seconds.
    ///
    /// # Errors
    /// The engine takes no new calls.
    pub async fn run(&self, ask: impl Future<Output = Result<(), RuntimeError>>) -> Result<(), RuntimeError> {
        let _checking = match self.failure() {
            Some(_) => Some(self.checking.lock().await),
            None => None,
        };
        if let Some((at, error)) = self.failure()
            && at.elapsed() < HOLDS
        {
            return Err(error);
        }
        let answer = ask.await;
        let failure = answer.as_ref().err().map(|error| (Instant::now(), error.clone()));
        *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = failure;
        answer
    }

    fn failure(&self) -> Option<(Instant, RuntimeError)> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn passes_do_not_wait_for_each_others_answers() {
        let (check, began) = (EngineCheck::default(), Instant::now());
        let slow = || async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            Ok(())
        };
        let answers = (0..8).map(|_| check.run(slow()));
        assert!(futures_util::future::join_all(answers).await.iter().all(Result::is_ok));
        assert_eq!(began.elapsed(), Duration::from_millis(500));
    }
}
