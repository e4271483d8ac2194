//! How large an archive can become.

use super::super::compress::tree_error;
use super::super::error::ArchiveError;
use super::ignore::IgnoreList;
use super::select::{Choice, Links, choose};
use super::tar_writer::entry_size;
use crate::files::tree::{EntryKind, Tree, Visit};
use crate::files::user_path::UserPath;
use crate::progress::Progress;

/// What is to be archived.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Estimate {
    /// Files, links and directories.
    pub entries: u64,
    /// Content of files, in bytes; that of several names once.
    pub content: u64,
    /// The archive before it is compressed, in bytes.
    pub uncompressed: u64,
}

impl Estimate {
    /// The size of the archive if nothing can be compressed: what deflate adds, and room for files that grow a little meanwhile.
    pub fn max_archive(&self) -> u64 {
        self.uncompressed.saturating_add(self.uncompressed / 1000).saturating_add(1 << 20)
    }
}

/// Walks the tree. It may change before it is archived.
///
/// # Errors
/// A directory cannot be read, or the operation is cancelled.
pub fn estimate(tree: &Tree, ignore: &IgnoreList, progress: &Progress) -> Result<Estimate, ArchiveError> {
    let mut sum = Estimate::default();
    let mut links = Links::default();
    let walked = tree.walk(&UserPath::root(), progress.cancelled(), &mut |found| {
        match choose(&found, ignore) {
            Choice::Take => {}
            Choice::Enter => return Visit::Enter,
            Choice::Leave | Choice::Special | Choice::TooLong => return Visit::Skip,
        }
        let name = found.path.as_bytes();
        let (target, content) = match found.entry.kind {
            EntryKind::Symlink => (found.entry.size as usize, 0),
            EntryKind::File => match links.first(name, &found.entry) {
                Some(first) => (first.len(), 0),
                None => (0, found.entry.size),
            },
            _ => (0, 0),
        };
        sum.entries += 1;
        sum.content = sum.content.saturating_add(content);
        sum.uncompressed = sum.uncompressed.saturating_add(entry_size(name.len(), target, content));
        Visit::Enter
    });
    walked.map_err(tree_error)?;
    Ok(sum)
}
