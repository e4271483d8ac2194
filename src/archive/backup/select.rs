//! Which entries of a walk are in an archive.

use std::collections::HashMap;

use super::ignore::{Below, IgnoreList};
use crate::files::tree::{Entry, EntryKind, WalkEntry, is_temporary};

/// The longest path in an archive, in bytes: a longer one could not be unpacked.
const MAX_PATH: usize = 4095;

/// What becomes of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Choice {
    Take,
    /// Not in the archive; what is in it may be.
    Enter,
    /// Not in the archive, nor what is in it.
    Leave,
    /// As [`Leave`](Self::Leave): a pipe, a socket or a device.
    Special,
    /// As [`Leave`](Self::Leave).
    TooLong,
}

pub(super) fn choose(found: &WalkEntry<'_>, ignore: &IgnoreList) -> Choice {
    if is_temporary(&found.entry.name) {
        return Choice::Leave;
    }
    if found.path.as_bytes().len() > MAX_PATH {
        return Choice::TooLong;
    }
    match found.entry.kind {
        EntryKind::Directory => match ignore.ignores_directory(&found.path) {
            None => Choice::Take,
            Some(Below::Some) => Choice::Enter,
            Some(Below::All) => Choice::Leave,
        },
        _ if ignore.ignores(&found.path) => Choice::Leave,
        EntryKind::File | EntryKind::Symlink => Choice::Take,
        EntryKind::Fifo | EntryKind::Socket | EntryKind::CharacterDevice | EntryKind::BlockDevice => Choice::Special,
    }
}

/// The files with several names, from the first of their names to the last.
#[derive(Debug, Default)]
pub(super) struct Links {
    /// The first name, and how many are to come, by device and inode.
    open: HashMap<(u64, u64), (Vec<u8>, u64)>,
}

impl Links {
    /// The first name of this file, if it had one before.
    pub(super) fn first(&mut self, name: &[u8], entry: &Entry) -> Option<Vec<u8>> {
        if entry.links < 2 {
            return None;
        }
        let id = (entry.device, entry.inode);
        match self.open.get_mut(&id) {
            Some((_, 1)) => self.open.remove(&id).map(|(first, _)| first),
            Some((first, left)) => {
                *left -= 1;
                Some(first.clone())
            }
            None => {
                self.open.insert(id, (name.to_vec(), entry.links - 1));
                None
            }
        }
    }
}
