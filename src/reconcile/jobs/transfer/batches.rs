//! What a destination lacks, in pieces that several connections take.

use std::fs::File;
use std::io::{self, BufReader, Seek};

use crate::files::ScratchFile;
use crate::replication::{BLOCK, Content, ManifestReader, MissingReader, PageReader, ReplicationError, Span};

/// Blocks of one file that are taken at once.
const BLOCKS: u32 = 16;

/// The missing blocks of a round, in the order of its manifest.
pub(super) struct Batches {
    manifest: ManifestReader<BufReader<File>>,
    missing: MissingReader<BufReader<File>>,
    pages: PageReader<BufReader<File>>,
    /// The entries that were read.
    read: u64,
    bytes: u64,
    /// What of the entry before was not taken.
    rest: Vec<Rest>,
}

/// Missing blocks of one file.
struct Rest {
    path: Vec<u8>,
    entry: u64,
    size: u64,
    first: u32,
    count: u32,
}

impl Batches {
    /// Reads an answer once, to check it.
    pub(super) fn new(manifest: &ScratchFile, answer: &ScratchFile) -> Result<Self, ReplicationError> {
        let failed = |source: io::Error| ReplicationError::Io { action: "read a file of a round", source };
        let list = || Ok::<_, ReplicationError>(MissingReader::new(answer.reader().map_err(failed)?));
        let mut ended = list()?;
        while ended.next_runs()?.is_some() {}
        let end = ended.into_source().stream_position().map_err(failed)?;
        let at_begin = || {
            let mut pages = answer.reader().map_err(failed)?;
            pages.seek(io::SeekFrom::Start(end)).map_err(failed)?;
            Ok::<_, ReplicationError>(Self {
                manifest: ManifestReader::local(manifest.reader().map_err(failed)?),
                missing: list()?,
                pages: PageReader::new(pages)?,
                read: 0,
                bytes: 0,
                rest: Vec::new(),
            })
        };
        let (mut batches, mut bytes) = (at_begin()?, 0);
        while let Some((_, length)) = batches.next_span()? {
            bytes += length;
        }
        batches.pages.finish()?;
        Ok(Self { bytes, ..at_begin()? })
    }

    /// The bytes of all missing blocks.
    pub(super) fn missing_bytes(&self) -> u64 {
        self.bytes
    }

    /// The next blocks to send, all of one file, and their bytes. `None`: all are taken.
    pub(super) fn next_span(&mut self) -> Result<Option<(Span, u64)>, ReplicationError> {
        if self.rest.is_empty() && !self.next_entry()? {
            return Ok(None);
        }
        let Some(Rest { path, entry, size, first, count }) = self.rest.pop() else { return Ok(None) };
        let (taken, pages) = self.pages.take(entry, size, (first, count.min(BLOCKS)))?;
        if count > taken {
            self.rest.push(Rest { path: path.clone(), entry, size, first: first + taken, count: count - taken });
        }
        let (first, count) = (u64::from(first), u64::from(taken));
        let bytes = ((first + count) * BLOCK).min(size) - first * BLOCK;
        Ok(Some((Span { path, first, count, pages }, bytes)))
    }

    /// Reads the missing blocks of an entry. `false` is the end.
    fn next_entry(&mut self) -> Result<bool, ReplicationError> {
        let invalid = |why| ReplicationError::Invalid { what: "list of missing blocks", why };
        let Some((number, runs)) = self.missing.next_runs()? else { return Ok(false) };
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
            if u64::from(first) + u64::from(count) > blocks.len() as u64 {
                return Err(invalid("it names more blocks than a file has"));
            }
            self.rest.push(Rest { path: entry.path.clone(), entry: number, size, first, count });
        }
        Ok(true)
    }
}
