//! An open directory whose owner is not trusted: untrusted paths below it are opened, and never anything outside.
//!
//! How a path is resolved: `location.rs`. A file that is a link is rejected; a link to a directory is followed if it stays below
//! the root. Users' own operations, with denylist and disk limit, are those of [`Tree`](super::Tree).

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{FileType, Gid, Mode, OFlags, Stat, Uid};
use rustix::io::Errno;

use super::super::prepare::{Attributes, replace_file_in};
use super::super::user_path::{PathError, UserPath};
use super::error::TreeError;
use super::location::{Follow, Location, Method, resolve};

/// The mode of directories that are created.
const DIRECTORY_MODE: u32 = 0o755;

/// An open directory whose owner is not trusted.
#[derive(Debug)]
pub struct Root {
    directory: Arc<OwnedFd>,
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
        Ok(Self { directory: Arc::new(directory), uid: Uid::from_raw(uid), gid: Gid::from_raw(gid) })
    }

    pub(super) fn directory(&self) -> &Arc<OwnedFd> {
        &self.directory
    }

    /// The user and group of what is created.
    pub fn owner(&self) -> (Uid, Gid) {
        (self.uid, self.gid)
    }

    /// Opens a regular file for reading. Neither waits for a FIFO nor touches a device.
    ///
    /// # Errors
    /// - [`io::ErrorKind::InvalidInput`]: the text of the path leads outside, or the file is not a regular one;
    /// - [`io::ErrorKind::CrossesDevices`]: a link in the path leads outside;
    /// - other errors of the system.
    pub fn open_file(&self, path: &Path) -> io::Result<(File, Stat)> {
        let location = self.locate(&relative(path)?)?;
        // `O_PATH` has no effect on a device.
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let found = rustix::fs::openat(location.parent(), location.name(), flags, Mode::empty())?;
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
        let Some(parent) = path.parent() else {
            return Err(invalid("the path is the server's directory itself"));
        };
        self.make_directory(&parent)?;
        let location = self.locate(&path)?;
        let attributes = Attributes { mode, owner: Some((self.uid, self.gid)) };
        replace_file_in(location.parent(), location.name(), bytes, attributes)
    }

    /// Creates a directory and its parents if they are missing.
    fn make_directory(&self, path: &UserPath) -> io::Result<()> {
        let mut below = UserPath::root();
        for name in path.as_path() {
            below.push(name);
            let location = resolve(&self.directory, &below, Follow::Yes, Method::of_this_kernel()).map_err(error)?;
            match rustix::fs::mkdirat(location.parent(), location.name(), Mode::from_raw_mode(DIRECTORY_MODE)) {
                Ok(()) => {}
                Err(Errno::EXIST) => continue,
                Err(errno) => return Err(errno.into()),
            }
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let made = rustix::fs::openat(location.parent(), location.name(), flags, Mode::empty())?;
            rustix::fs::fchown(&made, Some(self.uid), Some(self.gid))?;
        }
        Ok(())
    }

    fn locate(&self, path: &UserPath) -> io::Result<Location> {
        resolve(&self.directory, path, Follow::No, Method::of_this_kernel()).map_err(error)
    }
}

/// Reads a path below the root.
fn relative(path: &Path) -> io::Result<UserPath> {
    UserPath::parse(path.as_os_str()).map_err(|error| match error {
        PathError::Outside => invalid("the path leads out of the server's directory"),
        PathError::Nul => invalid("the path contains a NUL"),
        PathError::TooLong => Errno::NAMETOOLONG.into(),
    })
}

fn error(error: TreeError) -> io::Error {
    match error {
        TreeError::NotFound(_) => Errno::NOENT.into(),
        TreeError::NotDirectory(_) => Errno::NOTDIR.into(),
        TreeError::OutsideRoot(_) => Errno::XDEV.into(),
        TreeError::TooManyLinks(_) => Errno::LOOP.into(),
        TreeError::NameTooLong(_) => Errno::NAMETOOLONG.into(),
        TreeError::Io { source, .. } => source,
        other => io::Error::other(other),
    }
}

fn invalid(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why)
}

#[cfg(test)]
mod tests;
