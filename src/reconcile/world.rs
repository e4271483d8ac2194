//! What a reconciler works with: handles on the store, the runtime, the panel, the servers' files and terminals, and the
//! things that belong to the node as a whole (places for installations).

mod files;
mod forgotten;
mod gate;
mod slots;
mod walks;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};

use super::live::Live;
use super::observed::Policy;
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

pub use forgotten::Forgotten;
pub use gate::ResetGate;
pub use slots::InstallSlots;
pub use walks::{Walk, Walks};

/// How long whoever reads a server's state waits for the panel to hear of it, too.
const HEARD: Duration = Duration::from_millis(100);

/// Questions that jobs ask the panel at once. Some of its places are left to requests: after a boot with 500 starts a request
/// must not wait behind them.
pub const JOB_QUESTIONS: usize = QUESTIONS - 2;

/// Has a server looked at.
pub type Wake = Arc<dyn Fn(ServerId) + Send + Sync>;

/// Everything a pass and its jobs work with.
pub struct World {
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
    pub walks: Walks,
    /// Questions of jobs to the panel, see [`JOB_QUESTIONS`].
    pub questions: Semaphore,
    /// The kernel's release, for install logs.
    pub kernel: String,
    /// Has a server looked at again.
    pub wake: Wake,
    /// Wishes to install and the panel's reset keep out of each other's way, see [`ResetGate`].
    pub reset_gate: ResetGate,
    /// Some call to the panel has failed since the last one that was answered.
    panel_silent: AtomicBool,
    /// The panel has heard of a state, see [`World::panel_has_heard`].
    pub heard: Notify,
    /// Servers that are gone since the daemon started, until the panel's list is in force.
    pub forgotten: Forgotten,
    /// A pass has come to rest, see [`World::rest_until`].
    rested: Notify,
    /// What is remembered of each server between passes.
    lives: Mutex<BTreeMap<ServerId, Arc<Mutex<Live>>>>,
}

/// What a [`World`] is made from.
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

impl World {
    /// Puts the parts together.
    pub fn new(parts: Parts) -> Self {
        let policy = policy(&parts.node, parts.panel.is_some());
        Self {
            slots: InstallSlots::new(parts.node.reconcile.concurrent_installs),
            layout: Layout::new(&parts.node),
            walks: Walks::default(),
            questions: Semaphore::new(JOB_QUESTIONS),
            reset_gate: ResetGate::default(),
            panel_silent: AtomicBool::new(false),
            heard: Notify::new(),
            forgotten: Forgotten::until_listed(parts.panel.is_some()),
            rested: Notify::new(),
            lives: Mutex::new(BTreeMap::new()),
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
    pub fn live(&self, id: ServerId) -> Arc<Mutex<Live>> {
        let mut lives = self.lives.lock().unwrap_or_else(PoisonError::into_inner);
        lives.entry(id).or_default().clone()
    }

    /// Works on what is remembered of a server.
    pub fn with_live<T>(&self, id: ServerId, work: impl FnOnce(&mut Live) -> T) -> T {
        let live = self.live(id);
        let mut live = live.lock().unwrap_or_else(PoisonError::into_inner);
        work(&mut live)
    }

    /// Forgets what is remembered of a server.
    pub fn forget_live(&self, id: ServerId) {
        self.lives.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
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
    pub fn for_each_live(&self, mut work: impl FnMut(ServerId, &mut Live)) {
        let lives: Vec<_> = {
            let lives = self.lives.lock().unwrap_or_else(PoisonError::into_inner);
            lives.iter().map(|(id, live)| (*id, live.clone())).collect()
        };
        for (id, live) in lives {
            work(id, &mut live.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }

    /// A pass over this revision of a server's record has nothing left to do now.
    pub fn note_rest(&self, id: ServerId, revision: u64) {
        self.with_live(id, |live| {
            live.restless = 0;
            live.rested = revision;
        });
        self.rested.notify_waiters();
    }

    /// Waits until `holds`, which is asked again after each pass over any server; `limit` at most. Returns whether it does.
    pub async fn rest_until(&self, limit: Duration, mut holds: impl FnMut() -> bool) -> bool {
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
    pub async fn panel_has_heard(&self, id: ServerId) {
        let heard = async {
            loop {
                let mut next = std::pin::pin!(self.heard.notified());
                // Before the look: what is heard after it must not be missed.
                next.as_mut().enable();
                if self.panel_silent.load(Ordering::Relaxed) || self.with_live(id, |live| live.untold.is_empty()) {
                    return;
                }
                next.await;
            }
        };
        let _ = tokio::time::timeout(HEARD, heard).await;
    }

    /// The panel has answered a job, or has not. When it answers again, whatever waits for it is tried at once.
    pub fn note_panel(&self, answered: bool) {
        if !answered {
            self.panel_silent.store(true, Ordering::Relaxed);
        } else if self.panel_silent.swap(false, Ordering::Relaxed) {
            self.panel_recovered();
        }
    }

    fn panel_recovered(&self) {
        let now = self.clock.now();
        let mut woken = Vec::new();
        self.for_each_live(|id, live| {
            if live.retry_panel_jobs_at(now) {
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
