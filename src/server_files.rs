//! What a user may do with a server's files now, and how much at once.
//!
//! The HTTP API and SFTP access files through [`ServerFiles`]: it asks whether the server is available, waits for a permit, opens
//! the tree with the egg's current denylist and the server's disk account, and runs the work on the blocking pool. Work that takes
//! long is an operation, with progress, which can be cancelled.

mod availability;
mod background;
mod content;
mod mime;
mod operations;
mod trees;

use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;

use serde_json::Value;
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::activity::{ActivityEvent, Entry as ActivityEntry};
use crate::files::FilesError;
use crate::files::tree::{Tree, TreeError};
use crate::model::ServerId;
use crate::reconcile::context::Context;

use availability::check;
pub use availability::{Access, Unavailable};
pub use content::{FileContent, FileWriter, Range, WHOLE};
pub use mime::MimeTypes;
pub use operations::{Operation, OperationInfo, OperationKind, Operations, TooMany};
use trees::Trees;

/// Archives that are read or written at a time. A decoder may need 160 MiB.
const ARCHIVES: usize = 4;

/// Access to the files of all servers. One for the whole daemon.
pub struct ServerFiles {
    context: Arc<Context>,
    trees: Trees,
    operations: Operations,
    /// Permits to read or write archives.
    archive_slots: Arc<Semaphore>,
    mime_types: MimeTypes,
}

/// Why work with a server's files failed.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum FileError {
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The server's directory cannot be opened.
    #[error(transparent)]
    Directory(#[from] FilesError),
}

impl ServerFiles {
    /// Access through these services.
    pub fn new(context: Arc<Context>) -> Arc<Self> {
        let mime_types = MimeTypes::default();
        Arc::new(Self {
            context,
            trees: Trees::default(),
            operations: Operations::default(),
            archive_slots: Arc::new(Semaphore::new(ARCHIVES)),
            mime_types,
        })
    }

    /// Whether a server's files may be accessed now.
    ///
    /// # Errors
    /// There is no such server, or something holds its files.
    pub fn check(&self, id: ServerId, access: Access) -> Result<(), Unavailable> {
        check(&self.context.store, id, self.context.clock.now(), access)
    }

    /// A server's files, for work that checks again itself whether the server is available.
    ///
    /// # Errors
    /// The server is not available, or its directory cannot be opened.
    pub async fn tree(&self, id: ServerId, access: Access) -> Result<Tree, FileError> {
        self.run(id, access, |tree| Ok(tree.clone())).await
    }

    /// Runs blocking work with a server's files, after a wait for a permit.
    ///
    /// # Errors
    /// The server is not available, its directory cannot be opened, or the work fails.
    pub async fn run<T: Send + 'static>(
        &self,
        id: ServerId,
        access: Access,
        work: impl FnOnce(&Tree) -> Result<T, TreeError> + Send + 'static,
    ) -> Result<T, FileError> {
        self.check(id, access)?;
        let _permit = self.trees.permit(id).await;
        // The wait may have been long.
        self.check(id, access)?;
        let opened = self.open(id).await?;
        self.context.store.blocking().run(move || Ok(work(&opened()?)?)).await
    }

    /// Runs work with a server's files as a task of its own: it is completed although the caller goes away. The future is its
    /// result.
    pub fn run_task<T: Send + 'static>(
        self: &Arc<Self>,
        id: ServerId,
        access: Access,
        work: impl FnOnce(&Tree) -> Result<T, TreeError> + Send + 'static,
    ) -> impl Future<Output = Result<T, FileError>> + Send + 'static {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let files = self.clone();
        self.context.tasks.spawn("file operation", async move {
            // The caller may be gone.
            let _ = sender.send(files.run(id, access, work).await);
        });
        async move {
            match receiver.await {
                Ok(result) => result,
                // The daemon ends.
                Err(_) => std::future::pending().await,
            }
        }
    }

    /// The operations that run now.
    pub fn operations(&self) -> &Operations {
        &self.operations
    }

    /// The types of files' content.
    pub fn mime_types(&self) -> &MimeTypes {
        &self.mime_types
    }

    /// Records what a user did with files.
    pub fn record(
        &self,
        server: ServerId,
        event: ActivityEvent,
        user: Option<Uuid>,
        ip: Option<IpAddr>,
        metadata: Value,
    ) {
        self.context.activity.record(ActivityEntry { server, event, user, ip, metadata });
    }

    /// The services that it works with.
    pub fn context(&self) -> &Arc<Context> {
        &self.context
    }

    /// What opens the tree of a server, on the blocking pool.
    async fn open(
        &self,
        id: ServerId,
    ) -> Result<impl FnOnce() -> Result<Tree, FilesError> + Send + use<>, Unavailable> {
        let account = self.context.disk_account(id).await;
        let snapshot = self.context.store.get(id).ok_or(Unavailable::Unknown)?;
        let manifest = snapshot.manifest.clone().ok_or(Unavailable::Unknown)?;
        let (trees, layout) = (self.trees.clone(), self.context.node.layout.clone());
        Ok(move || trees.open(&layout, id, &manifest.spec.settings.egg.file_denylist, &account))
    }
}
