//! Prepares the host: the system user, the directories, and the `/etc/passwd` and `/etc/group` of containers.
//!
//! Only what is missing is created; existing directories keep their mode and owner. Runs before the rest of the daemon.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::Access;

use super::file::ConfigFile;
use super::{HostEnvironment, NodeConfig, Owner};
use crate::atomic::{self, AtomicError};

mod user;

pub(super) use user::find_owner;
pub use user::{current_user, socket_group};

/// Mode of the node's file, which contains the node's token.
const CONFIG_MODE: u32 = 0o600;

const PASSWD_KEY: &str = "system.user.passwd.directory";

/// Why the host could not be prepared. The messages name the path and the next step.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum HostError {
    #[error("cannot look up the system user {name:?}: {why}; correct system.username, or try again")]
    Lookup { name: String, why: String },
    #[error(
        "cannot create the system user {name:?} with `{command}`: {why}; create it yourself, name another one in \
         system.username, or set system.user.rootless.enabled to run as the current user"
    )]
    CreateUser { name: String, command: String, why: String },
    #[error("cannot create the directory {} ({key}): {source}; create it yourself, or name another one", path.display())]
    Directory {
        /// The key of the file that names it.
        key: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    /// The directory of install scripts belongs to another user, who could replace them.
    #[error(
        "the directory {} belongs to user {uid}, who could change what install containers run: remove it, or name \
         another one in system.tmp_directory", path.display()
    )]
    Foreign { path: PathBuf, uid: u32 },
    #[error("{source}; {key} names the directory, and `enable` next to it disables the mount")]
    ContainerFile { key: &'static str, source: AtomicError },
}

/// Creates the system user, the directories and the files for containers if they are missing. Returns the configuration with
/// the actual user and data directory.
///
/// # Errors
/// The first of them that cannot be created.
pub fn prepare(
    file: &ConfigFile,
    mut node: NodeConfig,
    host_environment: HostEnvironment<'_>,
) -> Result<NodeConfig, HostError> {
    node.owner = user::ensure_owner(file, host_environment)?;
    make_directories(&node)?;
    node.directories.follow_data_link();
    write_passwd_files(&node)?;
    Ok(node)
}

/// The private directories that the node needs, with the keys that name them.
fn directories(node: &NodeConfig) -> Vec<(&'static str, PathBuf)> {
    let directories = &node.directories;
    let mut needed = vec![
        ("system.root_directory", directories.root.clone()),
        ("system.log_directory", directories.log.join("install")),
        ("system.archive_directory", directories.archive.clone()),
        ("system.backup_directory", directories.backup.clone()),
        ("system.tmp_directory", directories.tmp.clone()),
    ];
    needed.extend(directories.data.iter().map(|data| ("system.data", data.clone())));
    if node.mount_passwd {
        needed.push((PASSWD_KEY, directories.passwd.clone()));
    }
    if node.mount_machine_id {
        needed.push(("system.machine_id.directory", directories.machine_id.clone()));
    }
    needed
}

/// The folder of the socket, which is open: the socket's own mode restricts who may use it.
fn socket_folder(node: &NodeConfig) -> (&'static str, &Path) {
    ("alula.socket", node.directories.socket.parent().unwrap_or(Path::new("/")))
}

/// Creates the missing directories: private ones, and the folder of the socket. The umask does not matter.
///
/// # Errors
/// One of them cannot be created, or is not a directory.
pub fn make_directories(node: &NodeConfig) -> Result<(), HostError> {
    let failed = |key, path: &Path| {
        let path = path.to_owned();
        move |source| HostError::Directory { key, path, source }
    };
    for (key, path) in directories(node) {
        DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(failed(key, &path))?;
    }
    let (key, path) = socket_folder(node);
    make_open(path).map_err(failed(key, path))?;
    check_tmp(&node.directories.tmp, &node.owner)
}

fn make_open(path: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = path.ancestors().take_while(|folder| !folder.is_dir()).collect();
    for folder in missing.into_iter().rev() {
        fs::create_dir(folder)?;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

/// What [`prepare`] cannot do now, with the keys of the file. Changes nothing.
pub fn check(node: &NodeConfig) -> Vec<(&'static str, HostError)> {
    let directory = |key: &'static str, path: &Path, writes| {
        let source = can_make(path, writes).err()?;
        Some((key, HostError::Directory { key, path: path.to_owned(), source }))
    };
    let writes_passwd = !passwd_files(node).iter().all(|(path, text)| is_correct(path, text));
    let writes = |key| key == "system.root_directory" || (key == PASSWD_KEY && writes_passwd);
    let (key, folder) = socket_folder(node);
    let mut problems: Vec<_> =
        directories(node).iter().filter_map(|(key, path)| directory(key, path, writes(*key))).collect();
    problems.extend(directory(key, folder, true).filter(|_| folder != node.directories.root));
    if node.directories.tmp.is_dir() {
        problems
            .extend(check_tmp(&node.directories.tmp, &node.owner).err().map(|error| ("system.tmp_directory", error)));
    }
    problems
}

/// Whether a directory exists, with permission to write if the start `writes` into it, or can be created.
fn can_make(path: &Path, writes: bool) -> io::Result<()> {
    let nearest = path.ancestors().find(|folder| fs::symlink_metadata(folder).is_ok()).unwrap_or(path);
    if !fs::metadata(nearest)?.is_dir() {
        return Err(io::Error::new(io::ErrorKind::NotADirectory, format!("{} is not a directory", nearest.display())));
    }
    match nearest == path && !writes {
        true => Ok(()),
        false => Ok(rustix::fs::access(nearest, Access::WRITE_OK | Access::EXEC_OK)?),
    }
}

/// Any user may create `/tmp/pelican`, the default, before the daemon does.
pub(super) fn check_tmp(path: &Path, owner: &Owner) -> Result<(), HostError> {
    let error = |source| HostError::Directory { key: "system.tmp_directory", path: path.to_owned(), source };
    // The owner of a link decides on its target, so both are checked.
    for uid in [fs::symlink_metadata(path).map_err(error)?.uid(), fs::metadata(path).map_err(error)?.uid()] {
        if uid != 0 && uid != owner.uid && uid != rustix::process::geteuid().as_raw() {
            return Err(HostError::Foreign { path: path.to_owned(), uid });
        }
    }
    Ok(())
}

/// Writes `passwd` and `group` for servers, if their mount is enabled.
///
/// # Errors
/// One of them cannot be written.
pub fn write_passwd_files(node: &NodeConfig) -> Result<(), HostError> {
    for (path, text) in passwd_files(node) {
        // Running containers mount the file itself, so a correct one is not replaced.
        if !is_correct(&path, &text) {
            let written = atomic::write_file(&path, text.as_bytes(), 0o644);
            written.map_err(|source| HostError::ContainerFile { key: PASSWD_KEY, source })?;
        }
    }
    Ok(())
}

/// The files for servers with their texts; none if their mount is disabled.
fn passwd_files(node: &NodeConfig) -> Vec<(PathBuf, String)> {
    if !node.mount_passwd {
        return Vec::new();
    }
    let (directory, user) = (&node.directories.passwd, node.container_user());
    // Wings writes no line break at the end.
    vec![
        (directory.join("passwd"), format!("container:x:{user}::/home/container:/usr/sbin/nologin")),
        (directory.join("group"), format!("container:x:{}:container", user.gid)),
    ]
}

fn is_correct(path: &Path, text: &str) -> bool {
    const READABLE: u32 = 0o444;
    fs::read(path).is_ok_and(|found| found == text.as_bytes())
        && fs::metadata(path).is_ok_and(|found| found.permissions().mode() & READABLE == READABLE)
}

/// Restricts the file to its owner. Returns whether other users had access before.
///
/// # Errors
/// The mode cannot be read or changed, such as on a read-only file system.
pub fn restrict_mode(path: &Path) -> io::Result<bool> {
    let file = File::open(path)?;
    let mode = file.metadata()?.permissions().mode() & 0o7777;
    if mode & 0o077 == 0 {
        return Ok(false);
    }
    file.set_permissions(fs::Permissions::from_mode(CONFIG_MODE))?;
    Ok(true)
}

#[cfg(test)]
mod tests;
