//! A whole node over a temporary folder: store, engine in memory, console and, where a test wants them, the
//! controller and the API. It runs on tokio's clock, which may be paused.

use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;
use tokio::sync::watch;

use super::fake::{FakeEngine, FakeRuntime, Faults, LocalImage, NoFaults};
use super::{IMAGE, TestDisk, TestPanel, node_config};
use crate::activity::Activity;
use crate::api::startup::Startup;
use crate::api::{self, Api, Endpoint, Sockets};
use crate::clock::Clock;
use crate::config::{ConfigUpdates, NodeConfig};
use crate::console::Console;
use crate::controller::queue::Queue;
use crate::controller::{self, containers, file_events};
use crate::files::{DiskAccounts, Layout};
use crate::ids::Ids;
use crate::model::{Requester, ServerId, Timestamp, Verb};
use crate::panel::Panel;
use crate::reconcile::context::{Context, Node, Wake};
use crate::reconcile::disk_scans::DiskScans;
use crate::reconcile::node_conditions::NodeConditions;
use crate::reconcile::operations::RunningOperations;
use crate::reconcile::receptions::Receptions;
use crate::reconcile::server_state::ServerStates;
use crate::reconcile::slots::Slots;
use crate::requests::NewRequest;
use crate::retry::Jitter;
use crate::runtime::KernelLimits;
use crate::runtime::host::Host;
use crate::server_files::ServerFiles;
use crate::sessions::Sessions;
use crate::stats::Stats;
use crate::store::{Blocking, Store, identity};
use crate::sync::PanelSync;
use crate::tasks::Tasks;
use crate::wait;

/// A node. Nothing runs in it until [`TestNode::start`]; its tasks end when it is dropped.
pub struct TestNode {
    pub context: Arc<Context>,
    pub engine: FakeEngine,
    pub disk: Arc<TestDisk>,
    /// Servers that wait for a pass.
    pub queue: Queue,
    _root: Option<TempDir>,
}

/// What a [`TestNode`] is made of.
pub struct TestNodeBuilder {
    root: Option<TempDir>,
    config: NodeConfig,
    blocking: Blocking,
    engine: FakeEngine,
    faults: Arc<dyn Faults>,
    host: Box<dyn FnOnce(Host) -> Host>,
    disk: Arc<TestDisk>,
    panel: Option<Arc<dyn Panel>>,
    epoch: (Timestamp, tokio::time::Instant),
    seed: u64,
    file_events: bool,
}

impl TestNode {
    /// A node of its own folder and an engine that has [`IMAGE`], without a panel and without faults.
    pub fn builder() -> TestNodeBuilder {
        let root = tempfile::tempdir().expect("a temporary folder");
        let (config, engine) = (node_config(root.path()), FakeEngine::default());
        engine.add_image(IMAGE, LocalImage::default());
        TestNodeBuilder { root: Some(root), ..TestNodeBuilder::new(config, engine) }
    }

    /// A node with defaults.
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// The same with a panel that has numbered servers.
    pub fn with_panel() -> (Self, TestPanel) {
        let panel = TestPanel::with_servers();
        (Self::builder().panel(panel.clone()).build(), panel)
    }

    /// The panel protocol of a node with a panel.
    pub fn sync(&self) -> &Arc<PanelSync> {
        self.context.sync.as_ref().expect("the node has a panel")
    }

    /// The state folder.
    pub fn root(&self) -> &Path {
        &self.context.node.config.directories.root
    }

    /// A request of the panel, made now.
    pub fn request(&self, id: &str, verb: Verb) -> NewRequest {
        NewRequest {
            id: id.into(),
            at: self.context.clock.now(),
            expires_at: None,
            timeout: None,
            by: Requester::Panel,
            verb,
        }
    }

    /// Accepts a request of the panel, made now, and queues its server.
    pub fn accept(&self, server: ServerId, verb: Verb) {
        let request = self.request(&self.context.ids.next(), verb);
        self.context.store.request(server, None, [request]).expect("the store accepts the request");
        (self.context.wake)(server);
    }

    /// Follows the engine's containers, and reconciles changed servers with this many workers.
    pub fn start(&self, workers: usize) {
        let changed = self.queue.clone();
        self.context.store.on_change(move |id| changed.push(id));
        let (known, ready) = watch::channel(false);
        let containers = containers::follow(self.context.clone(), self.queue.clone(), known);
        self.context.tasks.spawn("containers", containers);
        if let Some(events) = &self.context.node.file_events {
            self.context.tasks.spawn("file events", file_events::follow(self.context.clone(), events.clone()));
        }
        let passes = controller::run(self.context.clone(), self.queue.clone(), workers, ready);
        self.context.tasks.spawn("controller", passes);
    }

    /// The API as this endpoint serves it.
    pub fn router(&self, endpoint: Endpoint) -> axum::Router {
        let startup = Startup::default();
        let files = ServerFiles::new(self.context.clone());
        startup.finish(Api::new(files, self.context.clock.now(), Sockets::default(), Sessions::default()));
        api::router(&startup, endpoint, &self.context.node.config)
    }
}

impl Default for TestNode {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for TestNode {
    fn drop(&mut self) {
        self.context.tasks.abort_all();
    }
}

impl TestNodeBuilder {
    /// A node with this configuration, whose root exists, on an engine that outlives it.
    pub fn new(config: NodeConfig, engine: FakeEngine) -> Self {
        Self {
            root: None,
            config,
            blocking: Blocking::Inline,
            faults: Arc::new(NoFaults),
            host: Box::new(|host| host),
            disk: Arc::default(),
            panel: None,
            epoch: (engine.now(), tokio::time::Instant::now()),
            seed: 1,
            file_events: false,
            engine,
        }
    }

    /// Changes the node's configuration.
    pub fn config(mut self, change: impl FnOnce(&mut NodeConfig)) -> Self {
        change(&mut self.config);
        self
    }

    /// Runs what blocks in another way than inline.
    pub fn blocking(self, blocking: Blocking) -> Self {
        Self { blocking, ..self }
    }

    /// Follows writes to servers' files, where the kernel allows that.
    pub fn file_events(self) -> Self {
        Self { file_events: true, ..self }
    }

    /// The faults of the connection to the engine.
    pub fn engine_faults(self, faults: Arc<dyn Faults>) -> Self {
        Self { faults, ..self }
    }

    /// Changes the host that containers run on.
    pub fn host(self, change: impl FnOnce(Host) -> Host + 'static) -> Self {
        Self { host: Box::new(change), ..self }
    }

    /// The disk under the store.
    pub fn disk(self, disk: Arc<TestDisk>) -> Self {
        Self { disk, ..self }
    }

    /// The node's panel.
    pub fn panel(self, panel: impl Panel) -> Self {
        Self { panel: Some(Arc::new(panel)), ..self }
    }

    /// Counts the node's time from this one on.
    pub fn epoch(self, at: Timestamp, instant: tokio::time::Instant) -> Self {
        Self { epoch: (at, instant), ..self }
    }

    /// Derives jitter and the ids of requests from this number.
    pub fn seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// The node, before its first pass.
    pub fn build(self) -> TestNode {
        let node = Arc::new(self.config);
        let (tasks, queue, blocking) = (Tasks::new(), Queue::default(), self.blocking);
        crate::config::host::make_directories(&node).expect("the node's directories");
        crate::config::host::write_passwd_files(&node).expect("the node's passwd files");
        let layout = Layout::new(&node);
        layout.prepare_node().expect("the node's layout");
        let file_events = self.file_events.then(|| file_events::begin(&layout)).flatten();
        let clock = Clock::Simulated { base: self.epoch.0, start: self.epoch.1 };
        let store =
            Store::open(&node.directories.root, blocking, clock, Some(self.disk.clone())).expect("the state folder");
        store.take_over_states();
        let identity = identity::settle(&node.directories.root).expect("the node's identity").identity;
        let host = Host::new(node.clone(), tasks.clone(), blocking, KernelLimits::default()).with_identity(identity);
        let host = (self.host)(host);
        let runtime = Arc::new(FakeRuntime::new(self.engine.clone(), self.faults, host));
        let pushed = queue.clone();
        let wake: Wake = Arc::new(move |id| pushed.push(id));
        let events = store.events().clone();
        let console = Console::new(runtime.clone(), blocking, events, &node, tasks.clone(), wake.clone());
        let jitter = Arc::new(Jitter::seeded(self.seed));
        let activity = Activity::open(self.panel.clone(), (&*node).into(), clock, jitter.clone(), blocking, &tasks);
        let sync = |panel| Arc::new(PanelSync::new(panel, store.clone(), clock, jitter.clone()));
        let accounts = DiskAccounts::new(wake.clone());
        let stats = Stats::new(store.clone(), runtime.clone(), node.clone(), clock, tasks.clone(), accounts.clone());
        let context = Arc::new(Context {
            runtime,
            operations: RunningOperations::new(&node, clock, blocking, false),
            slots: Slots::new(node.concurrent_installs),
            start_slots: Slots::for_a_while(node.concurrent_starts, wait::START_SLOT),
            node: Node::new(
                node,
                self.panel.is_some(),
                "test".into(),
                NodeConditions::new(clock),
                ConfigUpdates::new().0,
            )
            .with_events(file_events),
            sync: self.panel.map(sync),
            store,
            activity,
            console,
            stats,
            clock,
            servers: ServerStates::new(jitter.clone()),
            jitter,
            ids: Ids::numbered(self.seed),
            tasks,
            disk_scans: DiskScans::default(),
            receptions: Arc::new(Receptions::default()),
            accounts,
            wake,
        });
        TestNode { context, engine: self.engine, disk: self.disk, queue, _root: self.root }
    }
}
