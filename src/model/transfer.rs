//! A transfer of a server between this node and another one. Part of `record.json`.
//!
//! ```text
//! outgoing: requested --(the destination has answered 200)--> result --> the panel deletes the server here
//! incoming: begun --(verified, exchanged)--> result --(acknowledged)--> reported
//! either:   requested, begun --(an error, or cancelled)--> result --(acknowledged)--> reported
//! ```

#![allow(missing_docs)]

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{BackupArchive, Timestamp};

/// A transfer. The latest one stays in the record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", from = "Stored")]
pub struct Transfer {
    /// Unique; names the directories of this transfer.
    pub token: Uuid,
    /// When it was requested.
    pub at: Timestamp,
    pub direction: TransferDirection,
    /// It is to be ended.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cancelled: bool,
    /// How it has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<TransferResult>,
    /// Whether the panel has acknowledged or rejected the result, or does not wait for it.
    #[serde(default)]
    pub reported: bool,
}

/// Where a server goes, or comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum TransferDirection {
    /// To another node.
    Outgoing(Outgoing),
    /// From another node.
    Incoming(Incoming),
}

/// What the source knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Outgoing {
    /// Where the destination receives servers.
    pub url: String,
    /// What the panel has signed for the destination.
    pub authorization: Authorization,
    /// The backups that go with the server.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub backups: Vec<Uuid>,
    /// The server ran, and is started again if it stays.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub then_start: bool,
    /// The storage that this node shares with others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// It goes in rounds, as far as is known. Without this the server is stopped, and sent as one form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rounds: Option<Rounds>,
    /// A form was begun, so the destination may have the server. There is no second one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub begun: bool,
}

/// A transfer in rounds, while the server runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rounds {
    /// Admits this node to its session at the destination.
    pub secret: Authorization,
    pub phase: RoundPhase,
    /// When the server was requested to stop for the last round.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<Timestamp>,
}

/// How far a transfer in rounds is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RoundPhase {
    /// The destination is asked for a session.
    Opening,
    /// What differs is sent, again and again, while the server runs.
    Live,
    /// The server is stopped, and what still differs is sent.
    Last,
}

/// What the destination knows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Incoming {
    /// Backups that were received, and are removed if the transfer fails.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub backups: Vec<Uuid>,
    /// The server was here already, and the panel had not listed it since then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parked: Option<Timestamp>,
    /// The files are on storage that both nodes share: nothing is copied, and nothing removed.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub shared: bool,
    /// It comes in rounds. Without this it comes as one form, in one request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<IncomingSession>,
}

/// What admits the source of a transfer in rounds, and what has arrived for good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IncomingSession {
    /// The SHA-256 of the source's secret.
    pub secret_hash: String,
    /// When the source was last heard of, within some minutes.
    pub contact: Timestamp,
    /// The backups, once all of them are here and verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backups: Option<Vec<(Uuid, BackupArchive)>>,
}

/// The end of a transfer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TransferResult {
    pub succeeded: bool,
    /// For people: what was moved, or what was attempted and why it failed.
    pub message: String,
    pub at: Timestamp,
}

/// The value of a header that admits its sender. Only `record.json` has it.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Authorization(String);

impl Authorization {
    /// Wraps a header's value.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The value itself, for the code that sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Authorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authorization(hidden)")
    }
}

impl Transfer {
    /// A transfer that begins.
    pub fn new(token: Uuid, at: Timestamp, direction: TransferDirection) -> Self {
        Self { token, at, direction, cancelled: false, result: None, reported: false }
    }

    /// The same, ended before it began.
    pub fn refused(self, message: &str) -> Self {
        let result = TransferResult { succeeded: false, message: message.to_owned(), at: self.at };
        Self { result: Some(result), ..self }
    }

    pub fn outgoing(&self) -> Option<&Outgoing> {
        match &self.direction {
            TransferDirection::Outgoing(outgoing) => Some(outgoing),
            TransferDirection::Incoming(_) => None,
        }
    }

    pub fn incoming(&self) -> Option<&Incoming> {
        match &self.direction {
            TransferDirection::Incoming(incoming) => Some(incoming),
            TransferDirection::Outgoing(_) => None,
        }
    }

    /// Whether it goes on.
    pub fn is_pending(&self) -> bool {
        self.result.is_none()
    }

    /// Whether the server goes on as before: its files are sent while it runs.
    pub fn lets_run(&self) -> bool {
        let phase = self.outgoing().and_then(|outgoing| outgoing.rounds.as_ref()).map(|rounds| rounds.phase);
        self.is_pending() && matches!(phase, Some(RoundPhase::Opening | RoundPhase::Live))
    }

    /// Whether the server must not run here and its files must stay as they are: until the panel has the result of an incoming
    /// one. One that has left waits for its deletion.
    pub fn holds_server(&self) -> bool {
        match (&self.direction, &self.result) {
            (_, None) => true,
            (TransferDirection::Outgoing(_), Some(result)) => result.succeeded,
            (TransferDirection::Incoming(_), Some(result)) => !result.succeeded || !self.reported,
        }
    }

    /// Whether something is to be done about its result: to report it, or to remove what an incoming one has left.
    pub fn has_due_report(&self) -> bool {
        let succeeded = self.result.as_ref().map(|result| result.succeeded);
        match (&self.direction, succeeded) {
            (_, None) | (TransferDirection::Outgoing(_), Some(true)) => false,
            (TransferDirection::Incoming(_), Some(false)) => true,
            _ => !self.reported,
        }
    }

    /// Whether the server's files may be those of another node, too: they are not removed with the server.
    pub fn shares_files(&self) -> bool {
        match &self.direction {
            TransferDirection::Outgoing(outgoing) => outgoing.pool.is_some() && self.holds_server(),
            TransferDirection::Incoming(incoming) => incoming.shared && self.holds_server(),
        }
    }
}

/// A transfer as a file has it. An earlier release made none, and kept the failure of each one.
#[derive(Deserialize)]
#[serde(untagged)]
enum Stored {
    #[serde(rename_all = "camelCase")]
    Transfer {
        token: Uuid,
        at: Timestamp,
        direction: TransferDirection,
        #[serde(default)]
        cancelled: bool,
        #[serde(default)]
        result: Option<TransferResult>,
        #[serde(default)]
        reported: bool,
    },
    Failed {
        token: String,
        #[allow(dead_code, reason = "there was one outcome")]
        outcome: String,
    },
}

impl From<Stored> for Transfer {
    fn from(stored: Stored) -> Self {
        match stored {
            Stored::Transfer { token, at, direction, cancelled, result, reported } => {
                Self { token, at, direction, cancelled, result, reported }
            }
            Stored::Failed { token, .. } => {
                let outgoing = Outgoing {
                    url: String::new(),
                    authorization: Authorization::default(),
                    backups: Vec::new(),
                    then_start: false,
                    pool: None,
                    rounds: None,
                    begun: false,
                };
                let direction = TransferDirection::Outgoing(outgoing);
                let transfer = Self::new(token.parse().unwrap_or_default(), Timestamp::default(), direction);
                transfer.refused("the release of that time could not transfer servers")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Record;

    fn outgoing() -> Transfer {
        let outgoing = Outgoing {
            url: "https://node/api/transfers".into(),
            authorization: Authorization::new("Bearer secret"),
            backups: vec![Uuid::from_u128(1)],
            then_start: true,
            pool: None,
            rounds: Some(Rounds { secret: Authorization::new("own secret"), phase: RoundPhase::Live, stopped: None }),
            begun: false,
        };
        Transfer::new(Uuid::from_u128(7), Timestamp::from_millis(1000), TransferDirection::Outgoing(outgoing))
    }

    fn incoming() -> Transfer {
        Transfer { direction: TransferDirection::Incoming(Incoming::default()), ..outgoing() }
    }

    fn ended(transfer: Transfer, succeeded: bool, reported: bool) -> Transfer {
        let result = TransferResult { succeeded, message: "done".into(), at: Timestamp::from_millis(2000) };
        Transfer { result: Some(result), reported, ..transfer }
    }

    #[test]
    fn a_transfer_is_read_back_and_hides_its_secret_from_logs() {
        for transfer in [outgoing(), incoming(), ended(incoming(), true, true)] {
            let record = Record { transfer: Some(transfer), ..Record::default() };
            let text = serde_json::to_string(&record).unwrap();
            assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), record, "{text}");
            let shown = format!("{record:?}");
            assert!(!shown.contains("own secret") && !shown.contains("Bearer secret"), "{shown}");
        }
        let record = Record { transfer: Some(outgoing()), ..Record::default() };
        let secrets = |record: &Record| {
            let text = serde_json::to_string(record).unwrap();
            ["Bearer secret", "own secret"].into_iter().filter(|secret| text.contains(secret)).count()
        };
        assert_eq!(secrets(&record), 2, "the file keeps them");
        assert_eq!(secrets(&record.without_secrets()), 0);
    }

    #[test]
    fn a_failure_that_an_earlier_release_has_recorded_is_still_reported() {
        for token in ["t1", "00000000-0000-0000-0000-000000000007"] {
            let text = format!(r#"{{"transfer": {{"token": "{token}", "outcome": "failed"}}}}"#);
            let record: Record = serde_json::from_str(&text).unwrap();
            let transfer = record.transfer.unwrap();
            assert!(transfer.has_due_report() && !transfer.holds_server() && !transfer.is_pending(), "{transfer:?}");
        }
        let none: Record = serde_json::from_str(r#"{"transfer": null}"#).unwrap();
        assert_eq!(none.transfer, None);
    }

    #[test]
    fn what_holds_a_server_and_what_is_due() {
        for (name, transfer, holds, due) in [
            ("goes", outgoing(), true, false),
            ("has gone", ended(outgoing(), true, false), true, false),
            ("stays", ended(outgoing(), false, false), false, true),
            ("stays, and the panel has it", ended(outgoing(), false, true), false, false),
            ("comes", incoming(), true, false),
            ("has come", ended(incoming(), true, false), true, true),
            ("has come, and the panel has it", ended(incoming(), true, true), false, false),
            ("did not come", ended(incoming(), false, false), true, true),
            ("did not come, to be removed", ended(incoming(), false, true), true, true),
        ] {
            assert_eq!((transfer.holds_server(), transfer.has_due_report()), (holds, due), "{name}");
        }
    }
}
