//! What a reconciler works with: handles on the store, the runtime, the panel, the servers' files and terminals, and the
//! things that belong to the node as a whole (places for installations).

mod disk_scans;
mod files;
mod recently_deleted;
mod reset_lock;
mod slots;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};

use super::observed::Policy;
use super::server_state::ServerState;
use crate::clock::Clock;
use crate::config::NodeConfig;
use crate::console::Console;
use crate::files::Layout;
use crate::ids::Ids;
use crate::model::ServerId;
use crate::panel::{Panel, QUESTIONS};
use crate::retry::Jitter;
use crate::runtime::Runtime;
use crate::store::Store;
use crate::tasks::Tasks;

pub use disk_scans::{DiskScan, DiskScans};
pub use recently_deleted::RecentlyDeleted;
pub use reset_lock::ResetLock;
pub use slots::InstallSlots;

/// How long whoever reads a server's state waits for the panel to hear of it, too.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_millis(100);

/// Questions that jobs ask the panel at once. Some of its places are left to requests: after a boot with 500 starts a request
/// must not wait behind them.
pub const JOB_QUESTIONS: usize = QUESTIONS - 2;

/// Has a server looked at.
pub type Wake = Arc<dyn Fn(ServerId) + Send + Sync>;

/// Everything a pass and its jobs work with.
pub struct Context {
    /// Intent, facts, status.
    pub store: Store,
    /// Containers.
    pub runtime: Arc<dyn Runtime>,
    /// The panel, where there is one.
    pub panel: Option<Arc<dyn Panel>>,
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
    pub jitter: Jitter,
    /// Names requests.
    pub ids: Ids,
    /// Who runs jobs.
    pub tasks: Tasks,
    /// Places for installations.
    pub slots: InstallSlots,
    /// Places for walks over servers' files.
    pub disk_scans: DiskScans,
    /// Questions of jobs to the panel, see [`JOB_QUESTIONS`].
    pub questions: Semaphore,
    /// The kernel's release, for install logs.
    pub kernel: String,
    /// Has a server looked at again.
    pub wake: Wake,
    /// Wishes to install and the panel's reset keep out of each other's way, see [`ResetLock`].
    pub reset_lock: ResetLock,
    /// Some call to the panel has failed since the last one that was answered.
    panel_unresponsive: AtomicBool,
    /// The panel has heard of a state, see [`Context::panel_has_acknowledged`].
    pub acknowledged: Notify,
    /// Servers that are gone since the daemon started, until the panel's list is in force.
    pub recently_deleted: RecentlyDeleted,
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
        let policy = policy(&parts.node, parts.panel.is_some());
        Self {
            slots: InstallSlots::new(parts.node.reconcile.concurrent_installs),
            layout: Layout::new(&parts.node),
            disk_scans: DiskScans::default(),
            questions: Semaphore::new(JOB_QUESTIONS),
            reset_lock: ResetLock::default(),
            panel_unresponsive: AtomicBool::new(false),
            acknowledged: Notify::new(),
            recently_deleted: RecentlyDeleted::until_listed(parts.panel.is_some()),
            rested: Notify::new(),
            servers: Mutex::new(BTreeMap::new()),
            policy,
            store: parts.store,
            runtime: parts.runtime,
            panel: parts.panel,
            console: parts.console,
            node: parts.node,
            clock: parts.clock,
            jitter: parts.jitter,
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

    /// Comes back when the panel has heard of the states that are shown, or does not answer at once. Whoever reads a state
    /// here may then find it there.
    pub async fn panel_has_acknowledged(&self, id: ServerId) {
        let acknowledged = async {
            loop {
                let mut next = std::pin::pin!(self.acknowledged.notified());
                // Before the look: what is heard after it must not be missed.
                next.as_mut().enable();
                if self.panel_unresponsive.load(Ordering::Relaxed)
                    || self.with_server(id, |state| state.transitions.is_empty())
                {
                    return;
                }
                next.await;
            }
        };
        let _ = tokio::time::timeout(ACKNOWLEDGED_WITHIN, acknowledged).await;
    }

    /// The panel has answered a job, or has not. When it answers again, whatever waits for it is tried at once.
    pub fn note_panel(&self, answered: bool) {
        if !answered {
            self.panel_unresponsive.store(true, Ordering::Relaxed);
        } else if self.panel_unresponsive.swap(false, Ordering::Relaxed) {
            self.panel_recovered();
        }
    }

    fn panel_recovered(&self) {
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
