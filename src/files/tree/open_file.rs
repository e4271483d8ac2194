//! A file that is written in place, at any position.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use rustix::fs::{Mode, OFlags, Stat};
use rustix::io::Errno;

use super::super::user_path::UserPath;
use super::entry::{Entry, size};
use super::error::TreeError;
use super::location::{Follow, Location};
use super::open_files::Handle;
use super::{Tree, open_regular};

/// A verb for errors.
const ACTION: &str = "open";

/// Attempts to open or create a file that others create and remove at the same time.
const ATTEMPTS: usize = 16;

/// How a file is opened for writing.
#[derive(Debug, Clone, Copy, Default)]
pub struct OpenFlags {
    /// It is created if it is missing, with the directories of its path.
    pub create: bool,
    /// It must be missing.
    pub exclusive: bool,
    /// It is emptied.
    pub truncate: bool,
    /// Each write is at its end.
    pub append: bool,
    /// It can be read, too.
    pub read: bool,
    /// The permission bits of a new one.
    pub mode: u32,
}

/// A regular file that is open for writing. The bytes by which it grows are charged.
#[derive(Debug)]
pub struct OpenFile {
    tree: Tree,
    file: File,
    path: UserPath,
    append: bool,
    handle: Handle,
}

impl Tree {
    /// Opens a regular file for writing in place. A link is followed, unless the file must be missing.
    ///
    /// # Errors
    /// It is missing, exists, is no regular file, or the denylist has it.
    pub fn open_for_writing(&self, path: &UserPath, flags: OpenFlags) -> Result<OpenFile, TreeError> {
        if path.is_root() {
            return Err(TreeError::IsDirectory(path.clone()));
        }
        let follow = if flags.exclusive { Follow::No } else { Follow::Yes };
        for _ in 0..ATTEMPTS {
            let location = match flags.create {
                true => self.locate_or_create(path, follow)?,
                false => self.locate(path, follow)?,
            };
            match self.open_at(&location, path, flags)? {
                Some(file) => return self.opened(file, path, flags),
                None if flags.exclusive => return Err(TreeError::Exists(path.clone())),
                None => {}
            }
        }
        Err(TreeError::Busy(path.clone()))
    }

    /// `None`: it exists and must not, or was created or removed meanwhile.
    fn open_at(&self, location: &Location, path: &UserPath, flags: OpenFlags) -> Result<Option<File>, TreeError> {
        let access = if flags.read { OFlags::RDWR } else { OFlags::WRONLY };
        if flags.create {
            let new = access | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let mode = Mode::from_raw_mode(flags.mode & 0o777);
            match rustix::fs::openat(location.parent(), location.name(), new, mode) {
                Ok(file) => {
                    let found = rustix::fs::fstat(&file);
                    let set = found.and_then(|found| {
                        self.own(&file, &found)?;
                        rustix::fs::fchmod(&file, mode)
                    });
                    set.map_err(TreeError::system(ACTION, path))?;
                    return Ok(Some(File::from(file)));
                }
                Err(Errno::EXIST | Errno::ISDIR) if flags.exclusive => return Ok(None),
                Err(Errno::EXIST | Errno::ISDIR) => {}
                Err(errno) => return Err(TreeError::system(ACTION, path)(errno)),
            }
        }
        match open_regular(location, path, access) {
            Ok((file, _)) => Ok(Some(file)),
            Err(TreeError::NotFound(_)) if flags.create => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn opened(&self, file: File, path: &UserPath, flags: OpenFlags) -> Result<OpenFile, TreeError> {
        let (handle, _) = self.shared.open_files.opened(&file).map_err(TreeError::system(ACTION, path))?;
        let file = OpenFile { tree: self.clone(), file, path: path.clone(), append: flags.append, handle };
        if flags.truncate {
            file.set_len(0).map_err(TreeError::io("truncate", path))?;
        }
        Ok(file)
    }
}

impl OpenFile {
    /// The path that it was opened by.
    pub fn path(&self) -> &UserPath {
        &self.path
    }

    /// Writes all bytes at a position, or at the end if it was opened to append.
    ///
    /// # Errors
    /// They do not fit ([`io::ErrorKind::QuotaExceeded`]), or cannot be written. Some may be written.
    pub fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let _length = self.handle.length();
        let before = size(&self.attributes()?);
        let offset = if self.append { before } else { offset };
        let end = offset.checked_add(bytes.len() as u64).ok_or(Errno::FBIG)?;
        if end <= before || bytes.is_empty() {
            return self.file.write_all_at(bytes, offset);
        }
        let mut charge = self.tree.account().charge(end - before).map_err(over)?;
        let written = self.file.write_all_at(bytes, offset);
        if written.is_err() {
            let grown = self.attributes().map_or(0, |stat| size(&stat).saturating_sub(before));
            charge.shrink_to(grown);
        }
        charge.keep();
        written
    }

    /// Reads bytes at a position; how many. Zero is the end.
    ///
    /// # Errors
    /// It was not opened for reading, or cannot be read.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }

    /// Sets its length. What it is longer by is charged.
    ///
    /// # Errors
    /// It does not fit, or cannot be set.
    pub fn set_len(&self, length: u64) -> io::Result<()> {
        let _length = self.handle.length();
        let before = size(&self.attributes()?);
        if length <= before {
            self.file.set_len(length)?;
            self.tree.account().release(before - length);
            return Ok(());
        }
        let charge = self.tree.account().charge(length - before).map_err(over)?;
        self.file.set_len(length)?;
        charge.keep();
        Ok(())
    }

    /// Writes its content to the disk.
    ///
    /// # Errors
    /// That fails.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    /// Its attributes now.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn metadata(&self) -> io::Result<Entry> {
        Ok(Entry::new(self.path.name().unwrap_or_default(), &self.attributes()?))
    }

    /// The file, for reading and its attributes. What is written to it is not charged.
    pub fn file(&self) -> &File {
        &self.file
    }

    fn attributes(&self) -> rustix::io::Result<Stat> {
        rustix::fs::fstat(self.file.as_fd())
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        // It may have been removed while it was open.
        let freed = self.tree.shared.open_files.closed(&self.handle, &self.file);
        self.tree.account().release(freed);
    }
}

fn over(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::new(io::ErrorKind::QuotaExceeded, error)
}
