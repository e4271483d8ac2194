//! The open trees of servers, and the permits to work with them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::files::denylist::Denylist;
use crate::files::tree::Tree;
use crate::files::{DiskAccount, FilesError, Layout};
use crate::model::{DirectoryId, ServerId};

/// Work with one server's files at a time. More waits: it would only wait for the disk.
const OF_A_SERVER: usize = 8;
/// Work with all servers' files at a time.
const OF_THE_NODE: usize = 64;
/// Open trees. When there are more, those without work are closed.
const MAX_OPEN: usize = 256;

/// The open trees; clones share them.
#[derive(Clone)]
pub(super) struct Trees {
    inner: Arc<Inner>,
}

struct Inner {
    open: Mutex<HashMap<ServerId, Open>>,
    permits: Mutex<HashMap<ServerId, Arc<Semaphore>>>,
    node: Arc<Semaphore>,
}

struct Open {
    tree: Tree,
    directory: DirectoryId,
    rules: Vec<String>,
}

/// A permit to work with a server's files.
#[must_use]
pub(super) struct Permit {
    _server: Option<OwnedSemaphorePermit>,
    _node: Option<OwnedSemaphorePermit>,
}

impl Default for Trees {
    fn default() -> Self {
        let node = Arc::new(Semaphore::new(OF_THE_NODE));
        Self { inner: Arc::new(Inner { open: Mutex::default(), permits: Mutex::default(), node }) }
    }
}

impl Trees {
    /// Waits for a permit.
    pub(super) async fn permit(&self, id: ServerId) -> Permit {
        let server = {
            let mut permits = lock(&self.inner.permits);
            if permits.len() >= MAX_OPEN {
                permits.retain(|_, server| Arc::strong_count(server) > 1);
            }
            permits.entry(id).or_insert_with(|| Arc::new(Semaphore::new(OF_A_SERVER))).clone()
        };
        // The semaphores are never closed.
        let server = server.acquire_owned().await.ok();
        Permit { _server: server, _node: self.inner.node.clone().acquire_owned().await.ok() }
    }

    /// Opens a server's files, or those that are open: with these rules as denylist. Blocks.
    ///
    /// # Errors
    /// The directory cannot be opened.
    pub(super) fn open(
        &self,
        layout: &Layout,
        id: ServerId,
        rules: &[String],
        account: &Arc<DiskAccount>,
    ) -> Result<Tree, FilesError> {
        // Another directory may have the path by now.
        let directory = layout.data_directory(id);
        let mut open = lock(&self.inner.open);
        if let Some(known) = open
            .get_mut(&id)
            .filter(|known| Some(known.directory) == directory && Arc::ptr_eq(known.tree.account(), account))
        {
            if known.rules != rules {
                known.tree = known.tree.with_denylist(Arc::new(Denylist::new(rules)));
                known.rules = rules.to_vec();
            }
            return Ok(known.tree.clone());
        }
        let root = layout.open_data(id)?;
        let tree = Tree::new(root, Arc::new(Denylist::new(rules)), account.clone());
        if let Some(directory) = directory {
            if open.len() >= MAX_OPEN {
                open.retain(|_, known| known.tree.is_shared());
            }
            open.insert(id, Open { tree: tree.clone(), directory, rules: rules.to_vec() });
        }
        Ok(tree)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
