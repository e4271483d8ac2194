//! What a backup reads: a server's files as they were at one moment, where the file system can keep it.
//!
//! In order of preference: a snapshot of the btrfs subvolume or of the ZFS dataset that the data directory is, a copy of the tree by
//! reflinks, the live tree. Snapshots and copies are beside the data directory (`siblings.rs`), or in ZFS's own folder, and are
//! removed when the source is dropped; what a killed daemon has left is found by its name. A snapshot is of one moment. A copy by
//! reflinks takes a while, in which each file is of one moment; a pause makes it one.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{FileType, Mode, OFlags, Stat};
use uuid::Uuid;

use super::denylist::Denylist;
use super::scan::{FLAGS, Visitor, scan};
use super::siblings::{Siblings, TREE, make_folder, make_tree, remove_folder};
use super::tree_clone::{can_share_blocks, clone_tree};
use super::{DiskAccount, FilesError, Layout, Root, kernel, mount_table, tree::Tree};
use crate::model::{BackupSource, ServerId};

/// `ZFS_SUPER_MAGIC`.
const ZFS: u32 = 0x2fc1_2fc1;
/// Prefix of the names of ZFS snapshots.
const ZFS_PREFIX: &str = "alula-";
/// The inode of the empty directory that a btrfs snapshot has in the place of a subvolume.
const LEFT_OUT: u64 = 2;
/// Seconds that a command of ZFS may take.
const TIMEOUT: &str = "60";

/// The folders and snapshots that sources of this process use.
static IN_USE: Mutex<Option<HashSet<Uuid>>> = Mutex::new(None);

/// A tree to read. Dropped, snapshots and copies are removed.
#[derive(Debug)]
pub struct Source {
    token: Uuid,
    kind: BackupSource,
    tree: Option<Tree>,
    siblings: Siblings,
    dataset: Option<String>,
}

impl Source {
    /// The files. Do not write to them.
    ///
    /// # Panics
    /// Never: it is taken by the drop only.
    pub fn tree(&self) -> &Tree {
        self.tree.as_ref().expect("dropped with the source")
    }

    /// What it is.
    pub fn kind(&self) -> BackupSource {
        self.kind
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.tree = None;
        // What cannot be removed now is removed by a sweep.
        match &self.dataset {
            Some(dataset) => drop(destroy(dataset, self.token)),
            None if self.kind != BackupSource::Live => drop(remove_folder(&self.siblings.source(self.token))),
            None => {}
        }
        in_use(|tokens| tokens.remove(&self.token));
    }
}

impl Layout {
    /// Opens the files of a server as they are now, as quietly as their file system allows. `pause` is called right before a snapshot
    /// or copy, and what it returns is dropped right after.
    ///
    /// # Errors
    /// The files cannot be opened, or `cancelled` was set. A snapshot that fails is no error: the next kind is used.
    pub fn quiet_source<P>(
        &self,
        id: ServerId,
        mut pause: impl FnMut() -> P,
        cancelled: &AtomicBool,
    ) -> Result<Source, FilesError> {
        let (token, siblings) = (Uuid::new_v4(), Siblings::of(self, id));
        in_use(|tokens| tokens.insert(token));
        let mut source = Source { token, kind: BackupSource::Live, tree: None, siblings, dataset: None };
        let mut path = source.siblings.data();
        if let Some(quiet) = source.quiet(&mut pause, cancelled)? {
            path = quiet;
        }
        let root = Root::open(&path, self.uid, self.gid).map_err(FilesError::disk("open", &path))?;
        source.tree = Some(Tree::new(root, Arc::new(Denylist::default()), DiskAccount::new(None, 0)));
        Ok(source)
    }

    /// Removes the snapshots and copies of a server that no source of this process uses.
    ///
    /// # Errors
    /// Something cannot be removed.
    pub fn sweep_sources(&self, id: ServerId) -> Result<(), FilesError> {
        let siblings = Siblings::of(self, id);
        let unused = |path: &PathBuf| {
            let token = path.file_name().and_then(OsStr::to_str).and_then(|name| name.split_once(".source-"));
            token
                .and_then(|(_, token)| token.parse().ok())
                .is_none_or(|token| !in_use(|tokens| tokens.contains(&token)))
        };
        let removed = siblings.sources().into_iter().filter(unused).map(|path| remove_folder(&path));
        let removed = removed.fold(Ok(()), Result::and);
        if let Some(dataset) = dataset_of(&siblings.data()) {
            for token in snapshots_of(&siblings.data()) {
                if !in_use(|tokens| tokens.contains(&token)) {
                    destroy(&dataset, token).map_err(FilesError::disk("remove", &siblings.data()))?;
                }
            }
        }
        removed
    }
}

impl Source {
    /// Makes the best snapshot or copy that is possible. Returns the path of its tree.
    fn quiet<P>(
        &mut self,
        pause: &mut dyn FnMut() -> P,
        cancelled: &AtomicBool,
    ) -> Result<Option<PathBuf>, FilesError> {
        let data = self.siblings.data();
        if let Some(dataset) = dataset_of(&data) {
            let name = format!("{ZFS_PREFIX}{}", self.token);
            let paused = pause();
            let made = zfs(&["snapshot", &format!("{dataset}@{name}")]);
            drop(paused);
            if made.is_ok() {
                (self.kind, self.dataset) = (BackupSource::ZfsSnapshot, Some(dataset));
                return Ok(Some(data.join(".zfs/snapshot").join(name)));
            }
        }
        let folder = self.siblings.source(self.token);
        // Beside a mount there is another file system.
        if self.siblings.is_mount().unwrap_or(true) || make_folder(&folder).is_err() {
            return Ok(None);
        }
        if self.snapshot(&data, &folder, pause, cancelled) {
            self.kind = BackupSource::BtrfsSnapshot;
            return Ok(Some(folder.join(TREE)));
        }
        if can_share_blocks(&folder).unwrap_or(false) {
            let copied = make_tree(&folder, &data).map_err(FilesError::disk("copy", &data)).and_then(|tree| {
                let paused = pause();
                let cloned = clone_tree(&data, &tree, cancelled);
                drop(paused);
                cloned.map(|()| tree)
            });
            match copied {
                Ok(tree) => {
                    self.kind = BackupSource::Reflink;
                    return Ok(Some(tree));
                }
                Err(error @ FilesError::Cancelled { .. }) => {
                    remove_folder(&folder)?;
                    return Err(error);
                }
                Err(_) => {}
            }
        }
        remove_folder(&folder)?;
        Ok(None)
    }

    /// Makes a btrfs snapshot, if the directory is a subvolume and has no other one in it, which a snapshot leaves out.
    fn snapshot<P>(&self, data: &Path, folder: &Path, pause: &mut dyn FnMut() -> P, cancelled: &AtomicBool) -> bool {
        let open = |path: &Path| rustix::fs::open(path, FLAGS | OFlags::NOFOLLOW, Mode::empty());
        let (Ok(subvolume), Ok(parent)) = (open(data), open(folder)) else { return false };
        if !kernel::is_subvolume(subvolume.as_fd()) || has_subvolumes(data, cancelled) {
            return false;
        }
        let paused = pause();
        let made = kernel::snapshot_subvolume(subvolume.as_fd(), parent.as_fd(), c"tree");
        drop(paused);
        made.is_ok()
    }
}

/// Whether a subvolume, or the place of one, is below a directory.
fn has_subvolumes(data: &Path, cancelled: &AtomicBool) -> bool {
    struct Subvolumes {
        top: Option<u64>,
        found: bool,
    }
    impl Visitor for Subvolumes {
        const ACTION: &'static str = "read";
        fn directory(&mut self, _: std::os::fd::BorrowedFd<'_>, stat: &Stat) -> rustix::io::Result<()> {
            let top = *self.top.get_or_insert(stat.st_dev);
            self.found |= stat.st_dev != top || stat.st_ino == LEFT_OUT;
            Ok(())
        }
        fn entry(&mut self, _: std::os::fd::BorrowedFd<'_>, _: &std::ffi::CStr, _: FileType) -> rustix::io::Result<()> {
            Ok(())
        }
    }
    let mut subvolumes = Subvolumes { top: None, found: false };
    // An error is one of a directory that changes, or that a copy does not read either.
    let _ = scan(data, cancelled, &mut subvolumes);
    subvolumes.found
}

/// The ZFS dataset that is mounted at this path.
fn dataset_of(data: &Path) -> Option<String> {
    let found = rustix::fs::statfs(data).ok()?;
    (found.f_type as u32 == ZFS).then_some(())?;
    let mounts = mount_table(Path::new("/proc"));
    let mount = mounts.into_iter().rev().find(|mount| mount.mount_point == data && mount.fs_type == "zfs");
    mount.and_then(|mount| mount.mount_source)
}

/// The snapshots of this daemon of the dataset that is mounted at this path.
fn snapshots_of(data: &Path) -> Vec<Uuid> {
    let entries = std::fs::read_dir(data.join(".zfs/snapshot")).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter_map(|name| name.strip_prefix(ZFS_PREFIX)?.parse().ok()).collect()
}

fn destroy(dataset: &str, token: Uuid) -> io::Result<()> {
    zfs(&["destroy", &format!("{dataset}@{ZFS_PREFIX}{token}")])
}

/// Runs a command of ZFS, which ends in time.
fn zfs(arguments: &[&str]) -> io::Result<()> {
    let mut command = Command::new("timeout");
    command.args(["-k", "5", TIMEOUT, "zfs"]).args(arguments);
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("zfs {}: {status}", arguments.join(" ")))) }
}

fn in_use<T>(work: impl FnOnce(&mut HashSet<Uuid>) -> T) -> T {
    work(IN_USE.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(HashSet::new))
}

#[cfg(test)]
mod tests;
