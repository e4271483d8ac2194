//! The stream below a websocket. It sends whole batches of frames, which all sockets of a server share, between the frames that
//! the websocket's implementation writes itself: answers to pings, and the closing ones.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Buffers that are written at once.
const SLICES: usize = 32;

/// A stream with frames that are to be sent first.
pub struct Port<S> {
    stream: S,
    frames: VecDeque<Bytes>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Port<S> {
    /// Nothing is to be sent.
    pub fn new(stream: S) -> Self {
        Self { stream, frames: VecDeque::new() }
    }

    /// Sends frames before anything that is written from now on. Call right after a flush has ended, and never in the middle of a
    /// frame.
    pub fn send(&mut self, frames: impl IntoIterator<Item = Bytes>) {
        self.frames.extend(frames.into_iter().filter(|frames| !frames.is_empty()));
    }

    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.frames.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let count = self.frames.len().min(SLICES);
            for (slice, frames) in slices.iter_mut().zip(&self.frames) {
                *slice = IoSlice::new(frames);
            }
            let mut written = ready!(Pin::new(&mut self.stream).poll_write_vectored(context, &slices[..count]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            while let Some(first) = self.frames.front_mut().filter(|_| written > 0) {
                let part = written.min(first.len());
                first.advance(part);
                written -= part;
                if first.is_empty() {
                    self.frames.pop_front();
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Port<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Port<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_send(context))?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(context))?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(context))?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn frames_are_sent_in_order_before_what_is_written_later_however_little_the_stream_takes() {
        for room in [1, 7, 1000] {
            let (stream, mut other) = tokio::io::duplex(room);
            let mut port = Port::new(stream);
            let parts: Vec<Bytes> = (0..100).map(|number| Bytes::from(format!("{number} "))).collect();
            let expected: String = parts.iter().map(|part| String::from_utf8_lossy(part).into_owned()).collect();
            port.send([Bytes::new()].into_iter().chain(parts));
            let writing = async {
                port.write_all(b"later").await.unwrap();
                port.flush().await.unwrap();
                drop(port);
            };
            let mut read = String::new();
            let (_, length) = tokio::join!(writing, other.read_to_string(&mut read));
            length.unwrap();
            assert_eq!(read, expected + "later");
        }
    }
}
