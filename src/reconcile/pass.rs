//! One pass over one server: observe, plan, publish the status, execute; again until there is nothing to do now.
//!
//! The controller never runs two passes over one server at once. A pass decides nothing: every decision is in the plan.

mod execute;
pub mod first;
mod observe;
mod publish;

use std::sync::Arc;

use tokio::time::Instant;

use super::context::Context;
use super::disk_scans::DiskScan;
use super::observed::{Observed, Policy};
use super::plan::{self, Input, Plan};
use super::step::Step;
use crate::clock::Moment;
use crate::egg_files::{EggFiles, FileChange};
use crate::model::{Reason, ServerId};
use crate::runtime::RuntimeError;
use crate::store::{Snapshot, Store, StoreError};

/// Rounds of one pass. One that has not converged by then lets other servers go first.
const MAX_ROUNDS: u32 = 24;

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

fn plan_of(store: &Store, snapshot: &Snapshot, observed: &Observed, policy: &Policy, now: Moment) -> Plan {
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

impl Context {
    /// Brings one server as close to its desired state as is possible now. Returns when the next pass is due; `None`: at an event.
    pub async fn pass(self: &Arc<Self>, id: ServerId) -> Option<Instant> {
        if !self.store.is_recalled(id) {
            self.store.run(move |store| store.recall(id)).await;
        }
        let mut published = false;
        for _ in 0..MAX_ROUNDS {
            if self.store.get(id).is_none() {
                self.console.detach(id);
                self.drop_state(id);
                return None;
            }
            let observed = self.observe(id).await;
            // Read after the observation, which may have taken long: the newest manifest and requests count.
            let Some(snapshot) = self.store.get(id) else { continue };
            let plan = self.plan(&snapshot, &observed);
            published |= self.publish(&snapshot, &observed, &plan);
            let (changed, next) = self.execute_all(id, &plan).await;
            if !changed {
                self.write_status(id, published).await;
                self.servers.converged(id, snapshot.revision);
                return next;
            }
        }
        self.write_status(id, published).await;
        let (passes, next) = self.servers.not_converged(id);
        if passes == 2 {
            tracing::error!("reconcile did not converge after {MAX_ROUNDS} rounds (bug, please report); backing off");
        }
        Some(next)
    }

    /// The plan that a pass would execute now. Nothing is executed or published.
    pub async fn preview(&self, id: ServerId) -> Option<Plan> {
        let observed = self.observe(id).await;
        let snapshot = self.store.get(id)?;
        Some(self.plan(&snapshot, &observed))
    }

    /// The configuration files of a server, and the values for them.
    pub(super) fn egg_files(&self, id: ServerId) -> Option<EggFiles> {
        observe::egg_files(self.runtime.as_ref(), &self.node.config, &self.node.layout, &*self.store.get(id)?)
    }

    /// What the next start makes of the configuration files. Nothing is written.
    pub async fn preview_files(&self, id: ServerId) -> Vec<FileChange> {
        let Some(files) = self.egg_files(id) else { return Vec::new() };
        self.disk_scans.run(self.store.blocking(), DiskScan::Awaited, move |cancelled| files.preview(cancelled)).await
    }

    fn plan(&self, snapshot: &Snapshot, observed: &Observed) -> Plan {
        plan_of(&self.store, snapshot, observed, &self.node.policy, self.clock.moment())
    }

    /// Executes the steps of a plan. Returns whether something was done, so that the next plan is due at once, and otherwise when it is.
    async fn execute_all(self: &Arc<Self>, id: ServerId, plan: &Plan) -> (bool, Option<Instant>) {
        let (servers, mut due, mut done) = (&self.servers, plan.requeue, false);
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
        (done, servers.take_check(id).into_iter().chain(due).min())
    }

    fn step_failed(&self, id: ServerId, step: &Step, error: &StepError) {
        let rejected = matches!(error, StepError::Runtime(error) if !error.is_outage());
        let message = error.to_string();
        let step_name = step.kind().as_str();
        if self.servers.step_failed(id, step, rejected, message.clone()) == 1 {
            tracing::warn!(step = step_name, "{message}");
            self.event(id, Reason::StepFailed, &format!("{step_name}: {message}"));
        }
    }

    fn event(&self, id: ServerId, reason: Reason, message: &str) {
        self.store.event(id, self.clock.now(), reason, message);
    }

    /// Drops what is kept in memory of a server that is gone.
    fn drop_state(&self, id: ServerId) {
        self.servers.remove(id);
        self.stats.remove(id);
        self.accounts.remove(id);
        if let Some(sync) = &self.sync {
            sync.forget(id);
        }
        self.release_slot(id);
        self.release_start_slot(id);
    }

    /// Releases a server's install slot, and queues the servers that may take one now.
    fn release_slot(&self, id: ServerId) {
        self.slots.release(id).into_iter().for_each(|next| (self.wake)(next));
    }

    /// The same for the slots of starts after a boot.
    fn release_start_slot(&self, id: ServerId) {
        self.start_slots.release(id).into_iter().for_each(|next| (self.wake)(next));
    }
}

#[cfg(test)]
mod tests;
