//! The daemon's unix socket: one connection for each request.

use std::error::Error;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use http::{Method, StatusCode};
use reqwest::Response;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::error::CliError;
use crate::http_client::cause;

/// The daemon may wait for the container engine before it answers with a plan; other answers come at once.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The daemon at a socket.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
    http: reqwest::Client,
}

#[derive(Deserialize)]
struct Rejection {
    error: String,
}

impl Client {
    /// The daemon that listens on the socket; `None` if there is none.
    ///
    /// # Errors
    /// The socket cannot be opened, for example for lack of permission.
    pub fn find(socket: &Path) -> Result<Option<Self>, CliError> {
        match std::os::unix::net::UnixStream::connect(socket) {
            Ok(_) => Self::new(socket).map(Some),
            Err(error) => match error.kind() {
                // No daemon can listen on a path that is too long for a socket.
                ErrorKind::NotFound
                | ErrorKind::ConnectionRefused
                | ErrorKind::InvalidInput
                | ErrorKind::NotADirectory => Ok(None),
                ErrorKind::PermissionDenied => Err(failed(
                    socket,
                    "permission denied; run this as root, as the daemon's user, or as a member of the socket's group (`alula.socket_group`)",
                )),
                _ => Err(failed(socket, error)),
            },
        }
    }

    fn new(socket: &Path) -> Result<Self, CliError> {
        // Neither proxies nor certificates have a part in this, and both would be read from the environment.
        let http = reqwest::Client::builder()
            .unix_socket(socket)
            .no_proxy()
            .tls_certs_only([])
            .pool_max_idle_per_host(0)
            .build()
            .map_err(|error| failed(socket, cause(&error)))?;
        Ok(Self { socket: socket.to_owned(), http })
    }

    /// Makes a GET request and reads its JSON response.
    ///
    /// # Errors
    /// The daemon rejects the request or does not answer.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, CliError> {
        let answer = self.call(Method::GET, path, Bytes::new()).await?;
        self.read(&answer)
    }

    /// Reads a JSON response.
    ///
    /// # Errors
    /// Its shape is not that of this release.
    pub fn read<T: DeserializeOwned>(&self, answer: &[u8]) -> Result<T, CliError> {
        serde_json::from_slice(answer).map_err(|error| {
            failed(&self.socket, format!("its answer is not understood ({error}); is the daemon of another version than this program? restart it"))
        })
    }

    /// Makes a request and returns the response's body.
    ///
    /// # Errors
    /// The daemon rejects the request or does not answer.
    pub async fn call(&self, method: Method, path: &str, body: Bytes) -> Result<Bytes, CliError> {
        let answer = async { self.send(method, path, body).await?.bytes().await.map_err(|error| self.lost(&error)) };
        self.in_time(answer).await
    }

    /// Makes a GET request and returns the response's body as it arrives. The stream fails if the connection breaks.
    ///
    /// # Errors
    /// The daemon rejects the request or does not answer.
    pub async fn stream(
        &self,
        path: &str,
    ) -> Result<impl Stream<Item = reqwest::Result<Bytes>> + Unpin + use<>, CliError> {
        Ok(Box::pin(self.in_time(self.send(Method::GET, path, Bytes::new())).await?.bytes_stream()))
    }

    /// Makes a PUT request with a body that is made while it is sent, and returns the response's body.
    ///
    /// # Errors
    /// The daemon rejects the request, or the connection breaks.
    pub async fn upload(
        &self,
        path: &str,
        body: impl Stream<Item = std::io::Result<Bytes>> + Send + 'static,
    ) -> Result<Bytes, CliError> {
        // It takes as long as it takes.
        let answer = self.send(Method::PUT, path, reqwest::Body::wrap_stream(body)).await?;
        answer.bytes().await.map_err(|error| self.lost(&error))
    }

    /// The error for a connection that the daemon has closed.
    pub fn lost(&self, error: &(dyn Error + 'static)) -> CliError {
        failed(&self.socket, format!("{}; did it just end? try again", cause(error)))
    }

    async fn send(&self, method: Method, path: &str, body: impl Into<reqwest::Body>) -> Result<Response, CliError> {
        let request = self.http.request(method, format!("http://localhost{path}")).body(body);
        let response = request.send().await.map_err(|error| self.lost(&error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        Err(rejected(status, &response.bytes().await.map_err(|error| self.lost(&error))?))
    }

    async fn in_time<T>(&self, answer: impl Future<Output = Result<T, CliError>>) -> Result<T, CliError> {
        tokio::time::timeout(TIMEOUT, answer).await.unwrap_or_else(|_| {
            Err(failed(&self.socket, format!("no answer within {} seconds; see its log", TIMEOUT.as_secs())))
        })
    }
}

fn rejected(status: StatusCode, body: &[u8]) -> CliError {
    let message = match serde_json::from_slice::<Rejection>(body) {
        Ok(rejection) => rejection.error,
        Err(_) => String::from_utf8_lossy(body).chars().take(500).collect(),
    };
    CliError::Rejected { status: status.as_u16(), message }
}

fn failed(socket: &Path, why: impl std::fmt::Display) -> CliError {
    CliError::Daemon { socket: socket.to_owned(), why: why.to_string() }
}
