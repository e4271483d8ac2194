//! The open sockets of each server: counted, and closed together.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

use crate::model::ServerId;

/// Most open sockets of a server, of all users together. Source: websocket, "Connecting".
const MAX_OPEN: usize = 30;

/// The open sockets of the node; clones share them.
#[derive(Clone, Default)]
pub struct Sockets {
    servers: Arc<Mutex<BTreeMap<ServerId, Open>>>,
}

/// The open sockets of a server.
#[derive(Default)]
struct Open {
    count: usize,
    /// Closes those that were opened so far.
    close: CancellationToken,
}

/// An open socket, until it is dropped.
pub struct Slot {
    sockets: Sockets,
    server: ServerId,
    /// Cancelled when the socket is to be closed.
    pub closed: CancellationToken,
}

impl Sockets {
    /// Opens a socket; `None` if the server has too many.
    pub fn open(&self, server: ServerId) -> Option<Slot> {
        let mut servers = self.servers();
        let open = servers.entry(server).or_default();
        if open.count >= MAX_OPEN {
            return None;
        }
        open.count += 1;
        Some(Slot { sockets: self.clone(), server, closed: open.close.clone() })
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

impl Drop for Slot {
    fn drop(&mut self) {
        let mut servers = self.sockets.servers();
        if let Some(open) = servers.get_mut(&self.server) {
            open.count -= 1;
            if open.count == 0 {
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
