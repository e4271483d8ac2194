//! Freezes a server's container while a snapshot or a copy of its files is made (`spec.backup.pause` of the manifest).
//!
//! A frozen container is thawed by a task of its own: when the snapshot is complete, when the time of the manifest is over, or when
//! the daemon ends. The record names the container, so after a crash [`backup_hooks`](super::backup_hooks) thaws it.

use std::sync::mpsc;
use std::time::Duration;

use tokio::sync::oneshot;
use uuid::Uuid;

use crate::model::{Reason, ServerId};
use crate::reconcile::context::Context;

/// A container that is frozen until this is dropped, or its time is over.
pub(super) struct Frozen {
    _thaw: oneshot::Sender<()>,
}

/// Freezes the server's container if its manifest wants that, and the backup has recorded the container. What fails is an event.
/// Blocking.
pub(super) fn freeze(context: &Context, server: ServerId, backup: Uuid) -> Option<Frozen> {
    let snapshot = context.store.get(server)?;
    let pause = snapshot.manifest.as_ref()?.spec.backup.as_ref()?.pause?;
    let container = snapshot.record.backup(backup)?.quieted.clone()?;
    let (thaw, thawed) = oneshot::channel();
    let (frozen, is_frozen) = mpsc::sync_channel(1);
    let (runtime, store, clock) = (context.runtime.clone(), context.store.clone(), context.clock);
    context.tasks.spawn_graceful("frozen container", move |end| async move {
        let note = |message: String| store.event(server, clock.now(), Reason::BackupHookFailed, &message);
        if let Err(error) = runtime.freeze(&container, true).await {
            note(format!("backup {backup} is made without a pause: {error}"));
        } else if frozen.send(()).is_ok() && !wait(pause.0, thawed, end.cancelled()).await {
            note(format!(
                "the pause of spec.backup has ended after {:?}, before the files of backup {backup} were copied",
                pause.0
            ));
        }
        // Also after an error: a freeze that has timed out may still happen.
        if let Err(error) = runtime.freeze(&container, false).await {
            note(format!("{error}; it is tried again after the backup"));
        }
    });
    is_frozen.recv().ok().map(|()| Frozen { _thaw: thaw })
}

/// Waits until the container is to be thawed. Returns whether that was in time.
async fn wait(limit: Duration, thawed: oneshot::Receiver<()>, end: impl Future<Output = ()>) -> bool {
    tokio::select! {
        biased;
        // The sender is dropped.
        _ = thawed => true,
        () = end => true,
        () = tokio::time::sleep(limit) => false,
    }
}

#[cfg(test)]
mod tests;
