//! What the panel says about a server: `settings` and `process_configuration`, in its own words.
//!
//! These shapes are strict, since people write them by hand too. The panel's answers, which carry keys
//! that no node needs and stand empty arrays where objects belong, are made to fit in `panel::wire`.
//! Source of names and meanings: the panel's remote API, "Server configuration".

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

fn yes() -> bool {
    true
}

fn default_io_weight() -> u16 {
    500
}

/// `settings`: the server as the panel has it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The panel's database id, used for disk quotas. 0 without a panel.
    #[serde(default)]
    pub id: i64,
    /// Name and description, for people.
    #[serde(default)]
    pub meta: Meta,
    /// The startup command with `{{VARIABLE}}` placeholders; the image's entrypoint runs it.
    #[serde(default)]
    pub invocation: String,
    /// Never run the egg's install script.
    #[serde(default)]
    pub skip_egg_scripts: bool,
    /// Variables of the egg. Strings as a rule; numbers, booleans and null are accepted.
    #[serde(default)]
    pub environment: BTreeMap<String, Value>,
    /// Labels for the server's container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// Addresses and ports.
    #[serde(default)]
    pub allocations: Allocations,
    /// Limits.
    #[serde(default)]
    pub build: Build,
    /// Restart after a crash; the node's setting where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crash_detection_enabled: Option<bool>,
    /// Folders of the host, allowed by the node's `allowed_mounts`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mounts: Option<Vec<Mount>>,
    /// What the egg says beside its script.
    #[serde(default)]
    pub egg: Egg,
    /// The image.
    #[serde(default)]
    pub container: Container,
}

/// Name and description of a server.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Meta {
    /// Name.
    #[serde(default)]
    pub name: String,
    /// Description.
    #[serde(default)]
    pub description: String,
}

/// Addresses and ports of a server.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Allocations {
    /// Give the server a network of its own whose traffic leaves by the default allocation's address.
    #[serde(default)]
    pub force_outgoing_ip: bool,
    /// The allocation shown to players; `127.0.0.1:0` stands for none.
    #[serde(default)]
    pub default: Allocation,
    /// Ports by address. Numbers outside 1..=65535 are left out.
    #[serde(default)]
    pub mappings: BTreeMap<String, Vec<i64>>,
}

/// One address and port.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Allocation {
    /// Address.
    pub ip: String,
    /// Port; 0 stands for none.
    pub port: i64,
}

impl Default for Allocation {
    fn default() -> Self {
        Self { ip: "127.0.0.1".into(), port: 0 }
    }
}

/// Limits of a server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Build {
    /// MiB; 0 is unlimited.
    #[serde(default)]
    pub memory_limit: i64,
    /// MiB on top of memory; -1 is unlimited.
    #[serde(default)]
    pub swap: i64,
    /// Block I/O weight, 10..=1000.
    #[serde(default = "default_io_weight")]
    pub io_weight: u16,
    /// Percent of one core; 0 is unlimited.
    #[serde(default)]
    pub cpu_limit: i64,
    /// MiB of files; 0 is unlimited.
    #[serde(default)]
    pub disk_space: i64,
    /// Cores as a cpuset such as `0-1,3`; empty for all.
    #[serde(default)]
    pub threads: String,
    /// Let the kernel kill the server when it is out of memory.
    #[serde(default = "yes")]
    pub oom_killer: bool,
}

impl Default for Build {
    fn default() -> Self {
        Self {
            memory_limit: 0,
            swap: 0,
            io_weight: default_io_weight(),
            cpu_limit: 0,
            disk_space: 0,
            threads: String::new(),
            oom_killer: true,
        }
    }
}

/// A folder of the host inside the server's container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mount {
    /// Absolute path on the host.
    pub source: String,
    /// Absolute path in the container.
    pub target: String,
    /// Mounted read-only.
    #[serde(default)]
    pub read_only: bool,
}

/// What the egg says beside its script.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Egg {
    /// The egg's UUID.
    #[serde(default)]
    pub id: String,
    /// Files that users may not touch, in gitignore syntax.
    #[serde(default)]
    pub file_denylist: Vec<String>,
    /// Feature name → console texts that announce it.
    #[serde(default)]
    pub features: BTreeMap<String, Vec<String>>,
}

/// The server's image.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Container {
    /// Image reference; a leading `~` means that it is local and never pulled.
    #[serde(default)]
    pub image: String,
}

/// `process_configuration`: how the server's process is watched, stopped and configured.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Process {
    /// How a finished start-up is noticed.
    #[serde(default)]
    pub startup: Startup,
    /// How the server is stopped.
    #[serde(default)]
    pub stop: Stop,
    /// Files that are rewritten before each start.
    #[serde(default)]
    pub configs: Vec<ConfigFile>,
}

/// How a finished start-up is noticed.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Startup {
    /// Texts in a console line; `regex:` in front makes it a regular expression.
    #[serde(default)]
    pub done: Vec<String>,
    /// Remove terminal colours from lines before they are matched.
    #[serde(default)]
    pub strip_ansi: bool,
}

/// How the server is stopped.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Stop {
    /// `command`, `signal` (also when empty), or `stop` for the runtime's own way.
    #[serde(default, rename = "type")]
    pub kind: String,
    /// The command, or the signal's name.
    #[serde(default)]
    pub value: String,
}

/// A file that is rewritten before each start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConfigFile {
    /// `file`, `yaml`, `properties`, `ini`, `json`, `xml` or `toml`.
    pub parser: String,
    /// Path below the server's folder; may hold `{{VARIABLE}}`.
    pub file: String,
    /// Make the file where it is missing.
    #[serde(default = "yes")]
    pub create_file: bool,
    /// What to put where.
    #[serde(default)]
    pub replace: Vec<Replacement>,
}

/// One replacement in a configuration file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Replacement {
    /// Key, path or beginning of a line.
    #[serde(rename = "match")]
    pub key: String,
    /// Only where the present value is this, or matches it after `regex:`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub if_value: Option<String>,
    /// The new value, a scalar.
    #[serde(default)]
    pub replace_with: Value,
}
