//! Hashes of the pages of blocks that a destination has in an older version: of such a block only pages that differ travel.
//!
//! ```text
//! key  (number of the entry: u64, first block: u32, blocks: u32, (hash of a page: u64)*)*  u64::MAX
//! ```
//!
//! They follow the list of missing blocks where a source asks for them. The hashes are short, and the key is another one each time, so no
//! content can be made for which they are the same. What becomes of a block is compared as a whole in the next round.

use std::fs::File;
use std::io::{BufRead, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};

use uuid::Uuid;

use super::BLOCK;
use super::entry::Entry;
use super::error::ReplicationError;
use super::manifest::Summary;
use super::missing::Run;

/// Bytes of a page: what kernels write back, and databases and regions of worlds are made of.
pub(super) const PAGE: usize = 4 << 10;
/// A block that is shorter travels whole.
const SHORTEST: u64 = 16 * PAGE as u64;
/// A block of which so many pages of four differ travels whole: it can be packed better.
const MOST: usize = 3;
const END: u64 = u64::MAX;
const READ: &str = "read the hashes of pages";
const WRITE: &str = "write the hashes of pages";

type Key = [u8; 32];
type PageHash = [u8; 8];

/// The pages of blocks that follow each other, as the destination has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pages {
    key: Key,
    hashes: Vec<PageHash>,
}

impl Pages {
    /// Where this content of the block at a position is another one, from its beginning. It has nothing that the destination's does not
    /// have a place for.
    pub(super) fn differing(&self, position: u64, content: &[u8]) -> Vec<Range<usize>> {
        let first = position as usize * (BLOCK as usize / PAGE);
        let known = self.hashes.get(first..).unwrap_or_default();
        let pages: Vec<&[u8]> = content.chunks(PAGE).take(known.len()).collect();
        let end = content.len().min(pages.len() * PAGE);
        let (mut ranges, mut count): (Vec<Range<usize>>, usize) = (Vec::new(), 0);
        for (number, (page, known)) in pages.iter().zip(known).enumerate() {
            if hash(&self.key, page) == *known {
                continue;
            }
            count += 1;
            let (begin, end) = (number * PAGE, number * PAGE + page.len());
            match ranges.last_mut() {
                Some(last) if last.end == begin => last.end = end,
                _ => ranges.push(begin..end),
            }
        }
        if count > 0 && count * 4 >= pages.len() * MOST { std::iter::once(0..end).collect() } else { ranges }
    }
}

#[cfg(test)]
impl Pages {
    /// Those of another content.
    pub(super) fn as_they_are(&self, content: &[u8]) -> Self {
        Self { key: self.key, hashes: content.chunks(PAGE).map(|page| hash(&self.key, page)).collect() }
    }
}

fn hash(key: &Key, page: &[u8]) -> PageHash {
    let hash = blake3::keyed_hash(key, page);
    hash.as_bytes().first_chunk().copied().unwrap_or_default()
}

/// How many pages blocks of a file have.
fn count(size: u64, (first, blocks): Run) -> u64 {
    let (begin, end) = (u64::from(first) * BLOCK, (u64::from(first) + u64::from(blocks)) * BLOCK);
    end.min(size).saturating_sub(begin).div_ceil(PAGE as u64)
}

/// Whether a block of this length is worth it.
pub(super) fn are_worth_it(length: u64) -> bool {
    length >= SHORTEST
}

/// The most bytes of an answer to a manifest: its list of missing blocks, and these hashes.
pub fn longest_answer(of: &Summary) -> u64 {
    let (blocks, pages) = (of.bytes / BLOCK + of.entries, of.bytes / PAGE as u64 + of.entries);
    (blocks.saturating_mul(12 + 8 + 16)).saturating_add(pages.saturating_mul(8)).saturating_add(64)
}

/// Writes hashes of pages.
pub struct PageWriter<W> {
    sink: W,
    key: Key,
    buffer: Vec<u8>,
}

impl<W: Write> PageWriter<W> {
    /// None yet.
    ///
    /// # Errors
    /// Those of the sink.
    pub fn new(mut sink: W) -> Result<Self, ReplicationError> {
        let mut key = [0; 32];
        key[..16].copy_from_slice(Uuid::new_v4().as_bytes());
        key[16..].copy_from_slice(Uuid::new_v4().as_bytes());
        sink.write_all(&key).map_err(ReplicationError::io(WRITE))?;
        Ok(Self { sink, key, buffer: vec![0; BLOCK as usize] })
    }

    /// Adds those of blocks of a file of this length.
    pub(super) fn add(
        &mut self,
        entry: u64,
        size: u64,
        file: &File,
        runs: &[Run],
        cancelled: &AtomicBool,
    ) -> Result<(), ReplicationError> {
        for (first, blocks) in runs {
            let mut head = entry.to_le_bytes().to_vec();
            head.extend_from_slice(&first.to_le_bytes());
            head.extend_from_slice(&blocks.to_le_bytes());
            self.sink.write_all(&head).map_err(ReplicationError::io(WRITE))?;
            for block in (u64::from(*first)..).take(*blocks as usize) {
                if cancelled.load(Ordering::Relaxed) {
                    return Err(ReplicationError::Cancelled);
                }
                let content = &mut self.buffer[..Entry::length(size, block) as usize];
                file.read_exact_at(content, block * BLOCK).map_err(ReplicationError::io("read a block"))?;
                let hashes: Vec<u8> = content.chunks(PAGE).flat_map(|page| hash(&self.key, page)).collect();
                self.sink.write_all(&hashes).map_err(ReplicationError::io(WRITE))?;
            }
        }
        Ok(())
    }

    /// Ends them.
    ///
    /// # Errors
    /// Those of the sink.
    pub fn finish(mut self) -> Result<W, ReplicationError> {
        let ended = self.sink.write_all(&END.to_le_bytes()).and_then(|()| self.sink.flush());
        ended.map_err(ReplicationError::io(WRITE))?;
        Ok(self.sink)
    }
}

/// Reads hashes of pages in step with the missing blocks.
pub struct PageReader<R> {
    source: R,
    /// `None`: there are no more.
    key: Option<Key>,
    /// The entry, and its blocks that are not taken yet.
    next: Option<(u64, Run)>,
}

impl<R: BufRead> PageReader<R> {
    /// Those that begin here, where a destination has sent any.
    ///
    /// # Errors
    /// The source fails.
    pub fn new(mut source: R) -> Result<Self, ReplicationError> {
        let is_there = !source.fill_buf().map_err(ReplicationError::io(READ))?.is_empty();
        let mut reader = Self { source, key: None, next: None };
        if is_there {
            reader.key = Some(reader.array()?);
        }
        Ok(reader)
    }

    /// Takes the pages of the first of these missing blocks of a file of this length. Returns of how many blocks they are, or how many
    /// have none.
    ///
    /// # Errors
    /// The source fails, or they are of other blocks.
    pub fn take(&mut self, entry: u64, size: u64, of: Run) -> Result<(u32, Option<Pages>), ReplicationError> {
        let (first, count_of) = of;
        self.advance()?;
        let Some((key, (number, (start, blocks)))) = self.key.zip(self.next) else { return Ok((count_of, None)) };
        if (number, start) < (entry, first) {
            return Err(invalid("they are of a block that is not missing"));
        }
        if number > entry || start - first >= count_of {
            return Ok((count_of, None));
        }
        if start > first {
            return Ok((start - first, None));
        }
        let taken = blocks.min(count_of);
        self.next = (blocks > taken).then_some((number, (start + taken, blocks - taken)));
        let mut hashes = Vec::new();
        for _ in 0..count(size, (first, taken)) {
            hashes.push(self.array()?);
        }
        Ok((taken, Some(Pages { key, hashes })))
    }

    /// Checks that there are no more.
    ///
    /// # Errors
    /// There are.
    pub fn finish(mut self) -> Result<(), ReplicationError> {
        self.advance()?;
        match self.next {
            None => Ok(()),
            Some(_) => Err(invalid("they are of a block that is not missing")),
        }
    }

    fn advance(&mut self) -> Result<(), ReplicationError> {
        if self.key.is_none() || self.next.is_some() {
            return Ok(());
        }
        let entry = u64::from_le_bytes(self.array()?);
        if entry == END {
            self.key = None;
            return Ok(());
        }
        let (first, blocks) = (u32::from_le_bytes(self.array()?), u32::from_le_bytes(self.array()?));
        if blocks == 0 || first.checked_add(blocks).is_none() {
            return Err(invalid("they are of no blocks, or of too many"));
        }
        self.next = Some((entry, (first, blocks)));
        Ok(())
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ReplicationError> {
        let mut array = [0; N];
        self.source.read_exact(&mut array).map_err(ReplicationError::io(READ))?;
        Ok(array)
    }
}

fn invalid(why: &'static str) -> ReplicationError {
    ReplicationError::invalid("list of pages", why)
}
