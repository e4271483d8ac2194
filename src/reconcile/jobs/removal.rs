//! Removes the files and the network of a server that is deleted. Where they are kept for a while, they are moved into the trash.

use async_trait::async_trait;

use super::{BackgroundJob, JobError, JobRun};
use crate::files::trash::DeletedServer;
use crate::model::{Record, Requester};
use crate::reconcile::disk_scans::DiskScan;
use crate::requests;
use crate::retry;
use crate::store::OVERRIDE_FILE;

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
        if let Some(deleted) = kept(run) {
            let layout = layout.clone();
            run.scan(DiskScan::Removal, move |_| layout.move_to_trash(deleted, remove_backups)).await?;
        }
        run.scan(DiskScan::Removal, move |_| layout.remove_server(id, remove_backups)).await?;
        Ok(())
    }
}

/// What is kept of the server for a while, if anything is.
fn kept(run: &JobRun) -> Option<DeletedServer> {
    let snapshot = run.context.store.get(run.server)?;
    let deletion = requests::deletion(&snapshot.requests)?;
    let keep = match deletion.by {
        Requester::Cli => snapshot.record.keep_deleted,
        Requester::Panel => run.context.node.config.keep_deleted_by_panel,
        Requester::Manifest | Requester::Takeover | Requester::Schedule => false,
    };
    let path = run.context.store.folder(run.server).join(OVERRIDE_FILE);
    keep.then(|| DeletedServer {
        server: run.server,
        at: deletion.at,
        manifest: snapshot.manifest.as_deref().cloned(),
        r#override: std::fs::read_to_string(path).ok(),
        record: Record::clone(&snapshot.record),
        declared: snapshot.requests.declared.clone(),
        data: None,
        backups: None,
    })
}
