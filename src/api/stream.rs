//! Responses that are streams. Each is written by a task, which ends with the daemon and is not delayed by its reader.

use std::io;

use axum::body::{Body, Bytes};
use axum::response::Response;
use futures_util::stream;
use http::{HeaderValue, header};
use tokio::sync::mpsc;

use crate::tasks::Tasks;

/// Pieces that are buffered for a slow reader.
const BUFFERED: usize = 4;

/// The response that a task writes.
pub struct Out {
    pieces: mpsc::Sender<io::Result<Bytes>>,
}

impl Out {
    /// Writes a piece, once the buffer has room for it.
    ///
    /// # Errors
    /// The reader has closed the connection.
    pub async fn send(&self, piece: impl Into<Bytes>) -> io::Result<()> {
        self.pieces.send(Ok(piece.into())).await.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    /// Waits for the next thing to write.
    ///
    /// # Errors
    /// The reader has closed the connection.
    pub async fn wait_for<T>(&self, next: impl Future<Output = T>) -> io::Result<T> {
        tokio::select! {
            biased;
            () = self.pieces.closed() => Err(io::ErrorKind::BrokenPipe.into()),
            next = next => Ok(next),
        }
    }
}

/// A response that `work` writes. It is aborted if `work` fails.
pub fn answer<F>(tasks: &Tasks, name: String, content_type: &'static str, work: impl FnOnce(Out) -> F) -> Response
where
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    let (sender, mut pieces) = mpsc::channel(BUFFERED);
    let failed = sender.clone();
    let work = work(Out { pieces: sender });
    tasks.spawn(name.clone(), async move {
        match work.await {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                tracing::warn!(stream = %name, %error, "response aborted");
                // The reader may have closed the connection.
                let _ = failed.send(Err(error)).await;
            }
            _ => {}
        }
    });
    let body = Body::from_stream(stream::poll_fn(move |context| pieces.poll_recv(context)));
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
