//! Opens untrusted paths below a directory and never outside.
//!
//! The kernel resolves a path at the moment of opening (`openat2`, since Linux 5.6), so a concurrent rename or a new link cannot lead
//! outside. An absolute path starts at the root, and `..` is resolved by text. A file that is a link is rejected; a link to a directory
//! is followed if it stays below the root.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Uid};
use rustix::io::Errno;

use super::prepare::{Attributes, replace_file_in};

/// Attempts to resolve a path. The kernel returns `EAGAIN` if something is renamed at the same time.
const ATTEMPTS: usize = 64;

/// The mode of directories that are created.
const DIRECTORY_MODE: u32 = 0o755;

/// An open directory whose owner is not trusted.
#[derive(Debug)]
pub struct Root {
    directory: OwnedFd,
    uid: Uid,
    gid: Gid,
}

impl Root {
    /// Opens the directory at `path`. Follows links, since the path comes from the node's configuration. What is created in it
    /// belongs to this user and group.
    ///
    /// # Errors
    /// The directory is missing, not a directory, or not readable.
    pub fn open(path: &Path, uid: u32, gid: u32) -> io::Result<Self> {
        let directory = rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Self { directory, uid: Uid::from_raw(uid), gid: Gid::from_raw(gid) })
    }

    /// Opens a regular file for reading. Neither waits for a FIFO nor touches a device.
    ///
    /// # Errors
    /// - [`io::ErrorKind::InvalidInput`]: the text of the path leads outside, or the file is not a regular one;
    /// - [`io::ErrorKind::CrossesDevices`]: a link in the path leads outside;
    /// - other errors of the system.
    pub fn open_file(&self, path: &Path) -> io::Result<(File, Stat)> {
        // `O_PATH` has no effect on a device.
        let found = self.open_at(&relative(path)?, OFlags::PATH | OFlags::NOFOLLOW)?;
        let stat = rustix::fs::fstat(&found)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {}
            FileType::Symlink => return Err(invalid("it is a link; replace it with the file")),
            _ => return Err(invalid("it is no regular file")),
        }
        let again = format!("/proc/self/fd/{}", found.as_fd().as_raw_fd());
        let file = rustix::fs::open(again, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        Ok((File::from(file), stat))
    }

    /// Replaces or creates a file, and the directories that its path lacks.
    ///
    /// # Errors
    /// As [`open_file`](Self::open_file).
    pub fn replace_file(&self, path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
        let path = relative(path)?;
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(invalid("the path is the server's directory itself"));
        };
        let parent = self.make_directory(parent)?;
        replace_file_in(parent.as_fd(), name, bytes, Attributes { mode, owner: Some((self.uid, self.gid)) })
    }

    /// Opens a directory; creates it and its parents if they are missing.
    fn make_directory(&self, path: &Path) -> io::Result<OwnedFd> {
        let mut parent = self.open_directory(Path::new("."))?;
        let mut below = PathBuf::new();
        for name in path.components() {
            below.push(name);
            parent = match self.open_directory(&below) {
                Err(missing) if missing.kind() == io::ErrorKind::NotFound => {
                    match rustix::fs::mkdirat(&parent, name.as_os_str(), Mode::from_raw_mode(DIRECTORY_MODE)) {
                        Ok(()) | Err(Errno::EXIST) => {}
                        Err(errno) => return Err(errno.into()),
                    }
                    let made = self.open_directory(&below)?;
                    rustix::fs::fchown(&made, Some(self.uid), Some(self.gid))?;
                    made
                }
                opened => opened?,
            };
        }
        Ok(parent)
    }

    fn open_directory(&self, path: &Path) -> io::Result<OwnedFd> {
        Ok(self.open_at(path, OFlags::RDONLY | OFlags::DIRECTORY)?)
    }

    fn open_at(&self, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let flags = flags | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        for _ in 0..ATTEMPTS {
            match rustix::fs::openat2(&self.directory, path, flags, Mode::empty(), resolve) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                other => return other,
            }
        }
        Err(Errno::AGAIN)
    }
}

/// Resolves the text of `path` to names below the root; `.` for the root itself.
fn relative(path: &Path) -> io::Result<PathBuf> {
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
        names.push(OsStr::new("."));
    }
    Ok(names)
}

fn invalid(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why)
}

#[cfg(test)]
mod tests;
