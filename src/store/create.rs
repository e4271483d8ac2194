//! New servers: one, or many with the same few passes over the disk (ADR 21).
//!
//! The requests come first, then `config.yml`, and the record last: a crash in between leaves a server that is complete, or
//! nothing that counts as one. All files of a kind are written, then brought to disk together, and then get their names. A server
//! that fails does not hold the others up, and none is published before it is on disk.

use std::collections::BTreeSet;
use std::collections::btree_map;
use std::io;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard};

use super::fingerprint::FileFingerprint;
use super::requests::accepted;
use super::{
    CONFIG_FILE, DiskOp, Entry, OVERRIDE_FILE, RECORD_FILE, REQUESTS_FILE, Snapshot, Sources, SpecProblem, Store,
    StoreError, lock, manifests, write,
};
use crate::atomic::{self, PendingFile};
use crate::model::{Manifest, Record, Requests, ServerId};
use crate::requests::{self, NewRequest};

/// How many servers share one pass over the disk. Each keeps two files open.
pub(super) const BATCH: usize = 128;

/// A server that is to be created.
pub struct NewServer {
    /// Its spec.
    pub manifest: Manifest,
    /// What is known of it from the start.
    pub record: Record,
    /// What is asked of it.
    pub requests: Vec<NewRequest>,
}

impl Store {
    /// Writes a new server and what is asked of it. Both are on disk when this returns.
    ///
    /// # Errors
    /// [`StoreError::Exists`], or the disk's error, after which nothing of it is left.
    pub fn create(
        &self,
        manifest: Manifest,
        record: Record,
        new: impl IntoIterator<Item = NewRequest>,
    ) -> Result<Arc<Snapshot>, StoreError> {
        let text = self.render(&manifest)?;
        let new = NewServer { manifest, record, requests: new.into_iter().collect() };
        self.create_from(text, new)
    }

    /// As [`Store::create`] for many servers, and quicker. They are taken from `new` a batch at a time. `then` is called for each server
    /// that is on disk, before its reconciliation is queued.
    pub fn create_all(
        &self,
        new: impl IntoIterator<Item = NewServer>,
        then: impl Fn(ServerId),
    ) -> Vec<(ServerId, Result<Arc<Snapshot>, StoreError>)> {
        let mut results = Vec::new();
        let mut new = new.into_iter().peekable();
        while new.peek().is_some() {
            let (mut drafts, mut failed) = (Vec::new(), Vec::new());
            for new in new.by_ref().take(BATCH) {
                let id = new.manifest.metadata.uuid;
                match self.render(&new.manifest).and_then(|text| self.draft(text, new)) {
                    Ok(draft) => drafts.push(draft),
                    Err(error) => failed.push((id, Err(error))),
                }
            }
            let ids: Vec<_> = drafts.iter().map(|draft| draft.entry.id).collect();
            results.extend(ids.into_iter().zip(self.create_drafts(drafts, &then)));
            results.append(&mut failed);
        }
        results
    }

    /// Creates a server whose `config.yml` is this text, which means its manifest.
    pub(super) fn create_from(&self, text: String, new: NewServer) -> Result<Arc<Snapshot>, StoreError> {
        let id = new.manifest.metadata.uuid;
        let draft = self.draft(text, new)?;
        self.create_drafts(vec![draft], &|_| ()).pop().unwrap_or(Err(StoreError::Unknown(id)))
    }

    fn draft(&self, text: String, new: NewServer) -> Result<Draft, StoreError> {
        let id = new.manifest.metadata.uuid;
        self.check(id, &text)?;
        if self.entry(id).is_none() && self.folder(id).join(CONFIG_FILE).exists() {
            // A person was faster, and the watch has not reported it yet.
            self.refresh(id)?;
            return Err(StoreError::Exists(id));
        }
        Ok(Draft { entry: Arc::new(Entry::empty(id, &self.inner.revisions)), text, new })
    }

    fn create_drafts(&self, drafts: Vec<Draft>, then: &dyn Fn(ServerId)) -> Vec<Result<Arc<Snapshot>, StoreError>> {
        let entries: Vec<Arc<Entry>> = drafts.iter().map(|draft| draft.entry.clone()).collect();
        let mut batch: Vec<Creation> =
            drafts.into_iter().zip(&entries).map(|(draft, entry)| Creation::of(draft, entry)).collect();
        let mut others = Vec::new();
        each(&mut batch, |creation| self.claim(creation, &mut others));
        self.write_all(&mut batch);
        let results: Vec<_> = batch.into_iter().map(|creation| self.publish_new(creation, then)).collect();
        for other in others {
            // It may be in the making. A caller that gets `Exists` must find it complete.
            drop(lock(&other.write));
        }
        results
    }

    /// Makes the name known, so that no other writer takes it; all of them wait for this one.
    fn claim(&self, creation: &mut Creation, others: &mut Vec<Arc<Entry>>) -> Result<(), StoreError> {
        let id = creation.entry.id;
        match write(&self.inner.entries).entry(id) {
            btree_map::Entry::Occupied(other) => {
                others.push(other.get().clone());
                Err(StoreError::Exists(id))
            }
            btree_map::Entry::Vacant(place) => {
                place.insert(creation.entry.clone());
                creation.claimed = true;
                Ok(())
            }
        }
    }

    fn write_all(&self, batch: &mut [Creation]) {
        each(batch, |creation| {
            self.make_folder(creation.entry.id)?;
            self.remove_stale_record(creation.entry.id)?;
            self.accept_first(creation);
            Ok(())
        });
        let fail = |creation: &mut Creation, error| creation.failed = Some(error);
        let requests = |creation: &Creation| self.first_requests(creation);
        let asked = self.put_all(batch, REQUESTS_FILE, DiskOp::WriteRequests, requests, fail);
        // Only where there are requests: otherwise nothing has to come before `config.yml`.
        self.sync_folders(batch, |creation| asked.contains(&creation.entry.id));
        let config = |creation: &Creation| Ok(Some(creation.text.as_bytes().to_vec()));
        self.put_all(batch, CONFIG_FILE, DiskOp::WriteManifest, config, fail);
        each(batch, |creation| {
            self.read_first(creation);
            Ok(())
        });
        // Without a record a server is new, and the first pass writes the record.
        let no_record = |creation: &mut Creation, _| creation.unrecorded = true;
        let record = |creation: &Creation| self.first_record(creation);
        self.put_all(batch, RECORD_FILE, DiskOp::WriteRecord, record, no_record);
        self.sync_folders(batch, |_| true);
        if let Err(error) = atomic::sync_folder(&self.inner.servers) {
            // It is the error of each of them.
            let message = error.to_string();
            let failed = || io::Error::new(error.kind(), message.clone());
            each(batch, |_| Err(disk("bring to disk", &self.inner.servers, failed())));
        }
        if batch.iter().any(|creation| creation.failed.is_none()) {
            self.inner.reserve.keep();
        }
    }

    /// The requests of a new server: those of its spec, then those of its creator.
    fn accept_first(&self, creation: &mut Creation) {
        let (now, spec) = (self.inner.clock.now(), &creation.manifest.spec);
        let declared = requests::declare(&Requests::default(), &creation.record, spec, now, true);
        let new = std::mem::take(&mut creation.new);
        creation.requests = accepted(&declared.unwrap_or_default(), &creation.record, new);
    }

    fn first_requests(&self, creation: &Creation) -> Result<Option<Vec<u8>>, StoreError> {
        let id = creation.entry.id;
        let due = creation.requests != Requests::default() || self.folder(id).join(REQUESTS_FILE).exists();
        due.then(|| self.requests_text(id, &creation.requests)).transpose()
    }

    /// What is in effect with the new `config.yml`.
    fn read_first(&self, creation: &mut Creation) {
        let id = creation.entry.id;
        let folder = self.folder(id);
        if folder.join(OVERRIDE_FILE).symlink_metadata().is_ok() {
            // An override may have waited for the server; without it, if it is bad. The first pass records which it was.
            creation.unrecorded = true;
            match manifests::read(&folder, id).effective() {
                Ok(effective) => creation.manifest = Arc::new(effective),
                Err(problem) => creation.problem = Some(problem),
            }
        }
        creation.record.accept_hash(creation.manifest.hash());
    }

    fn first_record(&self, creation: &Creation) -> Result<Option<Vec<u8>>, StoreError> {
        let sources = Sources { config: creation.config, overlay: None };
        let text = || self.record_text(creation.entry.id, &sources, Some(&creation.manifest), &creation.record);
        (!creation.unrecorded).then(text).transpose()
    }

    /// Replaces a file of each server for which `bytes` has some: all are on disk before the first one gets its name. Returns the
    /// servers that have it.
    fn put_all(
        &self,
        batch: &mut [Creation],
        file: &'static str,
        op: DiskOp,
        bytes: impl Fn(&Creation) -> Result<Option<Vec<u8>>, StoreError>,
        fail: impl Fn(&mut Creation, StoreError),
    ) -> BTreeSet<ServerId> {
        let mut pending = Vec::new();
        for (index, creation) in batch.iter_mut().enumerate().filter(|(_, creation)| creation.failed.is_none()) {
            let id = creation.entry.id;
            let path = self.folder(id).join(file);
            let write = |bytes: Vec<u8>| {
                self.before(id, op)?;
                // Only the manifest is a person's file, too.
                let write = if op == DiskOp::WriteManifest { PendingFile::write_through } else { PendingFile::write };
                write(&path, &bytes, 0o600)
            };
            match bytes(creation) {
                Ok(None) => {}
                Ok(Some(bytes)) => match write(bytes) {
                    Ok(written) => pending.push((index, path, written)),
                    Err(error) => fail(creation, disk("write", &path, error)),
                },
                Err(error) => fail(creation, error),
            }
        }
        let synced = atomic::sync_all(&pending, |(_, _, pending)| pending.sync());
        let mut placed = BTreeSet::new();
        for ((index, path, mut pending), synced) in pending.into_iter().zip(synced) {
            let creation = &mut batch[index];
            let id = creation.entry.id;
            match synced.and_then(|()| pending.place()).and_then(|()| pending.metadata()) {
                Ok(metadata) => {
                    if op == DiskOp::WriteManifest {
                        creation.config = Some(FileFingerprint::from(&metadata));
                    }
                    placed.insert(id);
                    self.after(id, op);
                }
                Err(error) => fail(creation, disk("write", &path, error)),
            }
        }
        placed
    }

    /// Brings the names in the servers' folders to disk.
    fn sync_folders<'b, 'e>(&self, batch: &'b mut [Creation<'e>], due: impl Fn(&Creation) -> bool) {
        let due = |creation: &&mut Creation| creation.failed.is_none() && due(creation);
        let with_folder = |creation: &'b mut Creation<'e>| (self.folder(creation.entry.id), creation);
        let (folders, creations): (Vec<_>, Vec<_>) = batch.iter_mut().filter(due).map(with_folder).unzip();
        let synced = atomic::sync_all(&folders, |folder| atomic::sync_folder(folder).map_err(io::Error::from));
        for ((creation, folder), synced) in creations.into_iter().zip(&folders).zip(synced) {
            if let Err(error) = synced {
                creation.failed = Some(disk("bring to disk", folder, error));
            }
        }
    }

    /// Makes a server that is on disk visible; of one that failed nothing stays.
    fn publish_new(&self, creation: Creation, then: &dyn Fn(ServerId)) -> Result<Arc<Snapshot>, StoreError> {
        let Creation { entry, mut sources, text, manifest, record, requests, .. } = creation;
        let id = entry.id;
        if let Some(error) = creation.failed {
            if creation.claimed {
                entry.gone.store(true, Ordering::Release);
                write(&self.inner.entries).remove(&id);
                // Best effort: the error that is returned is the one that matters.
                for file in [CONFIG_FILE, REQUESTS_FILE, RECORD_FILE] {
                    let _ = std::fs::remove_file(self.folder(id).join(file));
                }
                let _ = std::fs::remove_dir(self.folder(id));
            }
            return Err(error);
        }
        if !creation.unrecorded {
            *sources = Sources { config: creation.config, overlay: None };
            *lock(&entry.text) = Some(manifests::digest(&text, None));
        }
        let snapshot = entry.publish(|next| {
            (next.manifest, next.record, next.requests) = (Some(manifest), Arc::new(record), Arc::new(requests));
            (next.problem, next.unrecorded) = (creation.problem, creation.unrecorded);
        });
        then(id);
        drop(sources);
        self.changed(id);
        Ok(snapshot)
    }

    /// Facts that lie in the folder of a server that is new are those of an earlier one, and are none of this one's.
    fn remove_stale_record(&self, id: ServerId) -> Result<(), StoreError> {
        let path = self.folder(id).join(RECORD_FILE);
        if !path.exists() {
            return Ok(());
        }
        atomic::remove_file(&path).map_err(|error| disk("remove", &path, error.into()))
    }
}

/// What is to be created, checked, and not on disk yet.
struct Draft {
    entry: Arc<Entry>,
    text: String,
    new: NewServer,
}

/// A server on its way to the disk.
struct Creation<'e> {
    entry: &'e Arc<Entry>,
    /// The lock for writing: other writers that find the entry wait for the end.
    sources: MutexGuard<'e, Sources>,
    /// The entry is the store's.
    claimed: bool,
    text: String,
    manifest: Arc<Manifest>,
    record: Record,
    new: Vec<NewRequest>,
    requests: Requests,
    /// The fingerprint of the new `config.yml`.
    config: Option<FileFingerprint>,
    problem: Option<SpecProblem>,
    unrecorded: bool,
    failed: Option<StoreError>,
}

impl<'e> Creation<'e> {
    fn of(draft: Draft, entry: &'e Arc<Entry>) -> Self {
        let NewServer { manifest, record, requests } = draft.new;
        Self {
            entry,
            sources: lock(&entry.write),
            claimed: false,
            text: draft.text,
            manifest: Arc::new(manifest),
            record,
            new: requests,
            requests: Requests::default(),
            config: None,
            problem: None,
            unrecorded: false,
            failed: None,
        }
    }
}

/// Does something for each server that has not failed.
fn each(batch: &mut [Creation], mut work: impl FnMut(&mut Creation) -> Result<(), StoreError>) {
    for creation in batch.iter_mut().filter(|creation| creation.failed.is_none()) {
        if let Err(error) = work(creation) {
            creation.failed = Some(error);
        }
    }
}

fn disk(action: &'static str, path: &Path, source: io::Error) -> StoreError {
    StoreError::Disk { action, path: path.to_owned(), source }
}
