//! Creates directories, and those that a new path lacks.

use std::ffi::OsStr;

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use super::super::user_path::UserPath;
use super::error::TreeError;
use super::location::{Follow, Location};
use super::{Tree, is_kind, stat};

/// A verb for errors.
const ACTION: &str = "create the directory";

/// The mode of directories that a new path lacks.
const MODE: u32 = 0o755;

/// Attempts to create directories that are removed at the same time.
const ATTEMPTS: usize = 8;

impl Tree {
    /// Creates a directory, with `parents` also those that contain it. Whether it was created: an existing one stays as it is.
    ///
    /// # Errors
    /// Something else has its name, or the denylist has it.
    pub fn create_directory(&self, path: &UserPath, parents: bool, mode: u32) -> Result<bool, TreeError> {
        if path.is_root() {
            return Ok(false);
        }
        let location = match parents {
            true => self.locate_or_create(path, Follow::Yes)?,
            false => self.locate(path, Follow::Yes)?,
        };
        self.make(&location, path, mode)
    }

    /// The location of a path whose missing directories are created.
    pub(super) fn locate_or_create(&self, path: &UserPath, follow: Follow) -> Result<Location, TreeError> {
        for _ in 0..ATTEMPTS {
            match self.locate(path, follow) {
                Err(TreeError::NotFound(_)) => self.create_parents(path)?,
                located => return located,
            }
        }
        Err(TreeError::Busy(path.clone()))
    }

    fn create_parents(&self, path: &UserPath) -> Result<(), TreeError> {
        let mut parent = UserPath::root();
        let names: Vec<&OsStr> = path.as_path().iter().collect();
        for name in &names[..names.len().saturating_sub(1)] {
            parent.push(name);
            match self.locate(&parent, Follow::Yes) {
                Ok(location) => self.make(&location, &parent, MODE)?,
                // Removed meanwhile.
                Err(TreeError::NotFound(_)) => return Ok(()),
                Err(error) => return Err(error),
            };
        }
        Ok(())
    }

    /// Creates a directory that belongs to the server's user.
    pub(super) fn make(&self, location: &Location, path: &UserPath, mode: u32) -> Result<bool, TreeError> {
        let error = |errno| TreeError::system(ACTION, path)(errno);
        let mode = Mode::from_raw_mode(mode & 0o777);
        match rustix::fs::mkdirat(location.parent(), location.name(), mode) {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                return match stat(location) {
                    Ok(found) if is_kind(&found, FileType::Directory) => Ok(false),
                    Ok(_) => Err(TreeError::NotDirectory(path.clone())),
                    Err(errno) => Err(error(errno)),
                };
            }
            Err(errno) => return Err(error(errno)),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = rustix::fs::openat(location.parent(), location.name(), flags, Mode::empty()).map_err(error)?;
        let found = rustix::fs::fstat(&made).map_err(error)?;
        self.own(&made, &found).map_err(error)?;
        if Mode::from_raw_mode(found.st_mode) & Mode::from_raw_mode(0o777) != mode {
            rustix::fs::fchmod(&made, mode).map_err(error)?;
        }
        Ok(true)
    }
}
