//! Removes deleted servers for good when they were kept for long enough.

use std::sync::Arc;
use std::time::Duration;

use crate::model::Timestamp;
use crate::reconcile::context::Context;

/// The longest sleep: servers are deleted meanwhile, and the clock of the host may be set.
const MAX_SLEEP: Duration = Duration::from_secs(3600);

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
fn remove_due(layout: &crate::files::Layout, now: Timestamp) -> Option<Timestamp> {
    let deleted = layout.deleted_servers().unwrap_or_else(|error| {
        tracing::warn!(%error, "the trash cannot be read; it is tried again");
        Vec::new()
    });
    let mut next = None;
    for deleted in deleted {
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
