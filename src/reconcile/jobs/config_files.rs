//! Writes the egg's values into the server's configuration files.

use std::sync::atomic::AtomicBool;

use async_trait::async_trait;

use super::{BackgroundJob, JobError, JobRun};
use crate::egg_files::FileWarning;
use crate::model::Reason;
use crate::reconcile::disk_scans::DiskScan;

/// Before a start.
pub(super) struct WriteConfigFiles;

#[async_trait]
impl BackgroundJob for WriteConfigFiles {
    /// A file that cannot be updated stays as it is, and the server starts: what its owner has written must not keep it offline.
    async fn run(&self, run: &JobRun) -> Result<(), JobError> {
        let (id, context) = (run.server, &run.context);
        let Some(files) = context.egg_files(id) else { return Ok(()) };
        // A job that was replaced may still write its last file.
        let alone = context.servers.config_files(id).lock_owned().await;
        let write = move |cancelled: &AtomicBool| {
            let _alone = alone;
            files.write(cancelled)
        };
        let warnings = run.scan(DiskScan::Awaited, write).await;
        for FileWarning { path, message } in warnings {
            tracing::warn!(file = ?path, error = message, "cannot update a configuration file");
            let text = format!("configuration file {path:?}: {message}");
            context.console.announce(id, &text);
            context.store.event(id, context.clock.now(), Reason::ConfigFileSkipped, &text);
        }
        Ok(())
    }
}
