//! Counts the bytes of a server's files.

use async_trait::async_trait;

use super::{BackgroundJob, CancelOnDrop, JobError, JobOutput, JobRun, Subject};
use crate::reconcile::disk_scans::DiskScan;
use crate::reconcile::observed::Usage;
use crate::retry;

/// Before a start, or while the server runs.
pub(super) struct MeasureUsage;

#[async_trait]
impl BackgroundJob for MeasureUsage {
    async fn run(&self, run: &JobRun) -> Result<JobOutput, JobError> {
        let JobRun { context, server, subject } = run;
        let (id, layout, guard) = (*server, context.node.layout.clone(), CancelOnDrop::default());
        let cancelled = guard.0.clone();
        let scan = if *subject == Subject::DiskLimit { DiskScan::Watch } else { DiskScan::Awaited };
        let _permit = context.disk_scans.permit(scan).await;
        let counted = context.store.blocking().run(move || layout.usage(id, &cancelled)).await;
        let at = context.clock.now();
        let error = match counted {
            Ok(bytes) => return Ok(JobOutput::Usage(Usage { bytes, hidden: false, at })),
            Err(error) => error,
        };
        let output = if error.is_cancelled() {
            JobOutput::Nothing
        } else {
            // A server must not evade its limit by making its files hard to count.
            let before = context.servers.used_bytes(id);
            JobOutput::Usage(Usage { bytes: before.max(error.bytes), hidden: error.hides_something(), at })
        };
        Err(JobError { output, ..JobError::new(retry::FILES, error.to_string()) })
    }
}
