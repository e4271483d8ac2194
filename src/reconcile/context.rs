//! The services that a reconciler works with. It has no state of its own: see [`ServerStates`] for what is kept of each server.

#![allow(missing_docs)]

use std::sync::Arc;

use super::disk_scans::DiskScans;
use super::observed::Policy;
use super::server_state::ServerStates;
use super::slots::InstallSlots;
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

/// Queues a pass over a server.
pub type Wake = Arc<dyn Fn(ServerId) + Send + Sync>;

/// Handles of services.
pub struct Context {
    pub store: Store,
    pub runtime: Arc<dyn Runtime>,
    /// The panel protocol, where there is a panel.
    pub sync: Option<Arc<PanelSync>>,
    pub console: Console,
    pub node: Node,
    pub clock: Clock,
    pub jitter: Arc<Jitter>,
    pub ids: Ids,
    pub tasks: Tasks,
    pub servers: ServerStates,
    pub slots: InstallSlots,
    pub disk_scans: DiskScans,
    pub wake: Wake,
}

/// The node's configuration, and what follows from it.
pub struct Node {
    pub config: Arc<NodeConfig>,
    pub policy: Policy,
    pub layout: Layout,
    /// The kernel's release, for install logs.
    pub kernel: String,
}

/// What a [`Context`] is made from.
pub struct Parts {
    pub store: Store,
    pub runtime: Arc<dyn Runtime>,
    pub panel: Option<Arc<dyn Panel>>,
    pub console: Console,
    pub node: Arc<NodeConfig>,
    pub clock: Clock,
    pub jitter: Jitter,
    pub ids: Ids,
    pub tasks: Tasks,
    pub kernel: String,
    pub wake: Wake,
}

impl Context {
    /// A context of these parts, before anything is known of a server.
    pub fn new(parts: Parts) -> Self {
        let Parts { store, runtime, panel, console, node, clock, jitter, ids, tasks, kernel, wake } = parts;
        let jitter = Arc::new(jitter);
        let policy = policy(&node, panel.is_some());
        Self {
            sync: panel.map(|panel| Arc::new(PanelSync::new(panel, store.clone(), clock, jitter.clone()))),
            servers: ServerStates::new(clock, jitter.clone()),
            slots: InstallSlots::new(node.concurrent_installs),
            disk_scans: DiskScans::default(),
            node: Node { policy, layout: Layout::new(&node), config: node, kernel },
            store,
            runtime,
            console,
            clock,
            jitter,
            ids,
            tasks,
            wake,
        }
    }
}

/// What the planner needs of the node's configuration.
pub fn policy(node: &NodeConfig, panel: bool) -> Policy {
    Policy {
        panel,
        crash_detection: node.crash_detection,
        clean_exit_is_crash: node.clean_exit_is_crash,
        crash_timeout: node.crash_timeout,
        install_timeout: node.install_timeout,
        fail_on_nonzero_exit: node.fail_on_nonzero_exit,
        fix_permissions: node.check_permissions_on_boot,
        disk_check_interval: node.disk_check_interval.unwrap_or_default(),
    }
}
