//! Durable atomic changes of files and folders.
//!
//! A caller's bytes come in; on return they are on the disk under their name, and survive a power
//! cut. On an error, or if the process dies anywhere in between, the old file is still there, whole.
//! Everything here blocks on the disk: not for async threads.

use std::fs::{File, Metadata};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FlockOperation, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

#[cfg(test)]
mod tests;

/// How many names for a temporary file are tried before giving up.
const NAME_ATTEMPTS: usize = 16;
/// How many symbolic links in a row are followed.
const MOST_LINKS: usize = 40;

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
    replace(path, bytes, Mode::from_raw_mode(mode), None, || Ok(())).map_err(|source| AtomicError {
        action: "write",
        path: path.to_owned(),
        source,
    })
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
    let write = || -> io::Result<()> {
        let target = resolve(path)?;
        match std::fs::metadata(&target) {
            Ok(found) => replace(&target, bytes, Mode::from_raw_mode(found.mode() & 0o7777), Some(&found), still),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                replace(&target, bytes, Mode::from_raw_mode(mode), None, still)
            }
            Err(e) => Err(e),
        }
    };
    write().map_err(|source| AtomicError { action: "write", path: path.to_owned(), source })
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
    for _ in 0..MOST_LINKS {
        match std::fs::read_link(&path) {
            Ok(target) => path = path.parent().unwrap_or(Path::new("")).join(target),
            // No link, or nothing at all.
            Err(e) if matches!(e.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::NotFound) => return Ok(path),
            Err(e) => return Err(e),
        }
    }
    Err(Errno::LOOP.into())
}

fn replace(
    path: &Path,
    bytes: &[u8],
    mode: Mode,
    like: Option<&Metadata>,
    still: impl FnOnce() -> io::Result<()>,
) -> io::Result<()> {
    let (folder, name) = open_parent(path)?;
    let mut temporary = Temporary::create(folder.as_fd(), name, mode)?;
    if let Some(like) = like {
        temporary.give_to_owner_of(like, mode)?;
    }
    temporary.file.write_all(bytes)?;
    temporary.file.sync_all()?;
    still()?;
    temporary.rename(name)?;
    Ok(rustix::fs::fsync(&folder)?)
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

/// Makes the folder at `path` with exactly this mode (no umask). Its parent has to be there.
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
        rustix::fs::fsync(&made)?;
        Ok(rustix::fs::fsync(&parent)?)
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

/// A temporary file that is removed unless it gets its final name.
struct Temporary<'f> {
    folder: std::os::fd::BorrowedFd<'f>,
    /// `None` once it has its final name.
    name: Option<String>,
    file: File,
}

impl<'f> Temporary<'f> {
    fn create(folder: std::os::fd::BorrowedFd<'f>, target: &str, mode: Mode) -> io::Result<Self> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        for _ in 0..NAME_ATTEMPTS {
            let name = temporary_name(target);
            let file = match rustix::fs::openat(folder, &name, flags, Mode::RUSR | Mode::WUSR) {
                Ok(fd) => File::from(fd),
                Err(Errno::EXIST) => continue,
                Err(e) => return Err(e.into()),
            };
            let temporary = Self { folder, name: Some(name), file };
            if temporary.claim()? {
                rustix::fs::fchmod(&temporary.file, mode)?;
                return Ok(temporary);
            }
        }
        Err(io::Error::new(io::ErrorKind::AlreadyExists, "no free name for a temporary file"))
    }

    /// Takes the lock that keeps [`clean_leftovers`] away. False if it was quicker and removed the
    /// file between its making and the lock.
    fn claim(&self) -> io::Result<bool> {
        match rustix::fs::flock(&self.file, FlockOperation::LockExclusive) {
            Ok(()) => Ok(rustix::fs::fstat(&self.file)?.st_nlink > 0),
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::NOLCK) => Ok(true),
            Err(e) => Err(e.into()),
        }
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

    fn rename(&mut self, target: &str) -> io::Result<()> {
        if let Some(name) = &self.name {
            rustix::fs::renameat(self.folder, name, self.folder, target)?;
        }
        self.name = None;
        Ok(())
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            // It failed already, and the caller hears of that; what stays is cleaned at boot.
            let _ = rustix::fs::unlinkat(self.folder, name, AtFlags::empty());
        }
    }
}
