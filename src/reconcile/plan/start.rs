//! Starting a server: crash handling first, then everything that the container needs before it runs.
//!
//! ```text
//! (crash judged, delay over) → sync with the panel → disk limit → folders → configuration files → image, permissions → container → start
//! ```

use super::{Planner, Progress};
use crate::model::{ConditionType, ContainerStatus, Manifest, PowerState, Reason, Role};
use crate::reconcile::job::{JobKind, Subject};
use crate::reconcile::observed::{Failure, JobState};
use crate::reconcile::step::{Step, StepKind};
use crate::requests::PowerRequest;

impl Planner<'_> {
    pub(super) fn plan_start(&mut self, manifest: &Manifest, request: &PowerRequest) {
        if self.judges_crash(manifest, request) {
            return;
        }
        if manifest.spec.suspended {
            self.set_offline(Reason::Suspended, "the server is suspended and does not start");
            if manifest.is_managed_by_panel() {
                self.close(request, Reason::Suspended, "the server is suspended");
            }
            return;
        }
        if self.installation_holds_start() {
            let message = "the server does not start, because its latest installation has failed";
            self.set_offline(Reason::InstallFailed, message);
            return;
        }
        if self.waits_after_crash(manifest, request) {
            return;
        }
        if request.after_install && self.report_comes_first() {
            self.set_offline(Reason::Reporting, "the installation is reported to the panel before the server starts");
            return;
        }
        if request.expires_at.is_some() {
            self.step(Step::RecordBegun { power: request.id.clone() });
        }
        let key = self.start_key(request);
        if self.waits_for_start_slot(manifest, request, &key) {
            return;
        }
        if !self.synced(request, &key) || !self.fits_on_disk(manifest, request, &key) {
            return;
        }
        self.plan.state = self.starting(manifest, request, &key);
        if self.prepared(ConditionType::Running)
            && self.quota_assigned()
            && self.config_files_written(manifest, &key)
            && self.has_image_and_permissions(manifest, &key)
        {
            self.plan_container(request);
        }
    }

    /// The result of an installation is reported before the state of the start that follows, if the panel answers.
    fn report_comes_first(&self) -> bool {
        let Some(done) = self.record.install.unreported().filter(|_| self.is_managed_by_panel()) else { return false };
        let subject = Subject::InstallResult(done.token.clone());
        match self.observed.job(JobKind::Report, &subject) {
            Some(job) => job.state == JobState::Running && job.attempts <= 1,
            None => true,
        }
    }

    /// Identifies one attempt to start: a new request or a crash makes a new one, which asks the panel and the registry again. So does a
    /// start after one that has finished, see [`Step::RecordStarted`].
    pub(super) fn start_key(&self, request: &PowerRequest) -> Subject {
        Subject::Start(match self.crashes().last() {
            Some(crash) => format!("{}#{}", request.id, crash.at.as_millis()),
            None => request.id.clone(),
        })
    }

    /// Each start fetches the panel's configuration. It goes on if the panel does not answer, and not if the panel rejects it.
    pub(super) fn synced(&mut self, request: &PowerRequest, key: &Subject) -> bool {
        if !self.is_managed_by_panel() || self.record.synced_for == Some(key.to_string()) {
            return true;
        }
        match self.job(JobKind::Sync, key, false) {
            Progress::Ready => true,
            Progress::Waiting => {
                self.set_offline(Reason::Syncing, "asking the panel for the newest configuration");
                false
            }
            Progress::Failed { fatal: true, message, .. } => {
                self.set_offline(Reason::PanelRejected, message);
                self.close(request, Reason::PanelRejected, message);
                false
            }
            Progress::Failed { message, .. } => {
                let age = match self.record.synced_at {
                    Some(at) => format!("the configuration of {at} is used"),
                    None => "the configuration on disk is used".into(),
                };
                let message = format!("{message}; {age}");
                self.set_false(ConditionType::PanelReachable, Reason::SpecStale, message);
                true
            }
        }
    }

    fn fits_on_disk(&mut self, manifest: &Manifest, request: &PowerRequest, key: &Subject) -> bool {
        if self.disk_limit(manifest).is_none() {
            return true;
        }
        match self.job(JobKind::Usage, key, true) {
            Progress::Waiting => {
                self.set_offline(Reason::CheckingDisk, "counting the bytes of the server's files");
                return false;
            }
            _ if self.is_disk_full(manifest) => {
                let message = "the server's files are larger than its disk limit; delete some and start it again";
                self.set_offline(Reason::DiskLimitExceeded, message);
                self.close(request, Reason::DiskLimitExceeded, message);
                return false;
            }
            Progress::Ready => {}
            Progress::Failed { message, .. } => {
                self.set_unknown(ConditionType::DiskWithinLimit, Reason::CannotCount, message);
            }
        }
        true
    }

    /// What the server writes is under its quota from the first byte.
    fn quota_assigned(&mut self) -> bool {
        if self.waits_for_quota {
            self.set_offline(Reason::Assigning, "the server's files are being put under their project quota");
        }
        !self.waits_for_quota
    }

    /// The state of a start that is under way. One that has failed before is tried again as "offline" until the container runs.
    pub(super) fn starting(&self, manifest: &Manifest, request: &PowerRequest, key: &Subject) -> PowerState {
        let jobs = [(JobKind::Image, image_subject(manifest, key)), (JobKind::Permissions, key.clone())];
        let job_failed = jobs.iter().filter_map(|(kind, subject)| self.observed.job(*kind, subject));
        let mut job_failed = job_failed.map(|job| job.attempts > 1 || matches!(job.state, JobState::Failed { .. }));
        let old = self.observed.server.as_ref().map(|server| &server.id);
        let step_failed = self.observed.failures.iter().any(|(step, failure)| match *step {
            StepKind::Prepare => true,
            StepKind::RemoveServer => Some(&failure.subject) == old,
            _ => failure.subject == request.id,
        });
        if job_failed.any(|failed| failed) || step_failed { PowerState::Offline } else { PowerState::Starting }
    }

    /// The egg's values are written before the files get their owner. A failure does not hold up the start.
    fn config_files_written(&mut self, manifest: &Manifest, key: &Subject) -> bool {
        if manifest.spec.process.configs.is_empty() {
            return true;
        }
        match self.job(JobKind::ConfigFiles, key, false) {
            Progress::Ready | Progress::Failed { .. } => true,
            Progress::Waiting => {
                self.set_offline(Reason::WritingConfigFiles, "writing the egg's values into the configuration files");
                false
            }
        }
    }

    fn has_image_and_permissions(&mut self, manifest: &Manifest, key: &Subject) -> bool {
        // Begun in the order in which users know it; the image is the longer wait.
        let permissions = self.policy.fix_permissions.then(|| self.job(JobKind::Permissions, key, true));
        let image = self.has_server_image(manifest, key);
        let Some(permissions) = permissions else { return image };
        match permissions {
            Progress::Ready => return image,
            Progress::Waiting => {
                self.set_offline(Reason::FixingPermissions, "giving the server's files to their user");
            }
            Progress::Failed { message, .. } => {
                self.set_offline(Reason::PermissionsFailed, message);
                self.plan.state = PowerState::Offline;
            }
        }
        false
    }

    /// Whether the server's image is available.
    pub(super) fn has_server_image(&mut self, manifest: &Manifest, key: &Subject) -> bool {
        let image = &manifest.spec.settings.container.image;
        match self.job(JobKind::Image, &image_subject(manifest, key), true) {
            Progress::Ready => {
                self.set_true(ConditionType::ImageReady, Reason::Ready, format!("{image} is available"));
                return true;
            }
            Progress::Waiting => {
                self.set_false(ConditionType::ImageReady, Reason::Pulling, format!("{image} is being pulled"));
                self.set_offline(Reason::Pulling, "waiting for the image");
            }
            Progress::Failed { fatal, attempts, message } => {
                let (reason, message) = match fatal {
                    true => (Reason::InvalidImage, message.to_owned()),
                    false => (Reason::ImagePullBackOff, format!("{message}; attempt {attempts}, tried again")),
                };
                self.set_false(ConditionType::ImageReady, reason, message.clone());
                self.set_offline(reason, message);
            }
        }
        false
    }

    fn plan_container(&mut self, request: &PowerRequest) {
        let Some(wanted) = &self.observed.wanted else { return self.set_unresponsive_path() };
        let usable = |server: &&ContainerStatus| {
            server.is_created()
                && wanted.spec_hash.is_some()
                && server.spec_hash == wanted.spec_hash
                && server.limits_hash.as_ref() == Some(wanted.start_limits_hash.as_ref().unwrap_or(&wanted.limits_hash))
        };
        match &self.observed.server {
            None => {
                self.set_container_condition(StepKind::CreateServer, &request.id);
                self.try_step(Step::CreateServer { token: request.id.clone() });
            }
            Some(server) if usable(&server) => {
                self.set_container_condition(StepKind::StartServer, &request.id);
                if self.held_back(StepKind::StartServer, &request.id) {
                    return;
                }
                if self.record.serving(server) != Some(&request.id) {
                    self.step(Step::Assign { container: server.id.clone(), power: request.id.clone() });
                }
                self.step(Step::StartServer { container: server.id.clone(), power: request.id.clone() });
            }
            Some(server) => {
                self.set_container_condition(StepKind::RemoveServer, &server.id);
                self.try_step(Step::RemoveServer { container: server.id.clone() });
            }
        }
    }

    /// The spec of the container is not known, because the path of a mount does not answer.
    fn set_unresponsive_path(&mut self) {
        let Some(path) = &self.observed.unresponsive_path else { return };
        let message = format!("{path}; the server starts when it answers");
        self.plan.state = PowerState::Offline;
        self.set_unknown(ConditionType::ContainerReady, Reason::MountUnresponsive, message.clone());
        self.set_offline(Reason::MountUnresponsive, message);
    }

    /// Sets the container's condition: why this step has failed, if it has.
    pub(super) fn set_container_condition(&mut self, step: StepKind, subject: &str) {
        match self.failed(step, subject) {
            Some(Failure { attempts, message, .. }) => {
                self.plan.state = PowerState::Offline;
                let message = format!("{message}; attempt {attempts}, tried again");
                self.set_false(ConditionType::ContainerReady, Reason::Rejected, message.clone());
                self.set_offline(Reason::ContainerRejected, message);
            }
            None => self.set_offline(Reason::Starting, "the container is being created and started"),
        }
    }
}

/// An image job is for one attempt and one image: another image is another job.
pub(super) fn image_subject(manifest: &Manifest, key: &Subject) -> Subject {
    key.image(Role::Server, &manifest.spec.settings.container.image)
}
