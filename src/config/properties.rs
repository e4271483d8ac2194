//! No content of `config.yml` makes the daemon panic, and what is accepted is within its limits.

use std::path::Path;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::pushed::put;
use super::*;

/// Keys of the file.
const KEYS: [&str; 65] = [
    "debug",
    "app_name",
    "uuid",
    "token_id",
    "token",
    "api.host",
    "api.port",
    "api.ssl.enabled",
    "api.ssl.cert",
    "api.ssl.key",
    "api.upload_limit",
    "api.trusted_proxies",
    "api.remote_download.max_redirects",
    "system.root_directory",
    "system.log_directory",
    "system.data",
    "system.backup_directory",
    "system.tmp_directory",
    "system.username",
    "system.timezone",
    "system.user.uid",
    "system.user.rootless.enabled",
    "system.user.passwd.directory",
    "system.machine_id.enable",
    "system.disk_check_interval",
    "system.activity_send_interval",
    "system.activity_send_count",
    "system.websocket_log_count",
    "system.sftp.bind_port",
    "system.crash_detection.timeout",
    "system.crash_detection_activity_lines",
    "system.backups.write_limit",
    "system.backups.compression_level",
    "system.backups.restore_host_allowlist",
    "system.backups.concurrent_backups",
    "system.backups.upload_limit",
    "docker.network.interface",
    "docker.network.dns",
    "docker.network.name",
    "docker.network.network_mode",
    "docker.network.driver",
    "docker.network.IPv6",
    "docker.network.network_mtu",
    "docker.network.interfaces.v4.subnet",
    "docker.network.interfaces.v4.gateway",
    "docker.network.interfaces.v6.subnet",
    "docker.registries",
    "docker.tmpfs_size",
    "docker.container_pid_limit",
    "docker.installer_limits.memory",
    "docker.installer_limits.cpu",
    "docker.overhead.override",
    "docker.overhead.default_multiplier",
    "docker.overhead.multipliers",
    "docker.userns_mode",
    "docker.log_config.type",
    "docker.log_config.config",
    "throttles.lines",
    "throttles.line_reset_interval",
    "remote",
    "remote_query.timeout",
    "remote_query.boot_servers_per_page",
    "remote_query.custom_headers",
    "allowed_mounts",
    "allowed_origins",
];

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        prop_oneof![Just(-1i64), Just(0), Just(1), Just(65_536), Just(i64::from(u32::MAX) + 1)].prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        prop_oneof![
            Just("/"),
            Just("relative"),
            Just("/a/../.."),
            Just("[::]"),
            Just("::1"),
            Just("0.0.0.0/0"),
            Just("10.0.0.1/33"),
            Just("Etc/GMT+5"),
            Just("../../etc/passwd"),
            Just("${HOME}"),
            Just("$"),
            Just("file://"),
            Just("file:///dev/null"),
            Just("http://"),
            Just("https://user:secret@host:1/x?y#z"),
            Just("1e999"),
            Just(".nan"),
            Just("yes"),
            Just("\u{0}"),
        ]
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(2, 8, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((any::<String>(), inner), 0..4)
                .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

fn meaning_of(text: &str) -> Option<NodeConfig> {
    let path = Path::new("/etc/pelican/config.yml");
    let file = ConfigFile::parse(path, text).ok()?;
    let owner = Owner { name: "pelican".into(), uid: 988, gid: 987 };
    NodeConfig::resolve(&file, path, &|_| None, owner, "UTC".into()).ok()
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in any::<String>()) {
        meaning_of(&text);
    }

    #[test]
    fn any_values_are_read_or_refused(values in prop::collection::vec((prop::sample::select(KEYS.to_vec()), any_value()), 0..5)) {
        let mut document = json!({"token_id": "abc", "token": "def", "remote": "https://panel.example.com"});
        for (key, value) in values {
            put(&mut document, key, value);
        }
        let Some(node) = meaning_of(&document.to_string()) else { return Ok(()) };
        // Nothing divides by these, waits for ever, or spins.
        prop_assert!(node.workers > 0 && node.concurrent_installs > 0);
        prop_assert!(node.directories.root.is_absolute() && node.directories.tmp.is_absolute());
        prop_assert!(!format!("{node:?}").contains("def\""), "the token is shown");
        if let Some(panel) = &node.panel {
            prop_assert!(!panel.timeout.is_zero() && panel.servers_per_page > 0);
        }
    }
}
