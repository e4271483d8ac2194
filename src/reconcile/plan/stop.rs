//! Stopping a running server: why, how, and until when.

use std::time::Duration;

use super::Planner;
use crate::model::{ContainerStatus, Manifest, PowerState, Reason, Role, Verb};
use crate::reconcile::step::{Step, StepKind, StopMethod};
use crate::requests::PowerRequest;

/// Time that a stop gets before SIGKILL.
pub const GRACE: Duration = Duration::from_secs(600);
/// The same for a stop by signal.
pub const SIGNAL_GRACE: Duration = Duration::from_secs(10);
/// The same for a stop because of a suspension or the disk limit.
pub const FORCED_GRACE: Duration = Duration::from_secs(60);
/// The same for a stop because of an installation.
pub const INSTALL_GRACE: Duration = Duration::from_secs(10);
/// SIGKILL is sent again after this, if the container still runs.
pub const KILL_AGAIN: Duration = Duration::from_secs(10);

/// Why and how fast a running server is stopped.
pub(super) struct Demand {
    kill: bool,
    cap: Duration,
    reason: Reason,
}

impl Demand {
    pub(super) fn installation() -> Self {
        Self { kill: false, cap: INSTALL_GRACE, reason: Reason::Installing }
    }

    /// Whether a start follows for the same request.
    pub(super) fn is_restart(&self) -> bool {
        self.reason == Reason::RestartRequested
    }
}

impl Planner<'_> {
    /// Why a running server is to be stopped, if it is.
    pub(super) fn demand(
        &self,
        manifest: &Manifest,
        server: &ContainerStatus,
        request: Option<&PowerRequest>,
    ) -> Option<Demand> {
        let demand = |kill, cap, reason| Some(Demand { kill, cap, reason });
        let verb = request.map(|request| request.verb);
        let killing = verb == Some(Verb::Kill);
        if manifest.spec.suspended {
            return demand(killing, FORCED_GRACE, Reason::Suspended);
        }
        if self.over_disk_limit(manifest) {
            return demand(killing, FORCED_GRACE, Reason::DiskLimitExceeded);
        }
        match request {
            Some(PowerRequest { verb: Verb::Stop | Verb::Kill, .. }) => {
                return demand(killing, GRACE, Reason::StopRequested);
            }
            Some(PowerRequest { verb: Verb::Restart, id, .. }) if self.record.serving(server) != Some(id) => {
                return demand(false, GRACE, Reason::RestartRequested);
            }
            _ => {}
        }
        // A stop that was sent is completed, although its request may be superseded.
        self.observed.stopping().and_then(|_| demand(false, GRACE, Reason::StopRequested))
    }

    pub(super) fn plan_stop(&mut self, manifest: &Manifest, server: &ContainerStatus, demand: &Demand) {
        self.plan.state = PowerState::Stopping;
        self.set_offline(demand.reason, "the server is being stopped");
        let Some(stop) = self.observed.stopping() else {
            if !self.held_back(StepKind::Stop, &server.id) {
                let (method, grace) = method(manifest, demand.kill);
                let grace = grace.min(demand.cap);
                if matches!(method, StopMethod::Command(_)) {
                    // A daemon that has just started has no terminal yet.
                    self.attach(server);
                }
                self.step(Step::Stop { container: server.id.clone(), method, grace });
            }
            return;
        };
        let due = match stop.killed_at {
            Some(killed_at) => killed_at + KILL_AGAIN,
            None if demand.kill => self.instant,
            None => stop.deadline.min(stop.sent_at + demand.cap),
        };
        if self.instant >= due {
            self.try_step(Step::Kill { container: server.id.clone(), role: Role::Server });
        } else {
            self.requeue_at(due);
        }
    }
}

/// The egg's way to stop its server. Source: lifecycle, "Stop by type".
fn method(manifest: &Manifest, kill: bool) -> (StopMethod, Duration) {
    if kill {
        return (StopMethod::Kill, KILL_AGAIN);
    }
    let stop = &manifest.spec.process.stop;
    match stop.kind.as_str() {
        "command" if !stop.value.is_empty() => (StopMethod::Command(stop.value.clone()), GRACE),
        "signal" | "" => match stop.value.to_ascii_uppercase().as_str() {
            "SIGABRT" => (StopMethod::Signal("SIGABRT"), SIGNAL_GRACE),
            "SIGINT" | "C" => (StopMethod::Signal("SIGINT"), SIGNAL_GRACE),
            "SIGTERM" => (StopMethod::Signal("SIGTERM"), SIGNAL_GRACE),
            _ => (StopMethod::Kill, KILL_AGAIN),
        },
        _ => (StopMethod::Native, GRACE),
    }
}
