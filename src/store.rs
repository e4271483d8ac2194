//! The state folder: the only reader and writer of `{root}/servers/`.
//!
//! Manifests come in from the panel ([`Store::create`], [`Store::sync`]) and from people, who edit files (noticed by `watch`, read
//! by [`Store::refresh`]) or apply them. Requests come in from the API and the command line ([`Store::request`]), facts and status
//! from the reconciler ([`Store::commit`], [`Store::set_status`]). Everything goes out as an immutable [`Snapshot`] behind an `Arc`, and
//! each change wakes whoever was given to [`Store::on_change`] with the server's name and nothing else.
//!
//! Each entry has one lock for writing, held for the length of a few file operations and never across an await:
//! these functions block, and asynchronous callers go through [`Store::run`]. On disk `config.yml`, `requests.json` and
//! `record.json` are replaced atomically and durably; `status.yml` is expendable.

mod apply;
mod change;
mod create;
mod disk;
mod entry;
pub mod fingerprint;
mod load;
pub mod lock;
pub mod manifests;
mod refresh;
mod requests;
mod reserve;
mod rules;
mod status;
mod stored;
pub mod watch;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};

pub use apply::{Applied, ApplyError};
pub use create::NewServer;
pub use disk::{DiskHook, DiskOp};
use disk::{ReadOnly, frees_space};
use entry::{Entry, Revisions};
use load::Access;
use reserve::Reserve;
use stored::Sources;

use crate::clock::Clock;
use crate::events::Events;
use crate::model::{Manifest, Reason, Record, Requests, ServerId, Status, Timestamp};
use crate::requests::Asked;
pub use crate::tasks::Blocking;

/// Name of the file of intent.
pub const CONFIG_FILE: &str = "config.yml";
/// Name of the operator's own changes, laid over it.
pub const OVERRIDE_FILE: &str = "override.yml";
/// Name of the file of requests.
pub const REQUESTS_FILE: &str = "requests.json";
/// Name of the file of facts.
pub const RECORD_FILE: &str = "record.json";
/// Name of the derived status.
pub const STATUS_FILE: &str = "status.yml";

/// Name of the file in the state folder that keeps room for a full disk.
pub const RESERVE_FILE: &str = ".reserve";

/// Why the store could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no such server.
    #[error("no server {0} in the state folder")]
    Unknown(ServerId),
    /// There is one already.
    #[error("server {0} exists already")]
    Exists(ServerId),
    /// Somebody else changed it in between.
    #[error("server {id} was changed in between (revision {found}, expected {expected}); read it again and retry")]
    Conflict {
        /// The server.
        id: ServerId,
        /// The revision the change was based on.
        expected: u64,
        /// The one that is there.
        found: u64,
    },
    /// The files of intent are broken, so a change cannot be written into them.
    #[error("{path}: {message}; mend the file first")]
    Broken {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// The disk said no.
    #[error("cannot {action} {path}: {source}")]
    Disk {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

impl StoreError {
    /// Whether there is no room for what was to be written.
    pub fn is_full_disk(&self) -> bool {
        let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
        matches!(self, Self::Disk { source, .. } if full.contains(&source.kind()))
    }
}

/// What is wrong with the files of intent; the last good intent stays in force meanwhile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecProblem {
    /// `SpecInvalid` or `SpecMissing`.
    pub reason: Reason,
    /// File, line, what was expected, what to do.
    pub message: String,
}

/// One server as the store has it. Immutable; a change makes a new one.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The server.
    pub id: ServerId,
    /// Counts changes of intent and facts since the daemon started: higher than any before, of this server and of an earlier one
    /// of its name.
    pub revision: u64,
    /// The intent in force: `config.yml` with `override.yml` over it, or the last good one. `None` where none was ever
    /// good.
    pub manifest: Option<Arc<Manifest>>,
    /// What was asked of it.
    pub requests: Arc<Requests>,
    /// Facts.
    pub record: Arc<Record>,
    /// What is wrong with the files of intent.
    pub problem: Option<SpecProblem>,
    /// The spec, or a request that it makes, is not on disk in `record.json` and `requests.json` yet.
    pub unrecorded: bool,
}

impl Snapshot {
    /// Whether the API knows the server: it has a spec, its panel lists it, and it is not being deleted.
    pub fn is_listed(&self) -> bool {
        self.manifest.is_some() && self.record.parked.is_none() && self.wanted()
    }

    /// Whether the server should exist (again) once everything that is under way has ended.
    pub fn wanted(&self) -> bool {
        crate::requests::wanted(&self.requests)
    }

    /// Whether the server is being deleted.
    pub fn is_being_deleted(&self) -> bool {
        crate::requests::deletion(&self.requests).is_some()
    }

    /// What was asked of the server, and what became of it.
    pub fn asked(&self, now: Timestamp) -> Asked<'_> {
        Asked { requests: &self.requests, record: &self.record, now }
    }
}

type OnChange = Box<dyn Fn(ServerId) + Send + Sync>;

/// A handle on the state folder.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    servers: PathBuf,
    revisions: Revisions,
    reserve: Reserve,
    entries: RwLock<BTreeMap<ServerId, Arc<Entry>>>,
    on_change: OnceLock<OnChange>,
    hook: Option<Arc<dyn DiskHook>>,
    blocking: Blocking,
    clock: Clock,
    events: Events,
    /// Counts visible changes of any server, so that derived lists know when they are stale.
    version: AtomicU64,
}

impl Store {
    /// Opens the state folder and reads every record in it. A record that cannot be read is that server's
    /// condition, not a failure.
    ///
    /// # Errors
    /// When the folder cannot be made or listed.
    pub fn open(
        root: &Path,
        blocking: Blocking,
        clock: Clock,
        hook: Option<Arc<dyn DiskHook>>,
    ) -> Result<Self, StoreError> {
        let servers = root.join("servers");
        std::fs::create_dir_all(&servers).map_err(|source| StoreError::Disk {
            action: "create the folder",
            path: servers,
            source,
        })?;
        let store = Self::load(root, Access::Write, blocking, clock, hook)?;
        store.inner.reserve.keep();
        Ok(store)
    }

    /// Opens the state folder to read it, for a command that finds no daemon. Nothing is moved, and each write is refused.
    ///
    /// # Errors
    /// When the folder cannot be listed.
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
        let reserve = Reserve::new(root.join(RESERVE_FILE));
        Ok(Self {
            inner: Arc::new(Inner {
                servers,
                revisions,
                reserve,
                entries: RwLock::new(entries.into_iter().map(|entry| (entry.id, Arc::new(entry))).collect()),
                on_change: OnceLock::new(),
                hook,
                blocking,
                clock,
                events: Events::new(clock),
                version: AtomicU64::new(1),
            }),
        })
    }

    /// Names the one that is woken at each change. Only the first call counts.
    pub fn on_change(&self, wake: impl Fn(ServerId) + Send + Sync + 'static) {
        let _ = self.inner.on_change.set(Box::new(wake));
    }

    /// Runs one of this store's blocking functions off the runtime's threads.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce(&Store) -> T + Send + 'static) -> T {
        let store = self.clone();
        self.inner.blocking.run(move || work(&store)).await
    }

    /// Has a server looked at again.
    pub fn wake(&self, id: ServerId) {
        self.changed(id);
    }

    /// What happens to servers, as it happens.
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

    /// Counts visible changes of any server.
    pub fn version(&self) -> u64 {
        self.inner.version.load(Ordering::Acquire)
    }

    /// Changes facts. They are on disk when this returns. A change that changes nothing writes nothing. Nobody is woken:
    /// the reconciler, who gathers facts, looks again anyway; everybody else calls [`Store::wake`] after it.
    ///
    /// # Errors
    /// [`StoreError::Unknown`], or the disk's refusal, after which the old facts stand.
    pub fn commit(&self, id: ServerId, edit: impl FnOnce(&mut Record)) -> Result<Arc<Snapshot>, StoreError> {
        let entry = self.entry(id).ok_or(StoreError::Unknown(id))?;
        let sources = entry.for_writing()?;
        let before = read(&entry.snapshot).clone();
        let mut record = Record::clone(&before.record);
        edit(&mut record);
        if record == *before.record {
            return Ok(before);
        }
        self.put_record(&entry, &sources, before.manifest.as_ref(), &record)?;
        let snapshot = entry.publish(|next| next.record = Arc::new(record));
        drop(sources);
        self.inner.version.fetch_add(1, Ordering::AcqRel);
        Ok(snapshot)
    }

    /// Removes a server and its folder with everything the store keeps there.
    ///
    /// # Errors
    /// The disk's refusal; calling again goes on where it stopped.
    pub fn remove(&self, id: ServerId) -> Result<(), StoreError> {
        self.remove_if(id, |_| true).map(drop)
    }

    /// As [`Store::remove`], if the server is still `due` when its turn has come: nobody can change it in between. Returns
    /// whether it is gone.
    ///
    /// # Errors
    /// As [`Store::remove`].
    pub fn remove_if(&self, id: ServerId, due: impl FnOnce(&Snapshot) -> bool) -> Result<bool, StoreError> {
        let Some(entry) = self.entry(id) else { return Ok(true) };
        let Ok(guard) = entry.for_writing() else { return Ok(true) };
        let before = read(&entry.snapshot).clone();
        if !due(&before) {
            return Ok(false);
        }
        let folder = self.folder(id);
        self.observed(id, DiskOp::RemoveFolder, "remove the folder", &folder, || disk::remove_folder(&folder))?;
        entry.gone.store(true, Ordering::Release);
        write(&self.inner.entries).remove(&id);
        self.inner.events.remove(id);
        drop(guard);
        self.changed(id);
        Ok(true)
    }

    fn entry(&self, id: ServerId) -> Option<Arc<Entry>> {
        read(&self.inner.entries).get(&id).cloned()
    }

    fn changed(&self, id: ServerId) {
        self.inner.version.fetch_add(1, Ordering::AcqRel);
        if let Some(wake) = self.inner.on_change.get() {
            wake(id);
        }
    }
}

// A panic while one of these locks was held leaves whole values behind: each is replaced, never edited in place.

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
