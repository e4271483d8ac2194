use serde_json::{Value, json};

use super::*;

fn parse(text: &str) -> ConfigFile {
    ConfigFile::parse(Path::new("config.yml"), text).unwrap()
}

fn error(text: &str) -> String {
    ConfigFile::parse(Path::new("/etc/pelican/config.yml"), text).unwrap_err().to_string()
}

fn at<'a>(value: &'a Value, key: &str) -> &'a Value {
    key.split('.').fold(value, |value, part| &value[part])
}

/// A file in which one key is set.
fn only(key: &str, value: &Value) -> String {
    let document = key.rsplit('.').fold(value.clone(), |inner, part| json!({ part: inner }));
    crate::yaml::to_string(&document).unwrap()
}

/// Keys that hold secrets, which are not serialized.
const SECRETS: [&str; 4] = ["token_id", "token", "docker.registries", "remote_query.custom_headers"];

/// Every key, its default, and another value.
fn table() -> Vec<(&'static str, Value, Value)> {
    vec![
        ("debug", json!(false), json!(true)),
        ("quiet", json!(false), json!(true)),
        ("app_name", json!("pelican"), json!("My Host")),
        ("uuid", json!(""), json!("89295669-965c-4b66-91d3-7fd9ecc46a52")),
        ("token_id", json!(""), json!("Q4FyJYmHzHLmy7D8")),
        ("token", json!(""), json!("file:///run/token")),
        ("api.host", json!("0.0.0.0"), json!("::1")),
        ("api.port", json!(8080), json!(443)),
        ("api.ssl.enabled", json!(false), json!(true)),
        ("api.ssl.cert", json!(""), json!("/c.pem")),
        ("api.ssl.key", json!(""), json!("/k.pem")),
        ("api.disable_remote_download", json!(false), json!(true)),
        ("api.remote_download.max_redirects", json!(10), json!(0)),
        ("api.upload_limit", json!(100), json!(7)),
        ("api.trusted_proxies", json!([]), json!(["10.0.0.0/8"])),
        ("system.root_directory", json!("/var/lib/pelican"), json!("/srv/p")),
        ("system.log_directory", Value::Null, json!("/var/log/pelican")),
        ("system.data", Value::Null, json!("/var/lib/pelican/volumes")),
        ("system.archive_directory", Value::Null, json!("/srv/a")),
        ("system.backup_directory", Value::Null, json!("/srv/b")),
        ("system.tmp_directory", Value::Null, json!("/tmp/pelican")),
        ("system.username", json!("pelican"), json!("games")),
        ("system.timezone", json!(""), json!("Europe/Berlin")),
        ("system.user.rootless.enabled", json!(false), json!(true)),
        ("system.user.rootless.container_uid", json!(0), json!(5)),
        ("system.user.rootless.container_gid", json!(0), json!(6)),
        ("system.user.uid", json!(0), json!(988)),
        ("system.user.gid", json!(0), json!(988)),
        ("system.user.passwd.enable", json!(true), json!(false)),
        ("system.user.passwd.directory", Value::Null, json!("/etc/pelican")),
        ("system.machine_id.enable", json!(true), json!(false)),
        ("system.machine_id.directory", Value::Null, json!("/etc/pelican/machine-id")),
        ("system.disk_check_interval", json!(150), json!(0)),
        ("system.quotas.enabled", json!(false), json!(true)),
        ("system.activity_send_interval", json!(60), json!(1)),
        ("system.activity_send_count", json!(100), json!(1)),
        ("system.check_permissions_on_boot", json!(true), json!(false)),
        ("system.enable_log_rotate", json!(true), json!(false)),
        ("system.websocket_log_count", json!(150), json!(0)),
        ("system.sftp.bind_address", json!("0.0.0.0"), json!("127.0.0.1")),
        ("system.sftp.bind_port", json!(2022), json!(22)),
        ("system.sftp.read_only", json!(false), json!(true)),
        ("system.sftp.key_only", json!(false), json!(true)),
        ("system.crash_detection.enabled", json!(true), json!(false)),
        ("system.crash_detection.detect_clean_exit_as_crash", json!(true), json!(false)),
        ("system.crash_detection.timeout", json!(60), json!(0)),
        ("system.crash_detection_activity_lines", json!(2), json!(0)),
        ("system.backups.write_limit", json!(0), json!(20)),
        ("system.backups.compression_level", json!("best_speed"), json!("none")),
        ("system.backups.restore_host_allowlist", json!([]), json!(["minio.local"])),
        ("system.backups.concurrent_backups", json!(2), json!(1)),
        ("system.backups.upload_limit", json!(0), json!(20)),
        ("system.backups.remove_backups_on_server_delete", json!(true), json!(false)),
        ("system.transfers.download_limit", json!(0), json!(20)),
        ("system.transfers.upload_limit", json!(0), json!(20)),
        ("system.transfers.storage_pool.enabled", json!(false), json!(true)),
        ("system.transfers.storage_pool.pool_name", json!(""), json!("nfs")),
        ("system.openat_mode", json!("auto"), json!("openat2")),
        ("docker.network.interface", json!("172.18.0.1"), json!("10.1.0.1")),
        ("docker.network.dns", json!(["1.1.1.1", "1.0.0.1"]), json!([])),
        ("docker.network.name", json!("pelican_nw"), json!("games")),
        ("docker.network.ispn", json!(false), json!(true)),
        ("docker.network.IPv6", json!(true), json!(false)),
        ("docker.network.driver", json!("bridge"), json!("macvlan")),
        ("docker.network.network_mode", json!(""), json!("host")),
        ("docker.network.mode", json!(""), json!("host")),
        ("docker.network.is_internal", json!(false), json!(true)),
        ("docker.network.enable_icc", json!(true), json!(false)),
        ("docker.network.network_mtu", json!(1500), json!(1400)),
        ("docker.network.interfaces.v4.subnet", json!("172.18.0.0/16"), json!("10.1.0.0/16")),
        ("docker.network.interfaces.v4.gateway", json!(""), json!("10.1.0.1")),
        ("docker.network.interfaces.v6.subnet", json!("fdba:17c8:6c94::/64"), json!("fd00::/64")),
        ("docker.network.interfaces.v6.gateway", json!(""), json!("fd00::1")),
        ("docker.domainname", json!(""), json!("games.example.com")),
        ("docker.registries", json!({}), json!({"ghcr.io": {"username": "me", "password": "1234"}})),
        ("docker.tmpfs_size", json!(100), json!(64)),
        ("docker.container_pid_limit", json!(512), json!(-1)),
        ("docker.installer_limits.memory", json!(1024), json!(256)),
        ("docker.installer_limits.cpu", json!(100), json!(0)),
        ("docker.overhead.override", json!(false), json!(true)),
        ("docker.overhead.default_multiplier", json!(1.05), json!(1.5)),
        ("docker.overhead.multipliers", json!({}), json!({"256": 1.25, "512": 1.3})),
        ("docker.use_performant_inspect", json!(true), json!(false)),
        ("docker.userns_mode", json!(""), json!("host")),
        ("docker.system_ips", json!([]), json!(["192.0.2.1"])),
        ("docker.log_config.type", json!("local"), json!("journald")),
        ("docker.log_config.config", json!({}), json!({"max-size": "1m", "max-file": "3"})),
        ("throttles.enabled", json!(true), json!(false)),
        ("throttles.lines", json!(2000), json!(10)),
        ("throttles.line_reset_interval", json!(100), json!(10)),
        ("remote", json!(""), json!("https://panel.example.com")),
        ("remote_query.timeout", json!(30), json!(5)),
        ("remote_query.boot_servers_per_page", json!(50), json!(2)),
        ("remote_query.custom_headers", json!({}), json!({"X-Access": "letmein"})),
        ("allowed_mounts", json!([]), json!(["/mnt/shared"])),
        (
            "Search.blacklisted_dirs",
            json!(["node_modules", ".git", ".wine", "appcache", "depotcache", "vendor"]),
            json!([]),
        ),
        ("Search.max_recursion_depth", json!(8), json!(3)),
        ("BlockBaseDirMount", json!(true), json!(false)),
        ("allowed_origins", json!([]), json!(["https://shop.example.com"])),
        ("allow_cors_private_network", json!(false), json!(true)),
        ("ignore_panel_config_updates", json!(false), json!(true)),
        ("alula.socket", Value::Null, json!("/run/alula.sock")),
        ("alula.socket_group", Value::Null, json!("games")),
        ("alula.socket_mode", Value::Null, json!("0660")),
        ("alula.reconcile.workers", json!(8), json!(2)),
        ("alula.reconcile.concurrent_installs", json!(10), json!(1)),
        ("alula.reconcile.concurrent_starts", json!(0), json!(2)),
        ("alula.network.isolate", json!(false), json!(true)),
        ("alula.network.range", json!("10.208.0.0/12"), json!("10.99.0.0/16")),
        ("alula.install.timeout_seconds", json!(3600), json!(0)),
        ("alula.install.fail_on_nonzero_exit", json!(false), json!(true)),
        ("alula.pull.policy", json!("always"), json!("never")),
        ("alula.logs.max_size_mib", json!(5), json!(1)),
        ("alula.logs.max_files", json!(3), json!(1)),
        (
            "alula.backups",
            json!([]),
            json!([{
                "name": "nightly",
                "selector": {"servers": ["lobby"], "labels": {"team": "blue"}},
                "schedule": "0 4 * * *",
                "keep": {"last": 3, "daily": 7, "weekly": 4, "monthly": 6},
            }]),
        ),
        ("alula.trash.panel", json!(false), json!(true)),
    ]
}

#[test]
fn every_key_has_its_default() {
    let default = serde_json::to_value(ConfigFile::default()).unwrap();
    for (key, expected, _) in table() {
        assert_eq!(at(&default, key), &expected, "{key}");
    }
    assert_eq!(parse(""), ConfigFile::default());
    assert_eq!(parse("# nothing yet\n"), ConfigFile::default());
    assert_eq!(parse("---\n"), ConfigFile::default());
    assert_eq!(parse("{}"), ConfigFile::default());
}

#[test]
fn the_table_above_is_complete() {
    fn leaves(value: &Value, path: String, found: &mut Vec<String>) {
        match value.as_object().filter(|map| !map.is_empty()) {
            None => found.push(path.trim_start_matches('.').to_owned()),
            Some(map) => map.iter().for_each(|(key, value)| leaves(value, format!("{path}.{key}"), found)),
        }
    }
    let mut found = Vec::new();
    leaves(&serde_json::to_value(ConfigFile::default()).unwrap(), String::new(), &mut found);
    let listed: Vec<_> = table().iter().map(|(key, ..)| key.to_string()).collect();
    assert_eq!(found, listed);
}

#[test]
fn every_key_is_read() {
    for (key, default, other) in table() {
        assert_ne!(default, other, "{key}: the table must hold another value than the default");
        let file = parse(&only(key, &other));
        let mut written = serde_json::to_value(&file).unwrap();
        if SECRETS.contains(&key) {
            assert_ne!(file, ConfigFile::default(), "{key}");
            *key.split('.').fold(&mut written, |value, part| &mut value[part]) = other.clone();
        }
        let mut expected = serde_json::to_value(ConfigFile::default()).unwrap();
        *key.split('.').fold(&mut expected, |value, part| &mut value[part]) = other;
        assert_eq!(written, expected, "{key}");
    }
}

#[test]
fn a_key_without_a_value_is_absent() {
    for (key, _, _) in table() {
        assert_eq!(parse(&only(key, &Value::Null)), ConfigFile::default(), "{key}");
    }
    assert_eq!(parse("system:\napi:\n  ssl:\n"), ConfigFile::default());
}

#[test]
fn unknown_keys_are_ignored() {
    let file = parse("some_future_option: {a: [1, {b: 2}]}\nsystem: {another: true, username: me}\n5: x\nsearch: 1\n");
    let mut expected = ConfigFile::default();
    expected.system.username = "me".into();
    assert_eq!(file, expected);
}

#[test]
fn other_spellings_that_wings_accepts() {
    let file = parse(
        "debug: yes\nquiet: Off\ntoken_id: 1234567890123456\ntoken: 12e5\nuuid: 0777\napp_name: true\n\
         docker: {log_config: {config: {max-file: 3, compress: false}}, \
         overhead: {default_multiplier: 2, multipliers: {\"64\": 1.5, 128: 2}}}\n",
    );
    assert!(file.debug && !file.quiet);
    assert_eq!(file.token_id.expose(), "1234567890123456");
    assert_eq!(file.token.expose(), "12e5");
    assert_eq!(file.uuid, "0777");
    assert_eq!(file.app_name, "true");
    let options = &file.docker.log_config.options;
    assert_eq!((options["max-file"].as_str(), options["compress"].as_str()), ("3", "false"));
    assert_eq!(file.docker.overhead.default_multiplier, 2.0);
    assert_eq!(file.docker.overhead.multipliers, BTreeMap::from([("64".into(), 1.5), ("128".into(), 2.0)]));
}

#[test]
fn a_wrong_type_is_an_error_with_position_key_and_expected_type() {
    for (text, expected) in [
        ("system: 5\n", &["config.yml:1:9", "system", "integer `5`", "a mapping of keys"][..]),
        ("debug: false\napi:\n  port: http\n", &["config.yml:3:9", "api.port", "\"http\"", "a whole number"]),
        ("api:\n  port: 80.5.1\n", &[":2:9", "api.port", "80.5", "a whole number"]),
        ("api: {host: [1]}\n", &["api.host", "a list", "a text"]),
        ("debug: maybe\n", &[":1:8", "debug", "maybe", "true or false"]),
        ("debug: 1\n", &["debug", "true or false"]),
        ("allowed_mounts: /mnt\n", &["allowed_mounts", "/mnt", "a list"]),
        ("allowed_mounts: [a, {b: c}]\n", &["allowed_mounts", "a text"]),
        ("docker:\n  registries: [ghcr.io]\n", &[":2:", "docker.registries", "a mapping"]),
        ("docker: {registries: {ghcr.io: me}}\n", &["ghcr.io", "a mapping of keys"]),
        ("docker: {overhead: {default_multiplier: lots}}\n", &["default_multiplier", "a number"]),
        ("- a\n- b\n", &["a list", "a mapping of keys"]),
        ("just a text\n", &["just a text", "a mapping of keys"]),
    ] {
        let error = error(text);
        for part in expected.iter().chain(&["/etc/pelican/config.yml:"]) {
            assert!(error.contains(part), "{text:?}: {error:?} lacks {part:?}");
        }
    }
}

#[test]
fn a_text_that_is_not_yaml_is_an_error_with_a_position() {
    for text in ["\tno: yaml", "api: [1, 2", "a: b: c", "app_name: \"x\n"] {
        let error = error(text);
        assert!(error.starts_with("/etc/pelican/config.yml:"), "{text:?}: {error}");
        assert!(error.as_bytes()["/etc/pelican/config.yml:".len()].is_ascii_digit(), "{text:?}: {error}");
    }
}

#[test]
fn unknown_keys_in_the_section_alula_are_errors() {
    for (text, expected) in [
        ("alula:\n  sokcet: x\n", &[":2:3", "alula", "unknown field `sokcet`", "did you mean `socket`?"][..]),
        ("alula: {reconcile: {worker: 1}}\n", &["`worker`", "`workers`"]),
        ("alula: {install: {timeout: 1}}\n", &["`timeout`", "`timeout_seconds`"]),
        ("alula: {pull: {policy: sometimes}}\n", &["alula.pull.policy", "sometimes", "`if_not_present`"]),
        ("alula: {logs: 3}\n", &["alula.logs", "a mapping"]),
    ] {
        let error = error(text);
        for part in expected {
            assert!(error.contains(part), "{text:?}: {error:?} lacks {part:?}");
        }
    }
}

#[test]
fn debug_and_serialize_hide_secrets() {
    let file = parse(
        "token_id: hush1\ntoken: hush2\ndocker: {registries: {a: {username: u, password: hush3}}}\n\
         remote_query: {custom_headers: {X: hush4}}\n",
    );
    assert!(!format!("{file:?}{}", serde_json::to_string(&file).unwrap()).contains("hush"));
}

/// The file that the panel displays for a node.
#[test]
fn the_panels_document() {
    let file = parse(
        "debug: false\nuuid: 89295669-965c-4b66-91d3-7fd9ecc46a52\ntoken_id: Q4FyJYmHzHLmy7D8\n\
         token: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\napi:\n  host: 0.0.0.0\n  port: 19081\n\
         \x20 ssl:\n    enabled: false\n    cert: /etc/letsencrypt/live/127.0.0.2/fullchain.pem\n    \
         key: /etc/letsencrypt/live/127.0.0.2/privkey.pem\n  upload_limit: 100\nsystem:\n  \
         data: /srv/pelican/node1/volumes\n  sftp:\n    bind_port: 19022\nallowed_mounts: []\n\
         remote: 'http://127.0.0.1:19000'\n",
    );
    assert_eq!(file.api.port, 19081);
    assert_eq!(file.api.ssl.key, "/etc/letsencrypt/live/127.0.0.2/privkey.pem");
    assert_eq!(file.system.data.as_deref(), Some("/srv/pelican/node1/volumes"));
    assert_eq!(file.system.sftp.bind_port, 19022);
    assert_eq!(file.remote, "http://127.0.0.1:19000");
    assert_eq!(file.token.expose().len(), 64);
}
