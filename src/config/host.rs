//! Prepares the host: the system user, the directories, and the `/etc/passwd` and `/etc/group` of containers.
//!
//! Only what is missing is created; existing directories keep their mode and owner. Runs before the rest of the daemon.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::file::ConfigFile;
use super::{HostEnvironment, NodeConfig, Owner};
use crate::atomic::{self, AtomicError};

mod user;

pub use user::current_user;
pub(super) use user::find_owner;

/// Mode of the node's file, which contains the node's token.
const CONFIG_MODE: u32 = 0o600;

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

/// Creates the missing directories, accessible for the current user only.
///
/// # Errors
/// One of them cannot be created, or is not a directory.
pub fn make_directories(node: &NodeConfig) -> Result<(), HostError> {
    let directories = &node.directories;
    make("system.root_directory", &directories.root)?;
    make("system.log_directory", &directories.log.join("install"))?;
    if let Some(data) = &directories.data {
        make("system.data", data)?;
    }
    make("system.archive_directory", &directories.archive)?;
    make("system.backup_directory", &directories.backup)?;
    if node.mount_passwd {
        make("system.user.passwd.directory", &directories.passwd)?;
    }
    if node.mount_machine_id {
        make("system.machine_id.directory", &directories.machine_id)?;
    }
    make("system.tmp_directory", &directories.tmp)?;
    check_tmp(&directories.tmp, &node.owner)
}

fn make(key: &'static str, path: &Path) -> Result<(), HostError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| HostError::Directory { key, path: path.to_owned(), source })
}

/// Any user may create `/tmp/pelican`, the default, before the daemon does.
fn check_tmp(path: &Path, owner: &Owner) -> Result<(), HostError> {
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
    if !node.mount_passwd {
        return Ok(());
    }
    let key = "system.user.passwd.directory";
    let directory = &node.directories.passwd;
    let user = node.container_user();
    // Wings writes no line break at the end.
    let passwd = format!("container:x:{user}::/home/container:/usr/sbin/nologin");
    write_for_containers(key, &directory.join("passwd"), &passwd)?;
    write_for_containers(key, &directory.join("group"), &format!("container:x:{}:container", user.gid))
}

/// Running containers mount the file itself, so a correct one is not replaced.
fn write_for_containers(key: &'static str, path: &Path, text: &str) -> Result<(), HostError> {
    const READABLE: u32 = 0o444;
    let correct = fs::read(path).is_ok_and(|found| found == text.as_bytes())
        && fs::metadata(path).is_ok_and(|found| found.permissions().mode() & READABLE == READABLE);
    if correct {
        return Ok(());
    }
    atomic::write_file(path, text.as_bytes(), 0o644).map_err(|source| HostError::ContainerFile { key, source })
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
