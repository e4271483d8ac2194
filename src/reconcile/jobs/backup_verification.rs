//! Reads the archive of a backup to its end, and compares it with what the record has of it. The record gets what was found.

use async_trait::async_trait;
use uuid::Uuid;

use super::{BackgroundJob, JobError, JobRun, Subject};
use crate::archive::backup::{self, Hashes};
use crate::files::{Background, Layout};
use crate::model::{Backup, BackupVerification, Reason, Record, ServerId};
use crate::progress::Progress;
use crate::reconcile::operations::RunningOperations;
use crate::retry;

/// A backup that the record wants to be verified.
pub(super) struct VerifyBackup;

#[async_trait]
impl BackgroundJob for VerifyBackup {
    async fn run(&self, run: &JobRun) -> Result<(), JobError> {
        let Subject::Backup(id) = run.subject else { return Ok(()) };
        let operation = run.context.operations.begin(run.server, &run.subject);
        let progress = operation.progress().clone();
        let work = verify(run, id, &progress);
        tokio::pin!(work);
        tokio::select! {
            verified = &mut work => verified,
            () = run.when_unwanted(|record| !record.backup(id).is_some_and(is_wanted)) => {
                progress.cancel();
                // Its blocking work has ended then.
                let _ended = work.await;
                Ok(())
            }
        }
    }
}

fn is_wanted(backup: &Backup) -> bool {
    backup.verifying && !backup.deleting
}

async fn verify(run: &JobRun, id: Uuid, progress: &Progress) -> Result<(), JobError> {
    let (context, server) = (&run.context, run.server);
    let _permit = tokio::select! {
        permit = context.operations.permit_backup() => permit,
        () = progress.when_cancelled() => return Ok(()),
    };
    let known = context.store.get(server).and_then(|found| found.record.backup(id).cloned());
    let Some(known) = known.filter(is_wanted) else { return Ok(()) };
    let (layout, to_count, context_of_work) = (context.node.layout.clone(), progress.clone(), context.clone());
    let work = move || read(&layout, server, &known, &context_of_work.operations, &to_count);
    let found = context.store.blocking().run(work).await;
    if progress.is_cancelled() {
        return Ok(());
    }
    let found = found.map_err(|error| JobError::new(retry::FILES, error))?;
    record(run, id, found).await
}

/// What is found: how many bytes are good, or what is wrong.
///
/// # Errors
/// Nothing is known, since the disk cannot be read now.
fn read(
    layout: &Layout,
    server: ServerId,
    known: &Backup,
    operations: &RunningOperations,
    progress: &Progress,
) -> Result<Result<String, String>, String> {
    let opened = layout.open_backup(server, known.id).map_err(|error| error.to_string())?;
    let Some((file, entry)) = opened else {
        return Ok(Err("its archive is gone".to_owned()));
    };
    progress.set_total(entry.size);
    let _background = Background::begin();
    let pace = operations.pace();
    let hashes = Hashes { sha1: true, sha256: false };
    Ok(match backup::verify(file, hashes, Some(&pace), progress) {
        Err(error) => Err(format!("its archive cannot be read: {error}")),
        Ok(contents) => {
            let expected = known.archive.as_ref().map(|archive| archive.sha1.as_str()).unwrap_or_default();
            let found = contents.digests.sha1.unwrap_or_default();
            match expected.is_empty() || expected == found {
                true => Ok(format!("{} bytes, {} files", contents.bytes, contents.files)),
                false => Err(format!("its archive has been changed: its SHA-1 is {found}, not {expected}")),
            }
        }
    })
}

async fn record(run: &JobRun, id: Uuid, found: Result<String, String>) -> Result<(), JobError> {
    let (context, server, at) = (&run.context, run.server, run.context.clock.now());
    let (ok, message) = match found {
        Ok(message) => (true, message),
        Err(message) => (false, message),
    };
    let (reason, text) = match ok {
        true => (Reason::BackupVerified, format!("the backup {id} is intact: {message}")),
        false => (Reason::BackupDamaged, format!("the backup {id} is damaged: {message}")),
    };
    let note = move |record: &mut Record| {
        if let Some(known) = record.backup_mut(id) {
            known.verifying = false;
            known.verified = Some(BackupVerification { at, ok, message });
        }
    };
    context.store.run(move |store| store.commit(server, note)).await?;
    context.store.event(server, at, reason, &text);
    Ok(())
}
