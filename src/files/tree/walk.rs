//! Visits everything below a directory, in the order of the bytes of names, while its owner may change it.
//!
//! A directory is opened by its name in its open parent and no link is followed, so nothing outside is reached; mounts are not
//! entered. The names of the directories on the way are in memory, and few of them are open.

use std::ffi::{CStr, OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::super::child::open_child;
use super::super::user_path::UserPath;
use super::entry::Entry;
use super::error::TreeError;
use super::listing::head;
use super::location::Follow;
use super::name_list::{Names, Order};
use super::{Tree, is_kind, itself, pin_at, read_link};

/// A verb for errors.
const ACTION: &str = "read";

/// The most directories that are open at a time; the others are opened again through `..`.
const HELD_OPEN: usize = 32;

/// The deepest directory. The path of an entry is made at each, so deeper ones take long.
const MAX_DEPTH: usize = 4096;

/// Flags to open a directory for reading.
const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC).union(OFlags::NOFOLLOW);

/// What to do after an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visit {
    /// Continue; with what is in it, if it is a directory.
    Enter,
    /// Continue behind it.
    Skip,
    /// End the walk.
    Stop,
}

/// An entry that a walk has found.
#[derive(Debug)]
pub struct WalkEntry<'a> {
    /// From the server's directory.
    pub path: UserPath,
    /// Its attributes.
    pub entry: Entry,
    parent: BorrowedFd<'a>,
}

impl WalkEntry<'_> {
    /// Opens it for reading, if it is a regular file.
    ///
    /// # Errors
    /// It is none by now, or cannot be opened.
    pub fn open(&self) -> Result<(File, Entry), TreeError> {
        let error = |errno| TreeError::system("open", &self.path)(errno);
        let (pinned, stat) = pin_at(self.parent, &self.entry.name).map_err(error)?;
        if !is_kind(&stat, FileType::RegularFile) {
            return Err(TreeError::NotRegular(self.path.clone()));
        }
        let file = rustix::fs::open(itself(&pinned), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(error)?;
        Ok((File::from(file), Entry::new(&self.entry.name, &stat)))
    }

    /// The text of the link that it is.
    ///
    /// # Errors
    /// It is none by now, or cannot be read.
    pub fn read_link(&self) -> Result<OsString, TreeError> {
        read_link(self.parent, &self.entry.name).map_err(TreeError::system("read the link", &self.path))
    }

    /// Reads the first bytes into `buffer`; how many. `None` if it is not a regular file that can be read.
    pub fn head(&self, buffer: &mut [u8]) -> Option<usize> {
        head(self.parent, &self.entry, buffer)
    }

    /// The open directory that contains it.
    pub(super) fn parent(&self) -> BorrowedFd<'_> {
        self.parent
    }
}

/// Handles what a walk finds.
pub trait Visitor {
    /// Handles an entry, a directory before its entries.
    ///
    /// # Errors
    /// Of the visitor; it ends the walk.
    fn entry(&mut self, entry: WalkEntry<'_>) -> Result<Visit, TreeError>;

    /// Handles the end of a directory that was entered. `parent` is open and contains it as `name`.
    ///
    /// # Errors
    /// Of the visitor; it ends the walk.
    fn left(&mut self, _parent: BorrowedFd<'_>, _name: &OsStr, _path: &UserPath) -> Result<(), TreeError> {
        Ok(())
    }
}

impl<F: FnMut(WalkEntry<'_>) -> Visit + ?Sized> Visitor for &mut F {
    fn entry(&mut self, entry: WalkEntry<'_>) -> Result<Visit, TreeError> {
        Ok(self(entry))
    }
}

impl Tree {
    /// Visits what is at a path, and what is below: depth first, by the bytes of names, a directory before its entries. The
    /// server's directory itself is not visited. Links are not followed, except in the path before its last name. Entries of the
    /// denylist are not left out.
    ///
    /// # Errors
    /// Nothing is at the path, a directory cannot be read, or `cancelled` was set.
    pub fn walk(
        &self,
        from: &UserPath,
        cancelled: &AtomicBool,
        mut visit: &mut dyn FnMut(WalkEntry<'_>) -> Visit,
    ) -> Result<(), TreeError> {
        self.walk_with(from, cancelled, &mut visit)
    }

    /// As [`walk`](Self::walk), with a visitor that also handles the end of each directory.
    ///
    /// # Errors
    /// The same; or the visitor fails.
    pub fn walk_with<V: Visitor>(
        &self,
        from: &UserPath,
        cancelled: &AtomicBool,
        visitor: &mut V,
    ) -> Result<(), TreeError> {
        let location = self.resolve(from, Follow::No)?;
        let path = location.path().clone();
        let error = |errno| TreeError::system(ACTION, from)(errno);
        let mut walk = Walk { frames: Vec::new(), path: path.clone(), visitor, cancelled };
        if path.is_root() {
            let root = rustix::fs::openat(location.parent(), ".", DIRECTORY, Mode::empty()).map_err(error)?;
            walk.push(root, 0)?;
        } else {
            let stat =
                rustix::fs::statat(location.parent(), location.name(), AtFlags::SYMLINK_NOFOLLOW).map_err(error)?;
            let entry = WalkEntry { path, entry: Entry::new(location.name(), &stat), parent: location.parent() };
            let visit = walk.visitor.entry(entry)?;
            if visit != Visit::Enter || !is_kind(&stat, FileType::Directory) {
                return Ok(());
            }
            let top = rustix::fs::openat(location.parent(), location.name(), DIRECTORY, Mode::empty());
            walk.push(top.map_err(error)?, 0)?;
        }
        walk.run()?;
        match walk.path.is_root() || !walk.frames.is_empty() {
            true => Ok(()),
            false => walk.visitor.left(location.parent(), location.name(), &walk.path),
        }
    }
}

/// A directory on the current path.
struct Frame {
    /// `None` if it was closed because too many are open.
    directory: Option<OwnedFd>,
    /// Device and inode.
    identity: (u64, u64),
    names: Names,
    /// The length of its name in the path.
    name: usize,
}

struct Walk<'a, V> {
    frames: Vec<Frame>,
    /// The path of the innermost directory.
    path: UserPath,
    visitor: &'a mut V,
    cancelled: &'a AtomicBool,
}

impl<V: Visitor> Walk<'_, V> {
    /// Visits all entries. Frames are left if the visitor has ended the walk.
    fn run(&mut self) -> Result<(), TreeError> {
        loop {
            if self.cancelled.load(Ordering::Relaxed) {
                return Err(TreeError::Cancelled(self.path.clone()));
            }
            let Some(frame) = self.frames.last_mut() else { return Ok(()) };
            match frame.names.pop() {
                Some(name) => {
                    if self.visit(&name)? == Visit::Stop {
                        return Ok(());
                    }
                }
                None => self.leave()?,
            }
        }
    }

    fn visit(&mut self, name: &CStr) -> Result<Visit, TreeError> {
        let Some(Frame { directory: Some(directory), .. }) = self.frames.last() else { return Ok(Visit::Skip) };
        let text = OsStr::from_bytes(name.to_bytes());
        let path = self.path.child(text);
        let stat = match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(Visit::Skip),
            Err(errno) => return Err(TreeError::system(ACTION, &path)(errno)),
        };
        let entry = WalkEntry { path, entry: Entry::new(text, &stat), parent: directory.as_fd() };
        let visit = self.visitor.entry(entry)?;
        if visit != Visit::Enter || !is_kind(&stat, FileType::Directory) {
            return Ok(visit);
        }
        match open_child(directory.as_fd(), name) {
            Ok(child) => {
                self.path.push(text);
                self.push(child, name.count_bytes())?;
            }
            // Replaced or removed meanwhile, or a mount.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => {}
            Err(errno) => return Err(TreeError::system(ACTION, &self.path.child(text))(errno)),
        }
        Ok(visit)
    }

    fn push(&mut self, directory: OwnedFd, name: usize) -> Result<(), TreeError> {
        if self.frames.len() >= MAX_DEPTH {
            return Err(TreeError::TooDeep(self.path.clone()));
        }
        let read =
            rustix::fs::fstat(&directory).and_then(|stat| Ok((stat, Names::read(directory.as_fd(), Order::Bytes)?)));
        let (stat, names) = read.map_err(TreeError::system(ACTION, &self.path))?;
        let identity = identity(&stat);
        self.frames.push(Frame { directory: Some(directory), identity, names, name });
        // The top one stays open, to return to.
        if let Some(index) = self.frames.len().checked_sub(HELD_OPEN + 1).filter(|index| *index > 0) {
            self.frames[index].directory = None;
        }
        Ok(())
    }

    fn leave(&mut self) -> Result<(), TreeError> {
        let Some(done) = self.frames.pop() else { return Ok(()) };
        let Some(parent) = self.frames.last_mut() else { return Ok(()) };
        if parent.directory.is_none() {
            let opened = reopen_parent(&done, parent).map_err(TreeError::system(ACTION, &self.path))?;
            parent.directory = Some(opened);
        }
        if let (Some(directory), Some(name)) = (&parent.directory, self.path.name()) {
            self.visitor.left(directory.as_fd(), name, &self.path)?;
        }
        if done.name > 0 {
            self.path.pop();
        }
        Ok(())
    }
}

fn identity(stat: &Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

/// Opens the parent of `child`, which must be the directory that it was entered from: otherwise it was moved.
fn reopen_parent(child: &Frame, parent: &Frame) -> rustix::io::Result<OwnedFd> {
    let child = child.directory.as_ref().ok_or(Errno::BADF)?;
    let directory = rustix::fs::openat(child, "..", DIRECTORY, Mode::empty())?;
    match identity(&rustix::fs::fstat(&directory)?) == parent.identity {
        true => Ok(directory),
        false => Err(Errno::BUSY),
    }
}
