//! Power of an installed server: up, down, or as it is.

use std::time::Duration;

use tokio::time::Instant;

use super::Planner;
use super::stop::{Demand, paused};
use crate::model::{ConditionType, ContainerStatus, Handled, Manifest, Reason};
use crate::reconcile::observed::{Job, JobState};
use crate::reconcile::step::{Step, StepKind};
use crate::requests::PowerRequest;

/// A start whose end was not seen counts as over after this time.
const START_TIMEOUT: Duration = Duration::from_secs(120);

impl Planner<'_> {
    pub(super) fn plan_power(&mut self, manifest: &Manifest) {
        self.plan.state = self.state_as_observed();
        self.set_disk_condition(manifest);
        if self.expires() || self.close_for_operation(manifest) {
            return;
        }
        let request = self.asked().power();
        match &self.observed.server {
            Some(server) if server.running() => match self.demand(manifest, server, request.as_ref()) {
                Some(demand) => {
                    if let Some(restart) = request.as_ref().filter(|_| self.precedes_restart(server, &demand))
                        && !self.restart_is_prepared(manifest, server, restart)
                    {
                        return;
                    }
                    self.plan_stop(manifest, server, &demand);
                    self.close_rejected(manifest, server, request.as_ref());
                }
                None => self.plan_running(manifest, server, request.as_ref()),
            },
            _ => match request {
                Some(request) if request.verb.wants_up() && self.installer_runs() => {
                    self.set_offline(
                        Reason::Installing,
                        "an installer is still running; the server starts when it has ended",
                    );
                }
                Some(request) if request.verb.wants_up() => self.plan_start(manifest, &request),
                Some(request) => {
                    self.set_offline(Reason::Stopped, "the server is stopped, as requested");
                    self.close(&request, Reason::Stopped, "the server is stopped");
                }
                None => {
                    self.set_handled_condition();
                    if self.record.power.handled.is_none() {
                        self.create_arrived(manifest);
                    }
                }
            },
        }
    }

    /// A request with a deadline for which nothing was begun expires; the one before it, if it is not handled, counts again.
    pub(super) fn expires(&mut self) -> bool {
        if let Some(at) = self.asked().next_expiry() {
            self.requeue_at(self.input.now.instant_until(at));
        }
        let Some(expired) = self.asked().expired() else { return false };
        self.close(&expired, Reason::Expired, "the request could not begin before its deadline");
        true
    }

    /// An installer that is still to be removed, or one of another daemon that has to end by itself.
    fn installer_runs(&self) -> bool {
        self.observed.installer.as_ref().is_some_and(ContainerStatus::running)
    }

    /// Whether a restart is due whose stop was not sent yet, and can be sent.
    fn precedes_restart(&mut self, server: &ContainerStatus, demand: &Demand) -> bool {
        demand.is_restart() && self.observed.stopping().is_none() && !self.held_back(StepKind::Stop, &server.id)
    }

    /// Whether the configuration and the image for the start after a restart are there. Until then the server keeps running: an image
    /// that cannot be pulled must not end it. The restart no longer expires from here on.
    fn restart_is_prepared(&mut self, manifest: &Manifest, server: &ContainerStatus, restart: &PowerRequest) -> bool {
        if self.installation_holds_start() {
            let message = "the server runs; it is not restarted, because its latest installation has failed and it would not start";
            self.set_true(ConditionType::Running, Reason::InstallFailed, message);
            self.follow_running(manifest, server);
            return false;
        }
        if restart.expires_at.is_some() {
            self.step(Step::RecordBegun { power: restart.id.clone() });
        }
        let key = self.start_key(restart);
        if self.synced(restart, &key) && self.has_server_image(manifest, &key) {
            return true;
        }
        let message = "the server runs; its restart waits for the panel's configuration or for the image";
        self.set_true(ConditionType::Running, Reason::RestartRequested, message);
        self.follow_running(manifest, server);
        false
    }

    fn plan_running(&mut self, manifest: &Manifest, server: &ContainerStatus, request: Option<&PowerRequest>) {
        match request {
            // It runs already, for an earlier request or another daemon: from now on it runs for this one.
            Some(start) if self.record.serving(server) != Some(&start.id) => {
                self.try_step(Step::Assign { container: server.id.clone(), power: start.id.clone() });
            }
            None if server.token.is_none() && self.observed.stopping().is_none() => {
                self.try_step(Step::AdoptServer { container: server.id.clone() });
            }
            _ => {}
        }
        let started = self.started(server);
        let (reason, message) = if started {
            (Reason::Running, "the server runs")
        } else {
            (Reason::Starting, "waiting for the start-up to finish")
        };
        self.set_true(ConditionType::Running, reason, message);
        if !started {
            self.keep_start_slot(server);
            self.end_start(server);
        }
        self.follow_running(manifest, server);
    }

    /// What a running server needs, whatever comes next: its terminal, the end of its start-up, its limits.
    fn follow_running(&mut self, manifest: &Manifest, server: &ContainerStatus) {
        if server.paused {
            self.set_false(ConditionType::Running, Reason::Paused, paused(server));
        }
        self.attach(server);
        let seen = self.observed.done_seen.as_ref() == Some(&server.id);
        if seen && self.record.power.started.as_ref() != Some(&server.id) {
            self.step(Step::RecordStarted { container: server.id.clone() });
        }
        self.plan_limits(server);
        self.watch_disk(manifest);
    }

    /// A server may never print that it has started. After a while its start is over nevertheless: what was fetched and pulled for it
    /// does not count for the next one.
    fn end_start(&mut self, server: &ContainerStatus) {
        let ended = |job: &Job| job.kind.belongs_to_start() && job.state != JobState::Running;
        if self.record.synced_for.is_none() && !self.observed.jobs.iter().any(ended) {
            return;
        }
        match self.observed.server_run.started.map(|at| at + START_TIMEOUT) {
            Some(due) if self.instant < due => self.requeue_at(due),
            _ => self.try_step(Step::EndStart { container: server.id.clone() }),
        }
    }

    /// Attaches a running server's terminal where it is not attached.
    pub(super) fn attach(&mut self, server: &ContainerStatus) {
        if self.observed.attached.as_ref() != Some(&server.id) {
            let replay = !self.start_up_was_seen(server);
            self.try_step(Step::Attach { container: server.id.clone(), replay });
        }
    }

    /// Changed limits are applied at once. Everything else takes effect at the next start.
    fn plan_limits(&mut self, server: &ContainerStatus) {
        let Some(wanted) = &self.observed.wanted else { return };
        let boost_ends = self.boost_ends(server);
        if let Some(at) = boost_ends {
            self.requeue_at(at);
        }
        let start = wanted.start_limits_hash.as_ref().filter(|_| boost_ends.is_some());
        if server.limits_hash.as_ref() == Some(start.unwrap_or(&wanted.limits_hash)) {
            self.set_true(ConditionType::ContainerReady, Reason::Ready, "the container has the limits it should have");
            return;
        }
        if let Some(failure) = self.failed(StepKind::UpdateLimits, &server.id) {
            self.set_false(ConditionType::ContainerReady, Reason::LimitsRejected, &failure.message);
        }
        self.try_step(Step::UpdateLimits { container: server.id.clone(), boost: start.is_some() });
    }

    /// When the limits of the start-up end at the latest, if it has not finished.
    fn boost_ends(&self, server: &ContainerStatus) -> Option<Instant> {
        self.observed.wanted.as_ref()?.start_limits_hash.as_ref()?;
        let ends = self.observed.server_run.started? + START_TIMEOUT;
        (!self.started(server) && self.instant < ends).then_some(ends)
    }

    /// A start that is not possible (suspended, disk full) is over, and the stop that is under way goes on without it. A new start waits
    /// for the stop: until then there may be room.
    fn close_rejected(&mut self, manifest: &Manifest, server: &ContainerStatus, request: Option<&PowerRequest>) {
        let Some(request) = request.filter(|request| request.verb.wants_up()) else { return };
        if manifest.spec.suspended && manifest.is_managed_by_panel() {
            self.close(request, Reason::Suspended, "the server is suspended");
        } else if self.over_disk_limit(manifest) && self.record.serving(server) == Some(&request.id) {
            self.close(
                request,
                Reason::DiskLimitExceeded,
                "the server's files outgrew the disk limit; delete some and start it again",
            );
        }
    }

    pub(super) fn close(&mut self, request: &PowerRequest, reason: Reason, message: impl Into<String>) {
        let handled = self.handled(request, reason, message.into());
        self.step(Step::ClosePower(handled));
    }

    pub(super) fn handled(&self, request: &PowerRequest, reason: Reason, message: String) -> Handled {
        let PowerRequest { id, sequence, verb, .. } = request.clone();
        Handled { sequence, id, verb, reason, message, at: self.now }
    }

    pub(super) fn set_offline(&mut self, reason: Reason, message: impl Into<String>) {
        self.set_false(ConditionType::Running, reason, message);
    }

    fn set_handled_condition(&mut self) {
        match &self.record.power.handled {
            Some(handled) => {
                let details = self.details_of_crash(handled.reason);
                self.set_offline(handled.reason, format!("{}{details}", handled.message));
            }
            None => self.set_offline(Reason::NotWanted, "the server was not asked to run"),
        }
    }
}
