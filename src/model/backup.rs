//! Backups of one server: what was requested, and what is known of each. Part of `record.json`.
//!
//! ```text
//! requested --(the archive is complete on disk)--> archive --(local: at once; S3: uploaded)--> result --(acknowledged)--> reported
//! ```

#![allow(missing_docs)]

use serde::{Deserialize, Serialize};
use strum::{Display, IntoStaticStr};
use uuid::Uuid;

use super::Timestamp;
use super::request::Requester;

/// Names of changed files that are kept for each backup.
pub const MAX_CHANGED: usize = 20;

/// One backup. It is in the record from the request until it is deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Backup {
    /// Unique on the node; the panel's id where the panel asked for it.
    pub id: Uuid,
    /// When it was requested.
    pub at: Timestamp,
    pub by: Requester,
    pub storage: BackupStorage,
    /// Patterns of files that are left out, a line each. Empty: those of the server's own ignore file.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub ignore: String,
    /// What is known of the archive, once it is complete on disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archive: Option<BackupArchive>,
    /// How it has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<BackupResult>,
    /// Whether the panel has acknowledged or rejected the result, or does not wait for it.
    #[serde(default)]
    pub reported: bool,
    /// It is to be removed, or ended if it runs.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deleting: bool,
    /// The panel no longer knows it: its file stays until a command removes it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub detached: bool,
    /// The name of the schedule that has made it, which may remove it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<String>,
    /// The container whose commands before this backup were begun, until those after it were carried out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quieted: Option<String>,
    /// Its archive is to be read and compared with the record.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub verifying: bool,
    /// What was found when that was done last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified: Option<BackupVerification>,
}

/// What reading an archive has found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackupVerification {
    pub at: Timestamp,
    /// The archive is complete, and the one that was made.
    pub ok: bool,
    /// For people.
    pub message: String,
}

/// Where a backup is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Display, IntoStaticStr)]
#[serde(rename_all = "camelCase")]
#[strum(serialize_all = "camelCase")]
pub enum BackupStorage {
    /// In the node's backup directory. The protocol's adapter `wings`.
    Local,
    /// In an object store, by links that the panel signs.
    S3,
}

/// What a backup's files were read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, Display)]
#[serde(rename_all = "camelCase")]
#[strum(serialize_all = "camelCase")]
pub enum BackupSource {
    /// A snapshot of a btrfs subvolume.
    BtrfsSnapshot,
    /// A snapshot of a ZFS dataset.
    ZfsSnapshot,
    /// A copy whose files share their blocks with the server's.
    Reflink,
    /// The files themselves, while the server may change them.
    #[default]
    Live,
}

/// A complete archive.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BackupArchive {
    /// SHA-1 of the file, in hexadecimal digits.
    pub sha1: String,
    /// The length of the file.
    pub bytes: u64,
    /// The bytes of the files in it; zero where that is not known.
    pub content: u64,
    pub source: BackupSource,
    /// Files that changed while they were read, at most [`MAX_CHANGED`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub changed: Vec<String>,
    /// How many there were.
    pub changed_count: u64,
}

/// The end of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackupResult {
    pub succeeded: bool,
    /// For people: what was made, or what was attempted and why it failed.
    pub message: String,
    pub at: Timestamp,
    /// The parts of an upload, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<UploadedPart>,
}

/// A part that an object store has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadedPart {
    /// As the store has sent it, with its quotes.
    pub etag: String,
    /// From 1.
    pub part_number: u32,
}

/// A restore. The latest one stays in the record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Restore {
    /// Unique; names the directories of this restore.
    pub token: Uuid,
    pub backup: Uuid,
    /// When it was requested.
    pub at: Timestamp,
    pub by: Requester,
    pub from: RestoreFrom,
    /// Whether files that the archive does not have are removed.
    pub truncate: bool,
    /// Only these paths, and what is below them; all if there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub only: Vec<String>,
    /// The server ran, and is started again afterwards. A panel starts it itself.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub then_start: bool,
    /// How it has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<RestoreResult>,
    /// See [`Backup::reported`].
    #[serde(default)]
    pub reported: bool,
}

/// Where a restore has its archive from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RestoreFrom {
    /// The node's backup directory.
    Local,
    /// A link that the panel has signed.
    Url(String),
    /// The files that the restore with this token has replaced; or, after that was undone, those that it had brought.
    #[serde(rename_all = "camelCase")]
    Former { restore: Uuid, back: bool },
}

impl RestoreFrom {
    /// Where the backup is kept.
    pub fn storage(&self) -> BackupStorage {
        match self {
            RestoreFrom::Local | RestoreFrom::Former { .. } => BackupStorage::Local,
            RestoreFrom::Url(_) => BackupStorage::S3,
        }
    }
}

/// The end of a restore.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RestoreResult {
    pub succeeded: bool,
    /// For people: what is there now, or what was attempted and why it failed.
    pub message: String,
    pub at: Timestamp,
}

impl Restore {
    /// A restore that is to be made, of all files of the archive. Others stay.
    pub fn new(token: Uuid, backup: Uuid, at: Timestamp, by: Requester, from: RestoreFrom) -> Self {
        Self {
            token,
            backup,
            at,
            by,
            from,
            truncate: false,
            only: Vec::new(),
            then_start: false,
            result: None,
            reported: by != Requester::Panel,
        }
    }

    /// Whether it exchanges the files that a restore has replaced, and those that it has brought.
    pub fn is_undo(&self) -> bool {
        matches!(self.from, RestoreFrom::Former { .. })
    }
}

impl Backup {
    /// Whether it is still to be made.
    pub fn is_pending(&self) -> bool {
        self.result.is_none() && !self.deleting
    }

    /// Whether its result is still to be reported.
    pub fn is_unreported(&self) -> bool {
        self.result.is_some() && !self.reported && !self.deleting
    }

    /// A backup that is to be made.
    pub fn new(id: Uuid, at: Timestamp, by: Requester, storage: BackupStorage) -> Self {
        Self {
            id,
            at,
            by,
            storage,
            ignore: String::new(),
            archive: None,
            result: None,
            reported: by != Requester::Panel,
            deleting: false,
            detached: false,
            schedule: None,
            quieted: None,
            verifying: false,
            verified: None,
        }
    }

    /// Whether its archive was found damaged or missing.
    pub fn is_damaged(&self) -> bool {
        !self.deleting && self.verified.as_ref().is_some_and(|verified| !verified.ok)
    }

    /// Whether its archive is in the node's backup directory, complete.
    pub fn is_kept_here(&self) -> bool {
        self.storage == BackupStorage::Local && self.archive.is_some() && !self.deleting
    }
}
