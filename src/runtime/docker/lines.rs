//! Bodies that are one JSON document per line.

use bytes::{Bytes, BytesMut};
use futures_util::stream::{self, BoxStream};
use futures_util::{Stream, StreamExt, TryStreamExt};
use http::Response;
use http_body_util::BodyExt;
use hyper::body::Incoming;

use bollard::errors::Error;

/// Longer lines are left out: an event carries all labels of a container, which are never this long.
const MAX_LINE: usize = 1024 * 1024;

/// The bytes of a body as they come.
pub(super) fn chunks(response: Response<Incoming>) -> BoxStream<'static, Result<Bytes, Error>> {
    response.into_body().into_data_stream().map_err(Error::from).boxed()
}

/// The lines of a body, without their ends and without empty ones.
pub(super) fn lines(response: Response<Incoming>) -> BoxStream<'static, Result<Bytes, Error>> {
    split(chunks(response)).boxed()
}

/// Splits bytes into lines of bounded length.
fn split(chunks: impl Stream<Item = Result<Bytes, Error>> + Send + Unpin) -> impl Stream<Item = Result<Bytes, Error>> {
    let state = Splitter { chunks, buffer: BytesMut::new(), searched: 0, skipping: false, ended: false };
    stream::unfold(state, |mut state| async move { state.next().await.map(|line| (line, state)) })
}

struct Splitter<S> {
    chunks: S,
    buffer: BytesMut,
    /// Bytes of the buffer that are known to hold no end of a line.
    searched: usize,
    /// The rest of an overlong line is being passed over.
    skipping: bool,
    ended: bool,
}

impl<S: Stream<Item = Result<Bytes, Error>> + Unpin> Splitter<S> {
    async fn next(&mut self) -> Option<Result<Bytes, Error>> {
        loop {
            while let Some(line) = self.line() {
                if !line.is_empty() {
                    return Some(Ok(line));
                }
            }
            if self.ended {
                return None;
            }
            match self.chunks.next().await {
                Some(Ok(chunk)) => self.buffer.extend_from_slice(&chunk),
                Some(Err(error)) => {
                    self.ended = true;
                    return Some(Err(error));
                }
                None => {
                    self.ended = true;
                    self.searched = 0;
                    let rest = self.buffer.split().freeze();
                    if !self.skipping && !rest.is_empty() {
                        return Some(Ok(rest));
                    }
                }
            }
        }
    }

    /// The next line in the buffer; an empty one for what is passed over.
    fn line(&mut self) -> Option<Bytes> {
        let end = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n');
        let Some(end) = end.map(|end| self.searched + end) else {
            self.searched = self.buffer.len();
            if self.skipping || self.buffer.len() > MAX_LINE {
                self.skipping = true;
                self.searched = 0;
                self.buffer = BytesMut::new();
            }
            return None;
        };
        self.searched = 0;
        let mut line = self.buffer.split_to(end + 1);
        line.truncate(line.len() - 1);
        if line.last() == Some(&b'\r') {
            line.truncate(line.len() - 1);
        }
        if std::mem::take(&mut self.skipping) || line.len() > MAX_LINE {
            line.clear();
        }
        Some(line.freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn lines_of(chunks: &[&str]) -> Vec<String> {
        let chunks: Vec<_> = chunks.iter().map(|chunk| Ok(Bytes::copy_from_slice(chunk.as_bytes()))).collect();
        let lines = split(stream::iter(chunks));
        lines.map(|line| String::from_utf8_lossy(&line.unwrap()).into_owned()).collect().await
    }

    #[tokio::test]
    async fn lines_may_come_in_any_pieces() {
        assert_eq!(lines_of(&["a\nb\r\n", "c", "d\n\n", "\ne"]).await, ["a", "b", "cd", "e"]);
        assert_eq!(lines_of(&["\n"]).await, [""; 0]);
        assert_eq!(lines_of(&[]).await, [""; 0]);
    }

    #[tokio::test]
    async fn overlong_lines_are_left_out() {
        let long = "x".repeat(MAX_LINE + 1);
        let half = "y".repeat(MAX_LINE / 2 + 1);
        assert_eq!(lines_of(&["a\n", &long, "\nb\n"]).await, ["a", "b"]);
        assert_eq!(lines_of(&[&half, &half, &half, "z\nb\n", &half, &half]).await, ["b"]);
        assert_eq!(lines_of(&[&format!("{long}\nb\n")]).await, ["b"]);
        assert_eq!(lines_of(&[&long]).await, [""; 0]);
    }

    #[tokio::test]
    async fn an_error_ends_it() {
        let error = || Err(Error::RequestTimeoutError);
        let lines = split(stream::iter([Ok("a\nb".into()), error(), Ok("c\n".into())]));
        let all: Vec<_> = lines.collect().await;
        assert_eq!(all.len(), 2);
        assert!(all[1].is_err());
    }
}
