//! The files that are open for writing here. A file that is removed while it is open keeps its bytes on the disk, so they are
//! released when it is closed.

use std::collections::{HashMap, HashSet};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{FileType, Stat};
use rustix::io::Errno;

use super::super::account::DiskAccount;
use super::entry::{links, size};

/// Device and inode.
type FileId = (u64, u64);

#[derive(Debug, Default)]
pub(super) struct OpenFiles {
    /// Held while a name is removed or a handle closed, so that the bytes of a file are released once.
    files: Mutex<HashMap<FileId, Open>>,
    /// The files whose bytes count for the one that will replace them.
    credited: Mutex<HashSet<FileId>>,
}

#[derive(Debug)]
struct Open {
    handles: usize,
    length: Arc<Mutex<()>>,
}

/// One handle of an open file.
#[derive(Debug)]
pub(super) struct Handle {
    id: FileId,
    length: Arc<Mutex<()>>,
}

impl Handle {
    /// Held while the file's length changes, so that each byte is charged once.
    pub(super) fn length(&self) -> MutexGuard<'_, ()> {
        lock(&self.length)
    }
}

impl OpenFiles {
    /// Registers an open file.
    ///
    /// # Errors
    /// [`Errno::NOENT`] if it was removed meanwhile.
    pub(super) fn opened(&self, file: impl AsFd) -> rustix::io::Result<(Handle, Stat)> {
        let mut files = lock(&self.files);
        let stat = rustix::fs::fstat(file)?;
        if links(&stat) == 0 {
            return Err(Errno::NOENT);
        }
        let id = (stat.st_dev, stat.st_ino);
        let open = files.entry(id).or_insert_with(|| Open { handles: 0, length: Arc::default() });
        open.handles += 1;
        Ok((Handle { id, length: open.length.clone() }, stat))
    }

    /// Forgets a handle. If it was the last one of a file that has no name any more, returns the bytes to release.
    pub(super) fn closed(&self, handle: &Handle, file: impl AsFd) -> u64 {
        let mut files = lock(&self.files);
        let Some(open) = files.get_mut(&handle.id) else { return 0 };
        open.handles -= 1;
        if open.handles > 0 {
            return 0;
        }
        files.remove(&handle.id);
        match rustix::fs::fstat(file) {
            Ok(found) if links(&found) == 0 => size(&found),
            _ => 0,
        }
    }

    /// Removes a name by `remove`, and releases the bytes of a regular file if that was its last one. Returns the bytes.
    pub(super) fn remove(
        &self,
        account: &DiskAccount,
        stat: impl FnOnce() -> rustix::io::Result<Stat>,
        remove: impl FnOnce() -> rustix::io::Result<()>,
    ) -> rustix::io::Result<u64> {
        let files = lock(&self.files);
        let Some((id, size)) = last_name(stat, remove)? else { return Ok(0) };
        if !files.contains_key(&id) {
            account.release(size);
        }
        Ok(size)
    }

    /// No name is removed and no handle closed while the result lives.
    pub(super) fn held(&self) -> Held<'_> {
        Held(lock(&self.files))
    }

    /// Whether the bytes of a file may count for one that will replace it: for one at a time.
    pub(super) fn take_credit(&self, id: FileId) -> bool {
        lock(&self.credited).insert(id)
    }

    /// Ends [`take_credit`](Self::take_credit).
    pub(super) fn return_credit(&self, id: FileId) {
        lock(&self.credited).remove(&id);
    }
}

/// Removes a name. The regular file that has none any more, and its size.
fn last_name(
    stat: impl FnOnce() -> rustix::io::Result<Stat>,
    remove: impl FnOnce() -> rustix::io::Result<()>,
) -> rustix::io::Result<Option<(FileId, u64)>> {
    let found = stat()?;
    remove()?;
    Ok(is_last(&found).then(|| ((found.st_dev, found.st_ino), size(&found))))
}

/// Whether the name is the only one of a regular file.
fn is_last(found: &Stat) -> bool {
    links(found) == 1 && FileType::from_raw_mode(found.st_mode) == FileType::RegularFile
}

/// See [`OpenFiles::held`].
pub(super) struct Held<'a>(MutexGuard<'a, HashMap<FileId, Open>>);

impl Held<'_> {
    /// The bytes that are free once this file is replaced: those of a regular one that has no other name and is not open.
    pub(super) fn freed(&self, found: &Stat) -> u64 {
        let open = self.0.contains_key(&(found.st_dev, found.st_ino));
        if !open && is_last(found) { size(found) } else { 0 }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
