//! Limits of the API's connections.

use std::time::Duration;

/// How many connections a listener serves, and its timeouts.
///
/// A request without the node's token is answered before its body is read, and an idle connection is closed: a client without
/// the token cannot use up the connections by doing nothing.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections of one listener at once. Further clients wait in the kernel's queue. TCP clients do not use up the connections of
    /// the unix socket.
    pub connections: usize,
    /// Timeout of the TLS handshake.
    pub handshake: Duration,
    /// Timeout of a connection on which no byte moves and no handler works; over HTTP/1 also of the whole head of a request.
    pub idle: Duration,
    /// Time between the close of an idle connection and its drop, for a client that does not react.
    pub close: Duration,
    /// The same, while the daemon ends.
    pub end: Duration,
}

impl Limits {
    /// The API's limits.
    pub const API: Self = Self {
        connections: 512,
        handshake: Duration::from_secs(10),
        idle: Duration::from_secs(30),
        close: Duration::from_secs(5),
        end: Duration::from_secs(1),
    };
}
