//! The TCP stream of a connection: it ends when the connection is cut, and remembers the client's first line.
//!
//! `russh` serves a connection in a task of its own, which ends with its stream.

use std::future::Future;
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// The longest first line, bytes. Source: RFC 4253, 4.2.
const MAX_LINE: usize = 255;

/// The first line of a client, once it has arrived.
pub type ClientVersion = Arc<OnceLock<Vec<u8>>>;

/// A stream that can be cut.
pub struct Stream<S> {
    inner: S,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    /// What has arrived of the first line.
    line: Vec<u8>,
    version: ClientVersion,
}

impl<S> Stream<S> {
    /// Cuts `inner` once the token is cancelled: each read and write fails from then on.
    pub fn new(inner: S, cut: CancellationToken) -> (Self, ClientVersion) {
        let version = ClientVersion::default();
        let stream = Self { inner, cut: Box::pin(cut.cancelled_owned()), line: Vec::new(), version: version.clone() };
        (stream, version)
    }

    fn poll_cut(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.cut.as_mut().poll(context) {
            Poll::Ready(()) => Err(ErrorKind::ConnectionAborted.into()),
            Poll::Pending => Ok(()),
        }
    }

    /// Looks for the end of the first line. A client may send other lines before it.
    fn note(&mut self, arrived: &[u8]) {
        if self.version.get().is_some() {
            return;
        }
        for byte in arrived {
            match byte {
                b'\n' => {
                    let line = std::mem::take(&mut self.line);
                    if line.starts_with(b"SSH-") {
                        // Only this method sets it.
                        let _ = self.version.set(line);
                        return;
                    }
                }
                b'\r' => {}
                byte if self.line.len() < MAX_LINE => self.line.push(*byte),
                _ => {}
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Stream<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        this.poll_cut(context)?;
        let before = to.filled().len();
        ready!(Pin::new(&mut this.inner).poll_read(context, to))?;
        this.note(&to.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Stream<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_cut(context)?;
        Pin::new(&mut self.inner).poll_write(context, from)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_cut(context)?;
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_cut(context)?;
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn the_first_line_is_remembered_however_it_arrives() {
        for parts in [&["SSH-2.0-x y\r\nSSH-no"][..], &["hello\n", "SSH-2", ".0-x y", "\r", "\n", "more"]] {
            let (mut client, server) = tokio::io::duplex(1024);
            let (mut stream, version) = Stream::new(server, CancellationToken::new());
            for part in parts {
                client.write_all(part.as_bytes()).await.unwrap();
                stream.read_exact(&mut vec![0; part.len()]).await.unwrap();
            }
            assert_eq!(version.get().map(Vec::as_slice), Some(&b"SSH-2.0-x y"[..]));
        }
    }

    #[tokio::test]
    async fn a_cut_ends_a_read_that_waits_and_all_that_follow() {
        let (_client, server) = tokio::io::duplex(16);
        let cut = CancellationToken::new();
        let (mut stream, _) = Stream::new(server, cut.clone());
        let mut buffer = [0; 8];
        let read = async {
            let error = stream.read(&mut buffer).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
            stream
        };
        let (mut stream, ()) = tokio::join!(read, async { cut.cancel() });
        assert!(stream.write_all(b"x").await.is_err());
    }
}
