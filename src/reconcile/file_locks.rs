//! Which jobs use the files of a server: many that read them, or one that replaces or removes them.
//!
//! A job may be dropped while its blocking work goes on. The work owns its lock, so the next job that needs the files begins when the
//! work has ended, and not when its task has.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

use crate::model::ServerId;

/// The locks of all servers, in the order in which they are asked for.
#[derive(Debug, Default)]
pub struct FileLocks(Mutex<BTreeMap<ServerId, Arc<RwLock<()>>>>);

/// A lock that is held. Clones share it; it is released with the last one.
#[derive(Debug, Clone)]
pub struct FilesLock {
    _held: Arc<Held>,
}

#[derive(Debug)]
#[allow(dead_code, reason = "held, not used")]
enum Held {
    Shared(OwnedRwLockReadGuard<()>),
    Exclusive(OwnedRwLockWriteGuard<()>),
}

impl FileLocks {
    /// For work that reads a server's files.
    pub async fn shared(&self, id: ServerId) -> FilesLock {
        Held::Shared(self.of(id).read_owned().await).into()
    }

    /// For work that replaces or removes a server's files, or what is beside them.
    pub async fn exclusive(&self, id: ServerId) -> FilesLock {
        Held::Exclusive(self.of(id).write_owned().await).into()
    }

    /// As [`exclusive`](Self::exclusive), unless somewhere the files are in use.
    pub fn try_exclusive(&self, id: ServerId) -> Option<FilesLock> {
        Some(Held::Exclusive(self.of(id).try_write_owned().ok()?).into())
    }

    fn of(&self, id: ServerId) -> Arc<RwLock<()>> {
        let mut locks = self.lock();
        // Those that nothing holds or waits for.
        locks.retain(|_, lock| Arc::strong_count(lock) > 1);
        locks.entry(id).or_default().clone()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ServerId, Arc<RwLock<()>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<Held> for FilesLock {
    fn from(held: Held) -> Self {
        Self { _held: Arc::new(held) }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::testing::server_id;

    #[tokio::test]
    async fn readers_share_the_files_and_what_replaces_them_waits_for_the_last_clone() {
        let locks = FileLocks::default();
        let (one, other) = (locks.shared(server_id(1)).await, locks.shared(server_id(1)).await);
        assert!(locks.try_exclusive(server_id(1)).is_none());
        assert!(locks.exclusive(server_id(2)).now_or_never().is_some(), "another server");
        let clone = one.clone();
        drop((one, other));
        assert!(locks.exclusive(server_id(1)).now_or_never().is_none());
        drop(clone);
        let held = locks.exclusive(server_id(1)).now_or_never().expect("free");
        assert!(locks.shared(server_id(1)).now_or_never().is_none());
        drop(held);
        assert!(locks.try_exclusive(server_id(1)).is_some());
        assert!(locks.lock().len() <= 1);
    }
}
