//! `system:`, directories, the owner of files, per-node behaviour.
#![allow(missing_docs)]

use crate::config::setting::section;

section! {
    /// `system`: directories, the owner of files, per-node behaviour.
    struct SystemFile {
        "root_directory" root_directory: String = "/var/lib/pelican".into(),
        /// Folder of `wings.log` and `install/`; the state folder if absent.
        "log_directory" log_directory: Option<String> = None,
        /// Folder with a directory of files for each server; in the state folder if absent.
        "data" data: Option<String> = None,
        /// `{root}/archives` if absent.
        "archive_directory" archive_directory: Option<String> = None,
        /// `{root}/backups` if absent.
        "backup_directory" backup_directory: Option<String> = None,
        /// Folder for install scripts. The container engine must see it under the same path.
        "tmp_directory" tmp_directory: Option<String> = None,
        /// System user that owns the servers' files.
        "username" username: String = "pelican".into(),
        "timezone" timezone: String = String::new(),
        "user" user: UserFile = UserFile::default(),
        "machine_id" machine_id: MachineIdFile = MachineIdFile::default(),
        /// Seconds between measurements of a server's disk usage; 0 is never.
        "disk_check_interval" disk_check_interval: i64 = 150,
        "quotas" quotas: QuotasFile = QuotasFile::default(),
        /// Seconds between reports of activity.
        "activity_send_interval" activity_send_interval: i64 = 60,
        "activity_send_count" activity_send_count: i64 = 100,
        /// Set the owner of a server's files before each start.
        "check_permissions_on_boot" check_permissions_on_boot: bool = true,
        /// Write a logrotate file.
        "enable_log_rotate" enable_log_rotate: bool = true,
        /// Lines replayed to a new console.
        "websocket_log_count" websocket_log_count: i64 = 150,
        "sftp" sftp: SftpFile = SftpFile::default(),
        "crash_detection" crash_detection: CrashDetectionFile = CrashDetectionFile::default(),
        /// Console lines stored with the activity of a crash.
        "crash_detection_activity_lines" crash_detection_activity_lines: i64 = 2,
        "backups" backups: BackupsFile = BackupsFile::default(),
        "transfers" transfers: TransfersFile = TransfersFile::default(),
        /// How files below a server's directory are opened.
        "openat_mode" openat_mode: String = "auto".into(),
    }
}

section! {
    /// `system.user`: the system user in containers.
    struct UserFile {
        "rootless" rootless: RootlessFile = RootlessFile::default(),
        /// Written by Wings at each boot; the daemon looks it up.
        "uid" uid: i64 = 0,
        /// Written by Wings at each boot; the daemon looks it up.
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
        "enable" enable: bool = true,
        /// Folder of `passwd` and `group`.
        "directory" directory: Option<String> = None,
    }
}

section! {
    /// `system.machine_id`: `/etc/machine-id` in containers.
    struct MachineIdFile {
        "enable" enable: bool = true,
        /// Folder with a file for each server.
        "directory" directory: Option<String> = None,
    }
}

section! {
    /// `system.quotas`.
    struct QuotasFile {
        "enabled" enabled: bool = false,
    }
}

section! {
    /// `system.sftp`.
    struct SftpFile {
        "bind_address" bind_address: String = "0.0.0.0".into(),
        "bind_port" bind_port: i64 = 2022,
        /// Reject changes.
        "read_only" read_only: bool = false,
        /// Reject passwords.
        "key_only" key_only: bool = false,
    }
}

section! {
    /// `system.crash_detection`.
    struct CrashDetectionFile {
        /// For servers whose own settings leave it open.
        "enabled" enabled: bool = true,
        /// Whether an unrequested exit with code 0 is a crash.
        "detect_clean_exit_as_crash" detect_clean_exit_as_crash: bool = true,
        /// After a second crash within these seconds the server stays offline; 0: it is always started again.
        "timeout" timeout: i64 = 60,
    }
}

section! {
    /// `system.backups`.
    struct BackupsFile {
        /// MiB per second; below 1 is unlimited.
        "write_limit" write_limit: i64 = 0,
        /// `none`, `best_speed` or `best_compression`.
        "compression_level" compression_level: String = "best_speed".into(),
        /// Private hosts, addresses and CIDRs that a restore may download from.
        "restore_host_allowlist" restore_host_allowlist: Vec<String> = Vec::new(),
        /// Backups that run at the same time.
        "concurrent_backups" concurrent_backups: i64 = 2,
        /// MiB per second of all uploads together; below 1 is unlimited.
        "upload_limit" upload_limit: i64 = 0,
        /// Delete a server's local backups with the server.
        "remove_backups_on_server_delete" remove_backups_on_server_delete: bool = true,
    }
}

section! {
    /// `system.transfers`.
    struct TransfersFile {
        /// MiB per second; below 1 is unlimited.
        "download_limit" download_limit: i64 = 0,
        /// MiB per second of all servers that leave together; below 1 is unlimited.
        "upload_limit" upload_limit: i64 = 0,
        "storage_pool" storage_pool: StoragePoolFile = StoragePoolFile::default(),
    }
}

section! {
    /// `system.transfers.storage_pool`.
    struct StoragePoolFile {
        "enabled" enabled: bool = false,
        "pool_name" pool_name: String = String::new(),
    }
}
