//! What the store does to files: one function for each kind of write, each seen by a hook.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::fingerprint::FileFingerprint;
use super::stored::{self, FolderId, StoredRecord, StoredRequests};
use super::{CONFIG_FILE, Entry, RECORD_FILE, REQUESTS_FILE, Sources, Store, StoreError, read};
use crate::atomic::Kept;
use crate::model::{Manifest, Power, Record, Requests, ServerId, Verb};
use crate::requests;

/// What happens to a file, for fault injection and for counting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskOp {
    /// `config.yml` is replaced.
    WriteManifest,
    /// `requests.json` is replaced.
    WriteRequests,
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

/// Refuses every write, for those who do not hold the lock of the state folder.
pub(super) struct ReadOnly;

impl DiskHook for ReadOnly {
    fn before(&self, _: ServerId, _: DiskOp) -> io::Result<()> {
        Err(io::Error::new(io::ErrorKind::ReadOnlyFilesystem, "the state folder was opened to read it"))
    }

    fn after(&self, _: ServerId, _: DiskOp) {}
}

impl Store {
    /// Makes the server's folder where it is missing. It is on disk when this returns.
    pub(super) fn ensure_folder(&self, id: ServerId) -> Result<(), StoreError> {
        if !self.make_folder(id)? {
            return Ok(());
        }
        let sync = |folder: &Path| {
            crate::atomic::sync_folder(folder).map_err(|error| StoreError::Disk {
                action: "bring to disk",
                path: folder.to_owned(),
                source: error.into(),
            })
        };
        sync(&self.folder(id))?;
        sync(&self.inner.servers)
    }

    /// Makes the server's folder where it is missing, and brings it to disk later. Returns whether it was.
    pub(super) fn make_folder(&self, id: ServerId) -> Result<bool, StoreError> {
        let folder = self.folder(id);
        if folder.is_dir() {
            return Ok(false);
        }
        let make = || crate::atomic::create_dir(&folder, 0o700).map_err(io::Error::from);
        self.observed(id, DiskOp::CreateFolder, "create the folder", &folder, make)?;
        Ok(true)
    }

    pub(super) fn write_manifest(&self, id: ServerId, text: &str) -> Result<Option<FileFingerprint>, StoreError> {
        let path = self.folder(id).join(CONFIG_FILE);
        self.observed(id, DiskOp::WriteManifest, "write", &path, || {
            crate::atomic::write_through(&path, text.as_bytes(), 0o600, || Ok(())).map_err(io::Error::from)
        })?;
        Ok(FileFingerprint::of(&path).ok())
    }

    /// Replaces the `config.yml` that a change is based on; not one that a person has saved since. Returns whether it did. The
    /// file that was replaced is `kept`, where the file system can do that.
    pub(super) fn write_over(
        &self,
        id: ServerId,
        text: &str,
        basis: Option<FileFingerprint>,
        kept: &mut Option<Kept>,
    ) -> Result<bool, StoreError> {
        let path = self.folder(id).join(CONFIG_FILE);
        let (mut stale, mut before) = (false, None);
        let written = self.observed(id, DiskOp::WriteManifest, "write", &path, || {
            // Asked when the new text is on the disk: writing it takes longer than an editor needs to save.
            let still = || {
                stale = FileFingerprint::of(&path).ok() != basis;
                if stale {
                    return Err(io::Error::other("it was saved in between"));
                }
                // A second name moves the fingerprint's change time, so it comes last.
                before = Kept::keep(&path).ok();
                Ok(())
            };
            crate::atomic::write_through(&path, text.as_bytes(), 0o600, still).map_err(io::Error::from)
        });
        if let (Err(_), Some(before)) = (&written, &before)
            && let Err(error) = before.put_back()
        {
            // The new text may be in its place although its folder could not be brought to disk.
            tracing::error!(server.id = %id, "a change that was refused stays in the file: {error}");
        }
        *kept = before;
        if stale { Ok(false) } else { written.map(|()| true) }
    }

    /// Replaces `record.json`.
    pub(super) fn put_record(
        &self,
        entry: &Entry,
        sources: &Sources,
        manifest: Option<&Arc<Manifest>>,
        record: &Record,
    ) -> Result<(), StoreError> {
        let frees = frees_space(read(&entry.snapshot).manifest.as_deref(), manifest.map(|manifest| &**manifest));
        let text = || self.record_text(entry.id, sources, manifest, record);
        self.put(entry, RECORD_FILE, DiskOp::WriteRecord, text, frees)
    }

    /// What `record.json` says then.
    pub(super) fn record_text(
        &self,
        id: ServerId,
        sources: &Sources,
        manifest: Option<&Arc<Manifest>>,
        record: &Record,
    ) -> Result<Vec<u8>, StoreError> {
        let stored = StoredRecord {
            version: stored::VERSION,
            files: *sources,
            last_good: manifest.map(|last| &**last),
            facts: record,
        };
        serde_json::to_vec(&stored).map_err(|error| self.broken(id, RECORD_FILE, error.to_string()))
    }

    /// Replaces `requests.json`.
    pub(super) fn put_requests(&self, entry: &Entry, requests: &Requests) -> Result<(), StoreError> {
        self.ensure_folder(entry.id)?;
        let before = read(&entry.snapshot).requests.sequence;
        let later = requests.accepted.iter().filter(|request| request.sequence > before);
        let frees = later
            .into_iter()
            .any(|request| matches!(request.verb, Verb::Stop | Verb::Kill | Verb::Abort | Verb::Delete));
        self.put(entry, REQUESTS_FILE, DiskOp::WriteRequests, || self.requests_text(entry.id, requests), frees)
    }

    /// What `requests.json` says then. The folder must be there.
    pub(super) fn requests_text(&self, id: ServerId, requests: &Requests) -> Result<Vec<u8>, StoreError> {
        let folder = requests::deletion(requests).and_then(|_| FolderId::of(&self.folder(id)));
        let stored = StoredRequests { version: stored::VERSION, server: id, folder, requests };
        serde_json::to_vec(&stored).map_err(|error| self.broken(id, REQUESTS_FILE, error.to_string()))
    }

    /// Replaces a JSON file of a server. It is on disk when this returns.
    fn put(
        &self,
        entry: &Entry,
        file: &str,
        op: DiskOp,
        text: impl FnOnce() -> Result<Vec<u8>, StoreError>,
        frees: bool,
    ) -> Result<(), StoreError> {
        entry.check_not_quarantined(|| self.folder(entry.id).join(file))?;
        self.ensure_folder(entry.id)?;
        let path = self.folder(entry.id).join(file);
        let text = text()?;
        self.with_reserve(frees, || {
            self.observed(entry.id, op, "write", &path, || {
                crate::atomic::write_file(&path, &text, 0o600).map_err(io::Error::from)
            })
        })?;
        self.inner.reserve.keep();
        Ok(())
    }

    /// Writes, and once more with the reserve given up if the disk is full and what is written `frees` space.
    pub(super) fn with_reserve<T>(
        &self,
        frees: bool,
        mut write: impl FnMut() -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        match write() {
            Err(StoreError::Disk { source, .. })
                if frees && source.kind() == io::ErrorKind::StorageFull && self.inner.reserve.release() =>
            {
                write()
            }
            result => result,
        }
    }

    pub(super) fn observed(
        &self,
        id: ServerId,
        op: DiskOp,
        action: &'static str,
        path: &Path,
        work: impl FnOnce() -> io::Result<()>,
    ) -> Result<(), StoreError> {
        let disk = |source| StoreError::Disk { action, path: path.to_owned(), source };
        self.before(id, op).map_err(disk)?;
        work().map_err(disk)?;
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

/// Removes the folder of a server that is being deleted. One that is gone already is no error.
pub(super) fn remove_folder(folder: &Path) -> io::Result<()> {
    let remove = || {
        for path in removal_order(folder)? {
            match path.is_dir() && !path.is_symlink() {
                true => std::fs::remove_dir_all(&path)?,
                // Each is on disk before the next one goes.
                false => crate::atomic::remove_file(&path)?,
            }
        }
        std::fs::remove_dir(folder)
    };
    match remove() {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// What is in a server's folder, in the order in which it is removed. The spec goes first. The record goes before the deletion in
/// `requests.json`: a crash in between leaves a deletion that goes on, or nothing that counts as a server.
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

/// Whether a new spec asks for the end of a running server, which makes room.
pub(super) fn frees_space(before: Option<&Manifest>, after: Option<&Manifest>) -> bool {
    let ends = |manifest: &Manifest| (manifest.spec.power == Some(Power::Down), manifest.spec.suspended);
    let (down, suspended) = after.map(ends).unwrap_or_default();
    let (was_down, was_suspended) = before.map(ends).unwrap_or_default();
    (down && !was_down) || (suspended && !was_suspended)
}
