//! Gives a destination's tree the names and lengths of a manifest, and lists the blocks that it lacks.

use std::cmp::Ordering;
use std::ffi::OsStr;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::sync::LazyLock;
use std::sync::atomic::{self, AtomicBool};

use super::BLOCK;
use super::entry::{Content, Entry, Hash, order, parent};
use super::error::ReplicationError;
use super::manifest::ManifestReader;
use super::missing::{MissingWriter, Run};
use super::pages::{self, PageWriter};
use super::scan::user_path;
use crate::files::tree::{OpenFlags, Place, Recursive, Tree, TreeError};

/// The mode of files that are not complete.
const MODE: u32 = 0o600;

/// Compares what a tree has with what it is to have. What is not wanted is removed, what is missing is created, files get their
/// lengths. Returns the bytes of the missing blocks, which are listed. `pages` gets the hashes of those that are there in an older version.
///
/// # Errors
/// It does not fit, the disk fails, a manifest cannot be read, a list cannot be written, or it is cancelled.
pub fn prepare<R: Read, S: Read, W: Write, P: Write>(
    tree: &Tree,
    mut wanted: ManifestReader<R>,
    mut has: ManifestReader<S>,
    missing: &mut MissingWriter<W>,
    mut pages: Option<&mut PageWriter<P>>,
    cancelled: &AtomicBool,
) -> Result<u64, ReplicationError> {
    let mut preparation = Preparation { tree, cancelled, place: None, removed: None };
    let (mut number, mut bytes) = (0, 0);
    let mut next = has.next_entry()?;
    while let Some(entry) = wanted.next_entry()? {
        if cancelled.load(atomic::Ordering::Relaxed) {
            return Err(ReplicationError::Cancelled);
        }
        let mut found = None;
        while let Some(present) = next.take_if(|present| order(&present.path, &entry.path) != Ordering::Greater) {
            match present.path == entry.path {
                true => found = Some(present),
                false => preparation.remove(&present.path)?,
            }
            next = has.next_entry()?;
        }
        let lacks = preparation.entry(&entry, found)?;
        if let Content::File { size, .. } = entry.content {
            let blocks = lacks.missing.iter().flat_map(|(first, count)| *first..first + count);
            bytes += blocks.map(|block| Entry::length(size, block.into())).sum::<u64>();
            if let Some(pages) = pages.as_deref_mut().filter(|_| !lacks.older.is_empty()) {
                let (file, _) = tree.open(&user_path(&entry.path)?)?;
                pages.add(number, size, &file, &lacks.older, cancelled)?;
            }
        }
        missing.add(number, &lacks.missing)?;
        number += 1;
    }
    while let Some(present) = next {
        preparation.remove(&present.path)?;
        next = has.next_entry()?;
    }
    Ok(bytes)
}

/// The blocks that a file lacks.
#[derive(Default)]
struct Lacks {
    missing: Vec<Run>,
    /// Those of them that are there in an older version.
    older: Vec<Run>,
}

struct Preparation<'a> {
    tree: &'a Tree,
    cancelled: &'a AtomicBool,
    /// The directory of the entry before.
    place: Option<(Vec<u8>, Place)>,
    /// What was removed last, with all that was in it.
    removed: Option<Vec<u8>>,
}

impl Preparation<'_> {
    /// Makes an entry what it is to be, but for the content of its missing blocks.
    fn entry(&mut self, entry: &Entry, found: Option<Entry>) -> Result<Lacks, ReplicationError> {
        if entry.path.is_empty() {
            return Ok(Lacks::default());
        }
        let found = match (found, &entry.content) {
            (Some(Entry { content: Content::File { size, blocks }, .. }), Content::File { size: new, .. }) => {
                if size != *new {
                    self.resize(&entry.path, *new)?;
                }
                Some((size, blocks))
            }
            (Some(found), Content::Directory) if found.content == Content::Directory => return Ok(Lacks::default()),
            // Its time is set when it is complete.
            (Some(found), Content::Symlink(_) | Content::HardLink(_)) if found.content == entry.content => {
                return Ok(Lacks::default());
            }
            (Some(_), _) => {
                self.remove(&entry.path)?;
                self.create(entry)?;
                None
            }
            (None, _) => {
                self.create(entry)?;
                None
            }
        };
        let Content::File { size, blocks } = &entry.content else { return Ok(Lacks::default()) };
        let (had, known) = found.unwrap_or_default();
        let is_missing = |number: u64, hash: &Hash| {
            let at = number * BLOCK;
            let length = Entry::length(*size, number);
            match known.get(number as usize) {
                // A block that has another length now has another content.
                Some(known) if Entry::length(had, number) == length => known != hash,
                Some(_) => true,
                // What a file is longer by is zeros.
                None => at < had || zeros(length) != *hash,
            }
        };
        // Zeros are what has not arrived yet.
        let is_older = |number: u64| {
            let (length, held) = (Entry::length(*size, number), Entry::length(had, number));
            pages::are_worth_it(length) && known.get(number as usize).is_some_and(|known| *known != zeros(held))
        };
        let mut lacks = Lacks::default();
        for (number, _) in (0..).zip(blocks).filter(|(number, hash)| is_missing(*number, hash)) {
            append(&mut lacks.missing, number as u32);
            if is_older(number) {
                append(&mut lacks.older, number as u32);
            }
        }
        Ok(lacks)
    }

    fn create(&mut self, entry: &Entry) -> Result<(), ReplicationError> {
        let place = self.place(parent(&entry.path))?;
        let name = entry.path.rsplit(|byte| *byte == b'/').next().map(OsStr::from_bytes).unwrap_or_default();
        match &entry.content {
            Content::Directory => drop(place.enter(name)?),
            Content::Symlink(text) => place.symlink(name, OsStr::from_bytes(text), None)?,
            Content::HardLink(first) => {
                let from = self.tree.existing_place(&user_path(parent(first))?)?;
                let file = first.rsplit(|byte| *byte == b'/').next().map(OsStr::from_bytes).unwrap_or_default();
                place.hard_link(name, &from, file)?;
            }
            Content::File { size, .. } => {
                let mut file = place.create(name, MODE, Some(*size))?;
                file.skip(*size).map_err(TreeError::io("write", &user_path(&entry.path)?))?;
                file.commit()?;
            }
        }
        Ok(())
    }

    fn place(&mut self, directory: &[u8]) -> Result<Place, ReplicationError> {
        match &self.place {
            Some((path, place)) if path == directory => Ok(place.clone()),
            _ => {
                let place = self.tree.place(&user_path(directory)?)?;
                self.place = Some((directory.to_vec(), place.clone()));
                Ok(place)
            }
        }
    }

    fn remove(&mut self, path: &[u8]) -> Result<(), ReplicationError> {
        // Its name may be a link by now, and what is at the other end is not to be removed.
        let is_gone = |removed: &Vec<u8>| path.strip_prefix(&removed[..]).is_some_and(|rest| rest.starts_with(b"/"));
        if self.removed.as_ref().is_some_and(is_gone) {
            return Ok(());
        }
        self.place = None;
        self.removed = Some(path.to_vec());
        match self.tree.remove(&user_path(path)?, Recursive::Yes, self.cancelled) {
            Err(TreeError::NotFound(_)) => Ok(()),
            removed => Ok(removed.map(drop)?),
        }
    }

    fn resize(&self, path: &[u8], size: u64) -> Result<(), ReplicationError> {
        let path = user_path(path)?;
        let file = self.tree.open_for_writing(&path, OpenFlags::default())?;
        file.set_len(size).map_err(TreeError::io("resize", &path))?;
        Ok(())
    }
}

fn append(runs: &mut Vec<Run>, number: u32) {
    match runs.last_mut() {
        Some((first, count)) if *first + *count == number => *count += 1,
        _ => runs.push((number, 1)),
    }
}

/// The hash of this many zeros, at most a block.
fn zeros(length: u64) -> Hash {
    static BLOCK_OF_ZEROS: LazyLock<Hash> = LazyLock::new(|| hash_zeros(BLOCK));
    if length == BLOCK { *BLOCK_OF_ZEROS } else { hash_zeros(length) }
}

fn hash_zeros(length: u64) -> Hash {
    const PIECE: [u8; 4096] = [0; 4096];
    let mut hasher = blake3::Hasher::new();
    let mut left = length as usize;
    while left > 0 {
        let piece = left.min(PIECE.len());
        hasher.update(&PIECE[..piece]);
        left -= piece;
    }
    *hasher.finalize().as_bytes()
}
