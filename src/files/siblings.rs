//! The names beside a server's data directory, on the same file system and hidden:
//!
//! ```text
//! .{id}.new               a data directory that is being created
//! .{id}.restore/          a replacement that is prepared, see `replacement.rs`
//! .{id}.before-restore/   what was replaced
//! .{id}.source-{token}/   a copy that a backup reads, see `source.rs`
//! .{id}.removing/         any of them, while it is removed
//! ```
//!
//! A data directory that is a link has them beside its target. Only the daemon may enter them. They are not named like servers, so
//! nothing else takes them for a server's files.

use std::ffi::{CString, OsString};
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use uuid::Uuid;

use super::child::open_child;
use super::crash_point::crash_point;
use super::remove::remove_tree;
use super::scan::FLAGS;
use super::{FilesError, Layout, kernel};
use crate::model::ServerId;

/// The tree in a folder beside the data directory.
pub(super) const TREE: &str = "tree";

/// The folder that contains a server's data directory, and the names in it.
#[derive(Debug, Clone)]
pub(super) struct Siblings {
    id: ServerId,
    parent: PathBuf,
    name: OsString,
}

impl Siblings {
    /// Those of a server. Its data directory may be missing.
    pub(super) fn of(layout: &Layout, id: ServerId) -> Self {
        let path = layout.data_path(id);
        let real = path.canonicalize().unwrap_or_else(|_| match fs::read_link(&path) {
            Ok(target) => path.parent().unwrap_or(Path::new("/")).join(target),
            Err(_) => path,
        });
        let parent = real.parent().unwrap_or(Path::new("/"));
        let name = real.file_name().unwrap_or_default().to_owned();
        Self { id, parent: parent.canonicalize().unwrap_or_else(|_| parent.to_owned()), name }
    }

    /// The data directory itself, which is no link.
    pub(super) fn data(&self) -> PathBuf {
        self.parent.join(&self.name)
    }

    /// The folder that contains it.
    pub(super) fn parent(&self) -> &Path {
        &self.parent
    }

    pub(super) fn staging(&self) -> PathBuf {
        self.hidden("restore")
    }

    pub(super) fn former(&self) -> PathBuf {
        self.hidden("before-restore")
    }

    pub(super) fn source(&self, token: Uuid) -> PathBuf {
        self.hidden(&format!("source-{token}"))
    }

    pub(super) fn removing(&self) -> PathBuf {
        self.hidden("removing")
    }

    /// The sources that exist.
    pub(super) fn sources(&self) -> Vec<PathBuf> {
        let prefix = format!(".{}.source-", self.id);
        let entries = fs::read_dir(&self.parent).into_iter().flatten().flatten();
        let names = entries.filter(|entry| entry.file_name().as_bytes().starts_with(prefix.as_bytes()));
        names.map(|entry| entry.path()).collect()
    }

    fn hidden(&self, what: &str) -> PathBuf {
        self.parent.join(format!(".{}.{what}", self.id))
    }

    /// Whether the data directory is a file system of its own, which cannot be renamed.
    pub(super) fn is_mount(&self) -> io::Result<bool> {
        let parent = rustix::fs::open(&self.parent, FLAGS, Mode::empty())?;
        let name = CString::new(self.name.as_bytes())?;
        match open_child(parent.as_fd(), &name) {
            Err(Errno::XDEV) => Ok(true),
            other => Ok(other.map(|_| false)?),
        }
    }

    /// Removes one of the folders beside the data directory. It loses its name first, so what is left after a crash is not taken for
    /// complete.
    pub(super) fn discard(&self, folder: &Path) -> Result<(), FilesError> {
        let removing = self.removing();
        remove_folder(&removing)?;
        crash_point().map_err(FilesError::disk("remove", folder))?;
        match fs::rename(folder, &removing) {
            Err(missing) if missing.kind() == io::ErrorKind::NotFound => return Ok(()),
            renamed => renamed.map_err(FilesError::disk("remove", folder))?,
        }
        remove_folder(&removing)
    }

    /// Removes all folders beside the data directory.
    pub(super) fn remove_all(&self) -> Result<(), FilesError> {
        let folders = [self.staging(), self.former(), self.removing()].into_iter().chain(self.sources());
        folders.map(|folder| remove_folder(&folder)).fold(Ok(()), Result::and)
    }
}

/// Creates a folder that only the daemon may enter.
pub(super) fn make_folder(path: &Path) -> Result<(), FilesError> {
    let failed = FilesError::disk("create the directory", path);
    crash_point().and_then(|()| rustix::fs::mkdir(path, Mode::RWXU)).map_err(failed)
}

/// Makes an empty tree in a folder beside the data directory: a btrfs subvolume if that is one, too.
pub(super) fn make_tree(folder: &Path, data: &Path) -> io::Result<PathBuf> {
    let data = rustix::fs::open(data, FLAGS, Mode::empty())?;
    let parent = rustix::fs::open(folder, FLAGS, Mode::empty())?;
    crash_point()?;
    match kernel::is_subvolume(data.as_fd()) {
        true => kernel::create_subvolume(parent.as_fd(), c"tree")?,
        false => rustix::fs::mkdirat(&parent, TREE, Mode::RWXU)?,
    }
    Ok(folder.join(TREE))
}

/// Removes a folder beside the data directory, and the subvolumes in it.
pub(super) fn remove_folder(folder: &Path) -> Result<(), FilesError> {
    crash_point().map_err(FilesError::disk("remove", folder))?;
    if let Ok(parent) = rustix::fs::open(folder, FLAGS | OFlags::NOFOLLOW, Mode::empty()) {
        let tree = rustix::fs::openat(&parent, TREE, FLAGS | OFlags::NOFOLLOW, Mode::empty());
        if tree.is_ok_and(|tree| kernel::is_subvolume(tree.as_fd())) {
            // Whatever stays is removed, or fails, below.
            let _ = kernel::destroy_subvolume(parent.as_fd(), c"tree");
        }
    }
    remove_tree(folder)
}

/// Brings the names in a folder to disk.
pub(super) fn sync(folder: &Path) -> rustix::io::Result<()> {
    crash_point()?;
    rustix::fs::fsync(rustix::fs::open(folder, FLAGS, Mode::empty())?)
}

/// Whether nothing has this path. An error counts as something.
pub(super) fn is_missing(path: &Path) -> bool {
    path.symlink_metadata().is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}
