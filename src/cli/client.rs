//! The daemon's unix socket: one request, one connection, one answer.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::error::CliError;

/// A plan may wait for the container engine; everything else answers at once.
const PATIENCE: Duration = Duration::from_secs(60);
/// The longest answer that is read, bytes: a list of very many servers.
const MOST_ANSWER: usize = 512 << 20;

/// The daemon behind a socket.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
}

#[derive(Deserialize)]
struct Refusal {
    error: String,
}

impl Client {
    /// The daemon that listens there, if one does.
    ///
    /// # Errors
    /// Somebody may be there, and we may not ask.
    pub fn find(socket: &Path) -> Result<Option<Self>, CliError> {
        match std::os::unix::net::UnixStream::connect(socket) {
            Ok(_) => Ok(Some(Self { socket: socket.to_owned() })),
            Err(error) => match error.kind() {
                // A path that is too long for a socket is one that no daemon can have opened.
                ErrorKind::NotFound
                | ErrorKind::ConnectionRefused
                | ErrorKind::InvalidInput
                | ErrorKind::NotADirectory => Ok(None),
                ErrorKind::PermissionDenied => {
                    Err(failed(socket, "permission denied; run this as root, or as the daemon's user"))
                }
                _ => Err(failed(socket, error)),
            },
        }
    }

    /// Reads something.
    ///
    /// # Errors
    /// The daemon's refusal, or its silence.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, CliError> {
        let answer = self.call(Method::GET, path, Bytes::new()).await?;
        self.read(&answer)
    }

    /// Reads an answer.
    ///
    /// # Errors
    /// It has another shape than this release's.
    pub fn read<T: DeserializeOwned>(&self, answer: &Bytes) -> Result<T, CliError> {
        serde_json::from_slice(answer).map_err(|error| {
            failed(&self.socket, format!("its answer is not understood ({error}); is the daemon of another version than this program? restart it"))
        })
    }

    /// Makes a request and gives the answer's body.
    ///
    /// # Errors
    /// The daemon's refusal, or its silence.
    pub async fn call(&self, method: Method, path: &str, body: Bytes) -> Result<Bytes, CliError> {
        let answer = tokio::time::timeout(PATIENCE, self.exchange(method, path, body)).await;
        let (status, body) = answer.map_err(|_| {
            failed(&self.socket, format!("no answer within {} seconds; see its log", PATIENCE.as_secs()))
        })??;
        if status.is_success() {
            return Ok(body);
        }
        let message = match serde_json::from_slice::<Refusal>(&body) {
            Ok(refusal) => refusal.error,
            Err(_) => String::from_utf8_lossy(&body).chars().take(500).collect(),
        };
        Err(CliError::Refused { status: status.as_u16(), message })
    }

    async fn exchange(&self, method: Method, path: &str, body: Bytes) -> Result<(StatusCode, Bytes), CliError> {
        let lost = |error: &dyn std::fmt::Display| failed(&self.socket, format!("{error}; did it just end? try again"));
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| lost(&error))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| lost(&error))?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "localhost")
            .body(Full::new(body))
            .map_err(|error| lost(&error))?;
        let answer = async {
            let response = sender.send_request(request).await.map_err(|error| lost(&error))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MOST_ANSWER).collect().await.map_err(|error| lost(&error))?;
            Ok((status, body.to_bytes()))
        };
        tokio::pin!(answer);
        // The connection does the answer's reading and writing; it may be over before the answer is taken.
        tokio::select! {
            biased;
            answer = &mut answer => answer,
            _ = connection => answer.await,
        }
    }
}

fn failed(socket: &Path, why: impl std::fmt::Display) -> CliError {
    CliError::Daemon { socket: socket.to_owned(), why: why.to_string() }
}
