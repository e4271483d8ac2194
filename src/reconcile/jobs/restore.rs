//! Restores a backup, and removes the files that it has replaced after a while.
//!
//! The archive is unpacked beside the server's files and verified; one exchange makes it the server's files. A job that runs again
//! asks the disk how far the one before it was. The planner has stopped the server.

mod unpacking;

use async_trait::async_trait;
use uuid::Uuid;

use super::{BackgroundJob, JobError, JobRun, Subject, announced};
use crate::events::EventKind;
use crate::files::Layout;
use crate::files::replacement::{Phase, ReplacementError};
use crate::model::{
    BackupStorage, FormerFiles, Reason, Record, Requester, Restore, RestoreFrom, RestoreResult, ServerId,
};
use crate::progress::Progress;
use crate::reconcile::file_locks::FilesLock;
use crate::retry;
use unpacking::Unpacking;

/// The restore that the record has and that has no result.
pub(super) struct RestoreBackup;

#[async_trait]
impl BackgroundJob for RestoreBackup {
    async fn run(&self, run: &JobRun) -> Result<(), JobError> {
        let Subject::Restore(token) = run.subject else { return Ok(()) };
        let Some(restore) = unfinished(run, token) else { return Ok(()) };
        if restore.result.is_some() {
            return start_again(run, token).await;
        }
        let operation = run.context.operations.begin(run.server, &run.subject);
        let progress = operation.progress().clone();
        let title = format!("restore of the backup {}", restore.backup);
        let work = restore_files(run, &restore, &progress);
        tokio::pin!(work);
        let restored = tokio::select! {
            restored = &mut work => restored,
            never = announced::announce(run, title, &progress) => match never {},
            () = run.when_unwanted(|record| record.pending_restore().is_none_or(|pending| pending.token != token)) => {
                progress.cancel();
                // Its blocking work has ended then.
                let _ended = work.await;
                return Ok(());
            }
        };
        match restored {
            // The daemon ends: the next one continues.
            Err(_) if progress.is_cancelled() => Ok(()),
            Err(Failed::Later(error)) => Err(error),
            Err(Failed::Ended(message)) => end(run, &restore, Err(message)).await,
            Ok(summary) => end(run, &restore, Ok(summary)).await,
        }
    }
}

/// The restore, if it is pending, or the server is still to be started after it.
fn unfinished(run: &JobRun, token: Uuid) -> Option<Restore> {
    let snapshot = run.context.store.get(run.server)?;
    let restore = snapshot.record.restore.as_ref().filter(|restore| restore.token == token);
    restore.filter(|restore| restore.result.is_none() || restore.then_start).cloned()
}

/// Why the files of an archive are not those of the server.
enum Failed {
    /// The files may be partly exchanged, so this goes on until they are.
    Later(JobError),
    /// The server's files are as they were. The panel gets this as the end.
    Ended(String),
}

impl From<String> for Failed {
    fn from(message: String) -> Self {
        Self::Ended(message)
    }
}

/// Makes the files of the archive those of the server. Returns a summary for people.
async fn restore_files(run: &JobRun, restore: &Restore, progress: &Progress) -> Result<String, Failed> {
    let (context, server, token) = (&run.context, run.server, restore.token);
    let blocking = context.store.blocking();
    let message = format!("backup {}: its restore begins", restore.backup);
    context.store.event(server, context.clock.now(), Reason::Restoring, &message);
    // A backup that reads the files ends first.
    let files = tokio::select! {
        files = context.operations.files().exclusive(server) => files,
        () = progress.when_cancelled() => return Err(Failed::Ended("it was cancelled".to_owned())),
    };
    if let RestoreFrom::Former { restore: former, back } = restore.from {
        return undo(run, former, back, files).await;
    }
    let unpacking = Unpacking::new(context, server, restore, progress, files.clone())?;
    let restored = unpacking.run().await?;
    let layout = context.node.layout.clone();
    let exchange = move || {
        let _files = files;
        layout.exchange_replacement(server, token).map_err(|error| failed(&layout, server, token, &error))
    };
    let exchanged = blocking.run(exchange).await;
    // The next writer measures what is there now.
    context.accounts.not_measured(server);
    exchanged.map(|()| restored)
}

/// What an exchange that has failed has left.
fn failed(layout: &Layout, server: ServerId, token: Uuid, error: &ReplacementError) -> Failed {
    match layout.replacement(server, token) {
        Ok(found) if found.is_none_or(|found| !matches!(found.phase, Phase::Exchanging | Phase::Undoing)) => {
            Failed::Ended(error.to_string())
        }
        _ => Failed::Later(JobError::new(retry::FILES, error.to_string())),
    }
}

/// Exchanges the files that a restore has replaced, and those that it has brought.
async fn undo(run: &JobRun, former: Uuid, back: bool, files: FilesLock) -> Result<String, Failed> {
    let (context, server) = (&run.context, run.server);
    let layout = context.node.layout.clone();
    let exchange = move || {
        let _files = files;
        let exchanged = match back {
            true => layout.undo_replacement(server, former),
            false => layout.exchange_replacement(server, former),
        };
        exchanged.map_err(|error| failed(&layout, server, former, &error))
    };
    context.store.blocking().run(exchange).await?;
    context.accounts.not_measured(server);
    Ok(match back {
        true => "the files from before the restore are back".to_owned(),
        false => "the files of the restore are back".to_owned(),
    })
}

/// Records the result, which the panel then gets.
async fn end(run: &JobRun, restore: &Restore, restored: Result<String, String>) -> Result<(), JobError> {
    let (context, server, token) = (&run.context, run.server, restore.token);
    let at = context.clock.now();
    let succeeded = restored.is_ok();
    let message = restored.unwrap_or_else(|message| message);
    if !succeeded {
        let (layout, files) = (context.node.layout.clone(), context.operations.files().exclusive(server).await);
        let sweep = move || {
            let _files = files;
            layout.sweep_replacement(server, None)
        };
        let swept = context.store.blocking().run(sweep).await;
        swept.map_err(|error| JobError::new(retry::FILES, error.to_string()))?;
    }
    let text = format!("backup {}: {message}", restore.backup);
    let result = RestoreResult { succeeded, message, at };
    let record = move |record: &mut Record| {
        if let Some(restore) = record.restore.as_mut().filter(|restore| restore.token == token) {
            restore.result = Some(result);
            let former = match restore.from {
                RestoreFrom::Former { restore, back } => FormerFiles { restore, at, removing: false, undone: back },
                _ => FormerFiles { restore: token, at, removing: false, undone: false },
            };
            if succeeded {
                record.former_files = Some(former);
            }
        }
    };
    context.store.run(move |store| store.commit(server, record)).await?;
    let reason = match (succeeded, restore.is_undo()) {
        (true, true) => Reason::RestoreUndone,
        (true, false) => Reason::RestoreCompleted,
        (false, _) => Reason::RestoreFailed,
    };
    context.store.event(server, at, reason, &text);
    let notice = match restore.from.storage() {
        _ if restore.is_undo() => "Completed the undoing of a restore.",
        BackupStorage::Local => "Completed server restoration from local backup.",
        BackupStorage::S3 => "Completed server restoration from S3 backup.",
    };
    let notice = if succeeded { notice.to_owned() } else { format!("The backup was not restored: {text}") };
    context.store.events().publish_output(server, || EventKind::Notice(notice.into()));
    if restore.reported {
        context.store.events().publish_output(server, || EventKind::RestoreCompleted);
    }
    if restore.then_start { start_again(run, token).await } else { Ok(()) }
}

/// Requests the start of a server that has run before the restore. After its end, since a pending restore completes such a request.
async fn start_again(run: &JobRun, token: Uuid) -> Result<(), JobError> {
    run.request_start(format!("restore:{token}"), Requester::Cli).await?;
    let (context, server) = (&run.context, run.server);
    let started = move |record: &mut Record| {
        if let Some(restore) = record.restore.as_mut().filter(|restore| restore.token == token) {
            restore.then_start = false;
        }
    };
    context.store.run(move |store| store.commit(server, started)).await?;
    Ok(())
}

/// The files that the latest restore has replaced.
pub(super) struct RemoveFormerFiles;

#[async_trait]
impl BackgroundJob for RemoveFormerFiles {
    async fn run(&self, run: &JobRun) -> Result<(), JobError> {
        let Subject::Restore(token) = run.subject else { return Ok(()) };
        let (context, server) = (&run.context, run.server);
        let files = context.operations.files().exclusive(server).await;
        let found = context.store.get(server).and_then(|found| found.record.former_files.clone());
        if found.is_none_or(|former| former.restore != token) {
            // A later restore has replaced them meanwhile.
            return Ok(());
        }
        let layout = context.node.layout.clone();
        let remove = move || {
            let _files = files;
            layout.remove_former(server)
        };
        let removed = context.store.blocking().run(remove).await;
        removed.map_err(|error| JobError::new(retry::FILES, error.to_string()))?;
        let forget = move |record: &mut Record| {
            record.former_files.take_if(|former| former.restore == token);
        };
        context.store.run(move |store| store.commit(server, forget)).await?;
        Ok(())
    }
}
