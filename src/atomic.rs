//! Durable atomic changes of files and folders.
//!
//! When a function returns, its change is on disk and survives a power cut. After an error or a crash the old file is still
//! there and complete. Every function blocks on the disk: call none of them on an async thread.

use std::fs::{DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::io::Errno;

#[cfg(test)]
mod tests;

/// How many symbolic links in a row are followed.
const MAX_LINKS: usize = 40;

/// A change on disk that failed. The change did not happen.
///
/// It becomes an [`io::Error`] of the same [`io::ErrorKind`], so that a caller can distinguish a full disk
/// ([`io::ErrorKind::StorageFull`]) from a read-only one ([`io::ErrorKind::ReadOnlyFilesystem`]).
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {source}{}", path.display(), remedy(source.kind()))]
pub struct AtomicError {
    /// What was attempted, as a verb phrase: `write`, `remove`.
    pub action: &'static str,
    /// The path it was attempted on.
    pub path: PathBuf,
    /// The system's error.
    pub source: io::Error,
}

impl AtomicError {
    /// Adds to a system error what was attempted, and on which path.
    pub fn at(action: &'static str, path: &Path) -> impl Fn(io::Error) -> Self {
        move |source| Self { action, path: path.to_owned(), source }
    }

    /// The kind of failure.
    pub fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }
}

impl From<AtomicError> for io::Error {
    fn from(error: AtomicError) -> Self {
        Self::new(error.kind(), error)
    }
}

/// What a person can do about a failure, as the end of a message.
pub fn remedy(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "; free space or inodes on that disk",
        io::ErrorKind::ReadOnlyFilesystem => "; see why that disk is read-only (`dmesg`, `mount`)",
        io::ErrorKind::PermissionDenied => "; run this as root, or check who owns it",
        _ => "",
    }
}

/// Creates or replaces the file at `path` with these bytes and exactly this mode (no umask).
///
/// The bytes go to a temporary file in the same folder (`.name.XXXXXXXX.tmp`), which is then renamed. A symbolic link at `path`
/// is replaced, not followed.
///
/// # Errors
/// The folder is missing, full or read-only, or `path` is a folder. The old file is untouched and the temporary one removed.
/// If only the final sync of the folder fails, the new file may be in place.
pub fn write_file(path: &Path, bytes: &[u8], mode: u32) -> Result<(), AtomicError> {
    let write = || PendingFile::write(path, bytes, mode)?.replace(|| Ok(()));
    write().map_err(AtomicError::at("write", path))
}

/// As [`write_file`], for a file that people edit too: an existing file keeps its mode, and its owner where the system allows
/// that. A symbolic link is followed, and the file that it leads to is replaced in its own folder. `mode` is for a new file.
/// `check` is called when only the rename is left to do: its error keeps a file that was saved meanwhile.
///
/// # Errors
/// As [`write_file`], or the error of `check`; the link leads into a folder that does not exist, or in a circle.
pub fn write_through(
    path: &Path,
    bytes: &[u8],
    mode: u32,
    check: impl FnOnce() -> io::Result<()>,
) -> Result<(), AtomicError> {
    let write = || PendingFile::write_through(path, bytes, mode)?.replace(check);
    write().map_err(AtomicError::at("write", path))
}

/// A file that is written under a temporary name. Many of them can be synced at once, see [`in_parallel`]. Dropping it before
/// [`place`](Self::place) removes it.
pub struct PendingFile {
    target: PathBuf,
    temporary: PathBuf,
    file: File,
    /// A link led into a folder that the caller does not know and will not sync.
    elsewhere: bool,
}

impl PendingFile {
    /// Writes these bytes next to `path`, with exactly this mode.
    ///
    /// # Errors
    /// The folder is missing, full or read-only.
    pub fn write(path: &Path, bytes: &[u8], mode: u32) -> io::Result<Self> {
        let temporary = temporary_path(path);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        let mut pending = Self { target: path.to_owned(), temporary, file, elsewhere: false };
        pending.file.set_permissions(Permissions::from_mode(mode))?;
        pending.file.write_all(bytes)?;
        Ok(pending)
    }

    /// As [`write`](Self::write), for a file that people edit too, see [`write_through`].
    ///
    /// # Errors
    /// As [`write`](Self::write); the link leads into a folder that does not exist, or in a circle.
    pub fn write_through(path: &Path, bytes: &[u8], mode: u32) -> io::Result<Self> {
        let target = resolve(path)?;
        let old = match std::fs::metadata(&target) {
            Ok(old) => Some(old),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => return Err(e),
        };
        let mode = old.as_ref().map_or(mode, |old| old.mode() & 0o7777);
        let mut pending = Self::write(&target, bytes, mode)?;
        if let Some(old) = old {
            pending.copy_owner(&old, mode)?;
        }
        pending.elsewhere = target != path;
        Ok(pending)
    }

    /// Brings the bytes to disk.
    ///
    /// # Errors
    /// The disk's error.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    /// Gives the file its name and returns its metadata. Call after [`sync`](Self::sync). The name is on disk once the folder
    /// is synced, see [`sync_folder`].
    ///
    /// # Errors
    /// The name belongs to a folder, or the folder cannot be changed.
    pub fn place(self) -> io::Result<Metadata> {
        std::fs::rename(&self.temporary, &self.target)?;
        if self.elsewhere {
            sync_parent(&self.target)?;
        }
        self.file.metadata()
    }

    fn replace(self, check: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let target = self.target.clone();
        self.sync()?;
        check()?;
        self.place()?;
        sync_parent(&target)
    }

    /// Copies the owner of the old file. A file system or a user that may not do that leaves the owner as it is.
    fn copy_owner(&self, old: &Metadata, mode: u32) -> io::Result<()> {
        let own = self.file.metadata()?;
        if (own.uid(), own.gid()) == (old.uid(), old.gid()) {
            return Ok(());
        }
        match std::os::unix::fs::fchown(&self.file, Some(old.uid()), Some(old.gid())) {
            // A change of owner may clear bits of the mode.
            Ok(()) => self.file.set_permissions(Permissions::from_mode(mode)),
            Err(e) => match Errno::from_io_error(&e) {
                Some(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(()),
                _ => Err(e),
            },
        }
    }
}

impl Drop for PendingFile {
    fn drop(&mut self) {
        // Does nothing once the file has its name. What cannot be removed is cleaned up at boot.
        let _ = std::fs::remove_file(&self.temporary);
    }
}

/// How many threads [`in_parallel`] uses: a file system brings what is synced at the same time to disk together.
const THREADS: usize = 8;

/// Runs `work` for each item, many at once, and returns the results in the items' order.
pub fn in_parallel<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let share = items.len().div_ceil(THREADS).max(1);
    let work = &work;
    std::thread::scope(|scope| {
        let mut parts = items.chunks(share);
        // A single part, which is that of a single file, needs no other thread.
        let own = parts.next().unwrap_or_default();
        let others: Vec<_> = parts.map(|part| scope.spawn(move || Vec::from_iter(part.iter().map(work)))).collect();
        let mut results: Vec<_> = own.iter().map(work).collect();
        for other in others {
            results.extend(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        results
    })
}

/// Brings a folder's entries to disk.
///
/// # Errors
/// The disk's error, or there is no such folder.
pub fn sync_folder(path: &Path) -> Result<(), AtomicError> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(AtomicError::at("sync", path))
}

/// Brings the entries of the folder that holds `path` to disk.
fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

/// A file that is about to be replaced, kept under a second name until this is dropped. Putting it back needs no space on the
/// disk.
pub struct Kept {
    target: PathBuf,
    second: PathBuf,
}

impl Kept {
    /// Keeps the file at `path`, or the one that a symbolic link leads to.
    ///
    /// # Errors
    /// There is no such file, or the file system has no hard links.
    pub fn keep(path: &Path) -> io::Result<Self> {
        let target = resolve(path)?;
        let second = temporary_path(&target);
        std::fs::hard_link(&target, &second)?;
        Ok(Self { target, second })
    }

    /// Puts it back in the place of the file that has replaced it.
    ///
    /// # Errors
    /// Its folder cannot be changed.
    pub fn put_back(&self) -> io::Result<()> {
        std::fs::rename(&self.second, &self.target)?;
        sync_parent(&self.target)
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        // Does nothing once it is back. What cannot be removed is cleaned up at boot.
        let _ = std::fs::remove_file(&self.second);
    }
}

/// Where a path leads in the end; the target need not exist.
fn resolve(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        match std::fs::read_link(&path) {
            Ok(target) => path = path.parent().unwrap_or(Path::new("")).join(target),
            // Not a link, or nothing at all.
            Err(e) if matches!(e.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::NotFound) => return Ok(path),
            Err(e) => return Err(e),
        }
    }
    Err(Errno::LOOP.into())
}

/// Removes the file at `path`; a symbolic link is not followed.
///
/// # Errors
/// There is no such file ([`io::ErrorKind::NotFound`]), it is a folder, or its folder cannot be changed.
pub fn remove_file(path: &Path) -> Result<(), AtomicError> {
    std::fs::remove_file(path).and_then(|()| sync_parent(path)).map_err(AtomicError::at("remove", path))
}

/// Creates the folder at `path` with exactly this mode (no umask). Its parent must exist. It is on disk once both are synced, see
/// [`sync_folder`].
///
/// # Errors
/// It exists already ([`io::ErrorKind::AlreadyExists`]), or its parent cannot be changed.
pub fn create_dir(path: &Path, mode: u32) -> Result<(), AtomicError> {
    let create = || {
        DirBuilder::new().mode(mode).create(path)?;
        std::fs::set_permissions(path, Permissions::from_mode(mode))
    };
    create().map_err(AtomicError::at("create the folder", path))
}

/// Creates the folder at `path` and the missing ones above it, for the current user only, whatever the umask is. An existing folder
/// keeps its mode.
///
/// # Errors
/// One of them cannot be created.
pub fn create_private(path: &Path) -> Result<(), AtomicError> {
    let created = DirBuilder::new().recursive(true).mode(0o700).create(path);
    created.map_err(AtomicError::at("create the folder", path))
}

/// Removes the temporary files that a crash left in a folder, of files whose names are `ours`. No other process may write there
/// meanwhile.
///
/// # Errors
/// The folder cannot be read or changed.
pub fn clean_leftovers(folder: &Path, ours: impl Fn(&str) -> bool) -> Result<(), AtomicError> {
    let clean = || -> io::Result<()> {
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            let leftover = entry.file_name().to_str().and_then(temporary_of).is_some_and(&ours);
            if leftover && entry.file_type()?.is_file() {
                std::fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    };
    clean().map_err(AtomicError::at("clean up", folder))
}

/// A name for a temporary file next to `target`.
fn temporary_path(target: &Path) -> PathBuf {
    let name = target.file_name().unwrap_or_default().display();
    target.with_file_name(format!(".{name}.{}.tmp", &uuid::Uuid::new_v4().simple().to_string()[..8]))
}

/// The file for which [`temporary_path`] would give such a name.
fn temporary_of(name: &str) -> Option<&str> {
    let (target, random) = name.strip_prefix('.')?.strip_suffix(".tmp")?.rsplit_once('.')?;
    let is_random = random.len() == 8 && random.bytes().all(|b| b.is_ascii_hexdigit());
    (is_random && !target.is_empty()).then_some(target)
}
