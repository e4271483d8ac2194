//! Makes a backup: the archive, then its upload where it goes to an object store.
//!
//! Each phase is entered again from what is on disk: an archive that is complete is used, one that is not is made again. Archive and
//! result are recorded by this job; the report to the panel follows from the record.

mod making;
mod upload;

use async_trait::async_trait;
use uuid::Uuid;

use super::{BackgroundJob, JobError, JobRun, Subject, announced, backup_hooks};
use crate::model::{Backup, BackupArchive, BackupResult, BackupSource, BackupStorage, Reason, Record, UploadedPart};
use crate::progress::Progress;
use crate::reconcile::context::Context;
use crate::reconcile::file_locks::FilesLock;
use crate::schedule::BackupSchedule;
use crate::schedule::retention::surplus;
use making::{Making, NotMade};

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
            never = announced::announce(run, format!("backup {backup}"), &progress) => match never {},
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
    if backup.archive.is_none() {
        let message = format!("backup {id}: it is being made");
        context.store.event(run.server, context.clock.now(), Reason::BackingUp, &message);
    }
    let made = match backup.storage {
        BackupStorage::Local => archive(run, &backup, progress).await.map(|archive| (archive, Vec::new())),
        BackupStorage::S3 => upload::make_and_upload(run, &backup, progress).await,
    };
    match made {
        Err(_) if progress.is_cancelled() => Ok(()),
        Err(Failed::Later(error)) => Err(error),
        Err(Failed::Ended(message) | Failed::NoSpace { message, .. }) => end(run, &backup, Err(message)).await,
        Ok(made) => end(run, &backup, Ok(made)).await,
    }
}

/// Why a backup was not made.
enum Failed {
    /// It is tried again.
    Later(JobError),
    /// The disk has no room for the archive, which may have so many bytes.
    NoSpace { needed: u64, message: String },
    /// The panel gets this as its end.
    Ended(String),
}

impl From<JobError> for Failed {
    fn from(error: JobError) -> Self {
        Self::Later(error)
    }
}

impl From<NotMade> for Failed {
    fn from(error: NotMade) -> Self {
        let message = error.to_string();
        match error {
            NotMade::NoSpace { needed, .. } => Self::NoSpace { needed, message },
            _ => Self::Ended(message),
        }
    }
}

/// The backup, while it is to be made.
fn pending(run: &JobRun, id: Uuid) -> Option<Backup> {
    let snapshot = run.context.store.get(run.server)?;
    snapshot.record.backup(id).filter(|backup| backup.is_pending()).cloned()
}

/// The archive as it is on disk, or a new one.
async fn archive(run: &JobRun, backup: &Backup, progress: &Progress) -> Result<BackupArchive, Failed> {
    let context = &run.context;
    let making = Making::new(context, run.server, backup, progress);
    let archive = match &backup.archive {
        Some(archive) if context.node.layout.backup_archive(run.server, backup.id).exists() => archive.clone(),
        _ => {
            let files = reading(run, progress).await?;
            let make = move || {
                let _files = files;
                making.run()
            };
            let work = context.store.blocking().run(make);
            backup_hooks::around(run, backup.id, progress, work).await??
        }
    };
    record_archive(run, backup.id, &archive).await?;
    Ok(archive)
}

/// Waits for the files, which a restore may be replacing.
async fn reading(run: &JobRun, progress: &Progress) -> Result<FilesLock, Failed> {
    tokio::select! {
        files = run.context.operations.files().shared(run.server) => Ok(files),
        () = progress.when_cancelled() => Err(Failed::Ended("it was cancelled".to_owned())),
    }
}

async fn record_archive(run: &JobRun, id: Uuid, archive: &BackupArchive) -> Result<(), Failed> {
    let (server, archive) = (run.server, archive.clone());
    let record = move |record: &mut Record| {
        if let Some(known) = record.backup_mut(id) {
            known.archive = Some(archive);
        }
    };
    let recorded = run.context.store.run(move |store| store.commit(server, record)).await;
    recorded.map(drop).map_err(|error| Failed::Later(error.into()))
}

/// Records the result, which the panel then gets.
async fn end(
    run: &JobRun,
    backup: &Backup,
    result: Result<(BackupArchive, Vec<UploadedPart>), String>,
) -> Result<(), JobError> {
    let (context, server, id, storage) = (&run.context, run.server, backup.id, backup.storage);
    let at = context.clock.now();
    let (reason, result) = match result {
        Ok((archive, parts)) => {
            let message = message(&archive);
            (Reason::BackupCompleted, BackupResult { succeeded: true, message, at, parts })
        }
        Err(message) => (Reason::BackupFailed, BackupResult { succeeded: false, message, at, parts: Vec::new() }),
    };
    let message = format!("backup {id}: {}", result.message);
    let schedule = backup.schedule.as_ref().and_then(|name| schedule(context, name));
    let record = move |record: &mut Record| {
        if let Some(known) = record.backup_mut(id).filter(|known| known.is_pending()) {
            known.result = Some(result);
        }
        schedule.iter().for_each(|schedule| prune(record, schedule));
    };
    context.store.run(move |store| store.commit(server, record)).await?;
    context.store.event(server, at, reason, &message);
    if storage == BackupStorage::S3 {
        // What cannot be removed now is removed when the panel has acknowledged the result.
        let layout = context.node.layout.clone();
        let removed = context.store.blocking().run(move || layout.remove_uploaded(server, id)).await;
        removed.unwrap_or_else(|error| tracing::warn!(server.id = %server, backup.id = %id, "{error}"));
    }
    Ok(())
}

fn schedule(context: &Context, name: &str) -> Option<BackupSchedule> {
    context.node.config.live.get().backup_schedules.iter().find(|schedule| schedule.name == name).cloned()
}

/// Gives the backups up that a schedule no longer keeps.
fn prune(record: &mut Record, schedule: &BackupSchedule) {
    let in_use = record.pending_restore().map(|restore| restore.backup);
    let surplus = surplus(schedule.keep, &schedule.name, &record.backups, in_use, schedule.times.zone());
    let surplus = record.backups.iter_mut().filter(|backup| surplus.contains(&backup.id));
    surplus.for_each(|backup| backup.deleting = true);
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
