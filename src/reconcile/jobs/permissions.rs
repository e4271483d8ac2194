//! Gives a server's files to their user.

use async_trait::async_trait;

use super::{BackgroundJob, CancelOnDrop, JobError, JobRun};
use crate::reconcile::disk_scans::DiskScan;

/// Before a start.
pub(super) struct FixPermissions;

#[async_trait]
impl BackgroundJob for FixPermissions {
    async fn run(&self, run: &JobRun) -> Result<(), JobError> {
        let (id, context, guard) = (run.server, &run.context, CancelOnDrop::default());
        let (layout, cancelled) = (context.node.layout.clone(), guard.0.clone());
        let _permit = context.disk_scans.permit(DiskScan::Awaited).await;
        context.store.blocking().run(move || layout.fix_ownership(id, &cancelled)).await?;
        Ok(())
    }
}
