//! Background jobs: work that takes long runs as a task of its own, and its end queues a pass.
//!
//! Each kind of job is a `BackgroundJob` in a file of its own; `implementation` is the registry. The planner names a job by kind and
//! subject and finds it again in [`Observed`](super::observed::Observed); a job for another subject replaces those that
//! [`Subject::replaces`] names, so several of one kind may run.

mod announced;
mod backup;
mod backup_hooks;
mod backup_removal;
mod backup_verification;
mod config_files;
mod freeze;
mod image;
mod install_log;
mod operation_report;
mod permissions;
mod quota;
mod read_on;
mod removal;
mod report;
mod restore;
mod script;
mod sync;
mod transfer;
mod usage;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use async_trait::async_trait;
use futures_util::FutureExt;

use super::context::Context;
use super::disk_scans::DiskScan;
use super::job::{JobKind, Subject};
use super::server_state::JobError;
use crate::files::FilesError;
use crate::model::{Record, Requester, ServerId, Verb};
use crate::panel::PanelError;
use crate::requests::NewRequest;
use crate::retry;
use crate::store::{Snapshot, StoreError};
use crate::sync::{PanelSync, ReportError};
use crate::wait;

pub use install_log::close as close_install_log;

/// A kind of background job.
#[async_trait]
trait BackgroundJob: Sync {
    /// Runs the job to its end. It may be dropped at any await, and run again.
    ///
    /// # Errors
    /// What was attempted and why it failed. The planner starts the job again unless the error is fatal.
    async fn run(&self, run: &JobRun) -> Result<(), JobError>;
}

/// The registry of job kinds.
fn implementation(kind: JobKind) -> &'static dyn BackgroundJob {
    match kind {
        JobKind::Sync => &sync::Sync,
        JobKind::Script => &script::FetchScript,
        JobKind::Image => &image::PrepareImage,
        JobKind::Usage => &usage::MeasureUsage,
        JobKind::Quota => &quota::AssignQuota,
        JobKind::ConfigFiles => &config_files::WriteConfigFiles,
        JobKind::Permissions => &permissions::FixPermissions,
        JobKind::InstallLog => &install_log::FollowInstallLog,
        JobKind::Report => &report::Report,
        JobKind::Removal => &removal::RemoveFiles,
        JobKind::Backup => &backup::MakeBackup,
        JobKind::BackupRelease => &backup_hooks::ReleaseServer,
        JobKind::BackupRemoval => &backup_removal::RemoveBackup,
        JobKind::BackupVerification => &backup_verification::VerifyBackup,
        JobKind::Restore => &restore::RestoreBackup,
        JobKind::FormerFiles => &restore::RemoveFormerFiles,
        JobKind::Transfer => &transfer::TransferServer,
        JobKind::OperationReport => &operation_report::ReportOperation,
    }
}

/// One run of a job.
struct JobRun {
    context: Arc<Context>,
    server: ServerId,
    subject: Subject,
}

impl JobRun {
    /// The panel protocol.
    fn sync(&self) -> Result<&PanelSync, JobError> {
        let sync = self.context.sync.as_deref();
        sync.ok_or_else(|| JobError::new(retry::PANEL, "there is no panel; set `remote` in config.yml"))
    }

    /// Waits until the record says that the job is no longer wanted, or the server is gone.
    async fn when_unwanted(&self, unwanted: impl Fn(&Record) -> bool) {
        let store = &self.context.store;
        let ends = || store.get(self.server).is_none_or(|found| unwanted(&found.record));
        wait::forever(store.changes(), ends).await;
    }

    /// Requests the start of a server that an operation has stopped, unless this was requested already: by an earlier run, that is.
    async fn request_start(&self, id: String, by: Requester) -> Result<(), JobError> {
        let (store, server, at) = (&self.context.store, self.server, self.context.clock.now());
        let is_known = |found: &Snapshot| {
            let accepted = found.requests.accepted.iter().any(|request| request.id == id);
            accepted || found.record.power.handled.as_ref().is_some_and(|handled| handled.id == id)
        };
        if !store.get(server).is_some_and(|found| is_known(&found)) {
            let start = NewRequest { id, at, expires_at: None, timeout: None, by, verb: Verb::Start };
            store.run(move |store| store.request(server, None, [start])).await?;
        }
        Ok(())
    }

    /// Runs blocking work on the server's files, with the limit of its kind.
    async fn scan<T: Send + 'static>(&self, scan: DiskScan, work: impl FnOnce(&AtomicBool) -> T + Send + 'static) -> T {
        self.context.disk_scans.run(self.context.store.blocking(), scan, work).await
    }
}

impl From<PanelError> for JobError {
    fn from(error: PanelError) -> Self {
        let invalid_response = matches!(error, PanelError::InvalidResponse { .. });
        let growth = if invalid_response { retry::INVALID_RESPONSE } else { retry::PANEL };
        let (fatal, pause) = (error.is_final(), error.pause());
        Self { fatal, pause, invalid_response, ..Self::new(growth, error.to_string()) }
    }
}

impl From<StoreError> for JobError {
    fn from(error: StoreError) -> Self {
        Self::new(retry::PANEL, error.to_string())
    }
}

impl From<ReportError> for JobError {
    fn from(error: ReportError) -> Self {
        match error {
            ReportError::Panel(error) => error.into(),
            ReportError::Record(error) => error.into(),
            ReportError::TooEarly(_) => Self::new(retry::PANEL, error.to_string()),
        }
    }
}

impl From<FilesError> for JobError {
    fn from(error: FilesError) -> Self {
        Self::new(retry::FILES, error.to_string())
    }
}

/// What users read on the server's console when a job begins. Source: websocket, "Daemon notices".
fn announcement(kind: JobKind, subject: &Subject) -> Option<&'static str> {
    match (kind, subject) {
        (JobKind::Usage, Subject::Start(_)) => {
            Some("checking server disk space usage, this could take a few seconds...")
        }
        (JobKind::ConfigFiles, _) => Some("Updating process configuration files..."),
        (JobKind::Permissions, _) => {
            Some("Ensuring file permissions are set correctly, this could take a few seconds...")
        }
        (JobKind::Image, _) if subject.is_image_of_start() => {
            Some("Pulling Docker container image, this could take a few minutes to complete...")
        }
        _ => None,
    }
}

/// Starts a job.
pub fn start(context: &Arc<Context>, id: ServerId, kind: JobKind, subject: &Subject) {
    // Here and not in the job, so that jobs that are started together are announced in order.
    if let Some(text) = announcement(kind, subject) {
        context.console.announce(id, text);
    }
    let run = context.servers.job_starting(id, kind, subject);
    let job = JobRun { context: context.clone(), server: id, subject: subject.clone() };
    let task = context.tasks.spawn(format!("{kind:?} {id}"), async move {
        let work = std::panic::AssertUnwindSafe(implementation(kind).run(&job)).catch_unwind();
        let result = work
            .await
            .unwrap_or_else(|_| Err(JobError::new(retry::FILES, format!("{kind:?} panicked (bug, please report it)"))));
        end(&job, kind, run, result);
    });
    context.servers.job_started(id, run, task);
}

fn end(job: &JobRun, kind: JobKind, run: u64, result: Result<(), JobError>) {
    let (context, id, subject) = (&job.context, job.server, &job.subject);
    if kind == JobKind::Image && subject.is_image_of_start() && result.is_ok() {
        context.console.announce(id, "Finished pulling Docker container image");
    }
    let answered = result.as_ref().map_or_else(|error| error.fatal, |_| true);
    context.servers.job_finished(id, run, result);
    if kind.asks_panel() && context.sync.as_ref().is_some_and(|sync| sync.note_answer(answered)) {
        context.servers.panel_recovered().into_iter().for_each(|id| (context.wake)(id));
    }
    (context.wake)(id);
}

#[cfg(test)]
mod tests;
