use std::path::Path;

use proptest::prelude::*;
use serde_json::json;

use super::*;

const TEXT: &str = "# The node.\ntoken_id: old-id # of the panel\ntoken: old\napi:\n  port: 8080   # behind a proxy\n\
                    system:\n  data: /srv/data\nallowed_mounts: [/mnt]\nremote: https://panel.example.com\n";

fn none(_: &str) -> Option<String> {
    None
}

fn lay_over(text: &str, pushed: &Value, variables: Variables<'_>) -> Merged {
    let file = ConfigFile::parse(Path::new("config.yml"), text).unwrap();
    let live = LiveConfig { token_id: "old-id".into(), token: Secret::new("old"), ..LiveConfig::default() };
    merge(text, &file, pushed, &live, variables).unwrap()
}

fn refused(merged: &Merged) -> Vec<String> {
    merged.refused.iter().map(Problem::to_string).collect()
}

#[test]
fn every_allowed_key_exists_and_decides_on_no_folder() {
    let default = as_json(&ConfigFile::default());
    for key in ALLOWED {
        assert!(at(&default, key).is_some_and(|value| !value.is_object()), "{key}");
        assert!(!["directory", "data", "root", "mount", "socket", "username"].iter().any(|word| key.contains(word)));
    }
}

#[test]
fn allowed_keys_are_changed_in_place() {
    let pushed = json!({
        "debug": false, "uuid": "u", "token_id": "new-id", "token": "new",
        "api": {"host": "0.0.0.0", "port": 8443, "ssl": {"enabled": false}, "upload_limit": 256},
        "system": {"data": "/srv/data", "sftp": {"bind_port": 2022}},
        "allowed_mounts": ["/mnt"], "remote": "https://panel.example.com",
    });
    let merged = lay_over(TEXT, &pushed, &none);
    assert_eq!(
        merged.text,
        "# The node.\ntoken_id: new-id # of the panel\ntoken: new\napi:\n  port: 8443   # behind a proxy\n  upload_limit: 256\n\
         system:\n  data: /srv/data\nallowed_mounts: [/mnt]\nremote: https://panel.example.com\nuuid: u\n"
    );
    assert!(merged.refused.is_empty() && merged.left_alone.is_empty() && merged.token_files.is_empty());
}

#[test]
fn what_is_so_already_changes_no_byte() {
    for pushed in [json!({}), json!({"debug": false, "api": {"port": 8080}, "token": "old", "quiet": null})] {
        assert_eq!(lay_over(TEXT, &pushed, &none).text, TEXT);
    }
}

#[test]
fn other_keys_are_left_alone_and_named() {
    let pushed = json!({
        "remote": "http://evil", "allowed_mounts": ["/"], "BlockBaseDirMount": false,
        "ignore_panel_config_updates": true, "alula": {"socket": "/x"}, "future": {"a": 1},
        "api": {"disable_remote_download": true, "trusted_proxies": ["0.0.0.0/0"]},
        "system": {"root_directory": "/", "data": "/", "username": "root", "user": {"passwd": {"directory": "/etc"}}},
        "docker": {"network": {"name": "elsewhere", "network_mode": "host"}, "userns_mode": "host"},
    });
    let merged = lay_over(TEXT, &pushed, &none);
    assert_eq!(merged.text, TEXT);
    assert_eq!(
        merged.left_alone,
        [
            "remote",
            "allowed_mounts",
            "BlockBaseDirMount",
            "ignore_panel_config_updates",
            "alula.socket",
            "future",
            "api.disable_remote_download",
            "api.trusted_proxies",
            "system.root_directory",
            "system.data",
            "system.username",
            "system.user.passwd.directory",
            "docker.network.name",
            "docker.network.network_mode",
            "docker.userns_mode",
        ]
    );
}

#[test]
fn a_value_of_another_type_is_refused_and_the_others_are_taken() {
    let pushed = json!({
        "token": 5, "system": [], "debug": "yes", "allowed_origins": ["a", 1],
        "api": {"upload_limit": "seven", "port": 80.5, "host": {"a": 1}, "ssl": true}, "app_name": "games",
    });
    let merged = lay_over(TEXT, &pushed, &none);
    assert_eq!(merged.text, format!("{TEXT}app_name: games\n"));
    assert_eq!(
        refused(&merged),
        [
            "token: is a whole number: expected a text",
            "system: is a list: expected keys",
            "debug: is a text: expected true or false",
            "allowed_origins: is a list: expected a list of texts",
            "api.upload_limit: is a text: expected a whole number",
            "api.port: is a number: expected a whole number",
            "api.host: is a mapping: expected a text",
            "api.ssl: is true or false: expected keys",
        ]
    );
}

#[test]
fn the_panels_default_certificate_does_not_replace_another_one() {
    let key = "/etc/letsencrypt/live/node.example.com/privkey.pem";
    let pushed = |key: &str| json!({"api": {"ssl": {"enabled": true, "cert": "/c", "key": key}}});
    let text = "api: {ssl: {cert: /own/cert, key: /own/key}}\n";
    assert_eq!(
        lay_over(text, &pushed(key), &none).text,
        "api: {ssl: {cert: /own/cert, key: /own/key, enabled: true}}\n"
    );
    assert_eq!(lay_over(text, &pushed("/k"), &none).text, "api: {ssl: {cert: /c, key: /k, enabled: true}}\n");
    let without = lay_over("debug: true\n", &pushed(key), &none).text;
    assert!(without.contains(key), "a node without one takes it: {without}");
}

#[test]
fn a_token_is_written_to_where_it_is_read_from() {
    let pushed = json!({"token": "new", "token_id": "new-id"});
    let text = "token_id: file:///run/id\ntoken: file://$FOLDER/token\n";
    let folder = |name: &str| (name == "FOLDER").then(|| "/run/secrets".to_owned());
    let merged = lay_over(text, &pushed, &folder);
    assert_eq!(merged.text, text);
    let files: Vec<_> =
        merged.token_files.iter().map(|(path, token)| (path.to_str().unwrap(), token.expose())).collect();
    assert_eq!(files, [("/run/secrets/token", "new"), ("/run/id", "new-id")]);

    let merged = lay_over("token_id: a\ntoken: ${SECRET}\n", &pushed, &none);
    assert_eq!(merged.text, "token_id: new-id\ntoken: ${SECRET}\n");
    let help = "set the new one there, and restart the daemon";
    assert_eq!(refused(&merged), [format!("token: comes from the environment variable SECRET: {help}")]);

    let variables = |name: &str| (name == "WINGS_TOKEN").then(|| "old".to_owned());
    let merged = lay_over(TEXT, &json!({"token": "new"}), &variables);
    assert_eq!(merged.text, TEXT);
    assert_eq!(refused(&merged), [format!("token: comes from the environment variable WINGS_TOKEN: {help}")]);
}

/// The text of a token says where it is read from.
#[test]
fn what_is_no_token_is_refused() {
    for text in [TEXT, "token_id: file:///run/id\ntoken: file:///run/token\n"] {
        for odd in ["", "two words", "file:///etc/shadow", "$PATH", "${PATH}", "a\nb", "é"] {
            let merged = lay_over(text, &json!({"token": odd, "token_id": odd}), &none);
            assert_eq!(merged.text, text, "{odd:?}");
            assert!(merged.token_files.is_empty(), "{odd:?}");
            assert_eq!(refused(&merged).len(), 2, "{odd:?}");
        }
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,20}".prop_map(Value::from),
    ];
    let key = prop_oneof![
        prop::sample::select(vec!["api", "ssl", "key", "system", "data", "token", "port", "docker", "allowed_origins"])
            .prop_map(str::to_owned),
        ".{0,10}",
    ];
    leaf.prop_recursive(4, 40, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(key.clone(), inner, 0..6).prop_map(Value::from_iter),
        ]
    })
}

proptest! {
    /// Whatever is pushed, the file stays one that can be read, and what the panel may not change stays.
    #[test]
    fn any_push_leaves_a_valid_file(pushed in any_json()) {
        let merged = lay_over(TEXT, &pushed, &none);
        let file = ConfigFile::parse(Path::new("config.yml"), &merged.text);
        let file = file.unwrap();
        prop_assert_eq!(file.remote, "https://panel.example.com");
        prop_assert_eq!(file.system.data, Some("/srv/data".to_owned()));
        prop_assert_eq!(file.allowed_mounts, ["/mnt"]);
        prop_assert!(merged.text.starts_with("# The node.\n"));
    }
}
