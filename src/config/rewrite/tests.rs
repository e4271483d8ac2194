use serde_json::json;

use super::*;
use crate::config::Owner;

const FILE: &str = "\
# my node
debug: false   # not now
uuid: u-1
token_id: id-1
token: ${MY_TOKEN}
api:
  host: 0.0.0.0
  port: 8080
  ssl:
    enabled: false
    cert: /etc/my/cert.pem
    key: /etc/my/key.pem
  upload_limit: 100
system:
  data: /srv/volumes
  sftp:
    bind_port: 2022
docker:
  overhead:
    override: true
    multipliers:
      256: 1.25
  registries:
    ghcr.io:
      username: me
      password: old
remote: https://panel.example.com
allowed_mounts: []
future: {kept: [1, 2]}
";

fn variables(name: &str) -> Option<String> {
    (name == "MY_TOKEN").then(|| "token-1".to_owned())
}

fn current(text: &str) -> NodeConfig {
    let path = Path::new("/etc/pelican/config.yml");
    let file = ConfigFile::parse(path, text).unwrap();
    let owner = Owner { name: "pelican".into(), uid: 988, gid: 988 };
    NodeConfig::resolve(&file, path, &variables, owner, "UTC".into()).unwrap()
}

fn push(text: &str, body: Value) -> Result<PanelUpdate, UpdateError> {
    apply_panel_update(&current(text), text, &body, &variables)
}

fn applied(text: &str, body: Value) -> AppliedUpdate {
    match push(text, body).unwrap() {
        PanelUpdate::Applied(update) => *update,
        PanelUpdate::Ignored => panic!("ignored"),
    }
}

/// The document that the panel pushes.
fn document() -> Value {
    json!({
        "debug": false, "uuid": "u-1", "token_id": "id-1", "token": "token-1",
        "api": {"host": "0.0.0.0", "port": 8080, "upload_limit": 100, "ssl": {
            "enabled": false, "cert": "/etc/letsencrypt/live/n.example.com/fullchain.pem",
            "key": "/etc/letsencrypt/live/n.example.com/privkey.pem"}},
        "system": {"data": "/srv/volumes", "sftp": {"bind_port": 2022}},
        "allowed_mounts": [], "remote": "https://panel.example.com",
    })
}

#[test]
fn a_push_that_says_nothing_new_leaves_the_text_alone() {
    for body in [document(), json!({}), json!({"debug": null, "api": null, "unknown": 1})] {
        let update = applied(FILE, body);
        assert!(update.changed.is_empty(), "{:?}", update.changed);
        assert_eq!(update.text, FILE);
        assert_eq!(update.node, current(FILE));
    }
}

#[test]
fn only_what_changed_is_changed() {
    let mut body = document();
    body["api"]["upload_limit"] = json!(7);
    body["debug"] = json!(true);
    let update = applied(FILE, body);
    assert_eq!(update.changed, ["debug", "api.upload_limit"]);
    let expected = FILE.replace("debug: false ", "debug: true ").replace("upload_limit: 100", "upload_limit: 7");
    assert_eq!(update.text, expected);
    assert!(update.node.debug);
}

#[test]
fn a_key_that_the_file_lacks_is_added() {
    let update = applied("uuid: a\n", json!({"api": {"port": 9090}, "system": {"sftp": {"bind_port": 2023}}}));
    assert_eq!(update.changed, ["api.port", "system.sftp.bind_port"]);
    let file = ConfigFile::parse(Path::new("x"), &update.text).unwrap();
    assert_eq!((file.api.port, file.system.sftp.bind_port, file.uuid.as_str()), (9090, 2023, "a"));
    let update = applied("", json!({"debug": true}));
    assert!(ConfigFile::parse(Path::new("x"), &update.text).unwrap().debug);
}

#[test]
fn what_cannot_be_pushed() {
    let body = json!({
        "remote": "https://evil.example.com", "allowed_mounts": ["/"], "BlockBaseDirMount": false,
        "api": {"disable_remote_download": true},
        "system": {
            "root_directory": "/x", "log_directory": "/x", "data": "/x", "archive_directory": "/x",
            "backup_directory": "/x", "tmp_directory": "/x", "username": "root", "disk_check_interval": 0,
            "user": {"rootless": {"enabled": true}, "uid": 0, "passwd": {"directory": "/etc"}},
            "machine_id": {"directory": "/etc"},
        },
        "docker": {"network": {"network_mode": "host"}},
        "remote_query": {"custom_headers": {"X": "y"}},
        "alula": {"socket": "/x"},
    });
    assert_eq!(applied(FILE, body).text, FILE);
}

#[test]
fn every_pushable_key_is_a_key() {
    let default = serde_json::to_value(ConfigFile::default()).unwrap();
    for key in PUSHABLE {
        let found = key.split('.').try_fold(&default, |value, part| value.get(part));
        assert!(found.is_some(), "{key}");
    }
}

#[test]
fn tokens_keep_their_form_until_they_change() {
    let update = applied(FILE, json!({"token_id": "id-1", "token": "token-1"}));
    assert!(update.text.contains("token: ${MY_TOKEN}"));
    let update = applied(FILE, json!({"token_id": "id-2", "token": "token-2"}));
    assert_eq!(update.changed, ["token_id", "token"]);
    assert!(update.text.contains("token: token-2\n") && update.text.contains("token_id: id-2\n"), "{}", update.text);
    assert!(update.node.api_token.as_ref().unwrap().matches(b"token-2"));
    assert_eq!(update.node.panel.unwrap().token_id, "id-2");
}

#[test]
fn the_panels_guess_of_a_certificate() {
    let guess = |enabled: bool| {
        json!({"api": {"ssl": {"enabled": enabled, "cert": "/etc/letsencrypt/live/x/fullchain.pem",
                               "key": "/etc/letsencrypt/live/x/privkey.pem"}}})
    };
    let update = applied(FILE, guess(true));
    assert_eq!(update.changed, ["api.ssl.enabled"]);
    assert_eq!(update.node.api.tls.unwrap().cert, Path::new("/etc/my/cert.pem"));
    // A file that names none takes it.
    let update = applied("uuid: a\n", guess(true));
    assert_eq!(update.node.api.tls.unwrap().key, Path::new("/etc/letsencrypt/live/x/privkey.pem"));
    // A certificate from elsewhere is no guess.
    let update = applied(FILE, json!({"api": {"ssl": {"cert": "/new/c.pem", "key": "/new/k.pem"}}}));
    assert_eq!(update.changed, ["api.ssl.cert", "api.ssl.key"]);
}

#[test]
fn maps_are_laid_over_and_lists_replaced() {
    let update = applied(
        FILE,
        json!({
            "docker": {
                "registries": {"docker.io": {"username": "hub", "password": "p"}},
                "log_config": {"config": {"max-file": "3"}},
                "network": {"dns": ["9.9.9.9"]},
            },
            "allowed_origins": ["https://shop.example.com"],
        }),
    );
    let file = ConfigFile::parse(Path::new("x"), &update.text).unwrap();
    let hosts: Vec<_> = file.docker.registries.keys().collect();
    assert_eq!(hosts, ["docker.io", "ghcr.io"]);
    assert_eq!(file.docker.registries["ghcr.io"].password.expose(), "old");
    assert_eq!(file.docker.log_config.options["max-file"], "3");
    assert_eq!(file.docker.network.dns, ["9.9.9.9"]);
    assert_eq!(file.allowed_origins, ["https://shop.example.com"]);
    assert!(update.text.contains("      256: 1.25\n"), "a number stays a number:\n{}", update.text);
}

#[test]
fn names_in_another_case_are_the_same() {
    let update = applied(FILE, json!({"API": {"Upload_Limit": 9}, "docker": {"network": {"ipv6": false}}}));
    assert_eq!(update.changed, ["api.upload_limit", "docker.network.IPv6"]);
}

#[test]
fn a_push_that_would_break_the_file_is_refused() {
    for (body, part) in [
        (json!({"api": {"port": 70000}}), "api.port"),
        (json!({"api": {"port": "x"}}), "api.port"),
        (json!({"api": {"port": {"a": 1}}}), "api.port"),
        (json!({"token": ""}), "token"),
        (json!({"token": "two words"}), "token"),
        (json!({"system": {"timezone": "Mars/Olympus"}}), "system.timezone"),
        (json!({"docker": {"tmpfs_size": -4}}), "docker.tmpfs_size"),
        (json!({"docker": {"registries": {"ghcr.io": "x"}}}), "ghcr.io"),
    ] {
        let error = push(FILE, body.clone()).unwrap_err();
        assert!(matches!(error, UpdateError::Refused(_)), "{body}: {error:?}");
        assert!(error.to_string().contains(part), "{body}: {error}");
    }
    assert!(matches!(push(FILE, json!([1])).unwrap_err(), UpdateError::NotAnObject));
    let node = current(FILE);
    let error = apply_panel_update(&node, "api: [", &json!({}), &variables).unwrap_err();
    assert!(matches!(error, UpdateError::File(_)));
}

#[test]
fn pushes_are_ignored_where_the_file_says_so() {
    let text = format!("{FILE}ignore_panel_config_updates: true\n");
    for body in [document(), json!([1]), json!({"ignore_panel_config_updates": false})] {
        assert!(matches!(push(&text, body).unwrap(), PanelUpdate::Ignored));
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn a_file_that_others_can_read_is_closed_to_them() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.yml");
    fs::write(&path, FILE).unwrap();
    for (before, tightened, after) in [(0o644, true, 0o600), (0o600, false, 0o600), (0o400, false, 0o400)] {
        fs::set_permissions(&path, fs::Permissions::from_mode(before)).unwrap();
        assert_eq!(tighten(&path).unwrap(), tightened);
        assert_eq!(mode(&path), after);
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), FILE);
}

#[test]
fn saving_follows_a_link_and_closes_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let real = dir.path().join("real.yml");
    fs::write(&real, "old").unwrap();
    let link = dir.path().join("config.yml");
    std::os::unix::fs::symlink(&real, &link).unwrap();
    save(&link, "new").unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(fs::read_to_string(&real).unwrap(), "new");
    assert_eq!(mode(&real), 0o600);
    write_in_place(&real, "newer").unwrap();
    assert_eq!(fs::read_to_string(&real).unwrap(), "newer");
    assert!(save(&dir.path().join("missing"), "x").is_err());
}

#[test]
fn a_push_arrives_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = current(FILE);
    node.source = dir.path().join("config.yml");
    let push = |body| receive_panel_update(&node, &body, &variables);
    assert!(matches!(push(json!({})).unwrap_err(), UpdateError::File(_)));

    fs::write(&node.source, FILE).unwrap();
    let inode = || std::os::unix::fs::MetadataExt::ino(&fs::metadata(&node.source).unwrap());
    let before = inode();
    push(document()).unwrap();
    assert_eq!(inode(), before, "nothing new, so the file is the same one");

    push(json!({"api": {"upload_limit": 7}})).unwrap();
    let text = fs::read_to_string(&node.source).unwrap();
    assert!(text.contains("upload_limit: 7") && text.contains("${MY_TOKEN}"), "{text}");
    assert_eq!(mode(&node.source), 0o600);

    push(json!({"api": {"port": -1}})).unwrap_err();
    assert_eq!(fs::read_to_string(&node.source).unwrap(), text);
}
