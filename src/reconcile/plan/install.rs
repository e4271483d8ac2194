//! Installing: from a request to a recorded result, through a labelled container that is observed and not awaited.
//!
//! ```text
//! no container ──▶ fetched ──▶ images ──▶ server container ──▶ script ──▶ created ──▶ running ──▶ exited ──▶ recorded
//!      ▲              (each is found again by the next look: jobs, containers by label, files)                 │
//!      └────────────────────────── another token: the old container goes, and it begins anew ──────────────────┘
//! ```

use std::time::Duration;

use super::Planner;
use super::start::image_subject;
use super::stop::{Demand, KILL_AGAIN};
use crate::model::{
    ConditionStatus, ConditionType, ContainerState, ContainerStatus, InstallOutcome, ManagedBy, Manifest, Reason, Role,
};
use crate::reconcile::job::{JobKind, Subject};
use crate::reconcile::observed::{Job, JobState};
use crate::reconcile::step::{Step, StepKind};
use crate::requests::{InstallRequest, start_id};

/// An image that cannot be had is asked for this often before the installation counts as failed.
const IMAGE_ATTEMPTS: u32 = 3;
/// A follower may take this long after the script's end.
const FOLLOWER_TIMEOUT: Duration = Duration::from_secs(5);
/// A script that vanished from the manifest is fetched again this long after it was fetched before.
const SCRIPT_AGAIN: Duration = Duration::from_secs(5);
/// See [`IMAGE_ATTEMPTS`]: the same for a container that the engine refuses to make.
const CONTAINER_ATTEMPTS: u32 = 3;
/// Reading the rest of a log is tried this often, over half a minute: then the container goes, with the only other copy.
const LOG_ATTEMPTS: u32 = 7;
/// A script that was cut off is run again this often.
const INTERRUPTIONS: usize = 3;
/// Exit statuses of what was ended from outside: SIGKILL, SIGTERM, and an end that the engine has not seen (the host went down).
const KILLED: [i64; 3] = [137, 143, 255];

impl Planner<'_> {
    pub(super) fn plan_install(&mut self, manifest: &Manifest, install: &InstallRequest<'_>) {
        self.plan.state = self.state_as_observed();
        self.set_offline(Reason::Installing, "an installation is under way");
        self.waiting(Reason::Pending, "the installation is about to begin");
        self.expires();
        if let Some(server) = self.observed.server.as_ref().filter(|server| server.running()) {
            let server = server.clone();
            self.plan_stop(manifest, &server, &Demand::installation());
            self.waiting(Reason::Stopping, "the server is stopped before it is installed");
            return;
        }
        if install.aborted {
            self.abort(install);
            return;
        }
        match &self.observed.installer {
            Some(installer) if installer.token.as_deref() == Some(install.id) => {
                self.follow_installer(manifest, install, &installer.clone());
            }
            Some(other) => {
                // Of another request, or another daemon's leftover under our name.
                self.remove_installer(other);
            }
            None => self.begin_install(manifest, install),
        }
    }

    fn waiting(&mut self, reason: Reason, message: &str) {
        self.set_condition(ConditionType::Installed, ConditionStatus::False, reason, message.into());
    }

    /// Removes an installer, unless that has just failed.
    pub(super) fn remove_installer(&mut self, installer: &ContainerStatus) {
        if !self.held_back(StepKind::RemoveInstaller, &installer.id) {
            self.step(Step::RemoveInstaller { container: installer.id.clone() });
        }
    }

    fn abort(&mut self, install: &InstallRequest<'_>) {
        if let Some(installer) = &self.observed.installer {
            self.remove_installer(installer);
            return;
        }
        self.fail(install, Reason::Aborted, "the installation was ended because that was requested".into());
    }

    fn fail(&mut self, install: &InstallRequest<'_>, reason: Reason, message: String) {
        self.record_install(install, InstallOutcome::Failed, None, reason, message);
    }

    fn record_install(
        &mut self,
        install: &InstallRequest<'_>,
        outcome: InstallOutcome,
        exit_code: Option<i64>,
        reason: Reason,
        message: String,
    ) {
        self.step(Step::RecordInstall { token: install.id.to_owned(), outcome, exit_code, reason, message });
    }

    /// There is no installer yet: everything that must be there before it.
    fn begin_install(&mut self, manifest: &Manifest, install: &InstallRequest<'_>) {
        if !self.synced_for_install(manifest, install) {
            return;
        }
        if manifest.spec.settings.skip_egg_scripts {
            if !self.prepared() {
                return;
            }
            let message = "there was no script to run".to_string();
            self.record_install(install, InstallOutcome::Succeeded, None, Reason::Skipped, message);
            return;
        }
        if !self.has_script(manifest, install) {
            return;
        }
        if !self.observed.install_slot {
            self.waiting(
                Reason::Queued,
                "waiting for a place: at most alula.reconcile.concurrent_installs installations run at once",
            );
            self.step(Step::TakeInstallSlot);
            return;
        }
        if !self.prepared() || !self.has_images(manifest, install) || !self.has_server_container(install) {
            return;
        }
        if self.observed.script_ready.as_deref() != Some(install.id) {
            if !self.held_back(StepKind::WriteScript, install.id) {
                self.step(Step::WriteScript { token: install.id.to_owned() });
            }
            return;
        }
        match self.failed(StepKind::CreateInstaller, install.id) {
            Some((attempts, true, message)) if attempts >= CONTAINER_ATTEMPTS => {
                self.fail(install, Reason::ContainerRejected, message);
            }
            _ if self.held_back(StepKind::CreateInstaller, install.id) => {}
            _ => self.step(Step::CreateInstaller { token: install.id.to_owned() }),
        }
    }

    fn prepared(&mut self) -> bool {
        if self.observed.prepared {
            return true;
        }
        if let Some((_, _, message)) = self.failed(StepKind::Prepare, "") {
            self.waiting(Reason::FoldersInTheWay, &message);
        }
        if !self.held_back(StepKind::Prepare, "") {
            self.step(Step::Prepare);
        }
        false
    }

    /// The panel's configuration must be newer than the request.
    fn synced_for_install(&mut self, manifest: &Manifest, install: &InstallRequest<'_>) -> bool {
        if !self.policy.panel || manifest.metadata.managed_by != ManagedBy::Panel {
            return true;
        }
        let fresh = self.record.synced_at.is_some_and(|synced| synced >= install.at);
        fresh || self.fetched(install, JobKind::Sync)
    }

    fn has_script(&mut self, manifest: &Manifest, install: &InstallRequest<'_>) -> bool {
        if !self.policy.panel || manifest.metadata.managed_by != ManagedBy::Panel {
            if manifest.spec.script.is_none() {
                let message = "an installation was requested, but there is no spec.script to run; add one";
                self.waiting(Reason::NoScript, message);
            }
            return manifest.spec.script.is_some();
        }
        let begun = self.record.install.begun.as_deref() == Some(install.id);
        match (begun, &manifest.spec.script) {
            (true, Some(_)) => true,
            (true, None) => self.fetch_script_again(install),
            (false, _) => self.fetched(install, JobKind::Script),
        }
    }

    /// The script was fetched and is not in the manifest any more: an earlier one was put back.
    fn fetch_script_again(&mut self, install: &InstallRequest<'_>) -> bool {
        let subject = Subject::Install(install.id.to_owned());
        let Some(Job { state: JobState::Done { at }, .. }) = self.observed.job(JobKind::Script, &subject) else {
            return self.fetched(install, JobKind::Script);
        };
        self.waiting(Reason::Fetching, "the script is no longer in the manifest, and is fetched from the panel again");
        match *at + SCRIPT_AGAIN {
            due if self.now < due => self.requeue_at(due),
            _ => self.step(Step::StartJob { job: JobKind::Script, subject }),
        }
        false
    }

    /// Waits for the panel as long as it takes; its refusal ends the installation, and so do answers that cannot be read.
    fn fetched(&mut self, install: &InstallRequest<'_>, kind: JobKind) -> bool {
        match self.need(kind, &Subject::Install(install.id.to_owned())) {
            Ok(()) => true,
            Err(None) => {
                self.waiting(Reason::Fetching, "asking the panel what to install");
                false
            }
            Err(Some((true, _, message))) => {
                self.fail(install, Reason::PanelRejected, message);
                false
            }
            Err(Some((false, attempts, message))) => {
                let message = format!("{message}; attempt {attempts}, tried again until the panel answers");
                self.waiting(Reason::PanelAway, &message);
                self.set_condition(ConditionType::PanelReachable, ConditionStatus::False, Reason::PanelAway, message);
                false
            }
        }
    }

    /// Both images; pulled side by side.
    fn has_images(&mut self, manifest: &Manifest, install: &InstallRequest<'_>) -> bool {
        let Some(script) = &manifest.spec.script else { return false };
        let installation = Subject::Install(install.id.to_owned());
        let server = image_subject(manifest, &installation);
        let installer = installation.image(Role::Installer, &script.image);
        let mut ready = true;
        for subject in [&server, &installer] {
            match self.need(JobKind::Image, subject) {
                Ok(()) => {}
                Err(None) => {
                    self.set_condition(
                        ConditionType::ImageReady,
                        ConditionStatus::False,
                        Reason::Pulling,
                        "waiting for images".into(),
                    );
                    self.waiting(Reason::Pulling, "waiting for images");
                    ready = false;
                }
                Err(Some((fatal, attempts, message))) if fatal || attempts >= IMAGE_ATTEMPTS => {
                    self.plan.steps.clear();
                    self.set_condition(
                        ConditionType::ImageReady,
                        ConditionStatus::False,
                        Reason::ImagePullFailed,
                        message.clone(),
                    );
                    self.fail(install, Reason::ImagePullFailed, message);
                    return false;
                }
                Err(Some((_, attempts, message))) => {
                    let message = format!("{message}; attempt {attempts}, tried again");
                    self.set_condition(
                        ConditionType::ImageReady,
                        ConditionStatus::False,
                        Reason::ImagePullBackOff,
                        message.clone(),
                    );
                    self.waiting(Reason::ImagePullBackOff, &message);
                    ready = false;
                }
            }
        }
        if ready {
            self.set_condition(
                ConditionType::ImageReady,
                ConditionStatus::True,
                Reason::Ready,
                "both images are there".into(),
            );
        }
        ready
    }

    /// The server's container is made before its files, so that a server that cannot be made is noticed now.
    fn has_server_container(&mut self, install: &InstallRequest<'_>) -> bool {
        if self.observed.server.is_some() {
            return true;
        }
        let token = start_id(install.id);
        match self.failed(StepKind::CreateServer, &token) {
            Some((attempts, true, message)) if attempts >= CONTAINER_ATTEMPTS => {
                self.set_condition(
                    ConditionType::ContainerReady,
                    ConditionStatus::False,
                    Reason::Rejected,
                    message.clone(),
                );
                self.fail(install, Reason::ContainerRejected, message);
            }
            failed => {
                if let Some((attempts, _, message)) = failed {
                    self.waiting(Reason::ContainerBackOff, &format!("{message}; attempt {attempts}, tried again"));
                }
                if !self.held_back(StepKind::CreateServer, &token) {
                    self.step(Step::CreateServer { token });
                }
            }
        }
        false
    }

    fn follow_installer(&mut self, manifest: &Manifest, install: &InstallRequest<'_>, installer: &ContainerStatus) {
        let timeout = manifest.spec.install.as_ref().and_then(|install| install.timeout);
        let limit = timeout.map(|span| span.0).filter(|span| !span.is_zero()).or(self.policy.install_timeout);
        match installer.state {
            ContainerState::Created => self.start_installer(manifest, install, installer),
            ContainerState::StartFailed => self.make_installer_again(install, installer),
            ContainerState::Running => {
                self.waiting(Reason::Running, "the install script is running");
                self.job(JobKind::InstallLog, &Subject::Container(installer.id.clone()), true);
                let Some(deadline) = limit.and_then(|limit| installer.started_at.map(|at| at + limit)) else { return };
                let killed = self.observed.installer_stop.as_ref().filter(|stop| stop.container == installer.id);
                let due = killed.and_then(|stop| stop.killed_at).map_or(deadline, |killed_at| killed_at + KILL_AGAIN);
                if self.now < due {
                    self.requeue_at(due);
                } else if !self.held_back(StepKind::Kill, &installer.id) {
                    self.step(Step::Kill { container: installer.id.clone(), role: Role::Installer });
                }
            }
            ContainerState::Exited { code, oom_killed } => {
                let ran = match (installer.started_at, installer.finished_at) {
                    (Some(started), Some(finished)) => finished.since(started),
                    _ => Duration::ZERO,
                };
                let killed = KILLED.contains(&code) && !oom_killed;
                let limit = limit.filter(|limit| killed && ran >= *limit);
                if killed && limit.is_none() && self.was_cut_off(installer) {
                    self.run_script_again(install, installer);
                } else {
                    self.harvest(install, installer, code, limit);
                }
            }
        }
    }

    /// Whether its start was refused too often; then the installation has failed.
    fn installer_is_given_up(&mut self, install: &InstallRequest<'_>) -> bool {
        match self.failed(StepKind::StartInstaller, install.id) {
            Some((attempts, true, message)) if attempts >= CONTAINER_ATTEMPTS => {
                self.fail(install, Reason::ContainerRejected, message);
                true
            }
            _ => false,
        }
    }

    /// The next attempt to start is one of a new container, see [`ContainerState::StartFailed`].
    fn make_installer_again(&mut self, install: &InstallRequest<'_>, installer: &ContainerStatus) {
        if !self.installer_is_given_up(install) {
            self.remove_installer(installer);
        }
    }

    fn start_installer(&mut self, manifest: &Manifest, install: &InstallRequest<'_>, installer: &ContainerStatus) {
        if self.installer_is_given_up(install) || self.held_back(StepKind::StartInstaller, install.id) {
            return;
        }
        if self.observed.script_ready.as_deref() != Some(install.id) {
            // Made by a daemon that died before the start: the folder may hold half a script.
            if !self.has_script(manifest, install) || !self.prepared() {
                return;
            }
            self.step(Step::WriteScript { token: install.id.to_owned() });
        }
        self.step(Step::StartInstaller { container: installer.id.clone(), token: install.id.to_owned() });
    }

    /// The log is read to its end once more after the script's end was seen: whether a follower's stream ended with the script
    /// or broke off just before it, nobody can tell. A log that cannot be had does not hold the result up for ever.
    fn log_is_closed(&mut self, install: &InstallRequest<'_>, installer: &ContainerStatus) -> bool {
        let follower = self.observed.job(JobKind::InstallLog, &Subject::Container(installer.id.clone()));
        if follower.is_some_and(|job| job.state == JobState::Running) {
            let timeout = installer.finished_at.unwrap_or(self.now) + FOLLOWER_TIMEOUT;
            if self.now < timeout {
                self.requeue_at(timeout);
                return false;
            }
        }
        if self.held_back(StepKind::CloseInstallLog, &installer.id) {
            return false;
        }
        if self.failed(StepKind::CloseInstallLog, &installer.id).is_none_or(|(attempts, ..)| attempts < LOG_ATTEMPTS) {
            self.step(Step::CloseInstallLog { container: installer.id.clone(), token: install.id.to_owned() });
        }
        true
    }

    /// Whether a killed script's end was neither our doing nor seen: then the engine or the host went down under it. One that
    /// was killed before our eyes was killed by somebody, or by itself.
    fn was_cut_off(&self, installer: &ContainerStatus) -> bool {
        let seen = self.observed.installer_seen.as_ref() == Some(&installer.id);
        let ours = self.observed.installer_stop.as_ref().is_some_and(|stop| stop.container == installer.id);
        !seen && !ours
    }

    /// A script that did not get to its end runs again, but not for ever: it may be what brings the host down.
    fn run_script_again(&mut self, install: &InstallRequest<'_>, installer: &ContainerStatus) {
        self.waiting(Reason::Interrupted, "the install script was cut off and is run again");
        let before = self.record.interrupted(install.id);
        let noted = before.contains(&installer.id);
        if before.len() >= INTERRUPTIONS && !noted {
            let message = format!("the install script was cut off {} times; look into what ends it", before.len() + 1);
            self.fail(install, Reason::Interrupted, message);
        } else if !noted {
            self.step(Step::RecordInterrupted { container: installer.id.clone(), token: install.id.to_owned() });
        } else {
            self.remove_installer(installer);
        }
    }

    /// The script has ended: its log is brought to its end, then the result is recorded. `limit`: it was ended for reaching it.
    fn harvest(
        &mut self,
        install: &InstallRequest<'_>,
        installer: &ContainerStatus,
        code: i64,
        limit: Option<Duration>,
    ) {
        self.waiting(Reason::Harvesting, "the install script has ended");
        // Not even the log is read again while what comes after it has to wait.
        if self.held_back(StepKind::RecordInstall, install.id) || !self.log_is_closed(install, installer) {
            return;
        }
        let (outcome, reason, message) = match limit {
            Some(limit) => {
                let message = format!("the install script was ended after {} seconds, its time limit", limit.as_secs());
                (InstallOutcome::Failed, Reason::TimedOut, message)
            }
            _ if code != 0 && self.policy.fail_on_nonzero_exit => {
                (InstallOutcome::Failed, Reason::ScriptFailed, format!("the install script ended with status {code}"))
            }
            _ if code != 0 => {
                let message = format!("the install script ended with status {code}, which decides nothing");
                (InstallOutcome::Succeeded, Reason::Completed, message)
            }
            _ => (InstallOutcome::Succeeded, Reason::Completed, "the install script ran to its end".into()),
        };
        self.record_install(install, outcome, Some(code), reason, message);
    }
}
