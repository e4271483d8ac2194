//! Where a path leads: an open directory below the root, the last name in it, and the path with all links resolved.
//!
//! Each operation acts on the last name in the open directory, so nothing that is renamed or linked meanwhile leads elsewhere.
//! A path without links is resolved by the kernel in one call. One with links, or on a kernel before 5.6, is resolved name by
//! name: directories are opened in their open parents without following links, links are read, and `..` in their texts is
//! resolved from the root. No name that is handed to the kernel leads up or is a link.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::super::user_path::UserPath;
use super::error::TreeError;

/// Attempts to resolve a path whose directories are renamed at the same time.
const ATTEMPTS: usize = 64;

/// The most links in a path, as in the kernel.
const MAX_LINKS: usize = 40;

/// A verb for errors.
const ACTION: &str = "open";

/// Opens a directory to resolve names in it only, without a right to read it.
pub(super) const DIRECTORY: OFlags =
    OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Whether a link at the last name is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Follow {
    /// It leads to its target.
    Yes,
    /// It is meant itself.
    No,
}

/// A name in an open directory below the root. There may be nothing with this name.
#[derive(Debug)]
pub(in crate::files) struct Location {
    parent: Parent,
    name: OsString,
    path: UserPath,
}

#[derive(Debug)]
enum Parent {
    /// The root, or a directory that several locations share.
    Shared(Arc<OwnedFd>),
    Below(OwnedFd),
}

impl AsFd for Parent {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Shared(directory) => directory.as_fd(),
            Self::Below(directory) => directory.as_fd(),
        }
    }
}

impl Location {
    /// A name in a directory that was opened before.
    pub(super) fn in_directory(directory: Arc<OwnedFd>, name: &OsStr, path: UserPath) -> Self {
        Self { parent: Parent::Shared(directory), name: name.to_owned(), path }
    }

    /// The directory that contains it.
    pub(in crate::files) fn parent(&self) -> BorrowedFd<'_> {
        self.parent.as_fd()
    }

    /// The name in [`parent`](Self::parent); `.` for the root itself.
    pub(in crate::files) fn name(&self) -> &OsStr {
        &self.name
    }

    /// The path with links resolved.
    pub(in crate::files) fn path(&self) -> &UserPath {
        &self.path
    }

    /// Another name in the same directory.
    pub(in crate::files) fn rename(&mut self, name: OsString) {
        self.path.pop();
        self.path.push(&name);
        self.name = name;
    }
}

/// How directories are opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::files) enum Method {
    /// By the kernel, with `openat2`.
    Kernel,
    /// Name by name.
    Names,
}

impl Method {
    /// What this kernel can do.
    pub(in crate::files) fn of_this_kernel() -> Self {
        match OLD_KERNEL.load(Ordering::Relaxed) {
            true => Self::Names,
            false => Self::Kernel,
        }
    }
}

/// `openat2` was refused: the kernel is older than 5.6, or a sandbox forbids it.
static OLD_KERNEL: AtomicBool = AtomicBool::new(false);

/// Resolves a path below `root`.
///
/// # Errors
/// A directory in it is missing or none, a link leads outside, or there are too many.
pub(in crate::files) fn resolve(
    root: &Arc<OwnedFd>,
    path: &UserPath,
    follow: Follow,
    method: Method,
) -> Result<Location, TreeError> {
    for _ in 0..ATTEMPTS {
        if let Some(location) = without_links(root, path, follow, method)? {
            return Ok(location);
        }
        match Walker::new(root, path, method).resolve(follow) {
            Err(Stop::Changed) => {}
            Err(Stop::Failed(error)) => return Err(error),
            Ok(location) => return Ok(location),
        }
    }
    Err(TreeError::Busy(path.clone()))
}

/// The location of a path in which no directory is a link, and no last name where it is followed.
fn without_links(
    root: &Arc<OwnedFd>,
    path: &UserPath,
    follow: Follow,
    method: Method,
) -> Result<Option<Location>, TreeError> {
    let (Some(name), Some(parent)) = (path.name(), path.parent()) else {
        return Ok(Some(Location { parent: Parent::Shared(root.clone()), name: ".".into(), path: UserPath::root() }));
    };
    let parent = match open_directory(root, &parent, method) {
        Ok(parent) => parent,
        // The second is what a link is where a directory is expected.
        Err(Errno::LOOP | Errno::NOTDIR | Errno::AGAIN) => return Ok(None),
        Err(errno) => return Err(TreeError::system(ACTION, path)(errno)),
    };
    if follow == Follow::Yes && link_text(parent.as_fd(), name).is_ok() {
        return Ok(None);
    }
    Ok(Some(Location { parent, name: name.to_owned(), path: path.clone() }))
}

/// Opens a directory below the root. No name in the path may be a link.
///
/// # Errors
/// `LOOP`, `NOTDIR` or `AGAIN` for a link; others of the system.
pub(super) fn open_without_links(root: &Arc<OwnedFd>, path: &UserPath) -> rustix::io::Result<Arc<OwnedFd>> {
    Ok(match open_directory(root, path, Method::of_this_kernel())? {
        Parent::Shared(directory) => directory,
        Parent::Below(directory) => Arc::new(directory),
    })
}

/// As [`open_without_links`].
fn open_directory(root: &Arc<OwnedFd>, path: &UserPath, method: Method) -> rustix::io::Result<Parent> {
    if path.is_root() {
        return Ok(Parent::Shared(root.clone()));
    }
    if method == Method::Kernel {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        match rustix::fs::openat2(root, path.as_path(), DIRECTORY, Mode::empty(), resolve) {
            Err(Errno::NOSYS | Errno::PERM) => OLD_KERNEL.store(true, Ordering::Relaxed),
            opened => return opened.map(Parent::Below),
        }
    }
    let mut directory = Parent::Shared(root.clone());
    for name in path.as_path() {
        directory = Parent::Below(rustix::fs::openat(&directory, name, DIRECTORY, Mode::empty())?);
    }
    Ok(directory)
}

/// The text of a link.
fn link_text(parent: BorrowedFd<'_>, name: &OsStr) -> rustix::io::Result<OsString> {
    rustix::fs::readlinkat(parent, name, Vec::new()).map(|text| OsString::from_vec(text.into_bytes()))
}

enum Stop {
    /// Something was renamed or removed meanwhile.
    Changed,
    Failed(TreeError),
}

impl From<TreeError> for Stop {
    fn from(error: TreeError) -> Self {
        Self::Failed(error)
    }
}

/// Resolves a path name by name.
struct Walker<'a> {
    root: &'a Arc<OwnedFd>,
    asked: &'a UserPath,
    method: Method,
    directory: Parent,
    /// The path of `directory`, without links.
    resolved: UserPath,
    /// The names to go, the next one last. `None` leads up.
    pending: Vec<Option<OsString>>,
    links: usize,
}

impl<'a> Walker<'a> {
    fn new(root: &'a Arc<OwnedFd>, asked: &'a UserPath, method: Method) -> Self {
        let names = asked.as_path().iter().rev().map(|name| Some(name.to_owned()));
        let directory = Parent::Shared(root.clone());
        Self { root, asked, method, directory, resolved: UserPath::root(), pending: names.collect(), links: 0 }
    }

    fn resolve(mut self, follow: Follow) -> Result<Location, Stop> {
        while let Some(next) = self.pending.pop() {
            let Some(name) = next else {
                self.up()?;
                continue;
            };
            if !self.pending.is_empty() {
                self.enter(name)?;
            } else if follow == Follow::No {
                return Ok(self.at(name));
            } else {
                match link_text(self.directory.as_fd(), &name) {
                    Ok(text) => self.follow(&text)?,
                    Err(_) => return Ok(self.at(name)),
                }
            }
        }
        // A link has led up: to a directory that is known by its path only.
        let Some(name) = self.resolved.name().map(OsStr::to_owned) else {
            return Ok(Location {
                parent: Parent::Shared(self.root.clone()),
                name: ".".into(),
                path: UserPath::root(),
            });
        };
        self.up()?;
        Ok(self.at(name))
    }

    fn at(mut self, name: OsString) -> Location {
        self.resolved.push(&name);
        Location { parent: self.directory, name, path: self.resolved }
    }

    fn enter(&mut self, name: OsString) -> Result<(), Stop> {
        match rustix::fs::openat(&self.directory, &name, DIRECTORY, Mode::empty()) {
            Ok(directory) => {
                self.directory = Parent::Below(directory);
                self.resolved.push(&name);
                Ok(())
            }
            Err(Errno::NOTDIR | Errno::LOOP) => match link_text(self.directory.as_fd(), &name) {
                Ok(text) => self.follow(&text),
                Err(Errno::INVAL) => Err(TreeError::NotDirectory(self.asked.clone()).into()),
                Err(_) => Err(Stop::Changed),
            },
            Err(errno) => Err(TreeError::system(ACTION, self.asked)(errno).into()),
        }
    }

    fn follow(&mut self, text: &OsStr) -> Result<(), Stop> {
        self.links += 1;
        if self.links > MAX_LINKS {
            return Err(TreeError::TooManyLinks(self.asked.clone()).into());
        }
        if text.as_bytes().first() == Some(&b'/') {
            return Err(TreeError::OutsideRoot(self.asked.clone()).into());
        }
        for component in Path::new(text).components().rev() {
            match component {
                Component::Normal(name) => self.pending.push(Some(name.to_owned())),
                Component::ParentDir => self.pending.push(None),
                Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
            }
        }
        Ok(())
    }

    fn up(&mut self) -> Result<(), Stop> {
        if !self.resolved.pop() {
            return Err(TreeError::OutsideRoot(self.asked.clone()).into());
        }
        // What was opened on the way here may have been moved.
        self.directory = open_directory(self.root, &self.resolved, self.method).map_err(|errno| match errno {
            Errno::LOOP | Errno::NOTDIR | Errno::NOENT | Errno::AGAIN => Stop::Changed,
            errno => TreeError::system(ACTION, self.asked)(errno).into(),
        })?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
