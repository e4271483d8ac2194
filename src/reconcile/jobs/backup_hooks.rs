//! Console commands around a backup (`spec.backup` of the manifest), and the end of its pause.
//!
//! The record has the container from the first command before a backup until those after it were carried out. So a daemon that ends in
//! between leaves a backup for which the planner starts [`ReleaseServer`].

use async_trait::async_trait;
use uuid::Uuid;

use super::{BackgroundJob, JobError, JobRun, Subject};
use crate::console::DoneMatcher;
use crate::events::{EventKind, Subscription};
use crate::model::settings::Startup;
use crate::model::{BackupHook, BackupHooks, Reason, Record, Role};
use crate::progress::Progress;
use crate::retry;
use crate::wait;

/// Carries out the commands after a backup that an earlier run has not.
pub(super) struct ReleaseServer;

#[async_trait]
impl BackgroundJob for ReleaseServer {
    async fn run(&self, run: &JobRun) -> Result<(), JobError> {
        let Subject::Backup(backup) = run.subject else { return Ok(()) };
        release(run, backup, &Progress::new()).await
    }
}

/// Does work between the commands before and after it.
///
/// # Errors
/// It cannot be recorded that the commands have begun. The work was not done then.
pub(super) async fn around<T>(
    run: &JobRun,
    backup: Uuid,
    progress: &Progress,
    work: impl Future<Output = T>,
) -> Result<T, JobError> {
    begin(run, backup, progress).await?;
    let done = work.await;
    if let Err(error) = release(run, backup, progress).await {
        // The planner starts the job that tries it again.
        note(run, &format!("backup {backup}: {}", error.message));
    }
    Ok(done)
}

/// The hooks of the manifest, if there are any.
fn hooks(run: &JobRun) -> Option<BackupHooks> {
    let snapshot = run.context.store.get(run.server)?;
    snapshot.manifest.as_ref()?.spec.backup.clone()
}

async fn begin(run: &JobRun, backup: Uuid, progress: &Progress) -> Result<(), JobError> {
    let Some(hooks) = hooks(run).filter(|hooks| *hooks != BackupHooks::default()) else { return Ok(()) };
    let Some(container) = run.context.console.attached(run.server) else { return Ok(()) };
    set_quieted(run, backup, Some(container)).await?;
    carry_out(run, &hooks.before, progress).await;
    Ok(())
}

async fn set_quieted(run: &JobRun, backup: Uuid, container: Option<String>) -> Result<(), JobError> {
    let server = run.server;
    let set = move |record: &mut Record| {
        if let Some(known) = record.backup_mut(backup) {
            known.quieted = container;
        }
    };
    run.context.store.run(move |store| store.commit(server, set)).await?;
    Ok(())
}

/// Where the server is that was asked to be quiet.
enum Found {
    /// Its console can be written to.
    Attached,
    /// It has ended since: another run of it is not quiet.
    Gone,
    Unknown,
}

async fn release(run: &JobRun, backup: Uuid, progress: &Progress) -> Result<(), JobError> {
    let server = run.server;
    // The last one of several backups releases the server.
    let leave = move |record: &mut Record| {
        let others = record.backups.iter().any(|known| known.id != backup && known.quieted.is_some());
        if let Some(known) = record.backup_mut(backup).filter(|_| others) {
            known.quieted = None;
        }
    };
    let is_quieted = |record: &Record| record.backup(backup).and_then(|known| known.quieted.clone());
    let known = run.context.store.get(server).and_then(|found| is_quieted(&found.record));
    if known.is_none() {
        return Ok(());
    }
    let snapshot = run.context.store.run(move |store| store.commit(server, leave)).await?;
    let Some(container) = is_quieted(&snapshot.record) else { return Ok(()) };
    // An earlier process may have ended while it was frozen.
    let thawed = run.context.runtime.freeze(&container, false).await;
    thawed.map_err(|error| JobError::new(retry::FILES, error.to_string()))?;
    match find(run, &container).await {
        Found::Attached => {
            carry_out(run, &hooks(run).unwrap_or_default().after, progress).await;
            set_quieted(run, backup, None).await
        }
        Found::Gone => set_quieted(run, backup, None).await,
        Found::Unknown => {
            let message = "the console of the server cannot be reached to carry out the commands after the backup";
            Err(JobError::new(retry::FILES, message))
        }
    }
}

async fn find(run: &JobRun, container: &str) -> Found {
    let (servers, console, id) = (&run.context.servers, &run.context.console, run.server);
    let found = || match console.attached(id) {
        Some(attached) if attached == container => Found::Attached,
        Some(_) => Found::Gone,
        None => match servers.cached(id, Role::Server) {
            Some(Some(status)) if status.id == container && status.running() => Found::Unknown,
            Some(_) => Found::Gone,
            None => Found::Unknown,
        },
    };
    servers.wait(id, wait::HOOKS_FOR_TERMINAL, || !matches!(found(), Found::Unknown)).await;
    found()
}

/// Sends the commands. What fails is an event, and the next one follows.
async fn carry_out(run: &JobRun, hooks: &[BackupHook], progress: &Progress) {
    for hook in hooks {
        if let Err(message) = send(run, hook, progress).await {
            note(run, &message);
        }
    }
}

async fn send(run: &JobRun, hook: &BackupHook, progress: &Progress) -> Result<(), String> {
    let (context, id, command) = (&run.context, run.server, &hook.command);
    // Before the command, so that its answer is not missed.
    let lines = context.store.events().subscribe(id);
    let sent = context.console.send_command(id, command).await;
    sent.map_err(|error| format!("the command {command:?} of spec.backup was not sent: {error}"))?;
    let Some(until) = &hook.until else { return Ok(()) };
    let startup = Startup { done: vec![until.clone()], strip_ansi: true };
    let matcher = DoneMatcher::new(id, &startup);
    tokio::select! {
        () = answer(lines, &matcher) => Ok(()),
        // A backup that is no longer wanted waits for nothing.
        () = progress.when_cancelled() => Ok(()),
        () = tokio::time::sleep(hook.timeout.0) => {
            let seconds = hook.timeout.0.as_secs();
            Err(format!("the server has not printed {until:?} within {seconds} s of the command {command:?} of spec.backup"))
        }
    }
}

/// Waits for a line that matches.
async fn answer(mut lines: Subscription, matcher: &DoneMatcher) {
    while let Some(event) = lines.recv().await {
        match &event.kind {
            EventKind::Console(output) if output.lines().any(|(_, line)| matcher.matches(&line)) => return,
            _ => {}
        }
    }
    // The server is deleted.
    std::future::pending().await
}

fn note(run: &JobRun, message: &str) {
    run.context.store.event(run.server, run.context.clock.now(), Reason::BackupHookFailed, message);
}
