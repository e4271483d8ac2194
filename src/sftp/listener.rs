//! The listener: opens the address, accepts connections within limits, and serves each of them in a task.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use russh::keys::HashAlg;
use russh::server::Config;
use rustix::net::sockopt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::limits::{CONNECTIONS, KEEPALIVE, LOGINS, LOGINS_OF_ADDRESS, network};
use super::{Service, access, algorithms, connection, host_key};
use crate::config::SftpConfig;
use crate::model::NodeConditionType;

/// Between two attempts to open the address, or to accept a connection after an error of the system.
const RETRY: Duration = Duration::from_secs(5);

/// An address that could be opened, or why not.
pub type Bound = Result<TcpListener, String>;

/// Opens the address: clients that connect before [`listen`] wait.
///
/// # Errors
/// It cannot be opened. The text says what to do.
pub async fn bind(config: &SftpConfig) -> Bound {
    let address = &config.address;
    TcpListener::bind(address).await.map_err(|error| {
        format!("cannot listen on {address}: {error}; name another address in `system.sftp` of config.yml")
    })
}

/// Listens until `end` is cancelled. Without SFTP the node still runs its servers: an address or key that cannot be used is a
/// condition of the node, and is tried again.
pub async fn listen(service: Arc<Service>, bound: Bound, end: CancellationToken) {
    service.context.tasks.spawn("sftp access", access::follow(service.clone()));
    end.run_until_cancelled(async {
        let (config, listener) = open(&service, bound).await;
        let acceptor = Acceptor { service, config, listener, limits: Arc::default() };
        acceptor.run().await;
    })
    .await;
}

/// Opens the address, when that is possible.
async fn open(service: &Service, bound: Bound) -> (Arc<Config>, TcpListener) {
    let mut bound = Some(bound);
    let conditions = &service.context.node.conditions;
    let mut noted = None;
    loop {
        match open_now(service, bound.take()).await {
            Ok(opened) => {
                conditions.met(NodeConditionType::SftpServed);
                return opened;
            }
            Err(problem) => {
                if noted.as_ref() != Some(&problem) {
                    tracing::error!(problem, "sftp is not served");
                }
                conditions.unmet(NodeConditionType::SftpServed, &problem);
                noted = Some(problem);
            }
        }
        tokio::time::sleep(RETRY).await;
    }
}

async fn open_now(service: &Service, bound: Option<Bound>) -> Result<(Arc<Config>, TcpListener), String> {
    let path = service.context.node.config.directories.sftp_host_key();
    let key = service.context.store.blocking().run(move || host_key::load_or_create(&path)).await;
    let key = key.map_err(|error| error.to_string())?;
    let listener = match bound {
        Some(bound) => bound?,
        None => bind(service.config()).await?,
    };
    let fingerprint = key.public_key().fingerprint(HashAlg::Sha256);
    tracing::info!(address = service.config().address, host_key = %fingerprint, "sftp is served");
    Ok((Arc::new(algorithms::config(key)), listener))
}

struct Acceptor {
    service: Arc<Service>,
    config: Arc<Config>,
    listener: TcpListener,
    limits: Arc<Connections>,
}

impl Acceptor {
    async fn run(self) {
        loop {
            // Accepted only once it can be served: further clients wait in the kernel's queue.
            let Ok(permit) = self.limits.all.clone().acquire_owned().await else { return };
            match self.listener.accept().await {
                Ok((stream, peer)) => self.serve(stream, peer, permit),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept an sftp connection");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    fn serve(&self, stream: TcpStream, peer: SocketAddr, permit: OwnedSemaphorePermit) {
        // An IPv6 socket maps the addresses of IPv4 clients.
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        let Some(login) = self.limits.begin_login(peer.ip()) else {
            tracing::debug!(%peer, "sftp connection refused: too many connections that are not logged in");
            return;
        };
        if let Err(error) = prepare(&stream) {
            tracing::debug!(%peer, %error, "cannot detect the end of this client");
        }
        let (service, config) = (self.service.clone(), self.config.clone());
        self.service.context.tasks.spawn_graceful(format!("sftp connection of {peer}"), move |end| async move {
            let _permit = permit;
            connection::serve(service, config, stream, peer, move || drop(login), end).await;
        });
    }
}

/// Answers are sent at once, and the end of a host is noticed.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, KEEPALIVE)?;
    Ok(sockopt::set_tcp_keepintvl(stream, KEEPALIVE / 4)?)
}

/// The open connections.
struct Connections {
    all: Arc<Semaphore>,
    logins: Mutex<BTreeMap<IpAddr, usize>>,
}

impl Default for Connections {
    fn default() -> Self {
        Self { all: Arc::new(Semaphore::new(CONNECTIONS)), logins: Mutex::default() }
    }
}

/// A connection that is not logged in, until it is dropped.
struct Login {
    connections: Arc<Connections>,
    address: IpAddr,
}

impl Connections {
    /// Counts a connection that is not logged in; `None` if there are too many.
    fn begin_login(self: &Arc<Self>, address: IpAddr) -> Option<Login> {
        let address = network(address);
        let mut logins = self.logins.lock().unwrap_or_else(PoisonError::into_inner);
        if logins.values().sum::<usize>() >= LOGINS {
            return None;
        }
        let count = logins.entry(address).or_default();
        if *count >= LOGINS_OF_ADDRESS {
            return None;
        }
        *count += 1;
        Some(Login { connections: self.clone(), address })
    }
}

impl Drop for Login {
    fn drop(&mut self) {
        let mut logins = self.connections.logins.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = logins.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                logins.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_that_are_not_logged_in_are_limited_by_address_and_in_total() {
        let connections = Arc::new(Connections::default());
        let address = |number: u32| IpAddr::V4((0xC000_0200 + number).into());
        let mut open: Vec<Login> = Vec::new();
        open.extend((0..100).filter_map(|_| connections.begin_login(address(0))));
        assert_eq!(open.len(), LOGINS_OF_ADDRESS);
        open.extend((1..200).filter_map(|number| connections.begin_login(address(number))));
        assert_eq!(open.len(), LOGINS);
        open.pop();
        assert!(connections.begin_login(address(0)).is_none());
        assert!(connections.begin_login(address(1)).is_some());
        drop(open);
        assert!(connections.logins.lock().unwrap().is_empty());
    }
}
