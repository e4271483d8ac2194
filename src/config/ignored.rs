//! Keys of the file that have no effect: unknown ones, which are mostly slips, and those that this version ignores.

use serde_json::Value;

use super::Problem;
use super::file::ConfigFile;
use crate::yaml;

/// The most unknown keys in a report.
const MAX: usize = 30;

/// Keys of Wings that are accepted without effect in this version.
const UNSUPPORTED: &[&str] = &[
    "api.disable_remote_download",
    "api.remote_download.max_redirects",
    "api.upload_limit",
    "api.trusted_proxies",
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
    "ignore_panel_config_updates",
];

/// The unsupported keys whose value is not the default.
pub(super) fn unsupported_keys(file: &ConfigFile) -> Vec<&'static str> {
    let (set, default) = (as_json(file), as_json(&ConfigFile::default()));
    UNSUPPORTED.iter().copied().filter(|key| at(&set, key) != at(&default, key)).collect()
}

/// The unknown keys of a text. None if the text is not YAML, which [`ConfigFile::parse`] reports.
pub(super) fn unknown_keys(text: &str) -> Vec<Problem> {
    let set = yaml::parse_value(text).unwrap_or_default();
    let mut found = Vec::new();
    compare(&set, &as_json(&ConfigFile::default()), "", &mut found);
    found.truncate(MAX);
    found
}

fn compare(set: &Value, known: &Value, section: &str, found: &mut Vec<Problem>) {
    let (Value::Object(set), Value::Object(known)) = (set, known) else { return };
    // An empty default is a map with any keys.
    if known.is_empty() {
        return;
    }
    for (key, value) in set {
        let path = format!("{section}{key}");
        match known.get(key) {
            Some(known) => compare(value, known, &format!("{path}."), found),
            None => {
                let nearest = yaml::nearest(key, known.keys().map(String::as_str));
                let help = nearest.map_or(String::new(), |nearest| format!("; did you mean `{nearest}`?"));
                found.push(Problem::new(path, format!("unknown key, ignored{help}")));
            }
        }
    }
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

    fn messages(text: &str) -> Vec<String> {
        unknown_keys(text).iter().map(Problem::to_string).collect()
    }

    #[test]
    fn unknown_keys_are_named_with_the_nearest_known_one() {
        let text =
            "remot: https://panel.example.com\nsystem:\n  sftp: {bind_prot: 1}\n  xyzzy: {a: 1}\nsearch: {}\n5: x\n";
        assert_eq!(
            messages(text),
            [
                "remot: unknown key, ignored; did you mean `remote`?",
                "system.sftp.bind_prot: unknown key, ignored; did you mean `bind_port`?",
                "system.xyzzy: unknown key, ignored",
                "search: unknown key, ignored; did you mean `Search`?",
                "5: unknown key, ignored",
            ]
        );
    }

    #[test]
    fn known_keys_and_keys_of_maps_are_not_unknown() {
        let default = yaml::to_string(&ConfigFile::default()).unwrap();
        let maps = "docker:\n  registries: {ghcr.io: {username: a, password: b}}\n  log_config: {config: {tag: x}}\n  \
                    overhead: {multipliers: {512: 1.3}}\nremote_query: {custom_headers: {X-A: b}}\n";
        for text in [&default, maps, "", "5", "a: [", "system: 5"] {
            assert_eq!(messages(text), [""; 0], "{text:?}");
        }
    }

    #[test]
    fn every_unsupported_key_exists() {
        let default = as_json(&ConfigFile::default());
        for key in UNSUPPORTED {
            assert!(at(&default, key).is_some_and(|value| !value.is_object()), "{key}");
        }
    }

    #[test]
    fn unsupported_keys_with_the_default_are_not_named() {
        assert!(unsupported_keys(&ConfigFile::default()).is_empty());
        let mut file = ConfigFile::default();
        file.system.sftp.bind_port = 2023;
        file.search.blacklisted_dirs.clear();
        file.api.port = 1;
        assert_eq!(unsupported_keys(&file), ["system.sftp.bind_port", "Search.blacklisted_dirs"]);
    }
}
