//! Access to a server's directory and its other files on the host.
//!
//! The user of a server owns everything below its data directory, may change it at any time, and is not trusted. This module
//! accesses it through descriptors only, follows no link out of it, and touches nothing outside. All functions block:
//! call them on the blocking pool.
//!
//! If the node's configuration names the folders of Wings, the files are there and the paths of the state folder are links
//! (`->`):
//!
//! ```text
//! {root}/servers/{uuid}/data         the server's files, or -> {system.data}/{uuid}
//! {root}/servers/{uuid}/logs/        the server's logs
//! {root}/servers/{uuid}/install.log  -> {log}/install/{uuid}.log
//! {root}/install/{uuid}.log          the log of the last installation, or -> {log}/install/{uuid}.log
//! {root}/wings.log                   the daemon's log, or -> {log}/wings.log
//! {tmp}/install_{uuid}/install.sh    the install script, during an installation
//! {machine_id}/{uuid}                the server's machine-id
//! ```

pub mod account;
mod accounts;
mod background;
pub mod backup_files;
mod child;
mod crash_point;
pub mod denylist;
mod error;
mod file_events;
mod flush;
pub mod install_log;
mod kernel;
mod links;
pub mod log;
mod mount_table;
mod mounted;
mod ownership;
pub mod page_cache;
mod prepare;
mod quota;
mod remove;
pub mod replacement;
mod scan;
mod scratch;
mod script;
mod siblings;
pub mod source;
pub mod trash;
pub mod tree;
mod tree_clone;
pub mod tree_stream;
mod usage;
pub mod user_path;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use rustix::fs::Mode;
use rustix::io::Errno;

use crate::config::{Directories, NodeConfig};
use crate::model::{DirectoryId, ServerId};

pub use account::{Charge, DiskAccount, Meter, OverLimit};
pub use accounts::DiskAccounts;
pub use background::Background;
pub use error::{FilesError, UsageError};
pub use file_events::{FileEvents, Written};
pub use mount_table::mount_table;
pub use mounted::{directory_id, directory_in};
use scan::{Visitor, scan};
pub use scratch::ScratchFile;
use siblings::Siblings;
pub use tree::Root;

/// The bytes of a server's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// The lengths of the files.
    pub bytes: u64,
    /// Their blocks, where they have fewer than their length.
    pub allocated: u64,
}

/// The paths and the owner of servers' files.
#[derive(Clone, Debug)]
pub struct Layout {
    directories: Directories,
    uid: u32,
    gid: u32,
    machine_id: bool,
    quotas: bool,
}

impl Layout {
    /// The layout of the node's configuration.
    pub fn new(node: &NodeConfig) -> Self {
        Self {
            directories: node.directories.clone(),
            uid: node.owner.uid,
            gid: node.owner.gid,
            machine_id: node.mount_machine_id,
            quotas: node.quotas,
        }
    }

    /// The path of a server's files, which containers mount, with links resolved if the directory exists.
    ///
    /// An existing directory is used where it is, even if the configuration has changed. Files in the state folder stay there
    /// after `system.data` is set, and files in the folder of Wings after it is unset.
    pub fn data(&self, id: ServerId) -> PathBuf {
        let path = self.data_path(id);
        path.canonicalize().unwrap_or(path)
    }

    /// The directory of a server's files; `None` if there is none.
    pub fn data_directory(&self, id: ServerId) -> Option<DirectoryId> {
        directory_id(&self.directories.server_data(&id)).or_else(|| directory_id(&self.data_path(id)))
    }

    /// Opens the directory of a server's files, to access untrusted paths below it.
    ///
    /// # Errors
    /// It is missing or not readable.
    pub fn open_data(&self, id: ServerId) -> Result<Root, FilesError> {
        let path = self.data(id);
        Root::open(&path, self.uid, self.gid).map_err(FilesError::disk("open", &path))
    }

    /// A server's folder in the state folder.
    pub fn folder(&self, id: ServerId) -> PathBuf {
        self.directories.server(&id)
    }

    /// The folder of a server's logs.
    pub fn logs(&self, id: ServerId) -> PathBuf {
        self.folder(id).join("logs")
    }

    /// The folder of a server's install script, which installers mount.
    pub fn script_folder(&self, id: ServerId) -> PathBuf {
        self.directories.tmp.join(format!("install_{id}"))
    }

    /// The log of a server's last installation.
    pub fn install_log(&self, id: ServerId) -> PathBuf {
        self.directories.log.join("install").join(format!("{id}.log"))
    }

    /// A server's machine-id file.
    pub fn machine_id(&self, id: ServerId) -> PathBuf {
        self.directories.machine_id.join(id.to_string())
    }

    /// Bytes of a server's files: the lengths of regular files, each counted once for all of its names. Does not follow links or
    /// enter mounts. Zero if there is no directory. Removes the incomplete files that an earlier process has left.
    ///
    /// # Errors
    /// Part of the directory cannot be read, or `cancelled` was set. The error contains a lower bound.
    pub fn usage(&self, id: ServerId, cancelled: &AtomicBool) -> Result<Usage, UsageError> {
        let mut usage = usage::Sum::with_removal(tree::first_temporary());
        let scanned = self.scan_data(id, cancelled, &mut usage);
        scanned
            .map(|()| Usage { bytes: usage.bytes, allocated: usage.allocated })
            .map_err(|source| UsageError { bytes: usage.bytes, source })
    }

    /// Syncs a server's files to disk. What a container has written is durable only after this call.
    ///
    /// # Errors
    /// The sync fails.
    pub fn flush(&self, id: ServerId) -> Result<(), FilesError> {
        let too_many = AtomicBool::new(false);
        // Many files, or one that cannot be opened: sync the whole file system.
        if self.scan_data(id, &too_many, &mut flush::Flush::new(&too_many)).is_ok() {
            return Ok(());
        }
        let path = self.data(id);
        let data = rustix::fs::open(&path, scan::FLAGS, Mode::empty());
        match data.and_then(rustix::fs::syncfs) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(FilesError::disk("sync", &path)(errno)),
        }
    }

    /// Sets the owner of a server's files to the server's user. Targets of links, mounts and devices keep their owners. A file whose
    /// owner changes loses set-user-id bits and capabilities.
    ///
    /// # Errors
    /// Some owners cannot be changed (all others are), or `cancelled` was set.
    pub fn fix_ownership(&self, id: ServerId, cancelled: &AtomicBool) -> Result<(), FilesError> {
        self.scan_data(id, cancelled, &mut ownership::Ownership::new(self.uid, self.gid))
    }

    /// Removes everything of a server except its folder in the state folder: files, those kept of a replacement, logs, links,
    /// script, machine-id, and optionally backups. If its data directory is a link, only the link is removed. Idempotent.
    ///
    /// # Errors
    /// Something cannot be removed; everything else is. Call again after the cause is fixed.
    pub fn remove_server(&self, id: ServerId, remove_backups: bool) -> Result<(), FilesError> {
        self.release_quota(id);
        // Beside the target, if the data directory is a link.
        let beside = Siblings::of(self, id).remove_all();
        let root = &self.directories.root;
        let mut paths = vec![
            self.directories.server_data(&id),
            self.other_data_path(id),
            self.folder(id).join("data"),
            self.logs(id),
            self.script_folder(id),
            self.machine_id(id),
            self.folder(id).join("install.log"),
            root.join("install").join(format!("{id}.log")),
            self.install_log(id),
            self.unfinished_data_path(id),
        ];
        if remove_backups {
            paths.push(self.backups(id));
        }
        // An error of one path does not prevent the removal of the others.
        let errors = paths.iter().map(|path| remove::remove_tree(path));
        errors.fold(beside, Result::and)
    }

    /// The same for a server whose files are on storage that other nodes use, too: they and its backups stay.
    ///
    /// # Errors
    /// As [`remove_server`](Self::remove_server).
    pub fn remove_server_of_pool(&self, id: ServerId) -> Result<(), FilesError> {
        let link = self.folder(id).join("data");
        let paths = [
            self.logs(id),
            self.script_folder(id),
            self.machine_id(id),
            self.folder(id).join("install.log"),
            self.directories.root.join("install").join(format!("{id}.log")),
            self.install_log(id),
        ];
        let link = match link.symlink_metadata() {
            Ok(found) if found.is_symlink() => std::fs::remove_file(&link).map_err(FilesError::disk("remove", &link)),
            _ => Ok(()),
        };
        paths.iter().map(|path| remove::remove_tree(path)).fold(link, Result::and)
    }

    /// Whether a server's files are outside of the state folder, where other nodes may use them, too.
    pub fn may_be_shared(&self) -> bool {
        self.directories.data.as_ref().is_some_and(|data| !data.starts_with(&self.directories.root))
    }

    fn scan_data<V: Visitor>(&self, id: ServerId, cancelled: &AtomicBool, visitor: &mut V) -> Result<(), FilesError> {
        let path = self.data(id);
        match scan(&path, cancelled, visitor) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            scanned => scanned,
        }
    }

    /// The actual or future path of a server's files, which may be a link.
    fn data_path(&self, id: ServerId) -> PathBuf {
        let path = self.directories.server_data(&id);
        let other = self.other_data_path(id);
        let missing = |path: &Path| path.symlink_metadata().is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
        let real = |path: &Path| path.symlink_metadata().is_ok_and(|found| found.is_dir());
        match missing(&path) && real(&other) {
            true => other,
            false => path,
        }
    }

    /// The path of a server's files under the other kind of configuration, with or without `system.data`.
    fn other_data_path(&self, id: ServerId) -> PathBuf {
        match self.directories.data {
            Some(_) => self.folder(id).join("data"),
            None => self.directories.root.join("volumes").join(id.to_string()),
        }
    }

    /// The temporary name of a data directory while it is created.
    fn unfinished_data_path(&self, id: ServerId) -> PathBuf {
        self.directories.server_data(&id).with_file_name(format!(".{id}.new"))
    }
}

#[cfg(test)]
mod test_trees;
#[cfg(test)]
mod tests;
