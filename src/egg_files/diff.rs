//! The changes of a file as people read them.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use similar::{Algorithm, TextDiff};

use super::update::FileUpdate;

/// The longest text, in bytes.
const MAX_TEXT: usize = 16 << 10;
/// A diff that takes longer is coarser.
const TIMEOUT: Duration = Duration::from_millis(200);
/// Unchanged lines around a change.
const CONTEXT: usize = 1;

/// What a start makes of a file, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileChange {
    /// Path below the server's directory.
    pub path: String,
    /// In the unified format; empty if nothing changes.
    pub diff: String,
    /// What cannot be done.
    pub warnings: Vec<String>,
}

impl FileChange {
    pub(super) fn of(update: FileUpdate) -> Self {
        Self { diff: update.diff(), path: update.path, warnings: update.warnings }
    }
}

impl FileUpdate {
    fn diff(&self) -> String {
        let Some((before, after)) = &self.change else { return String::new() };
        let before = String::from_utf8_lossy(before.as_deref().unwrap_or_default());
        let after = String::from_utf8_lossy(after);
        let diff = TextDiff::configure().algorithm(Algorithm::Patience).timeout(TIMEOUT).diff_lines(&before, &after);
        let mut text = diff.unified_diff().context_radius(CONTEXT).missing_newline_hint(false).to_string();
        if let Some(end) = (text.len() > MAX_TEXT).then(|| text.floor_char_boundary(MAX_TEXT)) {
            text.truncate(end);
            text.push_str("…\n");
        }
        text
    }
}
