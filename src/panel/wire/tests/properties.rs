//! Arbitrary JSON and bytes.

use proptest::prelude::*;
use serde_json::json;

use super::super::*;
use super::{ID, id};

/// Any JSON, with the protocol's own keys so common that all branches are reached.
fn any_json() -> impl Strategy<Value = Value> {
    let keys = prop::sample::select(vec![
        "settings",
        "process_configuration",
        "uuid",
        "meta",
        "environment",
        "build",
        "allocations",
        "default",
        "ip",
        "port",
        "mappings",
        "egg",
        "features",
        "file_denylist",
        "container",
        "image",
        "mounts",
        "labels",
        "startup",
        "done",
        "stop",
        "type",
        "value",
        "configs",
        "parser",
        "file",
        "replace",
        "match",
        "replace_with",
        "if_value",
        "memory_limit",
        "io_weight",
        "oom_disabled",
        "threads",
        "data",
        "last_page",
        "total",
        "script",
        "errors",
        "",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(|number| json!(number)),
        any::<u64>().prop_map(|number| json!(number)),
        any::<f64>().prop_map(|number| json!(number)),
        ".{0,8}".prop_map(Value::String),
        Just(json!(ID)),
    ];
    leaf.prop_recursive(6, 64, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::vec((keys.clone().prop_map(str::to_owned), inner), 0..8)
                .prop_map(|entries| Value::Object(entries.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn arbitrary_json_is_read_or_rejected(settings in any_json(), process in any_json()) {
        let answer = json!({"uuid": ID, "settings": settings, "process_configuration": process});
        let list = json!({"data": [answer, settings], "meta": process});
        if let Ok(read) = server(id(), &answer) {
            // What was read is the strict model: it survives being written and read again.
            let again = serde_json::from_value(serde_json::to_value(&read.settings).unwrap()).unwrap();
            prop_assert_eq!(read.settings, again);
            let again = serde_json::from_value(serde_json::to_value(&read.process).unwrap()).unwrap();
            prop_assert_eq!(read.process, again);
        }
        let _ = script(&settings);
        if let Ok(page) = page(list.to_string().as_bytes()) {
            prop_assert_eq!(page.entries, 2);
            prop_assert_eq!(page.servers[0].id, id());
        }
    }

    #[test]
    fn arbitrary_bytes_are_read_or_rejected(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = page(&bytes);
        let _ = json(&bytes).map(|value| server(id(), &value));
        prop_assert!(rejection(&bytes).chars().count() <= 200);
    }
}
