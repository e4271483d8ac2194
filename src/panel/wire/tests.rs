mod documents;
mod properties;

use serde_json::json;

use super::*;
use crate::model::settings::{Allocation, Build};

const ID: &str = "550e8400-e29b-41d4-a716-446655440000";

fn id() -> ServerId {
    ID.parse().unwrap()
}

/// An answer with one value changed; the pointer's last part may be new.
fn with(pointer: &str, value: Value) -> Value {
    let mut answer = json!({
        "settings": {
            "uuid": ID,
            "environment": {"A": "1"},
            "build": {"memory_limit": 512},
            "allocations": {},
            "egg": {},
            "container": {"image": "game:1"},
        },
        "process_configuration": {
            "startup": {"done": ["ready"]},
            "configs": [{"parser": "ini", "file": "a.ini", "replace": [{"match": "k", "replace_with": "v"}]}],
        },
    });
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    let parent = answer.pointer_mut(parent).unwrap();
    match parent {
        Value::Array(list) => list[key.parse::<usize>().unwrap()] = value,
        parent => parent[key] = value,
    }
    answer
}

fn read(pointer: &str, value: Value) -> PanelServer {
    server(id(), &with(pointer, value)).unwrap()
}

#[test]
fn references_and_entrypoints_come_without_white_space() {
    let answer = json!({"script": "x", "entrypoint": " bash\r\n", "container_image": "\texample/installer:1 "});
    let script = script(&answer).unwrap();
    assert_eq!((script.image.as_str(), script.entrypoint.as_str()), ("example/installer:1", "bash"));
}

#[test]
fn a_missing_script_is_an_empty_one() {
    let empty = Script { image: String::new(), entrypoint: String::new(), text: String::new() };
    for answer in [json!({"script": null}), json!({"script": null, "entrypoint": null, "container_image": null})] {
        assert_eq!(script(&answer).unwrap(), empty);
    }
    assert_eq!(script(&json!({"script": 5})).unwrap_err().to_string(), "script: expected a text, found a number");
    for answer in [json!("text"), json!({}), json!([]), json!({"message": "Service is up"})] {
        let error = script(&answer).unwrap_err().to_string();
        assert!(error.contains("expected"), "{error}");
    }
}

#[test]
fn empty_lists_and_nulls_count_as_absent() {
    let plain = read("/settings/meta", json!({}));
    for value in [json!([]), Value::Null] {
        for key in ["meta", "labels", "allocations", "mounts", "egg"] {
            assert_eq!(read(&format!("/settings/{key}"), value.clone()), plain, "{key}: {value}");
        }
        assert!(read("/settings/environment", value.clone()).settings.environment.is_empty());
        assert_eq!(read("/settings/build", value.clone()).settings.build, Build::default());
        assert!(read("/settings/egg/features", value.clone()).settings.egg.features.is_empty());
        assert!(read("/process_configuration/configs", value.clone()).process.configs.is_empty());
        assert!(read("/process_configuration/startup", value.clone()).process.startup.done.is_empty());
        assert!(read("/process_configuration/startup/done", value.clone()).process.startup.done.is_empty());
        assert_eq!(read("/process_configuration/stop", value), plain);
    }
    assert_eq!(plain.settings.allocations.default, Allocation { ip: "127.0.0.1".into(), port: 0 });
    assert_eq!(plain.settings.mounts, None);
    assert_eq!(plain.settings.labels, None);
}

#[test]
fn lenient_forms_are_accepted() {
    let server =
        read("/settings/environment", json!({"n": 7, "f": 1.5, "b": true, "0": null, "l": [1], "o": {"a": 1}}));
    assert_eq!(json!(server.settings.environment), json!({"n": 7, "f": 1.5, "b": true, "0": null, "l": "", "o": ""}));

    assert_eq!(read("/settings/build/threads", Value::Null).settings.build.threads, "");
    assert_eq!(read("/settings/build/threads", json!("0-1,3")).settings.build.threads, "0-1,3");
    assert_eq!(read("/settings/build/threads", json!(2)).settings.build.threads, "2");
    assert_eq!(read("/settings/build/memory_limit", json!(1024.0)).settings.build.memory_limit, 1024);
    assert!(read("/settings/suspended", json!(1)).suspended);
    assert!(!read("/settings/suspended", Value::Null).suspended);

    let ports = json!({"203.0.113.10": {"0": 1, "2": 3}, "198.51.100.1": [], "": []});
    let mappings = read("/settings/allocations/mappings", ports).settings.allocations.mappings;
    assert_eq!(json!(mappings), json!({"198.51.100.1": [], "203.0.113.10": [1, 3]}));
    let default = json!({"port": 25565});
    let default = read("/settings/allocations/default", default).settings.allocations.default;
    assert_eq!(default, Allocation { ip: "127.0.0.1".into(), port: 25565 });

    let done = read("/process_configuration/startup/done", json!("one")).process.startup.done;
    assert_eq!(done, ["one"]);
    assert_eq!(json!(read("/settings/labels", json!({"a": 1})).settings.labels), json!({"a": "1"}));
}

#[test]
fn both_names_of_the_oom_killer_are_read() {
    for (build, expected) in [
        (json!({"oom_killer": false}), false),
        (json!({"oom_killer": true}), true),
        (json!({"oom_disabled": true}), false),
        (json!({"oom_disabled": false}), true),
        (json!({"oom_killer": true, "oom_disabled": true}), true),
        (json!({}), true),
    ] {
        assert_eq!(read("/settings/build", build.clone()).settings.build.oom_killer, expected, "{build}");
    }
}

#[test]
fn invalid_replacements_are_left_out() {
    let replace = json!([
        {"match": "a", "replace_with": "x", "unknown": 1},
        {"match": "b", "value": 5},
        {"match": "c", "replace_with": null, "value": "old"},
        {"match": "d", "replace_with": {"no": "scalar"}},
        {"match": "e", "replace_with": true, "if_value": 7},
        {"match": 5, "replace_with": "left out"},
        {"replace_with": "left out"},
        {"match": "left out"},
        "left out",
    ]);
    let server = read("/process_configuration/configs/0/replace", replace);
    let found: Vec<_> = server.process.configs[0]
        .replace
        .iter()
        .map(|one| (one.key.as_str(), one.replace_with.clone(), one.if_value.as_deref()))
        .collect();
    assert_eq!(
        found,
        [
            ("a", json!("x"), None),
            ("b", json!(5), None),
            ("c", Value::Null, None),
            ("d", json!("<invalid>"), None),
            ("e", json!(true), Some("7")),
        ]
    );
}

#[test]
fn errors_name_the_position_of_a_value_of_the_wrong_type() {
    for (pointer, value, expected) in [
        ("/settings", json!("x"), "settings: expected an object, found a text"),
        ("/settings", Value::Null, "settings: expected an object, found nothing"),
        ("/settings", json!([]), "settings: expected an object, found nothing"),
        ("/settings", json!([1]), "settings: expected an object, found a list"),
        ("/process_configuration", Value::Null, "process_configuration: expected an object, found nothing"),
        ("/settings/build", json!("a text"), "settings.build: expected an object, found a text"),
        ("/settings/allocations", json!(5), "settings.allocations: expected an object, found a number"),
        (
            "/process_configuration/startup",
            json!("a text"),
            "process_configuration.startup: expected an object, found a text",
        ),
        (
            "/settings/build/memory_limit",
            json!("512"),
            "settings.build.memory_limit: expected a whole number, found a text",
        ),
        (
            "/settings/build/memory_limit",
            json!(0.5),
            "settings.build.memory_limit: expected a whole number, found another number",
        ),
        (
            "/settings/build/memory_limit",
            json!(u64::MAX),
            "settings.build.memory_limit: expected a whole number, found another number",
        ),
        (
            "/settings/build/io_weight",
            json!(-1),
            "settings.build.io_weight: expected a whole number from 0 to 65535, found another number",
        ),
        (
            "/settings/allocations/mappings",
            json!({"1.2.3.4": [1, "2"]}),
            "settings.allocations.mappings.1.2.3.4[1]: expected a whole number, found a text",
        ),
        ("/settings/suspended", json!("no"), "settings.suspended: expected true or false, found a text"),
        ("/settings/suspended", json!(2), "settings.suspended: expected true or false, found a number"),
        ("/settings/uuid", json!("x"), "settings.uuid: expected a server's uuid, found another text"),
        (
            "/settings/uuid",
            json!("550e8400-e29b-41d4-a716-446655440001"),
            "settings.uuid: expected 550e8400-e29b-41d4-a716-446655440000, \
             found 550e8400-e29b-41d4-a716-446655440001",
        ),
        (
            "/process_configuration/configs/0",
            json!({"file": "x"}),
            "process_configuration.configs[0].parser: expected a text, found nothing",
        ),
        (
            "/process_configuration/configs/0",
            json!({"parser": "ini"}),
            "process_configuration.configs[0].file: expected a text, found nothing",
        ),
        ("/settings/mounts", json!(["/a"]), "settings.mounts[0]: expected an object, found a text"),
        ("/settings/egg/features", json!({"eula": 5}), "settings.egg.features.eula: expected a list, found a number"),
    ] {
        let error = server(id(), &with(pointer, value)).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
    assert_eq!(server(id(), &json!("x")).unwrap_err().to_string(), "the answer: expected an object, found a text");
    let html = json(b"<html>oops</html>").unwrap_err().to_string();
    assert_eq!(html, "the answer: expected JSON as the remote API has it, found something else at line 1, column 1");
}

#[test]
fn texts_lists_and_objects_are_limited() {
    let long = "x".repeat(MAX_TEXT);
    assert_eq!(read("/settings/invocation", json!(long)).settings.invocation.len(), MAX_TEXT);
    let error = server(id(), &with("/settings/invocation", json!(long.clone() + "x"))).unwrap_err();
    assert_eq!(error.at, "settings.invocation");
    assert!(server(id(), &with("/settings/environment", json!({"A": long + "x"}))).is_err());

    let variables = |count: usize| Value::Object((0..count).map(|n| (n.to_string(), json!("v"))).collect());
    assert_eq!(read("/settings/environment", variables(MAX_ENTRIES)).settings.environment.len(), MAX_ENTRIES);
    let error = server(id(), &with("/settings/environment", variables(MAX_ENTRIES + 1))).unwrap_err();
    assert_eq!(error.to_string(), "settings.environment: expected at most 1000 entries, found 1001");

    let denied = |count: usize| Value::Array(vec![json!("f"); count]);
    assert_eq!(
        read("/settings/egg/file_denylist", denied(MAX_ELEMENTS)).settings.egg.file_denylist.len(),
        MAX_ELEMENTS
    );
    assert!(server(id(), &with("/settings/egg/file_denylist", denied(MAX_ELEMENTS + 1))).is_err());

    let pages = |last: u32| json!({"data": [], "meta": {"last_page": last}}).to_string();
    assert_eq!(page(pages(MAX_PAGES).as_bytes()).unwrap().last, MAX_PAGES);
    assert!(page(pages(MAX_PAGES + 1).as_bytes()).is_err());
}

#[test]
fn errors_never_contain_a_value() {
    for pointer in ["/settings", "/settings/build", "/settings/mounts", "/process_configuration/startup"] {
        let error = server(id(), &with(pointer, json!("hunter2"))).unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
    for text in [r#""hunter2""#, r#"{"data": "hunter2"}"#, r#"{"data": [], "meta": "hunter2"}"#] {
        let error = page(text.as_bytes()).unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}

#[test]
fn a_broken_entry_of_the_list_is_listed_with_its_error() {
    let entry =
        |uuid: &str, settings: Value| json!({"uuid": uuid, "settings": settings, "process_configuration": {"a": 1}});
    let other = "550e8400-e29b-41d4-a716-446655440001";
    let third = "550e8400-e29b-41d4-a716-446655440002";
    let data = [
        entry(ID, json!({"uuid": ID})).to_string(),
        entry(other, json!({"uuid": other, "build": "a text"})).to_string(),
        // Too deep to be parsed.
        format!(r#"{{"uuid": "{third}", "settings": {}{}}}"#, "[".repeat(200), "]".repeat(200)),
        json!({"settings": {"id": 1}}).to_string(),
        "7".to_owned(),
    ];
    let text = format!(r#"{{"data": [{}], "meta": {{"last_page": 0, "total": 5}}}}"#, data.join(","));
    let page = page(text.as_bytes()).unwrap();
    assert_eq!((page.last, page.total, page.entries), (1, Some(5), 5));
    let names: Vec<_> = page.servers.iter().map(|listed| listed.id.to_string()).collect();
    assert_eq!(names, [ID, other, third]);
    assert!(page.servers[0].server.is_ok());
    let error = page.servers[1].server.as_ref().unwrap_err();
    assert_eq!(error, "settings.build: expected an object, found a text");
    assert!(page.servers[2].server.is_err());
}

#[test]
fn invalid_lists_are_errors() {
    for (text, expected) in [
        ("{}", "data: expected a list of servers, found nothing"),
        (r#"{"data": null}"#, "data: expected a list of servers, found nothing"),
        (r#"{"data": {"a": 1}}"#, "data: expected a list of servers, found an object"),
        (r#"{"data": [], "meta": 5}"#, "meta: expected an object, found a number"),
        (
            r#"{"data": [], "meta": {"last_page": -1}}"#,
            "meta.last_page: expected a whole number from 0 to 10000, found another number",
        ),
    ] {
        assert_eq!(page(text.as_bytes()).unwrap_err().to_string(), expected);
    }
    assert!(page(b"<html>").is_err());
    assert!(page(b"\xff\xfe").is_err());
    assert_eq!(page(br#"{"data": []}"#).unwrap().last, 1);
}

#[test]
fn a_rejection_is_one_line() {
    for (body, expected) in [
        (
            r#"{"errors":[{"code":"HttpForbiddenException","status":"403","detail":"No\n permission."}]}"#,
            "HttpForbiddenException: No permission.",
        ),
        (r#"{"errors":[{"detail":"Only this."}]}"#, "Only this."),
        (r#"{"message":"Server Error"}"#, "Server Error"),
        ("<html>\n\n<b>Bad\u{1b}[31m gateway</b>", "<html> <b>Bad [31m gateway</b>"),
        ("", "it gave no reason"),
        (" \n", "it gave no reason"),
    ] {
        assert_eq!(rejection(body.as_bytes()), expected);
    }
    assert_eq!(rejection("ä".repeat(10_000).as_bytes()).chars().count(), 200);
    assert!(!rejection(b"\xff\xfe\x00").is_empty());
}
