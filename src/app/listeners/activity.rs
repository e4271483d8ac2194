//! Whether a connection is idle: no byte moves, and the client waits for nothing.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use tokio_util::io::{InspectReader, InspectWriter};

/// The activity of one connection; clones share it.
#[derive(Clone)]
pub struct Activity(Arc<Mutex<State>>);

struct State {
    /// The last time at which a byte was read or written, or the client or the daemon began to wait for the other.
    last: Instant,
    /// Handlers and responses that the client waits for, minus the handlers that wait for the client. Above zero the daemon works.
    working: isize,
}

impl Activity {
    /// The activity of a new connection.
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(State { last: Instant::now(), working: 0 })))
    }

    /// Counts the bytes of `stream` as activity.
    pub fn watch<S: AsyncRead + AsyncWrite>(&self, stream: S) -> impl AsyncRead + AsyncWrite + use<S> {
        let (read, written) = (self.clone(), self.clone());
        let stream = InspectReader::new(stream, move |bytes| read.moved(bytes.len()));
        InspectWriter::new(stream, move |bytes| written.moved(bytes.len()))
    }

    /// Counts a handler as working until the guard is dropped.
    pub fn handler(&self) -> WorkGuard {
        self.work(1)
    }

    /// While a handler waits for a piece of this body, it waits for the client.
    pub fn request<B>(&self, body: B) -> Paced<B> {
        Paced { body, waiting: None, weight: -1, activity: self.clone() }
    }

    /// While this body has no piece ready, the client waits for the daemon. Once hyper has taken a piece, the daemon waits for the
    /// client to read it.
    pub fn answer<B>(&self, body: B) -> Paced<B> {
        Paced { body, waiting: None, weight: 1, activity: self.clone() }
    }

    /// Returns once the connection was idle for `limit`, counted from the call.
    pub async fn idle(&self, limit: Duration) {
        let mut since = Instant::now();
        loop {
            tokio::time::sleep_until(since + limit).await;
            let last = {
                let state = self.state();
                if state.working > 0 { Instant::now() } else { state.last }
            };
            if last <= since {
                return;
            }
            since = last;
        }
    }

    fn work(&self, weight: isize) -> WorkGuard {
        self.state().change(weight);
        WorkGuard { weight, activity: self.clone() }
    }

    fn moved(&self, bytes: usize) {
        if bytes > 0 {
            self.state().last = Instant::now();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn change(&mut self, weight: isize) {
        self.working += weight;
        self.last = Instant::now();
    }
}

/// Adds `weight` to [`State::working`] until it is dropped.
pub struct WorkGuard {
    weight: isize,
    activity: Activity,
}

impl Drop for WorkGuard {
    fn drop(&mut self) {
        self.activity.state().change(-self.weight);
    }
}

/// A body that holds a [`WorkGuard`] of `weight` while its reader waits for a piece.
pub struct Paced<B> {
    body: B,
    waiting: Option<WorkGuard>,
    weight: isize,
    activity: Activity,
}

impl<B: Body<Data = Bytes> + Unpin> Body for Paced<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if polled.is_ready() {
            self.waiting = None;
        } else if self.waiting.is_none() {
            self.waiting = Some(self.activity.work(self.weight));
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
