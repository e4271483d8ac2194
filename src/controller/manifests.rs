//! Manifests that people change: the files of each server that the watch reports are read.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::time::Instant;

use super::queue::Queue;
use crate::model::ServerId;
use crate::reconcile::context::Context;
use crate::reconcile::refresh::refresh;
use crate::store::watch::WatchEvent;

/// Concurrent reads. One that hangs (a manifest may be a link into a network file system) keeps its permit and one of the threads for
/// blocking work; only many of them would hold up the others.
const READS: usize = 16;

/// Time between two servers of a rescan: changes meanwhile come first, and one or two threads do all of it.
const RESCAN_PACE: Duration = Duration::from_millis(1);

/// Reads changed files, until the watch ends.
pub async fn follow(context: Arc<Context>, events: mpsc::Receiver<WatchEvent>) {
    let (queue, rescan, complete) = (Queue::default(), Notify::new(), Mutex::default());
    tokio::select! {
        biased;
        () = receive(events, &queue, &rescan, &complete) => {}
        () = list(&context, &queue, &rescan) => {}
        () = read(&context, &queue, &complete) => {}
    }
}

/// The queued servers whose files are complete, as an event of the watch states. What a rescan finds may still be written.
type Complete = Mutex<BTreeSet<ServerId>>;

async fn receive(mut events: mpsc::Receiver<WatchEvent>, queue: &Queue, rescan: &Notify, complete: &Complete) {
    while let Some(event) = events.recv().await {
        match event {
            WatchEvent::Changed(name) => {
                if let Ok(id) = name.parse() {
                    complete.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
                    queue.push(id);
                }
            }
            WatchEvent::Rescan => rescan.notify_one(),
        }
    }
}

/// Queues every server, once for all rescans that were requested meanwhile.
async fn list(context: &Context, queue: &Queue, rescan: &Notify) {
    loop {
        rescan.notified().await;
        let folder = context.store.servers_folder().to_owned();
        let list = move || {
            let items = std::fs::read_dir(&folder)?;
            Ok::<Vec<ServerId>, std::io::Error>(
                items.filter_map(|item| item.ok()?.file_name().to_str()?.parse().ok()).collect(),
            )
        };
        let mut ids = context.store.ids();
        match context.store.blocking().run(list).await {
            Ok(found) => ids.extend(found),
            Err(error) => tracing::error!(%error, "cannot list the state folder"),
        }
        ids.sort_unstable();
        ids.dedup();
        let mut at = Instant::now();
        for id in ids {
            queue.push_at(id, at);
            at += RESCAN_PACE;
        }
    }
}

/// Reads what is due and complete: four `stat` calls for each server whose files are as they were when this daemon last read them.
async fn read(context: &Arc<Context>, queue: &Queue, complete: &Complete) {
    let permits = Arc::new(Semaphore::new(READS));
    loop {
        let Ok(permit) = permits.clone().acquire_owned().await else { return };
        let id = queue.next().await;
        let is_complete = complete.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        let (task_context, queue) = (context.clone(), queue.clone());
        context.tasks.spawn(format!("read the files of {id}"), async move {
            let _permit = permit;
            let unsettled = task_context.store.run(move |store| store.unsettled(id).filter(|_| !is_complete)).await;
            if let Some(left) = unsettled {
                queue.done(id, Some(Instant::now() + left));
                return;
            }
            let refreshed = refresh(&task_context.store, task_context.clock, id);
            match std::panic::AssertUnwindSafe(refreshed).catch_unwind().await {
                Ok(Ok(())) => {
                    let known = task_context.store.get(id).is_some();
                    // A container that runs has the former directory.
                    if known && task_context.servers.files_found(id, task_context.files(id).await) {
                        (task_context.wake)(id);
                    }
                }
                Ok(Err(error)) => {
                    tracing::error!(server.id = %id, %error, "cannot record a changed manifest");
                    // The pass tries again, and later again if the disk still fails.
                    (task_context.wake)(id);
                }
                Err(_) => tracing::error!(server.id = %id, "reading this server's files panicked (bug, please report)"),
            }
            queue.done(id, None);
        });
    }
}

#[cfg(test)]
mod tests;
