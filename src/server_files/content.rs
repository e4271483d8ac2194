//! The content of files as streams: blocks are read and written on the blocking pool, and few of them are in memory.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::mem;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::stream::{self, Stream};

use crate::files::tree::{Created, Incoming, TreeError};
use crate::files::user_path::UserPath;
use crate::tasks::Blocking;

/// The bytes that are read at a time.
const READ_BLOCK: usize = 512 * 1024;
/// The bytes that are collected before they are written.
const WRITE_BLOCK: usize = 1 << 20;

/// A part of a file, from `start` to before `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Range {
    pub start: u64,
    pub end: u64,
}

/// All of a file.
pub const WHOLE: Range = Range { start: 0, end: u64::MAX };

/// An open file that is sent.
#[derive(Debug)]
pub struct FileContent {
    file: File,
    remaining: u64,
}

impl FileContent {
    /// A part of a file. Blocks.
    ///
    /// # Errors
    /// The position cannot be set.
    pub fn new(mut file: File, range: Range) -> io::Result<Self> {
        if range.start > 0 {
            file.seek(SeekFrom::Start(range.start))?;
        }
        Ok(Self { file, remaining: range.end.saturating_sub(range.start) })
    }

    /// Whether all was read.
    pub fn is_at_end(&self) -> bool {
        self.remaining == 0
    }

    /// The next block; empty at the end. Blocks.
    ///
    /// # Errors
    /// The file cannot be read, or is shorter than the range.
    pub fn read(&mut self) -> io::Result<Bytes> {
        let length = usize::try_from(self.remaining).unwrap_or(READ_BLOCK).min(READ_BLOCK);
        let mut block = Vec::with_capacity(length);
        (&self.file).take(length as u64).read_to_end(&mut block)?;
        if block.len() < length {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file was cut while it was read"));
        }
        self.remaining -= length as u64;
        Ok(block.into())
    }

    /// The blocks, each read when it is asked for.
    pub fn into_stream(self, blocking: Blocking) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
        stream::try_unfold(self, move |mut content| async move {
            if content.remaining == 0 {
                return Ok(None);
            }
            blocking.run(move || content.read().map(|block| Some((block, content)))).await
        })
    }
}

/// A new file that arrives in pieces.
pub struct FileWriter {
    blocking: Blocking,
    /// `None` after an error.
    file: Option<Incoming>,
    path: UserPath,
    pieces: Vec<Bytes>,
    bytes: usize,
}

impl FileWriter {
    /// Writes to this file.
    pub fn new(file: Incoming, blocking: Blocking) -> Self {
        let path = file.path().clone();
        Self { blocking, file: Some(file), path, pieces: Vec::new(), bytes: 0 }
    }

    /// Adds a piece. It may be written later.
    ///
    /// # Errors
    /// It does not fit, or cannot be written. The file is removed.
    pub async fn write(&mut self, piece: Bytes) -> Result<(), TreeError> {
        self.bytes += piece.len();
        self.pieces.push(piece);
        match self.bytes < WRITE_BLOCK {
            true => Ok(()),
            false => self.flush().await,
        }
    }

    /// Writes what was added.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub async fn flush(&mut self) -> Result<(), TreeError> {
        let (pieces, path) = (mem::take(&mut self.pieces), self.path.clone());
        self.bytes = 0;
        let Some(mut file) = self.file.take() else { return Err(TreeError::Cancelled(path)) };
        let written = self.blocking.run(move || {
            for piece in &pieces {
                file.write_all(piece).map_err(TreeError::io("write", &path))?;
            }
            Ok::<_, TreeError>(file)
        });
        self.file = Some(written.await?);
        Ok(())
    }

    /// The bytes that were added.
    pub fn length(&self) -> u64 {
        self.file.as_ref().map_or(0, Incoming::written) + self.bytes as u64
    }

    /// Gives the file its name.
    ///
    /// # Errors
    /// That fails; the file is removed.
    pub async fn commit(mut self) -> Result<Created, TreeError> {
        self.flush().await?;
        let Some(file) = self.file.take() else { return Err(TreeError::Cancelled(self.path.clone())) };
        self.blocking.run(move || file.commit()).await
    }
}

impl Drop for FileWriter {
    fn drop(&mut self) {
        if let Some(file) = self.file.take() {
            // A large file takes a while to remove. The work runs on although its future is dropped.
            let _ = self.blocking.run(move || drop(file)).now_or_never();
        }
    }
}
