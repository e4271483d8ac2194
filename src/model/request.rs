//! What was asked of one server: `requests.json`. Only the store writes it.
//!
//! API and command line append requests; a declarative field of the manifest becomes one when its value differs from the last
//! one handled. The order of the list is the order of acceptance. Which request counts is decided in [`crate::requests`].

use serde::{Deserialize, Serialize};
use strum::IntoStaticStr;

use super::Timestamp;
use super::manifest::Power;

/// The requests of one server.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Requests {
    /// Sequence number of the request that was accepted last.
    pub sequence: u64,
    /// The values of declarative fields that were handled last.
    pub declared: Declared,
    /// The file was damaged: the values of the next good spec count as handled.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub lost: bool,
    /// The record was lost: requests up to this position count as completed. Set until a record is written again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completed_through: Option<u64>,
    /// Accepted requests, oldest first. Completed ones stay until a later one takes their place.
    pub accepted: Vec<Request>,
}

/// Values of a manifest's declarative fields.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Declared {
    /// `spec.power`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub power: Option<Power>,
    /// `spec.restartedAt`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restarted_at: Option<String>,
    /// `spec.install.version`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub install_version: Option<String>,
}

/// One accepted request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    /// Position in the order of acceptance, from 1.
    pub sequence: u64,
    /// Unique name; the token of containers that are made for it.
    pub id: String,
    /// When it was accepted.
    pub at: Timestamp,
    /// A request that has not begun by then expires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// Who asked.
    pub by: Requester,
    /// What is asked.
    #[serde(flatten)]
    pub verb: Verb,
}

/// Who asked for something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Requester {
    /// A caller with the node's token: the panel.
    Panel,
    /// The local socket: the command line.
    Cli,
    /// A declarative field of the manifest.
    Manifest,
}

/// What can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
#[serde(tag = "verb", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Verb {
    /// The server runs; one that runs goes on.
    Start,
    /// The server is stopped as its egg says.
    Stop,
    /// The server is stopped, if it runs, and started.
    Restart,
    /// The server is killed.
    Kill,
    /// The install script runs.
    Install {
        /// Reported to the panel as a reinstallation.
        reinstall: bool,
        /// Start the server when the installation has succeeded.
        then_start: bool,
    },
    /// The installation before it ends and counts as failed.
    Abort,
    /// The server and its files are removed. Requests after it are for a server of the same name that is made afterwards.
    Delete,
}

impl Verb {
    /// Whether it is about power.
    pub fn is_power(self) -> bool {
        matches!(self, Verb::Start | Verb::Stop | Verb::Restart | Verb::Kill)
    }

    /// Whether the server runs once it is completed.
    pub fn wants_up(self) -> bool {
        matches!(self, Verb::Start | Verb::Restart)
    }

    /// The verb in lower case, as it is stored.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_stored_with_their_verb_beside_their_id() {
        let verbs =
            [Verb::Start, Verb::Install { reinstall: true, then_start: false }, Verb::Abort, Verb::Kill, Verb::Delete];
        for (sequence, verb) in (1..).zip(verbs) {
            let id = "a".to_owned();
            let request =
                Request { sequence, id, at: Timestamp::default(), expires_at: None, by: Requester::Panel, verb };
            let json = serde_json::to_value(&request).unwrap();
            assert_eq!(json["verb"], verb.as_str());
            assert_eq!(serde_json::from_value::<Request>(json).unwrap(), request);
        }
    }
}
