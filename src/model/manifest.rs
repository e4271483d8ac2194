//! The desired state of one server: `config.yml`, merged with `override.yml`.

#![allow(missing_docs)]

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ServerId;
use super::backup_hooks::BackupHooks;
use super::resources::Resources;
use super::restart::Restart;
use super::settings::{Process, Settings};
use super::time::Span;

/// The desired state of one server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schemars(title = "alula server")]
pub struct Manifest {
    pub api_version: ApiVersion,
    pub kind: Kind,
    pub metadata: Metadata,
    #[serde(default)]
    pub spec: Spec,
}

/// Version of the manifest's format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ApiVersion {
    #[serde(rename = "alula/v1")]
    V1,
}

/// Kind of the manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Kind {
    Server,
}

/// Which server this is, and what manages it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Metadata {
    /// The server's UUID; equals the name of its folder.
    pub uuid: ServerId,
    /// Where `settings`, `process` and `script` come from.
    #[serde(default)]
    pub managed_by: ManagedBy,
    /// Labels for people and tools; the daemon does not use them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// Where a server's settings come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ManagedBy {
    /// The panel: each sync replaces this file.
    Panel,
    /// This file: the panel is never asked about the server.
    #[default]
    File,
}

/// How the server should be.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Spec {
    /// Whether the server should run. A changed value is a request to start or stop it. If absent, only requests of the API and of
    /// `alula power` count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub power: Option<Power>,
    /// Any text, such as a date. A changed value is a request to restart the server, unless `power` is `down`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restarted_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub install: Option<Install>,
    /// What follows when the server ends by itself. If absent, the rule of Wings applies: it is started again, unless its crash before was
    /// less than `system.crash_detection.timeout` of the node's configuration ago.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart: Option<Restart>,
    /// Console commands around backups.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backup: Option<BackupHooks>,
    /// Resources that no panel knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// After a boot of the host, servers with a higher number are started first.
    #[serde(skip_serializing_if = "is_zero")]
    pub priority: i32,
    /// A suspended server is stopped and does not start.
    pub suspended: bool,
    pub settings: Settings,
    pub process: Process,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub script: Option<Script>,
}

fn is_zero(number: &i32) -> bool {
    *number == 0
}

/// Whether a server should run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Power {
    Up,
    Down,
}

/// When and how a server is installed.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Install {
    /// Any text. A changed value is a request to run the install script (again).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Start the server when an installation that `version` requested has succeeded.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub then_start: bool,
    /// Time limit of the script, such as `1h` or `30m`; the node's setting if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
}

/// The egg's install script.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Script {
    /// Image that runs the script.
    #[serde(deserialize_with = "super::image::deserialize")]
    pub image: String,
    /// Program that runs it: `sh`, `bash`, `ash`.
    #[serde(deserialize_with = "super::image::deserialize")]
    pub entrypoint: String,
    /// The script's text; CRLF line ends become LF.
    pub text: String,
}

impl Script {
    /// Whether there is nothing to run.
    pub fn is_blank(&self) -> bool {
        self.text.trim().is_empty()
    }
}

impl Manifest {
    /// A manifest with an empty spec.
    pub fn new(uuid: ServerId, managed_by: ManagedBy) -> Self {
        Self {
            api_version: ApiVersion::V1,
            kind: Kind::Server,
            metadata: Metadata { uuid, managed_by, labels: BTreeMap::new() },
            spec: Spec::default(),
        }
    }

    /// Whether its settings come from the panel.
    pub fn is_managed_by_panel(&self) -> bool {
        self.metadata.managed_by == ManagedBy::Panel
    }

    /// Hash of the whole manifest; equal manifests have equal hashes.
    pub fn hash(&self) -> String {
        digest(self)
    }
}

/// Short hash of a value's JSON form.
pub fn digest<T: Serialize>(value: &T) -> String {
    use sha2::Digest;
    let text = serde_json::to_vec(value).unwrap_or_default();
    let hash = sha2::Sha256::digest(&text);
    hash.iter().take(12).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_and_entrypoints_are_read_without_white_space() {
        let spec: Spec = serde_json::from_value(serde_json::json!({
            "settings": {"container": {"image": "~ example/game:1\r\n"}},
            "script": {"image": "\texample/installer ", "entrypoint": "bash\r\n", "text": " \r\n\t"},
        }))
        .unwrap();
        assert_eq!(spec.settings.container.image, "~example/game:1");
        let script = spec.script.unwrap();
        assert_eq!((script.image.as_str(), script.entrypoint.as_str()), ("example/installer", "bash"));
        assert!(script.is_blank());
    }
}
