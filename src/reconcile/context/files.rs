//! Checking the files of intent, and noting what they bring.

use super::Context;
use crate::model::{Reason, ServerId};
use crate::store::StoreError;

impl Context {
    /// Checks a server's files: what a person has changed comes in effect or becomes a problem, and is an event. What was in the
    /// files when the daemon started is recorded, and is none. Returns whether anything changed.
    ///
    /// # Errors
    /// When an accepted change cannot be recorded.
    pub async fn refresh(&self, id: ServerId) -> Result<bool, StoreError> {
        let recorded = self.store.get(id).is_none_or(|before| !before.unrecorded);
        let changed = self.store.run(move |store| store.refresh(id)).await?;
        let Some(snapshot) = self.store.get(id).filter(|_| changed) else { return Ok(changed) };
        match &snapshot.problem {
            Some(problem) => self.store.event(id, self.clock.now(), problem.reason, &problem.message),
            None if recorded => {
                let message = format!("accepted generation {}", snapshot.record.generation);
                self.store.event(id, self.clock.now(), Reason::SpecAccepted, &message);
            }
            None => {}
        }
        Ok(changed)
    }
}
