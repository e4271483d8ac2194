//! Forms of any length: their pieces are read one at a time, within bounds.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use axum::body::BodyDataStream;
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http::{HeaderMap, header};

/// The most bytes of a form in memory that are neither a field's content nor the end of its head.
const MAX_UNREAD: usize = 1 << 20;

/// The pieces of a body, one at a time. The reader of the form takes all that it gets before it hands on any of it.
pub struct Pieces<'a> {
    body: &'a mut BodyDataStream,
    unread: Unread,
    /// The reader has got one.
    pause: bool,
}

/// The bytes of a form that were read since the latest progress.
#[derive(Clone, Default)]
pub struct Unread(Arc<AtomicUsize>);

impl Unread {
    /// The form makes progress.
    pub fn reset(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

impl<'a> Pieces<'a> {
    /// The pieces of this body.
    pub fn new(body: &'a mut BodyDataStream) -> Self {
        Self { body, unread: Unread::default(), pause: false }
    }

    /// What of them was read.
    pub fn unread(&self) -> Unread {
        self.unread.clone()
    }
}

impl Stream for Pieces<'_> {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if std::mem::take(&mut self.pause) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let Some(piece) = ready!(self.body.poll_next_unpin(cx)) else { return Poll::Ready(None) };
        let piece = piece.map_err(io::Error::other)?;
        self.pause = true;
        match self.unread.0.fetch_add(piece.len(), Ordering::Relaxed) > MAX_UNREAD {
            true => Poll::Ready(Some(Err(io::Error::other("the head of a field is too long")))),
            false => Poll::Ready(Some(Ok(piece))),
        }
    }
}

/// The boundary of a form's parts; `None` if the request has no form.
pub fn boundary(headers: &HeaderMap) -> Option<String> {
    let content_type = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    multer::parse_boundary(content_type).ok()
}
