//! A pipe between a thread that reads or writes files and a task that sends or receives them.

use std::io::{self, Read, Write};

use bytes::{Buf, Bytes, BytesMut};
use futures_util::stream::{self, Stream};
use tokio::sync::mpsc;

/// Pieces in the pipe.
const PIECES: usize = 8;
/// Bytes that are collected before they are sent.
const PIECE: usize = 128 * 1024;

/// The end that is written to.
pub struct PipeWriter {
    pieces: mpsc::Sender<Bytes>,
    collected: BytesMut,
}

/// The end that is read from. Its end is not that of what was sent: see [`receive`](super::receive).
pub struct PipeReader {
    pieces: mpsc::Receiver<Bytes>,
    current: Bytes,
}

/// A pipe that holds little.
pub fn pipe() -> (PipeWriter, PipeReader) {
    let (sender, receiver) = mpsc::channel(PIECES);
    let writer = PipeWriter { pieces: sender, collected: BytesMut::with_capacity(PIECE) };
    (writer, PipeReader { pieces: receiver, current: Bytes::new() })
}

impl PipeWriter {
    /// Writes a piece from a task.
    ///
    /// # Errors
    /// The reader has gone.
    pub async fn send(&self, piece: Bytes) -> io::Result<()> {
        self.pieces.send(piece).await.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for PipeWriter {
    /// Blocks while the pipe is full: not for a task.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.collected.extend_from_slice(bytes);
        if self.collected.len() >= PIECE {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.collected.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.collected, BytesMut::with_capacity(PIECE)).freeze();
        self.pieces.blocking_send(piece).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl PipeReader {
    /// The pieces, for a task.
    pub fn into_stream(self) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
        stream::unfold(self.pieces, |mut pieces| async { Some((Ok(pieces.recv().await?), pieces)) })
    }
}

impl Read for PipeReader {
    /// Blocks while the pipe is empty: not for a task.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            let Some(piece) = self.pieces.blocking_recv() else { return Ok(0) };
            self.current = piece;
        }
        let length = self.current.len().min(buffer.len());
        buffer[..length].copy_from_slice(&self.current[..length]);
        self.current.advance(length);
        Ok(length)
    }
}
