//! Limits of the API's connections.

use std::time::Duration;

/// How many connections a listener serves, and its timeouts.
///
/// A request without the node's token is answered before its body is read, and an idle connection is closed: a client without
/// the token cannot use up the connections by doing nothing.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections of one listener at once. More of them wait in the kernel's queue: no client is refused, and connections over
    /// TCP cannot use up those of the unix socket.
    pub connections: usize,
    /// For the TLS handshake.
    pub handshake: Duration,
    /// For a connection on which no byte moves and no answer is worked on; over HTTP/1 also for the whole head of a request.
    pub idle: Duration,
    /// For a client that does nothing, after its idle connection was closed, before the connection is dropped.
    pub close: Duration,
    /// The same, once the daemon was asked to end.
    pub end: Duration,
}

impl Limits {
    /// The limits of the API.
    pub const API: Self = Self {
        connections: 512,
        handshake: Duration::from_secs(10),
        idle: Duration::from_secs(30),
        close: Duration::from_secs(5),
        end: Duration::from_secs(1),
    };
}
