//! A console in a real browser: Chromium, a page that speaks the panel's protocol, the real daemon and a real container.
//!
//! Without an engine or `chromium` this test fails; `ALULA_SKIP_DOCKER=1` or `ALULA_SKIP_BROWSER=1` skips it with a message.

#[path = "support/daemon_process.rs"]
mod daemon_process;
#[path = "support/images.rs"]
mod images;
#[path = "support/panel_sim.rs"]
mod panel_sim;

use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::response::Html;
use axum::routing::{get, post};
use daemon_process::{Node, NodeOptions, console_token, skipped, until, with_node};
use serde::Deserialize;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::Mutex as AsyncMutex;
use tokio::sync::mpsc;

/// What the browser shows.
#[derive(Debug, Clone, Default, Deserialize)]
struct Screen {
    state: String,
    lines: String,
}

/// The server of the page.
struct PageServer {
    /// Address of the socket.
    url: String,
    server: String,
    node_token: String,
    screen: Mutex<Screen>,
    to_type: AsyncMutex<mpsc::UnboundedReceiver<String>>,
}

type Page = Arc<PageServer>;

async fn session(State(page): State<Page>) -> String {
    let token = console_token(&page.node_token, &page.server);
    json!({"url": page.url, "token": token}).to_string()
}

async fn screen(State(page): State<Page>, body: String) {
    *page.screen.lock().unwrap() = serde_json::from_str(&body).expect("a screen");
}

async fn to_type(State(page): State<Page>) -> String {
    page.to_type.lock().await.recv().await.unwrap_or_default()
}

/// A browser that is killed at the end.
struct Browser {
    process: Child,
    page: Page,
    keyboard: mpsc::UnboundedSender<String>,
    _profile: tempfile::TempDir,
}

impl Browser {
    fn open(listener: TcpListener, node: &Node, server: &str) -> Self {
        let address = format!("http://{}/", listener.local_addr().unwrap());
        let (keyboard, to_type_now) = mpsc::unbounded_channel();
        let page = Arc::new(PageServer {
            url: node.url(&format!("/api/servers/{server}/ws")).replacen("http", "ws", 1),
            server: server.to_owned(),
            node_token: node.panel.token().to_owned(),
            screen: Mutex::default(),
            to_type: AsyncMutex::new(to_type_now),
        });
        let app = Router::new()
            .route("/", get(|| async { Html(include_str!("browser/console.html")) }))
            .route("/session", get(session))
            .route("/type", get(to_type))
            .route("/screen", post(screen))
            .with_state(page.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        let profile = tempfile::tempdir().expect("a temporary folder");
        let process = Command::new("chromium")
            .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg(address)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromium; install it, or leave this test out with ALULA_SKIP_BROWSER=1");
        Self { process, page, keyboard, _profile: profile }
    }

    fn type_line(&self, line: &str) {
        self.keyboard.send(line.to_owned()).unwrap();
    }

    /// Waits until the browser shows this.
    async fn shows(&self, what: &str, fits: impl Fn(&Screen) -> bool) {
        until(&format!("{what} on the screen {:?}", self.page.screen), async || {
            fits(&self.page.screen.lock().unwrap()).then_some(())
        })
        .await;
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_console_in_a_browser_shows_output_takes_commands_and_survives_a_restart_of_the_daemon() {
    if skipped() {
        return;
    }
    if std::env::var("ALULA_SKIP_BROWSER").is_ok_and(|value| value == "1") {
        eprintln!("skipped: ALULA_SKIP_BROWSER=1");
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let mut options = NodeOptions::new(env!("CARGO_BIN_EXE_alula"));
    options.config = json!({"allowed_origins": [origin]});
    with_node(options, async |node: &mut Node| {
        node.boot().await;
        let server = node.running_server().await;
        let browser = Browser::open(listener, node, &server);
        browser.shows("the state", |screen| screen.state == "running").await;
        browser.shows("the log", |screen| screen.lines.contains("booting\nready\n")).await;
        browser.type_line("say hello");
        browser.shows("the answer", |screen| screen.lines.contains("<<hello>>\n")).await;

        node.kill();
        browser.shows("the loss of the connection", |screen| screen.state == "disconnected").await;
        node.boot().await;
        browser.shows("the state again", |screen| screen.state == "running").await;
        browser.type_line("say again");
        browser.shows("the answer after the restart", |screen| screen.lines.contains("<<again>>\n")).await;

        browser.type_line("crash");
        // The exit was not asked for by the panel: it is a crash, and the server is started again.
        browser.shows("the end", |screen| screen.lines.contains("Detected server process in a crashed state!")).await;
        browser.shows("the next start", |screen| screen.state == "running").await;
        node.power(&server, "stop").await;
        browser.shows("the stop", |screen| screen.state == "offline").await;
    })
    .await;
}
