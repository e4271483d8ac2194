//! What each server uses: for HTTP answers, and about once a second for listeners.
//!
//! A pass says which container of a server runs ([`Stats::observed`]); the state is that of the published status,
//! and the disk usage that of the server's account, which is measured again where it is old.
//! Nothing is read without a listener or a caller. One task samples all servers that have a listener, and ends with the last of them.
//!
//! The counters come from the kernel where this process can see them, and are shared by all who ask within a moment. Elsewhere the
//! engine is asked in the background, and its latest answer counts: no caller waits for the engine.

mod gauge;
mod node;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};

use crate::clock::Clock;
use crate::config::NodeConfig;
use crate::files::DiskAccounts;
use crate::model::{ContainerStatus, PowerState, ServerId, Timestamp, Utilization};
use crate::runtime::{Counters, Runtime};
use crate::store::Store;
use crate::tasks::{TaskHandle, Tasks};
use gauge::{Gauge, Question};
use node::NodeGauge;
pub use node::{Disk, NodeUtilization, kernel, memory_bytes, os_name};

/// The time between two values for listeners.
const PERIOD: Duration = Duration::from_secs(1);
/// Containers for which the engine is asked at once.
const ENGINE_CALLS: usize = 8;

/// The statistics of all servers; clones share them.
#[derive(Clone)]
pub struct Stats {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    runtime: Arc<dyn Runtime>,
    node: Arc<NodeConfig>,
    clock: Clock,
    tasks: Tasks,
    servers: Mutex<Servers>,
    node_gauge: NodeGauge,
    accounts: DiskAccounts,
}

#[derive(Default)]
struct Servers {
    /// The running containers.
    running: BTreeMap<ServerId, Arc<Gauge>>,
    /// The values of servers with listeners.
    listened: BTreeMap<ServerId, watch::Sender<Arc<Utilization>>>,
    /// The task that samples.
    sampler: Option<TaskHandle>,
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
    /// Statistics of the servers of this store, whose containers this runtime has.
    pub fn new(
        store: Store,
        runtime: Arc<dyn Runtime>,
        node: Arc<NodeConfig>,
        clock: Clock,
        tasks: Tasks,
        accounts: DiskAccounts,
    ) -> Self {
        let (servers, node_gauge) = (Mutex::default(), NodeGauge::default());
        Self { inner: Arc::new(Inner { store, runtime, node, clock, tasks, servers, node_gauge, accounts }) }
    }

    /// This is the running container of a server, whose status was published before.
    pub fn observed(&self, id: ServerId, container: Option<&ContainerStatus>) {
        let mut servers = self.inner.servers();
        match container {
            Some(container) if servers.running.get(&id).is_some_and(|known| known.is_of(container)) => {}
            Some(container) => {
                servers.running.insert(id, Arc::new(Gauge::new(container.clone())));
            }
            None => {
                let ended = servers.running.remove(&id).is_some();
                if let Some(values) = servers.listened.get(&id).filter(|_| ended) {
                    values.send_replace(Arc::new(self.inner.current(&servers, id)));
                }
            }
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
        let values = servers.listened.entry(id).or_default().subscribe();
        if servers.sampler.as_ref().is_none_or(TaskHandle::is_finished) {
            let inner = self.inner.clone();
            servers.sampler = Some(self.inner.tasks.spawn("statistics", inner.sample()));
        }
        Listener { values }
    }

    /// What a server uses now. It does not wait for the container engine.
    pub async fn read(&self, id: ServerId) -> Utilization {
        self.inner.refresh(&[id]).await;
        self.inner.current(&self.inner.servers(), id)
    }

    /// The same of many servers.
    pub async fn read_all(&self, ids: &[ServerId]) -> Vec<Utilization> {
        self.inner.refresh(ids).await;
        let servers = self.inner.servers();
        ids.iter().map(|id| self.inner.current(&servers, *id)).collect()
    }

    /// What the node uses now.
    pub async fn node(&self) -> NodeUtilization {
        let inner = &self.inner;
        inner.node_gauge.measure(&inner.node.directories, inner.store.blocking()).await
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
            let Some(ids) = self.servers().listened() else { return };
            self.measure(&ids).await;
            let servers = self.servers();
            for (id, values) in servers.listened.iter().filter(|(id, _)| servers.running.contains_key(id)) {
                values.send_replace(Arc::new(self.current(&servers, *id)));
            }
        }
    }

    /// Brings the readings of these servers up to date. A load needs two readings with a short time between them. The first one is
    /// taken of all servers at once, because a panel asks for the servers of a page one after the other.
    async fn refresh(&self, ids: &[ServerId]) {
        let cold = self.servers().cold(ids, Instant::now());
        if !cold.is_empty() {
            self.measure(&cold).await;
        }
        let ready_at = self.servers().running(ids).filter_map(|(_, gauge)| gauge.ready_at()).max();
        if let Some(ready_at) = ready_at {
            tokio::time::sleep_until(ready_at).await;
        }
        self.measure(ids).await;
    }

    /// Takes the readings that are due.
    async fn measure(&self, ids: &[ServerId]) {
        let now = Instant::now();
        let due: Vec<(Arc<Gauge>, bool)> = {
            let servers = self.servers();
            let due = servers.running(ids).filter(|(_, gauge)| gauge.is_due(now));
            due.map(|(id, gauge)| (gauge.clone(), servers.listened.contains_key(&id))).collect()
        };
        if due.is_empty() {
            return;
        }
        let runtime = self.runtime.clone();
        let read = move || {
            due.iter().for_each(|(gauge, keep_open)| gauge.read(&*runtime, *keep_open));
            due.into_iter().filter_map(|(gauge, _)| Question::of(gauge)).collect()
        };
        let questions = self.store.blocking().run(read).await;
        self.ask_engine(questions);
    }

    /// Asks the engine for the counters of containers in the background.
    fn ask_engine(&self, questions: Vec<Question>) {
        if questions.is_empty() {
            return;
        }
        let runtime = self.runtime.clone();
        self.tasks.spawn("statistics of the engine", async move {
            let answers = futures_util::stream::iter(questions).map(|question| {
                let runtime = runtime.clone();
                async move { (runtime.counters(question.container()).await, question) }
            });
            let mut answers = answers.buffer_unordered(ENGINE_CALLS);
            while let Some((answer, question)) = answers.next().await {
                match answer {
                    Ok(counters) => question.answered(counters),
                    Err(error) => tracing::debug!(%error, "no statistics of a container"),
                }
            }
        });
    }

    fn current(&self, servers: &Servers, id: ServerId) -> Utilization {
        let status = self.store.status(id);
        let (state, disk_bytes) = status.map(|status| (status.state, status.disk_bytes)).unwrap_or_default();
        // For listeners and callers alone: without them, only the files of servers with a limit are measured.
        if let Some(interval) = self.node.disk_check_interval {
            let age = if state == PowerState::Offline { Duration::MAX } else { interval };
            self.accounts.measure_if_older(id, age);
        }
        let disk_bytes = self.accounts.estimated(id).unwrap_or(disk_bytes);
        let offline = Utilization { state, disk_bytes, ..Utilization::default() };
        if state == PowerState::Offline {
            return Utilization { memory_limit_bytes: self.memory_limit(id), ..offline };
        }
        let gauge = servers.running.get(&id);
        let uptime = self.uptime(gauge.and_then(|gauge| gauge.container.started_at));
        let Some(latest) = gauge.and_then(|gauge| gauge.latest()) else {
            return Utilization { memory_limit_bytes: self.memory_limit(id), uptime, ..offline };
        };
        let Counters { memory_bytes: used, memory_limit_bytes, network, disk_io, .. } = latest.counters;
        let host = memory_bytes();
        Utilization {
            memory_bytes: used,
            memory_limit_bytes: memory_limit_bytes.map_or(host, |limit| limit.min(host)),
            cpu_absolute: latest.load.unwrap_or_default(),
            network,
            disk_io,
            uptime,
            ..offline
        }
    }

    /// In milliseconds, at least 1.
    fn uptime(&self, started_at: Option<Timestamp>) -> u64 {
        let uptime = started_at.map_or(Duration::ZERO, |started_at| self.clock.now().since(started_at));
        u64::try_from(uptime.as_millis()).unwrap_or(u64::MAX).max(1)
    }

    /// The limit that the server's next container gets.
    fn memory_limit(&self, id: ServerId) -> u64 {
        let snapshot = self.store.get(id);
        let manifest = snapshot.as_ref().and_then(|snapshot| snapshot.manifest.as_deref());
        let mib = manifest.map_or(0, |manifest| manifest.spec.settings.build.memory_limit.max(0));
        let limit = u64::try_from(self.node.overhead.memory_limit_bytes(mib)).unwrap_or(0);
        if limit == 0 { memory_bytes() } else { limit }
    }
}

impl Servers {
    /// The running containers of these servers.
    fn running(&self, ids: &[ServerId]) -> impl Iterator<Item = (ServerId, &Arc<Gauge>)> {
        ids.iter().filter_map(|id| Some((*id, self.running.get(id)?)))
    }

    /// All servers without a recent reading, if one of these has none.
    fn cold(&self, ids: &[ServerId], now: Instant) -> Vec<ServerId> {
        if !self.running(ids).any(|(_, gauge)| gauge.is_cold(now)) {
            return Vec::new();
        }
        self.running.iter().filter(|(_, gauge)| gauge.is_cold(now)).map(|(id, _)| *id).collect()
    }

    /// The servers with listeners. `None` if there are none, and the sampler ends.
    fn listened(&mut self) -> Option<Vec<ServerId>> {
        let running = &self.running;
        self.listened.retain(|id, values| {
            let kept = values.receiver_count() > 0;
            if let Some(gauge) = running.get(id).filter(|_| !kept) {
                gauge.close();
            }
            kept
        });
        if self.listened.is_empty() {
            self.sampler = None;
            return None;
        }
        Some(self.listened.keys().copied().collect())
    }
}
