//! The formats of `record.json` and `requests.json`.
//!
//! A file that this release cannot parse is quarantined: it is renamed to `*.json.broken`.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};

use super::fingerprint::FileFingerprint;
use crate::model::{ServerId, Timestamp};

/// Version of both formats.
pub(super) const VERSION: u32 = 1;

/// `record.json`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct StoredRecord<M, R> {
    #[serde(deserialize_with = "current_version")]
    pub(super) version: u32,
    pub(super) files: Sources,
    pub(super) last_good: M,
    pub(super) record: R,
}

/// `requests.json`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct StoredRequests<R> {
    #[serde(deserialize_with = "current_version")]
    pub(super) version: u32,
    /// Distinguishes them from the requests in a copied folder.
    pub(super) server: ServerId,
    /// The folder whose server is to be deleted. Distinguishes a deletion of this folder from one in a copied folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) folder: Option<FolderId>,
    #[serde(flatten)]
    pub(super) requests: R,
}

/// Identifies a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FolderId {
    /// May be reused by the file system.
    inode: u64,
    /// When it was created, in nanoseconds since 1970; 0 if the file system does not know.
    born_ns: u64,
}

impl FolderId {
    pub(super) fn of(folder: &Path) -> Option<Self> {
        let found = std::fs::metadata(folder).ok()?;
        let born = found.created().ok().and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
        let born_ns = born.and_then(|since| u64::try_from(since.as_nanos()).ok()).unwrap_or(0);
        Some(Self { inode: found.ino(), born_ns })
    }
}

/// Fingerprints of the manifest files when they were last read.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct Sources {
    pub(super) config: Option<FileFingerprint>,
    #[serde(rename = "override")]
    pub(super) overlay: Option<FileFingerprint>,
}

impl Sources {
    /// How long from now on one of the files counts as being written.
    pub(super) fn unsettled(&self, now: Timestamp) -> Option<Duration> {
        [self.config, self.overlay].into_iter().flatten().filter_map(|file| file.unsettled(now)).max()
    }

    /// Whether one of the files was changed in its place a moment ago since it had these fingerprints. The store and most editors
    /// replace a file, so it is complete then.
    pub(super) fn are_written(&self, before: &Self, at: Timestamp) -> bool {
        [(self.config, before.config), (self.overlay, before.overlay)].into_iter().any(|pair| match pair {
            (Some(now), Some(before)) => now != before && now.inode == before.inode && now.unsettled(at).is_some(),
            _ => false,
        })
    }
}

fn current_version<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    match u32::deserialize(deserializer)? {
        VERSION => Ok(VERSION),
        other => Err(D::Error::custom(format_args!("it has version {other}, and this release knows {VERSION}"))),
    }
}

/// Extension of a quarantined file.
const BROKEN: &str = "json.broken";

/// Renames a file that cannot be used, so that a person can see what was in it.
pub(super) fn quarantine(path: &Path) -> io::Result<()> {
    std::fs::rename(path, path.with_extension(BROKEN))
}

/// Whether a quarantined file of this name exists.
pub(super) fn was_quarantined(path: &Path) -> bool {
    path.with_extension(BROKEN).exists()
}
