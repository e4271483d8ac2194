//! The fields of the manifest that need another container, so that a running server shows which of them have changed since its start.
//!
//! The digests are those of the manifest's values, and not of what is built from them: that depends on the servers' network, too, which
//! is not known yet when the daemon starts.

use std::collections::BTreeMap;

use serde_json::Value;

use super::environment::text;
use super::{network, server_image};
use crate::model::fields::RESOURCES;
use crate::model::settings::{Allocations, Build};
use crate::model::{DigestKey, Fields, Resources, Settings};

/// The digests of the fields in these settings; none without a key.
pub(super) fn of_server(settings: &Settings, resources: &Resources, key: &DigestKey) -> Fields {
    if key.is_empty() {
        return Fields::default();
    }
    let mut fields = Fields::new(key);
    fields.add(key, "container.image", &server_image(&settings.container.image).0);
    fields.add(key, "invocation", &settings.invocation);
    for (name, value) in &settings.environment {
        fields.add(key, format!("environment.{name}"), &text(value));
    }
    for (name, value) in settings.labels.iter().flatten() {
        fields.add(key, format!("labels.{name}"), value);
    }
    for mount in settings.mounts.iter().flatten() {
        // Of two with one target, the first counts.
        fields.add(key, format!("mounts[{}]", mount.target), &(&mount.source, mount.read_only));
    }
    let Allocations { force_outgoing_ip, default, mappings } = &settings.allocations;
    fields.add(key, "allocations.default", default);
    fields.add(key, "allocations.force_outgoing_ip", force_outgoing_ip);
    let mappings: BTreeMap<_, _> = mappings.iter().map(|(ip, numbers)| (ip, network::valid_ports(numbers))).collect();
    fields.add(key, "allocations.mappings", &mappings);
    limits(&mut fields, settings, key);
    // Only those that are there: containers of earlier releases have none.
    if let Some(size) = resources.shm_size {
        fields.add(key, format!("{RESOURCES}shmSize"), &size);
    }
    for (name, ulimit) in &resources.ulimits {
        fields.add(key, format!("{RESOURCES}ulimits.{}", name.as_str()), ulimit);
    }
    fields
}

/// Limits that are not changed in place: the engine removes none, except that of CPU time, and the command may contain that of memory.
fn limits(fields: &mut Fields, settings: &Settings, key: &DigestKey) {
    let Build { memory_limit, io_weight, threads, oom_killer, .. } = &settings.build;
    let memory = memory_limit.max(&0);
    if *memory == 0 || uses_memory(settings) {
        fields.add(key, "build.memory_limit", memory);
    }
    if threads.trim().is_empty() {
        fields.add(key, "build.threads", &"");
    }
    if *io_weight == 0 {
        fields.add(key, "build.io_weight", &0);
    }
    fields.add(key, "build.oom_killer", oom_killer);
}

/// Whether the start-up command has the limit of memory in it. Values of variables may have placeholders, too.
fn uses_memory(settings: &Settings) -> bool {
    let names = |text: &str| text.contains("SERVER_MEMORY");
    let value = |value: &Value| value.as_str().is_some_and(names);
    names(&settings.invocation) || settings.environment.values().any(value)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn settings(change: Value) -> Settings {
        let mut settings = json!({
            "invocation": "game --port {{SERVER_PORT}}",
            "environment": {"A": "1", "PASSWORD": "1234"},
            "labels": {"team": "blue"},
            "allocations": {"default": {"ip": "127.0.0.1", "port": 25565}, "mappings": {"127.0.0.1": [1, 2]}},
            "build": {"memory_limit": 128, "threads": "0", "io_weight": 300},
            "mounts": [{"source": "/srv/maps", "target": "/maps"}],
            "container": {"image": "game:1"}
        });
        let (into, change) = (settings.as_object_mut().unwrap(), change.as_object().unwrap().clone());
        for (name, value) in change {
            match (into.get_mut(&name), value) {
                (Some(Value::Object(into)), Value::Object(value)) => into.extend(value),
                (_, value) => drop(into.insert(name, value)),
            }
        }
        serde_json::from_value(settings).unwrap()
    }

    fn changes(before: Value, after: Value) -> String {
        let key = DigestKey::new("k".into());
        let [before, after] = [before, after].map(|change| of_server(&settings(change), &Resources::default(), &key));
        before.changes_to(&after).unwrap().join(" ")
    }

    #[test]
    fn each_field_that_needs_another_container_is_named() {
        for (change, fields) in [
            (json!({}), ""),
            (json!({"container": {"image": "game:2"}}), "container.image"),
            (json!({"container": {"image": "~game:1"}}), ""),
            (json!({"invocation": "other"}), "invocation"),
            (json!({"environment": {"A": "2", "B": "1"}}), "environment.A environment.B"),
            (json!({"environment": {"A": 1}}), ""),
            (json!({"labels": {"team": "red"}}), "labels.team"),
            (json!({"labels": null}), "labels.team"),
            (json!({"mounts": [{"source": "/srv/maps", "target": "/maps", "read_only": true}]}), "mounts[/maps]"),
            (json!({"mounts": null}), "mounts[/maps]"),
            (json!({"allocations": {"default": {"ip": "127.0.0.1", "port": 1}}}), "allocations.default"),
            (json!({"allocations": {"mappings": {"127.0.0.1": [3]}}}), "allocations.mappings"),
            (json!({"allocations": {"mappings": {"127.0.0.1": [2, 1, 2, 0]}}}), ""),
            (json!({"allocations": {"force_outgoing_ip": true}}), "allocations.force_outgoing_ip"),
            (json!({"meta": {"name": "other"}, "id": 7}), ""),
        ] {
            assert_eq!(changes(json!({}), change.clone()), fields, "{change}");
        }
    }

    #[test]
    fn limits_need_another_container_only_where_the_engine_cannot_change_them() {
        let build = |build: Value| json!({ "build": build });
        for (before, after, fields) in [
            (build(json!({})), build(json!({"memory_limit": 256, "cpu_limit": 50, "swap": -1})), ""),
            (build(json!({})), build(json!({"threads": "1", "io_weight": 10, "disk_space": 5})), ""),
            (build(json!({})), build(json!({"memory_limit": 0})), "build.memory_limit"),
            (build(json!({"memory_limit": 0})), build(json!({})), ""),
            (build(json!({})), build(json!({"threads": " ", "io_weight": 0})), "build.io_weight build.threads"),
            (build(json!({"threads": "", "io_weight": 0})), build(json!({})), ""),
            (build(json!({})), build(json!({"oom_killer": false})), "build.oom_killer"),
        ] {
            assert_eq!(changes(before, after.clone()), fields, "{after}");
        }
        for used in [json!({"invocation": "-Xmx{{SERVER_MEMORY}}M"}), json!({"environment": {"A": "${SERVER_MEMORY}"}})]
        {
            let mut larger = used.clone();
            larger["build"] = json!({"memory_limit": 256});
            assert_eq!(changes(used, larger), "build.memory_limit");
        }
    }

    #[test]
    fn resources_need_another_container() {
        let key = DigestKey::new("k".into());
        let of = |resources: Value| of_server(&settings(json!({})), &serde_json::from_value(resources).unwrap(), &key);
        let none = of(json!({}));
        for (resources, fields) in [
            (json!({"shmSize": 256}), "resources.shmSize"),
            (json!({"ulimits": {"nofile": {"soft": 1, "hard": 2}}}), "resources.ulimits.nofile"),
            (json!({"cpuStartBoost": 400}), ""),
        ] {
            assert_eq!(none.changes_to(&of(resources.clone())).unwrap().join(" "), fields, "{resources}");
            assert_eq!(of(resources.clone()).changes_to(&none).unwrap().join(" "), fields, "{resources} removed");
        }
    }

    #[test]
    fn no_value_is_readable_in_the_label() {
        let none = Resources::default();
        let label = of_server(&settings(json!({})), &none, &DigestKey::new("k".into())).to_label();
        assert!(label.contains("environment.PASSWORD"), "{label}");
        assert!(!label.contains("1234") && !label.contains("game:1"), "{label}");
        let other = of_server(&settings(json!({})), &none, &DigestKey::new("other".into())).to_label();
        assert_ne!(label, other, "it cannot be guessed without the key");
        assert!(of_server(&settings(json!({})), &none, &DigestKey::default()).is_empty());
    }
}
