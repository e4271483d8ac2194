//! One server in memory: its latest snapshot, its status, and the lock that makes its writers take turns.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, RwLock};

use super::{Snapshot, Sources, StoreError, lock, read, write};
use crate::model::{Requests, ServerId, Status, Verb};

/// Gives revisions out. None is given out twice: what was based on a server that is gone, or made from it, is never taken for
/// something of a later server of the same name.
#[derive(Clone, Default)]
pub(super) struct Revisions(Arc<AtomicU64>);

impl Revisions {
    fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }
}

pub(super) struct Entry {
    pub(super) id: ServerId,
    pub(super) revisions: Revisions,
    /// Held while files are written; guards what only writers need.
    pub(super) write: Mutex<Sources>,
    /// The fingerprints of the files that [`Store::refresh`](super::Store::refresh) read last, if no later change can have the
    /// same ones. Changes under `write`.
    pub(super) settled: Mutex<Option<Sources>>,
    /// Digest of the files of intent that were accepted last, see [`digest`](super::intent::digest). Changes under `write`.
    pub(super) text: Mutex<Option<String>>,
    /// Why no record may be written: the one on disk holds facts that could not be read.
    pub(super) sealed: RwLock<Option<String>>,
    pub(super) snapshot: RwLock<Arc<Snapshot>>,
    pub(super) status: RwLock<Arc<Status>>,
    /// The events that an earlier run left in `status.yml` are among the present ones.
    pub(super) history: AtomicBool,
    /// There are events that `status.yml` does not have yet.
    pub(super) unwritten_events: AtomicBool,
    /// The server was removed, or never came to be. Changes under `write`: who waited there for it must not write.
    pub(super) gone: AtomicBool,
}

impl Entry {
    pub(super) fn empty(id: ServerId, revisions: &Revisions) -> Self {
        let snapshot = Snapshot {
            id,
            revision: 0,
            manifest: None,
            requests: Arc::default(),
            record: Arc::default(),
            problem: None,
            unrecorded: false,
        };
        Self::new(revisions, Sources::default(), snapshot)
    }

    /// An entry with this snapshot, which gets a revision.
    pub(super) fn new(revisions: &Revisions, sources: Sources, snapshot: Snapshot) -> Self {
        let id = snapshot.id;
        let mut status = Status::new(id);
        // What the panel was last told is the best guess until the containers are observed.
        status.state = snapshot.record.last_reported.unwrap_or_default();
        status.suspended = snapshot.manifest.as_ref().is_some_and(|manifest| manifest.spec.suspended);
        let snapshot = Snapshot { revision: revisions.next(), ..snapshot };
        Self {
            id,
            revisions: revisions.clone(),
            write: Mutex::new(sources),
            settled: Mutex::default(),
            text: Mutex::default(),
            sealed: RwLock::new(None),
            snapshot: RwLock::new(Arc::new(snapshot)),
            status: RwLock::new(Arc::new(status)),
            history: AtomicBool::new(false),
            unwritten_events: AtomicBool::new(false),
            gone: AtomicBool::new(false),
        }
    }

    /// Takes the lock for writing.
    pub(super) fn for_writing(&self) -> Result<MutexGuard<'_, Sources>, StoreError> {
        let sources = lock(&self.write);
        match self.gone.load(Ordering::Acquire) {
            true => Err(StoreError::Unknown(self.id)),
            false => Ok(sources),
        }
    }

    /// Drops a deletion that came with a folder: the server is kept. Call before the entry is shared.
    pub(super) fn drop_deletion(&self) {
        let mut current = write(&self.snapshot);
        if current.is_being_deleted() {
            tracing::warn!(server.id = %self.id, "the folder was put back while its server was being deleted; it is kept. Delete the server again if it should go");
            let mut requests = Requests::clone(&current.requests);
            requests.accepted.retain(|request| request.verb != Verb::Delete);
            *current =
                Arc::new(Snapshot { requests: Arc::new(requests), unrecorded: true, ..Snapshot::clone(&current) });
        }
    }

    pub(super) fn is_quarantined(&self) -> bool {
        read(&self.sealed).is_some()
    }

    /// Refuses what would write over facts that could not be read.
    pub(super) fn check_not_quarantined(&self, file: impl FnOnce() -> PathBuf) -> Result<(), StoreError> {
        match &*read(&self.sealed) {
            Some(message) => Err(StoreError::Broken { path: file(), message: message.clone() }),
            None => Ok(()),
        }
    }

    /// Makes a changed copy of the snapshot the current one, under a new revision.
    pub(super) fn publish(&self, edit: impl FnOnce(&mut Snapshot)) -> Arc<Snapshot> {
        let mut current = write(&self.snapshot);
        let mut next = Snapshot::clone(&current);
        edit(&mut next);
        next.revision = self.revisions.next();
        let next = Arc::new(next);
        *current = next.clone();
        next
    }
}
