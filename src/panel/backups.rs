//! Backups as the panel sees them: links for an upload, and reports. Source: remote API, "Backups".

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use crate::model::UploadedPart as Part;

/// How long a 404 about a new backup decides nothing: the panel sends the request inside a transaction, and the backup is visible
/// when that has ended. The panel waits 15 s for the answer by default. Source: HTTP API, "How the panel talks to the daemon".
pub const COMMIT_TIME: Duration = Duration::from_secs(15);

/// The most parts of a multipart upload. Source: the limits of S3.
pub const MAX_PARTS: usize = 10_000;

/// Presigned links of one multipart upload (`GET /api/remote/backups/{uuid}`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadLinks {
    /// A URL for each part, in order: between one and [`MAX_PARTS`].
    pub parts: Vec<String>,
    /// Bytes of each part but the last one; not zero.
    pub part_size: u64,
    /// How many parts may be sent at once. Panels since August 2026 send it.
    pub max_concurrent: Option<u32>,
}

/// The end of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupReport {
    /// In hexadecimal digits; empty after a failure.
    pub checksum: String,
    /// `sha1`; empty after a failure.
    pub checksum_type: String,
    /// Bytes of the archive.
    pub size: u64,
    pub successful: bool,
    /// The parts that were uploaded, in order; none for a local backup.
    pub parts: Option<Vec<Part>>,
}

/// How the panel has accepted a report about a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// The panel stores it.
    Accepted,
    /// The backup was completed already, by an earlier report whose answer was lost.
    AlreadyCompleted,
}

impl BackupReport {
    /// A backup that is complete.
    pub fn success(sha1: impl Into<String>, size: u64, parts: Option<Vec<Part>>) -> Self {
        Self { checksum: sha1.into(), checksum_type: "sha1".into(), size, successful: true, parts }
    }

    /// A backup that failed.
    pub fn failure() -> Self {
        Self { checksum: String::new(), checksum_type: String::new(), size: 0, successful: false, parts: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_those_of_wings() {
        let part = |part_number| Part { etag: format!("\"{part_number}c\""), part_number };
        for (report, body) in [
            (
                BackupReport::success("b617", 262, None),
                r#"{"checksum":"b617","checksum_type":"sha1","size":262,"successful":true,"parts":null}"#,
            ),
            (
                BackupReport::success("ab", 30, Some(vec![part(1), part(2)])),
                r#"{"checksum":"ab","checksum_type":"sha1","size":30,"successful":true,"parts":[{"etag":"\"1c\"","part_number":1},{"etag":"\"2c\"","part_number":2}]}"#,
            ),
            (BackupReport::failure(), r#"{"checksum":"","checksum_type":"","size":0,"successful":false,"parts":null}"#),
        ] {
            assert_eq!(serde_json::to_string(&report).unwrap(), body);
        }
    }
}
