//! The state folder: the only reader and writer of `{root}/servers/`.
//!
//! Intent comes in from the API and the command line ([`Store::create`], [`Store::change`]) and from people who edit files
//! (noticed by `watch`, read by [`Store::refresh`]). Facts and status come in from the reconciler
//! ([`Store::commit`], [`Store::set_status`]). Everything goes out as an immutable [`Snapshot`] behind an `Arc`, and
//! each change wakes whoever was given to [`Store::on_change`] with the server's name and nothing else.
//!
//! Each entry has one lock for writing, held for the length of a few file operations and never across an await:
//! these functions block, and asynchronous callers go through [`Store::run`]. On disk `config.yml` and `record.json`
//! are replaced atomically and durably; `status.yml` is expendable.

pub mod fingerprint;
pub mod intent;
mod load;
mod reserve;
mod rules;
pub mod watch;
mod wishes;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};

use serde::{Deserialize, Serialize};

use crate::model::{Event, Manifest, Record, ServerId, Status, Timestamp, Want};
use fingerprint::FileFingerprint;
use reserve::Reserve;
pub use wishes::{Applied, ApplyError};

/// Name of the file of intent.
pub const CONFIG_FILE: &str = "config.yml";
/// Name of the operator's own changes, laid over it.
pub const OVERRIDE_FILE: &str = "override.yml";
/// Name of the file of facts.
pub const RECORD_FILE: &str = "record.json";
/// Name of the derived status.
pub const STATUS_FILE: &str = "status.yml";

/// Name of the file in the state folder that keeps room for a full disk.
pub const RESERVE_FILE: &str = ".reserve";

/// Version of `record.json`'s shape.
const RECORD_VERSION: u32 = 1;
/// The longest `status.yml` that is looked at for earlier events, bytes.
const MOST_STATUS: u64 = 1024 * 1024;

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

/// What is wrong with the files of intent; the last good intent stays in force meanwhile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecProblem {
    /// `SpecInvalid` or `SpecMissing`.
    pub reason: &'static str,
    /// File, line, what was expected, what to do.
    pub message: String,
}

/// One server as the store has it. Immutable; a change makes a new one.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The server.
    pub id: ServerId,
    /// Counts changes of intent and facts since the daemon started.
    pub revision: u64,
    /// The intent in force: `config.yml` with `override.yml` over it, or the last good one. `None` where none was ever
    /// good.
    pub manifest: Option<Arc<Manifest>>,
    /// Facts.
    pub record: Arc<Record>,
    /// What is wrong with the files of intent.
    pub problem: Option<SpecProblem>,
    /// The intent was read from files that the record does not know yet.
    pub unrecorded: bool,
}

impl Snapshot {
    /// Whether the API knows the server: it has an intent, its panel lists it, and nobody has asked to delete it.
    pub fn is_listed(&self) -> bool {
        self.manifest.is_some() && self.record.parked.is_none() && self.wanted()
    }

    /// Whether the server should exist (again) once everything that is under way has ended.
    pub fn wanted(&self) -> bool {
        self.record.deletion.as_ref().is_none_or(|deletion| deletion.recreate)
    }
}

/// `record.json`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct StoredRecord<M, R> {
    version: u32,
    files: Sources,
    last_good: M,
    facts: R,
}

/// What the files of intent looked like when they were last read.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
struct Sources {
    config: Option<FileFingerprint>,
    #[serde(rename = "override")]
    overlay: Option<FileFingerprint>,
}

/// What happens to a file, for fault injection and for counting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskOp {
    /// `config.yml` is replaced.
    WriteIntent,
    /// `record.json` is replaced.
    WriteRecord,
    /// `status.yml` is replaced.
    WriteStatus,
    /// The server's folder is made.
    CreateFolder,
    /// The server's folder is removed.
    RemoveFolder,
}

/// Looks on at each file operation, and may make it fail. Tests use it to fill the disk and to cut the power.
pub trait DiskHook: Send + Sync {
    /// Before the operation; an error takes its place.
    fn before(&self, server: ServerId, op: DiskOp) -> io::Result<()>;
    /// After the operation has succeeded.
    fn after(&self, server: ServerId, op: DiskOp);
}

/// Where blocking work runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blocking {
    /// On tokio's pool of blocking threads.
    Pool,
    /// Where it is called: for the simulation, which owns the only thread.
    Inline,
}

impl Blocking {
    /// Runs blocking work off the runtime's threads and waits for its result.
    pub async fn run<T: Send + 'static>(self, work: impl FnOnce() -> T + Send + 'static) -> T {
        match self {
            Blocking::Inline => work(),
            Blocking::Pool => match tokio::task::spawn_blocking(work).await {
                Ok(value) => value,
                Err(error) => match error.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    // Blocking work is cancelled only when the whole runtime goes down.
                    Err(_) => std::future::pending().await,
                },
            },
        }
    }
}

/// Who has opened the state folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Opener {
    /// The node's daemon, which keeps the folder in order.
    Daemon,
    /// A command that is typed while no daemon runs. It moves nothing out of the way.
    Command,
}

type OnChange = Box<dyn Fn(ServerId) + Send + Sync>;

/// A handle on the state folder.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    servers: PathBuf,
    opener: Opener,
    reserve: Reserve,
    entries: RwLock<BTreeMap<ServerId, Arc<Entry>>>,
    on_change: OnceLock<OnChange>,
    hook: Option<Arc<dyn DiskHook>>,
    blocking: Blocking,
    /// Counts visible changes of any server, so that derived lists know when they are stale.
    version: AtomicU64,
}

struct Entry {
    id: ServerId,
    /// Held while files are written; guards what only writers need.
    write: Mutex<Sources>,
    /// Why no record may be written: the one on disk holds facts that could not be read.
    sealed: RwLock<Option<String>>,
    snapshot: RwLock<Arc<Snapshot>>,
    status: RwLock<Arc<Status>>,
    /// The events that an earlier run left in `status.yml` are among the present ones.
    history: AtomicBool,
    /// There are events that `status.yml` does not have yet.
    unwritten_events: AtomicBool,
    /// The server was removed, or never came to be. Changes under `write`: who waited there for it must not write.
    gone: AtomicBool,
}

impl Store {
    /// Opens the state folder and reads every record in it. A record that cannot be read is that server's
    /// condition, not a failure.
    ///
    /// # Errors
    /// When the folder cannot be made or listed.
    pub fn open(root: &Path, blocking: Blocking, hook: Option<Arc<dyn DiskHook>>) -> Result<Self, StoreError> {
        Self::open_as(Opener::Daemon, root, blocking, hook)
    }

    /// Opens the state folder for a command while no daemon runs. Records that are damaged stay where they are and are not
    /// written over.
    ///
    /// # Errors
    /// When the folder cannot be made or listed, or a record in it cannot be read.
    pub fn open_for_command(root: &Path) -> Result<Self, StoreError> {
        Self::open_as(Opener::Command, root, Blocking::Inline, None)
    }

    fn open_as(
        opener: Opener,
        root: &Path,
        blocking: Blocking,
        hook: Option<Arc<dyn DiskHook>>,
    ) -> Result<Self, StoreError> {
        let servers = root.join("servers");
        std::fs::create_dir_all(&servers).map_err(|source| StoreError::Disk {
            action: "create the folder",
            path: servers.clone(),
            source,
        })?;
        let entries = load::load_all(&servers, opener)?;
        let reserve = Reserve::new(root.join(RESERVE_FILE));
        if opener == Opener::Daemon {
            reserve.keep();
        }
        Ok(Self {
            inner: Arc::new(Inner {
                servers,
                opener,
                reserve,
                entries: RwLock::new(entries.into_iter().map(|entry| (entry.id, Arc::new(entry))).collect()),
                on_change: OnceLock::new(),
                hook,
                blocking,
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

    /// Writes a new server. Its files are on disk when this returns.
    ///
    /// # Errors
    /// [`StoreError::Exists`], or the disk's refusal, after which nothing of it is left.
    pub fn create(&self, manifest: Manifest, record: Record) -> Result<Arc<Snapshot>, StoreError> {
        let text = self.render(&manifest)?;
        self.create_from(&text, manifest, record)
    }

    fn render(&self, manifest: &Manifest) -> Result<String, StoreError> {
        intent::render(manifest).map_err(|error| StoreError::Broken {
            path: self.folder(manifest.metadata.uuid).join(CONFIG_FILE),
            message: error.to_string(),
        })
    }

    /// Writes a new server whose `config.yml` is this text, which means `manifest`.
    fn create_from(&self, text: &str, manifest: Manifest, record: Record) -> Result<Arc<Snapshot>, StoreError> {
        let id = manifest.metadata.uuid;
        self.check(id, text)?;
        if self.entry(id).is_none() && self.folder(id).join(CONFIG_FILE).exists() {
            // A person was faster, and the watch has not said so yet.
            self.refresh(id)?;
            return Err(StoreError::Exists(id));
        }
        let entry = Arc::new(Entry::empty(id));
        let mut sources = lock(&entry.write);
        {
            let mut entries = write(&self.inner.entries);
            if let Some(other) = entries.get(&id).cloned() {
                drop(entries);
                // It may be in the making. Whoever hears that it exists must find it whole.
                drop(lock(&other.write));
                return Err(StoreError::Exists(id));
            }
            entries.insert(id, entry.clone());
        }
        match self.write_new(&entry, &mut sources, text, manifest, record) {
            Ok(snapshot) => {
                drop(sources);
                self.changed(id);
                Ok(snapshot)
            }
            Err(error) => {
                entry.gone.store(true, Ordering::Release);
                write(&self.inner.entries).remove(&id);
                // Best effort: the error that is returned is the one that matters.
                for file in [CONFIG_FILE, RECORD_FILE] {
                    let _ = std::fs::remove_file(self.folder(id).join(file));
                }
                let _ = std::fs::remove_dir(self.folder(id));
                Err(error)
            }
        }
    }

    fn write_new(
        &self,
        entry: &Entry,
        sources: &mut Sources,
        text: &str,
        manifest: Manifest,
        mut record: Record,
    ) -> Result<Arc<Snapshot>, StoreError> {
        self.ensure_folder(entry.id)?;
        let fingerprint = self.write_intent(entry.id, text)?;
        let files = intent::read(&self.folder(entry.id), entry.id);
        if let Some(problem) = files.problem() {
            // An override that waited for the server, and is broken: without it for now.
            record.generation += 1;
            record.accepted_hash = manifest.hash();
            sources.config = fingerprint;
            return self.put_record(entry, sources, Some(Arc::new(manifest)), record, Some(problem));
        }
        self.accept(entry, sources, files, record)
    }

    /// Whether a text can be read back once it is a server's `config.yml`: nothing that the store writes may need a
    /// person to mend it.
    fn check(&self, id: ServerId, text: &str) -> Result<Manifest, StoreError> {
        let manifest: Manifest =
            crate::yaml::parse(text).map_err(|error| self.broken(id, CONFIG_FILE, error.to_string()))?;
        intent::validate(&manifest, id).map_err(|problem| self.broken(id, CONFIG_FILE, problem.message))?;
        Ok(manifest)
    }

    fn broken(&self, id: ServerId, file: &str, message: String) -> StoreError {
        StoreError::Broken { path: self.folder(id).join(file), message }
    }

    /// Changes a server's intent in `config.yml`, keeping a person's comments and layout. What `edit` sees is the file
    /// without `override.yml`. A change that changes nothing writes nothing.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when `expected` is given and no longer the revision, [`StoreError::Broken`]
    /// while the file does not parse, or the disk's refusal, after which the old file is whole.
    pub fn change(
        &self,
        id: ServerId,
        expected: Option<u64>,
        edit: impl FnOnce(&mut Manifest),
    ) -> Result<Arc<Snapshot>, StoreError> {
        self.change_with(id, expected, edit, |_| {})
    }

    /// As [`Store::change`], with facts that belong to the change.
    ///
    /// # Errors
    /// As [`Store::change`].
    pub fn change_with(
        &self,
        id: ServerId,
        expected: Option<u64>,
        edit: impl FnOnce(&mut Manifest),
        facts: impl FnOnce(&mut Record),
    ) -> Result<Arc<Snapshot>, StoreError> {
        self.change_by(id, expected, |manifest, _| edit(manifest), facts)
    }

    /// As [`Store::change_with`], by an edit that depends on facts.
    fn change_by(
        &self,
        id: ServerId,
        expected: Option<u64>,
        edit: impl FnOnce(&mut Manifest, &Record),
        facts: impl FnOnce(&mut Record),
    ) -> Result<Arc<Snapshot>, StoreError> {
        let entry = self.entry(id).ok_or(StoreError::Unknown(id))?;
        let mut sources = entry.for_writing()?;
        let before = read(&entry.snapshot).clone();
        entry.whole(|| self.folder(id).join(RECORD_FILE))?;
        if let Some(expected) = expected
            && expected != before.revision
        {
            return Err(StoreError::Conflict { id, expected, found: before.revision });
        }
        let folder = self.folder(id);
        let mut files = intent::read(&folder, id);
        let (text, base) = files.base().map_err(|problem| self.broken(id, CONFIG_FILE, problem.message))?;
        if let Some(problem) = files.problem() {
            // A change that would not come in force must not look as if it had.
            return Err(self.broken(id, OVERRIDE_FILE, problem.message));
        }
        let mut wanted = base.clone();
        edit(&mut wanted, &before.record);
        // A wish that could not be written while the file was broken goes home, if the file is whole by now.
        if before.record.pending_counts(base.spec.power.as_ref()) && wanted.spec.power == base.spec.power {
            wanted.spec.power = before.record.pending_power.clone();
        }
        let mut record = Record::clone(&before.record);
        facts(&mut record);
        record.pending_power = None;
        let changed = wanted != base;
        if !changed && record == *before.record {
            return Ok(before);
        }
        if changed {
            let edited =
                intent::edit(&text, &base, &wanted).map_err(|error| self.broken(id, CONFIG_FILE, error.to_string()))?;
            self.check(id, &edited)?;
            let basis = files.sources().config;
            let frees = frees_space(Some(&base), Some(&wanted));
            if !self.with_reserve(frees, || self.write_over(id, &edited, basis))? {
                let after =
                    self.accept(&entry, &mut sources, intent::read(&folder, id), Record::clone(&before.record))?;
                drop(sources);
                self.changed(id);
                return Err(StoreError::Conflict { id, expected: before.revision, found: after.revision });
            }
            files = intent::read(&folder, id);
        }
        let snapshot = self.accept(&entry, &mut sources, files, record).inspect_err(|_| {
            if changed {
                self.take_back(id, &text);
            }
        })?;
        drop(sources);
        self.changed(id);
        Ok(snapshot)
    }

    /// What could not be recorded was refused, so it must not come in force at the next look. If even this write fails, it
    /// does: then the file says what is wanted, and the next look records it.
    fn take_back(&self, id: ServerId, text: &str) {
        if let Err(error) = self.write_intent(id, text) {
            tracing::error!(server.id = %id, "a refused change stays in the file: {error}");
        }
    }

    /// Writes a whole new intent over a server that the API no longer knows (parked, or being deleted). One that it knows
    /// by now is left as it is: somebody was faster with the same request.
    ///
    /// # Errors
    /// [`StoreError::Unknown`], or the disk's refusal.
    pub fn replace(&self, id: ServerId, manifest: Manifest, facts: impl FnOnce(&mut Record)) -> Result<(), StoreError> {
        let text = self.render(&manifest)?;
        self.replace_text(id, &text, |before| !before.is_listed(), facts)
    }

    /// Makes a text a server's `config.yml`, if it is `due` when its turn has come.
    fn replace_text(
        &self,
        id: ServerId,
        text: &str,
        due: impl FnOnce(&Snapshot) -> bool,
        facts: impl FnOnce(&mut Record),
    ) -> Result<(), StoreError> {
        self.check(id, text)?;
        let entry = self.entry(id).ok_or(StoreError::Unknown(id))?;
        let mut sources = entry.for_writing()?;
        let before = read(&entry.snapshot).clone();
        if !due(&before) {
            return Ok(());
        }
        entry.whole(|| self.folder(id).join(RECORD_FILE))?;
        let mut record = Record::clone(&before.record);
        facts(&mut record);
        record.pending_power = None;
        self.ensure_folder(id)?;
        let old = std::fs::read_to_string(self.folder(id).join(CONFIG_FILE)).ok();
        self.write_intent(id, text)?;
        let files = intent::read(&self.folder(id), id);
        self.accept(&entry, &mut sources, files, record).inspect_err(|_| {
            if let Some(old) = &old {
                self.take_back(id, old);
            }
        })?;
        drop(sources);
        self.changed(id);
        Ok(())
    }

    /// Looks at the files of intent again. Returns whether anything changed.
    ///
    /// # Errors
    /// When an accepted change cannot be recorded.
    pub fn refresh(&self, id: ServerId) -> Result<bool, StoreError> {
        let folder = self.folder(id);
        let (entry, new) = match self.entry(id) {
            Some(entry) => (entry, false),
            None if folder.join(CONFIG_FILE).exists() => (self.adopt_folder(id)?, true),
            None => return Ok(false),
        };
        let Ok(mut sources) = entry.for_writing() else { return Ok(false) };
        let before = read(&entry.snapshot).clone();
        if entry.is_sealed() && !self.unseal(&entry, &mut sources)? {
            return Ok(new);
        }
        let new = new || before.revision != read(&entry.snapshot).revision;
        let before = read(&entry.snapshot).clone();
        let files = intent::read(&folder, id);
        let waits = before.record.pending_power.is_some() && files.problem().is_none();
        let same = *sources == files.sources() && before.problem == files.problem() && before.manifest.is_some();
        if same && !new && !waits {
            return Ok(false);
        }
        let mut record = Record::clone(&before.record);
        if before.manifest.is_none()
            && load::facts_were_lost(&folder)
            && let Ok(manifest) = files.effective()
        {
            load::assume_all_was_done(&mut record, &manifest);
        }
        let files = if waits { self.take_home(id, files, &mut record) } else { files };
        let after = self.accept(&entry, &mut sources, files, record)?;
        drop(sources);
        let changed = new || after.revision != before.revision;
        if changed {
            self.changed(id);
        }
        Ok(changed)
    }

    /// Writes a power wish into the file that was broken when it was made. Until that has succeeded the record keeps it.
    fn take_home(&self, id: ServerId, files: intent::Files, record: &mut Record) -> intent::Files {
        let Ok((text, base)) = files.base() else { return files };
        if !record.pending_counts(base.spec.power.as_ref()) {
            return files;
        }
        let mut wanted = base.clone();
        wanted.spec.power = record.pending_power.clone();
        let edited =
            intent::edit(&text, &base, &wanted).map_err(|error| self.broken(id, CONFIG_FILE, error.to_string()));
        let written = edited.and_then(|edited| {
            self.check(id, &edited)?;
            self.write_over(id, &edited, files.sources().config)
        });
        match written {
            Ok(true) => {
                record.pending_power = None;
                intent::read(&self.folder(id), id)
            }
            // Saved in this moment: that is news, and looked at next.
            Ok(false) => files,
            Err(error) => {
                tracing::warn!(server.id = %id, "a power wish stays in the record for now: {error}");
                files
            }
        }
    }

    /// Puts freshly read files in force: good ones replace the last good intent, broken ones become a problem.
    fn accept(
        &self,
        entry: &Entry,
        sources: &mut Sources,
        files: intent::Files,
        mut record: Record,
    ) -> Result<Arc<Snapshot>, StoreError> {
        let before = read(&entry.snapshot).clone();
        match files.effective() {
            Ok(mut manifest) => {
                if record.pending_counts(manifest.spec.power.as_ref()) {
                    manifest.spec.power = record.pending_power.clone();
                } else {
                    record.pending_power = None;
                }
                let old = before.manifest.as_ref().and_then(|old| old.spec.power.as_ref());
                record.supersede_power(old, manifest.spec.power.as_ref());
                let hash = manifest.hash();
                if hash != record.accepted_hash {
                    record.generation += 1;
                    record.accepted_hash = hash;
                }
                let manifest = match &before.manifest {
                    Some(old) if **old == manifest => old.clone(),
                    _ => Arc::new(manifest),
                };
                // Only what is recorded counts as read: a disk that refuses now is asked again at the next look.
                let snapshot = self.put_record(entry, &files.sources(), Some(manifest), record, None)?;
                *sources = files.sources();
                Ok(snapshot)
            }
            Err(problem) => {
                if before.problem.as_ref() == Some(&problem) && record == *before.record {
                    return Ok(before);
                }
                if record == *before.record {
                    // Nothing to write: the problem is read from the files again at the next boot.
                    return Ok(entry.publish(before.manifest.clone(), before.record.clone(), Some(problem)));
                }
                self.put_record(entry, sources, before.manifest.clone(), record, Some(problem))
            }
        }
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
        let mut manifest = before.manifest.clone();
        if let (Some(power), Some(old)) = (&record.pending_power, &manifest)
            && old.spec.power.as_ref() != Some(power)
        {
            let mut changed = Manifest::clone(old);
            let power = power.clone();
            if before.record.pending_power.is_none() {
                // One that waited was in no file that could bring it back.
                record.supersede_power(changed.spec.power.as_ref(), Some(&power));
            }
            changed.spec.power = Some(power);
            record.generation += 1;
            record.accepted_hash = changed.hash();
            manifest = Some(Arc::new(changed));
        }
        let snapshot = self.put_record(&entry, &sources, manifest, record, before.problem.clone())?;
        drop(sources);
        self.inner.version.fetch_add(1, Ordering::AcqRel);
        Ok(snapshot)
    }

    /// Forgets a server and removes its folder with everything the store keeps there.
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
        self.observed(id, DiskOp::RemoveFolder, "remove the folder", &folder, || {
            // The intent goes first: a folder without one is never taken for a server again.
            match crate::atomic::remove_file(&folder.join(CONFIG_FILE)).map_err(io::Error::from) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            match std::fs::remove_dir_all(&folder) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            }
        })?;
        entry.gone.store(true, Ordering::Release);
        write(&self.inner.entries).remove(&id);
        drop(guard);
        self.changed(id);
        Ok(true)
    }

    /// Publishes a server's status. Returns whether `status.yml` is stale, because this differs from the one before or
    /// because something was noted since; then [`Store::write_status`] is due.
    pub fn set_status(&self, id: ServerId, status: Status) -> bool {
        let Some(entry) = self.entry(id) else { return false };
        let mut current = write(&entry.status);
        if **current == status {
            return entry.unwritten_events.load(Ordering::Acquire);
        }
        *current = Arc::new(status);
        drop(current);
        self.inner.version.fetch_add(1, Ordering::AcqRel);
        true
    }

    /// Notes something that happened to a server.
    pub fn event(&self, id: ServerId, at: Timestamp, reason: &str, message: &str) {
        let Some(entry) = self.entry(id) else { return };
        tracing::info!(server.id = %id, reason, "{message}");
        let mut current = write(&entry.status);
        let mut status = Status::clone(&current);
        status.push_event(at, reason, message);
        *current = Arc::new(status);
        entry.unwritten_events.store(true, Ordering::Release);
    }

    /// Writes `status.yml`: atomic, not durable. The first time, the events that are in it already are kept: an earlier
    /// run of the daemon has seen them.
    ///
    /// # Errors
    /// The disk's refusal; nothing depends on the file.
    pub fn write_status(&self, id: ServerId) -> Result<(), StoreError> {
        let Some(entry) = self.entry(id) else { return Ok(()) };
        let Ok(guard) = entry.for_writing() else { return Ok(()) };
        let path = self.folder(id).join(STATUS_FILE);
        if !entry.history.swap(true, Ordering::AcqRel) {
            let earlier = earlier_events(&path);
            let mut current = write(&entry.status);
            let mut status = Status::clone(&current);
            status.put_before(earlier);
            *current = Arc::new(status);
        }
        // Before the status is taken: what is noted from now on is not in it.
        entry.unwritten_events.store(false, Ordering::Release);
        let status = read(&entry.status).clone();
        let text = crate::yaml::to_string(&*status)
            .map_err(|error| StoreError::Broken { path: path.clone(), message: error.to_string() })?;
        let result = self.observed(id, DiskOp::WriteStatus, "write", &path, || {
            let temporary = path.with_file_name(".status.yml.tmp");
            std::fs::write(&temporary, text)?;
            std::fs::rename(&temporary, &path)
        });
        if result.is_err() {
            entry.unwritten_events.store(true, Ordering::Release);
        }
        drop(guard);
        result
    }

    /// Takes up a folder that came while the daemon runs, with the facts that it brings: it may be a server that was moved
    /// here.
    fn adopt_folder(&self, id: ServerId) -> Result<Arc<Entry>, StoreError> {
        let found = load::load(&self.inner.servers, id, self.inner.opener)?.unwrap_or_else(|| Entry::empty(id));
        Ok(write(&self.inner.entries).entry(id).or_insert_with(|| Arc::new(found)).clone())
    }

    /// Reads a record again that could not be read. Returns whether it can be now, or is out of the way.
    fn unseal(&self, entry: &Entry, sources: &mut Sources) -> Result<bool, StoreError> {
        let found = load::load(&self.inner.servers, entry.id, self.inner.opener)?;
        let found = found.unwrap_or_else(|| Entry::empty(entry.id));
        if found.is_sealed() {
            return Ok(false);
        }
        *sources = *lock(&found.write);
        let known = read(&found.snapshot).clone();
        *write(&entry.sealed) = None;
        entry.publish(known.manifest.clone(), known.record.clone(), known.problem.clone());
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

    fn ensure_folder(&self, id: ServerId) -> Result<(), StoreError> {
        let folder = self.folder(id);
        if folder.is_dir() {
            return Ok(());
        }
        self.observed(id, DiskOp::CreateFolder, "create the folder", &folder, || {
            crate::atomic::create_dir(&folder, 0o700).map_err(io::Error::from)
        })
    }

    fn write_intent(&self, id: ServerId, text: &str) -> Result<Option<FileFingerprint>, StoreError> {
        let path = self.folder(id).join(CONFIG_FILE);
        self.observed(id, DiskOp::WriteIntent, "write", &path, || {
            crate::atomic::write_through(&path, text.as_bytes(), 0o600, || Ok(())).map_err(io::Error::from)
        })?;
        Ok(FileFingerprint::of(&path).ok())
    }

    /// Replaces the `config.yml` that a change is based on; not one that a person has saved since. Returns whether it did.
    fn write_over(&self, id: ServerId, text: &str, basis: Option<FileFingerprint>) -> Result<bool, StoreError> {
        let path = self.folder(id).join(CONFIG_FILE);
        let mut stale = false;
        let written = self.observed(id, DiskOp::WriteIntent, "write", &path, || {
            // Asked when the new text is on the disk: writing it takes longer than an editor needs to save.
            let still = || {
                stale = FileFingerprint::of(&path).ok() != basis;
                if stale { Err(io::Error::other("it was saved by somebody else")) } else { Ok(()) }
            };
            crate::atomic::write_through(&path, text.as_bytes(), 0o600, still).map_err(io::Error::from)
        });
        if stale { Ok(false) } else { written.map(|()| true) }
    }

    fn put_record(
        &self,
        entry: &Entry,
        sources: &Sources,
        manifest: Option<Arc<Manifest>>,
        record: Record,
        problem: Option<SpecProblem>,
    ) -> Result<Arc<Snapshot>, StoreError> {
        entry.whole(|| self.folder(entry.id).join(RECORD_FILE))?;
        self.ensure_folder(entry.id)?;
        let path = self.folder(entry.id).join(RECORD_FILE);
        let stored =
            StoredRecord { version: RECORD_VERSION, files: *sources, last_good: manifest.as_deref(), facts: &record };
        let text = serde_json::to_vec(&stored)
            .map_err(|error| StoreError::Broken { path: path.clone(), message: error.to_string() })?;
        let before = read(&entry.snapshot).clone();
        let frees = frees_space(before.manifest.as_deref(), manifest.as_deref())
            || (record.deletion.is_some() && before.record.deletion.is_none());
        self.with_reserve(frees, || {
            self.observed(entry.id, DiskOp::WriteRecord, "write", &path, || {
                crate::atomic::write_file(&path, &text, 0o600).map_err(io::Error::from)
            })
        })?;
        if self.inner.opener == Opener::Daemon {
            self.inner.reserve.keep();
        }
        Ok(entry.publish(manifest, Arc::new(record), problem))
    }

    /// Writes, and once more with the reserve given up if the disk is full and what is written `frees` space.
    fn with_reserve<T>(&self, frees: bool, write: impl Fn() -> Result<T, StoreError>) -> Result<T, StoreError> {
        match write() {
            Err(StoreError::Disk { source, .. })
                if frees && source.kind() == io::ErrorKind::StorageFull && self.inner.reserve.release() =>
            {
                write()
            }
            result => result,
        }
    }

    fn observed(
        &self,
        id: ServerId,
        op: DiskOp,
        action: &'static str,
        path: &Path,
        work: impl FnOnce() -> io::Result<()>,
    ) -> Result<(), StoreError> {
        let disk = |source| StoreError::Disk { action, path: path.to_owned(), source };
        if let Some(hook) = &self.inner.hook {
            hook.before(id, op).map_err(disk)?;
        }
        work().map_err(disk)?;
        if let Some(hook) = &self.inner.hook {
            hook.after(id, op);
        }
        Ok(())
    }
}

impl Entry {
    fn empty(id: ServerId) -> Self {
        Self::new(id, Sources::default(), None, Record::default(), None)
    }

    fn new(
        id: ServerId,
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
        let snapshot = Snapshot { id, revision: 1, manifest, record: Arc::new(record), problem, unrecorded };
        Self {
            id,
            write: Mutex::new(sources),
            sealed: RwLock::new(None),
            snapshot: RwLock::new(Arc::new(snapshot)),
            status: RwLock::new(Arc::new(status)),
            history: AtomicBool::new(false),
            unwritten_events: AtomicBool::new(false),
            gone: AtomicBool::new(false),
        }
    }

    /// Takes the lock for writing.
    fn for_writing(&self) -> Result<MutexGuard<'_, Sources>, StoreError> {
        let sources = lock(&self.write);
        match self.gone.load(Ordering::Acquire) {
            true => Err(StoreError::Unknown(self.id)),
            false => Ok(sources),
        }
    }

    fn is_sealed(&self) -> bool {
        read(&self.sealed).is_some()
    }

    /// Refuses what would write over facts that could not be read.
    fn whole(&self, record: impl FnOnce() -> PathBuf) -> Result<(), StoreError> {
        match &*read(&self.sealed) {
            Some(message) => Err(StoreError::Broken { path: record(), message: message.clone() }),
            None => Ok(()),
        }
    }

    fn publish(
        &self,
        manifest: Option<Arc<Manifest>>,
        record: Arc<Record>,
        problem: Option<SpecProblem>,
    ) -> Arc<Snapshot> {
        let mut current = write(&self.snapshot);
        let next = Arc::new(Snapshot {
            id: self.id,
            revision: current.revision + 1,
            manifest,
            record,
            problem,
            unrecorded: false,
        });
        *current = next.clone();
        next
    }
}

/// Whether a new intent asks for an end, of a running server or of an installation, which makes room.
fn frees_space(before: Option<&Manifest>, after: Option<&Manifest>) -> bool {
    let Some(after) = after.map(|after| &after.spec) else { return false };
    let before = before.map(|before| &before.spec);
    let down = after.power.as_ref().filter(|power| power.want == Want::Down);
    let aborts = after.install.as_ref().filter(|install| install.abort);
    down.is_some_and(|_| before.is_none_or(|before| before.power != after.power))
        || aborts.is_some_and(|_| before.is_none_or(|before| before.install != after.install))
        || (after.suspended && before.is_none_or(|before| !before.suspended))
}

/// The events in a `status.yml`; none where it cannot be read, since nothing depends on it.
fn earlier_events(path: &Path) -> Vec<Event> {
    #[derive(Deserialize)]
    struct Earlier {
        #[serde(default)]
        events: Vec<Event>,
    }
    if std::fs::metadata(path).is_ok_and(|metadata| !metadata.is_file() || metadata.len() > MOST_STATUS) {
        return Vec::new();
    }
    let Ok(text) = std::fs::read_to_string(path) else { return Vec::new() };
    crate::yaml::parse::<Earlier>(&text).map(|earlier| earlier.events).unwrap_or_default()
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
