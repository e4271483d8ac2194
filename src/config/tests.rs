use std::fs;
use std::time::Duration;

use super::*;
use crate::model::ServerId;

const PANEL: &str = "token_id: abc\ntoken: def\nremote: https://panel.example.com/\n";

fn owner() -> Owner {
    Owner { name: "pelican".into(), uid: 988, gid: 987 }
}

fn resolve(text: &str) -> Result<NodeConfig, Vec<Problem>> {
    let path = Path::new("/etc/pelican/config.yml");
    let file = ConfigFile::parse(path, text).unwrap();
    NodeConfig::resolve(&file, path, &|_| None, owner(), "UTC".into())
}

fn meaning(text: &str) -> NodeConfig {
    resolve(text).unwrap()
}

/// A file in a folder of its own.
fn write(text: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.yml");
    fs::write(&path, text).unwrap();
    (dir, path)
}

fn load_text(text: &str) -> Result<Loaded, ConfigError> {
    let (dir, path) = write(text);
    load(&path, HostEnvironment { variables: &|_| None, etc: dir.path() })
}

#[test]
fn a_file_without_remote_is_a_node_without_panel() {
    let loaded = load_text("debug: false\n").unwrap();
    let node = &loaded.node;
    assert!(node.panel.is_none() && !node.serves_api());
    assert_eq!(node.api.address, "0.0.0.0:8080");
    assert_eq!(node.timezone, "UTC");
    assert_eq!(node.container_user().to_string(), format!("{}:{}", node.owner.uid, node.owner.gid));
    assert_eq!(node.disk_check_interval, Some(Duration::from_secs(150)));
    assert_eq!(node.install_timeout, Some(Duration::from_secs(3600)));
    assert_eq!((node.workers, node.concurrent_installs), (8, 10));
    assert_eq!((node.max_transcript_bytes, node.max_transcript_files), (5 * 1024 * 1024, 3));
    assert_eq!(node.pull_policy, PullPolicy::Always);
    assert_eq!(node.live.get().log_config.options.len(), 4);
    assert!(loaded.notices.is_empty());
}

#[test]
fn a_missing_file_names_itself_and_the_default() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("none.yml");
    let error = load(&path, HostEnvironment::of_this_process()).unwrap_err();
    assert!(matches!(error, ConfigError::Missing { .. }));
    let text = error.to_string();
    assert!(text.contains("none.yml") && text.contains(DEFAULT_PATH) && text.contains("--config"), "{text}");
}

#[test]
fn files_that_cannot_be_read() {
    let (dir, path) = write("");
    let host_environment = HostEnvironment { variables: &|_| None, etc: dir.path() };
    fs::write(&path, [0xff, 0xfe, 0x00]).unwrap();
    assert!(load(&path, host_environment).unwrap_err().to_string().contains("UTF-8"));
    fs::write(&path, "#".repeat(crate::yaml::MAX_BYTES + 1)).unwrap();
    assert!(load(&path, host_environment).unwrap_err().to_string().contains("longer than"));
    assert!(matches!(load(dir.path(), host_environment).unwrap_err(), ConfigError::Unreadable { .. }));
}

#[test]
fn files_that_are_not_yaml_are_errors_with_a_position() {
    for text in ["\tno: yaml", "api: [1, 2", "system: 5\n"] {
        let error = load_text(text).unwrap_err();
        assert!(matches!(error, ConfigError::Invalid { .. }), "{error}");
        let text = error.to_string();
        let (_, position) = text.split_once("config.yml:").unwrap();
        assert!(position.starts_with(|c: char| c.is_ascii_digit()), "{text}");
    }
}

#[test]
fn an_invalid_value_is_an_error_with_file_position_and_key() {
    let error = load_text("debug: true\napi:\n  port: 70000\n").unwrap_err().to_string();
    assert!(error.contains("config.yml:3:3: api.port: is 70000: expected 0 to 65535"), "{error}");
    let error = load_text("debug: true\napi:\n  port: 70000\n  host: https://x\ntoken: a b\n").unwrap_err().to_string();
    assert_eq!(error.lines().count(), 3, "{error}");
}

#[test]
fn invalid_values_are_errors() {
    for (text, key) in [
        ("api: {port: -1}".to_owned(), "api.port"),
        ("api: {ssl: {enabled: true, key: /k}}".into(), "api.ssl.cert"),
        ("api: {ssl: {enabled: true, cert: /c}}".into(), "api.ssl.key"),
        ("api: {host: 'https://node.example.com'}".into(), "api.host"),
        ("api: {host: 'node.example.com:8080'}".into(), "api.host"),
        ("api: {host: '[::1]:80'}".into(), "api.host"),
        ("api: {host: node.example.com/x}".into(), "api.host"),
        ("api: {host: 'a b'}".into(), "api.host"),
        ("api: {host: 256.1.1.1}".into(), "api.host"),
        ("docker: {network: {interfaces: {v4: {subnet: 10.0.0.0/33}}}}".into(), "docker.network.interfaces.v4.subnet"),
        ("token: a b".into(), "token"),
        ("remote: https://panel.example.com\ntoken: x".into(), "token_id"),
        ("remote: https://panel.example.com\ntoken_id: x".into(), "token"),
        ("token: x\ntoken_id: x\nremote: panel.example.com".into(), "remote"),
        ("token: x\ntoken_id: x\nremote: ftp://panel.example.com".into(), "remote"),
        ("token: x\ntoken_id: x\nremote: https://panel.example.com/?a=b".into(), "remote"),
        ("system: {root_directory: \"\"}".into(), "system.root_directory"),
        ("alula: {reconcile: {workers: 0}}".into(), "alula.reconcile.workers"),
        ("alula: {logs: {max_files: 0}}".into(), "alula.logs.max_files"),
        ("alula: {install: {timeout_seconds: -1}}".into(), "alula.install.timeout_seconds"),
    ] {
        assert_eq!(resolve(&text).unwrap_err()[0].key, key, "{text}");
    }
}

#[test]
fn invalid_values_that_wings_starts_with_are_replaced() {
    let plain = meaning(PANEL);
    assert_eq!(plain.adjusted, []);
    for (text, key, used) in [
        ("remote_query: {timeout: 0}", "remote_query.timeout", "30 is used"),
        ("remote_query: {timeout: -5}", "remote_query.timeout", "30 is used"),
        ("remote_query: {timeout: 100000}", "remote_query.timeout", "3600 is used"),
        ("remote_query: {boot_servers_per_page: 0}", "remote_query.boot_servers_per_page", "50 is used"),
        ("remote_query: {custom_headers: {\"a b\": c}}", "remote_query.custom_headers", "it is left out"),
        ("remote_query: {custom_headers: {a: \"b\\nc\"}}", "remote_query.custom_headers", "it is left out"),
        ("system: {disk_check_interval: -1}", "system.disk_check_interval", "150 is used"),
        ("system: {crash_detection: {timeout: -5}}", "system.crash_detection.timeout", "0 is used"),
        (
            "system: {user: {rootless: {enabled: true, container_uid: -1}}}",
            "system.user.rootless.container_uid",
            "0 is used",
        ),
        ("docker: {tmpfs_size: -1}", "docker.tmpfs_size", "100 is used"),
        ("docker: {container_pid_limit: -2}", "docker.container_pid_limit", "-1 is used"),
        ("docker: {installer_limits: {memory: -1}}", "docker.installer_limits.memory", "1024 is used"),
        ("docker: {installer_limits: {cpu: -1}}", "docker.installer_limits.cpu", "100 is used"),
        ("docker: {network: {name: \"\"}}", "docker.network.name", "pelican_nw is used"),
        (
            "docker: {overhead: {override: true, default_multiplier: .nan}}",
            "docker.overhead.default_multiplier",
            "1.0 is used",
        ),
        ("docker: {installer_limits: {memory: 5}}", "docker.installer_limits.memory", "6 is used"),
        ("docker: {userns_mode: private}", "docker.userns_mode", "nothing is used"),
        ("docker: {network: {network_mtu: -1}}", "docker.network.network_mtu", "1500 is used"),
        ("docker: {network: {network_mtu: 99999}}", "docker.network.network_mtu", "65535 is used"),
        ("docker: {network: {dns: [1.1.1.1, resolver]}}", "docker.network.dns", "it is left out"),
        ("docker: {network: {interface: eth0}}", "docker.network.interface", "172.18.0.1 is used"),
        ("docker: {network: {interface: ''}}", "docker.network.interface", "172.18.0.1 is used"),
        (
            "docker: {overhead: {override: true, multipliers: {512: 0.5}}}",
            "docker.overhead.multipliers.512",
            "1.0 is used",
        ),
        ("system: {log_directory: /}", "system.log_directory", "/var/lib/pelican is used"),
        ("system: {archive_directory: //}", "system.archive_directory", "/var/lib/pelican/archives is used"),
        ("system: {backup_directory: /}", "system.backup_directory", "/var/lib/pelican/backups is used"),
        ("system: {tmp_directory: /}", "system.tmp_directory", "/tmp/pelican is used"),
        ("system: {machine_id: {directory: /}}", "system.machine_id.directory", "/etc/pelican/machine-id is used"),
        ("system: {user: {passwd: {directory: /etc/}}}", "system.user.passwd.directory", "/etc/pelican is used"),
        ("system: {user: {passwd: {directory: /}}}", "system.user.passwd.directory", "/etc/pelican is used"),
        ("system: {root_directory: /, tmp_directory: /t}", "system.root_directory", "of its own is safer"),
        ("system: {data: /}", "system.data", "of its own is safer"),
        ("allowed_mounts: [mnt, /mnt]", "allowed_mounts", "it is left out"),
        ("throttles: {lines: 0}", "throttles.lines", "2000 is used"),
        ("throttles: {line_reset_interval: -1}", "throttles.line_reset_interval", "100 is used"),
        ("system: {backups: {compression_level: best}}", "system.backups.compression_level", "best_speed is used"),
        (
            "system: {backups: {restore_host_allowlist: [minio.local, 'http://minio']}}",
            "system.backups.restore_host_allowlist",
            "it is left out",
        ),
        ("system: {backups: {concurrent_backups: 0}}", "system.backups.concurrent_backups", "2 is used"),
        ("system: {websocket_log_count: -5}", "system.websocket_log_count", "150 is used"),
    ] {
        let node = meaning(&format!("{PANEL}{text}"));
        let [problem] = node.adjusted.as_slice() else { panic!("{text}: {:?}", node.adjusted) };
        assert_eq!(problem.key, key, "{text}");
        assert!(problem.message.ends_with(used), "{text}: {problem}");
    }
    let node = meaning(&format!("{PANEL}remote_query: {{timeout: 0}}\nallowed_mounts: [mnt, /mnt]"));
    assert_eq!(node.panel.unwrap().timeout, Duration::from_secs(30));
    assert_eq!(node.allowed_mounts, [Path::new("/mnt")]);
}

#[test]
fn values_that_have_no_effect_here_are_never_refused() {
    for text in [
        "system: {openat_mode: bogus}",
        "system: {backups: {write_limit: -1, upload_limit: -1}, transfers: {download_limit: -1, upload_limit: -1}}",
        "docker: {system_ips: [nowhere], network: {driver: bogus, IPv6: false, interfaces: {v6: {subnet: x}}}}",
        "docker: {log_config: {type: bogus, config: {a: b}}, registries: {'': {}, '::': {username: a}}}",
        "docker: {overhead: {multipliers: {1_024: 1.2, 0x800: 1.1}}}",
        "allowed_origins: ['', \"a\\nb\"]",
        "uuid: nothing\napp_name: ''\ndebug: true\nquiet: true",
        "api: {host: '', port: 0}",
    ] {
        let node = meaning(&format!("{PANEL}{text}"));
        assert_eq!(node.adjusted, [], "{text}");
    }
}

#[test]
fn install_scripts_of_a_directory_of_another_user_are_never_run() {
    if !rustix::process::geteuid().is_root() {
        return; // Only root can give a directory away.
    }
    let (dir, path) = write("system: {root_directory: root, tmp_directory: tmp, user: {rootless: {enabled: true}}}\n");
    fs::create_dir(dir.path().join("tmp")).unwrap();
    std::os::unix::fs::chown(dir.path().join("tmp"), Some(12_345), None).unwrap();
    let loaded = load(&path, HostEnvironment { variables: &|_| None, etc: dir.path() }).unwrap();
    assert_eq!(loaded.node.directories.tmp, dir.path().join("root/tmp"));
    assert!(
        loaded.notices[0].contains("config.yml:1:") && loaded.notices[0].contains("user 12345"),
        "{:?}",
        loaded.notices
    );
}

#[test]
fn an_unknown_timezone_is_replaced_with_a_warning() {
    let loaded = load_text("system:\n  timezone: UTC+8\n").unwrap();
    assert_eq!(loaded.node.timezone, "UTC");
    let [notice] = loaded.notices.as_slice() else { panic!("{:?}", loaded.notices) };
    assert!(
        notice.contains("config.yml:2:3: system.timezone: \"UTC+8\"") && notice.ends_with("UTC is used"),
        "{notice}"
    );
}

#[test]
fn a_file_that_is_not_a_nodes_is_refused() {
    for (text, expected) in [
        ("apiVersion: alula/v1\nkind: Server\nmetadata: {}\nspec: {}\n", "manifest of a server"),
        ("kind: Server\n", "manifest of a server"),
        ("kind: Server\nsystem: {}\n", "manifest of a server"),
        ("version: '3'\nservices: {}\n", "no key of a node's file"),
        ("", "the file is empty"),
        ("# nothing\n", "no key of a node's file"),
        ("---\n---\ndebug: true\n", "no key of a node's file"),
    ] {
        let error = load_text(text).unwrap_err().to_string();
        assert!(error.contains(expected), "{text:?}: {error}");
    }
    assert!(load_text("debug: true\nversion: 3\n").is_ok());
}

#[test]
fn a_misspelt_key_that_decides_where_data_lies_is_an_error() {
    for (text, key, meant) in [
        ("system: {root_directoy: /srv}", "system.root_directoy", "system.root_directory"),
        ("system: {root-directory: /srv}", "system.root-directory", "system.root_directory"),
        ("system: {Root_Directory: /srv}", "system.Root_Directory", "system.root_directory"),
        ("system: {dat: /srv}", "system.dat", "system.data"),
        ("system: {bakcup_directory: /srv}", "system.bakcup_directory", "system.backup_directory"),
        ("debug: true\nsytem: {root_directory: /srv}", "sytem", "system"),
        ("debug: true\nSystem: {root_directory: /srv}", "System", "system"),
        ("debug: true\nroot_directory: /srv", "root_directory", "system.root_directory"),
        ("system: {user: {passwd: {directry: /srv}}}", "system.user.passwd.directry", "system.user.passwd.directory"),
    ] {
        let Err(ConfigError::Invalid { faults, .. }) = load_text(text) else { panic!("{text}") };
        assert_eq!(faults[0].path.as_deref(), Some(key), "{text}");
        assert!(faults[0].message.ends_with(&format!("did you mean `{meant}`?")), "{}", faults[0]);
    }
    for text in ["system: {usernme: me}", "debug: true\nremot: x", "system: {root_dir: /srv}"] {
        assert_eq!(load_text(text).unwrap().notices.len(), 1, "{text}");
    }
}

#[test]
fn a_missing_certificate_is_a_warning() {
    let loaded = load_text("api: {ssl: {enabled: true, cert: no/c.pem, key: no/k.pem}}\n").unwrap();
    let [cert, key] = loaded.notices.as_slice() else { panic!("{:?}", loaded.notices) };
    assert!(cert.contains("api.ssl.cert: cannot read") && key.contains("api.ssl.key: cannot read"), "{cert} {key}");
}

#[test]
fn sections_that_are_there_twice_and_further_documents_are_warnings() {
    let loaded = load_text("api: {port: 1}\napi: {host: x}\n---\nb: 1\n").unwrap();
    let [twice, more] = loaded.notices.as_slice() else { panic!("{:?}", loaded.notices) };
    assert!(twice.contains("api: is there twice") && more.contains("only the first document"), "{twice} {more}");
}

#[test]
fn replaced_values_and_unknown_keys_are_named_with_their_position() {
    let loaded =
        load_text("debug: true\nremot: https://panel.example.com\nsystem:\n  disk_check_interval: -1\n").unwrap();
    let [unknown, replaced] = loaded.notices.as_slice() else { panic!("{:?}", loaded.notices) };
    assert!(unknown.ends_with("config.yml:2:1: remot: unknown key, ignored; did you mean `remote`?"));
    let expected = "config.yml:4:3: system.disk_check_interval: is -1: expected 0 to 3155760000 seconds; 150 is used";
    assert!(replaced.ends_with(expected), "{replaced}");
}

#[test]
fn the_settings_of_the_panel_client() {
    let node = meaning(&format!(
        "{PANEL}remote_query: {{timeout: 5, boot_servers_per_page: 2, \
         custom_headers: {{X-Access: letmein, authorization: no, User-Agent: no, ACCEPT: no, Content-type: no}}}}"
    ));
    let panel = node.panel.unwrap();
    assert_eq!(panel.remote, "https://panel.example.com/");
    assert_eq!((panel.token_id.as_str(), panel.token.expose()), ("abc", "def"));
    assert_eq!((panel.timeout, panel.servers_per_page), (Duration::from_secs(5), 2));
    let [(name, value)] = panel.custom_headers.as_slice() else { panic!("{:?}", panel.custom_headers) };
    assert_eq!((name.as_str(), value.as_bytes()), ("x-access", b"letmein".as_slice()));
    assert!(node.live.get().token.matches(b"def"));
    assert_eq!(node.live.get().token_id, "abc");
}

#[test]
fn a_token_without_panel_serves_the_api() {
    let node = meaning("token: def\n");
    assert_eq!(node.panel, None);
    assert!(node.live.get().token.matches(b"def"));
}

#[test]
fn the_settings_of_the_api() {
    for (host, address) in [
        ("0.0.0.0", "0.0.0.0:8080"),
        ("", "0.0.0.0:8080"),
        ("::", "[::]:8080"),
        ("[::1]", "[::1]:8080"),
        (" ::1 ", "[::1]:8080"),
        ("fe80::1%eth0", "[fe80::1%eth0]:8080"),
        ("node.example.com", "node.example.com:8080"),
    ] {
        assert_eq!(meaning(&format!("api: {{host: '{host}'}}")).api.address, address);
    }
    let api = meaning(
        "api: {port: 0, ssl: {enabled: yes, cert: tls/c.pem, key: /k.pem}}\n\
         allowed_origins: ['*']\nallow_cors_private_network: true\n",
    )
    .api;
    assert_eq!(api.address, "0.0.0.0:0");
    let tls = api.tls.unwrap();
    assert_eq!((tls.cert, tls.key), ("/etc/pelican/tls/c.pem".into(), "/k.pem".into()));
    assert_eq!(api.allowed_origins, ["*"]);
    assert!(api.allow_cors_private_network);
}

#[test]
fn the_default_directories() {
    let directories = meaning("").directories;
    let id: ServerId = "550e8400-e29b-41d4-a716-446655440000".parse().unwrap();
    let path = |path: PathBuf| path.display().to_string();
    assert_eq!(path(directories.server_data(&id)), format!("/var/lib/pelican/servers/{id}/data"));
    assert_eq!(path(directories.log.clone()), "/var/lib/pelican");
    assert_eq!(path(directories.daemon_log()), "/var/lib/pelican/wings.log");
    assert_eq!(path(directories.machine_id.clone()), "/etc/pelican/machine-id");
    assert_eq!(path(directories.passwd), "/etc/pelican");
    assert_eq!(path(directories.tmp), "/tmp/pelican");
    assert_eq!(path(directories.backup), "/var/lib/pelican/backups");
    assert_eq!(path(directories.archive), "/var/lib/pelican/archives");
    assert_eq!(path(directories.socket), "/var/lib/pelican/alula.sock");
}

#[test]
fn all_directories_are_below_another_state_folder() {
    // A relative path starts at the folder of the file.
    let directories = meaning("system: {root_directory: ./state}").directories;
    assert_eq!(directories.root, Path::new("/etc/pelican/state"));
    for path in [
        &directories.log,
        &directories.archive,
        &directories.backup,
        &directories.tmp,
        &directories.passwd,
        &directories.machine_id,
        &directories.socket,
    ] {
        assert!(path.starts_with(&directories.root), "{}", path.display());
    }
}

#[test]
fn directories_that_the_file_names_are_used() {
    let directories = meaning(
        "system: {data: /srv/volumes/, log_directory: /var/log/pelican, backup_directory: /b, archive_directory: /a, \
         tmp_directory: /t, user: {passwd: {directory: /p}}, machine_id: {directory: /m}}\nalula: {socket: /s/s}\n",
    )
    .directories;
    let id: ServerId = "550e8400-e29b-41d4-a716-446655440000".parse().unwrap();
    assert_eq!(directories.server_data(&id), Path::new("/srv/volumes").join(id.to_string()));
    assert_eq!(directories.log, Path::new("/var/log/pelican"));
    let Directories { backup, archive, tmp, passwd, machine_id, socket, .. } = &directories;
    for (path, expected) in
        [(backup, "/b"), (archive, "/a"), (tmp, "/t"), (passwd, "/p"), (machine_id, "/m"), (socket, "/s/s")]
    {
        assert_eq!(path, Path::new(expected));
    }
}

#[test]
fn the_user_of_processes_in_containers() {
    assert_eq!(meaning("").container_user().to_string(), "988:987");
    let rootless = meaning("system: {user: {rootless: {enabled: true, container_uid: 5, container_gid: 6}}}");
    assert_eq!(rootless.container_user().to_string(), "5:6");
}

#[test]
fn zero_disables_intervals_and_timeouts() {
    let node = meaning(
        "system: {disk_check_interval: 0, crash_detection: {enabled: no, detect_clean_exit_as_crash: no, timeout: 0}}\n\
         alula: {install: {timeout_seconds: 0, fail_on_nonzero_exit: yes}}\n",
    );
    assert_eq!(node.disk_check_interval, None);
    assert_eq!((node.install_timeout, node.fail_on_nonzero_exit), (None, true));
    assert_eq!((node.crash_detection, node.clean_exit_is_crash), (false, false));
    assert_eq!(node.crash_timeout, Duration::ZERO);
}

#[test]
fn a_valid_timezone_of_a_server_takes_precedence() {
    let node = meaning("");
    for (request, zone) in [(None, "UTC"), (Some(""), "UTC"), (Some("no"), "UTC"), (Some("Asia/Tokyo"), "Asia/Tokyo")] {
        assert_eq!(node.timezone_for(request), zone);
    }
}

#[test]
fn debug_takes_precedence_over_quiet() {
    let node = meaning("debug: true\nquiet: true");
    assert!(node.debug && !node.quiet);
    assert!(meaning("quiet: true").quiet);
}

#[test]
fn unsupported_keys_are_named_in_one_notice() {
    let loaded = load_text(
        "system: {openat_mode: openat, transfers: {download_limit: 5, storage_pool: {enabled: true, pool_name: nfs}}}",
    )
    .unwrap();
    let [notice] = loaded.notices.as_slice() else { panic!("{:?}", loaded.notices) };
    assert!(notice.ends_with("system.openat_mode") && !notice.contains("transfers"), "{notice}");
    assert_eq!(loaded.node.storage_pool.as_deref(), Some("nfs"));
}

#[test]
fn timezone_token_and_owner_come_from_the_host_environment() {
    let (dir, path) = write("token: ${T}\nsystem: {username: root}\n");
    let variables = |name: &str| match name {
        "TZ" => Some("Asia/Tokyo".to_owned()),
        "T" => Some("secret".to_owned()),
        _ => None,
    };
    let loaded = load(&path, HostEnvironment { variables: &variables, etc: dir.path() }).unwrap();
    assert_eq!(loaded.node.timezone, "Asia/Tokyo");
    assert!(loaded.node.live.get().token.matches(b"secret"));
    assert_eq!(loaded.node.owner, Owner { name: "root".into(), uid: 0, gid: 0 });
    assert_eq!(loaded.node.source, path);
}

#[test]
fn a_node_for_tests_is_below_its_root() {
    let node = crate::testing::node_config(Path::new("/tmp/x"));
    let directories = &node.directories;
    for path in [&directories.root, &directories.tmp, &directories.passwd, &directories.machine_id, &directories.socket]
    {
        assert!(path.starts_with("/tmp/x"));
    }
    assert_eq!(node.owner, host::current_user());
    assert_eq!(node.panel, None);
}

/// The file of the conformance suite.
#[test]
fn all_directories_can_be_below_one_folder() {
    let node = meaning(
        "debug: true\napp_name: Conformance\nuuid: 00000000-0000-4000-8000-000000000000\ntoken_id: aaaa\ntoken: bbbb\n\
         api:\n  host: 127.0.0.1\n  port: 18080\n  ssl: {enabled: false, cert: '', key: ''}\n  upload_limit: 100\n\
         system:\n  root_directory: /d/root\n  log_directory: /d/log\n  data: /d/volumes\n  archive_directory: /d/archives\n  \
         backup_directory: /d/backups\n  tmp_directory: /d/tmp\n  username: root\n  timezone: UTC\n  \
         user: {passwd: {enable: true, directory: /d/passwd}}\n  machine_id: {enable: true, directory: /d/machine-id}\n  \
         activity_send_interval: 1\n  activity_send_count: 100\n  enable_log_rotate: false\n  websocket_log_count: 150\n  \
         sftp: {bind_address: 127.0.0.1, bind_port: 18022}\n  \
         crash_detection: {enabled: true, detect_clean_exit_as_crash: true, timeout: 60}\n\
         docker:\n  network: {name: wct1, network_mode: wct1, interface: 172.20.0.1}\n  tmpfs_size: 100\n  \
         container_pid_limit: 512\n  installer_limits: {memory: 256, cpu: 100}\n\
         throttles: {enabled: true, lines: 2000, line_reset_interval: 100}\nremote: http://127.0.0.1:9000\n\
         remote_query: {timeout: 30, boot_servers_per_page: 50}\nallowed_mounts: []\nallowed_origins: []\n",
    );
    assert_eq!(node.app_name, "Conformance");
    assert_eq!(node.directories.data, Some("/d/volumes".into()));
    assert_eq!(node.docker.network.interface, "172.20.0.1");
    assert_eq!((node.docker.installer_limits.memory_mib, node.docker.installer_limits.cpu_percent), (256, 100));
    assert_eq!(node.panel.unwrap().url, "http://127.0.0.1:9000");
}
