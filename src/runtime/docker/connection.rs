//! Where the engine listens, and connections to it.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tower::util::BoxCloneSyncService;

/// The default of Docker.
const DEFAULT_SOCKET: &str = "/var/run/docker.sock";
/// The port of a Docker API without TLS.
const DEFAULT_PORT: u16 = 2375;
/// Time without data after which the kernel checks a TCP connection.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// The address of an engine. `Display` writes it in the format of `DOCKER_HOST`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// Path of a unix socket.
    Unix(PathBuf),
    /// Host and port without TLS.
    Tcp(String, u16),
}

/// An invalid address of an engine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("DOCKER_HOST={text:?}: {why}; expected unix:///path/of/socket or tcp://host:port")]
pub struct InvalidAddress {
    text: String,
    why: &'static str,
}

impl Address {
    /// The address in `DOCKER_HOST`, or the default socket.
    ///
    /// # Errors
    /// The variable is not a supported address, or TLS is requested, which is not supported.
    pub fn from_environment() -> Result<Self, InvalidAddress> {
        let variable = |name| std::env::var(name).unwrap_or_default();
        let text = variable("DOCKER_HOST");
        let address = Self::parse(&text)?;
        if matches!(address, Self::Tcp(..)) && !variable("DOCKER_TLS_VERIFY").is_empty() {
            return Err(InvalidAddress { text, why: "DOCKER_TLS_VERIFY is set, and TLS is not supported" });
        }
        Ok(address)
    }

    /// Parses an address. An empty text is the default socket.
    ///
    /// # Errors
    /// The text is not a supported address.
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
                // The stream of events may be silent for days. Keepalive detects a lost peer.
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

/// Opens connections. The URIs of requests are ignored.
pub(super) type Connector = BoxCloneSyncService<Uri, Stream, io::Error>;

pub(super) fn connector(address: &Arc<Address>) -> Connector {
    let address = address.clone();
    BoxCloneSyncService::new(tower::service_fn(move |_| {
        let address = address.clone();
        async move { address.connect().await }
    }))
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
