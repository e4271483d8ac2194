//! Reports the end of a backup, restore or transfer to the panel: see [`PanelSync::report_backup`](crate::sync::PanelSync::report_backup).

use async_trait::async_trait;

use super::{BackgroundJob, JobError, JobRun, Subject};

/// One result, until the panel has acknowledged or rejected it. Browsers learn of it then, since they ask the panel.
pub(super) struct ReportOperation;

#[async_trait]
impl BackgroundJob for ReportOperation {
    async fn run(&self, run: &JobRun) -> Result<(), JobError> {
        let (context, id, sync) = (&run.context, run.server, run.sync()?);
        let reported = match &run.subject {
            Subject::Backup(backup) => sync.report_backup(id, *backup).await,
            Subject::Restore(token) => sync.report_restore(id, *token).await,
            Subject::Transfer(token) => return Ok(sync.report_transfer(id, *token).await?),
            _ => return Ok(()),
        };
        if let Some(event) = reported? {
            context.store.events().publish_output(id, || event);
        }
        Ok(())
    }
}
