//! One pass over one server: observe, plan, publish the status, execute; again until there is nothing to do now.
//!
//! The controller never runs two passes over one server at once. A pass decides nothing: every decision is in the plan.

mod execute;
pub mod first;
mod observe;
mod publish;

use std::sync::Arc;

use super::context::Context;
use super::observed::{Observed, Policy};
use super::plan::{self, Input, Plan};
use super::step::Step;
use crate::model::{Reason, ServerId, Timestamp};
use crate::runtime::RuntimeError;
use crate::store::{Snapshot, Store, StoreError};

/// Rounds of one pass. One that has not converged by then lets other servers go first.
const MAX_ROUNDS: u32 = 24;

/// When the next pass over a server is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// At an event.
    OnEvent,
    /// At this time, or at an event before it.
    At(Timestamp),
}

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StepError {
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Files(#[from] crate::files::FilesError),
    #[error("{0}")]
    Other(String),
}

fn plan_of(store: &Store, snapshot: &Snapshot, observed: &Observed, policy: &Policy, now: Timestamp) -> Plan {
    plan::plan(Input {
        manifest: snapshot.manifest.as_deref(),
        problem: snapshot.problem.as_ref().map(|problem| (problem.reason, problem.message.as_str())),
        unrecorded: snapshot.unrecorded,
        requests: &snapshot.requests,
        record: &snapshot.record,
        published: store.status(snapshot.id).map(|status| status.state).unwrap_or_default(),
        observed,
        policy,
        now,
    })
}

/// Runs passes.
#[derive(Clone)]
pub struct Reconciler {
    context: Arc<Context>,
}

impl Reconciler {
    /// A reconciler with these services.
    pub fn new(context: Arc<Context>) -> Self {
        Self { context }
    }

    /// Its services.
    pub fn context(&self) -> &Arc<Context> {
        &self.context
    }

    /// Brings one server as close to its desired state as is possible now.
    pub async fn pass(&self, id: ServerId) -> Next {
        for _ in 0..MAX_ROUNDS {
            if self.context.store.get(id).is_none() {
                self.context.console.detach(id);
                self.drop_state(id);
                return Next::OnEvent;
            }
            let observed = self.observe(id).await;
            // Read after the observation, which may have taken long: the newest manifest and requests count.
            let Some(snapshot) = self.context.store.get(id) else { continue };
            let plan = self.plan(&snapshot, &observed);
            self.publish(&snapshot, &observed, &plan);
            if let Some(next) = self.execute_all(id, &plan).await {
                self.write_status(id).await;
                self.context.servers.converged(id, snapshot.revision);
                return next;
            }
        }
        self.write_status(id).await;
        let (passes, next) = self.context.servers.not_converged(id);
        if passes == 2 {
            tracing::error!("reconcile did not converge after {MAX_ROUNDS} rounds (bug, please report); backing off");
        }
        Next::At(next)
    }

    /// The plan that a pass would execute now. Nothing is executed or published.
    pub async fn preview(&self, id: ServerId) -> Option<Plan> {
        let observed = self.observe(id).await;
        let snapshot = self.context.store.get(id)?;
        Some(self.plan(&snapshot, &observed))
    }

    fn plan(&self, snapshot: &Snapshot, observed: &Observed) -> Plan {
        plan_of(&self.context.store, snapshot, observed, &self.context.node.policy, self.context.clock.now())
    }

    /// Executes the steps of a plan. `None`: something was done, so the next plan is due at once.
    async fn execute_all(&self, id: ServerId, plan: &Plan) -> Option<Next> {
        let (servers, mut due, mut done) = (&self.context.servers, plan.requeue, false);
        for step in &plan.steps {
            if let Some(retry_at) = servers.held_back(id, step) {
                due = due.into_iter().chain([retry_at]).min();
                break;
            }
            tracing::debug!(step = step.kind().as_str(), subject = %step.subject(), "executing step");
            match self.execute(id, step).await {
                Ok(progress) => {
                    servers.step_succeeded(id, step);
                    done |= progress;
                }
                Err(error) => {
                    self.step_failed(id, step, &error);
                    done = true;
                    break;
                }
            }
        }
        let due = servers.take_check(id).into_iter().chain(due).min();
        (!done).then(|| due.map_or(Next::OnEvent, Next::At))
    }

    fn step_failed(&self, id: ServerId, step: &Step, error: &StepError) {
        let (rejected, message) = match error {
            StepError::Runtime(error) => (!error.is_outage(), error.to_string()),
            error => (false, error.to_string()),
        };
        let step_name = step.kind().as_str();
        if self.context.servers.step_failed(id, step, rejected, message.clone()) == 1 {
            tracing::warn!(step = step_name, "{message}");
            self.event(id, Reason::StepFailed, &format!("{step_name}: {message}"));
        }
    }

    fn event(&self, id: ServerId, reason: Reason, message: &str) {
        self.context.store.event(id, self.context.clock.now(), reason, message);
    }

    /// Drops what is kept in memory of a server that is gone.
    fn drop_state(&self, id: ServerId) {
        self.context.servers.remove(id);
        if let Some(sync) = &self.context.sync {
            sync.forget(id);
        }
        self.release_slot(id);
    }

    /// Releases a server's install slot, and queues the servers that may take one now.
    fn release_slot(&self, id: ServerId) {
        self.context.slots.release(id).into_iter().for_each(|next| (self.context.wake)(next));
    }
}

#[cfg(test)]
mod tests;
