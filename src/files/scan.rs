//! Looking at everything below a directory, whatever its owner does meanwhile.
//!
//! Each directory is opened by its name in the one above, which is held open: a name that was replaced by a link is
//! not followed, and nothing outside is ever reached. Mounts are not entered. Memory does not grow with
//! the number of files, and with the depth only up to [`MAX_DEPTH`].

use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{AtFlags, Dir, DirEntry, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::FilesError;
use super::root::{Resolver, Root, open_child};

/// Directories that are held open at a time; the others are found again by `..`. Many walks run at once, and
/// descriptors are few.
const HELD_OPEN: usize = 32;

/// Deepest directory. A path has at most 4096 bytes, so nothing deeper has a path that programs could use.
pub(super) const MAX_DEPTH: usize = 2048;

/// How often a name is looked at that is a directory now and something else the next moment.
const ATTEMPTS: usize = 8;

/// What is done with what a walk finds. An error is remembered, and the walk goes on; that something is gone
/// ([`Errno::NOENT`]) is none.
pub(super) trait Visitor {
    /// What this is about, as a verb phrase.
    const ACTION: &'static str;

    /// A directory, the top one included, before its entries.
    fn directory(&mut self, directory: BorrowedFd<'_>, stat: &Stat) -> rustix::io::Result<()>;

    /// Anything else, by its name. What is there may be another thing by now.
    fn entry(&mut self, parent: BorrowedFd<'_>, name: &CStr, kind: FileType) -> rustix::io::Result<()>;
}

/// Shows everything below `root`, and `root` itself, to `visitor`. `path` is for messages.
///
/// # Errors
/// The first thing that could not be looked at, after everything else was; or it was cancelled.
pub(super) fn scan<V: Visitor>(
    root: &Root,
    path: &Path,
    cancelled: &AtomicBool,
    visitor: &mut V,
) -> Result<(), FilesError> {
    let mut scan = DiskScan { path, resolver: root.resolver(), frames: Vec::new(), visitor, first_error: None };
    let top = rustix::fs::openat(root, ".", REOPEN, Mode::empty());
    scan.enter(top.map_err(FilesError::disk(V::ACTION, path))?, c"");
    while !scan.frames.is_empty() {
        if cancelled.load(Ordering::Relaxed) {
            return Err(FilesError::Cancelled { action: V::ACTION, path: path.to_owned() });
        }
        scan.step();
    }
    scan.first_error.map_or(Ok(()), Err)
}

/// How a directory that was found before is opened.
const REOPEN: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC).union(OFlags::NOFOLLOW);

/// A directory whose entries are being looked at.
struct Frame {
    /// `None` while too many below it are open.
    entries: Option<Dir>,
    /// Where its listing goes on.
    position: i64,
    /// Which directory it is: device and inode.
    identity: (u64, u64),
    /// Its name in the one above.
    name: CString,
}

struct DiskScan<'a, V> {
    path: &'a Path,
    resolver: Resolver,
    /// From the top down to where we are.
    frames: Vec<Frame>,
    visitor: &'a mut V,
    first_error: Option<FilesError>,
}

impl<V: Visitor> DiskScan<'_, V> {
    /// Looks at one entry, or leaves the directory.
    fn step(&mut self) {
        let Some(frame) = self.frames.last_mut() else {
            return;
        };
        let Some(entries) = frame.entries.as_mut() else {
            self.frames.pop();
            return;
        };
        match entries.next() {
            Some(Ok(entry)) => {
                frame.position = entry.offset();
                self.look_at(&entry);
            }
            Some(Err(errno)) => {
                self.failed(c"", errno);
                self.leave();
            }
            None => self.leave(),
        }
    }

    fn look_at(&mut self, entry: &DirEntry) {
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
            let looked = match kind {
                FileType::Directory => match open_child(self.resolver, parent, name) {
                    Ok(child) => return self.enter(child, name),
                    // Something is mounted there: not this server's files.
                    Err(Errno::XDEV) => return,
                    Err(errno) => Err(errno),
                },
                FileType::Unknown => Err(Errno::NOTDIR),
                other => self.visitor.entry(parent, name, other),
            };
            match looked {
                Ok(()) | Err(Errno::NOENT) => return,
                // It is not what the listing said, or not any more.
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
            let reason = "it is nested too deeply for any program to use; remove that directory";
            let error = FilesError::rejected(V::ACTION, &self.path_of(name), reason);
            self.first_error.get_or_insert(error);
            return;
        }
        let entered = rustix::fs::fstat(&directory).and_then(|stat| {
            self.visitor.directory(directory.as_fd(), &stat)?;
            Ok((Dir::new(directory)?, (stat.st_dev, stat.st_ino)))
        });
        match entered {
            Ok((entries, identity)) => {
                self.frames.push(Frame { entries: Some(entries), position: 0, identity, name: name.to_owned() });
                // The top one stays open whatever happens: the way back for all.
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

    /// Goes on with the directory above.
    fn leave(&mut self) {
        let Some(done) = self.frames.pop() else {
            return;
        };
        let Some(above) = self.frames.last_mut() else {
            return;
        };
        if above.entries.is_some() {
            return;
        }
        match reopen(&done, above) {
            Ok(entries) => above.entries = Some(entries),
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
        let names = self.frames.iter().map(|frame| frame.name.as_c_str());
        let mut path = self.path.to_owned();
        for name in names.chain([name]).filter(|name| !name.is_empty()) {
            path.push(OsStr::from_bytes(name.to_bytes()));
        }
        path
    }
}

/// Opens the directory above `below`, which must be the one that it was entered from.
fn reopen(below: &Frame, above: &Frame) -> io::Result<Dir> {
    let entries = below.entries.as_ref().ok_or(Errno::BADF)?;
    let directory = rustix::fs::openat(entries.fd()?, "..", REOPEN, Mode::empty())?;
    let stat = rustix::fs::fstat(&directory)?;
    if (stat.st_dev, stat.st_ino) != above.identity {
        return Err(io::Error::other("directories below were moved meanwhile; it is looked at again"));
    }
    let mut entries = Dir::new(directory)?;
    entries.seek(above.position)?;
    Ok(entries)
}

#[cfg(test)]
mod tests;
