//! Servers that come in rounds: the trees that are filled, open from the first request of a session to its end.
//!
//! Beside the tree that becomes the server's files there is one for its backups and its log. What is wanted in each of them (`wanted`),
//! and what was found in it (`has`), are manifests in the same folder, so the next round and the next process read only what has
//! changed. Everything blocks.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, TryLockError};

use uuid::Uuid;

use super::file_locks::FilesLock;
use super::operations::RunningOperation;
use crate::files::replacement::{Phase, Present, ReplacementError};
use crate::files::tree::Tree;
use crate::files::user_path::UserPath;
use crate::model::{BackupArchive, ServerId};
use crate::rate::Rate;
use crate::replication::{
    Content, Entry, FrameReader, Hash, ManifestReader, ManifestWriter, MissingWriter, PageWriter, ReplicationError,
    Scan, Summary, complete, prepare, receive_manifest, scan, settled_before, store_blocks,
};
use crate::transfer::{Destination, INSTALL_LOG, ReceiveError, TransferPart, backup_of};

/// What is said of files that were verified before the exchange was interrupted.
pub const VERIFIED: &str = "its files were verified before an interruption";
/// The tree of backups and logs.
const EXTRAS: &str = "extras";
/// The most backups and logs.
const MAX_EXTRAS: usize = 1002;

/// The sessions that are open.
#[derive(Debug, Default)]
pub struct Receptions {
    open: Mutex<BTreeMap<ServerId, Arc<Reception>>>,
    /// One is opened at a time.
    opening: Mutex<()>,
}

impl Receptions {
    /// The session of this transfer, if it is open.
    pub fn get(&self, id: ServerId, token: Uuid) -> Option<Arc<Reception>> {
        self.lock().get(&id).filter(|known| known.at.token == token).cloned()
    }

    /// Opens the session of this transfer, if `operation` still lists it. Blocks.
    ///
    /// # Errors
    /// The disk's error.
    pub fn open(
        &self,
        destination: &Destination,
        files: FilesLock,
        operation: impl FnOnce() -> Option<RunningOperation>,
    ) -> Result<Arc<Reception>, ReceiveError> {
        let _opening = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        let operation = operation().ok_or(ReceiveError::Cancelled)?;
        let reception = Arc::new(Reception::open(destination, files, operation)?);
        self.lock().insert(destination.server, reception.clone());
        Ok(reception)
    }

    /// Ends a session, and waits until nothing uses its trees. The record says already that it is over.
    pub fn close(&self, id: ServerId) {
        let _opening = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(reception) = self.lock().remove(&id) else { return };
        reception.at.progress.cancel();
        drop(reception.alone());
    }

    /// Drops the session of a server that has arrived.
    pub fn remove(&self, id: ServerId) {
        self.lock().remove(&id);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ServerId, Arc<Reception>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A server that comes in rounds.
pub struct Reception {
    at: Destination,
    folder: PathBuf,
    files: Tree,
    extras: Tree,
    /// Blocks are stored at the same time; a manifest and a verification are alone.
    gate: RwLock<()>,
    _operation: RunningOperation,
    /// Nothing else uses the server's files.
    _files: FilesLock,
}

impl std::fmt::Debug for Reception {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reception").field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl Reception {
    fn open(at: &Destination, files_lock: FilesLock, operation: RunningOperation) -> Result<Self, ReceiveError> {
        let at = Destination { progress: operation.progress().clone(), ..at.clone() };
        let staging = match at.layout.reopen_replacement(at.server, at.token)? {
            Some(staging) => staging,
            None => {
                let cancelled = at.progress.cancelled();
                at.layout.begin_replacement(at.server, at.token, Present::Discard, at.limit, cancelled)?
            }
        };
        let (folder, files, extras) =
            (staging.folder().to_owned(), staging.tree().clone(), staging.tree_beside(EXTRAS)?);
        Ok(Self { at, folder, files, extras, gate: RwLock::new(()), _operation: operation, _files: files_lock })
    }

    /// Ends when the session does.
    pub async fn when_closed(&self) {
        self.at.progress.when_cancelled().await;
    }

    fn alone(&self) -> RwLockWriteGuard<'_, ()> {
        self.gate.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn beside_others(&self) -> RwLockReadGuard<'_, ()> {
        self.gate.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn tree(&self, part: TransferPart) -> &Tree {
        match part {
            TransferPart::Files => &self.files,
            TransferPart::Extras => &self.extras,
        }
    }

    /// Takes the manifest of a round. Returns the list of missing blocks, with the hashes of pages behind it if the source wants them.
    ///
    /// # Errors
    /// It is invalid or breaks off, it does not fit, or the disk fails.
    pub fn manifest(&self, part: TransferPart, from: impl Read, with_pages: bool) -> Result<File, ReceiveError> {
        let _alone = self.alone();
        self.check_open()?;
        let new = self.path(part, "new");
        let (written, summary) = receive_manifest(from, BufWriter::new(create(&new)?))?;
        drop(written);
        if part == TransferPart::Extras {
            self.check_extras(&new)?;
        }
        let wanted = self.path(part, "wanted");
        fs::rename(&new, &wanted).map_err(disk(&new))?;
        self.check_space(part, &summary)?;
        let tree = self.tree(part);
        let has = self.scan(part)?;
        let (path, pages_path) = (self.path(part, "missing"), self.path(part, "pages"));
        let (file, pages_file) = (create(&path)?, create(&pages_path)?);
        let mut missing = MissingWriter::new(BufWriter::new(&file));
        let mut pages = with_pages.then(|| PageWriter::new(BufWriter::new(&pages_file))).transpose()?;
        let bytes = prepare(tree, open(&wanted)?, has, &mut missing, pages.as_mut(), self.at.progress.cancelled())?;
        missing.finish()?;
        if let Some(pages) = pages {
            drop(pages.finish()?);
            let appended = (&pages_file).rewind().and_then(|()| io::copy(&mut &pages_file, &mut &file));
            appended.map_err(disk(&pages_path))?;
        }
        tree.sync_file_system().map_err(ReplicationError::from)?;
        self.at.progress.set_total(self.at.progress.done() + bytes);
        (&file).rewind().map_err(disk(&path))?;
        Ok(file)
    }

    /// Stores blocks. They are on disk afterwards. Returns their bytes.
    ///
    /// # Errors
    /// One is invalid, the data break off, or the disk fails. Those before it stay.
    pub fn blocks(&self, part: TransferPart, from: impl Read) -> Result<u64, ReceiveError> {
        let _together = self.beside_others();
        self.check_open()?;
        let (rate, progress) = (&self.at.rate, &self.at.progress);
        let pace = |bytes| {
            rate.take_blocking(bytes);
            progress.add(bytes);
        };
        Ok(store_blocks(self.tree(part), &mut FrameReader::new(from), &pace, progress.cancelled())?)
    }

    /// Verifies the backups and logs. Returns the backups that there are.
    ///
    /// # Errors
    /// Something differs.
    pub fn verify_extras(&self, root: Hash) -> Result<Vec<Uuid>, ReceiveError> {
        let _alone = self.alone();
        self.check_open()?;
        self.verify(TransferPart::Extras, root)?;
        let mut wanted = open(&self.path(TransferPart::Extras, "wanted"))?;
        let mut found = Vec::new();
        while let Some(entry) = wanted.next_entry()? {
            found.extend(backup_of(&entry.path));
        }
        Ok(found)
    }

    /// Gives verified backups their names, and stores the log. The caller has recorded the ids: it removes them if this fails.
    ///
    /// # Errors
    /// The disk fails.
    pub fn keep_extras(&self, backups: &[Uuid]) -> Result<Vec<(Uuid, BackupArchive)>, ReceiveError> {
        let _alone = self.alone();
        self.check_open()?;
        // They have arrived already, at the limited rate.
        let unlimited = Destination { rate: Arc::new(Rate::new(None)), ..self.at.clone() };
        let read = |name: &str| {
            let path = UserPath::root().child(name.as_ref());
            self.extras.open(&path).map(|(file, _)| BufReader::new(file)).map_err(ReplicationError::from)
        };
        let mut kept = Vec::new();
        for id in backups {
            kept.push((*id, unlimited.backup(*id, read(&format!("{id}.tar.gz"))?)?.keep()?));
        }
        if let Ok(log) = read(INSTALL_LOG) {
            unlimited.install_log(log)?;
        }
        Ok(kept)
    }

    /// Removes the copies of backups that have their names.
    pub fn drop_extras(&self) {
        let _alone = self.alone();
        if let Err(error) = fs::remove_dir_all(self.folder.join(EXTRAS)) {
            tracing::debug!(server.id = %self.at.server, %error, "what is left of received backups is removed later");
        }
    }

    /// Verifies the files, and makes them those of the server. Returns a summary for people.
    ///
    /// # Errors
    /// Something differs, or the disk fails: call it again.
    pub fn complete(&self, root: Hash) -> Result<String, ReceiveError> {
        let _alone = self.alone();
        self.check_open()?;
        if complete_verified(&self.at)? {
            return Ok(VERIFIED.to_owned());
        }
        let summary = self.verify(TransferPart::Files, root)?;
        let (layout, server, token) = (&self.at.layout, self.at.server, self.at.token);
        let staging = layout.reopen_replacement(server, token)?.ok_or(ReplacementError::NotReady { token })?;
        staging.finish(self.at.progress.cancelled())?;
        self.check_open()?;
        layout.exchange_replacement(server, token)?;
        Ok(format!("received {} names with {} bytes", summary.entries, summary.bytes))
    }

    /// Completes a server whose files were verified by a request that has ended before its answer. Returns whether that is so.
    ///
    /// # Errors
    /// The disk fails: call it again.
    pub fn complete_verified(&self) -> Result<bool, ReceiveError> {
        let _alone = match self.gate.try_write() {
            Ok(alone) => alone,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // Something is still being received or verified.
            Err(TryLockError::WouldBlock) => return Ok(false),
        };
        self.check_open()?;
        complete_verified(&self.at)
    }

    fn verify(&self, part: TransferPart, root: Hash) -> Result<Summary, ReceiveError> {
        let has = self.scan(part)?;
        let summary = complete(self.tree(part), open(&self.path(part, "wanted"))?, has)?;
        match summary.root == root {
            true => Ok(summary),
            false => Err(ReplicationError::Differs("the root hash".to_owned()).into()),
        }
    }

    /// What is in a tree, on disk.
    fn scan(&self, part: TransferPart) -> Result<ManifestReader<BufReader<File>>, ReceiveError> {
        let (tree, path, new) = (self.tree(part), self.path(part, "has"), self.path(part, "found"));
        // What is hashed must not get lost afterwards: it is on disk.
        let settled_before = settled_before(tree)?;
        let scan_with = |former| {
            let options = Scan { former, settled_before, cancelled: self.at.progress.cancelled() };
            let written = scan(tree, options, ManifestWriter::local(BufWriter::new(create(&new)?)))?;
            let mut file = written.0;
            let synced = file.flush().and_then(|()| file.get_ref().sync_all());
            synced.map_err(disk(&new))?;
            Ok::<_, ReceiveError>(())
        };
        match scan_with(open(&path).ok()) {
            // An earlier one is not complete after a crash.
            Err(ReceiveError::Replication(ReplicationError::Io { .. } | ReplicationError::Invalid { .. })) => {
                scan_with(None)?;
            }
            scanned => scanned?,
        }
        fs::rename(&new, &path).map_err(disk(&new))?;
        open(&path)
    }

    fn check_open(&self) -> Result<(), ReceiveError> {
        if self.at.progress.is_cancelled() { Err(ReceiveError::Cancelled) } else { Ok(()) }
    }

    fn check_space(&self, part: TransferPart, summary: &Summary) -> Result<(), ReceiveError> {
        let needed = summary.bytes.saturating_sub(self.tree(part).account().used());
        if let Some(limit) = self.at.limit.filter(|limit| part == TransferPart::Files && summary.bytes > *limit) {
            return Err(ReplacementError::OverLimit { used: summary.bytes, limit }.into());
        }
        Ok(self.at.layout.check_space_beside(self.at.server, needed)?)
    }

    /// Backups and logs are files without folders, with the names that nodes give them.
    fn check_extras(&self, manifest: &Path) -> Result<(), ReceiveError> {
        let mut entries = open(manifest)?;
        let mut count = 0;
        while let Some(Entry { path, content, .. }) = entries.next_entry()? {
            count += 1;
            let is_top = path.is_empty();
            let is_file = matches!(content, Content::File { .. });
            let known = path == INSTALL_LOG.as_bytes() || backup_of(&path).is_some();
            let allowed = is_top || is_file && known;
            if !allowed || count > MAX_EXTRAS {
                return Err(ReceiveError::TooMany("there is something else among the backups, or there are too many"));
            }
        }
        Ok(())
    }

    fn path(&self, part: TransferPart, what: &str) -> PathBuf {
        self.folder.join(format!("{part}-{what}"))
    }
}

/// Completes a server whose files were verified before the daemon ended. Returns whether that is so.
///
/// # Errors
/// The disk fails: call it again.
pub fn complete_verified(at: &Destination) -> Result<bool, ReceiveError> {
    let found = at.layout.replacement(at.server, at.token)?;
    match found.is_some_and(|found| found.phase >= Phase::Ready) {
        true => at.layout.exchange_replacement(at.server, at.token).map(|()| true).map_err(ReceiveError::from),
        false => Ok(false),
    }
}

fn create(path: &Path) -> Result<File, ReceiveError> {
    File::options().read(true).write(true).create(true).truncate(true).open(path).map_err(disk(path))
}

fn open(path: &Path) -> Result<ManifestReader<BufReader<File>>, ReceiveError> {
    let file = File::open(path).map_err(disk(path))?;
    Ok(ManifestReader::local(BufReader::new(file)))
}

fn disk(path: &Path) -> impl FnOnce(io::Error) -> ReceiveError {
    move |source| ReceiveError::Disk { path: path.to_owned(), source }
}
