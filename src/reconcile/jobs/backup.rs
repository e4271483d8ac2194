//! Makes a backup: the archive, then its upload where it goes to an object store.
//!
//! Each phase is entered again from what is on disk: an archive that is complete is used, one that is not is made again. Facts and
//! result are recorded by this job; the report to the panel follows from the record.

mod making;

use async_trait::async_trait;
use uuid::Uuid;

use super::{BackgroundJob, JobError, JobRun, Subject};
use crate::model::{Backup, BackupArchive, BackupResult, BackupSource, BackupStorage, Reason, Record, UploadedPart};
use crate::progress::Progress;
use making::Making;

/// A backup that the record has and that has no result.
pub(super) struct MakeBackup;

#[async_trait]
impl BackgroundJob for MakeBackup {
    async fn run(&self, run: &JobRun) -> Result<(), JobError> {
        let Subject::Backup(backup) = run.subject else { return Ok(()) };
        let operation = run.context.operations.begin(run.server, &run.subject);
        let progress = operation.progress().clone();
        let work = make(run, backup, &progress);
        tokio::pin!(work);
        tokio::select! {
            made = &mut work => made,
            () = run.when_unwanted(|record| record.backup(backup).is_none_or(|known| !known.is_pending())) => {
                progress.cancel();
                // Its blocking work has ended then, and leaves no file.
                let _ended = work.await;
                Ok(())
            }
        }
    }
}

async fn make(run: &JobRun, id: Uuid, progress: &Progress) -> Result<(), JobError> {
    let context = &run.context;
    let _permit = tokio::select! {
        permit = context.operations.permit_backup() => permit,
        () = progress.when_cancelled() => return Ok(()),
    };
    let Some(backup) = pending(run, id) else { return Ok(()) };
    let archive = match archive(run, &backup, progress).await {
        Ok(archive) => archive,
        Err(_) if progress.is_cancelled() => return Ok(()),
        Err(message) => return end(run, id, Err(message)).await,
    };
    match backup.storage {
        BackupStorage::Local => end(run, id, Ok((archive, Vec::new()))).await,
        BackupStorage::S3 => end(run, id, Err("not yet".to_owned())).await,
    }
}

/// The backup, while it is to be made.
fn pending(run: &JobRun, id: Uuid) -> Option<Backup> {
    let snapshot = run.context.store.get(run.server)?;
    snapshot.record.backup(id).filter(|backup| backup.is_pending()).cloned()
}

/// The archive as it is on disk, or a new one. Its facts are recorded.
async fn archive(run: &JobRun, backup: &Backup, progress: &Progress) -> Result<BackupArchive, String> {
    let (context, server, id) = (&run.context, run.server, backup.id);
    let making = Making::new(context, server, backup, progress);
    let archive = context.store.blocking().run(move || making.run()).await?;
    let facts = archive.clone();
    let record = move |record: &mut Record| {
        if let Some(known) = record.backup_mut(id) {
            known.archive = Some(facts);
        }
    };
    let recorded = context.store.run(move |store| store.commit(server, record)).await;
    recorded.map(|_| archive).map_err(|error| error.to_string())
}

/// Records the result, which the panel then gets. An archive that is not kept on the node is removed.
async fn end(
    run: &JobRun,
    id: Uuid,
    result: Result<(BackupArchive, Vec<UploadedPart>), String>,
) -> Result<(), JobError> {
    let (context, server) = (&run.context, run.server);
    let at = context.clock.now();
    let (reason, result) = match result {
        Ok((archive, parts)) => {
            let message = message(&archive);
            (Reason::BackupCompleted, BackupResult { succeeded: true, message, at, parts })
        }
        Err(message) => (Reason::BackupFailed, BackupResult { succeeded: false, message, at, parts: Vec::new() }),
    };
    let message = format!("backup {id}: {}", result.message);
    let record = move |record: &mut Record| {
        if let Some(known) = record.backup_mut(id).filter(|known| known.is_pending()) {
            known.result = Some(result);
        }
    };
    context.store.run(move |store| store.commit(server, record)).await?;
    context.store.event(server, at, reason, &message);
    Ok(())
}

/// What a backup has, for people.
fn message(archive: &BackupArchive) -> String {
    let source = match archive.source {
        BackupSource::BtrfsSnapshot | BackupSource::ZfsSnapshot => "of a snapshot",
        BackupSource::Reflink => "of a copy that shares its blocks",
        BackupSource::Live => "of the live files",
    };
    let mut message = format!("{} bytes, {source}", archive.bytes);
    if archive.changed_count > 0 {
        let names = archive.changed.join(", ");
        message += &format!("; {} files changed while they were read: {names}", archive.changed_count);
    }
    message
}
