//! The client of a connection.

use std::fmt;
use std::net::SocketAddr;

/// The client of a connection. Handlers find it in the request's extensions, as `ConnectInfo<Peer>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// A client of the TCP listener: a panel, a browser, or a proxy in front of them.
    Tcp(SocketAddr),
    /// A process on this host, connected to the unix socket.
    Local {
        /// Its user.
        uid: u32,
    },
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Tcp(address) => address.fmt(f),
            Peer::Local { uid } => write!(f, "local user {uid}"),
        }
    }
}
