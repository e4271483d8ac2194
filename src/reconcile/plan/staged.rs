//! Starts in stages: after a boot of the host or a restart of the engine, the servers that should run are started a few at a time, by
//! their priority. A start that was requested since, and one after a crash, needs no slot.

use std::time::Duration;

use super::Planner;
use crate::model::{ContainerState, ContainerStatus, Manifest, PowerState, Reason};
use crate::reconcile::job::Subject;
use crate::reconcile::step::Step;
use crate::requests::PowerRequest;

/// A server whose start-up has not finished this long after the start of its container gives its slot back.
pub const STAGE: Duration = Duration::from_secs(30);

impl Planner<'_> {
    /// Whether a start waits for a slot. One that has failed needs none: its attempts have delays of their own.
    pub(super) fn waits_for_start_slot(&mut self, manifest: &Manifest, request: &PowerRequest, key: &Subject) -> bool {
        let holds = self.observed.start_slot;
        let fails = self.starting(manifest, request, key) == PowerState::Offline;
        if fails || !(holds || self.is_resumed(request)) {
            return false;
        }
        self.needs_start_slot = true;
        if holds {
            return false;
        }
        let message = "the server ran before the host or the engine went down, and waits for one of the node's slots for such starts; \
                       `alula power start` starts it at once";
        self.set_offline(Reason::StartQueued, message);
        self.step(Step::TakeStartSlot { priority: manifest.spec.priority });
        if let Some(at) = self.observed.start_slots_open_at {
            self.requeue_at(at);
        }
        true
    }

    /// Whether the server ran for this request, or for Wings, and has ended while the daemon did not watch it.
    fn is_resumed(&self, request: &PowerRequest) -> bool {
        let Some(server) = &self.observed.server else {
            return request.taken_over && self.record.power.serving.is_none();
        };
        let ended = matches!(server.state, ContainerState::Exited { .. });
        let watched = self.observed.seen_running.as_ref() == Some(&server.id);
        ended && !watched && (request.taken_over || self.record.serving(server) == Some(&request.id))
    }

    /// A server that was started with a slot keeps it until its start-up has finished, for a while at most.
    pub(super) fn keep_start_slot(&mut self, server: &ContainerStatus) {
        let due = self.observed.server_run.started.map(|started| started + STAGE);
        if let Some(due) = due.filter(|due| self.observed.start_slot && !self.started(server) && self.instant < *due) {
            self.needs_start_slot = true;
            self.requeue_at(due);
        }
    }

    /// A slot that is no longer needed is given back, whatever has become of the server.
    pub(super) fn release_start_slot(&mut self) {
        let has_one = self.observed.start_slot || self.observed.start_queued;
        if has_one && !self.needs_start_slot && self.observed.outage.is_none() {
            self.step(Step::ReleaseStartSlot);
        }
    }
}
