//! `system:`, directories, the owner of files, per-node behaviour.

use crate::config::setting::section;

section! {
    /// `system`: directories, the owner of files, per-node behaviour.
    struct SystemFile {
        /// The state folder.
        "root_directory" root_directory: String = "/var/lib/pelican".into(),
        /// Folder of `wings.log` and `install/`; the state folder where absent.
        "log_directory" log_directory: Option<String> = None,
        /// Folder with one directory of files per server; below the state folder where absent.
        "data" data: Option<String> = None,
        /// Folder for archives; `{root}/archives` where absent.
        "archive_directory" archive_directory: Option<String> = None,
        /// Folder for backups; `{root}/backups` where absent.
        "backup_directory" backup_directory: Option<String> = None,
        /// Folder for install scripts, which the Docker daemon must see under the same path.
        "tmp_directory" tmp_directory: Option<String> = None,
        /// System user that owns the servers' files.
        "username" username: String = "pelican".into(),
        /// Timezone; found out where empty.
        "timezone" timezone: String = String::new(),
        /// The system user in containers.
        "user" user: UserFile = UserFile::default(),
        /// `/etc/machine-id` in containers.
        "machine_id" machine_id: MachineIdFile = MachineIdFile::default(),
        /// Seconds between looks at a server's disk usage; 0 is never.
        "disk_check_interval" disk_check_interval: i64 = 150,
        /// Project quotas of the file system.
        "quotas" quotas: QuotasFile = QuotasFile::default(),
        /// Seconds between reports of activity.
        "activity_send_interval" activity_send_interval: i64 = 60,
        /// Activities per report.
        "activity_send_count" activity_send_count: i64 = 100,
        /// Set the owner of a server's files before each start.
        "check_permissions_on_boot" check_permissions_on_boot: bool = true,
        /// Write a logrotate file.
        "enable_log_rotate" enable_log_rotate: bool = true,
        /// Lines replayed to a new console.
        "websocket_log_count" websocket_log_count: i64 = 150,
        /// SFTP.
        "sftp" sftp: SftpFile = SftpFile::default(),
        /// Crash detection.
        "crash_detection" crash_detection: CrashDetectionFile = CrashDetectionFile::default(),
        /// Console lines stored with the activity of a crash.
        "crash_detection_activity_lines" crash_detection_activity_lines: i64 = 2,
        /// Backups.
        "backups" backups: BackupsFile = BackupsFile::default(),
        /// Transfers.
        "transfers" transfers: TransfersFile = TransfersFile::default(),
        /// How files below a server's directory are opened.
        "openat_mode" openat_mode: String = "auto".into(),
    }
}

section! {
    /// `system.user`: the system user in containers.
    struct UserFile {
        /// Running without root.
        "rootless" rootless: RootlessFile = RootlessFile::default(),
        /// Written by Wings at each boot; the system is asked instead.
        "uid" uid: i64 = 0,
        /// Written by Wings at each boot; the system is asked instead.
        "gid" gid: i64 = 0,
        /// `/etc/passwd` and `/etc/group` in containers.
        "passwd" passwd: PasswdFile = PasswdFile::default(),
    }
}

section! {
    /// `system.user.rootless`: running without root.
    struct RootlessFile {
        /// Whether the daemon and Docker run without root.
        "enabled" enabled: bool = false,
        /// User in containers.
        "container_uid" container_uid: i64 = 0,
        /// Group in containers.
        "container_gid" container_gid: i64 = 0,
    }
}

section! {
    /// `system.user.passwd`: `/etc/passwd` and `/etc/group` in containers.
    struct PasswdFile {
        /// Whether they are mounted.
        "enable" enable: bool = true,
        /// Folder of `passwd` and `group`.
        "directory" directory: Option<String> = None,
    }
}

section! {
    /// `system.machine_id`: `/etc/machine-id` in containers.
    struct MachineIdFile {
        /// Whether it is mounted.
        "enable" enable: bool = true,
        /// Folder of one file per server.
        "directory" directory: Option<String> = None,
    }
}

section! {
    /// `system.quotas`.
    struct QuotasFile {
        /// Use project quotas of the file system.
        "enabled" enabled: bool = false,
    }
}

section! {
    /// `system.sftp`.
    struct SftpFile {
        /// Address to listen on.
        "bind_address" bind_address: String = "0.0.0.0".into(),
        /// Port to listen on.
        "bind_port" bind_port: i64 = 2022,
        /// Refuse changes.
        "read_only" read_only: bool = false,
        /// Refuse passwords.
        "key_only" key_only: bool = false,
    }
}

section! {
    /// `system.crash_detection`.
    struct CrashDetectionFile {
        /// For servers whose own settings do not say.
        "enabled" enabled: bool = true,
        /// Whether an exit with code 0 that nobody asked for is a crash.
        "detect_clean_exit_as_crash" detect_clean_exit_as_crash: bool = true,
        /// Seconds within which a second crash is not followed by a restart; 0 is always restart.
        "timeout" timeout: i64 = 60,
    }
}

section! {
    /// `system.backups`.
    struct BackupsFile {
        /// MiB per second; below 1 is without limit.
        "write_limit" write_limit: i64 = 0,
        /// `none`, `best_speed` or `best_compression`.
        "compression_level" compression_level: String = "best_speed".into(),
        /// Hosts, addresses and CIDRs that a restore may download from although they are private.
        "restore_host_allowlist" restore_host_allowlist: Vec<String> = Vec::new(),
        /// Delete a server's local backups with the server.
        "remove_backups_on_server_delete" remove_backups_on_server_delete: bool = true,
    }
}

section! {
    /// `system.transfers`.
    struct TransfersFile {
        /// MiB per second; below 1 is without limit.
        "download_limit" download_limit: i64 = 0,
        /// Storage shared with other nodes.
        "storage_pool" storage_pool: StoragePoolFile = StoragePoolFile::default(),
    }
}

section! {
    /// `system.transfers.storage_pool`.
    struct StoragePoolFile {
        /// Whether this node shares its storage.
        "enabled" enabled: bool = false,
        /// Name of the pool.
        "pool_name" pool_name: String = String::new(),
    }
}
