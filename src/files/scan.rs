//! Visits everything below a directory whose owner may change it at the same time.
//!
//! Each directory is opened by its name in its open parent. A name that was replaced by a link is not followed, and nothing
//! outside is reached. Mounts are not entered. Memory does not grow with the number of files, and with the depth
//! only up to [`MAX_DEPTH`].

use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{AtFlags, Dir, DirEntry, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::FilesError;
use super::child::open_child;

/// The most directories that are open at a time; the others are opened again through `..`. Many scans run at the same time, and
/// descriptors are limited.
const HELD_OPEN: usize = 32;

/// The deepest directory. A path has at most 4096 bytes, so nothing deeper has a path that programs can use.
pub(super) const MAX_DEPTH: usize = 2048;

/// Attempts for a name whose type changes during the scan.
const ATTEMPTS: usize = 8;

/// Handles the entries that a scan finds. After an error the scan continues; [`Errno::NOENT`] is ignored.
pub(super) trait Visitor {
    /// A verb phrase for errors.
    const ACTION: &'static str;

    /// Handles a directory, including the top one, before its entries.
    fn directory(&mut self, directory: BorrowedFd<'_>, stat: &Stat) -> rustix::io::Result<()>;

    /// As [`directory`](Self::directory), with its name in the directory that was entered last; the top one has none.
    fn entered(&mut self, _name: &CStr, directory: BorrowedFd<'_>, stat: &Stat) -> rustix::io::Result<()> {
        self.directory(directory, stat)
    }

    /// Handles the end of the directory that was entered last.
    fn left(&mut self) -> rustix::io::Result<()> {
        Ok(())
    }

    /// Handles any other entry. The name may refer to another file by now.
    fn entry(&mut self, parent: BorrowedFd<'_>, name: &CStr, kind: FileType) -> rustix::io::Result<()>;
}

/// Visits the directory at `path` and everything below it. Links in `path` itself are followed.
///
/// # Errors
/// The first entry that failed, after all others were visited; or `cancelled` was set.
pub(super) fn scan<V: Visitor>(path: &Path, cancelled: &AtomicBool, visitor: &mut V) -> Result<(), FilesError> {
    let mut scan = DiskScan::open(path, visitor)?;
    while !scan.frames.is_empty() {
        if cancelled.load(Ordering::Relaxed) {
            return Err(FilesError::Cancelled { action: V::ACTION, path: path.to_owned() });
        }
        scan.step();
    }
    scan.first_error.map_or(Ok(()), Err)
}

/// Flags to open a directory for reading.
pub(super) const FLAGS: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// A directory on the current path.
struct Frame {
    /// `None` if it was closed because too many directories are open.
    entries: Option<Dir>,
    /// The position in its listing.
    position: i64,
    /// Device and inode.
    identity: (u64, u64),
    /// Its name in the parent.
    name: CString,
}

struct DiskScan<'a, V> {
    path: &'a Path,
    /// The current path, from the top.
    frames: Vec<Frame>,
    visitor: &'a mut V,
    first_error: Option<FilesError>,
}

impl<'a, V: Visitor> DiskScan<'a, V> {
    fn open(path: &'a Path, visitor: &'a mut V) -> Result<Self, FilesError> {
        let top = rustix::fs::open(path, FLAGS, Mode::empty()).map_err(FilesError::disk(V::ACTION, path))?;
        let mut scan = Self { path, frames: Vec::new(), visitor, first_error: None };
        scan.enter(top, c"");
        Ok(scan)
    }

    /// Visits one entry, or leaves the directory.
    fn step(&mut self) {
        let Some(Frame { entries: Some(entries), position, .. }) = self.frames.last_mut() else {
            return self.leave();
        };
        match entries.next() {
            Some(Ok(entry)) => {
                *position = entry.offset();
                self.visit(&entry);
            }
            Some(Err(errno)) => {
                self.failed(c"", errno);
                self.leave();
            }
            None => self.leave(),
        }
    }

    fn visit(&mut self, entry: &DirEntry) {
        let name = entry.file_name();
        if name == c"." || name == c".." {
            return;
        }
        let mut kind = entry.file_type();
        for _ in 0..ATTEMPTS {
            let Some(parent) = self.frames.last().and_then(|frame| frame.entries.as_ref()) else {
                return;
            };
            let parent = match parent.fd() {
                Ok(fd) => fd,
                Err(errno) => return self.failed(name, errno),
            };
            let visited = match kind {
                FileType::Directory => match open_child(parent, name) {
                    Ok(child) => return self.enter(child, name),
                    // A mount does not belong to the server's files.
                    Err(Errno::XDEV) => return,
                    Err(errno) => Err(errno),
                },
                FileType::Unknown => Err(Errno::NOTDIR),
                other => self.visitor.entry(parent, name, other),
            };
            match visited {
                Ok(()) | Err(Errno::NOENT) => return,
                // The type is not the one of the listing.
                Err(Errno::NOTDIR | Errno::LOOP | Errno::ISDIR) => {}
                Err(errno) => return self.failed(name, errno),
            }
            kind = match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => FileType::from_raw_mode(stat.st_mode),
                Err(Errno::NOENT) => return,
                Err(errno) => return self.failed(name, errno),
            };
        }
    }

    fn enter(&mut self, directory: OwnedFd, name: &CStr) {
        if self.frames.len() >= MAX_DEPTH {
            let reason = "it is nested too deeply for other programs; remove that directory";
            let error = FilesError::rejected(V::ACTION, &self.path_of(name), reason);
            self.first_error.get_or_insert(error);
            return;
        }
        let entered = rustix::fs::fstat(&directory).and_then(|stat| {
            self.visitor.entered(name, directory.as_fd(), &stat)?;
            Ok((Dir::new(directory)?, (stat.st_dev, stat.st_ino)))
        });
        match entered {
            Ok((entries, identity)) => {
                self.frames.push(Frame { entries: Some(entries), position: 0, identity, name: name.to_owned() });
                // The top one stays open, to return to.
                if let Some(index) = self.frames.len().checked_sub(HELD_OPEN + 1)
                    && index > 0
                {
                    self.frames[index].entries = None;
                }
            }
            Err(Errno::NOENT) => {}
            Err(errno) => self.failed(name, errno),
        }
    }

    /// Continues with the parent.
    fn leave(&mut self) {
        if let Err(errno) = self.visitor.left() {
            self.failed(c"", errno);
        }
        let closed = |parent: &&mut Frame| parent.entries.is_none();
        let (Some(done), Some(parent)) = (self.frames.pop(), self.frames.last_mut().filter(closed)) else {
            return;
        };
        match reopen_parent(&done, parent) {
            Ok(entries) => parent.entries = Some(entries),
            Err(source) => {
                let path = self.path_of(c"");
                let error = FilesError::disk(V::ACTION, &path)(source);
                self.first_error.get_or_insert(error);
                self.frames.truncate(1);
            }
        }
    }

    fn failed(&mut self, name: &CStr, errno: Errno) {
        if self.first_error.is_none() {
            self.first_error = Some(FilesError::disk(V::ACTION, &self.path_of(name))(errno));
        }
    }

    fn path_of(&self, name: &CStr) -> PathBuf {
        path_below(self.path, self.frames.iter().map(|frame| frame.name.as_c_str()).chain([name]))
    }
}

/// The path of nested names below `top`, for messages.
pub(super) fn path_below<'a>(top: &Path, names: impl Iterator<Item = &'a CStr>) -> PathBuf {
    let names = names.filter(|name| !name.is_empty());
    top.join(names.map(|name| OsStr::from_bytes(name.to_bytes())).collect::<PathBuf>())
}

/// Opens the parent of `child`, which must be the directory that it was entered from.
fn reopen_parent(child: &Frame, parent: &Frame) -> io::Result<Dir> {
    let entries = child.entries.as_ref().ok_or(Errno::BADF)?;
    let directory = rustix::fs::openat(entries.fd()?, "..", FLAGS | OFlags::NOFOLLOW, Mode::empty())?;
    let stat = rustix::fs::fstat(&directory)?;
    if (stat.st_dev, stat.st_ino) != parent.identity {
        return Err(io::Error::other("directories below it were moved during the scan, which will be repeated"));
    }
    let mut entries = Dir::new(directory)?;
    entries.seek(parent.position)?;
    Ok(entries)
}

#[cfg(test)]
mod tests;
