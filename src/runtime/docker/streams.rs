//! Terminals and logs as raw bytes.
//!
//! All containers of servers have a terminal, so the engine sends their output without frame headers.

use std::io;
use std::time::Duration;

use bollard::errors::Error;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt};
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use hyper_util::rt::TokioIo;
use tokio_util::io::ReaderStream;

use super::wire::Wire;
use super::{containers, error, lines};
use crate::runtime::{Attachment, LogPart, Output};

/// Bytes that are read from a terminal at once. Each attachment holds a buffer of this size.
const CHUNK: usize = 4096;

/// How often, and at which interval, the engine is asked whether a container has ended whose process is gone.
const ATTEMPTS: u32 = 10;
const PAUSE: Duration = Duration::from_millis(100);

/// Opens the terminal of a container.
///
/// The output of a container that has ended is empty. The state is read after the terminal is open, so that no end is missed.
pub(super) async fn attach(wire: &Wire, id: &str) -> Result<Attachment, Error> {
    // Podman prepares a container that has ended for another run when its terminal is opened, and its exit code is gone.
    if wire.is_podman().await? && has_ended(wire, id).await? {
        return Ok(Attachment { output: stream::empty().boxed(), input: Box::new(tokio::io::sink()) });
    }
    let mut headers = HeaderMap::new();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("tcp"));
    let path = format!("/containers/{id}/attach?stream=1&stdin=1&stdout=1&stderr=1&logs=0");
    let response = wire.open(Method::POST, &path, headers, Bytes::new()).await?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(io::Error::other("the connection was not upgraded").into());
    }
    let connection = TokioIo::new(hyper::upgrade::on(response).await?);
    let (output, input) = tokio::io::split(connection);
    let output = match containers::inspection(wire, id).await?.has_ended() {
        true => stream::empty().boxed(),
        false => ReaderStream::with_capacity(output, CHUNK).map_err(Error::from).boxed(),
    };
    let attempt = format!("reading the terminal of the container {id}");
    Ok(Attachment { output: translated(output, wire, attempt), input: Box::new(input) })
}

/// Whether a container has ended. Podman counts it as running until it has noticed that the process is gone.
async fn has_ended(wire: &Wire, id: &str) -> Result<bool, Error> {
    for _ in 0..ATTEMPTS {
        let inspection = containers::inspection(wire, id).await?;
        if !inspection.seems_over().await {
            return Ok(inspection.has_ended());
        }
        tokio::time::sleep(PAUSE).await;
    }
    // Processes of an engine elsewhere are not visible.
    Ok(false)
}

/// Reads a container's log.
pub(super) async fn logs(wire: &Wire, id: &str, part: LogPart) -> Result<Output, Error> {
    let part = match part {
        LogPart::All => "follow=0".to_owned(),
        LogPart::Follow => "follow=1".to_owned(),
        LogPart::Tail(lines) => format!("follow=0&tail={lines}"),
    };
    let path = format!("/containers/{id}/logs?stdout=1&stderr=1&{part}");
    let response = wire.open(Method::GET, &path, HeaderMap::new(), Bytes::new()).await?;
    Ok(translated(lines::chunks(response), wire, format!("reading the log of the container {id}")))
}

/// Translates the errors of a stream.
fn translated(output: BoxStream<'static, Result<Bytes, Error>>, wire: &Wire, attempt: String) -> Output {
    let address = wire.address().clone();
    output.map(move |bytes| bytes.map_err(|error| error::translate(attempt.clone(), &error, &address))).boxed()
}
