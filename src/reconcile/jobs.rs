//! Background jobs: work that takes long runs as a task beside the passes, and its end wakes the server.
//!
//! Each kind of job is a [`BackgroundJob`] in a file of its own; [`implementation`] is the registry. The planner names a job by kind and
//! subject and finds it again in [`Observed`](super::observed::Observed); a job for another subject replaces those that
//! [`Subject::replaces`] names, so several of one kind may run.

mod image;
mod install_log;
mod permissions;
mod read_on;
mod removal;
mod report;
mod script;
mod sync;
mod usage;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use futures_util::FutureExt;

use super::context::Context;
use super::job::{JobKind, Subject};
use super::observed::{Job, JobState, Usage};
use super::server_state::{ServerState, StateJob};
use crate::files::FilesError;
use crate::model::ServerId;
use crate::panel::PanelError;
use crate::retry::{self, Growth};
use crate::store::StoreError;
use crate::sync::PanelSync;

pub use install_log::close as close_install_log;

/// After this many answers in a row that the protocol does not allow, a job counts as rejected by the panel.
const MAX_INVALID_RESPONSES: u32 = 5;

/// A kind of background job.
#[async_trait]
trait BackgroundJob: Sync {
    /// Runs the job to its end. It may be dropped at any await, and run again.
    ///
    /// # Errors
    /// What was attempted and why it failed. The planner starts the job again unless the error is fatal.
    async fn run(&self, run: &JobRun) -> Result<JobOutput, JobError>;
}

/// The registry of job kinds.
fn implementation(kind: JobKind) -> &'static dyn BackgroundJob {
    match kind {
        JobKind::Sync => &sync::Sync,
        JobKind::Script => &script::FetchScript,
        JobKind::Image => &image::PrepareImage,
        JobKind::Usage => &usage::MeasureUsage,
        JobKind::Permissions => &permissions::FixPermissions,
        JobKind::InstallLog => &install_log::FollowInstallLog,
        JobKind::Report => &report::Report,
        JobKind::Removal => &removal::RemoveFiles,
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
}

/// What a job found out.
#[derive(Debug, Default)]
enum JobOutput {
    /// Its effect is on disk, in the engine or on the panel.
    #[default]
    Nothing,
    /// The disk usage.
    Usage(Usage),
}

/// How a job failed.
#[derive(Debug)]
struct JobError {
    /// Another attempt would fail, too.
    fatal: bool,
    /// How the next attempts are spaced.
    growth: Growth,
    /// The panel's answer is not what the protocol says.
    invalid_response: bool,
    /// What was found out nevertheless.
    output: JobOutput,
    message: String,
}

impl JobError {
    fn new(growth: Growth, message: impl Into<String>) -> Self {
        Self { fatal: false, growth, invalid_response: false, output: JobOutput::Nothing, message: message.into() }
    }
}

impl From<PanelError> for JobError {
    fn from(error: PanelError) -> Self {
        let invalid_response = matches!(error, PanelError::InvalidResponse { .. });
        let growth = if invalid_response { retry::INVALID_RESPONSE } else { retry::PANEL };
        let fatal = error.is_final();
        Self { fatal, invalid_response, ..Self::new(growth, error.to_string()) }
    }
}

impl From<StoreError> for JobError {
    fn from(error: StoreError) -> Self {
        Self::new(retry::PANEL, error.to_string())
    }
}

impl From<FilesError> for JobError {
    fn from(error: FilesError) -> Self {
        Self::new(retry::FILES, error.to_string())
    }
}

/// Starts a job.
pub fn start(context: &Arc<Context>, id: ServerId, kind: JobKind, subject: &Subject) {
    let run = context.with_server(id, |state| begin(state, kind, subject));
    let job = JobRun { context: context.clone(), server: id, subject: subject.clone() };
    let task = context.tasks.spawn(format!("{kind:?} {id}"), async move {
        let work = std::panic::AssertUnwindSafe(implementation(kind).run(&job)).catch_unwind();
        let result = work.await.unwrap_or_else(|_| {
            Err(JobError::new(retry::FILES, format!("{kind:?} failed by a bug of the daemon; please report it")))
        });
        end(&job, kind, run, result);
    });
    context.with_server(id, |state| match state.jobs.iter_mut().find(|job| job.run == run) {
        Some(job) if job.job.state == JobState::Running => job.task = Some(task),
        Some(_) => {}
        // Replaced or ended in between.
        None => task.abort(),
    });
}

/// Notes a job as running. Returns the number of this run.
fn begin(state: &mut ServerState, kind: JobKind, subject: &Subject) -> u64 {
    let (mut attempts, mut invalid_responses) = (1, 0);
    if let Some(old) = state.jobs.iter().find(|old| old.job.kind == kind && old.job.subject == *subject) {
        attempts = old.job.attempts + u32::from(matches!(old.job.state, JobState::Failed { .. }));
        invalid_responses = old.invalid_responses;
    }
    state.end_jobs(|old| old.kind == kind && subject.replaces(&old.subject));
    state.last_run += 1;
    let (run, job) = (state.last_run, Job { kind, subject: subject.clone(), state: JobState::Running, attempts });
    state.jobs.push(StateJob { job, task: None, run, invalid_responses });
    run
}

fn end(job: &JobRun, kind: JobKind, run: u64, result: Result<JobOutput, JobError>) {
    let context = &job.context;
    let now = context.clock.now();
    let answered = result.as_ref().map_or_else(|error| error.fatal, |_| true);
    context.with_server(job.server, |state| {
        let Some(at) = state.jobs.iter().position(|job| job.run == run) else { return };
        if result.is_ok() && kind == JobKind::Report {
            // Nothing is left to report; the next change is another job.
            state.jobs.remove(at);
            return;
        }
        let job = &mut state.jobs[at];
        job.task = None;
        let output = match result {
            Ok(output) => {
                job.job.state = JobState::Done { at: now };
                output
            }
            Err(mut error) => {
                job.invalid_responses = if error.invalid_response { job.invalid_responses + 1 } else { 0 };
                error.fatal |= job.invalid_responses >= MAX_INVALID_RESPONSES;
                if job.job.attempts == 1 || error.fatal {
                    tracing::warn!(job = ?kind, "{}", error.message);
                }
                let retry_at = now + retry::delay(error.growth, job.job.attempts, &context.jitter);
                job.job.state = JobState::Failed { fatal: error.fatal, retry_at, message: error.message };
                error.output
            }
        };
        match output {
            JobOutput::Nothing => {}
            JobOutput::Usage(usage) => state.usage = Some(usage),
        }
    });
    if kind.asks_panel() && context.sync.as_ref().is_some_and(|sync| sync.note_answer(answered)) {
        context.panel_recovered();
    }
    (context.wake)(job.server);
}

/// Sets its flag when it is dropped, so that blocking work whose job was replaced ends soon.
#[derive(Default)]
struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
