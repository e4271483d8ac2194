//! What a destination lacks, in pieces that are sent and acknowledged at once.

use std::fs::File;
use std::io::{self, BufReader};

use crate::files::ScratchFile;
use crate::replication::{BLOCK, Content, ManifestReader, MissingReader, ReplicationError, Span};

/// Blocks of a batch: few enough that a break costs little.
const BLOCKS: u64 = 16;
/// Files of a batch that are smaller than a block.
const FILES: usize = 1000;
/// Bytes of a batch.
const BYTES: u64 = BLOCKS * BLOCK;

/// The missing blocks of a round, in the order of its manifest.
pub(super) struct Batches {
    manifest: ManifestReader<BufReader<File>>,
    missing: MissingReader<BufReader<File>>,
    /// The entries that were read.
    read: u64,
    bytes: u64,
    /// What of the entry before does not fit into its batch.
    rest: Vec<(Span, u64)>,
}

impl Batches {
    /// Reads a list once, to check it.
    pub(super) fn new(manifest: &ScratchFile, missing: &ScratchFile) -> Result<Self, ReplicationError> {
        let mut batches = Self::at_begin(manifest, missing)?;
        let mut bytes = 0;
        while let Some((_, length)) = batches.next_span()? {
            bytes += length;
        }
        Ok(Self { bytes, ..Self::at_begin(manifest, missing)? })
    }

    fn at_begin(manifest: &ScratchFile, missing: &ScratchFile) -> Result<Self, ReplicationError> {
        let failed = |source: io::Error| ReplicationError::Io { action: "read a file of a round", source };
        Ok(Self {
            manifest: ManifestReader::local(manifest.reader().map_err(failed)?),
            missing: MissingReader::new(missing.reader().map_err(failed)?),
            read: 0,
            bytes: 0,
            rest: Vec::new(),
        })
    }

    /// The bytes of all batches.
    pub(super) fn missing_bytes(&self) -> u64 {
        self.bytes
    }

    /// The next blocks to send. `None`: all are taken.
    pub(super) fn next_batch(&mut self) -> Result<Option<Vec<Span>>, ReplicationError> {
        let (mut spans, mut bytes) = (Vec::new(), 0);
        while bytes < BYTES && spans.len() < FILES {
            let Some((span, length)) = self.next_span()? else { break };
            bytes += length;
            spans.push(span);
        }
        Ok((!spans.is_empty()).then_some(spans))
    }

    /// Some blocks of one file, and their bytes.
    fn next_span(&mut self) -> Result<Option<(Span, u64)>, ReplicationError> {
        if let Some(span) = self.rest.pop() {
            return Ok(Some(self.cut(span)));
        }
        let invalid = |why| ReplicationError::Invalid { what: "list of missing blocks", why };
        let Some((number, runs)) = self.missing.next_runs()? else { return Ok(None) };
        let entry = loop {
            let entry = self.manifest.next_entry()?.ok_or_else(|| invalid("it names more than there is"))?;
            self.read += 1;
            if self.read > number {
                break entry;
            }
        };
        let Content::File { size, blocks } = entry.content else {
            return Err(invalid("it names something that is no file"));
        };
        for (first, count) in runs.into_iter().rev() {
            let (first, count) = (u64::from(first), u64::from(count));
            if first + count > blocks.len() as u64 {
                return Err(invalid("it names more blocks than a file has"));
            }
            self.rest.push((Span { path: entry.path.clone(), first, count }, size));
        }
        let Some(span) = self.rest.pop() else { return Ok(None) };
        Ok(Some(self.cut(span)))
    }

    fn cut(&mut self, (span, size): (Span, u64)) -> (Span, u64) {
        let Span { path, first, count } = span;
        let taken = count.min(BLOCKS);
        if count > taken {
            self.rest.push((Span { path: path.clone(), first: first + taken, count: count - taken }, size));
        }
        let bytes = ((first + taken) * BLOCK).min(size) - first * BLOCK;
        (Span { path, first, count: taken }, bytes)
    }
}
