//! Deleted servers: those that were kept for long enough are removed for good, and interrupted returns are ended.

use std::sync::Arc;
use std::time::Duration;

use crate::files::Layout;
use crate::files::trash::DeletedServer;
use crate::model::Timestamp;
use crate::reconcile::context::Context;
use crate::store::{CONFIG_FILE, OVERRIDE_FILE, RECORD_FILE, REQUESTS_FILE};

/// The longest sleep: servers are deleted meanwhile, and the clock of the host may be set.
const MAX_SLEEP: Duration = Duration::from_secs(3600);

/// Ends the returns of deleted servers that a killed daemon had begun. Called before the store reads the folders: a server is complete
/// when it has a record, which is written last.
pub fn settle(layout: &Layout) {
    for deleted in list(layout) {
        let is_complete = layout.folder(deleted.server).join(RECORD_FILE).exists();
        let written = [CONFIG_FILE, REQUESTS_FILE, OVERRIDE_FILE];
        if let Err(error) = layout.end_return(&deleted, is_complete, &written) {
            tracing::warn!(server.id = %deleted.server, %error, "a deleted server was partly brought back, and stays so");
        }
    }
}

fn list(layout: &Layout) -> Vec<DeletedServer> {
    layout.deleted_servers().unwrap_or_else(|error| {
        tracing::warn!(%error, "the trash cannot be read; it is tried again");
        Vec::new()
    })
}

/// Removes them until the task is dropped.
pub async fn sweep(context: Arc<Context>) {
    let (layout, began) = (context.node.layout.clone(), context.clock.now());
    if let Err(error) = context.store.blocking().run(move || layout.sweep_imports(began)).await {
        tracing::warn!(%error, "an interrupted import cannot be removed");
    }
    loop {
        let layout = context.node.layout.clone();
        let now = context.clock.now();
        let next = context.store.blocking().run(move || remove_due(&layout, now)).await;
        let sleep = next.map_or(MAX_SLEEP, |next| next.since(context.clock.now()));
        tokio::time::sleep(sleep.clamp(Duration::from_secs(1), MAX_SLEEP)).await;
    }
}

/// Removes what is due. Returns when the next one is.
fn remove_due(layout: &Layout, now: Timestamp) -> Option<Timestamp> {
    let mut next = None;
    for deleted in list(layout) {
        let until = deleted.kept_until();
        if until > now {
            next = next.min(Some(until)).or(Some(until));
            continue;
        }
        match layout.remove_deleted(&deleted) {
            Ok(()) => tracing::info!(server.id = %deleted.server, "a deleted server was removed for good"),
            Err(error) => {
                tracing::warn!(server.id = %deleted.server, %error, "a deleted server cannot be removed; it is tried again");
            }
        }
    }
    next
}
