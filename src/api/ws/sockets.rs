//! The open sockets of each server: counted, and closed together.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::model::ServerId;

/// Most open sockets of a server, of all users together. Source: websocket, "Connecting".
const MAX_OPEN: usize = 30;
/// How long a socket without a token keeps its place when another one is opened beyond the limit.
const ANONYMOUS: Duration = Duration::from_secs(30);

/// The open sockets of the node; clones share them.
#[derive(Clone, Default)]
pub struct Sockets {
    servers: Arc<Mutex<BTreeMap<ServerId, Open>>>,
}

/// The open sockets of a server.
#[derive(Default)]
struct Open {
    /// By their numbers, which grow.
    sockets: BTreeMap<u64, Socket>,
    next: u64,
    /// Closes those that were opened so far.
    close: CancellationToken,
}

struct Socket {
    opened: Instant,
    authenticated: bool,
    close: CancellationToken,
}

impl Open {
    /// Whether there is a place for one more socket. The oldest one without a token gives its own up after [`ANONYMOUS`], so that
    /// sockets that never authenticate do not lock out those that would.
    fn has_place(&mut self) -> bool {
        if self.sockets.len() < MAX_OPEN {
            return true;
        }
        let stale = |socket: &Socket| !socket.authenticated && socket.opened.elapsed() >= ANONYMOUS;
        let Some(number) = self.sockets.iter().find(|(_, socket)| stale(socket)).map(|(number, _)| *number) else {
            return false;
        };
        if let Some(socket) = self.sockets.remove(&number) {
            socket.close.cancel();
        }
        true
    }
}

/// An open socket, until it is dropped.
pub struct Slot {
    sockets: Sockets,
    server: ServerId,
    number: u64,
    /// Cancelled when the socket is to be closed.
    pub closed: CancellationToken,
}

impl Sockets {
    /// Opens a socket; `None` if the server has too many.
    pub fn open(&self, server: ServerId) -> Option<Slot> {
        let mut servers = self.servers();
        let open = servers.entry(server).or_default();
        if !open.has_place() {
            return None;
        }
        let (number, closed) = (open.next, open.close.child_token());
        open.next += 1;
        let socket = Socket { opened: Instant::now(), authenticated: false, close: closed.clone() };
        open.sockets.insert(number, socket);
        Some(Slot { sockets: self.clone(), server, number, closed })
    }

    /// Closes the sockets of a server.
    pub fn close(&self, server: ServerId) {
        if let Some(open) = self.servers().get_mut(&server) {
            std::mem::take(&mut open.close).cancel();
        }
    }

    /// Closes the sockets of all servers.
    pub fn close_all(&self) {
        self.servers().values_mut().for_each(|open| std::mem::take(&mut open.close).cancel());
    }

    fn servers(&self) -> MutexGuard<'_, BTreeMap<ServerId, Open>> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    /// The socket has shown a valid token.
    pub fn authenticated(&self) {
        let mut servers = self.sockets.servers();
        let socket = servers.get_mut(&self.server).and_then(|open| open.sockets.get_mut(&self.number));
        if let Some(socket) = socket {
            socket.authenticated = true;
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut servers = self.sockets.servers();
        if let Some(open) = servers.get_mut(&self.server) {
            open.sockets.remove(&self.number);
            if open.sockets.is_empty() {
                servers.remove(&self.server);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(number: u128) -> ServerId {
        ServerId::new(uuid::Uuid::from_u128(number))
    }

    #[test]
    fn a_server_has_a_limited_number_of_sockets() {
        let sockets = Sockets::default();
        let mut open: Vec<Slot> = (0..MAX_OPEN).map(|_| sockets.open(server(1)).unwrap()).collect();
        assert!(sockets.open(server(1)).is_none());
        assert!(sockets.open(server(2)).is_some());
        open.pop();
        open.push(sockets.open(server(1)).unwrap());
        assert!(sockets.open(server(1)).is_none());
        drop(open);
        assert!(sockets.servers().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn sockets_without_a_token_lock_none_out() {
        let sockets = Sockets::default();
        let open: Vec<Slot> = (0..MAX_OPEN).map(|_| sockets.open(server(1)).unwrap()).collect();
        open[0].authenticated();
        assert!(sockets.open(server(1)).is_none(), "they have just been opened");
        tokio::time::advance(ANONYMOUS).await;
        let one = sockets.open(server(1)).unwrap();
        let closed: Vec<bool> = open.iter().map(|slot| slot.closed.is_cancelled()).collect();
        assert!(!closed[0] && closed[1] && !closed[2]);
        drop(open);
        assert!(!one.closed.is_cancelled());
        assert_eq!(sockets.servers()[&server(1)].sockets.len(), 1);
        drop(one);
        assert!(sockets.servers().is_empty());
    }

    #[test]
    fn the_sockets_of_a_server_are_closed_together_and_later_ones_are_not() {
        let sockets = Sockets::default();
        let (one, other) = (sockets.open(server(1)).unwrap(), sockets.open(server(2)).unwrap());
        sockets.close(server(1));
        sockets.close(server(3));
        let later = sockets.open(server(1)).unwrap();
        assert!(one.closed.is_cancelled() && !other.closed.is_cancelled() && !later.closed.is_cancelled());
        sockets.close_all();
        assert!(other.closed.is_cancelled() && later.closed.is_cancelled());
    }
}
