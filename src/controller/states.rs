//! Keeps `states.json` as the servers are, for the way back to Wings (ADR 34).

use std::sync::Arc;

use crate::reconcile::context::Context;
use crate::retry;
use crate::store::states::States;
use crate::wait;

/// Writes the file after each change, once for all changes of [`wait::STATES_COLLECTED`].
pub async fn follow(context: Arc<Context>) {
    let mut changes = context.store.changes();
    let (mut written, mut failures) = (None, 0);
    loop {
        tokio::time::sleep(wait::STATES_COLLECTED).await;
        // Before the states are read: a later change leads to another write.
        changes.mark_unchanged();
        let states = context.store.states();
        if written.as_ref() != Some(&states) {
            if write(&context, states.clone()).await {
                (written, failures) = (Some(states), 0);
            } else {
                failures += 1;
                tokio::time::sleep(retry::delay(retry::STEP, failures, &context.jitter)).await;
                continue;
            }
        }
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// Writes the file at the end of the daemon.
pub async fn finish(context: &Context) {
    write(context, context.store.states()).await;
}

async fn write(context: &Context, states: States) -> bool {
    match context.store.run(move |store| store.write_states(&states)).await {
        Ok(()) => true,
        Err(error) => {
            tracing::warn!(%error, "cannot keep states.json; Wings would start the servers of an earlier moment after a reboot");
            false
        }
    }
}
