//! Counts the bytes of a server's files.

use async_trait::async_trait;
use tokio::time::Instant;

use super::{BackgroundJob, JobError, JobRun, Subject};
use crate::reconcile::disk_scans::DiskScan;
use crate::reconcile::observed::Usage;
use crate::retry;

/// Before a start, or while the server runs.
pub(super) struct MeasureUsage;

#[async_trait]
impl BackgroundJob for MeasureUsage {
    async fn run(&self, run: &JobRun) -> Result<(), JobError> {
        let JobRun { context, server, subject } = run;
        let (id, layout) = (*server, context.node.layout.clone());
        let scan = if *subject == Subject::DiskLimit { DiskScan::Watch } else { DiskScan::Awaited };
        let counted = run.scan(scan, move |cancelled| layout.usage(id, cancelled)).await;
        let at = Instant::now();
        match &counted {
            Ok(bytes) => context.servers.usage_counted(id, Usage { bytes: *bytes, hidden: false, at }),
            Err(error) if error.is_cancelled() => {}
            Err(error) => {
                // A server must not evade its limit by making its files hard to count.
                let bytes = context.servers.used_bytes(id).max(error.bytes);
                context.servers.usage_counted(id, Usage { bytes, hidden: error.hides_something(), at });
            }
        }
        counted.map(drop).map_err(|error| JobError::new(retry::FILES, error.to_string()))
    }
}
