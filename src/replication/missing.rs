//! The list of the blocks that a destination lacks, in the order of the manifest.
//!
//! ```text
//! (number of the entry: u64, runs: u32, (first block: u32, blocks: u32)*)*  u64::MAX
//! ```

use std::io::{Read, Write};

use super::error::ReplicationError;

/// The most runs of one file.
const MAX_RUNS: u32 = 1 << 20;
const END: u64 = u64::MAX;

/// Blocks that follow each other: the first one, and how many.
pub type Run = (u32, u32);

/// Writes a list.
pub struct MissingWriter<W> {
    sink: W,
    blocks: u64,
}

impl<W: Write> MissingWriter<W> {
    /// An empty list.
    pub fn new(sink: W) -> Self {
        Self { sink, blocks: 0 }
    }

    /// Adds the blocks of one entry, if there are any.
    pub(super) fn add(&mut self, entry: u64, runs: &[Run]) -> Result<(), ReplicationError> {
        if runs.is_empty() {
            return Ok(());
        }
        let mut bytes = Vec::with_capacity(12 + runs.len() * 8);
        bytes.extend_from_slice(&entry.to_le_bytes());
        bytes.extend_from_slice(&(runs.len() as u32).to_le_bytes());
        for (first, count) in runs {
            self.blocks += u64::from(*count);
            bytes.extend_from_slice(&first.to_le_bytes());
            bytes.extend_from_slice(&count.to_le_bytes());
        }
        self.sink.write_all(&bytes).map_err(ReplicationError::io("write the list of missing blocks"))
    }

    /// Ends the list. Returns how many blocks it has.
    ///
    /// # Errors
    /// Those of the sink.
    pub fn finish(mut self) -> Result<(W, u64), ReplicationError> {
        let ended = self.sink.write_all(&END.to_le_bytes()).and_then(|()| self.sink.flush());
        ended.map_err(ReplicationError::io("write the list of missing blocks"))?;
        Ok((self.sink, self.blocks))
    }
}

/// Reads a list.
pub struct MissingReader<R> {
    source: R,
    next: u64,
    ended: bool,
}

impl<R: Read> MissingReader<R> {
    /// One that begins here.
    pub fn new(source: R) -> Self {
        Self { source, next: 0, ended: false }
    }

    /// The source, behind the list where that was read to its end.
    pub fn into_source(self) -> R {
        self.source
    }

    /// The next entry and its runs.
    ///
    /// # Errors
    /// The source fails, or the list is none.
    pub fn next_runs(&mut self) -> Result<Option<(u64, Vec<Run>)>, ReplicationError> {
        let invalid = |why| ReplicationError::invalid("list of missing blocks", why);
        if self.ended {
            return Ok(None);
        }
        let entry = u64::from_le_bytes(self.array()?);
        if entry == END {
            self.ended = true;
            return Ok(None);
        }
        if entry < self.next {
            return Err(invalid("it is not in order"));
        }
        self.next = entry + 1;
        let count = u32::from_le_bytes(self.array()?);
        if count == 0 || count > MAX_RUNS {
            return Err(invalid("an entry has no runs, or too many"));
        }
        let (mut runs, mut end) = (Vec::new(), 0);
        for _ in 0..count {
            let (first, blocks) = (u32::from_le_bytes(self.array()?), u32::from_le_bytes(self.array()?));
            if blocks == 0 || first < end {
                return Err(invalid("its blocks are not in order"));
            }
            end = first.checked_add(blocks).ok_or_else(|| invalid("it has too many blocks"))?;
            runs.push((first, blocks));
        }
        Ok(Some((entry, runs)))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ReplicationError> {
        let mut array = [0; N];
        self.source.read_exact(&mut array).map_err(ReplicationError::io("read the list of missing blocks"))?;
        Ok(array)
    }
}
