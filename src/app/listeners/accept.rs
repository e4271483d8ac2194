//! The accept loop, one for each listener: TCP, TCP with TLS, and the unix socket.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use rustix::net::sockopt;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::activity::Activity;
use super::certificates::Certificates;
use super::connection::Connection;
use super::limits::Limits;
use crate::api::Peer;
use crate::tasks::Tasks;

/// Interval between two warnings about the limit on connections.
const WARN_INTERVAL: Duration = Duration::from_secs(60);
/// A client that is quiet for so long is asked whether it is still there: a console may be silent for days.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// A listening socket.
pub enum Listener {
    /// TCP, with TLS if there are certificates.
    Tcp(TcpListener, Option<Arc<Certificates>>),
    /// The unix socket.
    Local(UnixListener),
}

enum Stream {
    Tcp(TcpStream, Option<Arc<Certificates>>),
    Local(UnixStream),
}

impl Listener {
    /// The next connection. axum logs errors that affect all connections, such as too many open files, and tries again.
    async fn accept(&mut self) -> (Stream, Peer) {
        match self {
            Listener::Tcp(listener, certificates) => {
                let (stream, address) = axum::serve::Listener::accept(listener).await;
                // An IPv6 socket maps the addresses of IPv4 clients.
                let address = SocketAddr::new(address.ip().to_canonical(), address.port());
                if let Err(error) = keep_alive(&stream) {
                    tracing::debug!(%error, "cannot detect the end of this client");
                }
                (Stream::Tcp(stream, certificates.clone()), Peer::Tcp(address))
            }
            Listener::Local(listener) => loop {
                let (stream, _) = axum::serve::Listener::accept(listener).await;
                match stream.peer_cred() {
                    Ok(user) => return (Stream::Local(stream), Peer::Local { uid: user.uid() }),
                    Err(error) => tracing::warn!(%error, "cannot accept a connection"),
                }
            },
        }
    }
}

/// Accepts connections and serves each one in a task of its own.
pub struct Acceptor {
    listener: Listener,
    router: Router,
    limits: Limits,
    tasks: Tasks,
    permits: Arc<Semaphore>,
    warned: Option<Instant>,
}

impl Acceptor {
    /// Serves `router` on `listener`.
    pub fn new(listener: Listener, router: Router, limits: Limits, tasks: Tasks) -> Self {
        let permits = Arc::new(Semaphore::new(limits.connections));
        Self { listener, router, limits, tasks, permits, warned: None }
    }

    /// Runs until `end` is cancelled. Open connections finish their responses in their own tasks.
    pub async fn run(mut self, end: CancellationToken) {
        while let Some((permit, stream, peer)) = end.run_until_cancelled(self.next()).await {
            let (limits, tasks, router) = (self.limits, self.tasks.clone(), self.router.clone());
            self.tasks.spawn_graceful(format!("connection of {peer}"), move |end| async move {
                let _permit = permit;
                let activity = Activity::new();
                serve(stream, Connection { peer, router, limits, tasks, activity, end }).await;
            });
        }
    }

    /// The next connection. It is accepted only once there is a permit to serve it.
    async fn next(&mut self) -> (OwnedSemaphorePermit, Stream, Peer) {
        let permit = self.permit().await;
        let (stream, peer) = self.listener.accept().await;
        (permit, stream, peer)
    }

    async fn permit(&mut self) -> OwnedSemaphorePermit {
        if let Ok(permit) = self.permits.clone().try_acquire_owned() {
            return permit;
        }
        if self.warned.is_none_or(|at| at.elapsed() >= WARN_INTERVAL) {
            self.warned = Some(Instant::now());
            tracing::warn!(limit = self.limits.connections, "connection limit reached; new connections wait");
        }
        match self.permits.clone().acquire_owned().await {
            Ok(permit) => permit,
            // The semaphore is never closed.
            Err(_) => std::future::pending().await,
        }
    }
}

fn keep_alive(stream: &TcpStream) -> rustix::io::Result<()> {
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, KEEPALIVE)?;
    sockopt::set_tcp_keepintvl(stream, KEEPALIVE / 4)
}

async fn serve(stream: Stream, connection: Connection) {
    let activity = connection.activity.clone();
    match stream {
        Stream::Local(stream) => connection.serve(activity.watch(stream)).await,
        Stream::Tcp(stream, None) => connection.serve(activity.watch(stream)).await,
        Stream::Tcp(stream, Some(certificates)) => {
            // Activity is counted below TLS, which accepts more bytes than it has sent.
            let agreed = certificates.handshake(activity.watch(stream));
            let agreed = tokio::time::timeout(connection.limits.handshake, agreed);
            match connection.end.run_until_cancelled(agreed).await {
                Some(Ok(Ok(stream))) => connection.serve(stream).await,
                Some(Ok(Err(error))) => tracing::debug!(peer = %connection.peer, %error, "TLS handshake failed"),
                Some(Err(_)) => tracing::debug!(peer = %connection.peer, "TLS handshake timed out"),
                None => {}
            }
        }
    }
}
