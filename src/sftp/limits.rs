//! The numbers that bound what a client can use, and how often an address may fail to log in.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Connections of the node at once; further clients wait in the kernel's queue.
pub const CONNECTIONS: usize = 512;
/// Connections of the node that have not logged in yet, at once.
pub const LOGINS: usize = 128;
/// Connections of an address that have not logged in yet, at once.
pub const LOGINS_OF_ADDRESS: usize = 16;
/// Failed attempts of a connection.
pub const LOGIN_ATTEMPTS: usize = 6;
/// Calls to the panel of a connection: a client may offer keys that the panel accepts without having them.
pub const LOGIN_CALLS: usize = 12;
/// Time from the connection to the first attempt to log in.
pub const HANDSHAKE: Duration = Duration::from_secs(20);
/// Time from the connection to the login.
pub const LOGIN: Duration = Duration::from_secs(120);
/// Time for the panel's answer, with all attempts.
pub const PANEL: Duration = Duration::from_secs(20);
/// The least time that a rejection takes.
pub const REJECTION: Duration = Duration::from_millis(200);
/// A client that is quiet for so long is asked whether it is still there.
pub const KEEPALIVE: Duration = Duration::from_secs(60);
/// So many questions in a row may stay without an answer.
pub const KEEPALIVE_MAX: u32 = 3;
/// A connection whose client reads nothing for so long is closed.
pub const STALLED: Duration = Duration::from_secs(1800);
/// A connection on which nothing is requested for so long is closed.
pub const IDLE: Duration = Duration::from_secs(6 * 3600);
/// Channels of a connection at once.
pub const CHANNELS: usize = 10;
/// Open files and directories of a channel.
pub const HANDLES: usize = 256;
/// Bytes of requests that wait: from here on the client has to wait, too.
pub const BACKLOG: usize = 1 << 20;
/// Bytes of requests that wait while the client does not read answers; with more of them the channel is closed.
pub const MAX_BACKLOG: usize = 16 << 20;
/// Bytes of requests that wait on the node, above which no channel gets more than twice [`BACKLOG`].
pub const NODE_BACKLOG: usize = 256 << 20;
/// Bytes of answers after which they are sent, before the next request is handled.
pub const ANSWERS: usize = 256 << 10;
/// Time for a farewell to a client, after which its connection is cut.
pub const FAREWELL: Duration = Duration::from_secs(1);

/// Attempts of an address at once.
const BURST: u32 = 30;
/// After these, one in this time.
const INTERVAL: Duration = Duration::from_secs(2);
/// Addresses that are remembered.
const ADDRESSES: usize = 16_384;

/// Attempts to log in by address: a token bucket for each of them. Attempts that succeed do not count.
#[derive(Default)]
pub struct Attempts {
    /// When the bucket of an address is full again.
    full_at: Mutex<BTreeMap<IpAddr, Instant>>,
}

impl Attempts {
    /// Counts an attempt. Returns whether the address may make it.
    pub fn take(&self, address: IpAddr, now: Instant) -> bool {
        let mut buckets = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= ADDRESSES {
            buckets.retain(|_, full_at| *full_at > now);
        }
        let key = network(address);
        // There is no room for an attacker with more addresses: new ones are not limited, and the panel has a limit of its own.
        if buckets.len() >= ADDRESSES && !buckets.contains_key(&key) {
            return true;
        }
        let full_at = buckets.entry(key).or_insert(now);
        *full_at = (*full_at).max(now);
        let may = *full_at - now <= INTERVAL * (BURST - 1);
        if may {
            *full_at += INTERVAL;
        }
        may
    }

    /// Takes an attempt back, because it has succeeded.
    pub fn give_back(&self, address: IpAddr) {
        let mut buckets = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(full_at) = buckets.get_mut(&network(address)) {
            *full_at = full_at.checked_sub(INTERVAL).unwrap_or(*full_at);
        }
    }
}

/// The part of an address that belongs to one client: of IPv6 a network of 64 bits.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) & (u128::MAX << 64)).into()),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_has_a_burst_of_attempts_and_then_one_in_an_interval() {
        let (attempts, now) = (Attempts::default(), Instant::now());
        let one = address("192.0.2.1");
        assert_eq!((0..100).filter(|_| attempts.take(one, now)).count(), BURST as usize);
        assert!(attempts.take(address("192.0.2.2"), now));
        assert!(!attempts.take(one, now + INTERVAL - Duration::from_millis(1)));
        assert!(attempts.take(one, now + INTERVAL));
        assert!(!attempts.take(one, now + INTERVAL));
        attempts.give_back(one);
        assert!(attempts.take(one, now + INTERVAL));
    }

    #[test]
    fn an_ipv6_network_is_one_client_and_a_mapped_address_is_that_of_ipv4() {
        assert_eq!(network(address("2001:db8::1")), network(address("2001:db8::ffff:1")));
        assert_ne!(network(address("2001:db8::1")), network(address("2001:db8:0:1::1")));
        assert_eq!(network(address("::ffff:192.0.2.1")), address("192.0.2.1"));
    }

    #[test]
    fn the_addresses_that_are_remembered_are_limited() {
        let (attempts, now) = (Attempts::default(), Instant::now());
        for number in 0..2 * ADDRESSES as u32 {
            assert!(attempts.take(IpAddr::V4(number.into()), now));
        }
        assert_eq!(attempts.full_at.lock().unwrap().len(), ADDRESSES);
        attempts.take(address("203.0.113.1"), now + INTERVAL);
        assert_eq!(attempts.full_at.lock().unwrap().len(), 1);
    }
}
