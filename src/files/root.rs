//! A directory that paths cannot lead out of.
//!
//! A directory on the host comes in and is held open; paths below it, from users and containers and thus hostile,
//! come in as well; descriptors of what they name go out. The kernel resolves the paths (`openat2`), at the moment
//! of opening, so nothing that is renamed or replaced by a link meanwhile leads outside. Where the kernel cannot (before
//! Linux 5.6, or where a sandbox forbids it), paths are walked one name at a time and no link is followed at all.
//!
//! The rules, which are those of Wings' users:
//! - an absolute path starts at the root, `.` and `..` are taken literally, and one that leads above the root is refused;
//! - a link as the last name is never followed, a link before it only as far as it stays below the root;
//! - `/proc`'s magic links are never followed, mounts below the root are entered unless asked otherwise.

use std::ffi::{CStr, OsStr};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::OnceLock;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// The kernel gives up (`EAGAIN`) where something is renamed while it resolves a path; so often it is asked again.
const ATTEMPTS: usize = 64;

/// What every opening has: nothing is inherited by children, and no FIFO or device holds up the opener.
const ALWAYS: OFlags = OFlags::CLOEXEC.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::NOCTTY);

/// How paths are resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolver {
    /// By the kernel, with `openat2`.
    Kernel,
    /// Name by name, with `openat`; no link is followed.
    Names,
}

impl Resolver {
    /// The better one that this kernel lets us have; found out once per process.
    pub fn available() -> Self {
        static AVAILABLE: OnceLock<Resolver> = OnceLock::new();
        *AVAILABLE.get_or_init(|| {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            match rustix::fs::openat2(CWD, "/", flags, Mode::empty(), ResolveFlags::empty()) {
                // Sandboxes that do not know the call forbid it.
                Err(Errno::NOSYS | Errno::PERM) => Self::Names,
                _ => Self::Kernel,
            }
        })
    }
}

/// A directory, held open, and what is below it.
#[derive(Debug)]
pub struct Root {
    directory: OwnedFd,
    resolver: Resolver,
}

impl Root {
    /// Opens the directory at `path`. Links in this path are followed: it comes from the node's configuration.
    ///
    /// # Errors
    /// It is missing, no directory, or may not be read.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::open_with(path, Resolver::available())
    }

    /// Like [`open`](Self::open), with paths resolved in this way.
    ///
    /// # Errors
    /// It is missing, no directory, or may not be read.
    pub fn open_with(path: &Path, resolver: Resolver) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(path, flags, Mode::empty())?;
        Ok(Self { directory, resolver })
    }

    /// Opens what `path` names below this directory, or makes it where `flags` say so. What comes back may be of any
    /// kind that `flags` let through, and does not block.
    ///
    /// # Errors
    /// - [`io::ErrorKind::InvalidInput`]: the path as such leads out, or has a NUL;
    /// - [`io::ErrorKind::CrossesDevices`]: a link on the way leads out (name by name, any link is
    ///   [`io::ErrorKind::NotADirectory`]);
    /// - `ELOOP`: the last name is a link;
    /// - whatever else the system says.
    pub fn open_file(&self, path: &Path, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
        let path = relative(path)?;
        let flags = flags | ALWAYS;
        match self.resolver {
            Resolver::Kernel => {
                let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
                Ok(openat2(self.as_fd(), &path, flags, mode, resolve)?)
            }
            Resolver::Names => {
                let (parent, name) = self.scan_to_parent(&path)?;
                let parent = parent.as_ref().map_or(self.as_fd(), AsFd::as_fd);
                Ok(rustix::fs::openat(parent, name, flags, mode)?)
            }
        }
    }

    /// Opens the directory that `path` names.
    ///
    /// # Errors
    /// As [`open_file`](Self::open_file), and [`io::ErrorKind::NotADirectory`].
    pub fn open_directory(&self, path: &Path) -> io::Result<OwnedFd> {
        self.open_file(path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
    }

    /// The directory that the last name of `path` is in, and that name: for acting on the name itself, such as
    /// removing, renaming, or making a link.
    ///
    /// # Errors
    /// As [`open_directory`](Self::open_directory); [`io::ErrorKind::InvalidInput`] for the root itself.
    pub fn open_parent(&self, path: &Path) -> io::Result<(OwnedFd, PathBuf)> {
        let path = relative(path)?;
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(invalid("it names the root itself"));
        };
        if path == Path::new(".") {
            return Err(invalid("it names the root itself"));
        }
        Ok((self.open_directory(parent)?, PathBuf::from(name)))
    }

    /// How paths are resolved.
    pub fn resolver(&self) -> Resolver {
        self.resolver
    }

    fn scan_to_parent<'p>(&self, path: &'p Path) -> io::Result<(Option<OwnedFd>, &'p OsStr)> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut names = path.components().map(Component::as_os_str);
        let last = names.next_back().unwrap_or(OsStr::new("."));
        let mut parent: Option<OwnedFd> = None;
        for name in names {
            let from = parent.as_ref().map_or(self.as_fd(), AsFd::as_fd);
            parent = Some(rustix::fs::openat(from, name, flags, Mode::empty())?);
        }
        Ok((parent, last))
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

/// Opens the directory `name` in `parent`, for reading: itself, not what a link of that name leads to, and only where
/// it is on the same mount.
///
/// # Errors
/// [`Errno::NOTDIR`] or [`Errno::LOOP`] where it is something else, [`Errno::XDEV`] where something is mounted there.
pub(super) fn open_child(resolver: Resolver, parent: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | ALWAYS;
    match resolver {
        Resolver::Kernel => {
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
            openat2(parent, Path::new(OsStr::from_bytes(name.to_bytes())), flags, Mode::empty(), resolve)
        }
        Resolver::Names => {
            let child = rustix::fs::openat(parent, name, flags, Mode::empty())?;
            let devices = (rustix::fs::fstat(parent)?.st_dev, rustix::fs::fstat(&child)?.st_dev);
            if devices.0 != devices.1 || mount_of(parent) != mount_of(child.as_fd()) {
                return Err(Errno::XDEV);
            }
            Ok(child)
        }
    }
}

fn openat2(
    root: BorrowedFd<'_>,
    path: &Path,
    flags: OFlags,
    mode: Mode,
    resolve: ResolveFlags,
) -> rustix::io::Result<OwnedFd> {
    for _ in 1..ATTEMPTS {
        match rustix::fs::openat2(root, path, flags, mode, resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
    rustix::fs::openat2(root, path, flags, mode, resolve)
}

/// The number of the mount that an open file is on. The device alone does not tell a bind mount of the same file system.
fn mount_of(fd: BorrowedFd<'_>) -> Option<u64> {
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).ok()?;
    let line = info.lines().find_map(|line| line.strip_prefix("mnt_id:"))?;
    line.trim().parse().ok()
}

/// `path` as names below the root, by its text alone: never empty, `.` for the root itself.
///
/// # Errors
/// [`io::ErrorKind::InvalidInput`] where it leads above the root or has a NUL.
pub fn relative(path: &Path) -> io::Result<PathBuf> {
    if path.as_os_str().as_bytes().contains(&0) {
        return Err(invalid("it contains a NUL"));
    }
    let mut names = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => names.push(name),
            Component::ParentDir if !names.pop() => {
                return Err(invalid("it leads out of the server's directory"));
            }
            Component::ParentDir | Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    if names.as_os_str().is_empty() {
        names.push(".");
    }
    Ok(names)
}

fn invalid(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why)
}

#[cfg(test)]
mod tests;
