//! The services that a reconciler works with. It has no state of its own: see [`ServerStates`] for what is kept of each server.

#![allow(missing_docs)]

use std::sync::Arc;

use super::disk_scans::DiskScans;
use super::node_conditions::NodeConditions;
use super::observed::Policy;
use super::operations::RunningOperations;
use super::receptions::Receptions;
use super::server_state::ServerStates;
use super::slots::Slots;
use crate::activity::Activity;
use crate::clock::Clock;
use crate::config::{ConfigUpdates, NodeConfig};
use crate::console::Console;
use crate::files::{DiskAccount, DiskAccounts, FileEvents, Layout};
use crate::ids::Ids;
use crate::model::ServerId;
use crate::retry::Jitter;
use crate::runtime::Runtime;
use crate::stats::Stats;
use crate::store::{Snapshot, Store};
use crate::sync::PanelSync;
use crate::tasks::Tasks;
use crate::wait;

/// Queues a pass over a server.
pub type Wake = Arc<dyn Fn(ServerId) + Send + Sync>;

/// Handles of services. Passes are its methods, see [`Context::pass`].
pub struct Context {
    pub store: Store,
    pub runtime: Arc<dyn Runtime>,
    /// The panel protocol, where there is a panel.
    pub sync: Option<Arc<PanelSync>>,
    /// Entries of the panel's activity log.
    pub activity: Activity,
    pub console: Console,
    pub stats: Stats,
    pub node: Node,
    pub clock: Clock,
    pub jitter: Arc<Jitter>,
    pub ids: Ids,
    pub tasks: Tasks,
    pub servers: ServerStates,
    /// Of installations.
    pub slots: Slots,
    /// Of starts after a boot of the host or a restart of the engine.
    pub start_slots: Slots,
    pub disk_scans: DiskScans,
    /// Backups, restores and transfers that run now.
    pub operations: RunningOperations,
    /// Servers that come from other nodes in rounds.
    pub receptions: Arc<Receptions>,
    /// The bytes of each server's files, and its disk limit.
    pub accounts: DiskAccounts,
    pub wake: Wake,
}

impl Context {
    /// The account that a writer of a server's files charges. Its files are measured before, if they were not since the daemon
    /// started, and have a limit.
    pub async fn disk_account(&self, id: ServerId) -> Arc<DiskAccount> {
        if let Some(snapshot) = self.store.get(id) {
            self.open_account(&snapshot);
        }
        let account = self.accounts.account(id);
        let account_is_enough = account.limit().is_none() || self.node.policy.disk_check_interval.is_zero();
        if !account_is_enough && !self.accounts.is_measured(id) {
            self.accounts.measure(id);
            let measured = || self.accounts.is_measured(id);
            self.servers.wait(id, wait::WRITE_FOR_MEASUREMENT, measured).await;
        }
        account
    }

    /// Opens a server's account if there is none, and sets its limit.
    pub(super) fn open_account(&self, snapshot: &Snapshot) {
        let Some(manifest) = &snapshot.manifest else { return };
        let last_used = || self.store.status(snapshot.id).map_or(0, |status| status.disk_bytes);
        self.accounts.set_limit(snapshot.id, manifest.spec.settings.build.disk_space, last_used);
    }
}

/// The node's configuration, and what follows from it.
pub struct Node {
    pub config: Arc<NodeConfig>,
    pub policy: Policy,
    pub layout: Layout,
    /// The kernel's release, for install logs.
    pub kernel: String,
    pub conditions: NodeConditions,
    /// Takes the configurations that the panel pushes.
    pub updates: ConfigUpdates,
    /// Events of writes to servers' files, where the kernel gives them.
    pub file_events: Option<Arc<FileEvents>>,
}

impl Node {
    /// What follows from a configuration; `panel`: whether there is one.
    pub fn new(
        config: Arc<NodeConfig>,
        panel: bool,
        kernel: String,
        conditions: NodeConditions,
        updates: ConfigUpdates,
    ) -> Self {
        let (policy, layout) = (policy(&config, panel), Layout::new(&config));
        Self { policy, layout, config, kernel, conditions, updates, file_events: None }
    }

    /// The same, with events of writes to servers' files.
    pub fn with_events(mut self, file_events: Option<Arc<FileEvents>>) -> Self {
        self.policy.file_events = file_events.is_some();
        self.file_events = file_events;
        self
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
        file_events: false,
    }
}
