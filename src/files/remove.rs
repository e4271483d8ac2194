//! Removes a directory with everything in it, while its owner may change it.
//!
//! Directories are emptied through descriptors, so a name that was replaced by a link is removed as a link. Mounts are not
//! entered. Deeply nested directories are first moved to the top, so that any depth requires few descriptors only.

use std::ffi::{CStr, CString, OsStr};
use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, DirEntry, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::FilesError;
use super::child::open_child;
use super::scan::path_below;

/// A verb for errors.
const ACTION: &str = "remove";

/// The most directories that are open at a time.
const HELD_OPEN: usize = 32;

/// The most listings of a directory whose entries reappear.
const MAX_PASSES: u32 = 100_000;

/// The most listings in a row that remove nothing without an error.
const IDLE_PASSES: u32 = 200;

/// Attempts for a name whose type changes during the removal.
const ATTEMPTS: usize = 8;

/// Prefix of the names of moved directories.
const MOVED_PREFIX: &str = ".alula-removing-";

/// Removes `path` with everything in it. A link is removed itself; links in the path before the last name are followed. A missing
/// path is no error.
///
/// # Errors
/// Something cannot be removed, or another program keeps writing there. Everything else is removed.
pub(super) fn remove_tree(path: &Path) -> Result<(), FilesError> {
    let error = |errno: Errno| FilesError::disk(ACTION, path)(errno);
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        let reason = "the path has no last name";
        return Err(FilesError::rejected(ACTION, path, reason));
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let parent = match rustix::fs::open(parent, flags, Mode::empty()) {
        Ok(parent) => parent,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
        Err(errno) => return Err(error(errno)),
    };
    remove_in(parent.as_fd(), name, path, &mut Plain)
}

/// How names other than those of directories are removed.
pub(super) trait Unlink {
    /// Removes a name, which may be that of a directory by now.
    fn unlink(&mut self, parent: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<()>;

    /// Whether the removal ends with an error now.
    fn is_cancelled(&self) -> bool {
        false
    }
}

struct Plain;

impl Unlink for Plain {
    fn unlink(&mut self, parent: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<()> {
        rustix::fs::unlinkat(parent, name, AtFlags::empty())
    }
}

/// Removes a name in an open directory, with everything in it. A missing one is no error. `path` is for messages.
///
/// # Errors
/// As [`remove_tree`]; or it was cancelled.
pub(super) fn remove_in<U: Unlink>(
    parent: BorrowedFd<'_>,
    name: &OsStr,
    path: &Path,
    unlink: &mut U,
) -> Result<(), FilesError> {
    let error = |errno: Errno| FilesError::disk(ACTION, path)(errno);
    let c_name = CString::new(name.as_bytes()).map_err(|_| error(Errno::INVAL))?;
    match unlink.unlink(parent, &c_name) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR) => {}
        Err(errno) => return Err(error(errno)),
    }
    // The top directory may be a mount: a file system for one server.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let top = rustix::fs::openat(parent, name, flags, Mode::empty());
    let current = top.and_then(|top| Frame::new(top, c"")).map_err(error)?;
    let mut removal =
        Removal { path, unlink, current, parents: Vec::new(), passes: 0, idle: 0, moved: 0, first_error: None };
    loop {
        removal.empty();
        if removal.unlink.is_cancelled() {
            return Err(FilesError::Cancelled { action: ACTION, path: path.to_owned() });
        }
        match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::NOTEMPTY | Errno::EXIST) if removal.restart() => {}
            Err(errno) => return Err(removal.first_error.unwrap_or_else(|| error(errno))),
        }
    }
}

/// A directory on the current path.
struct Frame {
    entries: Dir,
    /// Its name in the parent.
    name: CString,
    /// Whether anything was removed in the current listing.
    progress: bool,
    /// Whether something in it cannot be removed.
    blocked: bool,
    /// Whether its mode was changed to allow removals.
    unlocked: bool,
}

impl Frame {
    fn new(directory: OwnedFd, name: &CStr) -> rustix::io::Result<Self> {
        Ok(Self {
            entries: Dir::new(directory)?,
            name: name.to_owned(),
            progress: false,
            blocked: false,
            unlocked: false,
        })
    }
}

struct Removal<'a, U> {
    path: &'a Path,
    unlink: &'a mut U,
    /// The innermost directory, which is being emptied.
    current: Frame,
    /// The directories that contain it, from the top.
    parents: Vec<Frame>,
    passes: u32,
    /// The last passes that removed nothing.
    idle: u32,
    /// Number of moved directories.
    moved: u64,
    first_error: Option<FilesError>,
}

impl<U: Unlink> Removal<'_, U> {
    /// Removes all removable entries of the top directory.
    fn empty(&mut self) {
        loop {
            if self.unlink.is_cancelled() {
                return;
            }
            match self.current.entries.next() {
                Some(Ok(entry)) => {
                    self.remove(&entry);
                    continue;
                }
                Some(Err(errno)) => self.failed(c"", errno),
                None => {}
            }
            let Some(parent) = self.parents.pop() else {
                return;
            };
            let done = std::mem::replace(&mut self.current, parent);
            self.remove_emptied(done);
        }
    }

    /// Restarts the listing of the innermost directory, if another pass may remove more.
    fn restart(&mut self) -> bool {
        self.passes += 1;
        let frame = &mut self.current;
        self.idle = if frame.progress { 0 } else { self.idle + 1 };
        // An entry that was neither removed nor failed has changed its type on each attempt.
        let retry = (frame.progress || !frame.blocked && self.idle < IDLE_PASSES) && self.passes < MAX_PASSES;
        if retry {
            frame.progress = false;
            frame.blocked = false;
            frame.entries.rewind();
        }
        retry
    }

    fn remove(&mut self, entry: &DirEntry) {
        let name = entry.file_name();
        if name == c"." || name == c".." {
            return;
        }
        let mut directory = entry.file_type() == FileType::Directory;
        for _ in 0..ATTEMPTS {
            let done = match directory {
                true => self.enter(name),
                false => self.remove_name(name, AtFlags::empty()),
            };
            match done {
                Ok(()) | Err(Errno::NOENT) => return,
                Err(Errno::ISDIR) => directory = true,
                Err(Errno::NOTDIR | Errno::LOOP) => directory = false,
                Err(Errno::XDEV) => return self.failed(name, Errno::BUSY),
                Err(errno) => return self.failed(name, errno),
            }
        }
    }

    fn remove_name(&mut self, name: &CStr, flags: AtFlags) -> rustix::io::Result<()> {
        let frame = &mut self.current;
        let directory = frame.entries.fd()?;
        let mut remove = || match flags {
            AtFlags::REMOVEDIR => rustix::fs::unlinkat(directory, name, flags),
            _ => self.unlink.unlink(directory, name),
        };
        let mut removed = remove();
        if removed == Err(Errno::ACCESS) && !frame.unlocked {
            rustix::fs::fchmod(directory, Mode::RWXU)?;
            removed = remove();
            frame.unlocked = true;
        }
        frame.progress |= removed.is_ok();
        removed
    }

    /// Enters a directory in the innermost one, or moves it to the top.
    fn enter(&mut self, name: &CStr) -> rustix::io::Result<()> {
        if self.parents.len() + 1 >= HELD_OPEN {
            return self.move_to_top(name);
        }
        let parent = self.current.entries.fd()?;
        let child = match open_child(parent, name) {
            Err(Errno::ACCESS) => {
                unlock(parent, name)?;
                open_child(parent, name)?
            }
            other => other?,
        };
        let parent = std::mem::replace(&mut self.current, Frame::new(child, name)?);
        self.parents.push(parent);
        Ok(())
    }

    fn move_to_top(&mut self, name: &CStr) -> rustix::io::Result<()> {
        let Some(top) = self.parents.first_mut() else {
            return Ok(());
        };
        loop {
            let new_name = format!("{MOVED_PREFIX}{}", self.moved);
            self.moved += 1;
            let (from, to) = (self.current.entries.fd()?, top.entries.fd()?);
            match rustix::fs::renameat(from, name, to, &new_name) {
                // The name is taken.
                Err(Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR) if is_directory(from, name) => {}
                Err(errno) => return Err(errno),
                Ok(()) => break,
            }
        }
        // The listing of the top may be past the moved directory, so another one is needed.
        (top.progress, self.current.progress) = (true, true);
        Ok(())
    }

    /// Removes a directory that should be empty from the innermost one, or enters it again.
    fn remove_emptied(&mut self, done: Frame) {
        if done.blocked {
            self.current.blocked = true;
            return;
        }
        let mut removed = self.remove_name(&done.name, AtFlags::REMOVEDIR);
        if removed == Err(Errno::NOTDIR) {
            // It was replaced, such as by a link.
            removed = self.remove_name(&done.name, AtFlags::empty());
        }
        match removed {
            // `ISDIR`: a directory again, which the next listing of the parent contains.
            Ok(()) | Err(Errno::NOENT | Errno::ISDIR) => {}
            Err(Errno::NOTEMPTY | Errno::EXIST) => {
                let parent = std::mem::replace(&mut self.current, done);
                if self.restart() {
                    self.parents.push(parent);
                } else {
                    let done = std::mem::replace(&mut self.current, parent);
                    self.failed(&done.name, Errno::NOTEMPTY);
                }
            }
            Err(errno) => self.failed(&done.name, errno),
        }
    }

    /// Notes that an entry of the innermost directory cannot be removed.
    fn failed(&mut self, name: &CStr, errno: Errno) {
        if self.first_error.is_none() {
            let path = self.path_of(name);
            self.first_error = Some(FilesError::disk(ACTION, &path)(errno));
        }
        self.current.blocked = true;
    }

    fn path_of(&self, name: &CStr) -> PathBuf {
        path_below(
            self.path,
            self.parents.iter().chain([&self.current]).map(|frame| frame.name.as_c_str()).chain([name]),
        )
    }
}

fn is_directory(parent: BorrowedFd<'_>, name: &CStr) -> bool {
    rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}

/// Allows a daemon without root to enter a directory of its user. Uses a descriptor, because the name may be a link by now.
fn unlock(parent: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    let itself = format!("/proc/self/fd/{}", directory.as_fd().as_raw_fd());
    fs::set_permissions(itself, fs::Permissions::from_mode(0o700)).map_err(|_| Errno::ACCESS)
}

#[cfg(test)]
mod tests;
