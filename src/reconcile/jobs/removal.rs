//! Removes the files and the network of a server that is deleted. Where they are kept for a while, they are moved into the trash.

use std::sync::atomic::AtomicBool;

use async_trait::async_trait;
use uuid::Uuid;

use super::{BackgroundJob, JobError, JobRun};
use crate::files::trash::DeletedServer;
use crate::model::{Record, Requester, Transfer};
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
        context.close_reception(id).await;
        // The jobs have ended, and the blocking work of one may not have.
        let files = context.operations.files().exclusive(id).await;
        let snapshot = context.store.get(id);
        let transfer = snapshot.as_ref().and_then(|snapshot| snapshot.record.transfer.as_ref());
        let shared = transfer.is_some_and(Transfer::shares_files);
        if let Some(deleted) = kept(run).filter(|_| !shared) {
            let layout = layout.clone();
            run.scan(DiskScan::Removal, move |_| layout.move_to_trash(deleted, remove_backups)).await?;
        }
        let unfinished: Vec<Uuid> = snapshot.as_ref().map_or_else(Vec::new, |snapshot| {
            let unfinished = snapshot.record.backups.iter().filter(|backup| !backup.is_kept_here());
            unfinished.map(|backup| backup.id).collect()
        });
        let remove = move |_: &AtomicBool| {
            let _files = files;
            // Of these no archive stays, whatever the node says about the others.
            let removed = unfinished.into_iter().map(|backup| layout.remove_backup(id, backup).map(drop));
            let removed = removed.fold(Ok(()), Result::and);
            removed.and(match shared {
                true => layout.remove_server_of_pool(id),
                false => layout.remove_server(id, remove_backups),
            })
        };
        run.scan(DiskScan::Removal, remove).await?;
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
