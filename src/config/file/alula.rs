//! `alula:`, the keys that Wings does not have. An unknown key is an error in this section.
#![allow(missing_docs)]

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use crate::config::setting::{Report, Setting, section};

section! {
    /// `alula`: the keys that Wings does not have.
    @strict struct AlulaFile {
        /// Unix socket of the local API; `{root}/alula.sock` if absent.
        "socket" socket: Option<String> = None,
        /// Name or number of the group whose members may use the socket.
        "socket_group" socket_group: Option<String> = None,
        /// Mode of the socket, octal: 0600 if absent, or 0660 with a group.
        "socket_mode" socket_mode: Option<String> = None,
        "reconcile" reconcile: ReconcileFile = ReconcileFile::default(),
        "network" network: ServerNetworksFile = ServerNetworksFile::default(),
        "install" install: InstallFile = InstallFile::default(),
        "pull" pull: PullFile = PullFile::default(),
        "logs" logs: LogsFile = LogsFile::default(),
        /// Backups that are made by time.
        "backups" backups: Vec<BackupScheduleFile> = Vec::new(),
        "trash" trash: TrashFile = TrashFile::default(),
    }
}

section! {
    /// `alula.trash`: deleted servers that are kept for a day.
    @strict struct TrashFile {
        /// Whether servers that the panel deletes are kept, too.
        "panel" panel: bool = false,
    }
}

section! {
    /// An entry of `alula.backups`.
    @strict struct BackupScheduleFile {
        /// A name for the list of backups; the schedule itself if absent. Only backups of this name are removed by `keep`.
        "name" name: String = String::new(),
        "selector" selector: SelectorFile = SelectorFile::default(),
        /// When they are made, as in a crontab: minute, hour, day of the month, month, day of the week, in `system.timezone`.
        "schedule" schedule: String = String::new(),
        "keep" keep: KeepFile = KeepFile::default(),
    }
}

section! {
    /// The servers of a schedule: those that satisfy both, or all.
    @strict struct SelectorFile {
        /// UUIDs or names.
        "servers" servers: Vec<String> = Vec::new(),
        /// Labels of manifests.
        "labels" labels: BTreeMap<String, String> = BTreeMap::new(),
    }
}

section! {
    /// How many backups of a schedule are kept; all if nothing is named.
    @strict struct KeepFile {
        /// The latest ones.
        "last" last: i64 = 0,
        /// The latest one of each of so many days.
        "daily" daily: i64 = 0,
        "weekly" weekly: i64 = 0,
        "monthly" monthly: i64 = 0,
    }
}

section! {
    /// `alula.reconcile`.
    @strict struct ReconcileFile {
        /// Passes that run at the same time.
        "workers" workers: i64 = 8,
        /// Installers that run at the same time.
        "concurrent_installs" concurrent_installs: i64 = 10,
        /// Servers that are started at the same time after a boot; 0: as many as the host has cores, at least 4.
        "concurrent_starts" concurrent_starts: i64 = 0,
    }
}

section! {
    /// `alula.network`: a network for each server.
    @strict struct ServerNetworksFile {
        /// Whether each server has a network of its own, in which no other server reaches it.
        "isolate" isolate: bool = false,
        /// The IPv4 range of these networks, in CIDR notation; each has 16 addresses.
        "range" range: String = "10.208.0.0/12".into(),
    }
}

section! {
    /// `alula.install`.
    @strict struct InstallFile {
        /// Seconds that an install script may take; 0 is unlimited.
        "timeout_seconds" timeout_seconds: i64 = 3600,
        /// Whether an install script with an exit code other than 0 has failed.
        "fail_on_nonzero_exit" fail_on_nonzero_exit: bool = false,
    }
}

section! {
    /// `alula.pull`.
    @strict struct PullFile {
        "policy" policy: PullPolicy = PullPolicy::Always,
    }
}

section! {
    /// `alula.logs`: the console transcript of each server.
    @strict struct LogsFile {
        /// Size in MiB at which a new file is started.
        "max_size_mib" max_size_mib: i64 = 5,
        /// Number of files, including the current one.
        "max_files" max_files: i64 = 3,
    }
}

/// When an image is pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PullPolicy {
    /// Before each creation of a container, as Wings does. If the registry fails, a local image is used.
    #[default]
    Always,
    /// Only if the host does not have it.
    IfNotPresent,
    /// Never: the image must be on the host.
    Never,
}

impl Setting for PullPolicy {
    fn read<'de, D: Deserializer<'de>>(&mut self, from: D, _: &mut Report) -> Result<(), D::Error> {
        *self = Self::deserialize(from)?;
        Ok(())
    }
}
