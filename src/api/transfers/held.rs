//! How long a server counts as being received.

use std::sync::Arc;

use crate::model::ServerId;
use crate::reconcile::context::Context;
use crate::reconcile::file_locks::FilesLock;
use crate::reconcile::operations::RunningOperation;

/// Shows the planner that the server is being received. The last one that uses the files has it: when it is gone, so is the transfer.
pub struct Held {
    context: Arc<Context>,
    id: ServerId,
    operation: Option<RunningOperation>,
    _files: FilesLock,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.operation = None;
        (self.context.wake)(self.id);
    }
}

impl Held {
    /// For a server whose reception is listed as this operation.
    pub fn new(context: &Arc<Context>, id: ServerId, operation: RunningOperation, files: FilesLock) -> Self {
        Self { context: context.clone(), id, operation: Some(operation), _files: files }
    }

    /// The services.
    pub fn context(&self) -> &Arc<Context> {
        &self.context
    }
}
