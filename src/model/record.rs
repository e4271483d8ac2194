//! `record.json`: facts that cannot be observed again, of one server. Only the store writes it.

#![allow(missing_docs)]

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use strum::Display;
use uuid::Uuid;

use super::backup::{Backup, Restore, RestoreFrom};
use super::container::ContainerStatus;
use super::request::Verb;
use super::status::PowerState;
use super::transfer::{Authorization, Outgoing, Transfer, TransferDirection};
use super::{Reason, Timestamp};

/// Crashes that are kept.
pub const CRASH_HISTORY: usize = 20;

/// The record of one server.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Record {
    /// When the first spec was accepted; unknown where an earlier release did that.
    pub created_at: Option<Timestamp>,
    /// Incremented when the accepted spec changes.
    pub generation: u64,
    /// Hash of the accepted spec.
    pub accepted_hash: String,
    pub power: PowerRecord,
    pub install: InstallRecord,
    /// The latest transfer between this node and another one.
    pub transfer: Option<Transfer>,
    /// Backups, oldest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub backups: Vec<Backup>,
    /// Of each schedule of backups, by its name: the time through which its times were handled.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub scheduled: BTreeMap<String, Timestamp>,
    /// If it is deleted by hand, its files are kept for a while.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub keep_deleted: bool,
    /// The latest restore.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restore: Option<Restore>,
    /// Earlier restores whose results are still to be reported.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub earlier_restores: Vec<Restore>,
    /// The files that the latest restore has replaced, until they are removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub former_files: Option<FormerFiles>,
    /// Latest crashes, oldest first, at most [`CRASH_HISTORY`].
    pub crashes: Vec<Crash>,
    /// Since when the panel has not listed the server.
    pub parked: Option<Timestamp>,
    /// When the panel's part of the spec was last fetched.
    pub synced_at: Option<Timestamp>,
    /// Hash of the panel's part at that time: distinguishes a hand edit from a change on the panel.
    pub synced_hash: Option<String>,
    /// The power request for whose start the panel was last asked.
    pub synced_for: Option<String>,
    /// The state that was last reported to the panel, or may have been: a server that leaves `offline` is recorded before the report
    /// is sent.
    pub last_reported: Option<PowerState>,
}

/// Files that a restore has replaced. They stay beside the present ones for a while, so that the restore can be undone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FormerFiles {
    /// The token of the restore.
    pub restore: Uuid,
    /// When they were replaced.
    pub at: Timestamp,
    /// They are to be removed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub removing: bool,
    /// The restore was undone: these are the files that it had brought.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub undone: bool,
}

/// The progress of power requests.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PowerRecord {
    /// The latest handled request; all earlier ones are handled, too.
    pub handled: Option<Handled>,
    /// The request for which a start has begun; it no longer expires.
    pub begun: Option<String>,
    /// The container whose start-up has finished.
    pub started: Option<String>,
    /// A container that was created for an installation and then assigned to a power request: its labels cannot be changed (ADR 3).
    pub serving: Option<Serving>,
    /// Limits that were applied after the container was created; its label still has the old ones.
    pub limits: Option<AppliedLimits>,
}

/// The limits that were applied to a container.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AppliedLimits {
    /// The runtime's id; empty for the container that ran when the record was lost.
    pub container: String,
    /// Hash of the limits; unknown while they are being changed.
    pub hash: Option<String>,
}

/// A container and the power request that replaces the one in its label.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Serving {
    /// The runtime's id.
    pub container: String,
    /// The power request's id.
    pub power: String,
}

/// A power request that was completed, rejected, cancelled, or expired.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Handled {
    /// Position in the order of acceptance.
    pub sequence: u64,
    pub id: String,
    #[serde(flatten)]
    pub verb: Verb,
    pub reason: Reason,
    pub message: String,
    pub at: Timestamp,
}

/// The progress of installations.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct InstallRecord {
    /// The latest completed installation.
    pub done: Option<InstallResult>,
    /// Token of an installation whose script was fetched and whose log was started.
    pub begun: Option<String>,
    pub interrupted: Option<Interrupted>,
    /// `done` was assumed because the record was lost, and the panel may show a pending installation. Set until the panel has reset
    /// its flags, or until the assumed result is reported instead (ADR 17).
    pub reset_owed: bool,
}

/// Runs of an install script that the engine or the host has interrupted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Interrupted {
    /// The request's id.
    pub token: String,
    /// The runtime's ids of the containers, oldest first.
    pub containers: Vec<String>,
}

/// The result of an installation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InstallResult {
    /// The request's id.
    pub token: String,
    /// Position of the request in the order of acceptance.
    pub sequence: u64,
    pub outcome: InstallOutcome,
    pub reinstall: bool,
    /// The script's exit code, if it was not interrupted.
    pub exit_code: Option<i64>,
    pub reason: Reason,
    pub message: String,
    pub at: Timestamp,
    /// Whether the panel has acknowledged or rejected it, or there is no panel.
    pub reported: bool,
}

/// How an installation has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Display)]
#[serde(rename_all = "camelCase")]
#[strum(serialize_all = "lowercase")]
pub enum InstallOutcome {
    /// The script has ended, or there was none to run.
    Succeeded,
    /// The script could not run, ran too long, or was aborted.
    Failed,
}

/// A crash of a server.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Crash {
    pub container: String,
    /// When it was noticed.
    pub at: Timestamp,
    pub exit_code: i64,
    pub oom_killed: bool,
    /// Whether the server was started again.
    pub restarted: bool,
    /// Its position among the crashes in a row of one power request, counted from 1. An earlier release has recorded none.
    #[serde(default)]
    pub in_row: u32,
    /// The power request that the server ran for.
    #[serde(default)]
    pub power: String,
    /// The last lines of the console, oldest first. Only the latest crash has them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lines: Vec<String>,
}

impl Record {
    /// A backup by its id.
    pub fn backup(&self, id: Uuid) -> Option<&Backup> {
        self.backups.iter().find(|backup| backup.id == id)
    }

    /// The same, to change it.
    pub fn backup_mut(&mut self, id: Uuid) -> Option<&mut Backup> {
        self.backups.iter_mut().find(|backup| backup.id == id)
    }

    /// The restore that has not ended.
    pub fn pending_restore(&self) -> Option<&Restore> {
        self.restore.as_ref().filter(|restore| restore.result.is_none())
    }

    /// Begins a restore, unless one is pending. What the one before it has left to do is not lost.
    pub fn begin_restore(&mut self, mut restore: Restore) {
        if self.pending_restore().is_some() {
            return;
        }
        if let Some(earlier) = self.restore.take() {
            restore.then_start |= earlier.then_start;
            self.earlier_restores.extend(Some(earlier).filter(|earlier| !earlier.reported));
        }
        self.restore = Some(restore);
    }

    /// The restores whose results are still to be reported.
    pub fn unreported_restores(&self) -> impl Iterator<Item = &Restore> {
        let restores = self.earlier_restores.iter().chain(&self.restore);
        restores.filter(|restore| restore.result.is_some() && !restore.reported)
    }

    /// The result of a restore was acknowledged or rejected.
    pub fn restore_reported(&mut self, token: Uuid) {
        self.earlier_restores.retain(|restore| restore.token != token);
        if let Some(restore) = self.restore.as_mut().filter(|restore| restore.token == token) {
            restore.reported = true;
        }
    }

    /// The transfer that goes on.
    pub fn pending_transfer(&self) -> Option<&Transfer> {
        self.transfer.as_ref().filter(|transfer| transfer.is_pending())
    }

    /// The transfer because of which the server must not run, and its files must stay as they are.
    pub fn holding_transfer(&self) -> Option<&Transfer> {
        self.transfer.as_ref().filter(|transfer| transfer.holds_server())
    }

    /// The transfer for which the server is stopped.
    pub fn stopping_transfer(&self) -> Option<&Transfer> {
        self.holding_transfer().filter(|transfer| !transfer.lets_run())
    }

    /// The transfer with this token, to change it.
    pub fn transfer_mut(&mut self, token: Uuid) -> Option<&mut Transfer> {
        self.transfer.as_mut().filter(|transfer| transfer.token == token)
    }

    /// What the source knows of the transfer with this token, while it goes on.
    pub fn outgoing_mut(&mut self, token: Uuid) -> Option<&mut Outgoing> {
        let pending = self.transfer_mut(token).filter(|transfer| transfer.is_pending() && !transfer.cancelled);
        match &mut pending?.direction {
            TransferDirection::Outgoing(outgoing) => Some(outgoing),
            TransferDirection::Incoming(_) => None,
        }
    }

    /// The same without what admits its holder somewhere, to be shown.
    pub fn without_secrets(&self) -> Self {
        let mut shown = self.clone();
        if let Some(Transfer { direction: TransferDirection::Outgoing(outgoing), .. }) = &mut shown.transfer {
            outgoing.authorization = Authorization::default();
            if let Some(rounds) = &mut outgoing.rounds {
                rounds.secret = Authorization::default();
            }
        }
        if let Some(Restore { from: RestoreFrom::Url(url), .. }) = &mut shown.restore {
            let end = url.find('?').unwrap_or(url.len());
            url.truncate(end);
        }
        shown
    }

    /// Accepts a spec with this hash, and increments the generation if it differs from the one before. With the first one the server
    /// is created.
    pub fn accept_hash(&mut self, hash: String, now: Timestamp) {
        if hash != self.accepted_hash {
            if self.generation == 0 {
                self.created_at = Some(now);
            }
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

    /// Adds a crash, and drops the oldest ones and the lines of those before it.
    pub fn push_crash(&mut self, crash: Crash) {
        self.crashes.iter_mut().for_each(|earlier| earlier.lines.clear());
        self.crashes.push(crash);
        let excess = self.crashes.len().saturating_sub(CRASH_HISTORY);
        self.crashes.drain(..excess);
    }

    /// The containers in which the script of this installation was interrupted.
    pub fn interrupted(&self, token: &str) -> &[String] {
        self.install.interrupted.as_ref().filter(|found| found.token == token).map_or(&[], |found| &found.containers)
    }

    /// Records that the script of an installation was interrupted in this container.
    pub fn interrupt_install(&mut self, token: &str, container: &str) {
        let mut containers = self.interrupted(token).to_vec();
        if !containers.iter().any(|known| known == container) {
            containers.push(container.to_owned());
        }
        self.install.interrupted = Some(Interrupted { token: token.to_owned(), containers });
    }

    /// Records the result of an installation.
    pub fn finish_install(&mut self, result: InstallResult) {
        self.install.interrupted = None;
        self.install.reset_owed = false;
        self.install.done = Some(result);
    }
}

impl InstallRecord {
    /// Whether the installation at this position in the order of acceptance is the latest completed one, and has succeeded.
    pub fn has_succeeded(&self, sequence: u64) -> bool {
        self.done.as_ref().is_some_and(|done| done.sequence == sequence && done.outcome == InstallOutcome::Succeeded)
    }

    /// Whether the latest completed installation has failed.
    pub fn has_failed(&self) -> bool {
        self.done.as_ref().is_some_and(|done| done.outcome == InstallOutcome::Failed)
    }

    /// The result that the panel has neither acknowledged nor rejected.
    pub fn unreported(&self) -> Option<&InstallResult> {
        self.done.as_ref().filter(|done| !done.reported)
    }
}
