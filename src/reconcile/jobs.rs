//! What takes long, beside the passes: one task for each job, whose end is written into the server's [`ServerState`] memory and
//! wakes the server. A job that is started again for something else replaces the one before.

mod install_log;
mod panel;
mod read_on;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::FutureExt;

use super::context::{Context, DiskScan};
use super::job::{JobKind, Subject};
use super::observed::{Job, JobState, Usage};
use super::server_state::{ServerState, StateJob};
use crate::files::FilesError;
use crate::model::ServerId;
use crate::panel::PanelError;
use crate::retry::{self, Growth};
use crate::runtime::{ContainerSpec, ErrorKind, spec_builder};

pub use install_log::close as close_install_log;
pub use panel::{FetchedSpec, apply_sync, new_manifest, sync_with_retries};

/// The time within which the panel must answer when somebody or something waits for it.
pub const PANEL_TIMEOUT: Duration = Duration::from_secs(8);

/// The panel is asked this often in a row for what it answers with nonsense; then that counts as its refusal.
const MAX_INVALID_RESPONSES: u32 = 5;

/// How a job ended badly.
#[derive(Debug)]
pub struct JobError {
    /// Whether trying again is pointless.
    fatal: bool,
    /// How the next attempts are spaced.
    growth: Growth,
    /// The panel answered, but not what the protocol says.
    invalid_response: bool,
    /// For people.
    message: String,
}

impl JobError {
    fn new(growth: Growth, message: impl Into<String>) -> Self {
        Self { fatal: false, growth, invalid_response: false, message: message.into() }
    }
}

impl From<PanelError> for JobError {
    fn from(error: PanelError) -> Self {
        let invalid_response = matches!(error, PanelError::InvalidResponse { .. });
        let growth = if invalid_response { retry::NONSENSE } else { retry::PANEL };
        Self { fatal: error.is_final(), growth, invalid_response, message: error.to_string() }
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
    let (task_context, task_subject) = (context.clone(), subject.clone());
    let task = context.tasks.spawn(format!("{kind:?} {id}"), async move {
        let work = std::panic::AssertUnwindSafe(perform(&task_context, id, kind, &task_subject)).catch_unwind();
        let result = work.await.unwrap_or_else(|_| {
            Err(JobError::new(retry::FILES, format!("{kind:?} failed by a bug of the daemon; please report it")))
        });
        end(&task_context, id, kind, run, result);
    });
    context.with_server(id, |state| match state.jobs.get_mut(&kind) {
        Some(job) if job.run == run && job.job.state == JobState::Running => job.task = Some(task),
        Some(job) if job.run == run => {}
        // Replaced or ended by somebody else in between.
        _ => task.abort(),
    });
}

/// Notes a job as running. Returns the number of this run.
fn begin(state: &mut ServerState, kind: JobKind, subject: &Subject) -> u64 {
    let (mut attempts, mut run, mut invalid_response) = (1, 1, 0);
    if let Some(old) = state.jobs.remove(&kind) {
        run = old.run + 1;
        if old.job.subject == *subject {
            attempts = old.job.attempts + u32::from(matches!(old.job.state, JobState::Failed { .. }));
            invalid_response = old.invalid_response;
        }
        if let Some(task) = old.task {
            task.abort();
        }
    }
    let job = Job { subject: subject.clone(), state: JobState::Running, attempts };
    state.jobs.insert(kind, StateJob { job, task: None, run, invalid_response });
    run
}

fn end(context: &Context, id: ServerId, kind: JobKind, run: u64, result: Result<(), JobError>) {
    let now = context.clock.now();
    let asks_panel = matches!(kind, JobKind::Sync | JobKind::Script | JobKind::Report);
    let answered = result.as_ref().map_or_else(|error| error.fatal, |()| true);
    context.with_server(id, |state| {
        let Some(job) = state.jobs.get_mut(&kind).filter(|job| job.run == run) else { return };
        job.task = None;
        if result.is_ok() && kind == JobKind::Report {
            // Nothing is left to say; the next thing to say is another job.
            state.jobs.remove(&kind);
            return;
        }
        job.job.state = match result {
            Ok(()) => JobState::Done { at: now },
            Err(mut error) => {
                job.invalid_response = if error.invalid_response { job.invalid_response + 1 } else { 0 };
                error.fatal |= job.invalid_response >= MAX_INVALID_RESPONSES;
                if job.job.attempts == 1 || error.fatal {
                    tracing::warn!(job = ?kind, "{}", error.message);
                }
                let retry_at = now + retry::delay(error.growth, job.job.attempts, &context.jitter);
                JobState::Failed { fatal: error.fatal, retry_at, message: error.message }
            }
        };
    });
    if asks_panel {
        context.note_panel(answered);
    }
    (context.wake)(id);
}

async fn perform(context: &Arc<Context>, id: ServerId, kind: JobKind, subject: &Subject) -> Result<(), JobError> {
    match kind {
        JobKind::Sync => panel::sync(context, id, subject).await,
        JobKind::Script => panel::script(context, id, subject.to_string()).await,
        JobKind::Report => panel::report(context, id).await,
        JobKind::ServerImage => server_image_job(context, id).await,
        JobKind::InstallerImage => installer_image_job(context, id).await,
        JobKind::Usage => usage(context, id, subject).await,
        JobKind::Permissions => permissions(context, id).await,
        JobKind::InstallLog => install_log::follow(context, id, &subject.to_string()).await,
        JobKind::Removal => removal(context, id).await,
    }
}

async fn server_image_job(context: &Context, id: ServerId) -> Result<(), JobError> {
    let Some(manifest) = context.store.get(id).and_then(|snapshot| snapshot.manifest.clone()) else { return Ok(()) };
    let built = spec_builder::server_container(id, &manifest.spec, &context.node, &context.runtime.host());
    prepare(context, &built.spec).await
}

async fn installer_image_job(context: &Context, id: ServerId) -> Result<(), JobError> {
    let Some(manifest) = context.store.get(id).and_then(|snapshot| snapshot.manifest.clone()) else { return Ok(()) };
    let Some(script) = &manifest.spec.script else { return Ok(()) };
    let built = spec_builder::installer_container(id, &manifest.spec, script, &context.node, &context.runtime.host());
    prepare(context, &built.spec).await
}

async fn prepare(context: &Context, spec: &ContainerSpec) -> Result<(), JobError> {
    context.runtime.prepare(spec).await.map_err(|error| JobError {
        fatal: error.kind == ErrorKind::InvalidImage,
        ..JobError::new(retry::IMAGE, error.to_string())
    })
}

/// Sets its flag when it is dropped, so that blocking work whose caller has gone away ends soon.
struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

async fn usage(context: &Context, id: ServerId, subject: &Subject) -> Result<(), JobError> {
    let (guard, layout) = (CancelOnDrop(Arc::default()), context.layout.clone());
    let cancelled = guard.0.clone();
    let scan = if *subject == Subject::DiskLimit { DiskScan::Watch } else { DiskScan::Awaited };
    let _turn = context.disk_scans.turn(scan).await;
    let counted = context.store.blocking().run(move || layout.usage(id, &cancelled)).await;
    let at = context.clock.now();
    let Err(error) = counted.as_ref() else {
        let bytes = counted.unwrap_or_default();
        context.with_server(id, |state| state.usage = Some(Usage { bytes, hidden: false, at }));
        return Ok(());
    };
    if !error.is_cancelled() {
        // A server must not get rid of its limit by making itself hard to count.
        context.with_server(id, |state| {
            let before = state.usage.map_or(0, |usage| usage.bytes);
            state.usage = Some(Usage { bytes: before.max(error.bytes), hidden: error.hides_something(), at });
        });
    }
    Err(JobError::new(retry::FILES, error.to_string()))
}

async fn permissions(context: &Context, id: ServerId) -> Result<(), JobError> {
    let (guard, layout) = (CancelOnDrop(Arc::default()), context.layout.clone());
    let cancelled = guard.0.clone();
    let _turn = context.disk_scans.turn(DiskScan::Awaited).await;
    context.store.blocking().run(move || layout.fix_ownership(id, &cancelled)).await?;
    Ok(())
}

async fn removal(context: &Context, id: ServerId) -> Result<(), JobError> {
    let layout = context.layout.clone();
    let _turn = context.disk_scans.turn(DiskScan::Removal).await;
    let remove_backups = context.node.remove_backups_on_server_delete;
    context.store.blocking().run(move || layout.remove_server(id, remove_backups)).await?;
    Ok(())
}

#[cfg(test)]
mod tests;
