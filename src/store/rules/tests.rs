//! Values that a person's file may have, and those that are refused with a word on what is expected.

use serde_json::{Value, json};

use super::*;

const ID: &str = "550e8400-e29b-41d4-a716-446655440000";

fn checked(managed_by: &str, spec: &Value) -> Result<(), String> {
    let manifest: Manifest = serde_json::from_value(json!({
        "apiVersion": "alula/v1", "kind": "Server", "metadata": {"uuid": ID, "managedBy": managed_by}, "spec": spec,
    }))
    .unwrap();
    validate(&manifest, ID.parse().unwrap()).map_err(|problem| problem.message)
}

/// A spec that is right, with one value at a path of keys.
fn with(path: &str, value: Value) -> Value {
    let mut spec = json!({"settings": {"container": {"image": "example/image:1"}}, "process": {}});
    let mut place = &mut spec;
    for key in path.split('.') {
        place = &mut place[key];
    }
    *place = value;
    if path.starts_with("process.stop.value") {
        spec["process"]["stop"]["type"] = json!("signal");
    }
    if path.starts_with("settings.allocations.default") {
        let default = &mut spec["settings"]["allocations"]["default"];
        for (key, value) in [("ip", json!("127.0.0.1")), ("port", json!(0))] {
            if default[key].is_null() {
                default[key] = value;
            }
        }
    }
    spec
}

#[test]
fn what_makes_sense_is_taken() {
    for (path, value) in [
        ("settings.allocations.default.port", json!(65535)),
        ("settings.allocations.default.port", json!(0)),
        ("settings.allocations.default.ip", json!("::1")),
        ("settings.allocations.mappings", json!({"0.0.0.0": [1, 65535], "::": [25565]})),
        ("settings.build.swap", json!(-1)),
        ("settings.build.io_weight", json!(0)),
        ("settings.build.io_weight", json!(10)),
        ("settings.build.io_weight", json!(1000)),
        ("process.stop.type", json!("stop")),
        ("process.stop.type", json!("command")),
        ("process.stop.value", json!("SIGINT")),
        ("process.stop.value", json!("sigterm")),
        ("process.stop.value", json!("C")),
        ("process.stop.value", json!("")),
        // As Go reads it.
        ("process.startup.done", json!([r"regex:Done \([0-9.]+s\){1,2} \Q[x]\E {", "(no expression"])),
        ("settings.container.image", json!("~alula/game")),
        ("settings.container.image", json!("Registry.example.com:5000/a/b:Tag-1")),
        ("settings.container.image", json!("ghcr.io/a/b@sha256:0123456789ABCDEF")),
    ] {
        assert_eq!(checked("file", &with(path, value.clone())), Ok(()), "{path}: {value}");
    }
}

#[test]
fn what_makes_none_is_rejected_in_a_persons_file_alone() {
    for (path, value, expected) in [
        ("settings.allocations.default.port", json!(65536), "1 to 65535"),
        ("settings.allocations.default.port", json!(-1), "1 to 65535"),
        ("settings.allocations.default.ip", json!("localhost"), "IP address"),
        ("settings.allocations.mappings", json!({"0.0.0.0": [1, 0]}), "port 0 for 0.0.0.0; expected 1 to 65535"),
        ("settings.allocations.mappings", json!({"0.0.0": [1]}), "IP address"),
        ("settings.build.memory_limit", json!(-1), "0 for no limit"),
        ("settings.build.cpu_limit", json!(-50), "0 for no limit"),
        ("settings.build.swap", json!(-2), "-1 for no limit"),
        ("settings.build.io_weight", json!(9), "10 to 1000"),
        ("settings.build.io_weight", json!(1001), "10 to 1000"),
        ("process.stop.type", json!("comand"), "did you mean `command`?"),
        ("process.stop.type", json!("telepathy"), "command, signal, stop"),
        ("process.stop.value", json!("SIGTREM"), "did you mean `SIGTERM`?"),
        ("process.startup.done", json!(["fine", "regex:Done ("]), "regular expression: unclosed group"),
        ("settings.container.image", json!(""), "such as example/game:1"),
        ("settings.container.image", json!("~"), "such as example/game:1"),
        ("settings.container.image", json!("example/my image"), "spaces"),
        ("settings.container.image", json!("ghcr.io/Example/Game:V1"), "write ghcr.io/example/game:V1"),
    ] {
        let spec = with(path, value.clone());
        let message = checked("file", &spec).expect_err(path);
        assert!(
            message.starts_with(&format!("spec.{path}")) && message.contains(expected),
            "{path} {value}: {message}"
        );
        assert_eq!(checked("panel", &spec), Ok(()), "{path}: a panel says what it likes");
    }
    for (key, value) in [("backoff", "0s"), ("maxBackoff", "25h"), ("resetAfter", "0s")] {
        let spec = with("restart", json!({"policy": "Always", key: value}));
        for managed_by in ["file", "panel"] {
            let message = checked(managed_by, &spec).expect_err(key);
            assert!(
                message.starts_with(&format!("spec.restart.{key} is ")) && message.ends_with("1s to 24h"),
                "{message}"
            );
        }
    }
    for (resources, expected) in [
        (json!({"shmSize": 0}), "spec.resources.shmSize is 0; expected 1 to 1048576 MiB"),
        (json!({"cpuStartBoost": -5}), "spec.resources.cpuStartBoost is -5; expected 1 to 100000 percent of one core"),
        (
            json!({"ulimits": {"nofile": {"soft": 2, "hard": 1}}}),
            "spec.resources.ulimits.nofile is 2 and 1; expected a soft value no higher",
        ),
    ] {
        let message = checked("panel", &with("resources", resources)).unwrap_err();
        assert!(message.starts_with(expected), "{message}");
    }
    let script = json!({"image": "", "entrypoint": "sh", "text": "true"});
    assert!(checked("file", &with("script", script)).unwrap_err().starts_with("spec.script.image is missing"));
    let local = json!({"image": "~setup:1", "entrypoint": "sh", "text": "true"});
    let message = checked("file", &with("script", local)).unwrap_err();
    assert!(
        message.starts_with("spec.script.image is \"~setup:1\"") && message.contains("write \"setup:1\""),
        "{message}"
    );
    let nothing = json!({"image": "", "entrypoint": "", "text": " \r\n"});
    assert_eq!(checked("file", &with("script", nothing)), Ok(()), "nothing runs");
}
