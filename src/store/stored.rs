//! The shapes of `record.json` and `requests.json`.
//!
//! A file comes in as [`Found`]; one that says nothing that this release understands is set aside under another name.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::SystemTime;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::fingerprint::FileFingerprint;
use crate::model::ServerId;

/// Version of both shapes.
pub(super) const VERSION: u32 = 1;

/// `record.json`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct StoredRecord<M, R> {
    pub(super) version: u32,
    pub(super) files: Sources,
    pub(super) last_good: M,
    pub(super) facts: R,
}

/// `requests.json`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct StoredRequests<R> {
    pub(super) version: u32,
    /// Whose requests these are: tells them from those in a copied folder.
    pub(super) server: ServerId,
    /// The folder whose server is to be deleted: tells a deletion that was asked for here from one in a copied folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) folder: Option<FolderId>,
    #[serde(flatten)]
    pub(super) requests: R,
}

/// Which folder it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FolderId {
    /// Its number in its file system, which may be used again.
    inode: u64,
    /// When it was made, in nanoseconds since 1970; 0 where the file system does not know.
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

/// What the files of intent looked like when they were last read.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct Sources {
    pub(super) config: Option<FileFingerprint>,
    #[serde(rename = "override")]
    pub(super) overlay: Option<FileFingerprint>,
}

/// What lies where a file of the store should.
pub(super) enum Found<T> {
    Known(T),
    Nothing,
    /// A file that was of no use lies beside it.
    SetAside,
    /// It says nothing that this release understands.
    Damaged(String),
    /// What it says cannot be known.
    Unreadable(io::Error),
}

/// A file with a version of its shape.
pub(super) trait Versioned: DeserializeOwned {
    fn version(&self) -> u32;
}

impl<M: DeserializeOwned, R: DeserializeOwned> Versioned for StoredRecord<M, R> {
    fn version(&self) -> u32 {
        self.version
    }
}

impl<R: DeserializeOwned> Versioned for StoredRequests<R> {
    fn version(&self) -> u32 {
        self.version
    }
}

/// Reads a file of the store.
pub(super) fn read<T: Versioned>(path: &Path) -> Found<T> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return if was_set_aside(path) { Found::SetAside } else { Found::Nothing };
        }
        // A file with a server's name is no server.
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => return Found::Nothing,
        Err(error) => return Found::Unreadable(error),
    };
    match serde_json::from_slice::<T>(&text) {
        Ok(stored) if stored.version() == VERSION => Found::Known(stored),
        Ok(stored) => Found::Damaged(format!("has version {}, and this release knows {VERSION}", stored.version())),
        Err(error) => Found::Damaged(format!("does not parse ({error})")),
    }
}

/// Extension of a damaged file.
const BROKEN: &str = "json.broken";

/// Keeps a file that is of no use for a person who wants to know what was in it.
pub(super) fn set_aside(path: &Path) -> io::Result<()> {
    std::fs::rename(path, path.with_extension(BROKEN))
}

/// Whether a damaged file of this name lies beside its place.
pub(super) fn was_set_aside(path: &Path) -> bool {
    path.with_extension(BROKEN).exists()
}
