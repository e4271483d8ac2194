//! A node behind its API: an engine, a disk and a panel in memory that can be made to fail.

use std::ops::Deref;
use std::time::Duration;

use alula::api::Endpoint;
use alula::config::{NodeConfig, PanelConfig, Secret};
use alula::model::{PowerState, Record, ServerId};
use alula::testing::{TestNode, TestNodeBuilder, TestPanel, panel_manifest, panel_server, server_id};
use axum::body::Body;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt;
use tower::ServiceExt;

/// The node's token.
pub const TOKEN: &str = "the-token";
/// The panel's address.
pub const PANEL: &str = "https://panel.example.com";

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

/// A streamed answer.
pub struct Stream {
    body: Body,
    /// Received text that was not returned yet.
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

    /// This many lines.
    pub async fn lines(&mut self, count: usize) -> Vec<String> {
        let mut lines = Vec::new();
        for _ in 0..count {
            lines.push(self.line().await.expect("another line"));
        }
        lines
    }

    /// Reads to the end. Returns whether that is an error.
    pub async fn ends_with_error(self) -> bool {
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

/// A node whose daemon runs, and callers of its API. Dereferences to the node.
pub struct ApiNode {
    node: TestNode,
    pub panel: TestPanel,
    router: axum::Router,
    local: axum::Router,
}

impl Deref for ApiNode {
    type Target = TestNode;

    fn deref(&self) -> &TestNode {
        &self.node
    }
}

impl ApiNode {
    /// A node without servers, whose panel's list was applied.
    pub fn new() -> Self {
        Self::with_config(|_| {})
    }

    /// The same with another configuration.
    pub fn with_config(change: impl FnOnce(&mut NodeConfig)) -> Self {
        let node = Self::before_list(change);
        node.sync().list_applied();
        node
    }

    /// The same before the panel's list is applied.
    pub fn before_list(change: impl FnOnce(&mut NodeConfig)) -> Self {
        Self::build(TestNode::builder().config(change))
    }

    /// A node made of other parts, before the panel's list is applied.
    pub fn build(builder: TestNodeBuilder) -> Self {
        let panel = TestPanel::default();
        let node = builder.panel(panel.clone()).config(|node| {
            node.live.update(|live| (live.token_id, live.token) = ("TokenId".into(), Secret::new(TOKEN)));
            node.panel = Some(panel_config());
        });
        let node = node.build();
        node.start(4);
        node.context.tasks.spawn("activity", alula::controller::activity::send(node.context.clone()));
        let (router, local) = (node.router(Endpoint::Tcp), node.router(Endpoint::Local));
        Self { node, panel, router, local }
    }

    /// The API as a TCP client sees it.
    pub fn tcp(&self) -> axum::Router {
        self.router.clone()
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
        self.send_locally(Method::GET, path, "").await
    }

    /// A request to the local socket.
    pub async fn send_locally(&self, method: Method, path: &str, body: impl Into<Body>) -> Answer {
        let request = Request::builder().method(method).uri(path).body(body.into()).unwrap();
        Self::answer(self.local.clone().oneshot(request).await.unwrap()).await
    }

    /// A streamed answer of the local socket.
    pub async fn stream(&self, path: &str) -> Stream {
        let request = Request::builder().uri(path).body(Body::empty()).unwrap();
        let response = self.local.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        Stream { body: response.into_body(), text: String::new() }
    }

    /// A server of the panel that was never started.
    pub fn add(&self, number: u32) -> ServerId {
        let id = server_id(number);
        self.panel.add(id, panel_server("run"));
        self.context.store.create(panel_manifest(number, "run"), Record::default(), []).unwrap();
        id
    }

    /// Waits until the server has this state.
    pub async fn becomes(&self, id: ServerId, state: PowerState) {
        for _ in 0..600 {
            if self.context.store.status(id).is_some_and(|status| status.state == state) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("not {state:?}: {:#?}", self.context.store.status(id));
    }
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
