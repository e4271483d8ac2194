//! Operations that are completed although their caller goes away.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use super::{Access, FileError, Operation, ServerFiles};
use crate::files::tree::Tree;
use crate::model::ServerId;
use crate::progress::Progress;

/// Time between checks whether the server is still available.
const CHECKED_EVERY: Duration = Duration::from_secs(1);

impl ServerFiles {
    /// Runs an operation on an archive; few run at a time, since each may need much memory. As
    /// [`run_operation`](Self::run_operation).
    pub fn run_archive_operation<T: Send + 'static, W: FnOnce(&Tree, &Progress) -> T + Send + 'static>(
        self: &Arc<Self>,
        id: ServerId,
        access: Access,
        operation: Operation,
        work: W,
    ) -> impl Future<Output = Result<T, FileError>> + Send + use<T, W> {
        let (files, slots) = (self.clone(), self.archive_slots.clone());
        self.run_operation(id, access, operation, move |progress| async move {
            // The semaphore is never closed. Without a slot a cancelled operation ends in its work, at once.
            let _slot = tokio::select! {
                slot = slots.acquire_owned() => slot.ok(),
                () = progress.when_cancelled() => None,
            };
            files.run(id, access, move |tree| Ok(work(tree, &progress))).await
        })
    }

    /// Runs an operation with a server's files as a task of its own. The future is its result: dropped, the operation goes on. It is
    /// cancelled when the server becomes unavailable, and when the daemon ends.
    pub fn run_operation<T: Send + 'static, F: Future<Output = T> + Send + 'static, W: FnOnce(Progress) -> F>(
        self: &Arc<Self>,
        id: ServerId,
        access: Access,
        operation: Operation,
        work: W,
    ) -> impl Future<Output = T> + Send + use<T, F, W> {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let progress = operation.progress().clone();
        let cancel = CancelOnDrop(progress.clone());
        let work = work(progress.clone());
        let files = self.clone();
        self.context.tasks.spawn("long file operation", async move {
            tokio::pin!(work);
            let result = tokio::select! {
                result = &mut work => result,
                () = files.until_unavailable(id, access) => {
                    progress.cancel();
                    work.await
                }
            };
            // No longer listed when its result is known.
            drop((cancel, operation));
            // The caller may be gone.
            let _ = sender.send(result);
        });
        async move {
            match receiver.await {
                Ok(result) => result,
                // The daemon ends.
                Err(_) => std::future::pending().await,
            }
        }
    }

    async fn until_unavailable(&self, id: ServerId, access: Access) {
        while self.check(id, access).is_ok() {
            tokio::time::sleep(CHECKED_EVERY).await;
        }
    }
}

/// Ends blocking work whose task was dropped. After its end it has no effect.
struct CancelOnDrop(Progress);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}
