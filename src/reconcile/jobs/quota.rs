//! Puts a server's files under a project quota of their file system.

use async_trait::async_trait;

use super::{BackgroundJob, JobError, JobRun};
use crate::reconcile::disk_scans::DiskScan;
use crate::retry;

/// All files once, and the limit each time that it changes.
pub(super) struct AssignQuota;

#[async_trait]
impl BackgroundJob for AssignQuota {
    async fn run(&self, run: &JobRun) -> Result<(), JobError> {
        let (id, layout) = (run.server, run.context.node.layout.clone());
        let manifest = run.context.store.get(id).and_then(|snapshot| snapshot.manifest.clone());
        let manifest = manifest.ok_or_else(|| JobError::new(retry::FILES, "the server has no valid manifest"))?;
        let settings = &manifest.spec.settings;
        let (number, limit) = (settings.id, settings.build.disk_limit());
        run.scan(DiskScan::Awaited, move |cancelled| layout.assign_quota(id, number, limit, cancelled)).await?;
        Ok(())
    }
}
