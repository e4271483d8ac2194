//! A node with a listener, whose daemon can die and come back.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use alula::api::Endpoint;
use alula::config::{NodeConfig, PanelConfig, Secret};
use alula::events::{EventKind, Subscription};
use alula::model::{Record, ServerId, Transfer};
use alula::panel::PanelError;
use alula::tasks::Blocking;
use alula::testing::fake::{Program, ServerScript};
use alula::testing::{
    PanelCall, TestNode, TestNodeBuilder, TestPanel, node_config, panel_manifest, panel_server, server_id,
};
use axum::body::Body;
use http::{Method, StatusCode};
use http_body_util::BodyExt;
use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tower::ServiceExt;
use uuid::Uuid;

pub const TOKEN: &str = "the-token";
/// The server of all tests.
pub const SERVER: u32 = 1;

pub fn server() -> ServerId {
    server_id(SERVER)
}

/// A node, its folder and its panel, which outlive its daemon.
pub struct Node {
    root: tempfile::TempDir,
    change: fn(&mut NodeConfig),
    engine: alula::testing::fake::FakeEngine,
    pub panel: TestPanel,
    pub daemon: Option<Daemon>,
}

/// What ends when a daemon dies.
pub struct Daemon {
    pub node: TestNode,
    pub router: axum::Router,
    pub address: SocketAddr,
    listener: tokio::task::JoinHandle<()>,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

impl Node {
    /// A node without servers, whose panel knows the server.
    pub async fn new() -> Self {
        Self::with_config(|_| {}).await
    }

    pub async fn with_config(change: fn(&mut NodeConfig)) -> Self {
        let engine = alula::testing::fake::FakeEngine::default();
        engine.add_image(alula::testing::IMAGE, alula::testing::fake::LocalImage::default());
        engine.set_program(alula::testing::IMAGE, Program::server(&ServerScript::default()));
        let panel = TestPanel::default();
        panel.add(server(), panel_server("run"));
        let mut node = Self { root: tempfile::tempdir().unwrap(), change, engine, panel, daemon: None };
        node.start().await;
        node
    }

    /// The daemon starts, again.
    pub async fn start(&mut self) {
        let mut config = node_config(self.root.path());
        config.live.update(|live| (live.token_id, live.token) = ("TokenId".into(), Secret::new(TOKEN)));
        config.panel = Some(panel_config());
        (self.change)(&mut config);
        let builder = TestNodeBuilder::new(config, self.engine.clone()).panel(self.panel.clone());
        let node = builder.blocking(Blocking::Pool).seed(rand()).build();
        node.sync().list_applied();
        node.start(2);
        let router = node.router(Endpoint::Tcp);
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let served = router.clone();
        let listener = tokio::spawn(async move { axum::serve(socket, served).await.unwrap() });
        self.daemon = Some(Daemon { node, router, address, listener });
    }

    /// The daemon dies.
    pub fn die(&mut self) {
        drop(self.daemon.take());
    }

    pub fn node(&self) -> &TestNode {
        &self.daemon.as_ref().expect("the daemon lives").node
    }

    /// A server that is installed nowhere else, with some files.
    pub fn add_server(&self) -> PathBuf {
        self.node().context.node.layout.prepare(server()).unwrap();
        self.node().context.store.create(panel_manifest(SERVER, "run"), Record::default(), []).unwrap();
        let data = self.data();
        std::fs::create_dir_all(data.join("world/region")).unwrap();
        std::fs::create_dir_all(data.join("empty")).unwrap();
        std::fs::write(data.join("server.jar"), vec![7; 300_000]).unwrap();
        std::fs::write(data.join("world/level.dat"), "level").unwrap();
        std::os::unix::fs::symlink("world/level.dat", data.join("link")).unwrap();
        data
    }

    pub fn data(&self) -> PathBuf {
        self.node().context.node.layout.data(server())
    }

    pub fn record(&self) -> Option<Record> {
        self.node().context.store.get(server()).map(|snapshot| Record::clone(&snapshot.record))
    }

    pub fn transfer(&self) -> Option<Transfer> {
        self.record()?.transfer
    }

    /// The results that the panel has.
    pub fn reported(&self) -> Vec<bool> {
        self.panel.lock().servers.get(&server()).map(|side| side.transfers.clone()).unwrap_or_default()
    }

    pub fn url(&self) -> String {
        format!("http://{}/api/transfers", self.daemon.as_ref().unwrap().address)
    }

    /// What the panel signs for this node as a destination.
    pub fn token(&self, id: &str, change: Value) -> String {
        let now = self.node().context.clock.now().as_millis() / 1000;
        let mut claims = json!({
            "iat": now, "nbf": now - 300, "exp": now + 900, "jti": id, "unique_id": id, "scope": "transfer", "sub": server(),
        });
        for (name, value) in change.as_object().unwrap() {
            claims[name] = value.clone();
        }
        let key = EncodingKey::from_secret(TOKEN.as_bytes()).unwrap();
        format!("Bearer {}", encode(&Header::default(), &claims, &key).unwrap())
    }

    /// A call of the panel.
    pub async fn ask(&self, method: Method, path: &str, body: impl Into<Body>) -> (StatusCode, String) {
        let request = http::Request::builder().method(method).uri(path);
        let request = request.header("authorization", format!("Bearer {TOKEN}")).body(body.into()).unwrap();
        let answer = self.daemon.as_ref().unwrap().router.clone().oneshot(request).await.unwrap();
        let (head, body) = answer.into_parts();
        (head.status, String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap())
    }

    /// The panel starts a transfer from here.
    pub async fn send_to(&self, url: &str, token: &str, backups: Value) -> StatusCode {
        let body = json!({
            "url": url, "token": token, "backups": backups, "server": {"uuid": server(), "start_on_completion": false},
        });
        self.ask(Method::POST, &format!("/api/servers/{}/transfer", server()), body.to_string()).await.0
    }

    /// A form that another daemon sends.
    pub async fn receive(&self, token: &str, form: &[u8]) -> StatusCode {
        self.receive_with(token, "multipart/form-data; boundary=abc", form).await
    }

    pub async fn receive_with(&self, token: &str, content_type: &str, form: &[u8]) -> StatusCode {
        let request = http::Request::post("/api/transfers").header("authorization", token);
        let request = request.header("content-type", content_type).body(Body::from(form.to_vec())).unwrap();
        self.answer(request).await
    }

    pub async fn answer(&self, request: http::Request<Body>) -> StatusCode {
        self.daemon.as_ref().unwrap().router.clone().oneshot(request).await.unwrap().status()
    }

    pub fn panel_is_away(&self) {
        let away = PanelError::Unreachable { call: String::new(), cause: "refused".into() };
        self.panel.fail(|call| matches!(call, PanelCall::ReportTransfer(_)), away);
    }

    pub fn events(&self) -> Subscription {
        self.node().context.store.events().subscribe(server())
    }

    /// Waits until the server is gone, and nothing of it is left.
    pub async fn is_gone(&self) {
        wait("the server is gone", || self.record().is_none()).await;
        let root = self.root.path();
        let left: Vec<PathBuf> = walk(root).into_iter().filter(|path| names_server(path)).collect();
        assert!(left.is_empty(), "{left:?}");
    }

    pub fn root(&self) -> &Path {
        self.root.path()
    }
}

/// A backup of the server on this node.
pub fn add_backup(node: &Node, id: &str, content: &[u8]) -> Uuid {
    let id: Uuid = id.parse().unwrap();
    let layout = &node.node().context.node.layout;
    let mut archive = layout.create_backup(server(), id).unwrap();
    std::io::Write::write_all(&mut archive, content).unwrap();
    archive.keep().unwrap();
    let file = layout.backup_file(server(), id).unwrap().unwrap();
    let adopted = file.adopted(node.node().context.clock.now());
    node.node().context.store.commit(server(), |record| record.backups.push(adopted)).unwrap();
    id
}

/// The statuses of a transfer that browsers got.
pub fn statuses(events: &mut Subscription) -> Vec<&'static str> {
    let mut found = Vec::new();
    while let Some(event) = events.try_recv() {
        if let EventKind::TransferStatus(status) = &event.kind {
            found.push((*status).into());
        }
    }
    found
}

fn names_server(path: &Path) -> bool {
    let name = server().to_string();
    path.components().any(|part| part.as_os_str().to_string_lossy().contains(&name))
}

fn walk(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        found.push(entry.path());
        if entry.file_type().unwrap().is_dir() {
            found.extend(walk(&entry.path()));
        }
    }
    found
}

/// All files below a folder, with modes and contents.
pub fn tree(folder: &Path) -> Vec<String> {
    use std::os::unix::fs::PermissionsExt;
    let mut found: Vec<String> = walk(folder)
        .into_iter()
        .map(|path| {
            let kind = path.symlink_metadata().unwrap();
            let content = if kind.is_symlink() {
                format!("-> {}", std::fs::read_link(&path).unwrap().display())
            } else if kind.is_dir() {
                "/".to_owned()
            } else {
                let content = std::fs::read(&path).unwrap();
                format!("{} bytes {:?}", content.len(), &content[..content.len().min(8)])
            };
            format!("{} {:o} {content}", path.strip_prefix(folder).unwrap().display(), kind.permissions().mode())
        })
        .collect();
    found.sort();
    found
}

pub async fn wait(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..600 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("not in time: {what}");
}

/// Ids of different processes differ.
fn rand() -> u64 {
    uuid::Uuid::new_v4().as_u64_pair().0
}

fn panel_config() -> PanelConfig {
    PanelConfig {
        remote: "https://panel.example.com".into(),
        url: "https://panel.example.com".into(),
        token_id: "TokenId".into(),
        token: Secret::new(TOKEN),
        timeout: Duration::from_secs(30),
        servers_per_page: 50,
        custom_headers: Vec::new(),
    }
}
