//! Whether anything happens on a connection: bytes move, or the daemon works on an answer.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes};
use hyper::body::{Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// What happens on one connection; all clones are the same.
#[derive(Clone)]
pub struct Activity(Arc<Mutex<State>>);

struct State {
    /// When a byte was read or written, or the daemon was done with a piece of work.
    moved: Instant,
    /// How many handlers and bodies the client waits for.
    working: usize,
}

impl Activity {
    /// Nothing has happened yet.
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(State { moved: Instant::now(), working: 0 })))
    }

    /// Takes note of the bytes of `stream`.
    pub fn watch<S>(&self, stream: S) -> Watched<S> {
        Watched { stream, activity: self.clone() }
    }

    /// The daemon's turn: whoever waits, it is not for the client.
    pub fn work(&self) -> Work {
        self.state().working += 1;
        Work(self.clone())
    }

    /// The daemon's turn while `body` has nothing to give, the client's once it has. A chunk that hyper has taken and cannot
    /// write is the client's to read, however long the body lives on.
    pub fn answer(&self, body: Body) -> Body {
        Body::new(Answer { body, waiting: None, activity: self.clone() })
    }

    /// Ends when nothing has happened for so long, counted from now on.
    pub async fn idle(&self, limit: Duration) {
        let mut since = Instant::now();
        loop {
            tokio::time::sleep_until(since + limit).await;
            let last = {
                let state = self.state();
                if state.working > 0 { Instant::now() } else { state.moved }
            };
            if last <= since {
                return;
            }
            since = last;
        }
    }

    fn moved(&self, bytes: usize) {
        if bytes > 0 {
            self.state().moved = Instant::now();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The daemon works on something, until this is dropped.
pub struct Work(Activity);

impl Drop for Work {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.working -= 1;
        state.moved = Instant::now();
    }
}

struct Answer {
    body: Body,
    waiting: Option<Work>,
    activity: Activity,
}

impl hyper::body::Body for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if polled.is_ready() {
            self.waiting = None;
        } else if self.waiting.is_none() {
            self.waiting = Some(self.activity.work());
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A stream whose bytes are taken note of.
pub struct Watched<S> {
    stream: S,
    activity: Activity,
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        self.activity.moved(buffer.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?;
        self.activity.moved(written);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, slices))?;
        self.activity.moved(written);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
