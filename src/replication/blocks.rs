//! Blocks, or pages of them, on their way: frames, each with its path, so that a destination needs nothing but its tree to store one.
//!
//! ```text
//! (path length: u16, path, offset: u64, length: u32, stored: u32, BLAKE3, bytes)*  u16::MAX
//! ```
//!
//! `stored` is the length of the bytes that follow: those of zstd where it is less than `length`. The hash is that of the content.

use std::fs::File;
use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use super::BLOCK;
use super::entry::{Hash, is_plain, parent};
use super::error::ReplicationError;
use super::pages::{PAGE, Pages};
use super::scan::{read_full, user_path};
use crate::files::tree::{Entry, Follow, OpenFile, OpenFlags, Tree, TreeError};
use crate::files::user_path::UserPath;

const END: u16 = u16::MAX;
/// The level of zstd: as fast as it gets without being pointless.
const LEVEL: i32 = 1;
/// Files that are synced one by one. More are synced with their file system.
const SYNCED: usize = 32;
const READ: &str = "read blocks";
const WRITE: &str = "send blocks";

/// Blocks of one file that follow each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// The file, as its manifest names it.
    pub path: Vec<u8>,
    /// The first block.
    pub first: u64,
    /// How many.
    pub count: u64,
    /// What the destination has there, if it has something.
    pub pages: Option<Pages>,
}

/// A block, or some of its pages, with the place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frame {
    pub(super) path: Vec<u8>,
    pub(super) offset: u64,
    pub(super) content: Vec<u8>,
}

/// Writes frames.
pub struct FrameWriter<W> {
    sink: W,
    sent: u64,
    compressor: zstd::bulk::Compressor<'static>,
}

impl<W: Write> FrameWriter<W> {
    /// No frames yet.
    ///
    /// # Errors
    /// There is no memory.
    pub fn new(sink: W) -> Result<Self, ReplicationError> {
        let compressor = zstd::bulk::Compressor::new(LEVEL).map_err(ReplicationError::io(WRITE))?;
        Ok(Self { sink, sent: 0, compressor })
    }

    pub(super) fn add(&mut self, path: &[u8], offset: u64, content: &[u8]) -> Result<(), ReplicationError> {
        let compressed = self.compressor.compress(content).map_err(ReplicationError::io(WRITE))?;
        let stored = if compressed.len() < content.len() { &compressed } else { content };
        let mut head = Vec::with_capacity(path.len() + 50);
        head.extend_from_slice(&(path.len() as u16).to_le_bytes());
        head.extend_from_slice(path);
        head.extend_from_slice(&offset.to_le_bytes());
        head.extend_from_slice(&(content.len() as u32).to_le_bytes());
        head.extend_from_slice(&(stored.len() as u32).to_le_bytes());
        head.extend_from_slice(blake3::hash(content).as_bytes());
        self.sent += (head.len() + stored.len()) as u64;
        let written = self.sink.write_all(&head).and_then(|()| self.sink.write_all(stored));
        written.map_err(ReplicationError::io(WRITE))
    }

    /// The bytes of the frames.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Passes on what was written so far.
    ///
    /// # Errors
    /// Those of the sink.
    pub fn flush(&mut self) -> Result<(), ReplicationError> {
        self.sink.flush().map_err(ReplicationError::io(WRITE))
    }

    /// Ends the frames.
    ///
    /// # Errors
    /// Those of the sink.
    pub fn finish(mut self) -> Result<W, ReplicationError> {
        let ended = self.sink.write_all(&END.to_le_bytes()).and_then(|()| self.sink.flush());
        ended.map_err(ReplicationError::io(WRITE))?;
        Ok(self.sink)
    }
}

/// Reads frames.
pub struct FrameReader<R> {
    source: R,
    stored: Vec<u8>,
}

impl<R: Read> FrameReader<R> {
    /// Those that begin here.
    pub fn new(source: R) -> Self {
        Self { source, stored: Vec::new() }
    }

    /// Reads the next frame. `false` is the end.
    pub(super) fn next_frame(&mut self, frame: &mut Frame) -> Result<bool, ReplicationError> {
        let invalid = |why| ReplicationError::invalid("block", why);
        let length = u16::from_le_bytes(self.array()?);
        if length == END {
            return Ok(false);
        }
        frame.path.resize(length.into(), 0);
        self.source.read_exact(&mut frame.path).map_err(ReplicationError::io(READ))?;
        if frame.path.is_empty() || !is_plain(&frame.path) {
            return Err(invalid("its path is not plain"));
        }
        frame.offset = u64::from_le_bytes(self.array()?);
        let (length, stored) = (u32::from_le_bytes(self.array()?), u32::from_le_bytes(self.array()?));
        let hash: Hash = self.array()?;
        let left = BLOCK - frame.offset % BLOCK;
        if length == 0
            || u64::from(length) > left
            || stored == 0
            || stored > length
            || !frame.offset.is_multiple_of(PAGE as u64)
        {
            return Err(invalid("its place or its length is out of range"));
        }
        self.stored.resize(stored as usize, 0);
        self.source.read_exact(&mut self.stored).map_err(ReplicationError::io(READ))?;
        if stored == length {
            std::mem::swap(&mut frame.content, &mut self.stored);
        } else {
            let unpacked = zstd::bulk::decompress(&self.stored, length as usize);
            frame.content = unpacked.map_err(|_| invalid("it cannot be unpacked"))?;
        }
        if frame.content.len() != length as usize || *blake3::hash(&frame.content).as_bytes() != hash {
            return Err(invalid("its content has another hash"));
        }
        Ok(true)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ReplicationError> {
        let mut array = [0; N];
        self.source.read_exact(&mut array).map_err(ReplicationError::io(READ))?;
        Ok(array)
    }
}

/// Reads blocks of files, as they are now, and writes frames of what differs. What is gone or shorter by now is left out. Returns the
/// bytes that were read.
///
/// # Errors
/// The sink fails, a file cannot be read, or it is cancelled.
pub fn send_blocks<W: Write>(
    open: impl Fn(&UserPath) -> Result<(File, Entry), TreeError>,
    spans: &[Span],
    to: &mut FrameWriter<W>,
    cancelled: &AtomicBool,
) -> Result<u64, ReplicationError> {
    let (mut buffer, mut bytes) = (vec![0; BLOCK as usize], 0);
    for span in spans {
        let path = user_path(&span.path)?;
        let file = match open(&path) {
            Ok((file, _)) => file,
            Err(TreeError::Io { action, path, source }) => return Err(TreeError::Io { action, path, source }.into()),
            // The next round has what it is now.
            Err(_) => continue,
        };
        for block in span.first..span.first + span.count {
            if cancelled.load(Ordering::Relaxed) {
                return Err(ReplicationError::Cancelled);
            }
            let positioned = At { file: &file, offset: block * BLOCK };
            let length = read_full(positioned, &mut buffer).map_err(TreeError::io("read", &path))?;
            if length == 0 {
                break;
            }
            let content = &buffer[..length];
            match &span.pages {
                None => to.add(&span.path, block * BLOCK, content)?,
                Some(pages) => {
                    for range in pages.differing(block - span.first, content) {
                        to.add(&span.path, block * BLOCK + range.start as u64, &content[range])?;
                    }
                }
            }
            bytes += length as u64;
        }
    }
    Ok(bytes)
}

/// Reads a file from a position on.
struct At<'a> {
    file: &'a File,
    offset: u64,
}

impl Read for At<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = std::os::unix::fs::FileExt::read_at(self.file, buffer, self.offset)?;
        self.offset += read as u64;
        Ok(read)
    }
}

/// Writes blocks into the files of a tree, which have their lengths by now. All of them are on disk afterwards. `pace` is called with
/// the bytes of each one before it is written. Returns the bytes.
///
/// # Errors
/// A frame is invalid or in no such file, the source fails, the disk fails, or it is cancelled. What was written stays.
pub fn store_blocks<R: Read>(
    tree: &Tree,
    frames: &mut FrameReader<R>,
    pace: &dyn Fn(u64),
    cancelled: &AtomicBool,
) -> Result<u64, ReplicationError> {
    let mut store = Store { tree, open: None, written: Vec::new(), many: false };
    let (mut frame, mut bytes) = (Frame::default(), 0);
    while frames.next_frame(&mut frame)? {
        if cancelled.load(Ordering::Relaxed) {
            return Err(ReplicationError::Cancelled);
        }
        pace(frames.stored.len().min(frame.content.len()) as u64);
        store.write(&frame)?;
        bytes += frame.content.len() as u64;
    }
    store.sync()?;
    Ok(bytes)
}

struct Store<'a> {
    tree: &'a Tree,
    open: Option<(Vec<u8>, OpenFile)>,
    /// Files that are not on disk yet.
    written: Vec<OpenFile>,
    /// There were too many to keep.
    many: bool,
}

impl Store<'_> {
    fn write(&mut self, frame: &Frame) -> Result<(), ReplicationError> {
        let invalid = |why| ReplicationError::invalid("block", why);
        if self.open.as_ref().is_none_or(|(path, _)| *path != frame.path) {
            self.close();
            let path = user_path(&frame.path)?;
            let no_file = |_: TreeError| invalid("its file is not in the manifest");
            self.tree.existing_place(&user_path(parent(&frame.path))?).map_err(no_file)?;
            if !self.tree.stat(&path, Follow::No).map_err(no_file)?.is_file() {
                return Err(invalid("its file is not in the manifest"));
            }
            self.open = Some((frame.path.clone(), self.tree.open_for_writing(&path, OpenFlags::default())?));
        }
        let Some((_, file)) = &self.open else { return Ok(()) };
        let failed = |error| TreeError::io("write", file.path())(error);
        let size = file.metadata().map_err(failed)?.size;
        let left = size.saturating_sub(frame.offset);
        if left == 0 {
            return Err(invalid("it is behind the end of its file"));
        }
        // A file that has grown since its manifest was made: the next one has the rest.
        let content = &frame.content[..frame.content.len().min(usize::try_from(left).unwrap_or(usize::MAX))];
        Ok(file.write_at(content, frame.offset).map_err(failed)?)
    }

    fn close(&mut self) {
        let Some((_, file)) = self.open.take() else { return };
        match self.written.len() < SYNCED {
            true => self.written.push(file),
            false => self.many = true,
        }
    }

    fn sync(mut self) -> Result<(), ReplicationError> {
        self.close();
        if self.many {
            return Ok(self.tree.sync_file_system()?);
        }
        for file in &self.written {
            file.sync().map_err(TreeError::io("sync", file.path()))?;
        }
        Ok(())
    }
}
