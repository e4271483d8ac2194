//! One server in memory: its latest snapshot, its status, and the lock that makes its writers take turns.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, RwLock};

use super::{Snapshot, Sources, SpecProblem, StoreError, lock, read, write};
use crate::model::{Manifest, Record, ServerId, Status};

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
        Self::new(id, revisions, Sources::default(), None, Record::default(), None)
    }

    pub(super) fn new(
        id: ServerId,
        revisions: &Revisions,
        sources: Sources,
        manifest: Option<Arc<Manifest>>,
        record: Record,
        problem: Option<SpecProblem>,
    ) -> Self {
        let mut status = Status::new(id);
        // What the panel was last told is the best guess until the first look at the containers.
        status.state = record.told.unwrap_or_default();
        status.suspended = manifest.as_ref().is_some_and(|manifest| manifest.spec.suspended);
        let unrecorded = manifest.is_some() && problem.is_none() && sources == Sources::default();
        let snapshot =
            Snapshot { id, revision: revisions.next(), manifest, record: Arc::new(record), problem, unrecorded };
        Self {
            id,
            revisions: revisions.clone(),
            write: Mutex::new(sources),
            settled: Mutex::default(),
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

    /// Before anybody else has it: it is to be kept, whatever its record says.
    pub(super) fn forget_deletion(&self) {
        let mut current = write(&self.snapshot);
        if current.record.deletion.is_some() {
            tracing::warn!(server.id = %self.id, "the folder was put back while its server was being deleted; it is kept. Delete the server again if it should go");
            let record = Record { deletion: None, ..Record::clone(&current.record) };
            *current = Arc::new(Snapshot { record: Arc::new(record), ..Snapshot::clone(&current) });
        }
    }

    pub(super) fn is_sealed(&self) -> bool {
        read(&self.sealed).is_some()
    }

    /// Refuses what would write over facts that could not be read.
    pub(super) fn whole(&self, record: impl FnOnce() -> PathBuf) -> Result<(), StoreError> {
        match &*read(&self.sealed) {
            Some(message) => Err(StoreError::Broken { path: record(), message: message.clone() }),
            None => Ok(()),
        }
    }

    pub(super) fn publish(
        &self,
        manifest: Option<Arc<Manifest>>,
        record: Arc<Record>,
        problem: Option<SpecProblem>,
        unrecorded: bool,
    ) -> Arc<Snapshot> {
        let mut current = write(&self.snapshot);
        let next =
            Arc::new(Snapshot { id: self.id, revision: self.revisions.next(), manifest, record, problem, unrecorded });
        *current = next.clone();
        next
    }
}
