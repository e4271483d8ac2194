//! Terminals and logs as raw bytes.

use std::io;

use bollard::errors::Error;
use bytes::{Buf, Bytes, BytesMut};
use futures_util::stream::{self, BoxStream};
use futures_util::{Stream, StreamExt, TryStreamExt};
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncRead;
use tokio_util::io::ReaderStream;

use super::wire::Wire;
use super::{containers, error, lines};
use crate::runtime::{Attachment, LogPart, RuntimeError};

/// Read from a terminal at once. Each attachment holds as much while it waits.
const CHUNK: usize = 4096;
/// Stream type (1 byte), 3 bytes of nothing, length of the payload (4 bytes, big endian).
const FRAME_HEADER: usize = 8;

/// Opens the terminal of a container.
///
/// A container that has ended already has a terminal that ends at once: attaching first and looking then leaves no
/// gap between them.
pub(super) async fn attach(wire: &Wire, id: &str) -> Result<Attachment, Error> {
    let mut headers = HeaderMap::new();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("tcp"));
    let path = format!("/containers/{id}/attach?stream=1&stdin=1&stdout=1&stderr=1&logs=0");
    let response = wire.open(Method::POST, &path, headers, Bytes::new()).await?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(io::Error::other("the connection was not handed over").into());
    }
    let connection = TokioIo::new(hyper::upgrade::on(response).await?);
    let (output, input) = tokio::io::split(connection);
    let container = containers::inspection(wire, id).await?;
    let output = match container.has_terminal() {
        _ if container.has_ended() => stream::empty().boxed(),
        true => read(output),
        false => payloads(read(output)).boxed(),
    };
    Ok(Attachment {
        output: last_reported(output, wire, format!("reading the terminal of the container {id}")),
        input: Box::new(input),
    })
}

/// Reads a container's log.
pub(super) async fn logs(
    wire: &Wire,
    id: &str,
    part: LogPart,
) -> Result<BoxStream<'static, Result<Bytes, RuntimeError>>, Error> {
    let raw = containers::inspection(wire, id).await?.has_terminal();
    let part = match part {
        LogPart::All => "follow=0".to_owned(),
        LogPart::Follow => "follow=1".to_owned(),
        LogPart::Tail(lines) => format!("follow=0&tail={lines}"),
    };
    let path = format!("/containers/{id}/logs?stdout=1&stderr=1&{part}");
    let response = wire.open(Method::GET, &path, HeaderMap::new(), Bytes::new()).await?;
    let output = lines::chunks(response);
    let output = if raw { output } else { payloads(output).boxed() };
    Ok(last_reported(output, wire, format!("reading the log of the container {id}")))
}

/// Errors of a stream in our words.
fn last_reported(
    output: BoxStream<'static, Result<Bytes, Error>>,
    wire: &Wire,
    attempt: String,
) -> BoxStream<'static, Result<Bytes, RuntimeError>> {
    let address = wire.address().clone();
    output.map(move |bytes| bytes.map_err(|error| error::translate(attempt.clone(), &error, &address))).boxed()
}

fn read(output: impl AsyncRead + Send + Unpin + 'static) -> BoxStream<'static, Result<Bytes, Error>> {
    ReaderStream::with_capacity(output, CHUNK).map_err(Error::from).boxed()
}

/// The payloads of frames, in pieces as they come: however long a frame claims to be, nothing waits for its end.
fn payloads(frames: BoxStream<'static, Result<Bytes, Error>>) -> impl Stream<Item = Result<Bytes, Error>> + Send {
    let state = (frames, Frames { header: BytesMut::with_capacity(FRAME_HEADER), left: 0 }, Bytes::new());
    stream::unfold(state, |(mut source, mut frames, mut bytes)| async move {
        loop {
            if let Some(payload) = frames.payload(&mut bytes) {
                return Some((Ok(payload), (source, frames, bytes)));
            }
            match source.next().await? {
                Ok(more) => bytes = more,
                Err(error) => return Some((Err(error), (source, frames, bytes))),
            }
        }
    })
}

struct Frames {
    /// What is there of a header.
    header: BytesMut,
    /// Bytes of the payload still to come.
    left: usize,
}

impl Frames {
    /// Takes the next piece of payload from `bytes`; `None` when they are used up.
    fn payload(&mut self, bytes: &mut Bytes) -> Option<Bytes> {
        while !bytes.is_empty() {
            if self.left > 0 {
                let piece = bytes.split_to(self.left.min(bytes.len()));
                self.left -= piece.len();
                return Some(piece);
            }
            let missing = (FRAME_HEADER - self.header.len()).min(bytes.len());
            self.header.extend_from_slice(&bytes.split_to(missing));
            if self.header.len() == FRAME_HEADER {
                self.left = (&self.header[4..]).get_u32() as usize;
                self.header.clear();
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn payload_of(chunks: Vec<Vec<u8>>) -> String {
        let chunks = stream::iter(chunks.into_iter().map(|chunk| Ok(Bytes::from(chunk)))).boxed();
        let pieces: Vec<Bytes> = payloads(chunks).map(Result::unwrap).collect().await;
        String::from_utf8(pieces.concat()).unwrap()
    }

    fn frame(kind: u8, payload: &str) -> Vec<u8> {
        let mut frame = vec![kind, 0, 0, 0];
        frame.extend((payload.len() as u32).to_be_bytes());
        frame.extend(payload.as_bytes());
        frame
    }

    #[tokio::test]
    async fn frames_are_unwrapped_in_any_pieces() {
        let whole = [frame(1, "out\n"), frame(2, ""), frame(2, "err\n"), frame(1, "more")].concat();
        assert_eq!(payload_of(vec![whole.clone()]).await, "out\nerr\nmore");
        for size in 1..whole.len() {
            let pieces = whole.chunks(size).map(Vec::from).collect();
            assert_eq!(payload_of(pieces).await, "out\nerr\nmore", "{size}");
        }
    }

    #[tokio::test]
    async fn nothing_waits_for_the_end_of_a_frame() {
        let mut endless = vec![1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff];
        endless.extend(b"first");
        let chunks = stream::iter([Ok(Bytes::from(endless))]).chain(stream::pending()).boxed();
        let mut pieces = payloads(chunks).boxed();
        assert_eq!(pieces.next().await.unwrap().unwrap(), "first");
    }
}
