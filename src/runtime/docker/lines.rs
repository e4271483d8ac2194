//! Bodies with one JSON document per line.

use bollard::errors::Error;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use futures_util::{Stream, StreamExt, TryStreamExt};
use http::Response;
use http_body_util::BodyExt;
use hyper::body::Incoming;

use crate::runtime::lines::Lines;

/// Longer lines are cut, so that they are no JSON and are skipped. An event carries all labels of its container.
const MAX_LINE: usize = 1024 * 1024;

/// The chunks of a body as they arrive.
pub(super) fn chunks(response: Response<Incoming>) -> BoxStream<'static, Result<Bytes, Error>> {
    response.into_body().into_data_stream().map_err(Error::from).boxed()
}

/// The non-empty lines of a body, without their ends. The stream ends after an error.
pub(super) fn lines(response: Response<Incoming>) -> BoxStream<'static, Result<Bytes, Error>> {
    split(chunks(response)).boxed()
}

fn split(chunks: impl Stream<Item = Result<Bytes, Error>> + Send) -> impl Stream<Item = Result<Bytes, Error>> + Send {
    let with_end = chunks.map_ok(Some).chain(stream::iter([Ok(None)]));
    let state = (Lines::new(MAX_LINE), false);
    with_end
        .scan(state, |(lines, failed), chunk| {
            let mut complete = Vec::new();
            let add = |line: &[u8]| complete.push(Ok(Bytes::copy_from_slice(line)));
            let ended = std::mem::replace(failed, chunk.is_err());
            match chunk {
                _ if ended => return std::future::ready(None),
                Ok(Some(chunk)) => lines.feed(&chunk, add),
                Ok(None) => lines.finish(add),
                Err(error) => complete.push(Err(error)),
            }
            std::future::ready(Some(stream::iter(complete)))
        })
        .flatten()
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
    async fn lines_are_complete_however_the_body_is_cut() {
        assert_eq!(lines_of(&["a\nb\r\n", "c", "d\n\n", "\ne"]).await, ["a", "b", "cd", "e"]);
        assert_eq!(lines_of(&["\n"]).await, [""; 0]);
        assert_eq!(lines_of(&[]).await, [""; 0]);
    }

    #[tokio::test]
    async fn long_lines_are_cut() {
        let long = "x".repeat(MAX_LINE + 1);
        let sizes: Vec<usize> = lines_of(&["a\n", &long, "\nb\n"]).await.iter().map(String::len).collect();
        assert_eq!(sizes, [1, MAX_LINE, 1, 1]);
    }

    #[tokio::test]
    async fn the_stream_ends_after_an_error() {
        let error = || Err(Error::RequestTimeoutError);
        let lines = split(stream::iter([Ok("a\nb".into()), error(), Ok("c\n".into())]));
        let all: Vec<_> = lines.collect().await;
        assert_eq!(all.len(), 2);
        assert!(all[1].is_err());
    }
}
