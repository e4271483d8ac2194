//! The node's directories on the host.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::file::SystemFile;
use super::{Problem, absolute};
use crate::model::ServerId;

/// The default state folder of Wings. A node that uses it uses the other default folders of Wings too.
const WINGS_ROOT: &str = "/var/lib/pelican";

/// The node's directories, all absolute.
#[allow(missing_docs)]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Directories {
    /// The state folder, `{root}`.
    pub root: PathBuf,
    /// `wings.log` and `install/`; the state folder unless the file names `system.log_directory`.
    pub log: PathBuf,
    /// The folder of servers' files if the file names `system.data`, with symbolic links resolved. `None`: each server's files
    /// are in its own state folder. See [`server_data`](Self::server_data).
    pub data: Option<PathBuf>,
    pub archive: PathBuf,
    pub backup: PathBuf,
    /// Install scripts. The container engine must see it under the same path.
    pub tmp: PathBuf,
    /// `passwd` and `group` for containers.
    pub passwd: PathBuf,
    /// A machine-id file for each server.
    pub machine_id: PathBuf,
    /// Unix socket of the local API.
    pub socket: PathBuf,
}

impl Directories {
    pub(super) fn resolve(system: &SystemFile, socket: Option<&str>, source: &Path) -> Result<Self, Problem> {
        let named = |key: &str, text: Option<&str>| match text.filter(|text| !text.is_empty()) {
            None => Ok(None),
            Some(text) => {
                let path = absolute(source, text);
                // The daemon changes owners and deletes files below these directories.
                if path.parent().is_none() {
                    return Err(Problem::new(key, format!("is {text:?}: expected a directory of its own")));
                }
                Ok(Some(path))
            }
        };
        let root = named("system.root_directory", Some(&system.root_directory))?
            .ok_or_else(|| Problem::new("system.root_directory", "is empty: expected the path of the state folder"))?;
        // A node with another state folder must not share /etc/pelican or /tmp/pelican with another node of the host.
        let default = |below_root: &str, of_wings: &str| match root == Path::new(WINGS_ROOT) {
            true => PathBuf::from(of_wings),
            false => root.join(below_root),
        };
        let or = |key: &str, text: &Option<String>, default: PathBuf| {
            named(key, text.as_deref()).map(|path| path.unwrap_or(default))
        };
        let passwd =
            or("system.user.passwd.directory", &system.user.passwd.directory, default("passwd", "/etc/pelican"))?;
        if passwd == Path::new("/etc") {
            let message = "is /etc: the host's own passwd and group would be overwritten; name a directory of its own";
            return Err(Problem::new("system.user.passwd.directory", message));
        }
        Ok(Self {
            log: or("system.log_directory", &system.log_directory, root.clone())?,
            data: named("system.data", system.data.as_deref())?,
            archive: or("system.archive_directory", &system.archive_directory, root.join("archives"))?,
            backup: or("system.backup_directory", &system.backup_directory, root.join("backups"))?,
            tmp: or("system.tmp_directory", &system.tmp_directory, default("tmp", "/tmp/pelican"))?,
            passwd,
            machine_id: or(
                "system.machine_id.directory",
                &system.machine_id.directory,
                default("machine-id", "/etc/pelican/machine-id"),
            )?,
            socket: or("alula.socket", &socket.map(String::from), root.join("alula.sock"))?,
            root,
        })
    }

    /// Resolves symbolic links in the path of the data folder, if it exists.
    pub(super) fn follow_data_link(&mut self) {
        if let Some(real) = self.data.as_ref().and_then(|path| path.canonicalize().ok()) {
            self.data = Some(real);
        }
    }

    /// A server's state folder.
    pub fn server(&self, id: &ServerId) -> PathBuf {
        self.root.join("servers").join(id.to_string())
    }

    /// The path of a server's files, which containers mount.
    pub fn server_data(&self, id: &ServerId) -> PathBuf {
        match &self.data {
            Some(data) => data.join(id.to_string()),
            None => self.server(id).join("data"),
        }
    }

    /// The daemon's log.
    pub fn daemon_log(&self) -> PathBuf {
        self.log.join("wings.log")
    }
}
