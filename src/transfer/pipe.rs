//! Bytes between a task and a thread that may block. Whatever ends one side early is an error for the other one, never an end.

use std::io::{self, Read, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use futures_util::Stream;
use tokio::sync::mpsc;

use crate::rate::Rate;

/// Pieces that wait for the other side.
const PIECES: usize = 4;
/// Bytes of a piece that a thread writes.
const PIECE: usize = 128 << 10;

/// What passes.
enum Piece {
    Bytes(Bytes),
    /// Nothing follows.
    End,
}

/// The other side has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the other side has ended")]
pub struct Closed;

/// The side that gives bytes. Dropping it without [`finish`](Self::finish) is an error for the other side.
pub struct PipeSender(mpsc::Sender<Piece>);

/// A pipe, and its two sides.
pub fn pipe() -> (PipeSender, PipeReceiver) {
    let (sender, receiver) = mpsc::channel(PIECES);
    (PipeSender(sender), PipeReceiver(receiver))
}

/// The side that takes bytes, as one of its two forms.
pub struct PipeReceiver(mpsc::Receiver<Piece>);

impl PipeSender {
    /// Gives bytes.
    ///
    /// # Errors
    /// The other side has ended.
    pub async fn send(&self, bytes: Bytes) -> Result<(), Closed> {
        self.0.send(Piece::Bytes(bytes)).await.map_err(|_| Closed)
    }

    /// Ends the bytes.
    ///
    /// # Errors
    /// The other side has ended.
    pub async fn finish(self) -> Result<(), Closed> {
        self.0.send(Piece::End).await.map_err(|_| Closed)
    }

    /// The same for a thread, at a rate.
    pub fn into_writer(self, rate: &Arc<Rate>) -> PipeWriter {
        PipeWriter { sender: self, piece: BytesMut::new(), rate: rate.clone() }
    }
}

/// Gives bytes, from a thread.
pub struct PipeWriter {
    sender: PipeSender,
    piece: BytesMut,
    rate: Arc<Rate>,
}

impl PipeWriter {
    /// Ends the bytes.
    ///
    /// # Errors
    /// The other side has ended.
    pub fn finish(mut self) -> io::Result<()> {
        self.flush()?;
        self.sender.0.blocking_send(Piece::End).map_err(|_| closed())
    }
}

impl Write for PipeWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(PIECE - self.piece.len());
        self.piece.extend_from_slice(&bytes[..taken]);
        if self.piece.len() >= PIECE {
            self.flush()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = std::mem::take(&mut self.piece).freeze();
        self.rate.take_blocking(piece.len() as u64);
        self.sender.0.blocking_send(Piece::Bytes(piece)).map_err(|_| closed())
    }
}

impl PipeReceiver {
    /// For a thread.
    pub fn into_reader(self) -> PipeReader {
        PipeReader { receiver: self.0, rest: Bytes::new(), ended: false }
    }

    /// For a task.
    pub fn into_stream(self) -> PipeStream {
        PipeStream { receiver: self.0, ended: false }
    }
}

/// Takes bytes, in a thread.
pub struct PipeReader {
    receiver: mpsc::Receiver<Piece>,
    rest: Bytes,
    ended: bool,
}

impl Read for PipeReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() && !self.ended {
            match self.receiver.blocking_recv() {
                Some(Piece::Bytes(bytes)) => self.rest = bytes,
                Some(Piece::End) => self.ended = true,
                None => return Err(broken_off()),
            }
        }
        let length = into.len().min(self.rest.len());
        self.rest.copy_to_slice(&mut into[..length]);
        Ok(length)
    }
}

/// Takes bytes, in a task.
pub struct PipeStream {
    receiver: mpsc::Receiver<Piece>,
    ended: bool,
}

impl Stream for PipeStream {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        Poll::Ready(match ready!(self.receiver.poll_recv(cx)) {
            Some(Piece::Bytes(bytes)) => Some(Ok(bytes)),
            Some(Piece::End) => {
                self.ended = true;
                None
            }
            None => {
                self.ended = true;
                Some(Err(broken_off()))
            }
        })
    }
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, Closed)
}

fn broken_off() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the data has broken off")
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;

    use super::*;
    use crate::tasks::Blocking;

    fn unlimited() -> Arc<Rate> {
        Arc::new(Rate::new(None))
    }

    #[tokio::test]
    async fn bytes_arrive_in_order_in_both_directions() {
        let content: Vec<u8> = (0..1_000_000u32).map(|number| (number % 251) as u8).collect();
        let (sender, receiver) = pipe();
        let written = content.clone();
        let write = Blocking::Pool.run(move || {
            let mut writer = sender.into_writer(&unlimited());
            written.chunks(777).try_for_each(|chunk| writer.write_all(chunk))?;
            writer.finish()
        });
        let (to_thread, from_task) = pipe();
        let read = Blocking::Pool.run(move || {
            let mut read = Vec::new();
            from_task.into_reader().read_to_end(&mut read).map(|_| read)
        });
        let relay = async {
            let mut stream = receiver.into_stream();
            while let Some(piece) = stream.next().await {
                to_thread.send(piece.unwrap()).await.unwrap();
            }
            to_thread.finish().await.unwrap();
        };
        let (written, (), read) = tokio::join!(write, relay, read);
        written.unwrap();
        assert!(read.unwrap() == content);
    }

    #[tokio::test]
    async fn a_side_that_ends_early_is_an_error_for_the_other_one() {
        let (sender, receiver) = pipe();
        sender.send(Bytes::from_static(b"a")).await.unwrap();
        drop(sender);
        let mut stream = receiver.into_stream();
        assert_eq!(stream.next().await.unwrap().unwrap(), "a");
        assert!(stream.next().await.unwrap().is_err());
        assert!(stream.next().await.is_none());
        let (sender, receiver) = pipe();
        drop(sender);
        let read = Blocking::Pool.run(move || receiver.into_reader().read(&mut [0; 8])).await;
        assert!(read.is_err());
        let (sender, receiver) = pipe();
        drop(receiver);
        assert_eq!(sender.send(Bytes::from_static(b"a")).await, Err(Closed));
        let written = Blocking::Pool.run(move || {
            let mut writer = sender.into_writer(&unlimited());
            writer.write_all(&[0; 3 * PIECE])
        });
        assert_eq!(written.await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
