//! Files of intent that people change: what the watch reports is looked at, each server's files on their own.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::time::Instant;

use super::queue::Queue;
use crate::model::ServerId;
use crate::reconcile::context::Context;
use crate::store::watch::WatchEvent;

/// Looks that may be under way at once. One that hangs (a file of intent is a link into a network file system, say) keeps its
/// place and one of the threads for blocking work; it takes many of them to keep the others from being looked at.
const LOOKS: usize = 16;

/// Time between two servers of a rescan: what has changed meanwhile comes first, and one or two threads do all of it.
const RESCAN_PACE: Duration = Duration::from_millis(1);

/// Reads what has changed, for as long as the watch lives.
pub async fn follow(context: Arc<Context>, events: mpsc::Receiver<WatchEvent>) {
    let (queue, rescan) = (Queue::default(), Notify::new());
    tokio::select! {
        biased;
        () = receive(events, &queue, &rescan) => {}
        () = list(&context, &queue, &rescan) => {}
        () = look(&context, &queue) => {}
    }
}

async fn receive(mut events: mpsc::Receiver<WatchEvent>, queue: &Queue, rescan: &Notify) {
    while let Some(event) = events.recv().await {
        match event {
            WatchEvent::Changed(name) => {
                if let Ok(id) = name.parse() {
                    queue.push(id);
                }
            }
            WatchEvent::Rescan => rescan.notify_one(),
        }
    }
}

/// Puts every server into the queue, once for all rescans that were asked for meanwhile.
async fn list(context: &Context, queue: &Queue, rescan: &Notify) {
    loop {
        rescan.notified().await;
        let folder = context.store.servers_folder().to_owned();
        let read = move || {
            let items = std::fs::read_dir(&folder)?;
            Ok::<Vec<ServerId>, std::io::Error>(
                items.filter_map(|item| item.ok()?.file_name().to_str()?.parse().ok()).collect(),
            )
        };
        let mut ids = context.store.ids();
        match context.store.blocking().run(read).await {
            Ok(found) => ids.extend(found),
            Err(error) => tracing::error!("the state folder cannot be listed: {error}"),
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

/// Looks at what is due: two `stat` calls for each server whose files are as they were when this daemon last read them.
async fn look(context: &Arc<Context>, queue: &Queue) {
    let places = Arc::new(Semaphore::new(LOOKS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let id = queue.next().await;
        let (looks, queue) = (context.clone(), queue.clone());
        context.tasks.spawn(format!("look at the files of {id}"), async move {
            let _place = place;
            if std::panic::AssertUnwindSafe(refresh(&looks, id)).catch_unwind().await.is_err() {
                // The next change is looked at all the same.
                tracing::error!(server.id = %id, "a look at this server's files panicked, which is a bug: please report it");
            }
            queue.done(id, None);
        });
    }
}

async fn refresh(context: &Context, id: ServerId) {
    if let Err(error) = context.refresh(id).await {
        tracing::error!(server.id = %id, "a changed intent cannot be recorded: {error}");
        // The pass tries again, and again later if the disk still refuses.
        (context.wake)(id);
    }
}

#[cfg(test)]
mod tests;
