//! Accepting the files of a manifest that have changed.

use crate::clock::Clock;
use crate::model::{Reason, ServerId};
use crate::store::{Store, StoreError};

/// Reads a server's files if they have changed: the change becomes effective, or a problem, and an event either way. What was in
/// the files when the daemon started is recorded without an event.
///
/// # Errors
/// When an accepted change cannot be recorded.
pub async fn refresh(store: &Store, clock: Clock, id: ServerId) -> Result<(), StoreError> {
    let recorded = store.get(id).is_none_or(|before| !before.unrecorded);
    let changed = store.run(move |store| store.refresh(id)).await?;
    let Some(snapshot) = store.get(id).filter(|_| changed) else { return Ok(()) };
    match &snapshot.problem {
        Some(problem) => store.event(id, clock.now(), problem.reason, &problem.message),
        None if recorded => {
            let message = format!("accepted generation {}", snapshot.record.generation);
            store.event(id, clock.now(), Reason::SpecAccepted, &message);
        }
        None => {}
    }
    Ok(())
}
