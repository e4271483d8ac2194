//! Containers as the runtime shows them, reduced to what decisions need.

use serde::{Deserialize, Serialize};
use strum::IntoStaticStr;

use super::Timestamp;

/// What a container is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, IntoStaticStr)]
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

/// Where a container stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ContainerState {
    /// Made, never started.
    Created,
    /// Made, and the runtime could not start it. Never started again: Docker 29 does, but without its network.
    StartFailed,
    /// Running (also when paused: it comes back by itself or by its owner).
    Running,
    /// Ended.
    Exited {
        /// Exit status of its first process.
        code: i64,
        /// The kernel ended it for want of memory.
        oom_killed: bool,
    },
}

/// One container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerStatus {
    /// The runtime's id.
    pub id: String,
    /// Where it stands.
    pub state: ContainerState,
    /// Its last start.
    pub started_at: Option<Timestamp>,
    /// Its last end.
    pub finished_at: Option<Timestamp>,
    /// The intent it was made for (our label); `None` for one that another daemon made.
    pub token: Option<String>,
    /// Hash of the spec it was made from (our label).
    pub spec_hash: Option<String>,
    /// Hash of the limits in force, comparable with the wanted ones.
    pub limits_hash: Option<String>,
    /// Signal that the image wants at a native stop.
    pub stop_signal: Option<String>,
}

impl ContainerStatus {
    /// Whether it runs.
    pub fn running(&self) -> bool {
        self.state == ContainerState::Running
    }

    /// Whether it runs or has run.
    pub fn started(&self) -> bool {
        !matches!(self.state, ContainerState::Created | ContainerState::StartFailed)
    }

    /// Whether it was made and nobody has tried to start it.
    pub fn is_created(&self) -> bool {
        self.state == ContainerState::Created
    }
}
