//! Operations that are completed although their caller goes away.

use std::future::Future;
use std::sync::Arc;

use super::{Access, FileError, Operation, ServerFiles};
use crate::files::tree::Tree;
use crate::model::ServerId;
use crate::progress::Progress;

impl ServerFiles {
    /// Runs an operation with a server's files as a task of its own. The future is its result: dropped, the operation goes on. When
    /// the daemon ends, it is cancelled.
    pub fn run_operation<T: Send + 'static, W: FnOnce(&Tree, &Progress) -> T + Send + 'static>(
        self: &Arc<Self>,
        id: ServerId,
        access: Access,
        operation: Operation,
        work: W,
    ) -> impl Future<Output = Result<T, FileError>> + Send + use<T, W> {
        let files = self.clone();
        self.run_operation_with(operation, move |progress| async move {
            files.run(id, access, move |tree| Ok(work(tree, &progress))).await
        })
    }

    /// As [`run_operation`](Self::run_operation), for work that waits for more than files.
    pub fn run_operation_with<T: Send + 'static, F: Future<Output = T> + Send + 'static, W: FnOnce(Progress) -> F>(
        &self,
        operation: Operation,
        work: W,
    ) -> impl Future<Output = T> + Send + use<T, F, W> {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let cancel = CancelOnDrop(operation.progress().clone());
        let work = work(operation.progress().clone());
        self.context.tasks.spawn("long file operation", async move {
            let result = work.await;
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
}

/// Ends blocking work whose task was dropped. After its end it has no effect.
struct CancelOnDrop(Progress);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}
