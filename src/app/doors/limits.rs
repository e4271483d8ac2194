//! How many clients the API serves, and how long it waits for them.

use std::time::Duration;

/// What clients are granted.
///
/// A request without the node's token is answered before its body is read, and what is idle is closed. So nobody without the
/// token holds a connection by doing nothing, and a client that waits for its turn gets it.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections of one listener at once. More of them wait in the kernel's queue: no client is refused, and the unix socket
    /// stays free whatever comes over TCP.
    pub connections: usize,
    /// For agreeing on TLS.
    pub handshake: Duration,
    /// For doing nothing: no byte moves, and no answer is worked on. For the head of a request over HTTP/1 it is all there is.
    pub idle: Duration,
    /// For doing nothing instead of letting go of a connection after it was closed for being idle.
    pub close: Duration,
    /// The same, once the daemon was asked to end.
    pub end: Duration,
}

impl Limits {
    /// Those of the API.
    pub const API: Self = Self {
        connections: 512,
        handshake: Duration::from_secs(10),
        idle: Duration::from_secs(30),
        close: Duration::from_secs(5),
        end: Duration::from_secs(1),
    };
}
