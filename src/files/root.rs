//! A confined root directory: untrusted paths are opened below it and never outside.
//!
//! The kernel resolves a path at the moment of opening (`openat2`), so a concurrent rename or a new link cannot lead outside. If
//! the kernel does not support this (before Linux 5.6, or in a sandbox), paths are resolved name by name and no link is followed.
//!
//! The rules are those of Wings:
//! - an absolute path starts at the root, and `..` is resolved by text; a path that leads above the root is rejected;
//! - a link as the last name is never followed, a link before it only if it stays below the root;
//! - magic links of `/proc` are never followed; [`Root::open_file`] enters mounts.

use std::ffi::{CStr, OsStr};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::OnceLock;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// Attempts to resolve a path. The kernel returns `EAGAIN` if something is renamed at the same time.
const ATTEMPTS: usize = 64;

/// Flags of every open call: children inherit nothing, and FIFOs and devices do not block.
const ALWAYS: OFlags = OFlags::CLOEXEC.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::NOCTTY);

/// The method of resolving paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolver {
    /// By the kernel with `openat2`.
    Kernel,
    /// Name by name with `openat`; no link is followed.
    Names,
}

impl Resolver {
    /// `Kernel` if this kernel supports it; determined once per process.
    pub fn available() -> Self {
        static AVAILABLE: OnceLock<Resolver> = OnceLock::new();
        *AVAILABLE.get_or_init(|| {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            match rustix::fs::openat2(CWD, "/", flags, Mode::empty(), ResolveFlags::empty()) {
                // Sandboxes forbid system calls that they do not know.
                Err(Errno::NOSYS | Errno::PERM) => Self::Names,
                _ => Self::Kernel,
            }
        })
    }
}

/// An open directory.
#[derive(Debug)]
pub struct Root {
    directory: OwnedFd,
    resolver: Resolver,
}

impl Root {
    /// Opens the directory at `path`. Follows links, since the path comes from the node's configuration.
    ///
    /// # Errors
    /// The directory is missing, not a directory, or not readable.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::open_with(path, Resolver::available())
    }

    /// As [`open`](Self::open), with this method of resolving paths.
    ///
    /// # Errors
    /// The directory is missing, not a directory, or not readable.
    pub fn open_with(path: &Path, resolver: Resolver) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(path, flags, Mode::empty())?;
        Ok(Self { directory, resolver })
    }

    /// Opens `path` below this directory, or creates it according to `flags`. The file may have any type that `flags` allow, and
    /// does not block.
    ///
    /// # Errors
    /// - [`io::ErrorKind::InvalidInput`]: the text of the path leads outside, or has a NUL;
    /// - [`io::ErrorKind::CrossesDevices`]: a link in the path leads outside (name by name, any link is
    ///   [`io::ErrorKind::NotADirectory`]);
    /// - `ELOOP`: the last name is a link;
    /// - other errors of the system.
    pub fn open_file(&self, path: &Path, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
        let path = relative(path)?;
        let flags = flags | ALWAYS;
        match self.resolver {
            Resolver::Kernel => {
                let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
                Ok(openat2(self.as_fd(), &path, flags, mode, resolve)?)
            }
            Resolver::Names => {
                let (parent, name) = self.open_names(&path)?;
                let parent = parent.as_ref().map_or(self.as_fd(), AsFd::as_fd);
                Ok(rustix::fs::openat(parent, name, flags, mode)?)
            }
        }
    }

    /// Opens a directory.
    ///
    /// # Errors
    /// As [`open_file`](Self::open_file), and [`io::ErrorKind::NotADirectory`].
    pub fn open_directory(&self, path: &Path) -> io::Result<OwnedFd> {
        self.open_file(path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
    }

    /// Opens the directory that contains the last name of `path`, and returns it with that name, for operations on the name such
    /// as removing and renaming.
    ///
    /// # Errors
    /// As [`open_directory`](Self::open_directory); [`io::ErrorKind::InvalidInput`] for the root itself.
    pub fn open_parent(&self, path: &Path) -> io::Result<(OwnedFd, PathBuf)> {
        let path = relative(path)?;
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(invalid("the path is the root itself"));
        };
        if path == Path::new(".") {
            return Err(invalid("the path is the root itself"));
        }
        Ok((self.open_directory(parent)?, PathBuf::from(name)))
    }

    /// How paths are resolved.
    pub fn resolver(&self) -> Resolver {
        self.resolver
    }

    fn open_names<'p>(&self, path: &'p Path) -> io::Result<(Option<OwnedFd>, &'p OsStr)> {
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

/// Opens the directory `name` in `parent` for reading, if it is on the same mount. Does not follow a link.
///
/// # Errors
/// [`Errno::NOTDIR`] or [`Errno::LOOP`] if it is not a directory, [`Errno::XDEV`] if it is a mount.
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

/// The mount of an open file. A bind mount of the same file system has the same device.
fn mount_of(fd: BorrowedFd<'_>) -> Option<u64> {
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).ok()?;
    let line = info.lines().find_map(|line| line.strip_prefix("mnt_id:"))?;
    line.trim().parse().ok()
}

/// Resolves the text of `path` to names below the root; `.` for the root itself.
///
/// # Errors
/// [`io::ErrorKind::InvalidInput`] if it leads above the root or has a NUL.
pub fn relative(path: &Path) -> io::Result<PathBuf> {
    if path.as_os_str().as_bytes().contains(&0) {
        return Err(invalid("the path contains a NUL"));
    }
    let mut names = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => names.push(name),
            Component::ParentDir if !names.pop() => {
                return Err(invalid("the path leads out of the server's directory"));
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
