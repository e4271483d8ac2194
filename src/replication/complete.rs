//! Verifies a tree that has everything, and gives its entries their modes and times.

use std::io::Read;
use std::time::{Duration, SystemTime};

use super::entry::{Content, Entry};
use super::error::ReplicationError;
use super::manifest::{ManifestReader, ManifestWriter, Stamp, Summary};
use super::scan::{seconds, user_path};
use crate::files::tree::{Attributes, Follow, Tree};

/// Compares what a tree has with what it is to have, sets modes and times, and returns what it is then: its root hash is that of the
/// wanted manifest only if all of it is the same.
///
/// # Errors
/// Something differs, or the disk fails.
pub fn complete<R: Read, S: Read>(
    tree: &Tree,
    mut wanted: ManifestReader<R>,
    mut has: ManifestReader<S>,
) -> Result<Summary, ReplicationError> {
    let mut result = ManifestWriter::remote(std::io::sink());
    while let Some(entry) = wanted.next_entry()? {
        let found = has.next_entry()?.ok_or_else(|| differs(&entry))?;
        if found.path != entry.path || found.content != entry.content {
            return Err(differs(&entry));
        }
        let now = attributes(tree, &entry, found)?;
        result.add(&now, Stamp::default())?;
    }
    if let Some(more) = has.next_entry()? {
        return Err(differs(&more));
    }
    let (_, summary) = result.finish()?;
    match summary == wanted.summary() {
        true => Ok(summary),
        false => Err(ReplicationError::Differs("a mode or a time".to_owned())),
    }
}

/// Sets what differs. Returns the entry as it is then.
fn attributes(tree: &Tree, entry: &Entry, found: Entry) -> Result<Entry, ReplicationError> {
    if (entry.mode, entry.modified) == (found.mode, found.modified) {
        return Ok(found);
    }
    let path = user_path(&entry.path)?;
    let is_link = matches!(entry.content, Content::Symlink(_));
    let mode = (!is_link && entry.mode != found.mode).then_some(entry.mode.into());
    let modified = Some(time(entry.modified));
    tree.set_attributes(&path, Follow::No, Attributes { mode, modified, ..Attributes::default() })?;
    let now = tree.stat(&path, Follow::No)?;
    let mode = if is_link { 0 } else { (now.mode & 0o3777) as u16 };
    Ok(Entry { mode, modified: seconds(now.modified), ..found })
}

fn time((seconds, nanoseconds): (i64, u32)) -> SystemTime {
    let whole = match u64::try_from(seconds) {
        Ok(after) => SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(after)),
        Err(_) => SystemTime::UNIX_EPOCH.checked_sub(Duration::from_secs(seconds.unsigned_abs())),
    };
    let nanoseconds = Duration::from_nanos(nanoseconds.into());
    whole.and_then(|time| time.checked_add(nanoseconds)).unwrap_or(SystemTime::UNIX_EPOCH)
}

fn differs(entry: &Entry) -> ReplicationError {
    ReplicationError::Differs(format!("/{}", String::from_utf8_lossy(&entry.path)))
}
