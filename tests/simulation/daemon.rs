//! One life of the daemon: everything but sockets, Docker and real time.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use alula::api::{Api, Endpoint};
use alula::clock::Clock;
use alula::config::NodeConfig;
use alula::console::{Console, ConsoleOptions};
use alula::controller::queue::Queue;
use alula::controller::{Controller, containers, listing, manifests};
use alula::files::Layout;
use alula::ids::Ids;
use alula::model::{ServerId, Timestamp};
use alula::panel::Panel;
use alula::reconcile::context::{Context, Parts, Wake};
use alula::reconcile::pass::Reconciler;
use alula::retry::Jitter;
use alula::runtime::KernelLimits;
use alula::runtime::fake::{FakeEngine, FakeRuntime};
use alula::runtime::host::Host;
use alula::store::watch::WatchEvent;
use alula::store::{Blocking, Store};
use alula::tasks::Tasks;
use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use tokio::sync::{mpsc, watch};
use tower::ServiceExt;

use crate::crash::{Fate, RuntimeFate};
use crate::disk::{Disk, DiskFate};
use crate::journal::Journal;
use crate::panel::{Connection, SimPanel};

/// How often the watch has all files looked at, whatever it has noticed.
const RESCAN: Duration = Duration::from_secs(300);

/// A daemon that runs.
pub struct Daemon {
    pub fate: Arc<Fate>,
    pub world: Arc<Context>,
    pub reconciler: Reconciler,
    tasks: Tasks,
    router: axum::Router,
    edits: mpsc::Sender<WatchEvent>,
}

/// What outlives the daemon.
pub struct Machine {
    pub root: tempfile::TempDir,
    pub docker: FakeEngine,
    pub panel: SimPanel,
    pub disk: Disk,
    pub node: Arc<NodeConfig>,
    pub epoch: (Timestamp, tokio::time::Instant),
    pub journal: Journal,
}

impl Machine {
    pub fn new() -> Self {
        Self::with_places(4)
    }

    /// A machine on which so many installations run at once.
    pub fn with_places(places: usize) -> Self {
        let root = tempfile::Builder::new().prefix("alula-sim").tempdir_in(fast_folder()).unwrap();
        let mut node = crate::node::node(root.path());
        node.reconcile.concurrent_installs = places;
        let node = Arc::new(node);
        let docker = FakeEngine::default();
        let epoch = (docker.now(), tokio::time::Instant::now());
        Self { docker, panel: SimPanel::default(), disk: Disk::default(), node, root, epoch, journal: Journal::new() }
    }

    /// Boots a daemon. `None`: it died while it was booting.
    pub fn boot(&self, fate: Arc<Fate>, seed: u64) -> Option<Daemon> {
        fate.write_into(&self.journal);
        let boot = std::panic::AssertUnwindSafe(|| self.assemble(fate, seed));
        std::panic::catch_unwind(boot).ok()
    }

    fn assemble(&self, fate: Arc<Fate>, seed: u64) -> Daemon {
        let tasks = Tasks::new();
        let queue = Queue::default();
        let hook = Arc::new(DiskFate { fate: fate.clone(), disk: self.disk.clone() });
        let clock = Clock::Simulated { base: self.epoch.0, start: self.epoch.1 };
        let store = Store::open(self.root.path(), Blocking::Inline, clock, Some(hook)).unwrap();
        alula::config::host::make_directories(&self.node).unwrap();
        alula::config::host::write_passwd_files(&self.node).unwrap();
        Layout::new(&self.node).prepare_node().unwrap();
        let host = Host::new(self.node.clone(), tasks.clone(), Blocking::Inline, KernelLimits::default());
        let runtime = Arc::new(FakeRuntime::new(self.docker.clone(), Arc::new(RuntimeFate(fate.clone())), host));
        let panel: Arc<dyn Panel> = Arc::new(Connection { panel: self.panel.clone(), fate: fate.clone() });
        let wake: Wake = {
            let queue = queue.clone();
            Arc::new(move |id: ServerId| queue.push(id))
        };
        let options = ConsoleOptions { app_name: "sim".into(), max_transcript_bytes: 1 << 20, max_transcript_files: 1 };
        let events = store.events().clone();
        let console = Console::new(runtime.clone(), Blocking::Inline, events, options, tasks.clone(), wake.clone());
        let changed = wake.clone();
        store.on_change(move |id| changed(id));
        let world = Arc::new(Context::new(Parts {
            store,
            runtime,
            panel: Some(panel),
            console,
            node: self.node.clone(),
            clock,
            jitter: Jitter::seeded(seed),
            ids: Ids::numbered(seed),
            tasks: tasks.clone(),
            kernel: "simulated".into(),
            wake,
        }));
        let reconciler = Reconciler::new(world.clone());
        let (known, ready) = watch::channel(false);
        tasks.spawn("containers", containers::follow(world.clone(), queue.clone(), known));
        let (edits, events) = mpsc::channel(64);
        tasks.spawn("intents", manifests::follow(world.clone(), events));
        let watch = edits.clone();
        tasks.spawn("the watch's rescans", async move {
            loop {
                tokio::time::sleep(RESCAN).await;
                let _ = watch.send(WatchEvent::Rescan).await;
            }
        });
        tasks.spawn("panel's list", listing::follow(world.clone(), world.sync.clone().unwrap()));
        tasks.spawn("controller", Controller::new(reconciler.clone(), queue.clone(), 4, ready).run());
        let router = Api::new(reconciler.clone()).router(Endpoint::Local);
        Daemon { fate, world, reconciler, tasks, router, edits }
    }
}

/// A folder in memory: the same system calls, none of the waiting.
fn fast_folder() -> &'static Path {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { memory } else { Path::new("/tmp") }
}

impl Daemon {
    /// A request to the API. `None`: the daemon died before it answered.
    pub async fn request(&self, method: Method, path: &str, body: serde_json::Value) -> Option<StatusCode> {
        let request = Request::builder().method(method).uri(path).body(Body::from(body.to_string())).unwrap();
        let answer = std::panic::AssertUnwindSafe(self.router.clone().oneshot(request));
        let answer = futures_util::FutureExt::catch_unwind(answer);
        tokio::select! {
            biased;
            () = self.fate.crashed() => None,
            answer = answer => {
                let status = answer.ok()?.unwrap().status();
                self.fate.note(format_args!("{path} answers {status}"));
                (!self.fate.is_over()).then_some(status)
            }
        }
    }

    /// Somebody changed a file; the watch may or may not notice.
    pub fn edited(&self, id: ServerId) {
        let _ = self.edits.try_send(WatchEvent::Changed(id.to_string()));
    }

    /// Lets time pass; ends early when the daemon dies.
    pub async fn wait(&self, time: Duration) {
        tokio::select! {
            biased;
            () = self.fate.crashed() => {}
            () = tokio::time::sleep(time) => {}
        }
    }

    /// Ends the daemon at once, whatever it is doing.
    pub async fn kill(self) {
        self.tasks.abort_all();
        drop(self.router);
        for _ in 0..20 {
            if self.tasks.running().is_empty() {
                return;
            }
            tokio::task::yield_now().await;
        }
    }
}
