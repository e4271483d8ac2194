//! Follows writes to servers' files, so that a server that reaches its disk limit is measured soon.

use std::sync::Arc;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::files::{FileEvents, Layout, Written};
use crate::reconcile::context::Context;
use crate::wait;

/// Reads events as long as the daemon runs. Between two reads the kernel collects them, once for each directory.
pub async fn follow(context: Arc<Context>, events: Arc<FileEvents>) {
    #[expect(deprecated, reason = "its successor is unsafe; the queue keeps its descriptor as long as it lives")]
    let queue = match AsyncFd::with_interest(events.clone(), Interest::READABLE) {
        Ok(queue) => queue,
        Err(error) => {
            return tracing::warn!(%error, "cannot wait for events of files; they are measured at an interval only");
        }
    };
    loop {
        let Ok(mut ready) = queue.readable().await else { return };
        ready.clear_ready();
        let (events, layout, accounts) = (events.clone(), context.node.layout.clone(), context.accounts.clone());
        let read = move || {
            let servers = layout.limited(&accounts);
            let written = match events.read(&servers) {
                Written::These(ids) => ids,
                Written::Any => servers.values().copied().collect(),
            };
            for id in written {
                if let Some(free) = layout.free_bytes(id) {
                    accounts.written(id, free);
                }
            }
        };
        context.store.blocking().run(read).await;
        tokio::time::sleep(wait::FILE_EVENTS_COLLECTED).await;
    }
}

/// The events of this layout's file systems, where the kernel gives them to this process.
pub fn begin(layout: &Layout) -> Option<Arc<FileEvents>> {
    match FileEvents::begin(layout) {
        Ok(events) => Some(Arc::new(events)),
        Err(error) => {
            tracing::info!(%error, "no events of files; servers' files are measured at an interval only");
            None
        }
    }
}
