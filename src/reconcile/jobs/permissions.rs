//! Gives a server's files to their user.

use async_trait::async_trait;

use super::{BackgroundJob, JobError, JobRun};
use crate::reconcile::disk_scans::DiskScan;

/// Before a start.
pub(super) struct FixPermissions;

#[async_trait]
impl BackgroundJob for FixPermissions {
    async fn run(&self, run: &JobRun) -> Result<(), JobError> {
        let (id, layout) = (run.server, run.context.node.layout.clone());
        run.scan(DiskScan::Awaited, move |cancelled| layout.fix_ownership(id, cancelled)).await?;
        Ok(())
    }
}
