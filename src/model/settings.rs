//! The panel's description of a server: `settings` and `process_configuration`, with the panel's names.
//!
//! These types are strict, because people write them by hand, too. `panel::wire` adapts the panel's answers, which have keys that no
//! node needs, and empty arrays in place of objects.
//! Source of names and meanings: the panel's remote API, "Server configuration".

#![allow(missing_docs)]

use std::collections::BTreeMap;
use std::fmt::{self, Display};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::time::Span;

fn yes() -> bool {
    true
}

/// `settings`: the server as the panel has it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The panel's database id, used for disk quotas. 0 without a panel.
    pub id: i64,
    pub meta: Meta,
    /// The startup command with `{{VARIABLE}}` placeholders; the image's entrypoint runs it.
    pub invocation: String,
    /// Never run the egg's install script.
    pub skip_egg_scripts: bool,
    /// Variables of the egg. Strings as a rule; numbers, booleans and null are accepted.
    pub environment: BTreeMap<String, Value>,
    /// Labels for the server's container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    pub allocations: Allocations,
    pub build: Build,
    /// Restart after a crash; the node's setting if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crash_detection_enabled: Option<bool>,
    /// Folders of the host, allowed by the node's `allowed_mounts`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mounts: Option<Vec<Mount>>,
    pub egg: Egg,
    pub container: Container,
}

/// Name and description of a server.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Meta {
    pub name: String,
    pub description: String,
}

/// Addresses and ports of a server.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Allocations {
    /// Give the server its own network, whose traffic leaves through the default allocation's address.
    pub force_outgoing_ip: bool,
    /// The allocation shown to players; `127.0.0.1:0` stands for none. With `managedBy: file` it is published where `mappings` is empty.
    pub default: Allocation,
    /// All ports that are published, by address, for TCP and UDP. Numbers outside 1..=65535 are left out.
    pub mappings: BTreeMap<String, Vec<i64>>,
}

/// One address and port.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Allocation {
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
#[serde(deny_unknown_fields, default)]
pub struct Build {
    /// MiB; 0 is unlimited.
    pub memory_limit: i64,
    /// MiB on top of memory; -1 is unlimited.
    pub swap: i64,
    /// Block I/O weight, 10..=1000.
    pub io_weight: u16,
    /// Percent of one core; 0 is unlimited.
    pub cpu_limit: i64,
    /// MiB of files; 0 is unlimited.
    pub disk_space: i64,
    /// Cores as a cpuset such as `0-1,3`; empty for all.
    pub threads: String,
    /// Let the kernel kill the server when it is out of memory.
    pub oom_killer: bool,
}

/// A limit that the kernel of a host does not enforce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnenforcedLimit {
    /// The OOM killer cannot be turned off.
    OomKiller,
    /// Swap is not counted.
    Swap,
    /// Disk traffic has no weights.
    IoWeight,
}

impl Display for UnenforcedLimit {
    /// The field of the settings, and what happens instead.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            UnenforcedLimit::OomKiller => {
                "oom_killer: false (control groups of version 2 cannot turn the OOM killer off: a server that exceeds its memory is killed)"
            }
            UnenforcedLimit::Swap => "swap (the kernel does not count swap: the server may use more; boot with swapaccount=1)",
            UnenforcedLimit::IoWeight => "io_weight (the kernel has no weights for disk traffic: all servers have the same share)",
        })
    }
}

impl Build {
    /// The disk limit in bytes; `None` is unlimited.
    pub fn disk_limit(&self) -> Option<u64> {
        let mib = u64::try_from(self.disk_space).ok().filter(|mib| *mib > 0)?;
        Some(mib.saturating_mul(1024 * 1024))
    }
}

impl Default for Build {
    fn default() -> Self {
        Self {
            memory_limit: 0,
            swap: 0,
            io_weight: 500,
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

/// The egg, without its script.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Egg {
    pub id: String,
    /// Files that users may not touch, in gitignore syntax.
    pub file_denylist: Vec<String>,
    /// Feature name → console texts that announce it.
    pub features: BTreeMap<String, Vec<String>>,
}

/// The server's image.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Container {
    /// Image reference; with a leading `~` it is local and never pulled.
    #[serde(deserialize_with = "super::image::deserialize")]
    pub image: String,
}

/// `process_configuration`: how the server's start-up is detected, and how the server is stopped and configured.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Process {
    pub startup: Startup,
    pub stop: Stop,
    /// Files that are rewritten before each start.
    pub configs: Vec<ConfigFile>,
}

/// How the end of the start-up is detected.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Startup {
    /// Texts in a console line; with the prefix `regex:` a regular expression.
    pub done: Vec<String>,
    /// Remove terminal colours from lines before they are matched.
    pub strip_ansi: bool,
}

/// How the server is stopped.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Stop {
    /// `command`, `signal` (also when empty), or `stop` for the runtime's own way.
    #[serde(rename = "type")]
    pub kind: String,
    /// The command, or the signal's name.
    pub value: String,
    /// How long a stop waits for the server's end before it kills the server, such as `90s` or `20m`, at most `24h`. If absent: 10
    /// minutes, and 10 seconds after a signal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
}

/// A file that is rewritten before each start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConfigFile {
    /// `file`, `yaml`, `properties`, `ini`, `json`, `xml` or `toml`.
    pub parser: String,
    /// Path below the server's folder; may contain `{{VARIABLE}}`.
    pub file: String,
    /// Create the file if it is missing.
    #[serde(default = "yes")]
    pub create_file: bool,
    /// The replacements.
    #[serde(default)]
    pub replace: Vec<Replacement>,
}

/// One replacement in a configuration file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Replacement {
    /// Key, path or start of a line.
    #[serde(rename = "match")]
    pub key: String,
    /// Replace only if the current value equals this, or matches it after the prefix `regex:`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub if_value: Option<String>,
    /// The new value, a scalar.
    #[serde(default)]
    pub replace_with: Value,
}
