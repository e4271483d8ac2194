//! The listening sockets: TCP for panels (with TLS where it is configured), a unix socket for the command line.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::server::TlsStream;

use crate::api::Door;
use crate::config::{NodeConfig, TlsFiles};
use crate::tasks::Tasks;

/// A client has this long to agree on TLS.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Handshakes at once; more wait in the listen queue.
const HANDSHAKES: usize = 256;

/// Open sockets that nobody serves yet.
pub struct Doors {
    tcp: Option<(TcpListener, Option<TlsAcceptor>, Door)>,
    local: UnixListener,
}

/// Opens the sockets.
///
/// # Errors
/// A port that is taken, a certificate that cannot be read; with what to do about it.
pub async fn open(node: &NodeConfig) -> anyhow::Result<Doors> {
    let tcp = match super::tcp_door(node) {
        None => {
            tracing::info!("no token is configured: the API is served on the local socket only");
            None
        }
        Some(door) => {
            let tls = node.api.tls.as_ref().map(acceptor).transpose()?;
            let address = &node.api.address;
            let listener = TcpListener::bind(address).await.with_context(|| {
                format!(
                    "cannot listen on {address}; is another daemon running? see `api.host` and `api.port` in {}",
                    node.source.display()
                )
            })?;
            Some((listener, tls, door))
        }
    };
    Ok(Doors { tcp, local: local(&node.directories.socket)? })
}

/// Removes the unix socket's file.
pub fn close(node: &NodeConfig) {
    // Whoever finds it there tries to connect, is refused, and knows that no daemon runs.
    let _ = std::fs::remove_file(&node.directories.socket);
}

fn local(path: &Path) -> anyhow::Result<UnixListener> {
    let what = || format!("cannot open the socket {}", path.display());
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        // It is none of this state folder, whose lock we have.
        anyhow::bail!(
            "{} answers already: another daemon listens there; stop it first, or name another path in `alula.socket`",
            path.display()
        );
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error).with_context(what),
        _ => {}
    }
    let listener = UnixListener::bind(path).with_context(what)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).with_context(what)?;
    Ok(listener)
}

fn acceptor(files: &TlsFiles) -> anyhow::Result<TlsAcceptor> {
    let certificates: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(&files.cert)
        .and_then(Iterator::collect)
        .with_context(|| format!("cannot read `api.ssl.cert` {}", files.cert.display()))?;
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .with_context(|| format!("cannot read `api.ssl.key` {}", files.key.display()))?;
    let mut config = tokio_rustls::rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(certificates, key)
        .with_context(|| format!("{} and {} do not belong together", files.cert.display(), files.key.display()))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

impl Doors {
    /// Serves both doors until the tasks are shut down.
    pub fn serve(self, tasks: &Tasks, router: impl Fn(Door) -> Router) {
        if let Some((listener, tls, door)) = self.tcp {
            let router = router(door);
            match tls {
                None => {
                    tasks.spawn_graceful("api", |end| async move {
                        let served = axum::serve(listener, router).with_graceful_shutdown(end.cancelled_owned());
                        report(served.await);
                    });
                }
                Some(acceptor) => serve_tls(tasks, listener, acceptor, router),
            }
        }
        let (listener, router) = (self.local, router(Door::Local));
        tasks.spawn_graceful("local api", |end| async move {
            report(axum::serve(listener, router).with_graceful_shutdown(end.cancelled_owned()).await);
        });
    }
}

fn report(result: std::io::Result<()>) {
    if let Err(error) = result {
        tracing::error!("the API is no longer served: {error}; restart the daemon");
    }
}

/// TLS: connections are accepted and agreed on beside each other, so that a silent client holds nobody up.
fn serve_tls(tasks: &Tasks, listener: TcpListener, acceptor: TlsAcceptor, router: Router) {
    let (agreed, connections) = mpsc::channel(16);
    let local_address = listener.local_addr();
    let places = Arc::new(tokio::sync::Semaphore::new(HANDSHAKES));
    let spawner = tasks.clone();
    tasks.spawn("tls", async move {
        loop {
            let Ok(place) = places.clone().acquire_owned().await else { return };
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!("a connection cannot be accepted: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let (acceptor, agreed) = (acceptor.clone(), agreed.clone());
            spawner.spawn("tls handshake", async move {
                let _place = place;
                if let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
                    // Fails only when the API is no longer served.
                    let _ = agreed.send(stream).await;
                }
            });
        }
    });
    tasks.spawn_graceful("api", |end| async move {
        let local_address = match local_address {
            Ok(address) => address,
            Err(error) => return report(Err(error)),
        };
        let listener = TlsListener { connections, local_address };
        report(axum::serve(listener, router).with_graceful_shutdown(end.cancelled_owned()).await);
    });
}

struct TlsListener {
    connections: mpsc::Receiver<TlsStream<TcpStream>>,
    local_address: std::net::SocketAddr,
}

impl axum::serve::Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = std::net::SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.connections.recv().await {
            Some(stream) => {
                let peer = stream.get_ref().0.peer_addr().unwrap_or(self.local_address);
                (stream, peer)
            }
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        Ok(self.local_address)
    }
}
