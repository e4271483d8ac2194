//! Renames, links, and other changes of names.

use std::ffi::OsStr;
use std::os::fd::BorrowedFd;
use std::sync::atomic::AtomicBool;

use rustix::fs::{AtFlags, FileType, RenameFlags};
use rustix::io::Errno;

use super::super::user_path::UserPath;
use super::error::TreeError;
use super::location::{Follow, Location};
use super::{Tree, is_kind, stat};

/// Whether a rename may replace what has the name already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replace {
    /// It is an error.
    Refuse,
    /// A file or an empty directory is replaced.
    Allow,
}

impl Tree {
    /// Renames a file, link or directory; missing directories of the new path are created. The same path changes nothing.
    ///
    /// # Errors
    /// Nothing is there; the new name is taken; or the denylist has one of the paths, or a path in a directory that moves.
    pub fn rename(&self, from: &UserPath, to: &UserPath, replace: Replace) -> Result<(), TreeError> {
        const ACTION: &str = "rename";
        if from.is_root() || to.is_root() {
            return Err(TreeError::IsRoot);
        }
        self.check(to)?;
        let source = self.locate(from, Follow::No)?;
        let found = stat(&source).map_err(TreeError::system(ACTION, from))?;
        let target = self.locate_or_create(to, Follow::No)?;
        if source.path() == target.path() {
            return Ok(());
        }
        let error = |errno| match errno {
            Errno::INVAL => TreeError::IntoItself(from.clone()),
            Errno::EXIST | Errno::NOTEMPTY | Errno::ISDIR | Errno::NOTDIR => TreeError::Exists(to.clone()),
            errno => TreeError::system(ACTION, from)(errno),
        };
        if is_kind(&found, FileType::Directory) {
            self.check_moved(source.path(), target.path())?;
        }
        let place = |flags| rename(source.parent(), source.name(), target.parent(), target.name(), flags);
        match place(RenameFlags::NOREPLACE) {
            Err(Errno::EXIST) if replace == Replace::Allow => {}
            placed => return placed.map_err(error),
        }
        let shared = &self.shared;
        let same = stat(&target).is_ok_and(|other| (other.st_dev, other.st_ino) == (found.st_dev, found.st_ino));
        if same {
            // Two names of one file: the kernel would keep both.
            return self.unlink(&source).map_err(error);
        }
        match shared.open_files.remove(&shared.account, || stat(&target), || place(RenameFlags::empty())) {
            // Removed meanwhile.
            Err(Errno::NOENT) => place(RenameFlags::empty()).map_err(error),
            placed => placed.map(drop).map_err(error),
        }
    }

    /// Creates a link with this text, whatever it leads to: links that lead outside are not followed here.
    ///
    /// # Errors
    /// The name is taken, or the denylist has it.
    pub fn symlink(&self, text: &OsStr, at: &UserPath) -> Result<(), TreeError> {
        let location = self.locate_new(at)?;
        let (uid, gid) = self.owner();
        let made = rustix::fs::symlinkat(text, location.parent(), location.name()).and_then(|()| {
            let found = stat(&location)?;
            if (found.st_uid, found.st_gid) == (uid.as_raw(), gid.as_raw()) {
                return Ok(());
            }
            rustix::fs::chownat(location.parent(), location.name(), Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
        });
        made.map_err(|errno| match errno {
            Errno::INVAL => TreeError::NotFound(at.clone()),
            errno => TreeError::system("create the link", at)(errno),
        })
    }

    /// Gives a regular file another name.
    ///
    /// # Errors
    /// It is no regular file, the name is taken, or the denylist has one of the paths.
    pub fn hard_link(&self, from: &UserPath, to: &UserPath) -> Result<(), TreeError> {
        let error = |errno| TreeError::system("create a name for", from)(errno);
        let (source, target) = (self.locate(from, Follow::No)?, self.locate_new(to)?);
        let found = stat(&source).map_err(error)?;
        match FileType::from_raw_mode(found.st_mode) {
            FileType::RegularFile => {}
            FileType::Directory => return Err(TreeError::IsDirectory(from.clone())),
            _ => return Err(TreeError::NotRegular(from.clone())),
        }
        let made = rustix::fs::linkat(source.parent(), source.name(), target.parent(), target.name(), AtFlags::empty());
        made.map_err(|errno| match errno {
            Errno::EXIST => TreeError::Exists(to.clone()),
            errno => error(errno),
        })
    }

    /// The location of a name that is not the root.
    fn locate_new(&self, path: &UserPath) -> Result<Location, TreeError> {
        match path.is_root() {
            true => Err(TreeError::IsRoot),
            false => self.locate(path, Follow::No),
        }
    }

    /// Checks what is below a directory that moves, at its old and its new paths.
    fn check_moved(&self, from: &UserPath, to: &UserPath) -> Result<(), TreeError> {
        if self.denylist.is_empty() {
            return Ok(());
        }
        let mut denied = None;
        self.walk(from, &AtomicBool::new(false), &mut |entry| {
            let below = entry.path.as_path().strip_prefix(from.as_path()).unwrap_or(entry.path.as_path());
            let paths = [entry.path.clone(), to.child(below.as_os_str())];
            denied = paths.into_iter().find(|path| self.denylist.denies(path));
            match denied {
                Some(_) => super::Visit::Stop,
                None => super::Visit::Enter,
            }
        })?;
        denied.map_or(Ok(()), |path| Err(TreeError::Denied(path)))
    }
}

/// Renames in open directories. `NOREPLACE` holds on file systems that do not know it, up to a race.
pub(super) fn rename(
    from: BorrowedFd<'_>,
    name: &OsStr,
    to: BorrowedFd<'_>,
    new_name: &OsStr,
    flags: RenameFlags,
) -> rustix::io::Result<()> {
    if flags.is_empty() {
        return rustix::fs::renameat(from, name, to, new_name);
    }
    match rustix::fs::renameat_with(from, name, to, new_name, flags) {
        // `INVAL` is also the answer for a directory that would move into itself.
        Err(Errno::INVAL | Errno::NOSYS) => match rustix::fs::statat(to, new_name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => rustix::fs::renameat(from, name, to, new_name),
            Ok(_) => Err(Errno::EXIST),
            Err(errno) => Err(errno),
        },
        renamed => renamed,
    }
}
