//! Live events of servers: a bounded broadcast for each server, and one for the node.
//!
//! The store publishes events, states and conditions, the console its lines, the reconciler the installer's output. A server's
//! broadcast contains all of them, the node's broadcast all except output. Publishing never waits, and creates no event without a
//! subscriber. Lines that are printed together are one event, which contains their frames for all websockets. A slow subscriber
//! gets the number of missed lines and events ([`EventKind::Lagged`]).

pub mod frames;
mod ring;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard};

use serde::{Deserialize, Serialize};
use strum::IntoStaticStr;
use uuid::Uuid;

use self::frames::Output;
use self::ring::{Pool, Received, Receiver, Ring, Weigh};
use crate::clock::Clock;
use crate::model::status;
use crate::model::{Condition, PowerState, Reason, ServerId, Timestamp};

/// Bytes that are kept for slow subscribers of a server: 200,000 lines of 100 characters. See [`Pool`] for the limit of all.
const SERVER_BYTES: usize = 34 << 20;
/// Bytes that are kept for slow subscribers of the node's broadcast.
const NODE_BYTES: usize = 1 << 20;
/// Bytes of an event without its texts.
const EVENT_BYTES: usize = 512;

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
    /// The server printed lines.
    #[serde(skip)]
    Console(Output),
    /// The daemon added a line to the server's console.
    Daemon {
        /// Without the prefix.
        line: Arc<str>,
        /// See [`Handover`](crate::console::Handover).
        #[serde(skip)]
        number: u64,
    },
    /// The installer printed lines, which are in the install log unless that is full; or the engine reports how an image is pulled.
    #[serde(skip)]
    Install(Output),
    /// An installation that runs a script has begun.
    #[serde(skip)]
    InstallBegun,
    /// The install script runs.
    #[serde(skip)]
    InstallerStarted,
    /// An installation has ended, with or without success.
    #[serde(skip)]
    InstallEnded,
    /// A line announced a feature of the server's egg.
    #[serde(skip)]
    FeatureMatch(FeatureMatch),
    /// The panel has the result of a backup.
    #[serde(skip)]
    BackupCompleted(BackupEnd),
    /// Progress of a restore, for users.
    #[serde(skip)]
    Notice(Arc<str>),
    /// A restore has ended, with or without success, and the panel has its result.
    #[serde(skip)]
    RestoreCompleted,
    /// How far a transfer is.
    #[serde(skip)]
    TransferStatus(TransferStatus),
    /// A line of a transfer, for administrators.
    #[serde(skip)]
    TransferLog(Arc<str>),
    /// The server was suspended.
    #[serde(skip)]
    Suspended,
    /// The server is deleted. No event follows.
    #[serde(skip)]
    Deleted,
    /// The subscriber was too slow.
    Lagged {
        /// Lines count one each, as other events do.
        missed: u64,
    },
}

/// How far a transfer is. Source: websocket, "Outbound events".
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
pub enum TransferStatus {
    /// The source sends the server.
    Processing,
    /// It is being cancelled.
    Cancelling,
    /// The server stays where it was.
    Failure,
    /// The server is here.
    Success,
    /// The server has left.
    Completed,
}

/// A line that contains a text of one of the egg's features.
#[allow(missing_docs)]
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FeatureMatch {
    /// The feature.
    pub key: String,
    pub line: String,
    /// The text, as the egg has it.
    pub pattern: String,
}

/// The end of a backup, as browsers read it. Source: websocket, "Outbound events".
#[allow(missing_docs)]
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BackupEnd {
    pub checksum: String,
    pub checksum_type: &'static str,
    pub file_size: u64,
    pub is_successful: bool,
    pub uuid: Uuid,
}

impl Weigh for Arc<ServerEvent> {
    fn bytes(&self) -> usize {
        EVENT_BYTES
            + match &self.kind {
                EventKind::Console(output) | EventKind::Install(output) => output.bytes(),
                EventKind::Event { message, .. } => message.len(),
                EventKind::Condition { condition } => condition.message.len(),
                EventKind::Daemon { line, .. } | EventKind::Notice(line) | EventKind::TransferLog(line) => line.len(),
                EventKind::FeatureMatch(feature) => feature.key.len() + feature.line.len() + feature.pattern.len(),
                _ => 0,
            }
    }

    fn count(&self) -> u64 {
        match &self.kind {
            EventKind::Console(output) | EventKind::Install(output) => output.count(),
            _ => 1,
        }
    }
}

/// All broadcasts of the node; clones share them.
#[derive(Clone)]
pub struct Events {
    inner: Arc<Inner>,
}

/// The server of a broadcast, or `None` for the node's.
type Scope = Option<ServerId>;
type Channels = BTreeMap<Scope, Arc<Ring<Arc<ServerEvent>>>>;

struct Inner {
    clock: Clock,
    /// The highest number of an event.
    last_number: AtomicU64,
    /// Broadcasts with subscribers.
    channels: RwLock<Channels>,
    /// What all broadcasts hold for slow subscribers.
    pool: Pool,
}

impl Events {
    /// Broadcasts without subscribers.
    pub fn new(clock: Clock) -> Self {
        Self {
            inner: Arc::new(Inner {
                clock,
                last_number: AtomicU64::new(0),
                channels: RwLock::default(),
                pool: Pool::default(),
            }),
        }
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
        let max_bytes = if scope.is_some() { SERVER_BYTES } else { NODE_BYTES };
        let mut channels = self.inner.channels();
        let receiver = Receiver::new(
            channels.entry(scope).or_insert_with(|| Ring::new(max_bytes, self.inner.pool.clone())).clone(),
        );
        drop(channels);
        Subscription { events: self.clone(), scope, receiver: Some(receiver) }
    }

    /// Whether a server's broadcast has subscribers.
    pub fn is_watched(&self, server: ServerId) -> bool {
        self.inner.channels.read().unwrap_or_else(PoisonError::into_inner).contains_key(&Some(server))
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
            channel.send(event.clone());
        }
    }

    /// Whether any broadcast has a subscriber.
    pub fn has_subscribers(&self) -> bool {
        !self.inner.channels.read().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Ends a server's broadcast after the server was removed.
    pub fn remove(&self, server: ServerId) {
        self.publish_output(server, || EventKind::Deleted);
        let channel = self.inner.channels().remove(&Some(server));
        if let Some(channel) = channel {
            channel.close();
        }
    }
}

impl Inner {
    fn channels(&self) -> RwLockWriteGuard<'_, Channels> {
        self.channels.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes a broadcast without subscribers.
    fn remove_unused(&self, scope: Scope) {
        let mut channels = self.channels();
        if channels.get(&scope).is_some_and(|channel| channel.receivers() == 0) {
            channels.remove(&scope);
        }
    }
}

/// The receiver of a broadcast.
pub struct Subscription {
    events: Events,
    scope: Scope,
    /// `None` during the drop.
    receiver: Option<Receiver<Arc<ServerEvent>>>,
}

impl Subscription {
    /// The next event; `None` after the server was removed. Cancel safe.
    pub async fn recv(&mut self) -> Option<Arc<ServerEvent>> {
        let received = self.receiver.as_mut()?.recv().await?;
        Some(self.event(received))
    }

    /// The next event, if it was published already.
    pub fn try_recv(&mut self) -> Option<Arc<ServerEvent>> {
        let received = self.receiver.as_mut()?.try_recv().ok()?;
        Some(self.event(received))
    }

    fn event(&self, received: Received<Arc<ServerEvent>>) -> Arc<ServerEvent> {
        match received {
            Received::Value(event) => event,
            Received::Missed(missed) => {
                let kind = EventKind::Lagged { missed };
                Arc::new(ServerEvent { uuid: self.scope, at: self.events.inner.clock.now(), kind })
            }
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        // Unsubscribe before the count. The broadcast of this scope may be a newer one with subscribers.
        self.receiver = None;
        self.events.inner.remove_unused(self.scope);
    }
}

#[cfg(test)]
mod tests;
