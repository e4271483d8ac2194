//! The state folder: the only reader and writer of `{root}/servers/`.
//!
//! Manifests come from the panel ([`Store::create`], [`Store::sync`]) and from people, who edit files (noticed by `watch`, read by
//! [`Store::refresh`]) or apply them ([`Store::apply`]). Requests come from the API and the command line ([`Store::request`]), records
//! and status from the reconciler ([`Store::commit`], [`Store::set_status`]). Readers get an immutable [`Snapshot`] behind an `Arc`.
//! Each change calls the function given to [`Store::on_change`] with the server's id.
//!
//! Each entry has one lock for writing, held for a few file operations and never across an await. These functions block:
//! asynchronous callers use [`Store::run`]. `config.yml`, `requests.json` and `record.json` are replaced atomically and durably;
//! `status.yml` is expendable.

mod apply;
mod change;
mod create;
mod disk;
mod entry;
pub mod fingerprint;
pub mod identity;
mod load;
pub mod lock;
pub mod manifests;
mod refresh;
mod requests;
mod reserve;
mod rules;
pub mod states;
mod status;
mod stored;
mod unknown_folders;
pub mod watch;
pub mod wings;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};

pub use apply::{Applied, ApplyError};
pub use create::NewServer;
pub use disk::{DiskHook, DiskOp};
use disk::{ReadOnly, frees_space};
use entry::{Entry, Revisions, Writer};
use load::Access;
use reserve::Reserve;
use states::States;
use stored::Sources;
pub use unknown_folders::unknown_folders;

use crate::atomic::{self, AtomicError};
use crate::clock::Clock;
use crate::events::Events;
use crate::model::{Manifest, Reason, Record, Requests, ServerId, Status, Timestamp};
use crate::requests::Asked;
pub use crate::tasks::Blocking;

/// The manifest.
pub const CONFIG_FILE: &str = "config.yml";
/// The operator's changes, merged over the manifest.
pub const OVERRIDE_FILE: &str = "override.yml";
/// The accepted requests.
pub const REQUESTS_FILE: &str = "requests.json";
/// The server's files, or a link to them.
pub const DATA_FOLDER: &str = "data";
/// Facts that cannot be observed again.
pub const RECORD_FILE: &str = "record.json";
/// The derived status.
pub const STATUS_FILE: &str = "status.yml";
/// Reserves space for a full disk; it lies in the state folder itself.
pub const RESERVE_FILE: &str = ".reserve";

/// Why an operation of the store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no such server.
    #[error("no server {0} in the state folder")]
    Unknown(ServerId),
    /// The server exists already.
    #[error("server {0} exists already")]
    Exists(ServerId),
    /// Another writer has changed the server in between.
    #[error("server {0} was changed in between; read it again and retry")]
    Conflict(ServerId),
    /// A file is broken or unreadable, so it cannot be changed.
    #[error("{path}: {message}; fix the file first")]
    Broken {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// An operation on the disk failed.
    #[error(transparent)]
    Disk(#[from] AtomicError),
}

impl StoreError {
    /// Whether there is no space for what was to be written.
    pub fn is_full_disk(&self) -> bool {
        let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
        matches!(self, Self::Disk(error) if full.contains(&error.kind()))
    }
}

/// What is wrong with the manifest files; the last good spec stays in effect meanwhile.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SpecProblem {
    /// The reason of the condition `SpecAccepted`.
    pub reason: Reason,
    /// File, line, what was expected, what to do.
    pub message: String,
}

/// One server in the store. Immutable; a change makes a new one.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The server.
    pub id: ServerId,
    /// Counts changes of spec, requests and record since the daemon started. It is higher than every earlier one, also of a removed
    /// server of the same name.
    pub revision: u64,
    /// The manifest in effect: `config.yml` merged with `override.yml`, or the last good one. `None` if none was ever good.
    pub manifest: Option<Arc<Manifest>>,
    /// The accepted requests.
    pub requests: Arc<Requests>,
    /// Facts that cannot be observed again.
    pub record: Arc<Record>,
    /// What is wrong with the manifest files.
    pub problem: Option<SpecProblem>,
    /// The spec, or a request that it makes, is not in `record.json` and `requests.json` yet.
    pub unrecorded: bool,
}

impl Snapshot {
    /// Whether the API knows the server: it has a spec, its panel lists it, and it is not being deleted.
    pub fn is_listed(&self) -> bool {
        self.manifest.is_some() && self.record.parked.is_none() && self.wanted()
    }

    /// Whether the server should exist (again) once all its requests are completed.
    pub fn wanted(&self) -> bool {
        crate::requests::wanted(&self.requests)
    }

    /// Whether the server is being deleted.
    pub fn is_being_deleted(&self) -> bool {
        crate::requests::deletion(&self.requests).is_some()
    }

    /// The requests and the record, for the rules about requests.
    pub fn asked(&self, now: Timestamp) -> Asked<'_> {
        Asked { requests: &self.requests, record: &self.record, now }
    }

    fn check_revision(&self, expected: Option<u64>) -> Result<(), StoreError> {
        match expected {
            Some(expected) if expected != self.revision => Err(StoreError::Conflict(self.id)),
            _ => Ok(()),
        }
    }
}

type OnChange = Box<dyn Fn(ServerId) + Send + Sync>;

/// A handle on the state folder.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    root: PathBuf,
    servers: PathBuf,
    revisions: Revisions,
    reserve: Reserve,
    entries: RwLock<BTreeMap<ServerId, Arc<Entry>>>,
    /// The states that Wings has left, until the panel's list is applied.
    left_states: Mutex<States>,
    on_change: OnceLock<OnChange>,
    hook: Option<Arc<dyn DiskHook>>,
    blocking: Blocking,
    clock: Clock,
    events: Events,
}

impl Store {
    /// Opens the state folder and reads every server in it. A file that cannot be read is a problem of that server, not an error.
    ///
    /// # Errors
    /// The folder cannot be created or listed.
    pub fn open(
        root: &Path,
        blocking: Blocking,
        clock: Clock,
        hook: Option<Arc<dyn DiskHook>>,
    ) -> Result<Self, StoreError> {
        let servers = root.join("servers");
        atomic::create_private(&servers)?;
        let store = Self::load(root, Access::Write, blocking, clock, hook)?;
        store.inner.reserve.keep();
        Ok(store)
    }

    /// Opens the state folder for reading, for a command that finds no daemon. No file is changed, and each write is an error.
    ///
    /// # Errors
    /// The folder cannot be listed.
    pub fn open_to_read(root: &Path) -> Result<Self, StoreError> {
        Self::load(root, Access::Read, Blocking::Inline, Clock::System, Some(Arc::new(ReadOnly)))
    }

    fn load(
        root: &Path,
        access: Access,
        blocking: Blocking,
        clock: Clock,
        hook: Option<Arc<dyn DiskHook>>,
    ) -> Result<Self, StoreError> {
        let servers = root.join("servers");
        let revisions = Revisions::default();
        let entries = load::load_all(&servers, access, &revisions, clock.now())?;
        Ok(Self {
            inner: Arc::new(Inner {
                root: root.to_owned(),
                servers,
                revisions,
                reserve: Reserve::new(root.join(RESERVE_FILE)),
                entries: RwLock::new(entries.into_iter().map(|entry| (entry.id, Arc::new(entry))).collect()),
                left_states: Mutex::default(),
                on_change: OnceLock::new(),
                hook,
                blocking,
                clock,
                events: Events::new(clock),
            }),
        })
    }

    /// Sets the function that is called at each change. Only the first call has an effect.
    pub fn on_change(&self, wake: impl Fn(ServerId) + Send + Sync + 'static) {
        let _ = self.inner.on_change.set(Box::new(wake));
    }

    /// Runs a blocking function of this store outside the runtime's threads.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce(&Store) -> T + Send + 'static) -> T {
        let store = self.clone();
        self.inner.blocking.run(move || work(&store)).await
    }

    /// Changes the record as [`Store::commit`] does, and queues a reconciliation. Both happen even if the caller goes away meanwhile, as the
    /// handler of a request does with its connection.
    ///
    /// # Errors
    /// Those of [`Store::commit`].
    pub async fn commit_and_wake(
        &self,
        id: ServerId,
        edit: impl FnOnce(&mut Record) + Send + 'static,
    ) -> Result<Arc<Snapshot>, StoreError> {
        self.run(move |store| store.commit(id, edit).inspect(|_| store.wake(id))).await
    }

    /// Announces every change of a server's spec, requests, record or status, without naming it.
    pub fn changes(&self) -> tokio::sync::watch::Receiver<u64> {
        self.inner.revisions.subscribe()
    }

    /// Queues the reconciliation of a server.
    pub fn wake(&self, id: ServerId) {
        self.changed(id);
    }

    /// The event streams of all servers.
    pub fn events(&self) -> &Events {
        &self.inner.events
    }

    /// Where this store's blocking work runs.
    pub fn blocking(&self) -> Blocking {
        self.inner.blocking
    }

    /// The folder of one server.
    pub fn folder(&self, id: ServerId) -> PathBuf {
        self.inner.servers.join(id.to_string())
    }

    /// The folder that holds the servers' folders.
    pub fn servers_folder(&self) -> &Path {
        &self.inner.servers
    }

    /// Every server, ordered by id.
    pub fn list(&self) -> Vec<Arc<Snapshot>> {
        read(&self.inner.entries).values().map(|entry| read(&entry.snapshot).clone()).collect()
    }

    /// The names of all servers.
    pub fn ids(&self) -> Vec<ServerId> {
        read(&self.inner.entries).keys().copied().collect()
    }

    /// One server.
    pub fn get(&self, id: ServerId) -> Option<Arc<Snapshot>> {
        self.entry(id).map(|entry| read(&entry.snapshot).clone())
    }

    /// One server's status.
    pub fn status(&self, id: ServerId) -> Option<Arc<Status>> {
        self.entry(id).map(|entry| read(&entry.status).clone())
    }

    /// Changes the record. It is on disk when this returns. An edit that changes nothing writes nothing. No reconciliation is queued:
    /// the reconciler observes again after its own steps, and other callers use [`Store::wake`].
    ///
    /// # Errors
    /// [`StoreError::Unknown`], or the disk's error, after which the old record stays.
    pub fn commit(&self, id: ServerId, edit: impl FnOnce(&mut Record)) -> Result<Arc<Snapshot>, StoreError> {
        let entry = self.entry(id).ok_or(StoreError::Unknown(id))?;
        let writer = entry.for_writing()?;
        let before = read(&entry.snapshot).clone();
        let mut record = Record::clone(&before.record);
        edit(&mut record);
        if record == *before.record {
            return Ok(before);
        }
        // Requests that only the memory has come first, as in `accept`: a daemon that finds a record takes the spec for a changed
        // one.
        self.put_if_new(&entry, &writer, None, &before)?;
        self.put_record(&entry, &writer, &writer.sources, before.manifest.as_ref(), &record)?;
        let requests = self.note_installation(&entry, &writer, &before.requests, &record);
        Ok(entry.publish(|next| (next.record, next.requests) = (Arc::new(record), requests)))
    }

    /// Removes a server and its folder, if it is `due` under the lock. Returns whether the server is gone.
    ///
    /// # Errors
    /// The disk's error; the next call continues.
    pub fn remove(&self, id: ServerId, due: impl FnOnce(&Snapshot) -> bool) -> Result<bool, StoreError> {
        let Some(entry) = self.entry(id) else { return Ok(true) };
        let Ok(writer) = entry.for_writing() else { return Ok(true) };
        let before = read(&entry.snapshot).clone();
        if !due(&before) {
            return Ok(false);
        }
        let folder = self.folder(id);
        let action = "remove the folder";
        self.observed(id, DiskOp::RemoveFolder, action, &folder, || {
            disk::remove_folder(&folder).map_err(AtomicError::at(action, &folder))
        })?;
        self.drop_entry(id, writer);
        Ok(true)
    }

    /// The server is gone from the disk.
    fn drop_entry(&self, id: ServerId, mut writer: MutexGuard<'_, Writer>) {
        writer.gone = true;
        // What Wings left of a server does not concern a later one of the same name.
        lock(&self.inner.left_states).remove(&id);
        write(&self.inner.entries).remove(&id);
        self.inner.events.remove(id);
        drop(writer);
        self.changed(id);
    }

    fn entry(&self, id: ServerId) -> Option<Arc<Entry>> {
        read(&self.inner.entries).get(&id).cloned()
    }

    fn changed(&self, id: ServerId) {
        self.inner.revisions.notify();
        if let Some(wake) = self.inner.on_change.get() {
            wake(id);
        }
    }
}

// Values behind these locks are replaced and never edited in place, so a panic leaves a complete one.

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read<T>(lock: &RwLock<T>) -> std::sync::RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> std::sync::RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
