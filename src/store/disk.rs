//! What the store writes: one function for each kind of file, each observed by a hook.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::entry::Writer;
use super::fingerprint::FileFingerprint;
use super::stored::{self, FolderId, StoredRecord, StoredRequests};
use super::{CONFIG_FILE, Entry, RECORD_FILE, REQUESTS_FILE, Sources, Store, StoreError, read};
use crate::atomic::{self, AtomicError, Kept};
use crate::model::{Manifest, Power, Record, Requests, ServerId, Verb};
use crate::requests;

/// An operation on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskOp {
    /// Replaces `config.yml`.
    WriteManifest,
    /// Replaces `requests.json`.
    WriteRequests,
    /// Replaces `record.json`.
    WriteRecord,
    /// Replaces `status.yml`.
    WriteStatus,
    /// Creates the server's folder.
    CreateFolder,
    /// Removes the server's folder, or what a failed creation has written into it.
    RemoveFolder,
}

/// Is called around each operation on the disk, and may make it fail. Tests use it to fill the disk and to cut the power.
pub trait DiskHook: Send + Sync {
    /// Called before the operation; an error is returned in its place.
    fn before(&self, server: ServerId, op: DiskOp) -> io::Result<()>;
    /// Called after the operation has succeeded.
    fn after(&self, server: ServerId, op: DiskOp);
}

/// Rejects every write, for a process that does not hold the lock of the state folder.
pub(super) struct ReadOnly;

impl DiskHook for ReadOnly {
    fn before(&self, _: ServerId, _: DiskOp) -> io::Result<()> {
        Err(io::Error::new(io::ErrorKind::ReadOnlyFilesystem, "the state folder is open for reading only"))
    }

    fn after(&self, _: ServerId, _: DiskOp) {}
}

impl Store {
    /// Creates the server's folder if it is missing. It is on disk when this returns.
    pub(super) fn ensure_folder(&self, id: ServerId) -> Result<(), StoreError> {
        if self.make_folder(id)? {
            atomic::sync_folder(&self.folder(id))?;
            atomic::sync_folder(&self.inner.servers)?;
        }
        Ok(())
    }

    /// Creates the server's folder if it is missing, and the folder of all servers if a person has removed it. Leaves the sync of the
    /// server's folder to the caller. Returns whether it was missing.
    pub(super) fn make_folder(&self, id: ServerId) -> Result<bool, StoreError> {
        let folder = self.folder(id);
        if folder.is_dir() {
            return Ok(false);
        }
        let servers = &self.inner.servers;
        if !servers.is_dir() {
            tracing::warn!(folder = %servers.display(), "the folder of the servers is missing and is created again");
            atomic::create_private(servers)?;
            if let Some(root) = servers.parent() {
                atomic::sync_folder(root)?;
            }
        }
        self.observed(id, DiskOp::CreateFolder, "create the folder", &folder, || atomic::create_dir(&folder, 0o700))?;
        Ok(true)
    }

    /// Replaces the `config.yml` that a change is based on, but not one that a person has saved since: then the result is `None`.
    /// Returns the file that was replaced.
    pub(super) fn write_manifest(
        &self,
        id: ServerId,
        text: &str,
        basis: Option<FileFingerprint>,
    ) -> Result<Option<io::Result<Kept>>, StoreError> {
        let path = self.folder(id).join(CONFIG_FILE);
        let (mut stale, mut kept) = (false, None);
        let written = self.observed(id, DiskOp::WriteManifest, "write", &path, || {
            // Called when the new text is on disk: writing it takes longer than an editor needs to save.
            let check = || {
                stale = FileFingerprint::of(&path).ok() != basis;
                if stale {
                    return Err(io::Error::other("the file was saved in between"));
                }
                // A second name changes the fingerprint's change time, so it comes last.
                kept = Some(Kept::keep(&path));
                Ok(())
            };
            atomic::write_through(&path, text.as_bytes(), 0o600, check)
        });
        if let (Err(_), Some(Ok(kept))) = (&written, &kept)
            && let Err(error) = kept.put_back()
        {
            // The new text may be in place although its folder could not be synced.
            tracing::error!(server.id = %id, %error, "a failed change stays in the file");
        }
        if stale { Ok(None) } else { written.map(|()| kept) }
    }

    /// Replaces `record.json`.
    pub(super) fn put_record(
        &self,
        entry: &Entry,
        writer: &Writer,
        sources: &Sources,
        manifest: Option<&Arc<Manifest>>,
        record: &Record,
    ) -> Result<(), StoreError> {
        let frees = frees_space(read(&entry.snapshot).manifest.as_deref(), manifest.map(|manifest| &**manifest));
        let text = || self.record_text(entry.id, sources, manifest, record);
        self.put(entry.id, writer, RECORD_FILE, DiskOp::WriteRecord, text, frees)
    }

    /// The text of `record.json`.
    pub(super) fn record_text(
        &self,
        id: ServerId,
        sources: &Sources,
        manifest: Option<&Arc<Manifest>>,
        record: &Record,
    ) -> Result<Vec<u8>, StoreError> {
        let stored =
            StoredRecord { version: stored::VERSION, files: *sources, last_good: manifest.map(|last| &**last), record };
        serde_json::to_vec(&stored).map_err(|error| self.broken(id, RECORD_FILE, error.to_string()))
    }

    /// Replaces `requests.json`.
    pub(super) fn put_requests(&self, entry: &Entry, writer: &Writer, requests: &Requests) -> Result<(), StoreError> {
        let before = read(&entry.snapshot).requests.sequence;
        let mut later = requests.accepted.iter().filter(|request| request.sequence > before);
        let frees = later.any(|request| matches!(request.verb, Verb::Stop | Verb::Kill | Verb::Abort | Verb::Delete));
        let text = || self.requests_text(entry.id, requests);
        self.put(entry.id, writer, REQUESTS_FILE, DiskOp::WriteRequests, text, frees)
    }

    /// The text of `requests.json`. The folder must exist.
    pub(super) fn requests_text(&self, id: ServerId, requests: &Requests) -> Result<Vec<u8>, StoreError> {
        let folder = requests::deletion(requests).and_then(|_| FolderId::of(&self.folder(id)));
        let stored = StoredRequests { version: stored::VERSION, server: id, folder, requests };
        serde_json::to_vec(&stored).map_err(|error| self.broken(id, REQUESTS_FILE, error.to_string()))
    }

    /// Replaces a JSON file of a server. It is on disk when this returns.
    fn put(
        &self,
        id: ServerId,
        writer: &Writer,
        file: &str,
        op: DiskOp,
        text: impl FnOnce() -> Result<Vec<u8>, StoreError>,
        frees: bool,
    ) -> Result<(), StoreError> {
        self.check_not_quarantined(id, writer, file)?;
        self.ensure_folder(id)?;
        let path = self.folder(id).join(file);
        let text = text()?;
        self.with_reserve(frees, || self.observed(id, op, "write", &path, || atomic::write_file(&path, &text, 0o600)))?;
        self.inner.reserve.keep();
        Ok(())
    }

    /// Rejects what would overwrite a file that could not be read.
    pub(super) fn check_not_quarantined(&self, id: ServerId, writer: &Writer, file: &str) -> Result<(), StoreError> {
        match &writer.quarantine {
            Some(message) => Err(self.broken(id, file, message.clone())),
            None => Ok(()),
        }
    }

    /// Writes, and releases the reserve to write again if the disk is full and what is written `frees` space.
    pub(super) fn with_reserve<T>(
        &self,
        frees: bool,
        mut write: impl FnMut() -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let is_full = |result: &Result<T, StoreError>| matches!(result, Err(StoreError::Disk(error)) if error.kind() == io::ErrorKind::StorageFull);
        let mut result = write();
        while frees && is_full(&result) && self.inner.reserve.release() {
            result = write();
        }
        result
    }

    /// Runs an operation between the two calls of the hook.
    pub(super) fn observed(
        &self,
        id: ServerId,
        op: DiskOp,
        action: &'static str,
        path: &Path,
        work: impl FnOnce() -> Result<(), AtomicError>,
    ) -> Result<(), StoreError> {
        self.before(id, op).map_err(AtomicError::at(action, path))?;
        work()?;
        self.after(id, op);
        Ok(())
    }

    pub(super) fn before(&self, id: ServerId, op: DiskOp) -> io::Result<()> {
        self.inner.hook.as_ref().map_or(Ok(()), |hook| hook.before(id, op))
    }

    pub(super) fn after(&self, id: ServerId, op: DiskOp) {
        if let Some(hook) = &self.inner.hook {
            hook.after(id, op);
        }
    }
}

/// Removes the folder of a server that is being deleted. A missing folder is not an error.
pub(super) fn remove_folder(folder: &Path) -> io::Result<()> {
    let remove = || {
        for path in removal_order(folder)? {
            match path.is_dir() && !path.is_symlink() {
                true => std::fs::remove_dir_all(&path)?,
                // Each removal is on disk before the next one.
                false => atomic::remove_file(&path)?,
            }
        }
        std::fs::remove_dir(folder)
    };
    match remove() {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The content of a server's folder in the order of its removal. The manifest goes first. The record goes before the deletion in
/// `requests.json`: a crash in between leaves a deletion that continues, or a folder that does not count as a server.
pub(super) fn removal_order(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = std::fs::read_dir(folder)?.map(|item| Ok(item?.path())).collect::<io::Result<Vec<_>>>()?;
    paths.sort_by_key(|path| match path.file_name().and_then(|name| name.to_str()) {
        Some(CONFIG_FILE) => 0,
        Some(name) if name.starts_with(RECORD_FILE) => 2,
        Some(REQUESTS_FILE) => 3,
        _ => 1,
    });
    Ok(paths)
}

/// Whether a new spec asks a running server to stop, which frees space.
pub(super) fn frees_space(before: Option<&Manifest>, after: Option<&Manifest>) -> bool {
    let ends = |manifest: &Manifest| (manifest.spec.power == Some(Power::Down), manifest.spec.suspended);
    let (down, suspended) = after.map(ends).unwrap_or_default();
    let (was_down, was_suspended) = before.map(ends).unwrap_or_default();
    (down && !was_down) || (suspended && !was_suspended)
}
