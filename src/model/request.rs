//! `requests.json`: the accepted requests of one server. Only the store writes it.
//!
//! API and command line append requests. A declarative field of the manifest becomes a request when its value differs from the one
//! handled last. The list has the order of acceptance. [`crate::requests`] decides which request counts.

#![allow(missing_docs)]

use serde::{Deserialize, Serialize};
use strum::IntoStaticStr;

use super::Timestamp;
use super::manifest::Power;
use super::time::Span;

/// The requests of one server.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Requests {
    /// Sequence number of the latest accepted request.
    pub sequence: u64,
    /// The values of the declarative fields that were handled last.
    pub declared: Declared,
    /// The file was damaged: the values of the next good spec count as handled.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub lost: bool,
    /// The record was lost: requests up to this position count as completed. Cleared when a record is written again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completed_through: Option<u64>,
    /// Sequence number of the latest installation of which the record has the result. A record without it is an older copy.
    #[serde(skip_serializing_if = "is_zero")]
    pub installed_through: u64,
    /// Accepted requests, oldest first. A completed request stays until a later one supersedes it.
    pub accepted: Vec<Request>,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// The values of a manifest's declarative fields.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Declared {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub power: Option<Power>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restarted_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub install_version: Option<String>,
}

/// One accepted request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    /// Position in the order of acceptance, from 1.
    pub sequence: u64,
    /// Unique; the token of containers that are created for the request.
    pub id: String,
    /// When it was accepted.
    pub at: Timestamp,
    /// The request expires if it has not begun by then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// How long a stop or restart waits for the server's end before it kills the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
    pub by: Requester,
    #[serde(flatten)]
    pub verb: Verb,
}

/// Who made a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
#[serde(rename_all = "camelCase")]
pub enum Requester {
    /// A caller with the node's token: the panel.
    Panel,
    /// The local socket: the command line.
    Cli,
    /// A declarative field of the manifest.
    Manifest,
    /// The takeover from Wings, which ran the server.
    Takeover,
    /// A schedule of the node's configuration.
    Schedule,
}

impl Requester {
    /// Its name in the log.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// What a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
#[serde(tag = "verb", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Verb {
    /// Starts the server; a running server is left as it is.
    Start,
    /// Stops the server as its egg defines.
    Stop,
    /// Stops the server if it runs, then starts it.
    Restart,
    /// Kills the server.
    Kill,
    /// Runs the install script.
    Install {
        /// Reported to the panel as a reinstallation.
        reinstall: bool,
        /// Start the server when the installation has succeeded.
        then_start: bool,
    },
    /// Ends the earlier installation, which then counts as failed.
    Abort,
    /// Removes the server and its files. Later requests apply to a server of the same name that is created afterwards.
    Delete,
}

impl Verb {
    /// Whether this is a power request.
    pub fn is_power(self) -> bool {
        matches!(self, Verb::Start | Verb::Stop | Verb::Restart | Verb::Kill)
    }

    /// Whether the server runs once the request is completed.
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
    fn a_request_and_its_verb_are_stored_as_one_object() {
        let verbs =
            [Verb::Start, Verb::Install { reinstall: true, then_start: false }, Verb::Abort, Verb::Kill, Verb::Delete];
        for (sequence, verb) in (1..).zip(verbs) {
            let id = "a".to_owned();
            let request = Request {
                sequence,
                id,
                at: Timestamp::default(),
                expires_at: None,
                timeout: None,
                by: Requester::Panel,
                verb,
            };
            let json = serde_json::to_value(&request).unwrap();
            assert_eq!(json["verb"], verb.as_str());
            assert_eq!(serde_json::from_value::<Request>(json).unwrap(), request);
        }
    }
}
