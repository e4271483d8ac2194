//! One server in memory: its latest snapshot, its status, and the lock that its writers take.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, RwLock};

use tokio::sync::watch;

use super::{Snapshot, Sources, StoreError, lock, write};
use crate::model::{Requests, ServerId, Status, Verb};

/// Gives out revisions, each one once: a revision of a removed server never equals one of a later server of the same name.
#[derive(Clone, Default)]
pub(super) struct Revisions(watch::Sender<u64>);

impl Revisions {
    fn next(&self) -> u64 {
        let mut revision = 0;
        self.0.send_modify(|last| {
            *last += 1;
            revision = *last;
        });
        revision
    }

    /// Announces a change without a revision.
    pub(super) fn notify(&self) {
        self.0.send_modify(|_| ());
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        self.0.subscribe()
    }
}

pub(super) struct Entry {
    pub(super) id: ServerId,
    revisions: Revisions,
    /// Held while files are written.
    pub(super) write: Mutex<Writer>,
    pub(super) snapshot: RwLock<Arc<Snapshot>>,
    pub(super) status: RwLock<Arc<Status>>,
    /// The status of an earlier run was read, see [`Store::recall`](super::Store::recall).
    pub(super) recalled: AtomicBool,
    /// There are events that `status.yml` does not have yet.
    pub(super) unwritten_events: AtomicBool,
}

/// What only writers need.
#[derive(Default)]
pub(super) struct Writer {
    /// The fingerprints of the manifest files that were accepted last.
    pub(super) sources: Sources,
    /// The fingerprints of the files that [`Store::refresh`](super::Store::refresh) read last, if no later change can have the
    /// same ones.
    pub(super) settled: Option<Sources>,
    /// Digest of the texts that were accepted last, see [`digest`](super::manifests::digest).
    pub(super) text: Option<String>,
    /// Why nothing may be written: a file on disk could not be read.
    pub(super) quarantine: Option<String>,
    /// The server was removed, or its creation failed: a writer that waited for the lock must not write.
    pub(super) gone: bool,
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
    pub(super) fn new(revisions: &Revisions, sources: Sources, mut snapshot: Snapshot) -> Self {
        let mut status = Status::new(snapshot.id);
        // The best guess until the containers are observed.
        status.state = snapshot.record.last_reported.unwrap_or_default();
        status.suspended = snapshot.manifest.as_ref().is_some_and(|manifest| manifest.spec.suspended);
        snapshot.revision = revisions.next();
        Self {
            id: snapshot.id,
            revisions: revisions.clone(),
            write: Mutex::new(Writer { sources, ..Writer::default() }),
            snapshot: RwLock::new(Arc::new(snapshot)),
            status: RwLock::new(Arc::new(status)),
            recalled: AtomicBool::new(false),
            unwritten_events: AtomicBool::new(false),
        }
    }

    /// Takes the lock for writing.
    ///
    /// # Errors
    /// [`StoreError::Unknown`] if the server is gone.
    pub(super) fn for_writing(&self) -> Result<MutexGuard<'_, Writer>, StoreError> {
        let writer = lock(&self.write);
        if writer.gone { Err(StoreError::Unknown(self.id)) } else { Ok(writer) }
    }

    /// Drops a deletion that came with a folder: the server is kept. Call before the entry is shared.
    pub(super) fn drop_deletion(&self) {
        let mut current = write(&self.snapshot);
        if current.is_being_deleted() {
            tracing::warn!(server.id = %self.id, "the folder was restored while its server was being deleted and is kept; delete the server again to remove it");
            let mut requests = Requests::clone(&current.requests);
            requests.accepted.retain(|request| request.verb != Verb::Delete);
            let current = Arc::make_mut(&mut current);
            (current.requests, current.unrecorded) = (Arc::new(requests), true);
        }
    }

    /// Makes a changed copy of the snapshot the current one, under a new revision.
    pub(super) fn publish(&self, edit: impl FnOnce(&mut Snapshot)) -> Arc<Snapshot> {
        let mut current = write(&self.snapshot);
        let mut next = Snapshot::clone(&current);
        edit(&mut next);
        next.revision = self.revisions.next();
        *current = Arc::new(next);
        current.clone()
    }
}
