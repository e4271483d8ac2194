//! Removes the archive of a backup that is no longer wanted, and its entry in the record.

use async_trait::async_trait;

use super::{BackgroundJob, JobError, JobRun, Subject};
use crate::model::{BackupStorage, Reason, Record};

/// The archive first: a crash in between leads to the same job again.
pub(super) struct RemoveBackup;

#[async_trait]
impl BackgroundJob for RemoveBackup {
    async fn run(&self, run: &JobRun) -> Result<(), JobError> {
        let Subject::Backup(backup) = run.subject else { return Ok(()) };
        let (id, context) = (run.server, &run.context);
        let layout = context.node.layout.clone();
        let remove = move || {
            // Of a process that has ended while it made the backup.
            layout.sweep_sources(id)?;
            layout.remove_backup(id, backup)
        };
        let removed = context.store.blocking().run(remove).await?;
        let forget = move |record: &mut Record| record.backups.retain(|known| known.id != backup);
        let storage = context.store.get(id).and_then(|found| found.record.backup(backup).map(|known| known.storage));
        context.store.run(move |store| store.commit(id, forget)).await?;
        // Of a backup in an object store only what was left here is removed.
        if removed && storage != Some(BackupStorage::S3) {
            let message = format!("the backup {backup} was removed");
            context.store.event(id, context.clock.now(), Reason::BackupRemoved, &message);
        }
        Ok(())
    }
}
