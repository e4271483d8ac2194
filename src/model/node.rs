//! Conditions of the node itself: what it needs and no server owns.

use serde::{Deserialize, Serialize};
use strum::Display;

use super::{ConditionStatus, Timestamp};

/// What a condition of the node states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Display)]
pub enum NodeConditionType {
    /// The container engine answers.
    EngineReachable,
    /// The panel's list of servers was fetched since the daemon started.
    PanelListed,
    /// The API has a certificate.
    CertificateReady,
    /// The panel takes the activity log.
    ActivitySent,
    /// Users reach their files over SFTP.
    SftpServed,
    /// The node's file on disk is the one in effect.
    ConfigurationApplied,
    /// A condition of a newer release.
    #[serde(other)]
    Unrecognized,
}

/// A condition of the node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeCondition {
    /// What it states.
    pub r#type: NodeConditionType,
    /// Whether that is so.
    pub status: ConditionStatus,
    /// What is wrong and what to do; empty if nothing is.
    pub message: String,
    /// When `status` changed last.
    pub last_transition_time: Timestamp,
}
