//! Restores a backup, and removes the files that it has replaced once nobody can miss them.
//!
//! The archive is unpacked beside the server's files and verified; one exchange makes it the server's files. A job that runs again
//! asks the disk how far the one before it was. The planner has stopped the server.

mod unpacking;

use async_trait::async_trait;
use uuid::Uuid;

use super::{BackgroundJob, JobError, JobRun, Subject, announced};
use crate::events::EventKind;
use crate::model::{BackupStorage, FormerFiles, Reason, Record, Requester, Restore, RestoreFrom, RestoreResult, Verb};
use crate::progress::Progress;
use crate::requests::NewRequest;
use crate::retry;
use unpacking::Unpacking;

/// The restore that the record has and that has no result.
pub(super) struct RestoreBackup;

#[async_trait]
impl BackgroundJob for RestoreBackup {
    async fn run(&self, run: &JobRun) -> Result<(), JobError> {
        let Subject::Restore(token) = run.subject else { return Ok(()) };
        let Some(restore) = pending(run, token) else { return Ok(()) };
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
            restored => end(run, &restore, restored).await,
        }
    }
}

fn pending(run: &JobRun, token: Uuid) -> Option<Restore> {
    let snapshot = run.context.store.get(run.server)?;
    snapshot.record.pending_restore().filter(|restore| restore.token == token).cloned()
}

/// Makes the files of the archive those of the server. Returns a summary for people.
async fn restore_files(run: &JobRun, restore: &Restore, progress: &Progress) -> Result<String, String> {
    let (context, server, token) = (&run.context, run.server, restore.token);
    let blocking = context.store.blocking();
    let message = format!("backup {}: its restore begins", restore.backup);
    context.store.event(server, context.clock.now(), Reason::Restoring, &message);
    if let RestoreFrom::Former { restore: former, back } = restore.from {
        return undo(run, former, back).await;
    }
    let unpacking = Unpacking::new(context, server, restore, progress)?;
    let restored = unpacking.run().await?;
    let layout = context.node.layout.clone();
    let exchanged = blocking.run(move || layout.exchange_replacement(server, token)).await;
    exchanged.map_err(|error| error.to_string())?;
    // The next writer measures what is there now.
    context.accounts.not_measured(server);
    Ok(restored)
}

/// Exchanges the files that a restore has replaced, and those that it has brought.
async fn undo(run: &JobRun, former: Uuid, back: bool) -> Result<String, String> {
    let (context, server) = (&run.context, run.server);
    let layout = context.node.layout.clone();
    let exchange = move || match back {
        true => layout.undo_replacement(server, former),
        false => layout.exchange_replacement(server, former),
    };
    context.store.blocking().run(exchange).await.map_err(|error| error.to_string())?;
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
        let layout = context.node.layout.clone();
        let swept = context.store.blocking().run(move || layout.sweep_replacement(server, None)).await;
        swept.map_err(|error| JobError::new(retry::FILES, error.to_string()))?;
    }
    if restore.then_start {
        let id = format!("restore:{token}");
        let start = NewRequest { id, at, expires_at: None, timeout: None, by: Requester::Cli, verb: Verb::Start };
        context.store.run(move |store| store.request(server, None, [start])).await?;
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
    Ok(())
}

/// The files that the latest restore has replaced.
pub(super) struct RemoveFormerFiles;

#[async_trait]
impl BackgroundJob for RemoveFormerFiles {
    async fn run(&self, run: &JobRun) -> Result<(), JobError> {
        let Subject::Restore(token) = run.subject else { return Ok(()) };
        let (context, server) = (&run.context, run.server);
        let layout = context.node.layout.clone();
        let removed = context.store.blocking().run(move || layout.remove_former(server)).await;
        removed.map_err(|error| JobError::new(retry::FILES, error.to_string()))?;
        let forget = move |record: &mut Record| {
            record.former_files.take_if(|former| former.restore == token);
        };
        context.store.run(move |store| store.commit(server, forget)).await?;
        Ok(())
    }
}
