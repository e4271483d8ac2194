//! New servers: one, or many with the same few passes over the disk (ADR 21).
//!
//! For each server the requests are written first, then `config.yml`, then the record. A crash in between leaves a complete server,
//! or a folder that does not count as one. Of a server that comes from another node the record is written before `config.yml`: with the
//! manifest in it, the next process ends the transfer. All files of a kind are written, then synced together, then renamed. The error of one
//! server does not affect the others, and no server is published before it is on disk.

use std::collections::btree_map;
use std::io;
use std::sync::{Arc, MutexGuard};

use super::entry::Writer;
use super::fingerprint::FileFingerprint;
use super::requests::accepted;
use super::{
    CONFIG_FILE, DiskOp, Entry, OVERRIDE_FILE, RECORD_FILE, REQUESTS_FILE, Snapshot, Sources, SpecProblem, Store,
    StoreError, lock, manifests, write,
};
use crate::atomic::{self, AtomicError, PendingFile};
use crate::model::{Declared, Manifest, Record, Requests, ServerId};
use crate::requests::{self, NewRequest};

/// How many servers share one pass over the disk. Each keeps one file open.
pub(super) const BATCH: usize = 128;

/// A server that is to be created.
pub struct NewServer {
    /// Its spec.
    pub manifest: Manifest,
    /// Its first record.
    pub record: Record,
    /// The requests of its creator.
    pub requests: Vec<NewRequest>,
    /// The declarative values of the manifest that were handled: they are no requests.
    pub declared: Declared,
}

/// A server and whether it was created.
type Created = (ServerId, Result<Arc<Snapshot>, StoreError>);

impl Store {
    /// Writes a new server and its requests. Both are on disk when this returns.
    ///
    /// # Errors
    /// [`StoreError::Exists`], or the disk's error, after which nothing of the server is left.
    pub fn create(
        &self,
        manifest: Manifest,
        record: Record,
        new: impl IntoIterator<Item = NewRequest>,
    ) -> Result<Arc<Snapshot>, StoreError> {
        let text = self.render(&manifest)?;
        let requests = new.into_iter().collect();
        self.create_from(text, NewServer { manifest, record, requests, declared: Declared::default() })
    }

    /// As [`Store::create`] for a server that was here before.
    ///
    /// # Errors
    /// As [`Store::create`].
    pub fn create_again(&self, new: NewServer) -> Result<Arc<Snapshot>, StoreError> {
        let text = self.render(&new.manifest)?;
        self.create_from(text, new)
    }

    /// As [`Store::create`] for many servers, and faster. The servers are taken from `new` a batch at a time. `then` is called for
    /// each server that is on disk, before its reconciliation is queued.
    pub fn create_all(&self, new: impl IntoIterator<Item = NewServer>, then: impl Fn(ServerId)) -> Vec<Created> {
        let mut results = Vec::new();
        let mut new = new.into_iter().peekable();
        while new.peek().is_some() {
            let draft = |new: NewServer| {
                let id = new.manifest.metadata.uuid;
                (id, self.render(&new.manifest).and_then(|text| self.draft(text, new)))
            };
            let drafts = new.by_ref().take(BATCH).map(draft).collect();
            results.extend(self.create_batch(drafts, &then));
        }
        results
    }

    /// Creates a server whose `config.yml` is this text, which means its manifest.
    pub(super) fn create_from(&self, text: String, new: NewServer) -> Result<Arc<Snapshot>, StoreError> {
        let id = new.manifest.metadata.uuid;
        let created = self.create_batch(vec![(id, self.draft(text, new))], &|_| ()).pop();
        created.map_or(Err(StoreError::Unknown(id)), |(_, created)| created)
    }

    /// Checks what is to be created, and accepts the requests of its spec and then those of its creator.
    fn draft(&self, text: String, new: NewServer) -> Result<Creation, StoreError> {
        let NewServer { mut manifest, mut record, requests: new, declared } = new;
        let id = manifest.metadata.uuid;
        self.check(id, &text)?;
        let folder = self.folder(id);
        // A person was faster, and the watch has not reported it yet.
        if self.entry(id).is_none() && folder.join(CONFIG_FILE).exists() {
            return Err(StoreError::Exists(id));
        }
        // An override may have waited for the server. The first pass records it, or finds the problem again.
        let has_override = folder.join(OVERRIDE_FILE).symlink_metadata().is_ok();
        let mut problem = None;
        if has_override {
            match manifests::effective(&text, &folder, id) {
                Ok(effective) => manifest = effective,
                Err(found) => problem = Some(found),
            }
        }
        let handled = Requests { declared, ..Requests::default() };
        let declared = requests::declare(&handled, &record, &manifest.spec, self.inner.clock.now(), true);
        let requests = accepted(&declared.unwrap_or(handled), &record, new);
        record.accept_hash(manifest.hash(), self.inner.clock.now());
        Ok(Creation {
            entry: Arc::new(Entry::empty(id, &self.inner.revisions)),
            text,
            manifest: Arc::new(manifest),
            record,
            requests,
            placed: Vec::new(),
            config: None,
            problem,
            unrecorded: has_override,
            failed: None,
        })
    }

    fn create_batch(
        &self,
        drafts: Vec<(ServerId, Result<Creation, StoreError>)>,
        then: &dyn Fn(ServerId),
    ) -> Vec<Created> {
        let entries: Vec<_> =
            drafts.iter().map(|(_, draft)| draft.as_ref().ok().map(|creation| creation.entry.clone())).collect();
        let (mut results, mut batch, mut writers) = (Vec::new(), Vec::new(), Vec::new());
        for ((id, draft), entry) in drafts.into_iter().zip(&entries) {
            // Other writers that find the entry wait for this lock.
            let writer = entry.as_ref().map(|entry| lock(&entry.write));
            match draft.and_then(|creation| self.claim(creation)) {
                Ok(creation) => {
                    batch.push(creation);
                    writers.extend(writer);
                }
                Err(error) => results.push((id, Err(error))),
            }
        }
        self.write_all(&mut batch);
        for (creation, writer) in batch.into_iter().zip(writers) {
            results.push((creation.id(), self.publish_new(creation, writer, then)));
        }
        for (id, _) in results.iter().filter(|(_, created)| created.is_err()) {
            // Another caller may be creating the server: one that gets `Exists` must find it complete. Or a person has saved its
            // file meanwhile. An error of the disk is found again by the first pass.
            let _ = self.refresh(*id);
        }
        results
    }

    /// Reserves the name, so that no other writer takes it.
    fn claim(&self, creation: Creation) -> Result<Creation, StoreError> {
        match write(&self.inner.entries).entry(creation.id()) {
            btree_map::Entry::Occupied(_) => return Err(StoreError::Exists(creation.id())),
            btree_map::Entry::Vacant(vacant) => vacant.insert(creation.entry.clone()),
        };
        Ok(creation)
    }

    fn write_all(&self, batch: &mut [Creation]) {
        each(batch, |creation| {
            self.make_folder(creation.id())?;
            self.remove_stale_record(creation.id())
        });
        let fail = |creation: &mut Creation, error| creation.failed = Some(error);
        let requests = |creation: &Creation| self.first_requests(creation);
        self.put_all(batch, REQUESTS_FILE, DiskOp::WriteRequests, requests, fail);
        let held = |creation: &Creation| match creation.record.transfer {
            Some(_) => self.first_record(creation),
            None => Ok(None),
        };
        self.put_all(batch, RECORD_FILE, DiskOp::WriteRecord, held, fail);
        // A server without requests has nothing that must be on disk before `config.yml`.
        self.sync_folders(batch, |creation| !creation.placed.is_empty());
        let config = |creation: &Creation| Ok(Some(creation.text.as_bytes().to_vec()));
        self.put_all(batch, CONFIG_FILE, DiskOp::WriteManifest, config, fail);
        // A server without a record is new, and its first pass writes the record.
        let no_record = |creation: &mut Creation, _| creation.unrecorded = true;
        let record = |creation: &Creation| match creation.record.transfer {
            Some(_) => Ok(None),
            None => self.first_record(creation),
        };
        self.put_all(batch, RECORD_FILE, DiskOp::WriteRecord, record, no_record);
        self.sync_folders(batch, |_| true);
        if let Err(error) = atomic::sync_folder(&self.inner.servers) {
            // It is the error of every server of the batch.
            let failed = || io::Error::new(error.kind(), error.source.to_string());
            each(batch, |_| Err(AtomicError::at("sync", &self.inner.servers)(failed()).into()));
        }
        if batch.iter().any(|creation| creation.failed.is_none()) {
            self.inner.reserve.keep();
        }
    }

    fn first_requests(&self, creation: &Creation) -> Result<Option<Vec<u8>>, StoreError> {
        let id = creation.id();
        let due = creation.requests != Requests::default() || self.folder(id).join(REQUESTS_FILE).exists();
        due.then(|| self.requests_text(id, &creation.requests)).transpose()
    }

    fn first_record(&self, creation: &Creation) -> Result<Option<Vec<u8>>, StoreError> {
        let text = || self.record_text(creation.id(), &creation.sources(), Some(&creation.manifest), &creation.record);
        (!creation.unrecorded).then(text).transpose()
    }

    /// Writes a file of each server for which `bytes` returns some: all are on disk before the first one is renamed.
    fn put_all(
        &self,
        batch: &mut [Creation],
        file: &'static str,
        op: DiskOp,
        bytes: impl Fn(&Creation) -> Result<Option<Vec<u8>>, StoreError>,
        fail: impl Fn(&mut Creation, StoreError),
    ) {
        let mut pending = Vec::new();
        for creation in batch.iter_mut().filter(|creation| creation.failed.is_none()) {
            let path = self.folder(creation.id()).join(file);
            let write = |bytes: Vec<u8>| {
                self.before(creation.id(), op)?;
                // Only the manifest is a file that people edit.
                let write = if op == DiskOp::WriteManifest { PendingFile::write_through } else { PendingFile::write };
                write(&path, &bytes, 0o600)
            };
            let written = bytes(creation).and_then(|bytes| {
                bytes.map(write).transpose().map_err(|error| AtomicError::at("write", &path)(error).into())
            });
            match written {
                Ok(Some(written)) => pending.push((creation, path, written)),
                Ok(None) => {}
                Err(error) => fail(creation, error),
            }
        }
        let files: Vec<_> = pending.iter().map(|(_, _, file)| file).collect();
        let synced = atomic::in_parallel(&files, |file| file.sync());
        for ((creation, path, pending), synced) in pending.into_iter().zip(synced) {
            let id = creation.id();
            // A person may have saved the file while the batch was written.
            if op == DiskOp::WriteManifest && path.exists() {
                fail(creation, StoreError::Exists(id));
                continue;
            }
            match synced.and_then(|()| pending.place()) {
                Ok(metadata) => {
                    if op == DiskOp::WriteManifest {
                        creation.config = Some(FileFingerprint::from(&metadata));
                    }
                    creation.placed.push(file);
                    self.after(id, op);
                }
                Err(error) => fail(creation, AtomicError::at("write", &path)(error).into()),
            }
        }
    }

    /// Brings the names in the servers' folders to disk.
    fn sync_folders(&self, batch: &mut [Creation], due: impl Fn(&Creation) -> bool) {
        let due = |creation: &&mut Creation| creation.failed.is_none() && due(creation);
        let creations: Vec<_> = batch.iter_mut().filter(due).collect();
        let folders: Vec<_> = creations.iter().map(|creation| self.folder(creation.id())).collect();
        let synced = atomic::in_parallel(&folders, |folder| atomic::sync_folder(folder));
        for (creation, synced) in creations.into_iter().zip(synced) {
            creation.failed = synced.err().map(StoreError::from);
        }
    }

    /// Makes a server visible that is on disk. Of one that failed, no file stays that was placed here.
    fn publish_new(
        &self,
        creation: Creation,
        mut writer: MutexGuard<'_, Writer>,
        then: &dyn Fn(ServerId),
    ) -> Result<Arc<Snapshot>, StoreError> {
        let (id, sources) = (creation.id(), creation.sources());
        let Creation { entry, text, manifest, record, requests, problem, unrecorded, placed, failed, .. } = creation;
        if let Some(error) = failed {
            self.remove_placed(id, &placed);
            // The name is free only now: nothing is removed of a server that takes it next.
            writer.gone = true;
            write(&self.inner.entries).remove(&id);
            return Err(error);
        }
        if !unrecorded {
            writer.sources = sources;
            writer.text = Some(manifests::digest(&text, None));
        }
        let snapshot = entry.publish(|next| {
            (next.manifest, next.record, next.requests) = (Some(manifest), Arc::new(record), Arc::new(requests));
            (next.problem, next.unrecorded) = (problem, unrecorded);
        });
        then(id);
        drop(writer);
        self.changed(id);
        Ok(snapshot)
    }

    /// Removes the files of a failed creation, the latest first: what a crash leaves of them is a complete server, or none.
    fn remove_placed(&self, id: ServerId, placed: &[&str]) {
        let folder = self.folder(id);
        let remove = || {
            placed.iter().rev().try_for_each(|file| std::fs::remove_file(folder.join(file)))?;
            std::fs::remove_dir(&folder)
        };
        let action = "remove the folder";
        let removed = self
            .observed(id, DiskOp::RemoveFolder, action, &folder, || remove().map_err(AtomicError::at(action, &folder)));
        // The caller gets the error of the creation. A folder that is not empty holds files of a person.
        if let Err(error) = removed {
            tracing::debug!(server.id = %id, %error, "not everything of a failed creation was removed");
        }
    }

    /// Removes the record of an earlier server that lies in the folder of a new one.
    fn remove_stale_record(&self, id: ServerId) -> Result<(), StoreError> {
        let path = self.folder(id).join(RECORD_FILE);
        if path.exists() {
            atomic::remove_file(&path)?;
        }
        Ok(())
    }
}

/// A server on its way to the disk.
struct Creation {
    entry: Arc<Entry>,
    text: String,
    manifest: Arc<Manifest>,
    record: Record,
    requests: Requests,
    /// The files that have their names, in this order.
    placed: Vec<&'static str>,
    /// The fingerprint of the new `config.yml`.
    config: Option<FileFingerprint>,
    problem: Option<SpecProblem>,
    unrecorded: bool,
    failed: Option<StoreError>,
}

impl Creation {
    fn id(&self) -> ServerId {
        self.entry.id
    }

    fn sources(&self) -> Sources {
        Sources { config: self.config, overlay: None }
    }
}

/// Calls `work` for each server that has not failed.
fn each(batch: &mut [Creation], work: impl Fn(&Creation) -> Result<(), StoreError>) {
    for creation in batch.iter_mut().filter(|creation| creation.failed.is_none()) {
        creation.failed = work(creation).err();
    }
}
