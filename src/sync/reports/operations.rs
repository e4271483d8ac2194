//! Reports of backups and restores. Each result stays in the record until the panel has acknowledged or rejected it.

use uuid::Uuid;

use super::ReportError;
use crate::events::{BackupEnd, EventKind};
use crate::model::{Backup, BackupStorage, Reason, Record, ServerId};
use crate::panel::{BackupReport, COMMIT_TIME, PanelError};
use crate::sync::PanelSync;

/// What the panel has made of a report.
enum Answer {
    Acknowledged,
    /// The panel itself has rejected it with this status.
    Rejected(u16),
    /// The panel has no such backup.
    Unknown,
}

impl PanelSync {
    /// Reports the result of a backup. An archive whose backup the panel does not know is removed. Returns the event for browsers.
    ///
    /// # Errors
    /// The panel has neither acknowledged nor rejected it.
    pub async fn report_backup(&self, id: ServerId, backup: Uuid) -> Result<Option<EventKind>, ReportError> {
        let Some(snapshot) = self.store.get(id) else { return Ok(None) };
        let Some(known) = snapshot.record.backup(backup).filter(|known| known.is_unreported()) else {
            return Ok(None);
        };
        let report = report(known);
        let answer = self.panel.report_backup(backup, &report).await.map(drop);
        let answer = self.answer(id, known.at + COMMIT_TIME, answer)?;
        let unknown = matches!(answer, Answer::Unknown);
        // As in Wings, users do not learn of a success that the panel has refused. One of 400 it has already.
        let refused = unknown || (report.successful && matches!(answer, Answer::Rejected(status) if status != 400));
        if unknown {
            let message = format!("the panel no longer knows the backup {backup}: it is removed");
            self.store.event(id, self.clock.now(), Reason::OperationReportRejected, &message);
        }
        let acknowledged = move |record: &mut Record| {
            if let Some(known) = record.backup_mut(backup) {
                // Of one in an object store nothing stays here.
                let deleting = unknown || known.storage == BackupStorage::S3;
                (known.reported, known.deleting) = (true, known.deleting || deleting);
            }
        };
        self.store.run(move |store| store.commit(id, acknowledged)).await?;
        self.store.wake(id);
        let BackupReport { checksum, size, successful, .. } = report;
        let end =
            BackupEnd { checksum, checksum_type: "sha1", file_size: size, is_successful: successful, uuid: backup };
        Ok((!refused).then_some(EventKind::BackupCompleted(end)))
    }

    /// Reports the result of a restore, by its token. As [`report_backup`](Self::report_backup).
    ///
    /// # Errors
    /// The panel has neither acknowledged nor rejected it.
    pub async fn report_restore(&self, id: ServerId, token: Uuid) -> Result<Option<EventKind>, ReportError> {
        let Some(snapshot) = self.store.get(id) else { return Ok(None) };
        let restore = snapshot.record.unreported_restores().find(|restore| restore.token == token);
        let Some((restore, result)) = restore.and_then(|restore| Some((restore, restore.result.as_ref()?))) else {
            return Ok(None);
        };
        let answer = self.panel.report_restore(restore.backup, result.succeeded).await;
        self.answer(id, restore.at + COMMIT_TIME, answer)?;
        let acknowledged = move |record: &mut Record| record.restore_reported(token);
        self.store.run(move |store| store.commit(id, acknowledged)).await?;
        Ok(Some(EventKind::RestoreCompleted))
    }

    /// A rejection is an answer: another attempt would not change it.
    fn answer(
        &self,
        id: ServerId,
        visible: crate::model::Timestamp,
        answer: Result<(), PanelError>,
    ) -> Result<Answer, ReportError> {
        match answer {
            Ok(()) => Ok(Answer::Acknowledged),
            Err(error) if error.is_unknown() && self.clock.now() < visible => Err(ReportError::TooEarly(error)),
            Err(error) if error.is_unknown() => Ok(Answer::Unknown),
            Err(ref error @ PanelError::Rejected { status, .. }) => {
                self.store.event(id, self.clock.now(), Reason::OperationReportRejected, &error.to_string());
                Ok(Answer::Rejected(status))
            }
            Err(error) => Err(error.into()),
        }
    }
}

fn report(backup: &Backup) -> BackupReport {
    let succeeded = backup.result.as_ref().filter(|result| result.succeeded);
    match succeeded.zip(backup.archive.as_ref()) {
        Some((result, archive)) => {
            let parts = (!result.parts.is_empty()).then(|| result.parts.clone());
            BackupReport::success(&archive.sha1, archive.bytes, parts)
        }
        None => BackupReport::failure(),
    }
}
