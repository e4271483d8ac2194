//! The entries of one directory, as they are read.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::super::user_path::UserPath;
use super::entry::Entry;
use super::error::TreeError;
use super::location::Follow;
use super::name_list::{Names, Order};
use super::{Tree, is_kind, itself, pin};

/// A verb for errors.
const ACTION: &str = "list";

/// The entries of a directory in the order of the file system, without `.` and `..`.
#[derive(Debug)]
pub struct Listing {
    entries: Dir,
    path: UserPath,
}

/// The entries of a directory: directories first, then by the bytes of names. The names are in memory, the rest is read as it
/// is asked for.
#[derive(Debug)]
pub struct SortedListing {
    directory: OwnedFd,
    names: Names,
    path: UserPath,
}

impl Tree {
    /// Lists a directory as it is read. Entries of the denylist are not hidden.
    ///
    /// # Errors
    /// Nothing is there, it is no directory, or a link leads outside.
    pub fn list(&self, path: &UserPath) -> Result<Listing, TreeError> {
        let entries = Dir::new(self.open_directory(path)?).map_err(TreeError::system(ACTION, path))?;
        Ok(Listing { entries, path: path.clone() })
    }

    /// Lists a directory in order.
    ///
    /// # Errors
    /// As [`list`](Self::list).
    pub fn list_sorted(&self, path: &UserPath) -> Result<SortedListing, TreeError> {
        let directory = self.open_directory(path)?;
        let names = Names::read(directory.as_fd(), Order::DirectoriesFirst);
        let names = names.map_err(TreeError::system(ACTION, path))?;
        Ok(SortedListing { directory, names, path: path.clone() })
    }

    /// Opens a directory for reading.
    fn open_directory(&self, path: &UserPath) -> Result<OwnedFd, TreeError> {
        let location = self.resolve(path, Follow::Yes)?;
        let error = |errno| TreeError::system(ACTION, path)(errno);
        let (directory, stat) = pin(&location).map_err(error)?;
        match is_kind(&stat, FileType::Directory) {
            true => open_pinned(&directory).map_err(error),
            false => Err(TreeError::NotDirectory(path.clone())),
        }
    }
}

/// Opens a directory for reading that is open to name it only.
fn open_pinned(pinned: &OwnedFd) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match rustix::fs::openat(pinned, ".", flags, Mode::empty()) {
        // A daemon without root, in a directory that it may not enter.
        Err(Errno::ACCESS) => rustix::fs::open(itself(pinned), flags, Mode::empty()),
        opened => opened,
    }
}

/// Reads the first bytes of a regular file into `buffer`; how many. `None` if it cannot be read.
pub(super) fn head(directory: BorrowedFd<'_>, entry: &Entry, buffer: &mut [u8]) -> Option<usize> {
    if !entry.is_file() {
        return None;
    }
    // The name may be that of a pipe by now, which does not block.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::NOCTTY | OFlags::CLOEXEC;
    let open = |flags| rustix::fs::openat(directory, &entry.name, flags, Mode::empty());
    // A write of the time of access to the disk, for each file, would cost more than the rest.
    let file = open(flags | OFlags::NOATIME).or_else(|errno| match errno {
        // The file is not the daemon's, which is not root.
        Errno::PERM => open(flags),
        errno => Err(errno),
    });
    let file = file.ok()?;
    let regular = rustix::fs::fstat(&file).is_ok_and(|found| is_kind(&found, FileType::RegularFile));
    if regular { File::from(file).read(buffer).ok() } else { None }
}

impl SortedListing {
    /// Reads the first bytes of an entry into `buffer`; how many. `None` if it is not a regular file that can be read.
    pub fn head(&self, entry: &Entry, buffer: &mut [u8]) -> Option<usize> {
        head(self.directory.as_fd(), entry, buffer)
    }
}

impl Iterator for SortedListing {
    type Item = Result<Entry, TreeError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let name = self.names.pop()?;
            if let Some(entry) = entry(self.directory.as_fd(), OsStr::from_bytes(name.to_bytes()), &self.path) {
                return Some(entry);
            }
        }
    }
}

impl Iterator for Listing {
    type Item = Result<Entry, TreeError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let error = |errno| TreeError::system(ACTION, &self.path)(errno);
            let found = match self.entries.next()? {
                Ok(found) => found,
                Err(errno) => return Some(Err(error(errno))),
            };
            let name = OsStr::from_bytes(found.file_name().to_bytes());
            if name == "." || name == ".." {
                continue;
            }
            let entry = match self.entries.fd() {
                Ok(directory) => entry(directory, name, &self.path),
                Err(errno) => Some(Err(error(errno))),
            };
            if entry.is_some() {
                return entry;
            }
        }
    }
}

/// An entry with its attributes; `None` if it was removed meanwhile.
fn entry(directory: BorrowedFd<'_>, name: &OsStr, path: &UserPath) -> Option<Result<Entry, TreeError>> {
    match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Some(Ok(Entry::new(name, &stat))),
        Err(Errno::NOENT) => None,
        Err(errno) => Some(Err(TreeError::system(ACTION, &path.child(name))(errno))),
    }
}
