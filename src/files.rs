//! The only door to a server's directory, and to what else a server has on the host's disk.
//!
//! Server ids come in; paths for containers, sizes, and texts of logs go out. Everything below a server's data
//! directory belongs to its user, who may change it at any moment and is hostile: it is only reached through
//! descriptors ([`root`]), no link in it is followed, and nothing outside is touched. Everything blocks: for the blocking
//! pool, not for async threads.
//!
//! Where Wings' folders are named in the node's configuration the bytes are there, and the paths of the state folder
//! answer as links (`->`):
//!
//! ```text
//! {root}/servers/{uuid}/data         the server's files, or -> {system.data}/{uuid}
//! {root}/servers/{uuid}/logs/        the server's own logs
//! {root}/servers/{uuid}/install.log  -> {log}/install/{uuid}.log
//! {root}/install/{uuid}.log          the log of the last installation, or -> {log}/install/{uuid}.log
//! {root}/wings.log                   the daemon's log, or -> {log}/wings.log
//! {tmp}/install_{uuid}/install.sh    the install script, while it is needed
//! {machine_id}/{uuid}                the server's machine-id
//! ```

mod error;
mod flush;
pub mod install_log;
mod links;
pub mod log;
mod ownership;
mod prepare;
mod remove;
pub mod root;
mod scan;
mod script;
mod usage;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use crate::config::{Directories, NodeConfig};
use crate::model::ServerId;

pub use error::{FilesError, Uncounted};
pub use ownership::Fixed;
use root::Root;
use scan::{Visitor, scan};

/// Where servers' files are, and who owns them.
#[derive(Clone, Debug)]
pub struct Layout {
    directories: Directories,
    uid: u32,
    gid: u32,
    machine_id: bool,
}

impl Layout {
    /// What the node's configuration says.
    pub fn new(node: &NodeConfig) -> Self {
        Self {
            directories: node.directories.clone(),
            uid: node.owner.uid,
            gid: node.owner.gid,
            machine_id: node.mount_machine_id,
        }
    }

    /// A server's files: what containers mount. Links are resolved, as far as the directory is there.
    ///
    /// An existing directory is used where it is: files that lie in the state folder are not lost
    /// because the configuration names Wings' folder now, nor the other way round.
    pub fn data(&self, id: ServerId) -> PathBuf {
        let path = self.data_path(id);
        path.canonicalize().unwrap_or(path)
    }

    /// A server's folder in the state folder.
    pub fn folder(&self, id: ServerId) -> PathBuf {
        self.directories.server(&id)
    }

    /// A server's own logs.
    pub fn logs(&self, id: ServerId) -> PathBuf {
        self.folder(id).join("logs")
    }

    /// The folder with a server's install script, for installers to mount.
    pub fn script_folder(&self, id: ServerId) -> PathBuf {
        self.directories.tmp.join(format!("install_{id}"))
    }

    /// The log of a server's last installation.
    pub fn install_log(&self, id: ServerId) -> PathBuf {
        self.directories.install_log(&id)
    }

    /// A server's machine-id file.
    pub fn machine_id(&self, id: ServerId) -> PathBuf {
        self.directories.machine_id_file(&id)
    }

    /// Bytes in a server's files: the lengths of regular files, each once however many names it has. Links are not
    /// followed, mounts not entered. Zero where there is no directory.
    ///
    /// # Errors
    /// Part of it cannot be looked at, or `cancelled` was set. The error says how much there is at least.
    pub fn usage(&self, id: ServerId, cancelled: &AtomicBool) -> Result<u64, Uncounted> {
        let mut usage = usage::Usage::default();
        let scanned = self.scan_data(id, cancelled, &mut usage);
        let bytes = usage.bytes();
        scanned.map(|()| bytes).map_err(|source| Uncounted { bytes, source })
    }

    /// Has a server's files on disk. What a container wrote is there only after that, whatever the container's end may say.
    ///
    /// # Errors
    /// The system says no.
    pub fn flush(&self, id: ServerId) -> Result<(), FilesError> {
        let too_many = AtomicBool::new(false);
        // What cannot be brought there by itself is with all the rest.
        if self.scan_data(id, &too_many, &mut flush::Flush::new(&too_many)).is_ok() {
            return Ok(());
        }
        let path = self.data(id);
        let flushed = Root::open(&path).and_then(|root| Ok(rustix::fs::syncfs(root)?));
        match flushed {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            flushed => flushed.map_err(FilesError::disk("bring to disk", &path)),
        }
    }

    /// Gives all of a server's files to the server's user, where they are not yet; what a link leads to and what is
    /// mounted keep their owners, and so do devices. Files that change hands lose set-user-id bits and capabilities.
    ///
    /// # Errors
    /// Some could not be changed (all others were), or `cancelled` was set.
    pub fn fix_ownership(&self, id: ServerId, cancelled: &AtomicBool) -> Result<Fixed, FilesError> {
        let mut ownership = ownership::Ownership::new(self.uid, self.gid);
        self.scan_data(id, cancelled, &mut ownership)?;
        Ok(ownership.fixed())
    }

    /// Removes everything that a server has on disk but its folder in the state folder: files, logs, links, script,
    /// machine-id, and backups if wanted. Where its data directory is a link, only the link goes. Whatever
    /// is gone already is fine.
    ///
    /// # Errors
    /// Something cannot be removed, and all else is gone; call again when what is in the way is gone, too.
    pub fn remove_server(&self, id: ServerId, remove_backups: bool) -> Result<(), FilesError> {
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
        ];
        if remove_backups {
            paths.push(self.directories.backup.join(id.to_string()));
        }
        paths.extend(self.unfinished_data_path(id));
        // What is in the way of one does not keep the others.
        let errors = paths.iter().map(|path| remove::remove_tree(path));
        errors.fold(Ok(()), Result::and)
    }

    fn scan_data<V: Visitor>(&self, id: ServerId, cancelled: &AtomicBool, visitor: &mut V) -> Result<(), FilesError> {
        let path = self.data(id);
        match Root::open(&path) {
            Ok(root) => scan(&root, &path, cancelled, visitor),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(FilesError::disk(V::ACTION, &path)(error)),
        }
    }

    /// Where a server's files are or should be; this may be a link.
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

    /// Where a server's files would be if the configuration named Wings' folder, and it does not; or the other way round.
    fn other_data_path(&self, id: ServerId) -> PathBuf {
        match self.directories.data {
            Some(_) => self.folder(id).join("data"),
            None => self.directories.root.join("volumes").join(id.to_string()),
        }
    }

    /// The name of a data directory that is being made.
    fn unfinished_data_path(&self, id: ServerId) -> Option<PathBuf> {
        let path = self.directories.server_data(&id);
        Some(path.parent()?.join(format!(".{id}.new")))
    }
}

#[cfg(test)]
mod tests;
