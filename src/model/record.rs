//! Facts about one server that cannot be observed again: `record.json`. Only the store writes it.

use serde::{Deserialize, Serialize};

use super::container::ContainerStatus;
use super::request::Verb;
use super::status::PowerState;
use super::{Reason, Timestamp};

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
    /// Power requests and what became of them.
    pub power: PowerRecord,
    /// Installations and what became of them.
    pub install: InstallRecord,
    /// Latest crashes, oldest first, at most [`CRASH_HISTORY`].
    pub crashes: Vec<Crash>,
    /// Since when the panel has not listed the server.
    pub parked: Option<Timestamp>,
    /// When the panel's part of the intent was last fetched.
    pub synced_at: Option<Timestamp>,
    /// Hash of the panel's part at that time: tells a hand edit from a change on the panel.
    pub synced_hash: Option<String>,
    /// The power request for whose start the panel was last asked.
    pub synced_for: Option<String>,
    /// The container state that the panel was last told, or may have been told: whoever leaves `offline` is noted before the
    /// panel hears of it.
    pub last_reported: Option<PowerState>,
}

/// Power requests and what became of them.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PowerRecord {
    /// The latest request that was handled. Earlier ones are handled, too.
    pub handled: Option<Handled>,
    /// The request for which a start has begun; it no longer expires.
    pub begun: Option<String>,
    /// The container in which the start-up was seen to finish.
    pub started: Option<String>,
    /// A container that was made for something else (an installation) and then given to a power request. Labels
    /// cannot be changed, so the change of purpose is written here.
    pub serving: Option<Serving>,
    /// Limits that were put in force since a container was made; its label still says the old ones.
    pub limits: Option<AppliedLimits>,
}

/// The limits that a container has by now.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AppliedLimits {
    /// The runtime's id of the container; empty for the one that ran when the record was lost.
    pub container: String,
    /// Their hash; unknown while they are being changed.
    pub hash: Option<String>,
}

/// A container and the power request that it serves instead of the one in its label.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Serving {
    /// The runtime's id of the container.
    pub container: String,
    /// The power request's id.
    pub power: String,
}

/// A power request that was completed, refused, given up, or expired.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Handled {
    /// Its position in the order of acceptance.
    pub sequence: u64,
    /// Its id.
    pub id: String,
    /// What it asked.
    #[serde(flatten)]
    pub verb: Verb,
    /// Why it is over.
    pub reason: Reason,
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
    /// Runs of the present script that the engine or the host has cut off.
    pub interrupted: Option<Interrupted>,
    /// `done` was assumed because the record was lost: the panel may show an installation whose result it never gets. Set
    /// until the panel has reset its flags, or until the assumed result is reported in place of that (ADR 17).
    pub reset_owed: bool,
}

/// Runs of an install script that ended before its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Interrupted {
    /// The request's id.
    pub token: String,
    /// The runtime's ids of the containers, oldest first.
    pub containers: Vec<String>,
}

/// An installation that is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InstallResult {
    /// The request's id.
    pub token: String,
    /// The request's position in the order of acceptance.
    pub sequence: u64,
    /// How it ended.
    pub outcome: InstallOutcome,
    /// Whether it was a reinstallation.
    pub reinstall: bool,
    /// The script's exit status, if it ran to its end.
    pub exit_code: Option<i64>,
    /// One word.
    pub reason: Reason,
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

impl Record {
    /// Counts a spec with this hash as accepted, if the one before was another.
    pub fn accept_hash(&mut self, hash: String) {
        if hash != self.accepted_hash {
            self.generation += 1;
            self.accepted_hash = hash;
        }
    }

    /// The power request that a container serves.
    pub fn serving<'a>(&'a self, container: &'a ContainerStatus) -> Option<&'a str> {
        match &self.power.serving {
            Some(serving) if serving.container == container.id => Some(&serving.power),
            _ => container.token.as_deref(),
        }
    }

    /// Notes a crash, forgetting the oldest ones.
    pub fn push_crash(&mut self, crash: Crash) {
        self.crashes.push(crash);
        let excess = self.crashes.len().saturating_sub(CRASH_HISTORY);
        self.crashes.drain(..excess);
    }

    /// The containers in which the script of this installation was cut off.
    pub fn interrupted(&self, token: &str) -> &[String] {
        self.install.interrupted.as_ref().filter(|found| found.token == token).map_or(&[], |found| &found.containers)
    }

    /// Notes that the script of an installation was cut off in this container.
    pub fn interrupt_install(&mut self, token: &str, container: &str) {
        let mut containers = self.interrupted(token).to_vec();
        if !containers.iter().any(|known| known == container) {
            containers.push(container.to_owned());
        }
        self.install.interrupted = Some(Interrupted { token: token.to_owned(), containers });
    }

    /// Notes that an installation is over.
    pub fn finish_install(&mut self, result: InstallResult) {
        self.install.interrupted = None;
        self.install.reset_owed = false;
        self.install.done = Some(result);
    }

    /// The result of the installation with this token, if it is over.
    pub fn install_done(&self, token: &str) -> Option<&InstallResult> {
        self.install.done.as_ref().filter(|done| done.token == token)
    }
}
