//! What may be done with a server's files: the only way for users, archives and downloads into a server's directory.
//!
//! A path is resolved below the root (`location`), checked against the egg's denylist as it was named and as it was resolved, and
//! the operation acts on a name in an open directory. What is created belongs to the server's user, and its bytes are charged to
//! the server's disk account before they are written. All functions block: call them on the blocking pool.

mod attributes;
mod copy;
mod create;
mod directories;
mod entry;
mod error;
mod incoming;
mod listing;
pub(super) mod location;
mod name_list;
mod names;
mod open_file;
mod open_files;
mod place;
mod removal;
mod root;
mod temporary;
mod walk;

use std::fs::File;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::account::DiskAccount;
use super::denylist::Denylist;
use super::user_path::UserPath;

pub use attributes::{Attributes, Space};
pub use copy::copy_names;
pub use create::NewFile;
pub use entry::{Entry, EntryKind};
pub use error::TreeError;
pub use incoming::{Created, Incoming};
pub use listing::{Listing, SortedListing};
pub use location::Follow;
use location::{Location, Method, resolve};
pub use names::Replace;
pub use open_file::{OpenFile, OpenFlags};
use open_files::OpenFiles;
pub use place::Place;
pub use removal::{Recursive, Removed};
pub use root::Root;
pub use temporary::{TEMPORARY_PREFIX, first_temporary, is_temporary};
pub use walk::{Visit, Visitor, WalkEntry};

/// Attempts for a name that becomes a link at the same time.
const ATTEMPTS: usize = 16;

/// A server's files. Clones are the same tree.
#[derive(Debug, Clone)]
pub struct Tree {
    shared: Arc<Shared>,
    denylist: Arc<Denylist>,
}

#[derive(Debug)]
struct Shared {
    root: Root,
    account: Arc<DiskAccount>,
    open_files: OpenFiles,
}

impl Tree {
    /// The files below a root.
    pub fn new(root: Root, denylist: Arc<Denylist>, account: Arc<DiskAccount>) -> Self {
        Self { shared: Arc::new(Shared { root, account, open_files: OpenFiles::default() }), denylist }
    }

    /// The same files with another denylist.
    pub fn with_denylist(&self, denylist: Arc<Denylist>) -> Self {
        Self { shared: self.shared.clone(), denylist }
    }

    /// Whether another handle of this tree is in use, such as by an open file.
    pub fn is_shared(&self) -> bool {
        Arc::strong_count(&self.shared) > 1
    }

    /// The bytes of the files, and their limit.
    pub fn account(&self) -> &Arc<DiskAccount> {
        &self.shared.account
    }

    /// What the egg keeps from users.
    pub fn denylist(&self) -> &Denylist {
        &self.denylist
    }

    /// The root, for access without denylist and account.
    pub fn root(&self) -> &Root {
        &self.shared.root
    }

    /// What is at a path. Files of the denylist are not hidden.
    ///
    /// # Errors
    /// Nothing is there, or a link leads outside.
    pub fn stat(&self, path: &UserPath, follow: Follow) -> Result<Entry, TreeError> {
        let location = self.resolve(path, follow)?;
        let stat = stat(&location).map_err(TreeError::system("read the attributes of", path))?;
        Ok(Entry::new(path.name().unwrap_or_default(), &stat))
    }

    /// Opens a regular file for reading. Neither waits for a pipe nor touches a device.
    ///
    /// # Errors
    /// Nothing is there, it is no regular file, the denylist has it, or a link leads outside.
    pub fn open(&self, path: &UserPath) -> Result<(File, Entry), TreeError> {
        for _ in 0..ATTEMPTS {
            let location = self.locate(path, Follow::Yes)?;
            match open_regular(&location, path, OFlags::RDONLY) {
                // A link has taken its name.
                Err(TreeError::Busy(_)) => {}
                opened => {
                    let (file, stat) = opened?;
                    return Ok((file, Entry::new(path.name().unwrap_or_default(), &stat)));
                }
            }
        }
        Err(TreeError::Busy(path.clone()))
    }

    /// The path with all links resolved. Nothing need be there.
    ///
    /// # Errors
    /// A directory on the way is missing, or a link leads outside.
    pub fn real_path(&self, path: &UserPath) -> Result<UserPath, TreeError> {
        Ok(self.resolve(path, Follow::Yes)?.path().clone())
    }

    /// The text of a link.
    ///
    /// # Errors
    /// Nothing is there, it is no link, or the denylist has it.
    pub fn read_link(&self, path: &UserPath) -> Result<std::ffi::OsString, TreeError> {
        let location = self.locate(path, Follow::No)?;
        read_link(location.parent(), location.name()).map_err(|errno| match errno {
            Errno::INVAL => TreeError::Unsupported(path.clone()),
            errno => TreeError::system("read the link", path)(errno),
        })
    }

    fn resolve(&self, path: &UserPath, follow: Follow) -> Result<Location, TreeError> {
        resolve(self.shared.root.directory(), path, follow, Method::of_this_kernel())
    }

    /// Resolves a path that the denylist has neither as it was named nor as it was resolved.
    fn locate(&self, path: &UserPath, follow: Follow) -> Result<Location, TreeError> {
        self.check(path)?;
        let location = self.resolve(path, follow)?;
        if location.path() != path {
            self.check(location.path())?;
        }
        Ok(location)
    }

    fn check(&self, path: &UserPath) -> Result<(), TreeError> {
        match self.denylist.denies(path) {
            true => Err(TreeError::Denied(path.clone())),
            false => Ok(()),
        }
    }
}

/// The attributes of what is at a location. A link is not followed.
fn stat(location: &Location) -> rustix::io::Result<Stat> {
    rustix::fs::statat(location.parent(), location.name(), AtFlags::SYMLINK_NOFOLLOW)
}

fn is_kind(stat: &Stat, kind: FileType) -> bool {
    FileType::from_raw_mode(stat.st_mode) == kind
}

/// Opens what is at a location to name it only, which has no effect on a pipe or a device.
fn pin(location: &Location) -> rustix::io::Result<(OwnedFd, Stat)> {
    pin_at(location.parent(), location.name())
}

fn pin_at(parent: BorrowedFd<'_>, name: &std::ffi::OsStr) -> rustix::io::Result<(OwnedFd, Stat)> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    let stat = rustix::fs::fstat(&file)?;
    Ok((file, stat))
}

/// The path of an open file, which leads to it whatever has become of its name.
fn itself(file: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

/// Opens a regular file.
fn open_regular(location: &Location, path: &UserPath, flags: OFlags) -> Result<(File, Stat), TreeError> {
    let error = |errno| TreeError::system("open", path)(errno);
    let (pinned, stat) = pin(location).map_err(error)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {}
        FileType::Directory => return Err(TreeError::IsDirectory(path.clone())),
        // It was followed, so it has just been made.
        FileType::Symlink => return Err(TreeError::Busy(path.clone())),
        _ => return Err(TreeError::NotRegular(path.clone())),
    }
    let file = rustix::fs::open(itself(&pinned), flags | OFlags::CLOEXEC, Mode::empty()).map_err(error)?;
    Ok((File::from(file), stat))
}

fn read_link(parent: BorrowedFd<'_>, name: &std::ffi::OsStr) -> rustix::io::Result<std::ffi::OsString> {
    use std::os::unix::ffi::OsStringExt as _;
    let text = rustix::fs::readlinkat(parent, name, Vec::new())?;
    Ok(std::ffi::OsString::from_vec(text.into_bytes()))
}

#[cfg(test)]
mod tests;
