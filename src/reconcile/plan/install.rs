//! Installing: from a request to a recorded result, through a labelled container that is observed and not awaited.
//!
//! ```text
//! no container ──▶ fetched ──▶ images ──▶ server container ──▶ script ──▶ created ──▶ running ──▶ exited ──▶ recorded
//!      ▲              (each is observed by the next pass: jobs, containers by label, files)                   │
//!      └────────────────── another token: the old container is removed, and it begins again ──────────────────┘
//! ```

use std::time::Duration;

use super::start::image_subject;
use super::stop::{Demand, KILL_AGAIN};
use super::{Planner, Progress};
use crate::model::{
    ConditionType, ContainerState, ContainerStatus, InstallOutcome, InstallResult, Manifest, Reason, Role, Script,
};
use crate::reconcile::job::{JobKind, Subject};
use crate::reconcile::observed::{Failure, Job, JobState};
use crate::reconcile::step::{Step, StepKind};
use crate::requests::{InstallRequest, adopted_id, start_id};

/// Attempts to make an image available before the installation counts as failed.
const IMAGE_ATTEMPTS: u32 = 3;
/// The job that follows the output may take this long after the end of the script.
const FOLLOWER_TIMEOUT: Duration = Duration::from_secs(5);
/// A script that vanished from the manifest is fetched again this long after it was fetched before.
const SCRIPT_AGAIN: Duration = Duration::from_secs(5);
/// Attempts to create or start a container that the engine rejects.
const CONTAINER_ATTEMPTS: u32 = 3;
/// Attempts to read the rest of a log, over half a minute. Then the container is removed, and with it the only other copy.
const LOG_ATTEMPTS: u32 = 7;
/// How often a script that was interrupted is run again.
const INTERRUPTIONS: usize = 3;
/// Exit statuses of a process that was ended from outside: SIGKILL, SIGTERM, and an end that the engine did not see (the host went
/// down).
const KILLED: [i64; 3] = [137, 143, 255];

impl<'a> Planner<'a> {
    pub(super) fn plan_install(&mut self, manifest: &Manifest, install: &InstallRequest<'_>) {
        self.plan.state = self.state_as_observed();
        self.set_offline(Reason::Installing, "an installation is under way");
        self.waiting(Reason::Pending, "the installation is about to begin");
        self.expires();
        if install.aborted && self.observed.installer.is_none() {
            self.fail(install, Reason::Aborted, "the installation was aborted, as requested");
            return;
        }
        if let Some(server) = self.observed.server.as_ref().filter(|server| server.running()) {
            self.plan_stop(manifest, server, &Demand::installation());
            self.waiting(Reason::Stopping, "the server is stopped before it is installed");
            return;
        }
        match &self.observed.installer {
            Some(installer) if installer.token.as_deref() == Some(install.id) && !install.aborted => {
                self.follow_installer(manifest, install, installer);
            }
            // It is aborted, of another request, or another daemon's leftover under our name.
            Some(installer) => self.remove_installer(installer),
            None => self.begin_install(manifest, install),
        }
    }

    fn waiting(&mut self, reason: Reason, message: impl Into<String>) {
        self.set_false(ConditionType::Installed, reason, message);
    }

    /// Whether Wings has left this installer behind, and its result is still of interest. A server that was started since runs with
    /// what the script has made of it.
    pub(super) fn is_left_by_wings(&self, installer: &ContainerStatus) -> bool {
        if installer.token.is_some() {
            return false;
        }
        let server = self.observed.server.as_ref();
        let started = server.and_then(|server| server.started_at);
        match installer.state {
            ContainerState::Running => !server.is_some_and(ContainerStatus::running),
            ContainerState::Exited { .. } => {
                let began = installer.started_at;
                !server.is_some_and(ContainerStatus::running)
                    && started.is_none_or(|started| began.is_some_and(|began| started < began))
            }
            // The script never ran. Of a server that ran before it is not known whether it is still wanted.
            ContainerState::Created | ContainerState::StartFailed => started.is_none(),
        }
    }

    /// Makes the installation that Wings has begun one of this node: it is followed, its log kept and its result reported.
    pub(super) fn adopt_installer(&mut self, installer: &ContainerStatus) {
        self.plan.state = self.state_as_observed();
        self.set_offline(Reason::Installing, "an installation that Wings has begun is taken over");
        self.waiting(Reason::Pending, "an installation that Wings has begun is taken over");
        // Wings does not say which it is.
        let reinstall = self.observed.server.as_ref().is_some_and(|server| server.started_at.is_some());
        self.try_step(Step::AdoptInstaller { container: installer.id.clone(), reinstall });
    }

    pub(super) fn remove_installer(&mut self, installer: &ContainerStatus) {
        self.try_step(Step::RemoveInstaller { container: installer.id.clone() });
    }

    fn fail(&mut self, install: &InstallRequest<'_>, reason: Reason, message: impl Into<String>) {
        self.record_install(install, InstallOutcome::Failed, None, reason, message.into());
    }

    fn record_install(
        &mut self,
        install: &InstallRequest<'_>,
        outcome: InstallOutcome,
        exit_code: Option<i64>,
        reason: Reason,
        message: String,
    ) {
        self.step(Step::RecordInstall(InstallResult {
            token: install.id.to_owned(),
            sequence: install.sequence,
            outcome,
            reinstall: install.reinstall,
            exit_code,
            reason,
            message,
            at: self.now,
            reported: !self.is_managed_by_panel(),
        }));
    }

    /// There is no installer yet: everything that it needs comes first.
    fn begin_install(&mut self, manifest: &Manifest, install: &InstallRequest<'_>) {
        if !self.synced_for_install(install) {
            return;
        }
        let by_egg = manifest.spec.settings.skip_egg_scripts;
        if !by_egg && !self.has_script(manifest, install) {
            return;
        }
        let script = manifest.spec.script.as_ref();
        if by_egg || script.is_some_and(Script::is_blank) {
            if !self.prepared(ConditionType::Installed) {
                return;
            }
            let message = "there was no script to run";
            self.record_install(install, InstallOutcome::Succeeded, None, Reason::Skipped, message.into());
            return;
        }
        if script.is_some_and(|script| script.image.is_empty()) {
            let message = "spec.script.image is missing or empty: write the image that runs the install script into the \
                           panel's egg or the manifest";
            match self.is_managed_by_panel() {
                true => self.fail(install, Reason::InvalidImage, message),
                false => self.waiting(Reason::InvalidImage, message),
            }
            return;
        }
        if self.backs_off(manifest, install) {
            self.release_slot();
            return;
        }
        if !self.observed.install_slot {
            self.waiting(
                Reason::Queued,
                "waiting for an install slot: alula.reconcile.concurrent_installs limits concurrent installations",
            );
            self.step(Step::TakeInstallSlot);
            return;
        }
        let prepared = self.prepared(ConditionType::Installed);
        if prepared && self.waits_for_quota {
            self.waiting(Reason::Assigning, "the server's files are being put under their project quota");
            return;
        }
        if !prepared || !self.has_images(manifest, install) || !self.has_server_container(install) {
            return;
        }
        if self.observed.script_ready.as_deref() != Some(install.id) {
            self.try_step(Step::WriteScript { token: install.id.to_owned() });
            return;
        }
        if self.rejected(install, StepKind::CreateInstaller, install.id).is_none() {
            self.try_step(Step::CreateInstaller { token: install.id.to_owned() });
        }
    }

    /// The panel learns that an image or a container was rejected, and its user asks again. The installation of a server without a
    /// panel stays pending: it goes on when a person has fixed the manifest, or at the next attempt. Until then it holds no slot.
    fn backs_off(&mut self, manifest: &Manifest, install: &InstallRequest<'_>) -> bool {
        if self.is_managed_by_panel() {
            return false;
        }
        let now = self.instant;
        for subject in image_subjects(manifest, install).into_iter().flatten() {
            let job = self.observed.job(JobKind::Image, &subject);
            let Some(Job { state: JobState::Failed { fatal, retry_at, message }, attempts, .. }) = job else {
                continue;
            };
            if *fatal {
                self.set_false(ConditionType::ImageReady, Reason::InvalidImage, message);
                self.waiting(Reason::InvalidImage, message);
                return true;
            }
            if *attempts >= IMAGE_ATTEMPTS && now < *retry_at {
                let message = format!("{message}; attempt {attempts}, tried again");
                self.set_false(ConditionType::ImageReady, Reason::ImagePullBackOff, message.clone());
                self.waiting(Reason::ImagePullBackOff, message);
                self.requeue_at(*retry_at);
                return true;
            }
        }
        let server = start_id(install.id);
        let steps = [
            (StepKind::CreateServer, server.as_str()),
            (StepKind::CreateInstaller, install.id),
            (StepKind::StartInstaller, install.id),
        ];
        let rejected = steps.iter().find_map(|(step, subject)| self.rejection(*step, subject));
        let Some(Failure { attempts, message, retry_at, .. }) = rejected.filter(|failure| now < failure.retry_at)
        else {
            return false;
        };
        let message = format!("{message}; attempt {attempts}, tried again");
        self.set_false(ConditionType::ContainerReady, Reason::Rejected, message.clone());
        self.waiting(Reason::ContainerBackOff, message);
        self.requeue_at(*retry_at);
        true
    }

    /// The panel's configuration must be newer than the request. One that is dated in the future is not: the clock was set back.
    fn synced_for_install(&mut self, install: &InstallRequest<'_>) -> bool {
        let synced = self.record.synced_at.is_some_and(|synced| install.at <= synced && synced <= self.now);
        !self.is_managed_by_panel() || synced || self.fetched(install, JobKind::Sync)
    }

    fn has_script(&mut self, manifest: &Manifest, install: &InstallRequest<'_>) -> bool {
        if !self.is_managed_by_panel() {
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

    /// The script was fetched and is not in the manifest any more: an earlier manifest was restored.
    fn fetch_script_again(&mut self, install: &InstallRequest<'_>) -> bool {
        let subject = Subject::Install(install.id.to_owned());
        let Some(Job { state: JobState::Done { at }, .. }) = self.observed.job(JobKind::Script, &subject) else {
            return self.fetched(install, JobKind::Script);
        };
        self.waiting(Reason::Fetching, "the script is no longer in the manifest, and is fetched from the panel again");
        match *at + SCRIPT_AGAIN {
            due if self.instant < due => self.requeue_at(due),
            _ => self.step(Step::StartJob { job: JobKind::Script, subject }),
        }
        false
    }

    /// Waits for the panel, however long it takes. A rejection ends the installation, and so do invalid responses in a row.
    fn fetched(&mut self, install: &InstallRequest<'_>, kind: JobKind) -> bool {
        match self.job(kind, &Subject::Install(install.id.to_owned()), true) {
            Progress::Ready => return true,
            Progress::Waiting => self.waiting(Reason::Fetching, "asking the panel what to install"),
            Progress::Failed { fatal: true, message, .. } => self.fail(install, Reason::PanelRejected, message),
            Progress::Failed { attempts, message, .. } => {
                let message = format!("{message}; attempt {attempts}, tried again until the panel answers");
                self.waiting(Reason::PanelAway, message.clone());
                self.set_false(ConditionType::PanelReachable, Reason::PanelAway, message);
            }
        }
        false
    }

    /// Whether both images are available. They are pulled at the same time.
    fn has_images(&mut self, manifest: &Manifest, install: &InstallRequest<'_>) -> bool {
        let Some(subjects) = image_subjects(manifest, install) else { return false };
        let often = |fatal, attempts| fatal || attempts >= IMAGE_ATTEMPTS;
        let mut ready = true;
        for subject in subjects {
            match self.job(JobKind::Image, &subject, true) {
                Progress::Ready => {}
                Progress::Waiting => {
                    self.set_false(ConditionType::ImageReady, Reason::Pulling, "waiting for images");
                    self.waiting(Reason::Pulling, "waiting for images");
                    ready = false;
                }
                Progress::Failed { fatal, attempts, message }
                    if self.is_managed_by_panel() && often(fatal, attempts) =>
                {
                    self.plan.steps.clear();
                    self.set_false(ConditionType::ImageReady, Reason::ImagePullFailed, message);
                    self.fail(install, Reason::ImagePullFailed, message);
                    return false;
                }
                Progress::Failed { attempts, message, .. } => {
                    let message = format!("{message}; attempt {attempts}, tried again");
                    self.set_false(ConditionType::ImageReady, Reason::ImagePullBackOff, message.clone());
                    self.waiting(Reason::ImagePullBackOff, message);
                    ready = false;
                }
            }
        }
        if ready {
            self.set_true(ConditionType::ImageReady, Reason::Ready, "both images are available");
        }
        ready
    }

    /// The server's container is created before its files, so that one that cannot be created is noticed before the script runs.
    fn has_server_container(&mut self, install: &InstallRequest<'_>) -> bool {
        if self.observed.server.is_some() {
            return true;
        }
        let token = start_id(install.id);
        if let Some(rejected) = self.rejected(install, StepKind::CreateServer, &token) {
            self.set_false(ConditionType::ContainerReady, Reason::Rejected, &rejected.message);
            return false;
        }
        if let Some(Failure { attempts, message, .. }) = self.failed(StepKind::CreateServer, &token) {
            self.waiting(Reason::ContainerBackOff, format!("{message}; attempt {attempts}, tried again"));
        }
        self.try_step(Step::CreateServer { token });
        false
    }

    fn follow_installer(&mut self, manifest: &Manifest, install: &InstallRequest<'_>, installer: &ContainerStatus) {
        let timeout = manifest.spec.install.as_ref().and_then(|install| install.timeout);
        let limit = timeout.map(|span| span.0).filter(|span| !span.is_zero()).or(self.policy.install_timeout);
        match installer.state {
            ContainerState::Created => self.start_installer(manifest, install, installer),
            // The next attempt to start uses a new container.
            ContainerState::StartFailed => {
                if self.rejected(install, StepKind::StartInstaller, install.id).is_none() {
                    self.remove_installer(installer);
                }
            }
            ContainerState::Running => {
                self.waiting(Reason::Running, "the install script is running");
                self.job(JobKind::InstallLog, &Subject::Container(installer.id.clone()), true);
                let started = self.observed.installer_run.started;
                let Some(deadline) = limit.and_then(|limit| started?.checked_add(limit)) else { return };
                let killed = self.observed.installer_stop.as_ref().filter(|stop| stop.container == installer.id);
                let due = killed.and_then(|stop| stop.killed_at).map_or(deadline, |killed_at| killed_at + KILL_AGAIN);
                if self.instant < due {
                    self.requeue_at(due);
                } else {
                    self.try_step(Step::Kill { container: installer.id.clone(), role: Role::Installer });
                }
            }
            ContainerState::Exited { code, oom_killed } => {
                let ran = match (installer.started_at, installer.finished_at) {
                    (Some(started), Some(finished)) => finished.since(started),
                    _ => Duration::ZERO,
                };
                let killed = KILLED.contains(&code) && !oom_killed;
                let timed_out = killed
                    && (self.killed_it(installer)
                        || (!self.saw_it(installer) && limit.is_some_and(|limit| ran >= limit)));
                if killed && !timed_out && !self.saw_it(installer) {
                    if install.id == adopted_id(&installer.id) && install.reinstall {
                        // The server was in use before, and perhaps since: a person decides.
                        let message =
                            "the reinstallation that Wings had begun was interrupted; install the server again";
                        self.fail(install, Reason::Interrupted, message);
                    } else {
                        self.run_script_again(install, installer);
                    }
                } else {
                    self.harvest(install, installer, code, timed_out.then(|| limit.unwrap_or(ran)));
                }
            }
        }
    }

    /// The failure of a step that the engine has rejected too often.
    fn rejection(&self, step: StepKind, subject: &str) -> Option<&'a Failure> {
        let often = |failure: &&Failure| failure.rejected && failure.attempts >= CONTAINER_ATTEMPTS;
        self.failed(step, subject).filter(often)
    }

    /// The same, where the installation has failed with it.
    fn rejected(&mut self, install: &InstallRequest<'_>, step: StepKind, subject: &str) -> Option<&'a Failure> {
        let failure = self.rejection(step, subject).filter(|_| self.is_managed_by_panel())?;
        self.fail(install, Reason::ContainerRejected, &failure.message);
        Some(failure)
    }

    fn start_installer(&mut self, manifest: &Manifest, install: &InstallRequest<'_>, installer: &ContainerStatus) {
        let rejected = self.rejected(install, StepKind::StartInstaller, install.id).is_some();
        if rejected || self.held_back(StepKind::StartInstaller, install.id) {
            return;
        }
        if self.observed.script_ready.as_deref() != Some(install.id) {
            // Created by a daemon that died before the start: the folder may hold a part of the script.
            if !self.has_script(manifest, install) || !self.prepared(ConditionType::Installed) {
                return;
            }
            self.step(Step::WriteScript { token: install.id.to_owned() });
        }
        self.step(Step::StartInstaller { container: installer.id.clone(), token: install.id.to_owned() });
    }

    /// The log is completed after the script has ended: the stream of its follower may have broken off just before. A log that cannot
    /// be read delays the result only for [`LOG_ATTEMPTS`].
    fn log_is_closed(&mut self, install: &InstallRequest<'_>, installer: &ContainerStatus) -> bool {
        let follower = self.observed.job(JobKind::InstallLog, &Subject::Container(installer.id.clone()));
        if follower.is_some_and(|job| job.state == JobState::Running) {
            let timeout = self.observed.installer_run.ended.unwrap_or(self.instant) + FOLLOWER_TIMEOUT;
            if self.instant < timeout {
                self.requeue_at(timeout);
                return false;
            }
        }
        if self.held_back(StepKind::CloseInstallLog, &installer.id) {
            return false;
        }
        if self.failed(StepKind::CloseInstallLog, &installer.id).is_none_or(|failure| failure.attempts < LOG_ATTEMPTS) {
            self.step(Step::CloseInstallLog { container: installer.id.clone(), token: install.id.to_owned() });
        }
        true
    }

    /// Whether this process saw the script run. One that did not, and finds it killed, cannot know by whom.
    fn saw_it(&self, installer: &ContainerStatus) -> bool {
        self.observed.installer_seen.as_ref() == Some(&installer.id)
    }

    /// Whether this process killed the script, for its time limit.
    fn killed_it(&self, installer: &ContainerStatus) -> bool {
        self.observed.installer_stop.as_ref().is_some_and(|stop| stop.container == installer.id)
    }

    /// A script that was interrupted runs again, but only [`INTERRUPTIONS`] times: it may be what brings the host down.
    fn run_script_again(&mut self, install: &InstallRequest<'_>, installer: &ContainerStatus) {
        self.waiting(Reason::Interrupted, "the install script was interrupted and is run again");
        let before = self.record.interrupted(install.id);
        let noted = before.contains(&installer.id);
        if before.len() >= INTERRUPTIONS && !noted {
            let message =
                format!("the install script was interrupted {} times; find out what ends it", before.len() + 1);
            self.fail(install, Reason::Interrupted, message);
        } else if !noted {
            self.step(Step::RecordInterrupted { container: installer.id.clone(), token: install.id.to_owned() });
        } else {
            self.remove_installer(installer);
        }
    }

    /// The script has ended: its log is completed, then the result is recorded. `limit`: the time limit that it was killed for.
    fn harvest(
        &mut self,
        install: &InstallRequest<'_>,
        installer: &ContainerStatus,
        code: i64,
        limit: Option<Duration>,
    ) {
        self.waiting(Reason::Harvesting, "the install script has ended");
        // The log is not read again while the record of the result has to wait.
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

/// The image jobs of an installation: the server's image and the installer's. None without a script.
fn image_subjects(manifest: &Manifest, install: &InstallRequest<'_>) -> Option<[Subject; 2]> {
    let script = manifest.spec.script.as_ref()?;
    let installation = Subject::Install(install.id.to_owned());
    Some([image_subject(manifest, &installation), installation.image(Role::Installer, &script.image)])
}
