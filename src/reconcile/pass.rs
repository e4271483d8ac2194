//! One pass over one server: look, plan, show, do; again until there is nothing to do now.
//!
//! The key comes from the controller, which never runs two passes over the same server at once. Nothing is decided here.

mod execute;
pub mod first;
mod observe;
mod publish;

use std::sync::Arc;

use super::context::Context;
use super::observed::{Failure, Observed, Policy};
use super::plan::{self, Input, Plan};
use super::step::Step;
use crate::model::{Reason, ServerId, Timestamp};
use crate::retry;
use crate::runtime::RuntimeError;
use crate::store::{Snapshot, Store, StoreError};

/// A pass that has not come to rest after so many rounds lets others work first.
const MAX_ROUNDS: u32 = 24;

/// When a server is to be looked at again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// When something happens to it.
    OnEvent,
    /// At this time, or when something happens.
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

/// The plan for a server that was observed.
fn plan_of(store: &Store, snapshot: &Snapshot, observed: &Observed, policy: &Policy, now: Timestamp) -> Plan {
    plan::plan(Input {
        manifest: snapshot.manifest.as_deref(),
        problem: snapshot.problem.as_ref().map(|problem| (problem.reason, problem.message.as_str())),
        unrecorded: snapshot.unrecorded,
        requests: &snapshot.requests,
        record: &snapshot.record,
        shown: store.status(snapshot.id).map(|status| status.state).unwrap_or_default(),
        observed,
        policy,
        now,
    })
}

/// Does what the planner says.
#[derive(Clone)]
pub struct Reconciler {
    context: Arc<Context>,
}

impl Reconciler {
    /// A reconciler for this world.
    pub fn new(context: Arc<Context>) -> Self {
        Self { context }
    }

    /// What it works with.
    pub fn context(&self) -> &Arc<Context> {
        &self.context
    }

    /// Brings one server as close to its intent as can be done now.
    pub async fn pass(&self, id: ServerId) -> Next {
        for _ in 0..MAX_ROUNDS {
            if self.context.store.get(id).is_none() {
                self.context.console.detach(id);
                self.context.forget_server(id);
                return Next::OnEvent;
            }
            let observed = self.observe(id).await;
            // Taken after the look, which may have waited: the newest intent counts.
            let Some(snapshot) = self.context.store.get(id) else { continue };
            let plan = self.plan(&snapshot, &observed);
            self.publish(&snapshot, &observed, &plan);
            if let Some(next) = self.execute_all(id, &plan).await {
                self.write_status(id).await;
                self.context.note_converged(id, snapshot.revision);
                return next;
            }
        }
        self.write_status(id).await;
        self.after_no_convergence(id)
    }

    /// One pass that found no rest may have had much to do. More of them in a row are steps that undo each other, which is
    /// a bug: it must not cost the node a core.
    fn after_no_convergence(&self, id: ServerId) -> Next {
        let unconverged = self.context.with_server(id, |state| {
            state.unconverged += 1;
            state.unconverged
        });
        let now = self.context.clock.now();
        if unconverged < 2 {
            return Next::At(now);
        }
        if unconverged == 2 {
            tracing::error!("the plans for this server do not come to rest, which is a bug: please report it");
        }
        Next::At(now + retry::delay(retry::STEP, unconverged - 1, &self.context.jitter))
    }

    /// The plan that a pass would carry out now; nothing is done or shown.
    pub async fn preview(&self, id: ServerId) -> Option<Plan> {
        let observed = self.observe(id).await;
        let snapshot = self.context.store.get(id)?;
        Some(self.plan(&snapshot, &observed))
    }

    fn plan(&self, snapshot: &Snapshot, observed: &Observed) -> Plan {
        plan_of(&self.context.store, snapshot, observed, &self.context.policy, self.context.clock.now())
    }

    /// Does the steps of a plan. `None`: something was done, make the next plan.
    async fn execute_all(&self, id: ServerId, plan: &Plan) -> Option<Next> {
        let mut requeue = plan.requeue;
        if let Some(at) = self.after_silence(id) {
            requeue = Some(requeue.map_or(at, |requeue| requeue.min(at)));
        }
        let mut done = false;
        for step in &plan.steps {
            if let Some(retry_at) = self.held_back(id, step) {
                requeue = Some(requeue.map_or(retry_at, |requeue| requeue.min(retry_at)));
                break;
            }
            tracing::debug!(step = step.kind().as_str(), subject = %step.subject(), "executing");
            match self.execute(id, step).await {
                Ok(progress) => {
                    self.succeeded(id, step);
                    done |= progress;
                }
                Err(error) => {
                    self.failed(id, step, &error);
                    done = true;
                    break;
                }
            }
        }
        if let Some(at) = self.context.with_server(id, |state| state.requeue_at.take()) {
            requeue = Some(requeue.map_or(at, |requeue| requeue.min(at)));
        }
        if done {
            return None;
        }
        Some(requeue.map_or(Next::OnEvent, Next::At))
    }

    /// When to ask a silent runtime, or a silent path, again.
    fn after_silence(&self, id: ServerId) -> Option<Timestamp> {
        let silent = self.context.with_server(id, |state| state.outages.max(state.silences));
        (silent > 0).then(|| self.context.clock.now() + retry::delay(retry::STEP, silent, &self.context.jitter))
    }

    /// A step that has just failed waits, whether the planner thought of it or not.
    fn held_back(&self, id: ServerId, step: &Step) -> Option<Timestamp> {
        let now = self.context.clock.now();
        self.context.with_server(id, |state| {
            let failure = state.failures.get(&step.kind())?;
            (failure.subject == step.subject() && now < failure.retry_at).then_some(failure.retry_at)
        })
    }

    fn succeeded(&self, id: ServerId, step: &Step) {
        self.context.with_server(id, |state| {
            state.failures.remove(&step.kind());
        });
    }

    fn failed(&self, id: ServerId, step: &Step, error: &StepError) {
        let now = self.context.clock.now();
        let rejected = matches!(error, StepError::Runtime(error) if !error.is_outage());
        let message = error.to_string();
        let attempts = self.context.with_server(id, |state| {
            // The world is not as it was thought to be.
            state.invalidate();
            state.prepared = false;
            let same = state.failures.remove(&step.kind()).filter(|before| before.subject == step.subject());
            let attempts = same.map_or(0, |same| same.attempts) + 1;
            let failure = Failure {
                subject: step.subject().into_owned(),
                attempts,
                rejected,
                retry_at: now + retry::delay(retry::STEP, attempts, &self.context.jitter),
                message: message.clone(),
            };
            state.failures.insert(step.kind(), failure);
            attempts
        });
        if attempts == 1 {
            tracing::warn!(step = step.kind().as_str(), "{message}");
            self.context.store.event(id, now, Reason::StepFailed, &format!("{}: {message}", step.kind().as_str()));
        }
    }
}

#[cfg(test)]
mod tests;
