//! The daemon's unix socket: one request, one connection, one answer, read as a whole or as it comes.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::io::AsyncBufRead;
use tokio::net::UnixStream;
use tokio_util::io::StreamReader;

use super::error::CliError;

/// A plan may wait for the container engine; everything else answers at once.
const PATIENCE: Duration = Duration::from_secs(60);
/// The longest answer that is read, bytes: a list of very many servers.
const MAX_ANSWER: usize = 512 << 20;

/// The daemon behind a socket.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
}

#[derive(Deserialize)]
struct Rejection {
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
        let (status, body) = answer.map_err(|_| self.silent())??;
        if status.is_success() { Ok(body) } else { Err(rejected(status, &body)) }
    }

    /// Reads an answer that goes on, as it comes. It ends where the daemon ends it; an error says that it broke off.
    ///
    /// # Errors
    /// The daemon's refusal, or its silence.
    pub async fn stream(&self, path: &str) -> Result<impl AsyncBufRead + Unpin + use<>, CliError> {
        let begun = tokio::time::timeout(PATIENCE, self.begin(Method::GET, path, Bytes::new())).await;
        let (response, mut connection) = begun.map_err(|_| self.silent())??;
        let (head, body) = response.into_parts();
        if !head.status.is_success() {
            let body = drive(&mut connection, Limited::new(body, MAX_ANSWER).collect()).await;
            return Err(rejected(head.status, &body.map_err(|error| self.lost(error))?.to_bytes()));
        }
        let mut body = body.into_data_stream();
        Ok(StreamReader::new(stream::poll_fn(move |context| {
            if let Some(open) = &mut connection
                && open.as_mut().poll(context).is_ready()
            {
                connection = None;
            }
            body.poll_next_unpin(context).map(|piece| piece.map(|piece| piece.map_err(io::Error::other)))
        })))
    }

    /// The daemon ended, or the connection broke.
    pub fn lost(&self, error: impl std::fmt::Display) -> CliError {
        failed(&self.socket, format!("{error}; did it just end? try again"))
    }

    fn silent(&self) -> CliError {
        failed(&self.socket, format!("no answer within {} seconds; see its log", PATIENCE.as_secs()))
    }

    async fn exchange(&self, method: Method, path: &str, body: Bytes) -> Result<(StatusCode, Bytes), CliError> {
        let (response, mut connection) = self.begin(method, path, body).await?;
        let status = response.status();
        let body = drive(&mut connection, Limited::new(response.into_body(), MAX_ANSWER).collect()).await;
        Ok((status, body.map_err(|error| self.lost(error))?.to_bytes()))
    }

    /// Makes a request, and reads the head of the answer.
    async fn begin(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<(Response<Incoming>, Option<Connection>), CliError> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| self.lost(error))?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.lost(error))?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "localhost")
            .body(Full::new(body))
            .map_err(|error| self.lost(error))?;
        let mut connection = Some(Box::pin(connection));
        let response = drive(&mut connection, sender.send_request(request)).await;
        Ok((response.map_err(|error| self.lost(error))?, connection))
    }
}

/// Does the reading and writing that goes on while an answer is read; gone when there is no more to be done.
type Connection = Pin<Box<http1::Connection<TokioIo<UnixStream>, Full<Bytes>>>>;

/// Waits for a part of an answer. The connection may be over before that is taken.
async fn drive<T>(connection: &mut Option<Connection>, part: impl Future<Output = T>) -> T {
    tokio::pin!(part);
    if let Some(open) = connection {
        tokio::select! {
            biased;
            part = &mut part => return part,
            _ = open => *connection = None,
        }
    }
    part.await
}

fn rejected(status: StatusCode, body: &Bytes) -> CliError {
    let message = match serde_json::from_slice::<Rejection>(body) {
        Ok(rejection) => rejection.error,
        Err(_) => String::from_utf8_lossy(body).chars().take(500).collect(),
    };
    CliError::Rejected { status: status.as_u16(), message }
}

fn failed(socket: &Path, why: impl std::fmt::Display) -> CliError {
    CliError::Daemon { socket: socket.to_owned(), why: why.to_string() }
}
