//! Containers as the runtime reports them, reduced to what decisions need.

#![allow(missing_docs)]

use std::fmt::{self, Display};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::IntoStaticStr;

use super::{Fields, Timestamp};

/// What a container is for.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, strum::Display, IntoStaticStr,
)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Role {
    /// Runs the game; named by the server's uuid.
    Server,
    /// Runs the install script; named `{uuid}_installer`.
    Installer,
}

impl Role {
    /// The value of the label `alula.role`.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// The state of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ContainerState {
    /// Created, and no start was attempted.
    Created,
    /// Created, and the runtime could not start it. It is not started again: Docker 29 would start it without its network.
    StartFailed,
    /// Running, also while it is paused.
    Running,
    Exited {
        code: i64,
        oom_killed: bool,
    },
}

/// Identifies a directory on this host, under whichever path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DirectoryId {
    /// The device of its file system.
    pub device: u64,
    /// Its inode there.
    pub inode: u64,
}

/// A port of the host, published for TCP and UDP.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct PublishedPort {
    /// Address of the host.
    pub address: String,
    /// Port, never 0.
    pub port: u16,
}

/// What was observed of one container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerStatus {
    /// The runtime's id.
    pub id: String,
    pub state: ContainerState,
    /// A person has paused the running container.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
    /// The engine's number of the running container's first process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<u32>,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
    /// Label `alula.token`: the request for which it was created; `None` if another daemon has created it.
    pub token: Option<String>,
    /// Label `alula.spec`.
    pub spec_hash: Option<String>,
    /// Hash of the applied limits, comparable with that of the spec's limits.
    pub limits_hash: Option<String>,
    /// The image reference that it was created from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Label `alula.fields`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fields: Option<Fields>,
    /// The ports that are bound while it runs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<PublishedPort>,
    /// The image's signal for a native stop.
    pub stop_signal: Option<String>,
    /// Further containers of the same server and role that run, on the same files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<String>,
    /// The directory that a running container has mounted as the server's files, where that can be found out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<DirectoryId>,
}

impl Display for PublishedPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PublishedPort { address, port } = self;
        if address.contains(':') { write!(f, "[{address}]:{port}") } else { write!(f, "{address}:{port}") }
    }
}

impl ContainerStatus {
    /// Whether the container runs.
    pub fn running(&self) -> bool {
        self.state == ContainerState::Running
    }

    /// Whether the container was created and no start was attempted.
    pub fn is_created(&self) -> bool {
        self.state == ContainerState::Created
    }
}
