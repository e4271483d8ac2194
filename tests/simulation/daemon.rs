//! One daemon process: everything but sockets, Docker and real time.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use alula::api::Endpoint;
use alula::config::NodeConfig;
use alula::controller::{listing, manifests, states};
use alula::model::{ServerId, Timestamp};
use alula::store::watch::WatchEvent;
use alula::testing::fake::FakeEngine;
use alula::testing::{TestDisk, TestNode, TestNodeBuilder, TestPanel, node_config};
use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use tokio::sync::mpsc;
use tower::ServiceExt;

use crate::disk::{self, Disk};
use crate::faults::{PanelConnectionFaults, ProcessFaults, RuntimeFaults};
use crate::journal::Journal;

/// Interval of the watch's rescans.
const RESCAN: Duration = Duration::from_secs(300);

/// A running daemon.
pub struct Daemon {
    pub faults: Arc<ProcessFaults>,
    pub node: TestNode,
    router: axum::Router,
    edits: mpsc::Sender<WatchEvent>,
}

/// State that outlives the daemon.
pub struct Machine {
    pub root: tempfile::TempDir,
    pub engine: FakeEngine,
    pub panel: TestPanel,
    pub disk: Disk,
    pub config: NodeConfig,
    pub epoch: (Timestamp, tokio::time::Instant),
    pub journal: Journal,
}

impl Machine {
    pub fn new() -> Self {
        Self::with_install_slots(4)
    }

    /// A machine with this many install slots.
    pub fn with_install_slots(slots: usize) -> Self {
        let root = tempfile::Builder::new().prefix("alula-sim").tempdir_in(fast_folder()).unwrap();
        let mut config = node_config(root.path());
        config.concurrent_installs = slots;
        let engine = FakeEngine::default();
        let epoch = (engine.now(), tokio::time::Instant::now());
        let (panel, disk) = (TestPanel::default(), Disk::default());
        Self { engine, panel, disk, config, root, epoch, journal: Journal::new() }
    }

    /// Boots a daemon. `None`: it crashed while booting.
    pub fn boot(&self, faults: Arc<ProcessFaults>, seed: u64) -> Option<Daemon> {
        faults.write_into(&self.journal);
        let boot = std::panic::AssertUnwindSafe(|| self.assemble(faults, seed));
        std::panic::catch_unwind(boot).ok()
    }

    fn assemble(&self, faults: Arc<ProcessFaults>, seed: u64) -> Daemon {
        let (before, after) = (self.disk.hook(faults.clone()), faults.clone());
        let disk = Arc::new(TestDisk::default());
        disk.on_before(before);
        disk.on_after(move |server, op| disk::passed(&after, server, op));
        let panel = self.panel.connect(Arc::new(PanelConnectionFaults(faults.clone())));
        let node = TestNodeBuilder::new(self.config.clone(), self.engine.clone())
            .engine_faults(Arc::new(RuntimeFaults(faults.clone())))
            .disk(disk)
            .panel(panel)
            .epoch(self.epoch.0, self.epoch.1)
            .seed(seed)
            .build();
        node.start(4);
        let (edits, events) = mpsc::channel(64);
        let (context, watch) = (node.context.clone(), edits.clone());
        context.tasks.spawn("manifests", manifests::follow(context.clone(), events));
        context.tasks.spawn("states", states::follow(context.clone()));
        context.tasks.spawn("rescans", async move {
            loop {
                tokio::time::sleep(RESCAN).await;
                let _ = watch.send(WatchEvent::Rescan).await;
            }
        });
        context.tasks.spawn("panel's list", listing::follow(context.clone(), context.sync.clone().unwrap()));
        Daemon { faults, router: node.router(Endpoint::Local), node, edits }
    }
}

/// A folder in memory: the same system calls without waits for a disk.
fn fast_folder() -> &'static Path {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { memory } else { Path::new("/tmp") }
}

impl Daemon {
    /// A request to the API. `None`: the daemon crashed before it answered.
    pub async fn request(&self, method: Method, path: &str, body: serde_json::Value) -> Option<StatusCode> {
        let request = Request::builder().method(method).uri(path).body(Body::from(body.to_string())).unwrap();
        let answer = std::panic::AssertUnwindSafe(self.router.clone().oneshot(request));
        let answer = futures_util::FutureExt::catch_unwind(answer);
        tokio::select! {
            biased;
            () = self.faults.crashed() => None,
            answer = answer => {
                let status = answer.ok()?.unwrap().status();
                self.faults.note(format_args!("{path} answers {status}"));
                (!self.faults.is_over()).then_some(status)
            }
        }
    }

    /// A file was changed. The watch may miss it.
    pub fn edited(&self, id: ServerId) {
        let _ = self.edits.try_send(WatchEvent::Changed(id.to_string()));
    }

    /// Lets time pass; ends early when the daemon crashes.
    pub async fn wait(&self, time: Duration) {
        tokio::select! {
            biased;
            () = self.faults.crashed() => {}
            () = tokio::time::sleep(time) => {}
        }
    }

    /// Kills the daemon.
    pub async fn kill(self) {
        let tasks = &self.node.context.tasks;
        tasks.abort_all();
        drop(self.router);
        for _ in 0..20 {
            if tasks.running().is_empty() {
                return;
            }
            tokio::task::yield_now().await;
        }
    }
}
