//! The node's directories on the host.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::file::SystemFile;
use super::lenient::Lenient;
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
    pub(super) fn resolve(
        system: &SystemFile,
        socket: Option<&str>,
        source: &Path,
        lenient: &mut Lenient,
    ) -> Result<Self, Problem> {
        let named = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(|text| absolute(source, text));
        let root = named(Some(&system.root_directory))
            .ok_or_else(|| Problem::new("system.root_directory", "is empty: expected the path of the state folder"))?;
        let data = named(system.data.as_deref());
        // Data is never looked for in another place than the file names.
        for (key, path) in [("system.root_directory", Some(&root)), ("system.data", data.as_ref())] {
            if path.is_some_and(|path| is_top(path)) {
                lenient
                    .note(key, "is /: the node's files lie among those of the system; a directory of its own is safer");
            }
        }
        // A node with another state folder must not share /etc/pelican or /tmp/pelican with another node of the host.
        let default = |below_root: &str, of_wings: &str| match root == Path::new(WINGS_ROOT) {
            true => PathBuf::from(of_wings),
            false => root.join(below_root),
        };
        let mut or = |key: &str, text: &Option<String>, rejected: &dyn Fn(&Path) -> bool, default: PathBuf| {
            let path = named(text.as_deref()).unwrap_or_else(|| default.clone());
            if path == default || !rejected(&path) {
                return path;
            }
            let (found, used) = (path.display(), default.display());
            lenient.note(key, format!("is {found}: expected a directory of its own; {used} is used"));
            default
        };
        // The host's own passwd and group would be overwritten.
        let is_etc = |path: &Path| is_top(path) || path == Path::new("/etc");
        let socket = named(socket).unwrap_or_else(|| root.join("alula.sock"));
        if is_top(&socket) {
            return Err(Problem::new("alula.socket", "is /: expected the path of a socket, such as /run/alula.sock"));
        }
        Ok(Self {
            log: or("system.log_directory", &system.log_directory, &is_top, root.clone()),
            archive: or("system.archive_directory", &system.archive_directory, &is_top, root.join("archives")),
            backup: or("system.backup_directory", &system.backup_directory, &is_top, root.join("backups")),
            tmp: or("system.tmp_directory", &system.tmp_directory, &is_top, default("tmp", "/tmp/pelican")),
            passwd: or(
                "system.user.passwd.directory",
                &system.user.passwd.directory,
                &is_etc,
                default("passwd", "/etc/pelican"),
            ),
            machine_id: or(
                "system.machine_id.directory",
                &system.machine_id.directory,
                &is_top,
                default("machine-id", "/etc/pelican/machine-id"),
            ),
            socket,
            data,
            root,
        })
    }

    /// Install scripts in the state folder, for a directory that cannot be trusted. Returns the former one.
    pub(super) fn replace_tmp(&mut self) -> PathBuf {
        std::mem::replace(&mut self.tmp, self.root.join("tmp"))
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

    /// The host key of SFTP: beside the servers' files, as Wings has it, or in the state folder.
    pub fn sftp_host_key(&self) -> PathBuf {
        self.data.as_ref().unwrap_or(&self.root).join(".sftp/id_ed25519")
    }

    /// The daemon's log.
    pub fn daemon_log(&self) -> PathBuf {
        self.log.join("wings.log")
    }
}

fn is_top(path: &Path) -> bool {
    path.parent().is_none()
}
