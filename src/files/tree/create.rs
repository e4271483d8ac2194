//! A new file: written under a temporary name in its directory, renamed when it is whole, and removed if that never happens.

use std::collections::hash_map::RandomState;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::hash::{BuildHasher, Hasher};
use std::io::{self, IoSlice, Seek, Write};
use std::os::fd::AsFd;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, RenameFlags, Stat, Timespec, Timestamps, UTIME_OMIT, Uid};
use rustix::io::Errno;

use super::super::account::Charge;
use super::super::user_path::UserPath;
use super::entry::links;
use super::error::TreeError;
use super::location::{Follow, Location};
use super::open_files::Handle;
use super::{Tree, stat};

/// A verb for errors.
const ACTION: &str = "write";

/// Prefix of the names of files that are not whole yet.
pub const TEMPORARY_PREFIX: &str = ".alula-new-";

/// Attempts to find a temporary name.
const ATTEMPTS: usize = 16;

/// The bytes that are copied at a time where the kernel cannot do it.
const BUFFER: usize = 128 * 1024;

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

    /// Writes a file whose content is all there. One that replaces another has the name of that one when it is whole. A new one has
    /// its name at once, which is faster.
    ///
    /// # Errors
    /// As [`create`](Self::create), or it cannot be written.
    pub fn write(&self, path: &UserPath, new: NewFile, content: &[u8]) -> Result<Created, TreeError> {
        if path.is_root() {
            return Err(TreeError::IsDirectory(path.clone()));
        }
        // What is there is not followed: where something is, the file is not new.
        let location = self.locate_or_create(path, Follow::No)?;
        let mut file = match self.create_named(location, new)? {
            Ok(file) => file,
            Err(_) => self.create(path, new)?,
        };
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
        let mut incoming = Incoming::new(self, file, location, name, new.mode & 0o777);
        incoming.named = true;
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

/// A name that no other file of this process has had.
fn temporary_name() -> OsString {
    static NEXT: LazyLock<AtomicU64> = LazyLock::new(|| AtomicU64::new(RandomState::new().build_hasher().finish()));
    format!("{TEMPORARY_PREFIX}{:016x}", NEXT.fetch_add(1, Ordering::Relaxed)).into()
}

impl Incoming {
    fn new(tree: &Tree, file: File, location: Location, temporary: OsString, mode: u32) -> Self {
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

    fn begin(&mut self, existing: Option<&Stat>, size: Option<u64>) -> io::Result<()> {
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

/// A time for the kernel.
pub(super) fn timespec(time: SystemTime) -> Timespec {
    let (seconds, nanoseconds) = match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => (i64::try_from(after.as_secs()).unwrap_or(i64::MAX), after.subsec_nanos()),
        Err(before) => {
            let before = before.duration();
            let whole = -i64::try_from(before.as_secs()).unwrap_or(i64::MAX);
            match before.subsec_nanos() {
                0 => (whole, 0),
                part => (whole - 1, 1_000_000_000 - part),
            }
        }
    };
    Timespec { tv_sec: seconds, tv_nsec: nanoseconds.into() }
}

/// Whether a name is that of a file that is not whole yet.
pub fn is_temporary(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(TEMPORARY_PREFIX.as_bytes())
}
