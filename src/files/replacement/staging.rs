//! The tree that is filled to replace a server's files.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{Mode, OFlags};
use uuid::Uuid;

use super::super::crash_point::crash_point;
use super::super::denylist::Denylist;
use super::super::flush::Flush;
use super::super::ownership::Ownership;
use super::super::scan::{FLAGS, scan};
use super::super::siblings::{Siblings, TREE, make_folder, make_tree, sync};
use super::super::tree_clone::{can_share_blocks, clone_tree, copy_directory_attributes};
use super::super::usage::usage;
use super::super::{DiskAccount, FilesError, Layout, Meter, Root, kernel, tree::Tree};
use super::Present;
use super::error::ReplacementError;
use super::operation::{Operation, Phase, Way};
use crate::model::ServerId;

/// A tree beside the server's files that is to replace them. Dropped, it stays on disk.
#[derive(Debug)]
pub struct Staging {
    layout: Layout,
    folder: PathBuf,
    operation: Operation,
    tree: Tree,
}

impl Staging {
    /// Creates the folder and the tree in it. Nothing may be there.
    pub(super) fn create(
        layout: &Layout,
        id: ServerId,
        token: Uuid,
        present: Present,
        limit: Option<u64>,
        cancelled: &AtomicBool,
    ) -> Result<Self, ReplacementError> {
        let siblings = Siblings::of(layout, id);
        let (folder, data) = (siblings.staging(), siblings.data());
        let failed = |error: io::Error| FilesError::disk("create the directory", &folder)(error);
        make_folder(&folder)?;
        let found = fs::metadata(&folder).map_err(failed)?;
        let shares = present == Present::Keep && can_share_blocks(&folder).map_err(failed)?;
        let way = if present == Present::Discard || shares { Way::Exchange } else { Way::Merge };
        let begun = (found.mtime(), found.mtime_nsec());
        let phase = Phase::Preparing;
        let mut operation = Operation { token, way, phase, limit, projects: None, begun, marked: false, times: None };
        operation.save(&folder)?;
        let tree = make_tree(&folder, &data).map_err(failed)?;
        copy_directory_attributes(&data, &tree).map_err(FilesError::disk("set the attributes of", &tree))?;
        operation.projects = layout.assign_beside(id, &tree, limit).map_err(failed)?;
        if shares {
            clone_tree(&data, &tree, cancelled)?;
        }
        operation.enter(Phase::Filling, &folder)?;
        sync(siblings.parent()).map_err(FilesError::disk("sync", siblings.parent()))?;
        Self::open(layout, folder, operation)
    }

    /// Opens one that exists.
    pub(super) fn open(layout: &Layout, folder: PathBuf, operation: Operation) -> Result<Self, ReplacementError> {
        let path = folder.join(TREE);
        let root = Root::open(&path, layout.uid, layout.gid).map_err(FilesError::disk("open", &path))?;
        let account = DiskAccount::new(operation.limit, usage(&path, &AtomicBool::new(false))?);
        if operation.projects.is_some() {
            account.set_meter(Some(meter(&path)?));
        }
        let tree = Tree::new(root, Arc::new(Denylist::default()), account);
        Ok(Self { layout: layout.clone(), folder, operation, tree })
    }

    /// The tree to fill. Its account has the limit of the server, for the tree alone.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// The folder that contains the tree, for what else belongs to it. It is removed with it.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Opens a tree beside the one to fill, which is created if it is missing. Its bytes are not limited.
    ///
    /// # Errors
    /// It cannot be created or opened.
    pub fn tree_beside(&self, name: &str) -> Result<Tree, ReplacementError> {
        let path = self.folder.join(name);
        match fs::create_dir(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(FilesError::disk("create the directory", &path)(error).into());
            }
            _ => {}
        }
        let root = Root::open(&path, self.layout.uid, self.layout.gid).map_err(FilesError::disk("open", &path))?;
        Ok(Tree::new(root, Arc::default(), DiskAccount::new(None, 0)))
    }

    /// Whether the tree takes the place of the whole directory, or is moved into it.
    pub fn way(&self) -> Way {
        self.operation.way
    }

    /// Completes the tree: all files get their owner, and are on disk. It can be exchanged then, also after a crash.
    ///
    /// # Errors
    /// It has more bytes than the limit allows, files cannot be read or changed, or `cancelled` was set.
    pub fn finish(mut self, cancelled: &AtomicBool) -> Result<(), ReplacementError> {
        let path = self.folder.join(TREE);
        let used = usage(&path, cancelled)?;
        if let Some(limit) = self.operation.limit.filter(|limit| used > *limit) {
            return Err(ReplacementError::OverLimit { used, limit });
        }
        crash_point().map_err(FilesError::disk("sync", &path))?;
        scan(&path, cancelled, &mut Ownership::new(self.layout.uid, self.layout.gid))?;
        flush(&path, cancelled)?;
        Ok(self.operation.enter(Phase::Ready, &self.folder)?)
    }
}

fn flush(path: &Path, cancelled: &AtomicBool) -> Result<(), FilesError> {
    crash_point().map_err(FilesError::disk("sync", path))?;
    let too_many = AtomicBool::new(false);
    if scan(path, &too_many, &mut Flush::new(&too_many)).is_ok() {
        return Ok(());
    }
    if cancelled.load(Ordering::Relaxed) {
        return Err(FilesError::Cancelled { action: "sync", path: path.to_owned() });
    }
    let synced = open(path).and_then(|top| Ok(rustix::fs::syncfs(top)?));
    synced.map_err(FilesError::disk("sync", path))
}

/// Asks the kernel for the bytes of the project of a tree.
fn meter(path: &Path) -> Result<Meter, FilesError> {
    let failed = FilesError::disk::<io::Error>("open", path);
    let top = open(path).map_err(failed)?;
    Ok(Box::new(move || {
        let project = kernel::project(top.as_fd()).ok()?;
        Some(kernel::project_usage(top.as_fd(), project.id).ok()?.bytes)
    }))
}

fn open(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, FLAGS | OFlags::NOFOLLOW, Mode::empty())?)
}
