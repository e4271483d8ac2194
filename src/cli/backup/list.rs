//! `alula backup list`: the backups of the record and the archives on disk, put together.

use std::collections::BTreeMap;

use anstyle::Style;
use serde::Serialize;
use strum::Display;
use uuid::Uuid;

use super::super::arguments::Select;
use super::super::error::CliError;
use super::super::node::Node;
use super::super::output::{Cell, Printer, bytes, notify, span, table, tone};
use super::super::server::ServerView;
use super::{Known, known};
use crate::model::{Backup, BackupSource, BackupStorage, Requester, ServerId, Timestamp};

const HEADINGS: [&str; 9] = ["SERVER", "NAME", "BACKUP", "STATE", "SIZE", "AGE", "BY", "SOURCE", "NOTE"];

/// How far a backup is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Display)]
#[serde(rename_all = "camelCase")]
#[strum(serialize_all = "lowercase")]
pub enum State {
    Pending,
    Complete,
    Failed,
    Deleting,
}

/// What is wrong with a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Problem {
    /// Its archive was read, and is not the one that was made.
    Damaged,
    /// The record has it, and its archive is not there.
    NoFile,
    /// Its archive is there, and the record does not have it.
    NoRecord,
    /// The panel no longer knows it.
    Detached,
}

/// A backup or an archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    pub server: ServerId,
    pub backup: Uuid,
    pub state: State,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    pub bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha1: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<Requester>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage: Option<BackupStorage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<BackupSource>,
    /// When the archive was last found intact.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verified_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<Problem>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// Lists backups.
///
/// # Errors
/// A name matches no server, or the daemon does not answer.
pub async fn run(node: &Node, arguments: &Select, printer: Printer) -> Result<(), CliError> {
    node.warn_without_daemon("backups that are being made continue when it starts");
    let servers = node.pick(&arguments.servers).await?;
    let mut all = Vec::new();
    for server in &servers {
        all.extend(entries(server.uuid, &known(node, server).await?));
    }
    if all.is_empty() {
        notify("there are no backups; make one with `alula backup create SERVER`");
    }
    if all.iter().any(|entry| !entry.problems.is_empty()) {
        notify("backups with a note stay until `alula backup delete` removes them");
    }
    printer.print(&all, || text(&all, &servers, printer.width, printer.now))
}

/// The backups of a server, oldest first. Archives without a record come last.
pub fn entries(server: ServerId, known: &Known) -> Vec<Entry> {
    let mut files: BTreeMap<Uuid, u64> = known.files.iter().map(|file| (file.id, file.bytes)).collect();
    let recorded = known.backups.iter().map(|backup| Entry::of(server, backup, files.remove(&backup.id)));
    let mut entries: Vec<Entry> = recorded.collect();
    entries.sort_by_key(|entry| entry.at);
    entries.extend(files.into_iter().map(|(backup, bytes)| Entry::of_file(server, backup, bytes)));
    entries
}

impl Entry {
    fn of(server: ServerId, backup: &Backup, file: Option<u64>) -> Self {
        let result = backup.result.as_ref();
        let state = match result {
            _ if backup.deleting => State::Deleting,
            None => State::Pending,
            Some(result) if result.succeeded => State::Complete,
            Some(_) => State::Failed,
        };
        let gone = state == State::Complete && backup.is_kept_here() && file.is_none();
        let found = [
            (backup.is_damaged() && !gone, Problem::Damaged),
            (gone, Problem::NoFile),
            (backup.detached, Problem::Detached),
        ];
        let verified = backup.verified.as_ref();
        let message = match verified.filter(|_| backup.is_damaged()) {
            Some(verified) => verified.message.clone(),
            None => result.map(|result| result.message.clone()).unwrap_or_default(),
        };
        let archive = backup.archive.as_ref();
        Self {
            server,
            backup: backup.id,
            state,
            at: Some(backup.at),
            bytes: archive.map_or(file.unwrap_or_default(), |archive| archive.bytes),
            sha1: archive.map(|archive| archive.sha1.clone()).filter(|sha1| !sha1.is_empty()),
            by: Some(backup.by),
            schedule: backup.schedule.clone(),
            storage: Some(backup.storage),
            source: archive.map(|archive| archive.source),
            verified_at: verified.filter(|verified| verified.ok).map(|verified| verified.at),
            problems: found.into_iter().filter(|(is, _)| *is).map(|(_, problem)| problem).collect(),
            message,
        }
    }

    fn of_file(server: ServerId, backup: Uuid, bytes: u64) -> Self {
        Self {
            server,
            backup,
            state: State::Complete,
            at: None,
            bytes,
            sha1: None,
            by: None,
            schedule: None,
            storage: Some(BackupStorage::Local),
            source: None,
            verified_at: None,
            problems: vec![Problem::NoRecord],
            message: String::new(),
        }
    }

    /// Why it cannot be restored from this node.
    pub fn why_not_restored(&self) -> Option<String> {
        match self.state {
            _ if self.problems.contains(&Problem::NoFile) => Some("its archive is gone".to_owned()),
            _ if self.problems.contains(&Problem::Damaged) => Some(format!("it is damaged: {}", self.message)),
            _ if self.storage == Some(BackupStorage::S3) => {
                Some("it is in the panel's object store; restore it in the panel".to_owned())
            }
            State::Complete => None,
            State::Pending => Some("it is still being made".to_owned()),
            State::Failed => Some("it could not be made".to_owned()),
            State::Deleting => Some("it is being removed".to_owned()),
        }
    }

    pub fn can_be_restored(&self) -> bool {
        self.why_not_restored().is_none()
    }

    pub fn can_be_verified(&self) -> bool {
        self.state == State::Complete && self.storage == Some(BackupStorage::Local)
    }

    /// Whether the panel has a record of it.
    pub fn is_of_panel(&self) -> bool {
        self.by == Some(Requester::Panel) && !self.problems.contains(&Problem::Detached)
    }

    fn note(&self) -> String {
        let problems = self.problems.iter().map(|problem| match problem {
            Problem::Damaged => "damaged",
            Problem::NoFile => "its file is gone",
            Problem::NoRecord => "a file without a record",
            Problem::Detached => "detached: the panel no longer knows it",
        });
        let mut notes: Vec<&str> = problems.collect();
        if self.state == State::Failed || self.problems.contains(&Problem::Damaged) {
            notes.push(&self.message);
        }
        notes.retain(|note| !note.is_empty());
        notes.join("; ")
    }
}

fn text(entries: &[Entry], servers: &[ServerView], width: Option<usize>, now: Timestamp) -> String {
    table("", width, &HEADINGS, entries.iter().map(|entry| row(entry, servers, now)).collect())
}

fn row(entry: &Entry, servers: &[ServerView], now: Timestamp) -> Vec<Cell> {
    let name = servers.iter().find(|server| server.uuid == entry.server).map(ServerView::name).unwrap_or_default();
    let by = match &entry.schedule {
        Some(schedule) => format!("schedule {schedule}"),
        None => entry.by.map(|by| by.as_str().to_owned()).unwrap_or_default(),
    };
    let source = match entry.storage {
        Some(BackupStorage::S3) => "s3".to_owned(),
        _ => entry.source.map(|source| source.to_string()).unwrap_or_default(),
    };
    let is_bad = entry.problems.iter().any(|problem| *problem != Problem::Detached);
    vec![
        Cell::plain(entry.server.to_string()),
        Cell::plain(name),
        Cell::plain(entry.backup.to_string()),
        Cell::new(state_tone(entry.state), entry.state.to_string()),
        Cell::plain(if entry.bytes > 0 { bytes(entry.bytes) } else { String::new() }),
        Cell::plain(entry.at.map(|at| span(now.since(at))).unwrap_or_default()),
        Cell::plain(by),
        Cell::plain(source),
        Cell::new(if is_bad { tone::BAD } else { tone::PLAIN }, entry.note()),
    ]
}

fn state_tone(state: State) -> Style {
    match state {
        State::Complete => tone::GOOD,
        State::Pending | State::Deleting => tone::NOTICE,
        State::Failed => tone::BAD,
    }
}

#[cfg(test)]
pub mod tests {
    use std::time::Duration;

    use super::*;
    use crate::cli::examples;
    use crate::files::backup_files::BackupFile;
    use crate::model::{BackupArchive, BackupResult, BackupVerification};

    pub fn id(number: u128) -> Uuid {
        Uuid::from_u128((0x0198_c0de << 96) + number)
    }

    pub fn backup(number: u128, hours: u64) -> Backup {
        let at = examples::now() - Duration::from_secs(hours * 3600);
        let archive = BackupArchive { sha1: "aa".into(), bytes: 1 << 30, content: 3 << 30, ..BackupArchive::default() };
        let message = "1073741824 bytes, of the live files".into();
        let result = BackupResult { succeeded: true, message, at, parts: Vec::new() };
        let backup = Backup::new(id(number), at, Requester::Cli, BackupStorage::Local);
        Backup { archive: Some(archive), result: Some(result), ..backup }
    }

    pub fn file(number: u128) -> BackupFile {
        BackupFile { id: id(number), bytes: 1 << 30 }
    }

    fn examples_of_all() -> Known {
        let failed = BackupResult {
            succeeded: false,
            message: "the archive may need 5 bytes, and 3 bytes are free".into(),
            at: examples::now(),
            parts: Vec::new(),
        };
        let damaged = BackupVerification { at: examples::now(), ok: false, message: "its archive is cut".into() };
        let intact = BackupVerification { ok: true, message: "9 bytes".into(), ..damaged.clone() };
        let pending = Backup::new(id(8), examples::now(), Requester::Panel, BackupStorage::S3);
        let backups = vec![
            Backup { verified: Some(intact), by: Requester::Panel, ..backup(1, 90) },
            Backup { verified: Some(damaged), ..backup(2, 80) },
            backup(3, 70),
            Backup { detached: true, by: Requester::Panel, ..backup(4, 60) },
            Backup { archive: None, result: Some(failed), ..backup(5, 50) },
            Backup { schedule: Some("nightly".into()), by: Requester::Schedule, ..backup(6, 40) },
            Backup { deleting: true, ..backup(7, 30) },
            pending,
        ];
        let files = [1, 2, 4, 6, 7, 9].map(file).into();
        Known { backups, files, ..Known::default() }
    }

    #[test]
    fn as_people_see_it() {
        let servers = examples::servers();
        let entries = entries(servers[0].uuid, &examples_of_all());
        insta::assert_snapshot!(examples::without_colours(&text(&entries, &servers, None, examples::now())));
        let restorable: Vec<usize> =
            (0..entries.len()).filter(|number| entries[*number].can_be_restored()).map(|number| number + 1).collect();
        assert_eq!(restorable, [1, 4, 6, 9]);
    }

    #[test]
    fn json_names_each_problem() {
        let entries = entries(examples::servers()[0].uuid, &examples_of_all());
        let problems: Vec<_> = entries.iter().filter(|entry| !entry.problems.is_empty()).collect();
        insta::assert_snapshot!(serde_json::to_string_pretty(&problems).unwrap());
    }
}
