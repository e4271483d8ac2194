//! Live events of servers: a bounded broadcast for each server, and one for the node.
//!
//! The store publishes events, states and conditions, the console its lines, the reconciler the installer's output. A server's
//! broadcast contains all of them, the node's broadcast all except output. Publishing never waits, and creates no event without a
//! subscriber. A slow subscriber gets the number of missed events ([`EventKind::Lagged`]).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard};

use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};

use crate::clock::Clock;
use crate::model::status;
use crate::model::{Condition, PowerState, Reason, ServerId, Timestamp};

/// Events that are kept for a slow subscriber. A busy console publishes hundreds of lines at once.
const CAPACITY: usize = 1024;

/// An event of a server or of the node.
#[allow(missing_docs)]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerEvent {
    /// Absent in [`EventKind::Lagged`] of the node's broadcast.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uuid: Option<ServerId>,
    pub at: Timestamp,
    #[serde(flatten)]
    pub kind: EventKind,
}

/// The type and content of an event.
#[allow(missing_docs)]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum EventKind {
    /// An event was added to the server's status.
    Event {
        /// See [`Event::number`](crate::model::Event::number).
        #[serde(default)]
        number: u64,
        reason: Reason,
        message: String,
        /// Consecutive occurrences.
        count: u32,
    },
    /// The state that is reported to the panel has changed.
    State { state: PowerState },
    /// A condition is new, or has another status, reason or message.
    Condition { condition: Condition },
    /// The server printed a line.
    Console {
        /// See [`display_text`](crate::runtime::lines::display_text).
        line: Arc<str>,
        /// See [`Handover`](crate::console::Handover).
        #[serde(skip)]
        number: u64,
    },
    /// The daemon added a line to the server's console.
    Daemon {
        /// Without the prefix.
        line: Arc<str>,
        #[serde(skip)]
        number: u64,
    },
    /// The installer printed a line, which is in the install log unless that is full.
    Install { line: Arc<str> },
    /// The subscriber was too slow.
    Lagged { missed: u64 },
}

/// All broadcasts of the node; clones share them.
#[derive(Clone)]
pub struct Events {
    inner: Arc<Inner>,
}

/// The server of a broadcast, or `None` for the node's.
type Scope = Option<ServerId>;

struct Inner {
    clock: Clock,
    /// The highest number of an event.
    last_number: AtomicU64,
    /// Broadcasts with subscribers.
    channels: RwLock<BTreeMap<Scope, broadcast::Sender<Arc<ServerEvent>>>>,
}

impl Events {
    /// Broadcasts without subscribers.
    pub fn new(clock: Clock) -> Self {
        Self { inner: Arc::new(Inner { clock, last_number: AtomicU64::new(0), channels: RwLock::default() }) }
    }

    /// A number for an event at this time, higher than each one before.
    pub fn next_number(&self, at: Timestamp) -> u64 {
        let next = |last| Some(status::next_number(last, at));
        let last = self.inner.last_number.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        status::next_number(last.unwrap_or_default(), at)
    }

    /// An earlier run of the daemon has given out this number.
    pub fn number_is_used(&self, number: u64) {
        self.inner.last_number.fetch_max(number, Ordering::Relaxed);
    }

    /// Subscribes to all events of a server. Check afterwards that the server exists: a broadcast ends when its server is removed,
    /// and one of an unknown server never ends.
    pub fn subscribe(&self, server: ServerId) -> Subscription {
        self.subscribe_to(Some(server))
    }

    /// Subscribes to events, states and conditions of all servers.
    pub fn subscribe_to_all(&self) -> Subscription {
        self.subscribe_to(None)
    }

    fn subscribe_to(&self, scope: Scope) -> Subscription {
        let mut channels = self.inner.channels();
        let receiver = channels.entry(scope).or_insert_with(|| broadcast::channel(CAPACITY).0).subscribe();
        drop(channels);
        Subscription { events: self.clone(), scope, receiver: Some(receiver) }
    }

    /// Publishes an event, state or condition with this time or the current one. Calls `make` if there is a subscriber.
    pub fn publish(&self, server: ServerId, at: Option<Timestamp>, make: impl FnOnce() -> EventKind) {
        self.send(server, at, &[Some(server), None], make);
    }

    /// Publishes output of a server to its own broadcast. Calls `make` if there is a subscriber.
    pub fn publish_output(&self, server: ServerId, make: impl FnOnce() -> EventKind) {
        self.send(server, None, &[Some(server)], make);
    }

    fn send(&self, server: ServerId, at: Option<Timestamp>, scopes: &[Scope], make: impl FnOnce() -> EventKind) {
        let channels = self.inner.channels.read().unwrap_or_else(PoisonError::into_inner);
        let mut channels = scopes.iter().filter_map(|scope| channels.get(scope)).peekable();
        if channels.peek().is_none() {
            return;
        }
        let at = at.unwrap_or_else(|| self.inner.clock.now());
        let event = Arc::new(ServerEvent { uuid: Some(server), at, kind: make() });
        for channel in channels {
            // It fails only if the last subscriber has just unsubscribed.
            let _ = channel.send(event.clone());
        }
    }

    /// Whether any broadcast has a subscriber.
    pub fn has_subscribers(&self) -> bool {
        !self.inner.channels.read().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Ends a server's broadcast after the server was removed.
    pub fn remove(&self, server: ServerId) {
        self.inner.channels().remove(&Some(server));
    }
}

impl Inner {
    fn channels(&self) -> RwLockWriteGuard<'_, BTreeMap<Scope, broadcast::Sender<Arc<ServerEvent>>>> {
        self.channels.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn remove_if(&self, scope: Scope, due: impl FnOnce(&broadcast::Sender<Arc<ServerEvent>>) -> bool) {
        let mut channels = self.channels();
        if channels.get(&scope).is_some_and(due) {
            channels.remove(&scope);
        }
    }
}

/// The receiver of a broadcast.
pub struct Subscription {
    events: Events,
    scope: Scope,
    /// `None` during the drop.
    receiver: Option<broadcast::Receiver<Arc<ServerEvent>>>,
}

impl Subscription {
    /// The next event; `None` after the server was removed. Cancel safe.
    pub async fn recv(&mut self) -> Option<Arc<ServerEvent>> {
        match self.receiver.as_mut()?.recv().await {
            Ok(event) => Some(event),
            Err(RecvError::Lagged(missed)) => Some(self.lagged(missed)),
            Err(RecvError::Closed) => None,
        }
    }

    /// The next event, if it was published already.
    pub fn try_recv(&mut self) -> Option<Arc<ServerEvent>> {
        match self.receiver.as_mut()?.try_recv() {
            Ok(event) => Some(event),
            Err(TryRecvError::Lagged(missed)) => Some(self.lagged(missed)),
            Err(TryRecvError::Empty | TryRecvError::Closed) => None,
        }
    }

    fn lagged(&self, missed: u64) -> Arc<ServerEvent> {
        let kind = EventKind::Lagged { missed };
        Arc::new(ServerEvent { uuid: self.scope, at: self.events.inner.clock.now(), kind })
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        // Unsubscribe before the count. The broadcast of this scope may be a newer one with subscribers.
        self.receiver = None;
        self.events.inner.remove_if(self.scope, |channel| channel.receiver_count() == 0);
    }
}

#[cfg(test)]
mod tests;
