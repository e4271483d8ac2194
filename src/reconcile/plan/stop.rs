//! Stopping a running server: why, how, and until when.

use std::time::Duration;

use super::Planner;
use crate::model::{ContainerStatus, Manifest, PowerState, Reason, Role, Verb};
use crate::reconcile::step::{Step, StepKind, StopMethod};
use crate::requests::PowerRequest;

/// Time that a stop gets before SIGKILL, where neither its request nor the manifest says otherwise.
pub const GRACE: Duration = Duration::from_secs(600);
/// The same for a stop by signal.
pub const SIGNAL_GRACE: Duration = Duration::from_secs(10);
/// The same for a stop because of a suspension or the disk limit.
pub const FORCED_GRACE: Duration = Duration::from_secs(60);
/// The same for a stop because of an installation.
pub const INSTALL_GRACE: Duration = Duration::from_secs(10);
/// The same for a stop because of a restore or a transfer.
pub const OPERATION_GRACE: Duration = Duration::from_secs(120);
/// SIGKILL is sent again after this, if the container still runs.
pub const KILL_AGAIN: Duration = Duration::from_secs(10);

/// Why and how fast a running server is stopped.
pub(super) struct Demand {
    kill: bool,
    /// How long the stop waits before SIGKILL, as the request says, or else the manifest.
    timeout: Option<Duration>,
    /// It waits no longer than this.
    limit: Option<Duration>,
    reason: Reason,
}

impl Demand {
    pub(super) fn installation() -> Self {
        Self { kill: false, timeout: None, limit: Some(INSTALL_GRACE), reason: Reason::Installing }
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
        let kill = request.is_some_and(|request| request.verb == Verb::Kill);
        let timeout = request.and_then(|request| request.timeout).or(manifest.spec.process.stop.timeout);
        let timeout = timeout.filter(|timeout| timeout.is_stop_timeout()).map(|timeout| timeout.0);
        let demand = |reason, limit| Some(Demand { kill, timeout, limit, reason });
        if let Some(reason) = self.files_held_for() {
            return demand(reason, Some(OPERATION_GRACE));
        }
        if manifest.spec.suspended {
            return demand(Reason::Suspended, Some(FORCED_GRACE));
        }
        if self.over_disk_limit(manifest) {
            return demand(Reason::DiskLimitExceeded, Some(FORCED_GRACE));
        }
        match request {
            Some(PowerRequest { verb: Verb::Stop | Verb::Kill, .. }) => return demand(Reason::StopRequested, None),
            Some(PowerRequest { verb: Verb::Restart, id, .. }) if self.record.serving(server) != Some(id) => {
                return demand(Reason::RestartRequested, None);
            }
            _ => {}
        }
        // A stop that was sent is completed, although its request may be superseded.
        self.observed.stopping().and_then(|_| demand(Reason::StopRequested, None))
    }

    pub(super) fn plan_stop(&mut self, manifest: &Manifest, server: &ContainerStatus, demand: &Demand) {
        self.plan.state = PowerState::Stopping;
        let (method, default) = method(manifest, demand.kill);
        let within_limit = |grace: Duration| demand.limit.map_or(grace, |limit| grace.min(limit));
        let Some(stop) = self.observed.stopping() else {
            self.set_offline(demand.reason, "the server is being stopped");
            if !self.held_back(StepKind::Stop, &server.id) {
                if matches!(method, StopMethod::Command(_)) {
                    // A daemon that has just started has no terminal yet.
                    self.attach(server);
                }
                let timeout = demand.timeout.filter(|_| method != StopMethod::Kill);
                let grace = within_limit(timeout.unwrap_or(default));
                self.step(Step::Stop { container: server.id.clone(), method, grace });
            }
            return;
        };
        let due = match stop.killed_at {
            Some(killed_at) => killed_at + KILL_AGAIN,
            None if demand.kill => self.instant,
            None if stop.rejected => stop.deadline,
            // Without a time of its own it waits as long as the server's way of stopping had when it was sent.
            None => {
                let sent = stop.deadline.saturating_duration_since(stop.sent_at);
                stop.sent_at + within_limit(demand.timeout.unwrap_or(sent))
            }
        };
        let until = self.input.now.time_at(due).time_of_day();
        let paused = if server.paused { format!("; {}", paused(server)) } else { String::new() };
        let message = match stop.killed_at {
            Some(_) => format!("the container was killed and still runs; it is killed again at {until}"),
            None => format!(
                "the server is being stopped {method}: waits until {until} for its end, then the container is killed{paused}"
            ),
        };
        self.set_offline(demand.reason, message);
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

/// What to do about a paused container, for people.
pub(super) fn paused(server: &ContainerStatus) -> String {
    format!("the container is paused and does not react; `docker unpause {:.12}` continues it", server.id)
}
