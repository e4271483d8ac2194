//! A daemon without sockets, Docker and real time, behind a router; a disk and a panel that can be made to refuse.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alula::api::{Api, Endpoint};
use alula::clock::Clock;
use alula::config::{NodeConfig, PanelConfig, Secret};
use alula::console::{Console, ConsoleOptions};
use alula::controller::queue::Queue;
use alula::controller::{Controller, containers};
use alula::files::Layout;
use alula::ids::Ids;
use alula::model::settings::{Process, Settings};
use alula::model::{ManagedBy, Manifest, PowerState, Record, Script, ServerId};
use alula::panel::{Listed, Panel, PanelError, PanelServer};
use alula::reconcile::context::{Context, Parts, Wake};
use alula::reconcile::pass::Reconciler;
use alula::retry::Jitter;
use alula::runtime::KernelLimits;
use alula::runtime::fake::{FakeEngine, FakeRuntime, Faults, LocalImage, NoFaults};
use alula::runtime::host::Host;
use alula::store::{Blocking, DiskHook, DiskOp, Store};
use alula::tasks::Tasks;
use async_trait::async_trait;
use axum::body::Body;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt;
use tempfile::TempDir;
use tokio::sync::watch;
use tower::ServiceExt;

/// The node's token.
pub const TOKEN: &str = "the-token";
/// The panel's address.
pub const PANEL: &str = "https://panel.example.com";
/// The servers' image.
pub const IMAGE: &str = "game:1";

/// One of some servers.
pub fn id(number: u32) -> ServerId {
    format!("550e8400-e29b-41d4-a716-{number:012}").parse().unwrap()
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    /// A header's value; empty where absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// An answer that goes on.
pub struct Stream {
    body: Body,
    /// What came and was not taken.
    text: String,
}

impl Stream {
    /// The next line; `None` at the end.
    pub async fn line(&mut self) -> Option<String> {
        loop {
            if let Some((line, rest)) = self.text.split_once('\n') {
                let line = line.to_owned();
                self.text = rest.to_owned();
                return Some(line);
            }
            let frame = tokio::time::timeout(Duration::from_secs(600), self.body.frame()).await;
            let piece = frame.expect("another line, or the end")?.unwrap().into_data().unwrap();
            self.text.push_str(std::str::from_utf8(&piece).unwrap());
        }
    }

    /// So many lines.
    pub async fn lines(&mut self, count: usize) -> Vec<String> {
        let mut lines = Vec::new();
        for _ in 0..count {
            lines.push(self.line().await.expect("another line"));
        }
        lines
    }

    /// Whether it ends with an error.
    pub async fn breaks_off(self) -> bool {
        self.body.collect().await.is_err()
    }

    /// All lines to the end.
    pub async fn rest(mut self) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some(line) = self.line().await {
            lines.push(line);
        }
        lines
    }
}

/// A node, and what its API is asked through.
pub struct Bench {
    pub world: Arc<Context>,
    pub docker: FakeEngine,
    pub disk: Arc<Disk>,
    pub panel: Arc<MemoryPanel>,
    router: axum::Router,
    local: axum::Router,
    _root: TempDir,
}

impl Bench {
    /// A node as it is right after its installation.
    pub fn new() -> Self {
        Self::with(|_| {})
    }

    /// A node whose configuration was changed.
    pub fn with(configure: impl FnOnce(&mut NodeConfig)) -> Self {
        let bench = Self::before_the_list(configure);
        bench.world.sync.as_ref().unwrap().list_applied();
        bench
    }

    /// The same before the panel's list is in force.
    pub fn before_the_list(configure: impl FnOnce(&mut NodeConfig)) -> Self {
        Self::on_engine(Arc::new(NoFaults), configure)
    }

    /// The same on an engine with these faults.
    pub fn on_engine(faults: Arc<dyn Faults>, configure: impl FnOnce(&mut NodeConfig)) -> Self {
        let root = tempfile::tempdir().unwrap();
        let mut node = crate::node::node(root.path());
        node.token_id = "TokenId".into();
        node.panel = Some(panel_config());
        configure(&mut node);
        let node = Arc::new(node);
        let (docker, disk) = (FakeEngine::default(), Arc::new(Disk::default()));
        docker.add_image(IMAGE, LocalImage::default());
        let panel = Arc::new(MemoryPanel::default());
        let world = world(&root, node, &docker, &disk, &panel, faults);
        let reconciler = Reconciler::new(world.0.clone());
        let (known, ready) = watch::channel(false);
        let (world, queue) = world;
        world.tasks.spawn("containers", containers::follow(world.clone(), queue.clone(), known));
        world.tasks.spawn("controller", Controller::new(reconciler.clone(), queue, 4, ready).run());
        let api = Api::new(reconciler);
        let (router, local) = (api.router(Endpoint::Tcp(Secret::new(TOKEN))), api.router(Endpoint::Local));
        Self { world, docker, disk, panel, router, local, _root: root }
    }

    /// Sends a request as it is.
    pub async fn send(&self, request: Request<Body>) -> Answer {
        Self::answer(self.router.clone().oneshot(request).await.unwrap()).await
    }

    async fn answer(response: http::Response<Body>) -> Answer {
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer { status: head.status, headers: head.headers, text: String::from_utf8(body.to_vec()).unwrap() }
    }

    /// A request with the node's token.
    pub async fn ask(&self, method: Method, path: &str, body: impl Into<Body>) -> Answer {
        let request = Request::builder().method(method).uri(path).header("authorization", format!("Bearer {TOKEN}"));
        self.send(request.body(body.into()).unwrap()).await
    }

    /// Reads something from the local socket.
    pub async fn ask_locally(&self, path: &str) -> Answer {
        let request = Request::builder().uri(path).body(Body::empty()).unwrap();
        Self::answer(self.local.clone().oneshot(request).await.unwrap()).await
    }

    /// An answer of the local socket that goes on.
    pub async fn stream(&self, path: &str) -> Stream {
        let request = Request::builder().uri(path).body(Body::empty()).unwrap();
        let response = self.local.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        Stream { body: response.into_body(), text: String::new() }
    }

    /// A server that its panel has and that was never started.
    pub fn add(&self, number: u32) -> ServerId {
        let id = id(number);
        let server = server();
        self.panel.servers.lock().unwrap().insert(id, server.clone());
        let mut manifest = Manifest::new(id, ManagedBy::Panel);
        manifest.spec.settings = server.settings;
        manifest.spec.process = server.process;
        self.world.store.create(manifest, Record::default(), []).unwrap();
        id
    }

    /// Waits until the server shows a state.
    pub async fn becomes(&self, id: ServerId, state: PowerState) {
        for _ in 0..600 {
            if self.world.store.status(id).is_some_and(|status| status.state == state) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("not {state:?}: {:#?}", self.world.store.status(id));
    }
}

fn world(
    root: &TempDir,
    node: Arc<NodeConfig>,
    docker: &FakeEngine,
    disk: &Arc<Disk>,
    panel: &Arc<MemoryPanel>,
    faults: Arc<dyn Faults>,
) -> (Arc<Context>, Queue) {
    let (tasks, queue) = (Tasks::new(), Queue::default());
    let clock = Clock::Simulated { base: docker.now(), start: tokio::time::Instant::now() };
    alula::config::host::make_directories(&node).unwrap();
    alula::config::host::write_passwd_files(&node).unwrap();
    Layout::new(&node).prepare_node().unwrap();
    let store = Store::open(root.path(), Blocking::Inline, clock, Some(disk.clone())).unwrap();
    let host = Host::new(node.clone(), tasks.clone(), Blocking::Inline, KernelLimits::default());
    let runtime = Arc::new(FakeRuntime::new(docker.clone(), faults, host));
    let wake: Wake = {
        let queue = queue.clone();
        Arc::new(move |id| queue.push(id))
    };
    let options = ConsoleOptions { app_name: "test".into(), max_transcript_bytes: 1 << 20, max_transcript_files: 1 };
    let events = store.events().clone();
    let console = Console::new(runtime.clone(), Blocking::Inline, events, options, tasks.clone(), wake.clone());
    let changed = wake.clone();
    store.on_change(move |id| changed(id));
    let world = Context::new(Parts {
        store,
        runtime,
        panel: Some(panel.clone()),
        console,
        node,
        clock,
        jitter: Jitter::seeded(1),
        ids: Ids::by_time(),
        tasks,
        kernel: "test".into(),
        wake,
    });
    (Arc::new(world), queue)
}

fn panel_config() -> PanelConfig {
    PanelConfig {
        remote: PANEL.into(),
        url: PANEL.into(),
        token_id: "TokenId".into(),
        token: Secret::new(TOKEN),
        timeout: Duration::from_secs(30),
        servers_per_page: 50,
        custom_headers: Vec::new(),
    }
}

/// A server as the panel has it.
pub fn server() -> PanelServer {
    let mut settings = Settings::default();
    settings.container.image = IMAGE.into();
    let mut process = Process::default();
    process.stop.kind = "command".into();
    process.stop.value = "stop".into();
    PanelServer { suspended: false, settings, process }
}

/// A disk that refuses to write anything while it is told to.
#[derive(Default)]
pub struct Disk {
    rejected: Mutex<Option<io::ErrorKind>>,
    /// The operation for which there is no room, once.
    full_for: Mutex<Option<DiskOp>>,
}

impl Disk {
    pub fn rejects(&self, kind: Option<io::ErrorKind>) {
        *self.rejected.lock().unwrap() = kind;
    }

    /// There is no room for the next operation of this kind.
    pub fn rejects_one(&self, op: DiskOp) {
        *self.full_for.lock().unwrap() = Some(op);
    }
}

impl DiskHook for Disk {
    fn before(&self, _: ServerId, op: DiskOp) -> io::Result<()> {
        if self.full_for.lock().unwrap().take_if(|full| *full == op).is_some() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.rejected.lock().unwrap().map_or(Ok(()), |kind| Err(kind.into()))
    }

    fn after(&self, _: ServerId, _: DiskOp) {}
}

/// A panel in memory.
#[derive(Default)]
pub struct MemoryPanel {
    pub servers: Mutex<BTreeMap<ServerId, PanelServer>>,
    /// What it answers instead.
    pub error: Mutex<Option<PanelError>>,
    /// What it answers instead of a script.
    pub script_error: Mutex<Option<PanelError>>,
    /// Results of installations that it was told: successful, and of a reinstallation.
    pub installed: Mutex<Vec<(ServerId, bool, bool)>>,
    /// States that it was told.
    pub states: Mutex<Vec<PowerState>>,
    /// How long it takes to hear of a state.
    pub takes: Mutex<Duration>,
    /// What happens once, while it is asked for a server.
    pub meanwhile: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl MemoryPanel {
    fn answer<T>(&self, value: T) -> Result<T, PanelError> {
        self.error.lock().unwrap().clone().map_or(Ok(value), Err)
    }
}

#[async_trait]
impl Panel for MemoryPanel {
    async fn list(&self) -> Result<Listed, PanelError> {
        self.answer(Listed { servers: Vec::new(), asked: tokio::time::Instant::now(), incomplete: None })
    }
    async fn server(&self, id: ServerId) -> Result<PanelServer, PanelError> {
        let unknown =
            PanelError::Rejected { call: format!("GET /servers/{id}"), status: 404, detail: "unknown".into() };
        let server = self.servers.lock().unwrap().get(&id).cloned();
        let meanwhile = self.meanwhile.lock().unwrap().take();
        if let Some(act) = meanwhile {
            tokio::time::sleep(Duration::from_millis(10)).await;
            act();
        }
        self.answer(())?;
        server.ok_or(unknown)
    }
    async fn script(&self, _: ServerId) -> Result<Script, PanelError> {
        self.script_error.lock().unwrap().clone().map_or(Ok(()), Err)?;
        self.answer(Script { image: IMAGE.into(), entrypoint: "sh".into(), text: "true".into() })
    }
    async fn report_install(&self, id: ServerId, successful: bool, reinstall: bool) -> Result<(), PanelError> {
        self.answer(())?;
        self.installed.lock().unwrap().push((id, successful, reinstall));
        Ok(())
    }
    async fn report_state(&self, _: ServerId, _: PowerState, state: PowerState) -> Result<(), PanelError> {
        let takes = *self.takes.lock().unwrap();
        if !takes.is_zero() {
            tokio::time::sleep(takes).await;
        }
        self.answer(())?;
        self.states.lock().unwrap().push(state);
        Ok(())
    }
    async fn reset(&self) -> Result<(), PanelError> {
        self.answer(())
    }
}
