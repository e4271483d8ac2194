//! Checks that the engine accepts new connections. A pass checks this after an unexpected end of a container, because an engine
//! that shuts down ends its containers. While the engine does not answer, one pass checks for all.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::runtime::RuntimeError;

/// How long a failed check is valid for all servers.
const HOLDS: Duration = Duration::from_secs(3);

/// The last failed check, and when it failed.
#[derive(Default)]
pub struct EngineCheck {
    failed: Mutex<Option<(Instant, RuntimeError)>>,
    /// Held by the pass that checks while the last check has failed.
    checking: tokio::sync::Mutex<()>,
}

impl EngineCheck {
    /// Runs the check. A success is not cached, because it may be outdated at once; a failure is cached for [`HOLDS`].
    ///
    /// # Errors
    /// The engine accepts no new connections.
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
    async fn checks_of_a_healthy_engine_run_concurrently() {
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
