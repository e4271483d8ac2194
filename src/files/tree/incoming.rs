//! A file that is being written: charged as it grows, renamed when it is whole, and removed if that never happens.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IoSlice, Seek, Write};
use std::time::SystemTime;

use rustix::fs::{AtFlags, FileType, Mode, RenameFlags, Stat, Timespec, Timestamps, UTIME_OMIT};
use rustix::io::Errno;

use super::super::account::Charge;
use super::super::user_path::UserPath;
use super::attributes::timespec;
use super::entry::links;
use super::error::TreeError;
use super::location::Location;
use super::open_files::Handle;
use super::{Tree, stat};

/// A verb for errors.
pub(super) const ACTION: &str = "write";

/// The bytes that are copied at a time where the kernel cannot do it.
const BUFFER: usize = 128 * 1024;

/// A file was created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Created {
    /// Whether it has replaced another one.
    pub replaced: bool,
}

/// A file that is being written, mostly with a temporary name. Dropped, it is removed.
#[derive(Debug)]
pub struct Incoming {
    tree: Tree,
    file: File,
    location: Location,
    temporary: OsString,
    mode: u32,
    /// The permission bits that it has.
    created_mode: u32,
    modified: Option<SystemTime>,
    written: u64,
    /// What is charged: the bytes written above `credit`.
    charge: Option<Charge>,
    /// The bytes of the file that will be replaced.
    credit: u64,
    credited: Option<(u64, u64)>,
    handle: Option<Handle>,
    /// It was created with its final name.
    named: bool,
    /// It ends with bytes that were skipped.
    ends_with_hole: bool,
    committed: bool,
}

/// What is at a location, if a new file may take its place.
pub(super) fn replaceable(location: &Location, path: &UserPath) -> Result<Option<Stat>, TreeError> {
    let found = match stat(location) {
        Ok(found) => found,
        Err(Errno::NOENT) => return Ok(None),
        Err(errno) => return Err(TreeError::system(ACTION, path)(errno)),
    };
    match FileType::from_raw_mode(found.st_mode) {
        FileType::RegularFile => Ok(Some(found)),
        FileType::Directory => Err(TreeError::IsDirectory(path.clone())),
        FileType::Symlink => Err(TreeError::Busy(path.clone())),
        _ => Err(TreeError::NotRegular(path.clone())),
    }
}

impl Incoming {
    /// A new file that has its final name.
    pub(super) fn named(tree: &Tree, file: File, location: Location, name: OsString, mode: u32) -> Self {
        let mut file = Self::new(tree, file, location, name, mode);
        file.named = true;
        file
    }

    /// A new file with a temporary name.
    pub(super) fn new(tree: &Tree, file: File, location: Location, temporary: OsString, mode: u32) -> Self {
        Self {
            tree: tree.clone(),
            file,
            location,
            temporary,
            mode,
            created_mode: 0,
            modified: None,
            written: 0,
            charge: None,
            credit: 0,
            credited: None,
            handle: None,
            named: false,
            ends_with_hole: false,
            committed: false,
        }
    }

    /// Gives it its owner, and charges its size if it is known. The bytes of the file that it replaces count for it.
    pub(super) fn begin(&mut self, existing: Option<&Stat>, size: Option<u64>) -> io::Result<()> {
        let open_files = &self.tree.shared.open_files;
        let (handle, found) = open_files.opened(&self.file)?;
        self.handle = Some(handle);
        self.created_mode = found.st_mode & 0o777;
        self.tree.own(&self.file, &found)?;
        if let Some(existing) = existing.filter(|existing| links(existing) == 1) {
            let id = (existing.st_dev, existing.st_ino);
            if open_files.take_credit(id) {
                self.credited = Some(id);
                self.credit = super::entry::size(existing);
            }
        }
        match size {
            Some(size) => self.reserve(size),
            None => Ok(()),
        }
    }

    /// Where it will be, with links resolved.
    pub fn path(&self) -> &UserPath {
        self.location.path()
    }

    /// The bytes written so far.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Sets the time of modification that it will have.
    pub fn set_mtime(&mut self, modified: SystemTime) {
        self.modified = Some(modified);
    }

    /// Appends zeros, as a hole where the file system has holes.
    ///
    /// # Errors
    /// They do not fit.
    pub fn skip(&mut self, bytes: u64) -> io::Result<()> {
        self.reserve(self.written.saturating_add(bytes))?;
        self.written += bytes;
        self.file.seek(io::SeekFrom::Start(self.written))?;
        self.ends_with_hole = true;
        Ok(())
    }

    /// Copies at most `most` bytes of a file from its position, by the kernel where it can. Returns the number; zero is the end.
    ///
    /// # Errors
    /// They do not fit, or cannot be copied.
    pub fn copy_from(&mut self, source: &mut File, most: u64) -> io::Result<u64> {
        let left = source.metadata()?.len().saturating_sub(source.stream_position()?).min(most);
        let most = usize::try_from(left).unwrap_or(usize::MAX);
        self.reserve(self.written.saturating_add(left))?;
        match rustix::fs::copy_file_range(&*source, None, &self.file, None, most) {
            Ok(copied) => {
                self.written += copied as u64;
                Ok(copied as u64)
            }
            Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM) => {
                let mut buffer = vec![0; most.min(BUFFER)];
                let read = io::Read::read(source, &mut buffer)?;
                self.write_all(&buffer[..read])?;
                Ok(read as u64)
            }
            Err(errno) => Err(errno.into()),
        }
    }

    /// Gives it its name; what is there already is replaced.
    ///
    /// # Errors
    /// A directory has the name by now, or the name is gone with its directory.
    pub fn commit(mut self) -> Result<Created, TreeError> {
        self.finish()?;
        let path = self.location.path().clone();
        if self.named {
            self.settle(0).map_err(TreeError::io(ACTION, &path))?;
            self.keep();
            return Ok(Created { replaced: false });
        }
        let error = |errno| TreeError::system(ACTION, &path)(errno);
        let shared = self.tree.shared.clone();
        let held = shared.open_files.held();
        let existing = match replaceable(&self.location, &path)? {
            Some(existing) => existing,
            None => {
                self.settle(0).map_err(TreeError::io(ACTION, &path))?;
                match self.place(RenameFlags::NOREPLACE) {
                    Ok(()) => {
                        self.keep();
                        return Ok(Created { replaced: false });
                    }
                    Err(Errno::EXIST) => stat(&self.location).map_err(error)?,
                    Err(errno) => return Err(error(errno)),
                }
            }
        };
        let freed = held.freed(&existing);
        let credited = freed.min(self.credit).min(self.written);
        self.settle(credited).map_err(TreeError::io(ACTION, &path))?;
        self.place(RenameFlags::empty()).map_err(error)?;
        shared.account.release(freed - credited);
        self.keep();
        Ok(Created { replaced: true })
    }

    /// Gives it the first of these names that is free. They are not the user's choice, so the denylist is not asked.
    ///
    /// # Errors
    /// All are taken: the last one is in the error.
    pub fn commit_as(mut self, names: impl IntoIterator<Item = OsString>) -> Result<UserPath, TreeError> {
        self.finish()?;
        self.credit = 0;
        self.settle(0).map_err(TreeError::io(ACTION, self.location.path()))?;
        for name in names {
            self.location.rename(name);
            match self.place(RenameFlags::NOREPLACE) {
                Ok(()) => {
                    self.keep();
                    return Ok(self.location.path().clone());
                }
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(TreeError::system(ACTION, self.location.path())(errno)),
            }
        }
        Err(TreeError::Exists(self.location.path().clone()))
    }

    /// As [`commit`](Self::commit), if its name is free.
    ///
    /// # Errors
    /// Something has the name by now.
    pub fn commit_new(self) -> Result<UserPath, TreeError> {
        let name = self.location.name().to_owned();
        self.commit_as([name])
    }

    /// Sets mode and times.
    fn finish(&mut self) -> Result<(), TreeError> {
        let path = self.location.path();
        let error = |errno| TreeError::system(ACTION, path)(errno);
        if self.ends_with_hole {
            rustix::fs::ftruncate(&self.file, self.written).map_err(error)?;
        }
        if self.mode != self.created_mode {
            rustix::fs::fchmod(&self.file, Mode::from_raw_mode(self.mode)).map_err(error)?;
        }
        if let Some(modified) = self.modified {
            let omitted = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
            let times = Timestamps { last_access: omitted, last_modification: timespec(modified) };
            rustix::fs::futimens(&self.file, &times).map_err(error)?;
        }
        Ok(())
    }

    fn place(&self, flags: RenameFlags) -> rustix::io::Result<()> {
        let parent = self.location.parent();
        super::names::rename(parent, &self.temporary, parent, self.location.name(), flags)
    }

    /// Charges up to this length.
    fn reserve(&mut self, length: u64) -> io::Result<()> {
        let needed = length.saturating_sub(self.credit);
        let over = |error| io::Error::new(io::ErrorKind::QuotaExceeded, error);
        match &mut self.charge {
            Some(charge) => charge.grow(needed.saturating_sub(charge.bytes())).map_err(over),
            None if needed == 0 => Ok(()),
            charge => {
                *charge = Some(self.tree.account().charge(needed).map_err(over)?);
                Ok(())
            }
        }
    }

    /// Charges exactly what is written above this credit.
    fn settle(&mut self, credit: u64) -> io::Result<()> {
        self.credit = credit;
        self.reserve(self.written)?;
        let charged = self.written.saturating_sub(credit);
        if let Some(charge) = &mut self.charge {
            charge.shrink_to(charged);
        }
        Ok(())
    }

    fn keep(&mut self) {
        self.committed = true;
        if let Some(charge) = self.charge.take() {
            charge.keep();
        }
    }
}

impl Write for Incoming {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        let length: usize = pieces.iter().map(|piece| piece.len()).sum();
        self.reserve(self.written.saturating_add(length as u64))?;
        let written = self.file.write_vectored(pieces)?;
        self.written += written as u64;
        self.ends_with_hole = false;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if !self.committed {
            // The user may have removed it.
            let _ = rustix::fs::unlinkat(self.location.parent(), &self.temporary, AtFlags::empty());
        }
        let open_files = &self.tree.shared.open_files;
        if let Some(handle) = &self.handle {
            let freed = open_files.closed(handle, &self.file);
            // It may have been removed since; before it was committed, the charge has its bytes.
            if self.committed {
                self.tree.account().release(freed);
            }
        }
        if let Some(id) = self.credited {
            open_files.return_credit(id);
        }
    }
}
