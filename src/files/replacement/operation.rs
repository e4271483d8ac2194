//! What is on disk of a replacement: `operation.json` in its folder.

use std::fs;
use std::io;
use std::path::Path;

use rustix::fs::{Timespec, Timestamps};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::super::FilesError;
use super::super::crash_point::crash_point;
use crate::atomic;

const FILE: &str = "operation.json";

/// How far a replacement is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Phase {
    /// The staging tree is being created, with a copy of the present files where these stay.
    Preparing,
    /// The staging tree is being filled.
    Filling,
    /// It is complete and on disk.
    Ready,
    /// It is becoming the server's files. From here on it is completed or undone.
    Exchanging,
    /// It is the server's files, and the former ones are kept.
    Exchanged,
    /// The former files are becoming the server's files again.
    Undoing,
    /// They are, and the restored ones are kept.
    Undone,
}

/// How the tree becomes the server's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Way {
    /// It takes the place of the whole directory.
    Exchange,
    /// Its files are moved into the directory one by one.
    Merge,
}

/// A time of access or modification: seconds and nanoseconds.
pub(super) type Time = (i64, i64);

/// The times of access and modification.
pub(super) type Times = (Time, Time);

/// A replacement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Operation {
    pub token: Uuid,
    pub way: Way,
    pub phase: Phase,
    /// The server's limit in bytes.
    pub limit: Option<u64>,
    /// The projects of the server's files and of the staging tree.
    pub projects: Option<(u32, u32)>,
    /// When it began, by the clock of the file system.
    pub begun: Time,
    /// The tree that has become the server's files may still have the marker. Its own times are `times`.
    pub marked: bool,
    pub times: Option<Times>,
}

impl Operation {
    /// The one in a folder. `None` if there is no folder, or it has none yet.
    pub(super) fn load(folder: &Path) -> Result<Option<Self>, FilesError> {
        let path = folder.join(FILE);
        let failed = FilesError::disk("read", &path);
        match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).map(Some).map_err(io::Error::from).map_err(failed),
            Err(missing) if missing.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    /// Whether a crash has left it between two states. `kept`: it is in the folder of former files.
    pub(super) fn is_interrupted(&self, kept: bool) -> bool {
        match self.phase {
            Phase::Exchanging | Phase::Undoing => true,
            Phase::Exchanged => self.marked || !kept,
            Phase::Undone => self.marked,
            Phase::Preparing | Phase::Filling | Phase::Ready => false,
        }
    }

    /// Writes it into its folder. It is on disk afterwards.
    pub(super) fn save(&self, folder: &Path) -> Result<(), FilesError> {
        let path = folder.join(FILE);
        crash_point().map_err(FilesError::disk("write", &path))?;
        let text = serde_json::to_vec(self).map_err(io::Error::from).map_err(FilesError::disk("write", &path))?;
        atomic::write_file(&path, &text, 0o600)?;
        crash_point().map_err(FilesError::disk("write", &path))
    }

    pub(super) fn enter(&mut self, phase: Phase, folder: &Path) -> Result<(), FilesError> {
        self.phase = phase;
        self.save(folder)
    }
}

/// Times as they are saved.
pub(super) fn saved(times: &Timestamps) -> Times {
    #[allow(clippy::unnecessary_cast, reason = "the types differ between architectures")]
    let time = |time: Timespec| (time.tv_sec, time.tv_nsec as i64);
    (time(times.last_access), time(times.last_modification))
}

/// Times as the system has them.
pub(super) fn loaded((access, modification): Times) -> Timestamps {
    let time = |(tv_sec, tv_nsec): Time| Timespec { tv_sec, tv_nsec: tv_nsec as _ };
    Timestamps { last_access: time(access), last_modification: time(modification) }
}
