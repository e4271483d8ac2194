//! Removing a directory with everything in it, whatever that is and whatever is done to it meanwhile.
//!
//! Directories are emptied by descriptor, so a name that was replaced by a link is removed as a link. Mounts are not entered.
//! What is nested too deeply is first moved to the top, so that few descriptors do for any depth.

use std::ffi::{CStr, CString, OsStr};
use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, DirEntry, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::FilesError;
use super::root::{Resolver, open_child};

/// What this is about, in messages.
const ACTION: &str = "remove";

/// Directories open at a time.
const HELD_OPEN: usize = 32;

/// How often listings are begun again because something was left or came in; each time, something was removed.
const MAX_PASSES: u32 = 100_000;

/// How many passes in a row may remove nothing although nothing is refused.
const IDLE_PASSES: u32 = 200;

/// How often a name is looked at that is a directory now and something else the next moment.
const ATTEMPTS: usize = 8;

/// What deep directories are called at the top.
const MOVED_PREFIX: &str = ".alula-removing-";

/// Removes what is at `path` with everything in it. A link is removed itself. That nothing is there is no error; links in
/// the path before the last name are followed.
///
/// # Errors
/// Something cannot be removed, or something else keeps writing there; what could be removed is gone.
pub(super) fn remove_tree(path: &Path) -> Result<(), FilesError> {
    let error = |errno: Errno| FilesError::disk(ACTION, path)(errno);
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        let reason = "it has no name of its own";
        return Err(FilesError::rejected(ACTION, path, reason));
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let parent = match rustix::fs::open(parent, flags, Mode::empty()) {
        Ok(parent) => parent,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
        Err(errno) => return Err(error(errno)),
    };
    match rustix::fs::unlinkat(&parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR) => {}
        Err(errno) => return Err(error(errno)),
    }
    // This one may be a mount: a file system of the server's own.
    let flags = flags | OFlags::NOFOLLOW;
    let top = rustix::fs::openat(&parent, name, flags, Mode::empty());
    let mut removal = Removal::new(path, top.map_err(error)?)?;
    loop {
        removal.empty();
        match rustix::fs::unlinkat(&parent, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::NOTEMPTY | Errno::EXIST) if removal.begin_again() => {}
            Err(errno) => return Err(removal.first_error.unwrap_or_else(|| error(errno))),
        }
    }
}

/// A directory that is being emptied.
struct Frame {
    entries: Dir,
    /// Its name in the one above.
    name: CString,
    /// Whether anything was removed since its listing began.
    progress: bool,
    /// Whether something in it cannot be removed.
    blocked: bool,
    /// Whether its mode was changed so that things can be removed from it.
    opened_up: bool,
}

impl Frame {
    fn new(directory: OwnedFd, name: &CStr) -> rustix::io::Result<Self> {
        Ok(Self {
            entries: Dir::new(directory)?,
            name: name.to_owned(),
            progress: false,
            blocked: false,
            opened_up: false,
        })
    }
}

struct Removal<'a> {
    path: &'a Path,
    resolver: Resolver,
    /// From the top down to where we are.
    frames: Vec<Frame>,
    passes: u32,
    /// Those of them in a row that have removed nothing.
    idle: u32,
    /// Directories moved to the top.
    moved: u64,
    first_error: Option<FilesError>,
}

impl<'a> Removal<'a> {
    fn new(path: &'a Path, top: OwnedFd) -> Result<Self, FilesError> {
        let top = Frame::new(top, c"").map_err(FilesError::disk(ACTION, path))?;
        Ok(Self {
            path,
            resolver: Resolver::available(),
            frames: vec![top],
            passes: 0,
            idle: 0,
            moved: 0,
            first_error: None,
        })
    }

    /// Removes everything in the top directory that can be removed.
    fn empty(&mut self) {
        while let Some(frame) = self.frames.last_mut() {
            let end = match frame.entries.next() {
                Some(Ok(entry)) => {
                    self.remove(&entry);
                    continue;
                }
                end => end,
            };
            if let Some(Err(errno)) = end {
                self.failed(c"", errno);
            }
            if self.frames.len() == 1 {
                return;
            }
            self.leave();
        }
    }

    /// Has the listing of the innermost directory begun again, if that may lead anywhere.
    fn begin_again(&mut self) -> bool {
        self.passes += 1;
        let Some(frame) = self.frames.last_mut() else {
            return false;
        };
        self.idle = if frame.progress { 0 } else { self.idle + 1 };
        // What is neither removed nor refused was another thing each time it was looked at.
        let hope = (frame.progress || !frame.blocked && self.idle < IDLE_PASSES) && self.passes < MAX_PASSES;
        if hope {
            frame.progress = false;
            frame.blocked = false;
            frame.entries.rewind();
        }
        hope
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
                false => self.unlink(name, AtFlags::empty()),
            };
            match done {
                Ok(()) | Err(Errno::NOENT) => return,
                Err(Errno::ISDIR) => directory = true,
                Err(Errno::NOTDIR | Errno::LOOP) => directory = false,
                // A mount.
                Err(Errno::XDEV) => return self.failed(name, Errno::BUSY),
                Err(errno) => return self.failed(name, errno),
            }
        }
    }

    fn unlink(&mut self, name: &CStr, flags: AtFlags) -> rustix::io::Result<()> {
        let Some(frame) = self.frames.last_mut() else {
            return Ok(());
        };
        let directory = frame.entries.fd()?;
        let mut unlinked = rustix::fs::unlinkat(directory, name, flags);
        if unlinked == Err(Errno::ACCESS) && !frame.opened_up {
            rustix::fs::fchmod(directory, Mode::RWXU)?;
            frame.opened_up = true;
            unlinked = rustix::fs::unlinkat(directory, name, flags);
        }
        frame.progress |= unlinked.is_ok();
        unlinked
    }

    /// Goes on with a directory in the innermost one, or moves it to the top.
    fn enter(&mut self, name: &CStr) -> rustix::io::Result<()> {
        let Some(frame) = self.frames.last() else {
            return Ok(());
        };
        let parent = frame.entries.fd()?;
        if self.frames.len() >= HELD_OPEN {
            return self.move_to_top(name);
        }
        let child = match open_child(self.resolver, parent, name) {
            Err(Errno::ACCESS) => {
                open_up(parent, name)?;
                open_child(self.resolver, parent, name)?
            }
            other => other?,
        };
        self.frames.push(Frame::new(child, name)?);
        Ok(())
    }

    fn move_to_top(&mut self, name: &CStr) -> rustix::io::Result<()> {
        let (Some(top), Some(frame)) = (self.frames.first(), self.frames.last()) else {
            return Ok(());
        };
        loop {
            let new_name = format!("{MOVED_PREFIX}{}", self.moved);
            self.moved += 1;
            let (from, to) = (frame.entries.fd()?, top.entries.fd()?);
            match rustix::fs::renameat(from, name, to, &new_name) {
                // Taken by something that was there before.
                Err(Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR) if self.is_directory(name) => {}
                Err(errno) => return Err(errno),
                Ok(()) => break,
            }
        }
        // The top has something to remove that its listing may not show any more.
        for frame in [0, self.frames.len() - 1] {
            self.frames[frame].progress = true;
        }
        Ok(())
    }

    fn is_directory(&self, name: &CStr) -> bool {
        let Some(Ok(parent)) = self.frames.last().map(|frame| frame.entries.fd()) else {
            return false;
        };
        rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
    }

    /// Removes the innermost directory, which should be empty now, and goes on with the one above.
    fn leave(&mut self) {
        let Some(done) = self.frames.pop() else {
            return;
        };
        if done.blocked {
            if let Some(above) = self.frames.last_mut() {
                above.blocked = true;
            }
            return;
        }
        let mut removed = self.unlink(&done.name, AtFlags::REMOVEDIR);
        if removed == Err(Errno::NOTDIR) {
            // It was replaced: by a link, say.
            removed = self.unlink(&done.name, AtFlags::empty());
        }
        match removed {
            // A directory again: the listing of the one above has it.
            Ok(()) | Err(Errno::NOENT | Errno::ISDIR) => {}
            Err(Errno::NOTEMPTY | Errno::EXIST) => {
                let name = done.name.clone();
                self.frames.push(done);
                if !self.begin_again() {
                    self.frames.pop();
                    self.failed(&name, Errno::NOTEMPTY);
                }
            }
            Err(errno) => self.failed(&done.name, errno),
        }
    }

    /// Something in the innermost directory cannot be removed.
    fn failed(&mut self, name: &CStr, errno: Errno) {
        if self.first_error.is_none() {
            let path = self.path_of(name);
            self.first_error = Some(FilesError::disk(ACTION, &path)(errno));
        }
        if let Some(frame) = self.frames.last_mut() {
            frame.blocked = true;
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

/// Lets a daemon that is not root into a directory of its own user. Not by name, which might be a link by now.
fn open_up(parent: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    let itself = format!("/proc/self/fd/{}", directory.as_fd().as_raw_fd());
    fs::set_permissions(itself, fs::Permissions::from_mode(0o700)).map_err(|_| Errno::ACCESS)
}

#[cfg(test)]
mod tests;
