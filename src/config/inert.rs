//! Keys that are accepted and do nothing yet, so that whoever sets one is told.

use serde_json::Value;

use super::file::ConfigFile;

/// Accepted keys without effect in this version. A section stands for all its keys.
const INERT: &[&str] = &[
    "api.disable_remote_download",
    "api.remote_download.max_redirects",
    "api.upload_limit",
    "system.quotas.enabled",
    "system.activity_send_interval",
    "system.activity_send_count",
    "system.websocket_log_count",
    "system.sftp.bind_address",
    "system.sftp.bind_port",
    "system.sftp.read_only",
    "system.sftp.key_only",
    "system.crash_detection_activity_lines",
    "system.backups.write_limit",
    "system.backups.compression_level",
    "system.backups.restore_host_allowlist",
    "system.transfers.download_limit",
    "system.transfers.storage_pool.enabled",
    "system.transfers.storage_pool.pool_name",
    "system.openat_mode",
    "docker.use_performant_inspect",
    "docker.system_ips",
    "throttles.enabled",
    "throttles.lines",
    "throttles.line_reset_interval",
    "Search.blacklisted_dirs",
    "Search.max_recursion_depth",
];

/// The keys that the file sets to something else than the default although they do nothing in this version.
pub fn inert_keys(file: &ConfigFile) -> Vec<&'static str> {
    let (set, default) = (as_json(file), as_json(&ConfigFile::default()));
    INERT.iter().copied().filter(|key| at(&set, key) != at(&default, key)).collect()
}

fn as_json(file: &ConfigFile) -> Value {
    serde_json::to_value(file).unwrap_or_default()
}

fn at<'a>(value: &'a Value, key: &str) -> Option<&'a Value> {
    key.split('.').try_fold(value, |value, part| value.get(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_listed_key_exists() {
        let default = as_json(&ConfigFile::default());
        for key in INERT {
            assert!(at(&default, key).is_some_and(|value| !value.is_object()), "{key}");
        }
    }

    #[test]
    fn only_what_differs_from_the_default_is_named() {
        assert!(inert_keys(&ConfigFile::default()).is_empty());
        let mut file = ConfigFile::default();
        file.system.sftp.bind_port = 2023;
        file.search.blacklisted_dirs.clear();
        file.api.port = 1;
        assert_eq!(inert_keys(&file), ["system.sftp.bind_port", "Search.blacklisted_dirs"]);
    }
}
