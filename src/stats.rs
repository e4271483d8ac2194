//! What each server uses: for HTTP answers, and about once a second for listeners.
//!
//! A pass says which container of a server runs ([`Stats::observed`]); state and disk usage are those of the published status.
//! Nothing is sampled without a listener. One task samples all servers that have one, and ends with the last of them.

mod node;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use crate::clock::Clock;
use crate::config::NodeConfig;
use crate::model::{ContainerStatus, Manifest, PowerState, ServerId, Timestamp, Utilization};
use crate::store::Store;
use crate::tasks::Tasks;

pub use node::memory_bytes;

/// The time between two values for listeners.
const PERIOD: Duration = Duration::from_secs(1);

/// The statistics of all servers; clones share them.
#[derive(Clone)]
pub struct Stats {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    node: Arc<NodeConfig>,
    clock: Clock,
    tasks: Tasks,
    servers: Mutex<Servers>,
}

#[derive(Default)]
struct Servers {
    /// The running containers.
    running: BTreeMap<ServerId, Running>,
    /// The values of servers with listeners.
    listened: BTreeMap<ServerId, watch::Sender<Arc<Utilization>>>,
    /// The task that samples is running.
    sampling: bool,
}

/// The running container of a server.
struct Running {
    container: String,
    started_at: Option<Timestamp>,
}

/// Receives the values of a server. While one exists, the server is sampled.
pub struct Listener {
    values: watch::Receiver<Arc<Utilization>>,
}

impl Listener {
    /// Waits for the next value: about once a second while the server runs, and one at its end. Cancel-safe. `None` when the server
    /// is gone.
    pub async fn next(&mut self) -> Option<Arc<Utilization>> {
        self.values.changed().await.ok()?;
        Some(self.values.borrow_and_update().clone())
    }
}

impl Stats {
    /// Statistics of the servers of this store.
    pub fn new(store: Store, node: Arc<NodeConfig>, clock: Clock, tasks: Tasks) -> Self {
        Self { inner: Arc::new(Inner { store, node, clock, tasks, servers: Mutex::default() }) }
    }

    /// This is the running container of a server, whose status was published before.
    pub fn observed(&self, id: ServerId, container: Option<&ContainerStatus>) {
        let mut servers = self.inner.servers();
        let Some(container) = container else {
            if servers.running.remove(&id).is_some()
                && let Some(values) = servers.listened.get(&id)
            {
                let last = self.inner.current(&servers, id);
                values.send_replace(Arc::new(last));
            }
            return;
        };
        if servers.running.get(&id).is_none_or(|known| known.container != container.id) {
            let running = Running { container: container.id.clone(), started_at: container.started_at };
            servers.running.insert(id, running);
        }
    }

    /// The server is gone: its listeners end.
    pub fn remove(&self, id: ServerId) {
        let mut servers = self.inner.servers();
        servers.running.remove(&id);
        servers.listened.remove(&id);
    }

    /// Subscribes to the values of a server from now on.
    pub fn listen(&self, id: ServerId) -> Listener {
        let mut servers = self.inner.servers();
        let current = self.inner.current(&servers, id);
        let values = servers.listened.entry(id).or_insert_with(|| watch::Sender::new(Arc::new(current))).subscribe();
        if !std::mem::replace(&mut servers.sampling, true) {
            let inner = self.inner.clone();
            self.inner.tasks.spawn("statistics", async move { inner.sample().await });
        }
        Listener { values }
    }

    /// What a server uses now. It never waits for the container engine.
    pub async fn read(&self, id: ServerId) -> Utilization {
        self.inner.current(&self.inner.servers(), id)
    }

    /// The same of many servers.
    pub async fn read_all(&self, ids: &[ServerId]) -> Vec<Utilization> {
        let servers = self.inner.servers();
        ids.iter().map(|id| self.inner.current(&servers, *id)).collect()
    }
}

impl Inner {
    fn servers(&self) -> MutexGuard<'_, Servers> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Publishes the values of all servers with listeners, until there are none.
    async fn sample(self: Arc<Self>) {
        let mut period = tokio::time::interval(PERIOD);
        period.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            period.tick().await;
            let mut servers = self.servers();
            servers.listened.retain(|_, values| values.receiver_count() > 0);
            if servers.listened.is_empty() {
                servers.sampling = false;
                return;
            }
            for (id, values) in servers.listened.iter().filter(|(id, _)| servers.running.contains_key(id)) {
                values.send_replace(Arc::new(self.current(&servers, *id)));
            }
        }
    }

    fn current(&self, servers: &Servers, id: ServerId) -> Utilization {
        let status = self.store.status(id);
        let (state, disk_bytes) = status.map(|status| (status.state, status.disk_bytes)).unwrap_or_default();
        let uptime = match state {
            PowerState::Offline => 0,
            _ => self.uptime(servers.running.get(&id)),
        };
        Utilization { memory_limit_bytes: self.memory_limit(id), uptime, state, disk_bytes, ..Utilization::default() }
    }

    /// In milliseconds, at least 1.
    fn uptime(&self, running: Option<&Running>) -> u64 {
        let started_at = running.and_then(|running| running.started_at);
        let uptime = started_at.map_or(Duration::ZERO, |started_at| self.clock.now().since(started_at));
        u64::try_from(uptime.as_millis()).unwrap_or(u64::MAX).max(1)
    }

    fn memory_limit(&self, id: ServerId) -> u64 {
        let snapshot = self.store.get(id);
        let manifest = snapshot.as_ref().and_then(|snapshot| snapshot.manifest.as_deref());
        let mib = manifest.map_or(0, |manifest: &Manifest| manifest.spec.settings.build.memory_limit.max(0));
        let limit = u64::try_from(self.node.overhead.memory_limit_bytes(mib)).unwrap_or(0);
        if limit == 0 { memory_bytes() } else { limit }
    }
}
