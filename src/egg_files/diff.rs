//! The changes of a file as people read them.

use std::time::Duration;

use similar::TextDiff;

/// The longest text, in bytes.
const MAX_TEXT: usize = 16 << 10;
/// A diff that takes longer is coarser.
const TIMEOUT: Duration = Duration::from_millis(200);
/// Unchanged lines around a change.
const CONTEXT: usize = 1;

/// The longest file whose changes are computed, in bytes.
const MAX_FILE: usize = 1 << 20;

/// The change in the unified format.
pub(super) fn unified(before: Option<&[u8]>, after: &[u8]) -> String {
    if before.map_or(0, <[u8]>::len).max(after.len()) > MAX_FILE {
        return "the file is changed; it is too long to show where\n".into();
    }
    let before = String::from_utf8_lossy(before.unwrap_or_default());
    let after = String::from_utf8_lossy(after);
    let diff = TextDiff::configure().timeout(TIMEOUT).diff_lines(&before, &after);
    let mut text = diff.unified_diff().context_radius(CONTEXT).missing_newline_hint(false).to_string();
    if let Some(end) = (text.len() > MAX_TEXT).then(|| text.floor_char_boundary(MAX_TEXT)) {
        text.truncate(end);
        text.push_str("…\n");
    }
    text
}
