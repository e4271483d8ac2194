//! Durable atomic changes of files and folders.
//!
//! A caller's bytes come in; on return they are on the disk under their name, and survive a power
//! cut. On an error, or if the process dies anywhere in between, the old file is still there, whole.
//! Everything here blocks on the disk: not for async threads.

use std::fs::{File, Metadata};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FlockOperation, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

#[cfg(test)]
mod tests;

/// How many names for a temporary file are tried before giving up.
const NAME_ATTEMPTS: usize = 16;
/// How many symbolic links in a row are followed.
const MAX_LINKS: usize = 40;

/// An attempt to change something on disk that failed. The change did not happen.
///
/// It becomes an [`io::Error`] of the same [`io::ErrorKind`], so that a full disk
/// ([`io::ErrorKind::StorageFull`]) can be told from a read-only one
/// ([`io::ErrorKind::ReadOnlyFilesystem`]).
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {source}{}", path.display(), remedy(source.kind()))]
pub struct AtomicError {
    /// What was attempted, as a verb phrase: `write`, `remove`.
    pub action: &'static str,
    /// The path it was attempted on.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

impl AtomicError {
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
fn remedy(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "; free space or inodes on that disk",
        io::ErrorKind::ReadOnlyFilesystem => "; see why that disk is read-only (`dmesg`, `mount`)",
        io::ErrorKind::PermissionDenied => "; check who owns it and what the daemon runs as",
        _ => "",
    }
}

/// Replaces the file at `path`, or makes it, with these bytes and exactly this mode (no umask).
///
/// The bytes go to a temporary file beside it (`.name.XXXXXXXX.tmp`), which then takes its name. A
/// symbolic link at `path` is replaced, not followed.
///
/// # Errors
/// The folder is missing, full or read-only, or `path` is a folder. The old file is untouched and
/// the temporary one removed; only if the folder's final sync fails may the new file be in place.
pub fn write_file(path: &Path, bytes: &[u8], mode: u32) -> Result<(), AtomicError> {
    let write = || PendingFile::write(path, bytes, mode)?.replace(|| Ok(()));
    write().map_err(|source| AtomicError { action: "write", path: path.to_owned(), source })
}

/// As [`write_file`], for a file that is a person's too: one that is there keeps its mode, and its owner where the system
/// allows that, and a symbolic link is followed, so that the file it leads to is replaced in its own folder. `mode` is for a
/// file that is not there yet. `still` is asked when all is ready and only the change of names is left to do: it may keep a
/// file that somebody has saved meanwhile.
///
/// # Errors
/// As [`write_file`], or what `still` says; the link leads to a folder that is not there, or in a circle.
pub fn write_through(
    path: &Path,
    bytes: &[u8],
    mode: u32,
    still: impl FnOnce() -> io::Result<()>,
) -> Result<(), AtomicError> {
    let write = || PendingFile::write_through(path, bytes, mode)?.replace(still);
    write().map_err(|source| AtomicError { action: "write", path: path.to_owned(), source })
}

/// A file that is written and does not have its name yet. Many of them can be brought to disk at once, see [`sync_all`]. One that
/// is dropped before [`place`](Self::place) is removed.
pub struct PendingFile {
    folder: OwnedFd,
    target: String,
    /// `None` once it has its final name.
    temporary: Option<String>,
    file: File,
    /// A link led here, to a folder that the caller does not know.
    elsewhere: bool,
}

impl PendingFile {
    /// Writes these bytes beside `path`, with exactly this mode.
    ///
    /// # Errors
    /// The folder is missing, full or read-only.
    pub fn write(path: &Path, bytes: &[u8], mode: u32) -> io::Result<Self> {
        let mut pending = Self::create(path, Mode::from_raw_mode(mode))?;
        pending.file.write_all(bytes)?;
        Ok(pending)
    }

    /// As [`write`](Self::write), for a file that is a person's too, see [`write_through`].
    ///
    /// # Errors
    /// As [`write`](Self::write); the link leads to a folder that is not there, or in a circle.
    pub fn write_through(path: &Path, bytes: &[u8], mode: u32) -> io::Result<Self> {
        let target = resolve(path)?;
        let found = match std::fs::metadata(&target) {
            Ok(found) => found,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let mut pending = Self::write(&target, bytes, mode)?;
                pending.elsewhere = target != path;
                return Ok(pending);
            }
            Err(e) => return Err(e),
        };
        let mode = Mode::from_raw_mode(found.mode() & 0o7777);
        let mut pending = Self::create(&target, mode)?;
        pending.elsewhere = target != path;
        pending.give_to_owner_of(&found, mode)?;
        pending.file.write_all(bytes)?;
        Ok(pending)
    }

    /// Brings the bytes to disk.
    ///
    /// # Errors
    /// The disk's.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    /// Gives the file its name. Call after [`sync`](Self::sync); the name is on disk once its folder is, see [`sync_folder`].
    ///
    /// # Errors
    /// The name belongs to a folder, or the folder cannot be changed.
    pub fn place(&mut self) -> io::Result<()> {
        if let Some(temporary) = &self.temporary {
            rustix::fs::renameat(&self.folder, temporary, &self.folder, &self.target)?;
        }
        self.temporary = None;
        if self.elsewhere {
            rustix::fs::fsync(&self.folder)?;
        }
        Ok(())
    }

    /// What the file system knows of the file.
    ///
    /// # Errors
    /// The file system does not answer.
    pub fn metadata(&self) -> io::Result<Metadata> {
        self.file.metadata()
    }

    fn replace(mut self, still: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        self.sync()?;
        still()?;
        self.place()?;
        Ok(rustix::fs::fsync(&self.folder)?)
    }
}

/// How many syncs of [`sync_all`] are under way at once: a file system brings what it is asked for at the same time to disk
/// together.
const SYNCS: usize = 8;

/// Runs `sync` for each item, many at once, and returns the results in the items' order.
pub fn sync_all<T: Sync>(items: &[T], sync: impl Fn(&T) -> io::Result<()> + Sync) -> Vec<io::Result<()>> {
    let share = items.len().div_ceil(SYNCS).max(1);
    let sync = &sync;
    std::thread::scope(|scope| {
        let mut parts = items.chunks(share);
        // A single part, which is that of a single file, needs no other thread.
        let own = parts.next().unwrap_or_default();
        let others: Vec<_> =
            parts.map(|part| (part.len(), scope.spawn(move || Vec::from_iter(part.iter().map(sync))))).collect();
        let mut results: Vec<_> = own.iter().map(sync).collect();
        for (length, other) in others {
            let panicked = |_| (0..length).map(|_| Err(io::Error::other("a sync panicked"))).collect();
            results.extend(other.join().unwrap_or_else(panicked));
        }
        results
    })
}

/// Brings a folder's names to disk.
///
/// # Errors
/// The disk's, or there is no such folder.
pub fn sync_folder(path: &Path) -> Result<(), AtomicError> {
    let sync = || File::open(path)?.sync_all();
    sync().map_err(|source| AtomicError { action: "bring to disk", path: path.to_owned(), source })
}

/// A file that is about to be replaced, kept under a second name until this is dropped: putting it back takes no room on the
/// disk.
pub struct Kept {
    folder: OwnedFd,
    name: String,
    second: String,
}

impl Kept {
    /// Keeps the file at `path`, or the one that a symbolic link leads to.
    ///
    /// # Errors
    /// There is none, or the file system gives no second names.
    pub fn keep(path: &Path) -> io::Result<Self> {
        let target = resolve(path)?;
        let (folder, name) = open_parent(&target)?;
        let second = temporary_name(name);
        rustix::fs::linkat(&folder, name, &folder, &second, AtFlags::empty())?;
        Ok(Self { name: name.to_owned(), second, folder })
    }

    /// Puts it back in the place of what has replaced it.
    ///
    /// # Errors
    /// Its folder cannot be changed.
    pub fn put_back(&self) -> io::Result<()> {
        rustix::fs::renameat(&self.folder, &self.second, &self.folder, &self.name)?;
        Ok(rustix::fs::fsync(&self.folder)?)
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        // It may be back under its own name alone; what stays is cleaned at boot.
        let _ = rustix::fs::unlinkat(&self.folder, &self.second, AtFlags::empty());
    }
}

/// Where a path leads in the end, whether there is something or not.
fn resolve(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        match std::fs::read_link(&path) {
            Ok(target) => path = path.parent().unwrap_or(Path::new("")).join(target),
            // No link, or nothing at all.
            Err(e) if matches!(e.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::NotFound) => return Ok(path),
            Err(e) => return Err(e),
        }
    }
    Err(Errno::LOOP.into())
}

/// Removes the file at `path`; a symbolic link is removed itself.
///
/// # Errors
/// There is none ([`io::ErrorKind::NotFound`]), it is a folder, or its folder cannot be changed.
pub fn remove_file(path: &Path) -> Result<(), AtomicError> {
    let remove = || -> io::Result<()> {
        let (folder, name) = open_parent(path)?;
        rustix::fs::unlinkat(&folder, name, AtFlags::empty())?;
        Ok(rustix::fs::fsync(&folder)?)
    };
    remove().map_err(|source| AtomicError { action: "remove", path: path.to_owned(), source })
}

/// Makes the folder at `path` with exactly this mode (no umask). Its parent has to be there. It is on disk once both are synced,
/// see [`sync_folder`].
///
/// # Errors
/// It is there already ([`io::ErrorKind::AlreadyExists`]), or its parent cannot be changed.
pub fn create_dir(path: &Path, mode: u32) -> Result<(), AtomicError> {
    let create = || -> io::Result<()> {
        let (parent, name) = open_parent(path)?;
        let mode = Mode::from_raw_mode(mode);
        rustix::fs::mkdirat(&parent, name, mode)?;
        // Opened without following links, so that the mode lands on what was made just now.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = rustix::fs::openat(&parent, name, flags, Mode::empty())?;
        rustix::fs::fchmod(&made, mode)?;
        Ok(())
    };
    create().map_err(|source| AtomicError { action: "make the folder", path: path.to_owned(), source })
}

/// Removes the temporary files that a crash left in a folder, of files whose names are `ours`, and says how many there
/// were. Those that some process is still writing stay.
///
/// # Errors
/// The folder cannot be read or changed.
pub fn clean_leftovers(folder: &Path, ours: impl Fn(&str) -> bool) -> Result<usize, AtomicError> {
    let clean = || -> io::Result<usize> {
        let mut removed = 0;
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            let leftover = entry.file_name().to_str().and_then(temporary_of).is_some_and(&ours);
            if leftover && entry.file_type()?.is_file() {
                removed += usize::from(remove_abandoned(&entry.path())?);
            }
        }
        Ok(removed)
    };
    clean().map_err(|source| AtomicError { action: "clean up", path: folder.to_owned(), source })
}

fn temporary_name(target: &str) -> String {
    format!(".{target}.{}.tmp", &uuid::Uuid::new_v4().simple().to_string()[..8])
}

/// The file whose temporary one [`write_file`] would give such a name.
fn temporary_of(name: &str) -> Option<&str> {
    let (target, random) = name.strip_prefix('.')?.strip_suffix(".tmp")?.rsplit_once('.')?;
    let is_random = random.len() == 8 && random.bytes().all(|b| b.is_ascii_hexdigit());
    (is_random && !target.is_empty()).then_some(target)
}

/// Removes a temporary file unless its writer is alive, which then holds its lock.
fn remove_abandoned(path: &Path) -> io::Result<bool> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(e),
    };
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => return Ok(false),
        // A file system without locks: nobody can hold one.
        Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::NOLCK) => {}
        Err(e) => return Err(e.into()),
    }
    match std::fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

/// The folder that `path` names something in, held open, and the name.
fn open_parent(path: &Path) -> io::Result<(OwnedFd, &str)> {
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no file name in UTF-8"))?;
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok((rustix::fs::open(folder, flags, Mode::empty())?, name))
}

impl PendingFile {
    fn create(path: &Path, mode: Mode) -> io::Result<Self> {
        let (folder, target) = open_parent(path)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        for _ in 0..NAME_ATTEMPTS {
            let name = temporary_name(target);
            let file = match rustix::fs::openat(&folder, &name, flags, Mode::RUSR | Mode::WUSR) {
                Ok(fd) => File::from(fd),
                Err(Errno::EXIST) => continue,
                Err(e) => return Err(e.into()),
            };
            if !claim(&file)? {
                continue;
            }
            let pending = Self { folder, target: target.to_owned(), temporary: Some(name), file, elsewhere: false };
            rustix::fs::fchmod(&pending.file, mode)?;
            return Ok(pending);
        }
        Err(io::Error::new(io::ErrorKind::AlreadyExists, "no free name for a temporary file"))
    }

    /// Gives it the owner of another file; a file system or a user that may not do that leaves it as it is.
    fn give_to_owner_of(&self, other: &Metadata, mode: Mode) -> io::Result<()> {
        let own = self.file.metadata()?;
        if (own.uid(), own.gid()) == (other.uid(), other.gid()) {
            return Ok(());
        }
        let (owner, group) = (Uid::from_raw(other.uid()), Gid::from_raw(other.gid()));
        match rustix::fs::fchown(&self.file, Some(owner), Some(group)) {
            // A change of owner may take bits of the mode away.
            Ok(()) => Ok(rustix::fs::fchmod(&self.file, mode)?),
            Err(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }
}

impl Drop for PendingFile {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            // It failed already, and the caller hears of that; what stays is cleaned at boot.
            let _ = rustix::fs::unlinkat(&self.folder, temporary, AtFlags::empty());
        }
    }
}

/// Takes the lock that keeps [`clean_leftovers`] away. False if it was quicker and removed the
/// file between its making and the lock.
fn claim(file: &File) -> io::Result<bool> {
    match rustix::fs::flock(file, FlockOperation::LockExclusive) {
        Ok(()) => Ok(rustix::fs::fstat(file)?.st_nlink > 0),
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::NOLCK) => Ok(true),
        Err(e) => Err(e.into()),
    }
}
