//! The entries of one directory, as they are read.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::super::user_path::UserPath;
use super::entry::Entry;
use super::error::TreeError;
use super::location::Follow;
use super::{Tree, is_kind, itself, pin};

/// A verb for errors.
const ACTION: &str = "list";

/// The entries of a directory in the order of the file system, without `.` and `..`.
#[derive(Debug)]
pub struct Listing {
    entries: Dir,
    path: UserPath,
}

impl Tree {
    /// Lists a directory. Entries of the denylist are not hidden.
    ///
    /// # Errors
    /// Nothing is there, it is no directory, or a link leads outside.
    pub fn list(&self, path: &UserPath) -> Result<Listing, TreeError> {
        let location = self.resolve(path, Follow::Yes)?;
        let error = |errno| TreeError::system(ACTION, path)(errno);
        let (directory, stat) = pin(&location).map_err(error)?;
        if !is_kind(&stat, FileType::Directory) {
            return Err(TreeError::NotDirectory(path.clone()));
        }
        let entries = open_directory(&directory).and_then(Dir::new).map_err(error)?;
        Ok(Listing { entries, path: path.clone() })
    }
}

/// Opens a directory for reading that is open to name it only.
pub(super) fn open_directory(pinned: &OwnedFd) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match rustix::fs::openat(pinned, ".", flags, Mode::empty()) {
        // A daemon without root, in a directory that it may not enter.
        Err(Errno::ACCESS) => rustix::fs::open(itself(pinned), flags, Mode::empty()),
        opened => opened,
    }
}

impl Listing {
    /// Reads the first bytes of an entry into `buffer`; how many. `None` if it is not a regular file that can be read.
    pub fn head(&self, entry: &Entry, buffer: &mut [u8]) -> Option<usize> {
        if !entry.is_file() {
            return None;
        }
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = rustix::fs::openat(self.entries.fd().ok()?, &entry.name, flags, Mode::empty()).ok()?;
        // The name may be that of a pipe by now.
        let mut file = File::from(file);
        match is_kind(&rustix::fs::fstat(&file).ok()?, FileType::RegularFile) {
            true => file.read(buffer).ok(),
            false => None,
        }
    }
}

impl Iterator for Listing {
    type Item = Result<Entry, TreeError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let entry = match self.entries.next()? {
                Ok(entry) => entry,
                Err(errno) => return Some(Err(TreeError::system(ACTION, &self.path)(errno))),
            };
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name == "." || name == ".." {
                continue;
            }
            let directory = self.entries.fd();
            let stat = directory.and_then(|fd| rustix::fs::statat(fd, name, AtFlags::SYMLINK_NOFOLLOW));
            match stat {
                Ok(stat) => return Some(Ok(Entry::new(name, &stat))),
                // Removed meanwhile.
                Err(Errno::NOENT) => {}
                Err(errno) => return Some(Err(TreeError::system(ACTION, &self.path.child(name))(errno))),
            }
        }
    }
}
