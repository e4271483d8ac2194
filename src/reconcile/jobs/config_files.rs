//! Writes the egg's values into the server's configuration files.

use async_trait::async_trait;

use super::{BackgroundJob, CancelOnDrop, JobError, JobRun};
use crate::egg_files::FileWarning;
use crate::model::Reason;
use crate::reconcile::disk_scans::DiskScan;

/// Before a start.
pub(super) struct WriteConfigFiles;

#[async_trait]
impl BackgroundJob for WriteConfigFiles {
    /// A file that cannot be updated stays as it is, and the server starts: what its owner has written must not keep it offline.
    async fn run(&self, run: &JobRun) -> Result<(), JobError> {
        let (id, context, guard) = (run.server, &run.context, CancelOnDrop::default());
        let Some(files) = context.egg_files(id) else { return Ok(()) };
        let cancelled = guard.0.clone();
        let _permit = context.disk_scans.permit(DiskScan::Awaited).await;
        let warnings = context.store.blocking().run(move || files.write(&cancelled)).await;
        for FileWarning { path, message } in warnings {
            tracing::warn!(file = ?path, error = message, "cannot update a configuration file");
            let text = format!("configuration file {path:?}: {message}");
            context.console.announce(id, &text);
            context.store.event(id, context.clock.now(), Reason::ConfigFileSkipped, &text);
        }
        Ok(())
    }
}
