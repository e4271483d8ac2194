//! Whether the engine stays. Every server whose container has ended unasked wants to know, at each of its passes; an engine that
//! is on its way down is asked for all of them together.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::runtime::{Runtime, RuntimeError};

/// For how long a silence holds for everybody.
const HOLDS: Duration = Duration::from_secs(3);

/// The last knock that was not answered, and when that was.
#[derive(Default)]
pub struct Knock(Mutex<Option<(Instant, RuntimeError)>>);

impl Knock {
    /// Asks whether the engine stays. That it does is true of this moment alone, so everybody asks anew; that it does not
    /// holds for a while.
    ///
    /// # Errors
    /// The engine takes no new calls.
    pub async fn answered(&self, runtime: &dyn Runtime) -> Result<(), RuntimeError> {
        // Held during the question: who comes meanwhile hears of a silence, and does not wait for one of their own.
        let mut silence = self.0.lock().await;
        if let Some((at, error)) = &*silence
            && at.elapsed() < HOLDS
        {
            return Err(error.clone());
        }
        let answer = runtime.stays().await;
        *silence = answer.as_ref().err().map(|error| (Instant::now(), error.clone()));
        answer
    }
}
