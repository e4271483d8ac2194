//! Facts about one server that cannot be observed again: `record.json`. Only the store writes it.

use serde::{Deserialize, Serialize};

use super::Timestamp;
use super::manifest::{PowerIntent, Want};
use super::status::PowerState;

/// Crashes kept in the history.
pub const CRASH_HISTORY: usize = 20;

/// The facts of one server.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Record {
    /// Counts accepted intents that really differed from the one before.
    pub generation: u64,
    /// Hash of the accepted intent.
    pub accepted_hash: String,
    /// A power wish that could not be written into a broken `config.yml`; counts instead of the file's.
    pub pending_power: Option<PowerIntent>,
    /// Power wishes and what became of them.
    pub power: PowerRecord,
    /// Installations and what became of them.
    pub install: InstallRecord,
    /// Latest crashes, oldest first, at most [`CRASH_HISTORY`].
    pub crashes: Vec<Crash>,
    /// The wish to delete the server with everything that belongs to it.
    pub deletion: Option<Deletion>,
    /// Since when the panel has not listed the server.
    pub parked: Option<Timestamp>,
    /// When the panel's part of the intent was last fetched.
    pub synced_at: Option<Timestamp>,
    /// Hash of the panel's part at that time: tells a hand edit from a change on the panel.
    pub synced_hash: Option<String>,
    /// The power wish for whose start the panel was last asked.
    pub synced_for: Option<String>,
    /// The container state that the panel was last told, or may have been told: whoever leaves `offline` is noted before the
    /// panel hears of it.
    pub told: Option<PowerState>,
}

/// Power wishes and what became of them.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PowerRecord {
    /// The latest wish that is over.
    pub closed: Option<Closed>,
    /// The wish for which a start has begun; it no longer lapses.
    pub begun: Option<String>,
    /// The container in which the start-up was seen to finish.
    pub started: Option<String>,
    /// A container that was made for something else (an installation) and then given to a power wish. Labels
    /// cannot be changed, so the change of purpose is written here.
    pub serving: Option<Serving>,
}

/// A container and the power wish that it serves instead of the one in its label.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Serving {
    /// The runtime's id of the container.
    pub container: String,
    /// The power wish's id.
    pub power: String,
}

/// A wish that is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Closed {
    /// The wish's id.
    pub id: String,
    /// What it wanted: under the same id, the opposite is another wish.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub want: Option<Want>,
    /// One word: why it is over.
    pub reason: String,
    /// A sentence for people.
    pub message: String,
    /// When.
    pub at: Timestamp,
}

/// Installations and what became of them.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct InstallRecord {
    /// The latest installation that is over.
    pub done: Option<InstallResult>,
    /// Token of an installation whose panel data was fetched and whose log was begun.
    pub begun: Option<String>,
    /// Whether any installation has ever succeeded.
    pub ever_succeeded: bool,
}

/// An installation that is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InstallResult {
    /// The intent's token.
    pub token: String,
    /// How it ended.
    pub outcome: InstallOutcome,
    /// Whether it was a reinstallation.
    pub reinstall: bool,
    /// The script's exit status, if it ran to its end.
    pub exit_code: Option<i64>,
    /// One word.
    pub reason: String,
    /// A sentence for people.
    pub message: String,
    /// When.
    pub at: Timestamp,
    /// Whether the panel has it (or has definitely refused it, or there is none to tell).
    pub reported: bool,
}

/// How an installation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum InstallOutcome {
    /// The script ran to its end, or there was none to run.
    Succeeded,
    /// It could not be run, ran too long, or was ended.
    Failed,
}

/// One crash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Crash {
    /// The container that ended.
    pub container: String,
    /// When it was noticed.
    pub at: Timestamp,
    /// Its exit status.
    pub exit_code: i64,
    /// Whether the kernel ended it for want of memory.
    pub oom_killed: bool,
    /// Whether the server was started again.
    pub restarted: bool,
}

/// The wish to delete a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Deletion {
    /// When it was asked for.
    pub at: Timestamp,
    /// The server was wanted again while its deletion was under way: begin anew when it is done.
    pub recreate: bool,
}

impl Closed {
    /// Whether this is the end of that wish.
    pub fn is(&self, id: &str, want: Want) -> bool {
        self.id == id && self.want.is_none_or(|wanted| wanted == want)
    }
}

impl Record {
    /// Notes a crash, forgetting the oldest ones.
    pub fn push_crash(&mut self, crash: Crash) {
        self.crashes.push(crash);
        let excess = self.crashes.len().saturating_sub(CRASH_HISTORY);
        self.crashes.drain(..excess);
    }

    /// Whether this wish is over.
    pub fn power_closed(&self, id: &str, want: Want) -> bool {
        self.power.closed.as_ref().is_some_and(|closed| closed.is(id, want))
    }

    /// The result of the installation with this token.
    pub fn install_done(&self, token: &str) -> Option<&InstallResult> {
        self.install.done.as_ref().filter(|done| done.token == token)
    }
}
