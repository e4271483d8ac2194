//! Removes the files and the network of a server that is deleted.

use std::sync::atomic::AtomicBool;

use async_trait::async_trait;

use super::{BackgroundJob, JobError, JobRun};
use crate::model::Transfer;
use crate::reconcile::disk_scans::DiskScan;
use crate::retry;

/// With its network, and with its backups where the node says so.
pub(super) struct RemoveFiles;

#[async_trait]
impl BackgroundJob for RemoveFiles {
    async fn run(&self, run: &JobRun) -> Result<(), JobError> {
        let (id, context) = (run.server, &run.context);
        let (layout, remove_backups) =
            (context.node.layout.clone(), context.node.config.remove_backups_on_server_delete);
        let removed = context.runtime.remove_network(id).await;
        removed.map_err(|error| JobError::new(retry::STEP, error.to_string()))?;
        context.receptions.close(id).await;
        let snapshot = context.store.get(id);
        let transfer = snapshot.as_ref().and_then(|snapshot| snapshot.record.transfer.as_ref());
        let shared = transfer.is_some_and(Transfer::shares_files);
        let remove = move |_: &AtomicBool| match shared {
            true => layout.remove_server_of_pool(id),
            false => layout.remove_server(id, remove_backups),
        };
        run.scan(DiskScan::Removal, remove).await?;
        Ok(())
    }
}
