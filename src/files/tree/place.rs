//! Puts the entries of an archive below the root. No link is followed: a link or a file where a directory has to be is replaced
//! by a directory, so nothing is written anywhere else.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::SystemTime;

use rustix::fs::{AtFlags, FileType, Mode, Timespec, Timestamps, UTIME_OMIT};
use rustix::io::Errno;

use super::super::user_path::UserPath;
use super::attributes::timespec;
use super::error::TreeError;
use super::incoming::{Incoming, replaceable};
use super::location::{DIRECTORY, Location, open_without_links};
use super::{Tree, is_kind, stat};

/// The mode of directories that are missing.
const MODE: u32 = 0o755;

/// Attempts for a name that others create and remove at the same time.
const ATTEMPTS: usize = 16;

/// An open directory that was reached without following a link.
#[derive(Debug, Clone)]
pub struct Place {
    tree: Tree,
    directory: Arc<OwnedFd>,
    path: UserPath,
}

impl Tree {
    /// Opens a directory. Missing ones are created, and links and files in the way are replaced.
    ///
    /// # Errors
    /// A directory cannot be created or opened.
    pub fn place(&self, path: &UserPath) -> Result<Place, TreeError> {
        match self.existing_place(path) {
            Ok(place) => Ok(place),
            Err(_) => {
                let top = Place {
                    tree: self.clone(),
                    directory: self.shared.root.directory().clone(),
                    path: UserPath::root(),
                };
                path.as_path().iter().try_fold(top, |place, name| place.enter(name))
            }
        }
    }

    /// Opens a directory that exists.
    ///
    /// # Errors
    /// It does not, or a name in its path is a link.
    pub fn existing_place(&self, path: &UserPath) -> Result<Place, TreeError> {
        let opened = open_without_links(self.shared.root.directory(), path);
        let directory = opened.map_err(TreeError::system("open", path))?;
        Ok(Place { tree: self.clone(), directory, path: path.clone() })
    }
}

impl Place {
    /// Its path.
    pub fn path(&self) -> &UserPath {
        &self.path
    }

    /// Begins a file. A regular one with this name is replaced when the new one is complete, a link or anything else at once.
    ///
    /// # Errors
    /// A directory has the name; the size does not fit; or the file cannot be created.
    pub fn create(&self, name: &OsStr, mode: u32, size: Option<u64>) -> Result<Incoming, TreeError> {
        for _ in 0..ATTEMPTS {
            match self.tree.create_at(self.location(name), mode, size) {
                Err(TreeError::Busy(_) | TreeError::NotRegular(_)) => self.clear(name)?,
                created => return created,
            }
        }
        Err(TreeError::Busy(self.path.child(name)))
    }

    /// Creates a link with this text, whatever it leads to. What has the name is replaced.
    ///
    /// # Errors
    /// A directory has the name, or the link cannot be created.
    pub fn symlink(&self, name: &OsStr, text: &OsStr, modified: Option<SystemTime>) -> Result<(), TreeError> {
        let error = |errno| TreeError::system("create the link", &self.path.child(name))(errno);
        self.replacing(name, || rustix::fs::symlinkat(text, self.directory.as_fd(), name))?;
        let (uid, gid) = self.tree.owner();
        let found = stat(&self.location(name)).map_err(error)?;
        if (found.st_uid, found.st_gid) != (uid.as_raw(), gid.as_raw()) {
            rustix::fs::chownat(self.directory.as_fd(), name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
                .map_err(error)?;
        }
        let Some(modified) = modified else { return Ok(()) };
        let omitted = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
        let times = Timestamps { last_access: omitted, last_modification: timespec(modified) };
        rustix::fs::utimensat(self.directory.as_fd(), name, &times, AtFlags::SYMLINK_NOFOLLOW).map_err(error)
    }

    /// Gives a regular file of another place a name here. What has the name is replaced.
    ///
    /// # Errors
    /// There is no regular file, a directory has the name, or the name cannot be created.
    pub fn hard_link(&self, name: &OsStr, from: &Self, file: &OsStr) -> Result<(), TreeError> {
        let source = from.location(file);
        let found = stat(&source).map_err(TreeError::system("create a name for", source.path()))?;
        if !is_kind(&found, FileType::RegularFile) {
            return Err(TreeError::NotRegular(source.path().clone()));
        }
        let existing = stat(&self.location(name));
        if existing.is_ok_and(|existing| (existing.st_dev, existing.st_ino) == (found.st_dev, found.st_ino)) {
            return Ok(());
        }
        self.replacing(name, || {
            rustix::fs::linkat(source.parent(), file, self.directory.as_fd(), name, AtFlags::empty())
        })
    }

    /// Opens the directory with this name, which is created if it is missing or something else.
    ///
    /// # Errors
    /// It cannot be created or opened.
    pub fn enter(&self, name: &OsStr) -> Result<Self, TreeError> {
        for _ in 0..ATTEMPTS {
            let path = self.path.child(name);
            match rustix::fs::openat(self.directory.as_fd(), name, DIRECTORY, Mode::empty()) {
                Ok(directory) => return Ok(Self { tree: self.tree.clone(), directory: Arc::new(directory), path }),
                Err(Errno::NOENT) => match self.tree.make(&self.location(name), &path, MODE) {
                    Ok(_) | Err(TreeError::NotDirectory(_) | TreeError::NotFound(_)) => {}
                    Err(error) => return Err(error),
                },
                Err(Errno::NOTDIR | Errno::LOOP) => self.clear(name)?,
                Err(errno) => return Err(TreeError::system("open", &path)(errno)),
            }
        }
        Err(TreeError::Busy(self.path.child(name)))
    }

    /// Makes something with this name, where nothing is or what may be replaced.
    fn replacing(&self, name: &OsStr, make: impl Fn() -> rustix::io::Result<()>) -> Result<(), TreeError> {
        for _ in 0..ATTEMPTS {
            match make() {
                Err(Errno::EXIST) => self.clear(name)?,
                made => return made.map_err(TreeError::system("create", &self.path.child(name))),
            }
        }
        Err(TreeError::Busy(self.path.child(name)))
    }

    /// Removes what has a name, unless it is a directory.
    fn clear(&self, name: &OsStr) -> Result<(), TreeError> {
        let location = self.location(name);
        if let Err(error @ TreeError::IsDirectory(_)) = replaceable(&location, location.path()) {
            return Err(error);
        }
        match self.tree.unlink(&location) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(TreeError::system("replace", location.path())(errno)),
        }
    }

    fn location(&self, name: &OsStr) -> Location {
        Location::in_directory(self.directory.clone(), name, self.path.child(name))
    }
}
