//! Begins new files: with a temporary name in their directory, or with their own where that is free.

use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;

use rustix::fs::{Gid, Mode, OFlags, Stat, Uid};
use rustix::io::Errno;

use super::super::user_path::UserPath;
use super::Tree;
use super::error::TreeError;
use super::incoming::{ACTION, Created, Incoming, replaceable};
use super::location::{Follow, Location};
use super::temporary::temporary_name;

/// Attempts to find a temporary name.
const ATTEMPTS: usize = 16;

/// Flags to create a file.
const NEW: OFlags =
    OFlags::RDWR.union(OFlags::CREATE).union(OFlags::EXCL).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// What a file will be.
#[derive(Debug, Clone, Copy)]
pub struct NewFile {
    /// The permission bits.
    pub mode: u32,
    /// Whether a file that is replaced keeps its permission bits.
    pub keep_mode: bool,
    /// The length, if it is known: what does not fit is refused before the first byte.
    pub size: Option<u64>,
}

impl Tree {
    /// Begins a new file; missing directories on the way are created. A link is followed to the file that it leads to.
    ///
    /// # Errors
    /// Something other than a regular file is there, its size does not fit, or the denylist has it.
    pub fn create(&self, path: &UserPath, new: NewFile) -> Result<Incoming, TreeError> {
        if path.is_root() {
            return Err(TreeError::IsDirectory(path.clone()));
        }
        let location = self.locate_or_create(path, Follow::Yes)?;
        if location.path().is_root() {
            return Err(TreeError::IsDirectory(path.clone()));
        }
        self.create_temporary(location, path, new)
    }

    /// Writes a file whose content is all there. It has its name, which another file may have had, when it is whole: with its name at
    /// once, other writers could change its length while it is charged.
    ///
    /// # Errors
    /// As [`create`](Self::create), or it cannot be written.
    pub fn write(&self, path: &UserPath, new: NewFile, content: &[u8]) -> Result<Created, TreeError> {
        let mut file = self.create(path, new)?;
        file.write_all(content).map_err(TreeError::io(ACTION, path))?;
        file.commit()
    }

    /// Begins a new file at a location. Where its name is free it gets it at once, which is faster.
    ///
    /// # Errors
    /// Something other than a regular file is there, or its size does not fit.
    pub(super) fn create_at(&self, location: Location, mode: u32, size: Option<u64>) -> Result<Incoming, TreeError> {
        let new = NewFile { mode, keep_mode: false, size };
        match self.create_named(location, new)? {
            Ok(file) => Ok(file),
            Err(location) => {
                let path = location.path().clone();
                self.create_temporary(location, &path, new)
            }
        }
    }

    /// Begins a new file with its name; if that is taken, returns the location.
    fn create_named(&self, location: Location, new: NewFile) -> Result<Result<Incoming, Location>, TreeError> {
        let (path, name) = (location.path().clone(), location.name().to_owned());
        let file = match rustix::fs::openat(location.parent(), &name, NEW, Mode::from_raw_mode(new.mode & 0o777)) {
            Ok(file) => File::from(file),
            Err(Errno::EXIST) => return Ok(Err(location)),
            Err(errno) => return Err(TreeError::system(ACTION, &path)(errno)),
        };
        let mut incoming = Incoming::named(self, file, location, name, new.mode & 0o777);
        incoming.begin(None, new.size).map_err(TreeError::io(ACTION, &path))?;
        Ok(Ok(incoming))
    }

    /// Begins a new file with a temporary name.
    fn create_temporary(&self, location: Location, path: &UserPath, new: NewFile) -> Result<Incoming, TreeError> {
        let existing = replaceable(&location, path)?;
        let mode = match existing {
            Some(existing) if new.keep_mode => existing.st_mode & 0o777,
            _ => new.mode & 0o777,
        };
        let (temporary, file) = self.temporary(&location, mode).map_err(TreeError::system(ACTION, path))?;
        let mut incoming = Incoming::new(self, file, location, temporary, mode);
        incoming.begin(existing.as_ref(), new.size).map_err(TreeError::io(ACTION, path))?;
        Ok(incoming)
    }

    /// Begins a new file in a directory that exists, for [`Incoming::commit_as`].
    ///
    /// # Errors
    /// There is no such directory, or its size does not fit.
    pub fn create_unnamed(&self, directory: &UserPath, new: NewFile) -> Result<Incoming, TreeError> {
        let path = directory.child(&temporary_name());
        let location = self.resolve(&path, Follow::No)?;
        let mode = new.mode & 0o777;
        let (temporary, file) = self.temporary(&location, mode).map_err(TreeError::system(ACTION, directory))?;
        let mut incoming = Incoming::new(self, file, location, temporary, mode);
        incoming.begin(None, new.size).map_err(TreeError::io(ACTION, directory))?;
        Ok(incoming)
    }

    fn temporary(&self, location: &Location, mode: u32) -> rustix::io::Result<(OsString, File)> {
        for _ in 0..ATTEMPTS {
            let name = temporary_name();
            match rustix::fs::openat(location.parent(), &name, NEW, Mode::from_raw_mode(mode)) {
                Err(Errno::EXIST) => {}
                opened => return Ok((name, File::from(opened?))),
            }
        }
        Err(Errno::EXIST)
    }

    /// Gives a new file or directory to the server's user.
    pub(super) fn own(&self, file: impl AsFd, found: &Stat) -> rustix::io::Result<()> {
        let (uid, gid) = self.shared.root.owner();
        match (found.st_uid, found.st_gid) == (uid.as_raw(), gid.as_raw()) {
            true => Ok(()),
            false => rustix::fs::fchown(file, Some(uid), Some(gid)),
        }
    }

    pub(super) fn owner(&self) -> (Uid, Gid) {
        self.shared.root.owner()
    }
}
