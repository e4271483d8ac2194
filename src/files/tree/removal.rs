//! Removes files and directories with what is in them, and releases their bytes. What the denylist has stays.

use std::ffi::{CStr, OsStr};
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{AtFlags, FileType};
use rustix::io::Errno;

use super::super::FilesError;
use super::super::remove::{Unlink, remove_in};
use super::super::user_path::UserPath;
use super::error::TreeError;
use super::location::{Follow, Location};
use super::walk::{Visit, Visitor, WalkEntry};
use super::{Tree, is_kind, stat};

/// A verb for errors.
const ACTION: &str = "remove";

/// Whether a directory is removed with what is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recursive {
    /// It must be empty.
    No,
    /// Everything in it is removed.
    Yes,
}

/// What was removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Removed {
    /// Names other than those of directories.
    pub files: u64,
    /// The bytes of regular files without another name.
    pub bytes: u64,
    /// Whether something stays because the denylist has it.
    pub kept: bool,
}

impl Tree {
    /// Removes what is at a path. A link is removed itself.
    ///
    /// # Errors
    /// Nothing is there, it is the server's directory, the denylist has the path, it cannot be removed, or `cancelled` was set.
    pub fn remove(&self, path: &UserPath, recursive: Recursive, cancelled: &AtomicBool) -> Result<Removed, TreeError> {
        if path.is_root() {
            return Err(TreeError::IsRoot);
        }
        let location = self.locate(path, Follow::No)?;
        let error = |errno| TreeError::system(ACTION, path)(errno);
        let found = stat(&location).map_err(error)?;
        let mut removal = Removal { tree: self, cancelled, removed: Removed::default() };
        if !is_kind(&found, FileType::Directory) {
            removal.unlink_at(location.parent(), location.name()).map_err(error)?;
        } else if recursive == Recursive::No {
            rustix::fs::unlinkat(location.parent(), location.name(), AtFlags::REMOVEDIR).map_err(
                |errno| match errno {
                    Errno::EXIST => TreeError::NotEmpty(path.clone()),
                    errno => error(errno),
                },
            )?;
        } else if self.has_denied(location.path(), cancelled)? {
            self.walk_with(location.path(), cancelled, &mut removal)?;
        } else {
            let shown = path.absolute();
            let done = remove_in(location.parent(), location.name(), &shown, &mut removal);
            done.map_err(|error| converted(error, path))?;
        }
        Ok(removal.removed)
    }

    /// Removes one name that is not that of a directory.
    pub(super) fn unlink(&self, location: &Location) -> rustix::io::Result<()> {
        let cancelled = AtomicBool::new(false);
        let mut removal = Removal { tree: self, cancelled: &cancelled, removed: Removed::default() };
        removal.unlink_at(location.parent(), location.name())
    }

    /// Whether the denylist has something below a directory.
    fn has_denied(&self, path: &UserPath, cancelled: &AtomicBool) -> Result<bool, TreeError> {
        let mut denied = false;
        if !self.denylist.is_empty() {
            self.walk(path, cancelled, &mut |entry| {
                denied = self.denylist.denies(&entry.path);
                if denied { Visit::Stop } else { Visit::Enter }
            })?;
        }
        Ok(denied)
    }
}

fn converted(error: FilesError, path: &UserPath) -> TreeError {
    match error {
        FilesError::Disk { source, .. } => TreeError::io(ACTION, path)(source),
        FilesError::Cancelled { .. } => TreeError::Cancelled(path.clone()),
        other => TreeError::Io { action: ACTION, path: path.clone(), source: std::io::Error::other(other) },
    }
}

struct Removal<'a> {
    tree: &'a Tree,
    cancelled: &'a AtomicBool,
    removed: Removed,
}

impl Removal<'_> {
    fn unlink_at(&mut self, parent: BorrowedFd<'_>, name: &OsStr) -> rustix::io::Result<()> {
        let shared = &self.tree.shared;
        let freed = shared.open_files.remove(
            &shared.account,
            || rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW),
            || rustix::fs::unlinkat(parent, name, AtFlags::empty()),
        )?;
        self.removed.files += 1;
        self.removed.bytes = self.removed.bytes.saturating_add(freed);
        Ok(())
    }
}

impl Unlink for Removal<'_> {
    fn unlink(&mut self, parent: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<()> {
        use std::os::unix::ffi::OsStrExt as _;
        self.unlink_at(parent, OsStr::from_bytes(name.to_bytes()))
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }
}

/// Where something stays, names are removed one by one, and directories that are empty then.
impl Visitor for Removal<'_> {
    fn entry(&mut self, entry: WalkEntry<'_>) -> Result<Visit, TreeError> {
        if self.tree.denylist.denies(&entry.path) {
            self.removed.kept = true;
            // A rule may allow something below it.
            return Ok(Visit::Enter);
        }
        if entry.entry.is_directory() {
            return Ok(Visit::Enter);
        }
        match self.unlink_at(entry.parent(), &entry.entry.name) {
            Ok(()) | Err(Errno::NOENT) => Ok(Visit::Enter),
            Err(errno) => Err(TreeError::system(ACTION, &entry.path)(errno)),
        }
    }

    fn left(&mut self, parent: BorrowedFd<'_>, name: &OsStr, path: &UserPath) -> Result<(), TreeError> {
        if self.tree.denylist.denies(path) {
            return Ok(());
        }
        match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => Ok(()),
            Err(errno) => Err(TreeError::system(ACTION, path)(errno)),
        }
    }
}
