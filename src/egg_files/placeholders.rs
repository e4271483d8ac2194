//! `{{…}}` in values and file names.
//!
//! The values come from an allow-list: the address of the network, and for a server without a panel its own settings. Nothing of
//! the node's configuration can be named, least of all its secrets.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::LazyLock;

use regex::{Captures, Regex};
use serde_json::Value;

use crate::model::{Manifest, Settings};

/// Names of the address at which a container reaches the host.
const INTERFACE: [&str; 2] = ["config.docker.interface", "config.docker.network.interface"];

/// Keys of older eggs, and those of the settings. The panel rewrites them when it imports an egg.
const OLDER_KEYS: [(&str, &str); 8] = [
    ("build.default.", "allocations.default."),
    ("build.env.", "environment."),
    ("build.memory", "build.memory_limit"),
    ("build.disk", "build.disk_space"),
    ("build.cpu", "build.cpu_limit"),
    ("build.io", "build.io_weight"),
    ("build.image", "container.image"),
    ("name", "meta.name"),
];

static PLACEHOLDER: LazyLock<Regex> = LazyLock::new(|| pattern(r"\{\{ ?([\w.-]+) ?\}\}"));
static VARIABLE: LazyLock<Regex> = LazyLock::new(|| pattern(r"\{\{ ?(\w+) ?\}\}|\$\{(\w+)\}"));

#[allow(clippy::expect_used)]
fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("the pattern is constant and valid")
}

/// What placeholders stand for.
#[derive(Debug, Clone)]
pub struct Placeholders {
    interface: String,
    /// The server's settings, if no panel has replaced their placeholders.
    settings: Option<Value>,
}

impl Placeholders {
    /// The placeholders of a server. `interface` is the address at which its container reaches the host.
    ///
    /// The panel replaces `{{server.*}}` and `{{env.*}}` itself. What is left of them is part of a value that a user has typed.
    pub fn new(manifest: &Manifest, interface: String) -> Self {
        let own = !manifest.is_managed_by_panel();
        let settings = own.then(|| {
            let mut settings = serde_json::to_value(&manifest.spec.settings).unwrap_or_default();
            settings["uuid"] = manifest.metadata.uuid.to_string().into();
            settings
        });
        Self { interface, settings }
    }

    /// Replaces the known placeholders in a text. Unknown ones stay.
    pub(super) fn expand(&self, text: &str) -> String {
        PLACEHOLDER
            .replace_all(text, |found: &Captures<'_>| self.lookup(&found[1]).unwrap_or(found[0].to_owned()))
            .into_owned()
    }

    fn lookup(&self, name: &str) -> Option<String> {
        if INTERFACE.contains(&snake_case(name).as_str()) {
            return Some(self.interface.clone());
        }
        let settings = self.settings.as_ref()?;
        if let Some(variable) = name.strip_prefix("env.") {
            return scalar(settings.get("environment")?.get(variable)?);
        }
        let name = name.strip_prefix("server.")?;
        let renamed = OLDER_KEYS.iter().find_map(|(older, key)| match older.strip_suffix('.') {
            Some(_) => name.strip_prefix(older).map(|rest| format!("{key}{rest}")),
            None => (name == *older).then(|| (*key).to_owned()),
        });
        let name = renamed.as_deref().unwrap_or(name);
        // The names of variables may contain dots.
        match name.strip_prefix("environment.") {
            Some(variable) => scalar(settings.get("environment")?.get(variable)?),
            None => scalar(name.split('.').try_fold(settings, |value, key| value.get(key))?),
        }
    }
}

/// `dockerInterface` as `docker_interface`, for each part of a dotted name.
fn snake_case(name: &str) -> String {
    let mut snake = String::with_capacity(name.len());
    for char in name.chars() {
        if char.is_uppercase() && !snake.is_empty() && !snake.ends_with(['.', '_']) {
            snake.push('_');
        }
        snake.extend(char.to_lowercase());
    }
    snake
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        Value::Null => Some(String::new()),
        Value::Array(_) | Value::Object(_) => None,
    }
}

/// The path of a configuration file with the server's variables in it: `{{NAME}}` or `${NAME}`. Unknown ones are empty.
pub fn file_path<'p>(path: &'p str, settings: &Settings) -> Cow<'p, str> {
    let variables: &BTreeMap<String, Value> = &settings.environment;
    VARIABLE.replace_all(path, |found: &Captures<'_>| {
        let name = found.get(1).or(found.get(2)).map_or("", |name| name.as_str());
        variables.get(name).and_then(scalar).unwrap_or_default()
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::ManagedBy;

    fn placeholders(managed_by: ManagedBy) -> Placeholders {
        let mut manifest = Manifest::new("00000000-0000-0000-0000-000000000000".parse().unwrap(), managed_by);
        manifest.spec.settings = serde_json::from_value(json!({
            "environment": {"NAME": "n", "COUNT": 5, "a.b": "dotted"},
            "allocations": {"default": {"ip": "10.0.0.1", "port": 25565}, "mappings": {}},
            "build": {"memory_limit": 1024},
        }))
        .unwrap();
        Placeholders::new(&manifest, "172.18.0.1".into())
    }

    #[test]
    fn a_server_without_a_panel_names_its_settings() {
        let placeholders = placeholders(ManagedBy::File);
        for (text, expected) in [
            ("{{server.build.default.port}}", "25565"),
            ("{{server.allocations.default.ip}}:{{ server.allocations.default.port }}", "10.0.0.1:25565"),
            ("{{server.build.memory}} {{server.build.memory_limit}}", "1024 1024"),
            ("{{env.NAME}}{{server.environment.COUNT}}{{server.build.env.NAME}}", "n5n"),
            ("{{env.a.b}}", "dotted"),
            ("{{server.uuid}}", "00000000-0000-0000-0000-000000000000"),
            ("{{server.build}} {{server.unknown}} {{env.X}}", "{{server.build}} {{server.unknown}} {{env.X}}"),
        ] {
            assert_eq!(placeholders.expand(text), expected, "{text}");
        }
    }

    #[test]
    fn a_panel_leaves_only_the_address_of_the_network() {
        let placeholders = placeholders(ManagedBy::Panel);
        for text in
            ["{{config.docker.interface}}", "{{ config.docker.network.interface }}", "{{config.Docker.Interface}}"]
        {
            assert_eq!(placeholders.expand(text), "172.18.0.1", "{text}");
        }
        for text in [
            "{{config.token}}",
            "{{config.docker}}",
            "{{env.NAME}}",
            "{{server.uuid}}",
            "{{  config.docker.interface}}",
        ] {
            assert_eq!(placeholders.expand(text), text);
        }
    }

    #[test]
    fn variables_in_file_names() {
        let settings: Settings = serde_json::from_value(json!({"environment": {"WORLD": "earth", "N": 5}})).unwrap();
        for (path, expected) in
            [("w/{{WORLD}}/${N}.cfg", "w/earth/5.cfg"), ("{{NONE}}x", "x"), ("plain{x}", "plain{x}"), ("{{ N }}", "5")]
        {
            assert_eq!(file_path(path, &settings), expected);
        }
    }
}
