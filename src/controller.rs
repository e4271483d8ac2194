//! The loop around the reconciler: which server gets a pass when.
//!
//! `queue` holds servers and times. Changed manifests (`manifests`), containers (`containers`), the panel's list (`listing`), jobs
//! and terminals that have ended, and the times that passes ask for put servers into it. [`run`] takes servers out and
//! runs passes: many servers at once, one pass at a time per server. A pass does not know why it runs.

pub mod activity;
pub mod backup_schedules;
pub mod containers;
pub mod file_events;
pub mod listing;
pub mod manifests;
pub mod queue;
pub mod states;
pub mod trash;
mod unknown_containers;

use std::sync::Arc;

use futures_util::FutureExt;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;
use tracing::Instrument;

use crate::model::{Condition, ConditionStatus, ConditionType, Reason, ServerId};
use crate::reconcile::context::Context;
use crate::tasks::panic_text;
use crate::telemetry::pass_span;
use queue::Queue;

/// Runs passes over the servers in the queue until it is dropped, as many at once as there are workers. It begins when `ready` turns
/// true: all containers were listed, or cannot be.
pub async fn run(context: Arc<Context>, queue: Queue, workers: usize, mut ready: watch::Receiver<bool>) {
    // An error means that the sender is gone: then there is nothing to wait for.
    let _ = ready.wait_for(|ready| *ready).await;
    let permits = Arc::new(Semaphore::new(workers.max(1)));
    for pass in 1.. {
        let Ok(permit) = permits.clone().acquire_owned().await else { return };
        let id = queue.next().await;
        let (worker, done) = (context.clone(), queue.clone());
        let run = async move {
            let next = guarded_pass(&worker, id).await;
            drop(permit);
            done.done(id, next);
        };
        context.tasks.spawn(format!("pass {id}"), run.instrument(pass_span(id, pass)));
    }
}

/// A pass whose panic becomes a condition of its server.
async fn guarded_pass(context: &Arc<Context>, id: ServerId) -> Option<Instant> {
    let pass = std::panic::AssertUnwindSafe(context.pass(id)).catch_unwind().await;
    pass.unwrap_or_else(|panic| {
        let (failures, next) = context.servers.panicked(id);
        let text = panic_text(panic.as_ref());
        tracing::error!(failures, panic = text, "a pass panicked (bug, please report)");
        publish_bug(context, id, text);
        Some(next)
    })
}

fn publish_bug(context: &Context, id: ServerId, text: &str) {
    let now = context.clock.now();
    context.store.set_status(id, |status| {
        for condition_type in [ConditionType::Ready, ConditionType::Running] {
            status.set_condition(Condition {
                condition_type,
                status: ConditionStatus::Unknown,
                reason: Reason::InternalError,
                message: format!("reconcile failed (bug, please report): {text}; it is tried again"),
                last_transition_time: now,
                observed_generation: status.observed_generation,
            });
        }
        status.push_event(context.store.events().next_number(now), now, Reason::InternalError, text);
    });
}

#[cfg(test)]
mod tests;
