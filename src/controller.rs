//! The loop around the reconciler: which server gets a pass when.
//!
//! `queue` holds servers and times. Changed manifests (`manifests`), containers (`containers`), the panel's list (`listing`), jobs
//! and terminals that have ended, and the times that passes ask for put servers into it. [`Controller::run`] takes servers out and
//! runs passes: many servers at once, one pass at a time per server. A pass does not know why it runs.

pub mod containers;
pub mod listing;
pub mod manifests;
pub mod queue;
mod unknown_containers;

use std::sync::Arc;

use futures_util::FutureExt;
use tokio::sync::{Semaphore, watch};
use tracing::Instrument;

use crate::model::{Condition, ConditionStatus, ConditionType, Reason, ServerId, Status, Timestamp};
use crate::reconcile::context::Context;
use crate::tasks::panic_text;
use crate::telemetry::pass_span;
use queue::Queue;

/// Runs passes.
pub struct Controller {
    context: Arc<Context>,
    queue: Queue,
    workers: usize,
    /// Turns true when all containers were listed, or cannot be.
    ready: watch::Receiver<bool>,
}

impl Controller {
    /// A controller that takes servers from `queue` once `ready` is true.
    pub fn new(context: Arc<Context>, queue: Queue, workers: usize, ready: watch::Receiver<bool>) -> Self {
        Self { context, queue, workers: workers.max(1), ready }
    }

    /// Runs passes until it is dropped.
    pub async fn run(mut self) {
        // An error means that the sender is gone: then there is nothing to wait for.
        let _ = self.ready.wait_for(|ready| *ready).await;
        let permits = Arc::new(Semaphore::new(self.workers));
        for pass in 1.. {
            let Ok(permit) = permits.clone().acquire_owned().await else { return };
            let id = self.queue.next().await;
            let (context, queue) = (self.context.clone(), self.queue.clone());
            let run = async move {
                let next = guarded_pass(&context, id).await;
                drop(permit);
                queue.done(id, next.map(|at| context.clock.instant(at)));
            };
            self.context.tasks.spawn(format!("pass {id}"), run.instrument(pass_span(id, pass)));
        }
    }
}

/// A pass whose panic becomes a condition of its server.
async fn guarded_pass(context: &Arc<Context>, id: ServerId) -> Option<Timestamp> {
    let pass = std::panic::AssertUnwindSafe(context.pass(id)).catch_unwind().await;
    pass.unwrap_or_else(|panic| {
        let (panics, next) = context.servers.panicked(id);
        let text = panic_text(panic.as_ref());
        tracing::error!(panics, panic = text, "a pass panicked (bug, please report)");
        publish_bug(context, id, text);
        Some(next)
    })
}

fn publish_bug(context: &Context, id: ServerId, text: &str) {
    let Some(before) = context.store.status(id) else { return };
    let mut status = Status::clone(&before);
    let now = context.clock.now();
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
    status.push_event(now, Reason::InternalError, text);
    context.store.set_status(id, status);
}

#[cfg(test)]
mod tests;
