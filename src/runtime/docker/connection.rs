//! Where the engine listens, and connections to it.

use std::fmt;
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tower::Service;

/// Docker's own default.
const DEFAULT_SOCKET: &str = "/var/run/docker.sock";
/// The port of a Docker API without TLS.
const DEFAULT_PORT: u16 = 2375;
/// A connection over a network that says nothing for this long is asked whether it is still there.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// Where the engine listens. `Display` writes it as `DOCKER_HOST` has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// Path of a unix socket.
    Unix(PathBuf),
    /// Host and port without TLS.
    Tcp(String, u16),
}

/// Why a text is no address of an engine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("DOCKER_HOST={text:?}: {why}; expected unix:///path/of/socket or tcp://host:port")]
pub struct InvalidAddress {
    text: String,
    why: &'static str,
}

impl Address {
    /// The address in `DOCKER_HOST`; the default socket where it is not set.
    ///
    /// # Errors
    /// It holds what is no address, or TLS is asked for, which is not supported.
    pub fn from_environment() -> Result<Self, InvalidAddress> {
        let variable = |name| std::env::var(name).unwrap_or_default();
        let text = variable("DOCKER_HOST");
        let address = Self::parse(&text)?;
        if matches!(address, Self::Tcp(..)) && !variable("DOCKER_TLS_VERIFY").is_empty() {
            return Err(InvalidAddress { text, why: "DOCKER_TLS_VERIFY is set, and TLS is not supported" });
        }
        Ok(address)
    }

    /// Reads an address as `DOCKER_HOST` has it; an empty text is the default socket.
    ///
    /// # Errors
    /// It is no address, or one of another kind.
    pub fn parse(text: &str) -> Result<Self, InvalidAddress> {
        let invalid = |why| InvalidAddress { text: text.to_owned(), why };
        if text.is_empty() {
            return Ok(Self::Unix(DEFAULT_SOCKET.into()));
        }
        match text.split_once("://") {
            Some(("unix", path)) if path.starts_with('/') => Ok(Self::Unix(path.into())),
            Some(("unix", _)) => Err(invalid("the path of the socket is not absolute")),
            Some(("tcp" | "http", rest)) => {
                let uri: Uri = format!("http://{rest}").parse().map_err(|_| invalid("no host and port"))?;
                let host = uri.host().ok_or_else(|| invalid("no host"))?;
                if uri.path() != "/" && !uri.path().is_empty() {
                    return Err(invalid("a path has no meaning here"));
                }
                let host = host.trim_start_matches('[').trim_end_matches(']');
                Ok(Self::Tcp(host.to_owned(), uri.port_u16().unwrap_or(DEFAULT_PORT)))
            }
            Some(_) => Err(invalid("this kind of address is not supported")),
            None if text.starts_with('/') => Ok(Self::Unix(text.into())),
            None => Err(invalid("this is no address")),
        }
    }

    async fn connect(&self) -> io::Result<Stream> {
        match self {
            Self::Unix(path) => Ok(TokioIo::new(Box::new(UnixStream::connect(path).await?))),
            Self::Tcp(host, port) => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                stream.set_nodelay(true)?;
                // The stream of events may be silent for days; a peer that vanished has to be noticed.
                rustix::net::sockopt::set_socket_keepalive(&stream, true)?;
                rustix::net::sockopt::set_tcp_keepidle(&stream, KEEPALIVE)?;
                rustix::net::sockopt::set_tcp_keepintvl(&stream, KEEPALIVE)?;
                Ok(TokioIo::new(Box::new(stream)))
            }
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(host, port) if host.contains(':') => write!(f, "tcp://[{host}]:{port}"),
            Self::Tcp(host, port) => write!(f, "tcp://{host}:{port}"),
        }
    }
}

/// Opens connections to the one engine, whatever the URI says.
#[derive(Debug, Clone)]
pub(super) struct Connector(pub(super) Arc<Address>);

impl Service<Uri> for Connector {
    type Response = Stream;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Stream>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let address = self.0.clone();
        Box::pin(async move { address.connect().await })
    }
}

/// A connection to the engine.
pub(super) type Stream = TokioIo<Box<dyn Socket>>;

/// A socket of either kind.
pub(super) trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Socket for T {}

impl Connection for Box<dyn Socket> {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (text, address) in [
            ("", "unix:///var/run/docker.sock"),
            ("unix:///run/podman/podman.sock", "unix:///run/podman/podman.sock"),
            ("/run/docker.sock", "unix:///run/docker.sock"),
            ("tcp://127.0.0.1:2375", "tcp://127.0.0.1:2375"),
            ("tcp://engine", "tcp://engine:2375"),
            ("tcp://[::1]:99", "tcp://[::1]:99"),
            ("http://10.0.0.1:80/", "tcp://10.0.0.1:80"),
        ] {
            assert_eq!(Address::parse(text).unwrap().to_string(), address, "{text}");
        }
        for text in [
            "ssh://host",
            "npipe:////./pipe/docker_engine",
            "unix://relative",
            "tcp://",
            "tcp://a b",
            "engine",
            "tcp://host:1/path",
        ] {
            let error = Address::parse(text).unwrap_err().to_string();
            assert!(error.contains(text) && error.contains("expected unix://"), "{error}");
        }
    }
}
