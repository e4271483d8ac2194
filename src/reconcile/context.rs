//! What a reconciler works with: handles on the store, the runtime, the panel, the servers' files and terminals, and the
//! things that belong to the node as a whole (places for installations).

mod disk_scans;
mod files;
mod slots;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::observed::Policy;
use super::server_state::ServerState;
use crate::clock::Clock;
use crate::config::NodeConfig;
use crate::console::Console;
use crate::files::Layout;
use crate::ids::Ids;
use crate::model::ServerId;
use crate::panel::Panel;
use crate::retry::Jitter;
use crate::runtime::Runtime;
use crate::store::Store;
use crate::sync::PanelSync;
use crate::tasks::Tasks;

pub use disk_scans::{DiskScan, DiskScans};
pub use slots::InstallSlots;

/// Has a server looked at.
pub type Wake = Arc<dyn Fn(ServerId) + Send + Sync>;

/// Everything a pass and its jobs work with.
pub struct Context {
    /// Intent, facts, status.
    pub store: Store,
    /// Containers.
    pub runtime: Arc<dyn Runtime>,
    /// The panel protocol, where there is a panel.
    pub sync: Option<Arc<PanelSync>>,
    /// Terminals of running servers.
    pub console: Console,
    /// Where a server's files are.
    pub layout: Layout,
    /// The node's configuration.
    pub node: Arc<NodeConfig>,
    /// What decisions need of it.
    pub policy: Policy,
    /// The time.
    pub clock: Clock,
    /// Spreads retries.
    pub jitter: Arc<Jitter>,
    /// Names requests.
    pub ids: Ids,
    /// Who runs jobs.
    pub tasks: Tasks,
    /// Places for installations.
    pub slots: InstallSlots,
    /// Places for walks over servers' files.
    pub disk_scans: DiskScans,
    /// The kernel's release, for install logs.
    pub kernel: String,
    /// Has a server looked at again.
    pub wake: Wake,
    /// A pass has come to rest, see [`Context::wait_until`].
    rested: Notify,
    /// What is remembered of each server between passes.
    servers: Mutex<BTreeMap<ServerId, Arc<Mutex<ServerState>>>>,
}

/// What a [`Context`] is made from.
pub struct Parts {
    /// Intent, facts, status.
    pub store: Store,
    /// Containers.
    pub runtime: Arc<dyn Runtime>,
    /// The panel, where there is one.
    pub panel: Option<Arc<dyn Panel>>,
    /// Terminals of running servers.
    pub console: Console,
    /// The node's configuration.
    pub node: Arc<NodeConfig>,
    /// The time.
    pub clock: Clock,
    /// Spreads retries.
    pub jitter: Jitter,
    /// Names requests.
    pub ids: Ids,
    /// Who runs jobs.
    pub tasks: Tasks,
    /// The kernel's release.
    pub kernel: String,
    /// Has a server looked at again.
    pub wake: Wake,
}

impl Context {
    /// Puts the parts together.
    pub fn new(parts: Parts) -> Self {
        let (store, clock, jitter) = (parts.store, parts.clock, Arc::new(parts.jitter));
        let sync = |panel| Arc::new(PanelSync::new(panel, store.clone(), clock, jitter.clone()));
        let policy = policy(&parts.node, parts.panel.is_some());
        Self {
            slots: InstallSlots::new(parts.node.reconcile.concurrent_installs),
            layout: Layout::new(&parts.node),
            disk_scans: DiskScans::default(),
            rested: Notify::new(),
            servers: Mutex::new(BTreeMap::new()),
            policy,
            sync: parts.panel.map(sync),
            store,
            runtime: parts.runtime,
            console: parts.console,
            node: parts.node,
            clock,
            jitter,
            ids: parts.ids,
            tasks: parts.tasks,
            kernel: parts.kernel,
            wake: parts.wake,
        }
    }

    /// What is remembered of a server between passes.
    pub fn state(&self, id: ServerId) -> Arc<Mutex<ServerState>> {
        let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        servers.entry(id).or_default().clone()
    }

    /// Works on what is remembered of a server.
    pub fn with_server<T>(&self, id: ServerId, work: impl FnOnce(&mut ServerState) -> T) -> T {
        let state = self.state(id);
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        work(&mut state)
    }

    /// Forgets what is remembered of a server.
    pub fn forget_server(&self, id: ServerId) {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        if let Some(sync) = &self.sync {
            sync.forget(id);
        }
        self.release_slot(id);
        self.rested.notify_waiters();
    }

    /// Gives a server's place for installations back, or takes it out of the line, and wakes those whose turn it may be.
    pub fn release_slot(&self, id: ServerId) {
        for next in self.slots.release(id) {
            (self.wake)(next);
        }
    }

    /// Works on what is remembered of every server.
    pub fn for_each_server(&self, mut work: impl FnMut(ServerId, &mut ServerState)) {
        let servers: Vec<_> = {
            let servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
            servers.iter().map(|(id, state)| (*id, state.clone())).collect()
        };
        for (id, state) in servers {
            work(id, &mut state.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }

    /// A pass over this revision of a server's record has nothing left to do now.
    pub fn note_converged(&self, id: ServerId, revision: u64) {
        self.with_server(id, |state| {
            state.unconverged = 0;
            state.rested = revision;
        });
        self.rested.notify_waiters();
    }

    /// Waits until `holds`, which is asked again after each pass over any server; `limit` at most. Returns whether it does.
    pub async fn wait_until(&self, limit: Duration, mut holds: impl FnMut() -> bool) -> bool {
        let wait = async {
            loop {
                let mut rest = std::pin::pin!(self.rested.notified());
                // From now on: what comes to rest during the look is not missed.
                rest.as_mut().enable();
                if holds() {
                    return;
                }
                rest.await;
            }
        };
        tokio::time::timeout(limit, wait).await.is_ok()
    }

    /// The panel answers again: whatever waits for it is tried at once.
    pub fn panel_recovered(&self) {
        let now = self.clock.now();
        let mut woken = Vec::new();
        self.for_each_server(|id, state| {
            if state.retry_panel_jobs_at(now) {
                woken.push(id);
            }
        });
        for id in woken {
            (self.wake)(id);
        }
    }
}

/// What the planner needs of the node's configuration.
pub fn policy(node: &NodeConfig, panel: bool) -> Policy {
    Policy {
        panel,
        crash_detection: node.crash_detection.enabled,
        clean_exit_is_crash: node.crash_detection.clean_exit_is_crash,
        crash_timeout: node.crash_detection.timeout,
        install_timeout: node.install.timeout,
        fail_on_nonzero_exit: node.install.fail_on_nonzero_exit,
        fix_permissions: node.check_permissions_on_boot,
        disk_check_interval: node.disk_check_interval.unwrap_or_default(),
    }
}
