//! Looking at the files of intent, and saying what they bring.

use super::World;
use crate::model::{Reason, ServerId};
use crate::store::StoreError;

impl World {
    /// Looks at a server's files: what a person has changed comes in force or becomes a problem, and is an event, whoever sees
    /// it first. Returns whether anything changed.
    ///
    /// # Errors
    /// When an accepted change cannot be recorded.
    pub async fn refresh(&self, id: ServerId) -> Result<bool, StoreError> {
        let changed = self.store.run(move |store| store.refresh(id)).await?;
        if changed && let Some(snapshot) = self.store.get(id) {
            match &snapshot.problem {
                Some(problem) => self.store.event(id, self.clock.now(), problem.reason, &problem.message),
                None => {
                    let message = format!("generation {} is in force", snapshot.record.generation);
                    self.store.event(id, self.clock.now(), Reason::SpecAccepted, &message);
                }
            }
        }
        Ok(changed)
    }

    /// Records what was in the files when the daemon came up, which is no event. What somebody has broken since is one.
    ///
    /// # Errors
    /// As [`World::refresh`].
    pub async fn record_intent(&self, id: ServerId) -> Result<(), StoreError> {
        let changed = self.store.run(move |store| store.refresh(id)).await?;
        let problem = self.store.get(id).and_then(|snapshot| snapshot.problem.clone());
        if let Some(problem) = problem.filter(|_| changed) {
            self.store.event(id, self.clock.now(), problem.reason, &problem.message);
        }
        Ok(())
    }
}
