//! Bringing a running server down: what asks for it, how, and until when.

use std::time::Duration;

use super::Planner;
use crate::model::{ConditionStatus, ConditionType, ContainerStatus, Manifest, PowerState, Reason, Role, Verb};
use crate::reconcile::step::{Step, StepKind, StopMethod};
use crate::requests::PowerRequest;

/// A stop that has this long may use it; then SIGKILL follows.
pub const GRACE: Duration = Duration::from_secs(600);
/// The same for a stop by signal.
pub const SIGNAL_GRACE: Duration = Duration::from_secs(10);
/// The same where a suspension or the disk limit asks for it.
pub const FORCED_GRACE: Duration = Duration::from_secs(60);
/// The same where an installation asks for it.
pub const INSTALL_GRACE: Duration = Duration::from_secs(10);
/// SIGKILL is sent again after this, if the container still runs.
pub const KILL_AGAIN: Duration = Duration::from_secs(10);

/// Reason of a stop that a restart asks for.
const RESTART: Reason = Reason::RestartRequested;

/// Why and how fast a running server must come down.
pub(super) struct Demand {
    kill: bool,
    cap: Duration,
    reason: Reason,
}

impl Demand {
    pub(super) fn installation() -> Self {
        Self { kill: false, cap: INSTALL_GRACE, reason: Reason::Installing }
    }

    fn stop() -> Self {
        Self { kill: false, cap: GRACE, reason: Reason::StopRequested }
    }

    /// Whether a start follows for the same request.
    pub(super) fn is_restart(&self) -> bool {
        self.reason == RESTART
    }
}

impl Planner<'_> {
    /// What asks for the end of a running server, if anything does.
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
            Some(PowerRequest { verb: Verb::Restart, id, .. }) if self.serving(server) != Some(id) => {
                return demand(false, GRACE, RESTART);
            }
            _ => {}
        }
        // A stop that was sent is brought to its end, also when its request was superseded.
        self.observed.stopping().map(|_| Demand::stop())
    }

    pub(super) fn plan_stop(&mut self, manifest: &Manifest, server: &ContainerStatus, demand: &Demand) {
        self.plan.state = PowerState::Stopping;
        let message = "the server is being stopped".to_string();
        self.set_condition(ConditionType::Running, ConditionStatus::False, demand.reason, message);
        let Some(stop) = self.observed.stopping() else {
            if !self.held_back(StepKind::Stop, &server.id) {
                let (method, grace) = method(manifest, demand.kill);
                let grace = grace.min(demand.cap);
                if matches!(method, StopMethod::Command(_)) {
                    // A daemon that has just come up has no terminal to type into yet.
                    self.attach(server);
                }
                self.step(Step::Stop { container: server.id.clone(), method, grace });
            }
            return;
        };
        let deadline = stop.deadline.min(stop.sent_at + demand.cap);
        let due = match stop.killed_at {
            Some(killed_at) => killed_at + KILL_AGAIN,
            None if demand.kill => self.now,
            None => deadline,
        };
        if self.now >= due {
            if !self.held_back(StepKind::Kill, &server.id) {
                self.step(Step::Kill { container: server.id.clone(), role: Role::Server });
            }
        } else {
            self.requeue_at(due);
        }
    }
}

/// How the egg wants its server stopped. Source: lifecycle, "Stop by type".
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
