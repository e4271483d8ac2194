//! Manifests as streams of bytes: on disk with stamps, which say whether a file has changed, and to a peer without them.
//!
//! ```text
//! (length: u32, entry, stamp where it is on disk)*  0: u32  root hash
//! ```
//!
//! The root hash is that of all lengths and entries, without stamps.

use std::cmp::Ordering;
use std::io::{Read, Write};

use super::entry::{Content, Entry, Hash, MAX_ENTRY, order, parent};
use super::error::ReplicationError;

/// The most entries of a tree.
const MAX_ENTRIES: u64 = 8_000_000;
/// The longest manifest, in bytes.
const MAX_BYTES: u64 = 2 << 30;
/// Bytes of a stamp.
const STAMP: usize = 29;
/// The level of zstd: hashes do not get smaller.
const LEVEL: i32 = 1;
/// The most memory that a peer's zstd may need, as a power of two.
const MAX_WINDOW: u32 = 24;
const READ: &str = "read a manifest";
const WRITE: &str = "write a manifest";

/// By what a file is known to be unchanged on this node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) changed: (i64, u32),
    pub(super) inode: u64,
    pub(super) device: u64,
    /// The last change was long enough before the file was read.
    pub(super) settled: bool,
}

/// What a manifest has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// The hash of everything.
    pub root: Hash,
    /// Names.
    pub entries: u64,
    /// Bytes of files.
    pub bytes: u64,
}

/// Counts and hashes entries.
struct Tally {
    hasher: blake3::Hasher,
    entries: u64,
    bytes: u64,
    length: u64,
}

impl Tally {
    fn new() -> Self {
        Self { hasher: blake3::Hasher::new(), entries: 0, bytes: 0, length: 0 }
    }

    fn add(&mut self, encoded: &[u8], entry: &Entry) -> Result<(), ReplicationError> {
        self.hasher.update(&(encoded.len() as u32).to_le_bytes());
        self.hasher.update(encoded);
        self.entries += 1;
        self.length += encoded.len() as u64;
        if let Content::File { size, .. } = entry.content {
            self.bytes = self.bytes.saturating_add(size);
        }
        match self.entries > MAX_ENTRIES || self.length > MAX_BYTES {
            true => Err(ReplicationError::invalid("manifest", "it has too many entries")),
            false => Ok(()),
        }
    }

    fn summary(&self) -> Summary {
        Summary { root: *self.hasher.finalize().as_bytes(), entries: self.entries, bytes: self.bytes }
    }
}

/// Writes a manifest.
pub struct ManifestWriter<W> {
    sink: W,
    stamps: bool,
    tally: Tally,
    buffer: Vec<u8>,
}

impl<W: Write> ManifestWriter<W> {
    /// One for this node's disk.
    pub fn local(sink: W) -> Self {
        Self { sink, stamps: true, tally: Tally::new(), buffer: Vec::new() }
    }

    /// One for another node.
    pub fn remote(sink: W) -> Self {
        Self { stamps: false, ..Self::local(sink) }
    }

    pub(super) fn add(&mut self, entry: &Entry, stamp: Stamp) -> Result<(), ReplicationError> {
        self.buffer.clear();
        entry.encode(&mut self.buffer);
        self.tally.add(&self.buffer, entry)?;
        let length = (self.buffer.len() as u32).to_le_bytes();
        if self.stamps {
            self.buffer.extend_from_slice(&stamp.changed.0.to_le_bytes());
            self.buffer.extend_from_slice(&stamp.changed.1.to_le_bytes());
            self.buffer.extend_from_slice(&stamp.inode.to_le_bytes());
            self.buffer.extend_from_slice(&stamp.device.to_le_bytes());
            self.buffer.push(stamp.settled.into());
        }
        let written = self.sink.write_all(&length).and_then(|()| self.sink.write_all(&self.buffer));
        written.map_err(ReplicationError::io(WRITE))
    }

    /// Ends it.
    ///
    /// # Errors
    /// Those of the sink.
    pub fn finish(mut self) -> Result<(W, Summary), ReplicationError> {
        let summary = self.tally.summary();
        let ended = self.sink.write_all(&0_u32.to_le_bytes()).and_then(|()| self.sink.write_all(&summary.root));
        ended.and_then(|()| self.sink.flush()).map_err(ReplicationError::io(WRITE))?;
        Ok((self.sink, summary))
    }
}

/// Reads a manifest, and checks that it can be that of a tree.
pub struct ManifestReader<R> {
    source: R,
    stamps: bool,
    tally: Tally,
    buffer: Vec<u8>,
    /// The path of the entry before.
    before: Option<Vec<u8>>,
    /// The directories on the way to it.
    directories: Vec<Vec<u8>>,
    ended: bool,
}

impl<R: Read> ManifestReader<R> {
    /// One from this node's disk.
    pub fn local(source: R) -> Self {
        Self {
            source,
            stamps: true,
            tally: Tally::new(),
            buffer: Vec::new(),
            before: None,
            directories: Vec::new(),
            ended: false,
        }
    }

    /// One from another node.
    pub fn remote(source: R) -> Self {
        Self { stamps: false, ..Self::local(source) }
    }

    /// What was read so far.
    pub fn summary(&self) -> Summary {
        self.tally.summary()
    }

    /// The next entry. `None` is the end, whose root hash was compared.
    ///
    /// # Errors
    /// The source fails, or the manifest is invalid.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, ReplicationError> {
        Ok(self.next_stamped()?.map(|(entry, _)| entry))
    }

    pub(super) fn next_stamped(&mut self) -> Result<Option<(Entry, Stamp)>, ReplicationError> {
        if self.ended {
            return Ok(None);
        }
        let length = u32::from_le_bytes(self.array()?) as usize;
        if length == 0 {
            return self.end();
        }
        if length > MAX_ENTRY {
            return Err(ReplicationError::invalid("manifest", "an entry is too long"));
        }
        self.buffer.clear();
        // Memory grows with what has arrived, and not with what was announced.
        let read = (&mut self.source).take(length as u64).read_to_end(&mut self.buffer);
        if read.map_err(ReplicationError::io(READ))? < length {
            return Err(ReplicationError::io(READ)(std::io::ErrorKind::UnexpectedEof.into()));
        }
        let entry = Entry::decode(&self.buffer)?;
        self.tally.add(&self.buffer, &entry)?;
        self.check(&entry)?;
        let stamp = if self.stamps { stamp(&self.array::<STAMP>()?) } else { Stamp::default() };
        Ok(Some((entry, stamp)))
    }

    fn end(&mut self) -> Result<Option<(Entry, Stamp)>, ReplicationError> {
        let root: Hash = self.array()?;
        if root != self.tally.summary().root {
            return Err(ReplicationError::invalid("manifest", "its root hash is another"));
        }
        if self.before.is_none() {
            return Err(ReplicationError::invalid("manifest", "it is empty"));
        }
        self.ended = true;
        Ok(None)
    }

    /// Entries come in the order of a walk, each in a directory that was named before.
    fn check(&mut self, entry: &Entry) -> Result<(), ReplicationError> {
        let invalid = |why| Err(ReplicationError::invalid("manifest", why));
        match &self.before {
            None if !entry.path.is_empty() => return invalid("the top is missing"),
            Some(before) if order(before, &entry.path) != Ordering::Less => return invalid("it is not in order"),
            _ => {}
        }
        if self.before.is_some() {
            let parent = parent(&entry.path);
            while self.directories.last().is_some_and(|directory| directory != parent) {
                self.directories.pop();
            }
            if self.directories.is_empty() {
                return invalid("an entry is in no directory");
            }
        }
        if entry.content == Content::Directory {
            self.directories.push(entry.path.clone());
        }
        self.before = Some(entry.path.clone());
        Ok(())
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ReplicationError> {
        let mut array = [0; N];
        self.source.read_exact(&mut array).map_err(ReplicationError::io(READ))?;
        Ok(array)
    }
}

/// Sends a manifest of this node's disk to another node, compressed. Returns the sink.
///
/// # Errors
/// One of them fails, or it is no manifest.
pub fn send_manifest<R: Read, W: Write>(from: R, to: W) -> Result<W, ReplicationError> {
    let encoder = zstd::stream::write::Encoder::new(to, LEVEL).map_err(ReplicationError::io(WRITE))?;
    let (encoder, _) = copy(ManifestReader::local(from), ManifestWriter::remote(encoder))?;
    encoder.finish().map_err(ReplicationError::io(WRITE))
}

/// Stores a manifest of another node.
///
/// # Errors
/// One of them fails, or it is no manifest: what was written is none then.
pub fn receive_manifest<R: Read, W: Write>(from: R, to: W) -> Result<(W, Summary), ReplicationError> {
    let mut decoder = zstd::stream::read::Decoder::new(from).map_err(ReplicationError::io(READ))?;
    decoder.window_log_max(MAX_WINDOW).map_err(ReplicationError::io(READ))?;
    copy(ManifestReader::remote(std::io::BufReader::new(decoder)), ManifestWriter::local(to))
}

fn copy<R: Read, W: Write>(
    mut from: ManifestReader<R>,
    mut to: ManifestWriter<W>,
) -> Result<(W, Summary), ReplicationError> {
    while let Some((entry, stamp)) = from.next_stamped()? {
        to.add(&entry, stamp)?;
    }
    to.finish()
}

fn stamp(bytes: &[u8; STAMP]) -> Stamp {
    let number = |range: std::ops::Range<usize>| {
        let mut value = [0; 8];
        value[..range.len()].copy_from_slice(&bytes[range]);
        u64::from_le_bytes(value)
    };
    Stamp {
        changed: (number(0..8).cast_signed(), number(8..12) as u32),
        inode: number(12..20),
        device: number(20..28),
        settled: bytes[28] != 0,
    }
}
