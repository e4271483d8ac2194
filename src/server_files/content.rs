//! The content of files as streams: blocks are read and written on the blocking pool, and few of them are in memory.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Write};
use std::mem;
use std::os::unix::fs::FileExt;

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use futures_util::stream::{self, Stream};
use rustix::io::ReadWriteFlags;

use crate::files::tree::{Created, Incoming, TreeError};
use crate::files::user_path::UserPath;
use crate::tasks::Blocking;

/// The bytes that are read at a time. Two blocks, which a connection takes at a time, fit the cache of a processor, so they are
/// still there when they are sent.
const READ_BLOCK: usize = 256 * 1024;
/// The buffers of a file that are kept.
const MAX_BUFFERS: usize = 4;
/// The bytes that are collected before they are written. Where the kernel keeps files in large pieces of memory, those of a long
/// write cost much less than those of many short ones.
const WRITE_BLOCK: usize = 2 << 20;

/// The most pieces that are collected, which may be tiny. The kernel takes as many at a time.
const MAX_PIECES: usize = 1024;

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
    range: Range,
    buffers: Buffers,
}

impl FileContent {
    /// A part of a file.
    pub fn new(file: File, range: Range) -> Self {
        Self { file, range, buffers: Buffers::default() }
    }

    /// Whether all was read.
    pub fn is_at_end(&self) -> bool {
        self.range.start >= self.range.end
    }

    /// The next block; empty at the end. Blocks.
    ///
    /// # Errors
    /// The file cannot be read, or is shorter than the range.
    pub fn read(&mut self) -> io::Result<Bytes> {
        let length = self.next_length();
        let mut buffer = self.buffers.take(length);
        self.file.read_exact_at(&mut buffer[..length], self.range.start).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => cut(),
            _ => error,
        })?;
        Ok(self.handed_out(buffer, length))
    }

    /// The beginning of the next block, as far as it is in memory; `None` if it may have to be waited for.
    ///
    /// # Errors
    /// The file is shorter than the range.
    fn read_cached(&mut self) -> io::Result<Option<Bytes>> {
        let length = self.next_length();
        let mut buffer = self.buffers.take(length);
        let mut target = [IoSliceMut::new(&mut buffer[..length])];
        match rustix::io::preadv2(&self.file, &mut target, self.range.start, ReadWriteFlags::NOWAIT) {
            Ok(0) => Err(cut()),
            Ok(read) => Ok(Some(self.handed_out(buffer, read))),
            // Nothing is in memory, the file system cannot tell, or the next read has the error.
            Err(_) => {
                self.buffers.keep(buffer.freeze());
                Ok(None)
            }
        }
    }

    /// The blocks, each read when it is asked for: in the caller what is in memory, and the rest on the blocking pool.
    pub fn into_stream(self, blocking: Blocking) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
        stream::try_unfold(self, move |mut content| async move {
            if content.is_at_end() {
                return Ok(None);
            }
            match content.read_cached()? {
                Some(block) => Ok(Some((block, content))),
                None => blocking.run(move || content.read().map(|block| Some((block, content)))).await,
            }
        })
    }

    fn next_length(&self) -> usize {
        let remaining = self.range.end.saturating_sub(self.range.start);
        usize::try_from(remaining).unwrap_or(READ_BLOCK).min(READ_BLOCK)
    }

    fn handed_out(&mut self, buffer: BytesMut, length: usize) -> Bytes {
        self.range.start += length as u64;
        let buffer = buffer.freeze();
        let block = buffer.slice(..length);
        self.buffers.keep(buffer);
        block
    }
}

fn cut() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the file was cut while it was read")
}

/// Buffers, which are used again once the blocks in them are sent: new ones cost as much as what is read into them.
#[derive(Debug, Default)]
struct Buffers(Vec<Bytes>);

impl Buffers {
    /// A buffer of at least this length.
    fn take(&mut self, length: usize) -> BytesMut {
        let free = self.0.iter().position(|buffer| buffer.len() >= length && buffer.is_unique());
        let free = free.and_then(|free| self.0.swap_remove(free).try_into_mut().ok());
        free.unwrap_or_else(|| BytesMut::zeroed(length))
    }

    /// Keeps a buffer for later.
    fn keep(&mut self, buffer: Bytes) {
        if self.0.len() < MAX_BUFFERS {
            self.0.push(buffer);
        }
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
        match self.bytes < WRITE_BLOCK && self.pieces.len() < MAX_PIECES {
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
            write_all(&mut file, &pieces).map_err(TreeError::io("write", &path))?;
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

/// Writes all pieces, as many as the kernel takes in one call.
fn write_all(file: &mut Incoming, pieces: &[Bytes]) -> io::Result<()> {
    let mut slices: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
    let mut slices = &mut slices[..];
    // Leaves out empty ones.
    IoSlice::advance_slices(&mut slices, 0);
    while !slices.is_empty() {
        match file.write_vectored(slices) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => IoSlice::advance_slices(&mut slices, written),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

impl Drop for FileWriter {
    fn drop(&mut self) {
        if let Some(file) = self.file.take() {
            // A large file takes a while to remove. The work runs on although its future is dropped.
            let _ = self.blocking.run(move || drop(file)).now_or_never();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::TryStreamExt;

    use super::*;
    use crate::files::tree::{NewFile, Tree};
    use crate::files::{DiskAccount, Root};

    const LENGTH: usize = 3 * READ_BLOCK + 100;

    fn file() -> (File, Vec<u8>) {
        let content: Vec<u8> = (0..LENGTH).map(|at| (at.wrapping_mul(2_654_435_761) >> 11) as u8).collect();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&content).unwrap();
        (file, content)
    }

    #[tokio::test]
    async fn parts_of_a_file_are_read() {
        let (file, content) = file();
        for (start, end) in [(0, LENGTH), (1, 2), (5, 5), (READ_BLOCK - 1, 2 * READ_BLOCK + 1), (LENGTH - 7, LENGTH)] {
            let range = Range { start: start as u64, end: end as u64 };
            let mut rest = FileContent::new(file.try_clone().unwrap(), range);
            let mut found = rest.read().unwrap().to_vec();
            rest.into_stream(Blocking::Pool)
                .try_for_each(|block| {
                    found.extend(block);
                    async { Ok(()) }
                })
                .await
                .unwrap();
            assert!(found == content[start..end], "{range:?}");
        }
    }

    #[tokio::test]
    async fn a_file_that_is_cut_meanwhile_is_an_error() {
        let (file, _) = file();
        let stream = FileContent::new(file.try_clone().unwrap(), Range { start: 0, end: LENGTH as u64 });
        let mut stream = Box::pin(stream.into_stream(Blocking::Pool));
        assert!(stream.try_next().await.unwrap().is_some());
        file.set_len(READ_BLOCK as u64 / 2).unwrap();
        assert_eq!(stream.try_next().await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_block_stays_as_it_is_until_it_is_dropped() {
        let (file, content) = file();
        let mut file = FileContent::new(file, Range { start: 0, end: LENGTH as u64 });
        let first = file.read().unwrap();
        let (second, address) = (file.read().unwrap(), first.as_ptr());
        assert!(first == content[..READ_BLOCK] && second == content[READ_BLOCK..2 * READ_BLOCK]);
        drop(first);
        let third = file.read_cached().unwrap().unwrap_or_else(|| file.read().unwrap());
        assert_eq!(third.as_ptr(), address, "the buffer is used again");
        assert!(second == content[READ_BLOCK..2 * READ_BLOCK] && content[2 * READ_BLOCK..].starts_with(&third));
    }

    #[tokio::test]
    async fn tiny_pieces_do_not_fill_the_memory() {
        let folder = tempfile::tempdir().unwrap();
        let owner = rustix::process::getuid();
        let root = Root::open(folder.path(), owner.as_raw(), rustix::process::getgid().as_raw()).unwrap();
        let tree = Tree::new(root, Arc::default(), DiskAccount::new(None, 0));
        let new = NewFile { mode: 0o600, keep_mode: false, size: None };
        let mut writer =
            FileWriter::new(tree.create(&UserPath::parse("file".as_ref()).unwrap(), new).unwrap(), Blocking::Pool);
        for _ in 0..2 * MAX_PIECES + 10 {
            writer.write(Bytes::from_static(b"x")).await.unwrap();
            assert!(writer.pieces.len() < MAX_PIECES);
        }
        writer.commit().await.unwrap();
        assert_eq!(std::fs::metadata(folder.path().join("file")).unwrap().len(), 2 * MAX_PIECES as u64 + 10);
    }
}
