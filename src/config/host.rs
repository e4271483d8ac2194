//! What the file asks of the host: the system user, directories, and the files that containers see as
//! `/etc/passwd`, `/etc/group` and `/etc/machine-id`.
//!
//! Only what is missing is made; what is there keeps its mode and owner. Runs before anything else of the
//! daemon, and may take as long as `useradd` takes.

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

/// Mode of the node's file: it holds the node's token.
const CONFIG_MODE: u32 = 0o600;

/// Why the host could not be set up. The texts name the path and the next step.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// The system user could not be looked up.
    #[error("cannot look the system user {name:?} up: {why}; correct system.username, or try again")]
    Lookup {
        /// The user.
        name: String,
        /// What is wrong.
        why: String,
    },
    /// The system user could not be made.
    #[error(
        "cannot create the system user {name:?} with `{command}`: {why}; create it yourself, name another one in \
         system.username, or set system.user.rootless.enabled to run as the current user"
    )]
    CreateUser {
        /// The user.
        name: String,
        /// What was run.
        command: String,
        /// What it said.
        why: String,
    },
    /// A directory could not be made.
    #[error("cannot make the directory {} ({key}): {source}; make it yourself, or name another one", path.display())]
    Directory {
        /// The key that names it.
        key: &'static str,
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The directory of install scripts belongs to somebody else, who could replace them.
    #[error(
        "the directory {} belongs to user {uid}, who could change what install containers run: remove it, or name \
         another one in system.tmp_directory", path.display()
    )]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// Its owner.
        uid: u32,
    },
    /// A file for containers could not be written.
    #[error("{source}; the directory is named by {key}, and the mount can be switched off beside it")]
    ContainerFile {
        /// The key that names its directory.
        key: &'static str,
        /// What was attempted on which path.
        source: AtomicError,
    },
}

/// Makes what is missing of the system user, the directories and the containers' files, and gives the
/// configuration with the user and the data directory as they really are.
///
/// # Errors
/// The first thing that cannot be made.
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

/// Makes the directories that are missing, for the current user alone.
///
/// # Errors
/// One of them cannot be made, or is not a directory.
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

/// `/tmp/pelican`, the default, is in a place where anybody may have been first.
fn check_tmp(path: &Path, owner: &Owner) -> Result<(), HostError> {
    let error = |source| HostError::Directory { key: "system.tmp_directory", path: path.to_owned(), source };
    // The link itself too, if it is one: its owner decides where it leads.
    for uid in [fs::symlink_metadata(path).map_err(error)?.uid(), fs::metadata(path).map_err(error)?.uid()] {
        if uid != 0 && uid != owner.uid && uid != rustix::process::geteuid().as_raw() {
            return Err(HostError::Foreign { path: path.to_owned(), uid });
        }
    }
    Ok(())
}

/// Text of `/etc/passwd` in servers. Wings writes no line break at the end.
pub fn passwd_text(node: &NodeConfig) -> String {
    let user = node.container_user();
    format!("container:x:{}:{}::/home/container:/usr/sbin/nologin", user.uid, user.gid)
}

/// Text of `/etc/group` in servers. Wings writes no line break at the end.
pub fn group_text(node: &NodeConfig) -> String {
    format!("container:x:{}:container", node.container_user().gid)
}

/// Writes `passwd` and `group` for servers, if the file wants them and they are not there already.
///
/// # Errors
/// One of them cannot be written.
pub fn write_passwd_files(node: &NodeConfig) -> Result<(), HostError> {
    if !node.mount_passwd {
        return Ok(());
    }
    let key = "system.user.passwd.directory";
    let directory = &node.directories.passwd;
    write_for_containers(key, &directory.join("passwd"), &passwd_text(node))?;
    write_for_containers(key, &directory.join("group"), &group_text(node))
}

/// Running containers have the file itself mounted, so it is replaced only when it is not right.
fn write_for_containers(key: &'static str, path: &Path, text: &str) -> Result<(), HostError> {
    const READABLE: u32 = 0o444;
    let right = fs::read(path).is_ok_and(|found| found == text.as_bytes())
        && fs::metadata(path).is_ok_and(|found| found.permissions().mode() & READABLE == READABLE);
    if right {
        return Ok(());
    }
    atomic::write_file(path, text.as_bytes(), 0o644).map_err(|source| HostError::ContainerFile { key, source })
}

/// Takes the file away from others than its owner, if they can read or write it. Says whether they could.
///
/// # Errors
/// The mode cannot be read or changed, as on a read-only file system. The daemon can go on without.
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
