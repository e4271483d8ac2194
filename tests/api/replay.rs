//! What a panel and Wings really said to each other: the panel's side is repeated to the node, with the panel's own answers, and the node
//! answers and reports as Wings did. The times of both sides are not repeated.
//!
//! A file of `fixtures/panel/traffic` is a list of exchanges in their order. The node's own calls are answered with what the panel
//! has answered then.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alula::api::Endpoint;
use alula::config::{PanelConfig, Secret};
use alula::panel::client::HttpPanel;
use alula::testing::TestNode;
use alula::testing::fake::{LocalImage, Program, ServerScript};
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, Method, Request, StatusCode, Uri, header};
use http_body_util::BodyExt;
use serde::Deserialize;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::node::TOKEN;

const TOKEN_ID: &str = "Q4FyJYmHzHLmy7D8";
const GAME: &str = "127.0.0.1:19050/alula/game:1";
const INSTALLER: &str = "127.0.0.1:19050/alula/installer:1";
const TIMEOUT: Duration = Duration::from_secs(20);

/// Something that happened.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "by", rename_all = "camelCase")]
enum Exchange {
    Panel(Call),
    Node(Call),
    /// The container of this name was killed from outside.
    Host {
        kills: String,
    },
}

/// A request and its answer.
#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Call {
    method: String,
    path: String,
    status: u16,
    #[serde(default)]
    body: Value,
    #[serde(default)]
    answer: Value,
}

impl Call {
    /// Activities have times of their own.
    fn is_compared(&self) -> bool {
        self.path != "/activity"
    }

    fn key(&self) -> (String, String) {
        (self.method.clone(), self.path.clone())
    }
}

/// The panel: its answers at this moment, and what the node has asked.
#[derive(Default)]
struct Panel {
    answers: BTreeMap<(String, String), (u16, Value)>,
    calls: Vec<(Call, HeaderMap)>,
}

type SharedPanel = Arc<Mutex<Panel>>;

async fn answer(
    State(panel): State<SharedPanel>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: axum::body::Bytes,
) -> Response {
    let path = uri.path().trim_start_matches("/api/remote").to_owned();
    let body = serde_json::from_slice(&body).unwrap_or_default();
    let mut panel = panel.lock().unwrap();
    let (status, answer) = match panel.answers.get(&(method.to_string(), path.clone())) {
        Some(known) => known.clone(),
        None if path == "/activity" => (200, Value::Null),
        None => {
            (404, json!({"errors": [{"code": "NotFoundHttpException", "status": "404", "detail": "not recorded"}]}))
        }
    };
    panel.calls.push((Call { method: method.to_string(), path, status, body, answer: answer.clone() }, headers));
    let status = StatusCode::from_u16(status).unwrap();
    if status == StatusCode::NO_CONTENT {
        return status.into_response();
    }
    (status, [(header::CONTENT_TYPE, "application/json")], answer.to_string()).into_response()
}

/// A node and its panel.
struct Replay {
    node: TestNode,
    router: Router,
    panel: SharedPanel,
    /// The scenario and the exchange, for messages.
    at: String,
    /// Calls that were compared.
    compared: usize,
}

fn game() -> Program {
    let times = ServerScript {
        boots_in: Some(Duration::from_millis(300)),
        done: "Server ready".into(),
        stops_in: Some(Duration::from_millis(300)),
        ..ServerScript::default()
    };
    Program::server(&times)
}

impl Replay {
    async fn new() -> Self {
        let panel = SharedPanel::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let app = Router::new().fallback(answer).with_state(panel.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        let config = PanelConfig {
            remote: url.clone(),
            url: format!("{url}/api/remote"),
            token_id: TOKEN_ID.into(),
            token: Secret::new(TOKEN),
            timeout: Duration::from_secs(5),
            servers_per_page: 50,
            custom_headers: Vec::new(),
        };
        let client = HttpPanel::new(&config, false).unwrap();
        let node = TestNode::builder().panel(client).config(|node| {
            node.live.update(|live| (live.token_id, live.token) = (TOKEN_ID.into(), Secret::new(TOKEN)));
            node.panel = Some(config);
        });
        let node = node.build();
        for image in [GAME, INSTALLER] {
            node.engine.add_image(image, LocalImage::default());
        }
        node.engine.set_program(GAME, game());
        let lines = [(Duration::ZERO, "installing, version latest as 0"), (Duration::ZERO, "install done")];
        node.engine.set_program(INSTALLER, Program::installer(&lines, Duration::from_millis(300), 0));
        node.start(4);
        node.sync().list_applied();
        let router = node.router(Endpoint::Tcp);
        Self { node, router, panel, at: String::new(), compared: 0 }
    }

    /// Repeats all exchanges of a scenario.
    async fn play(&mut self, scenario: &str, text: &str) {
        let exchanges: Vec<Exchange> = serde_json::from_str(text).unwrap();
        for (number, exchange) in exchanges.iter().enumerate() {
            self.at = format!("{scenario}, exchange {number}");
            match exchange {
                Exchange::Panel(call) => self.ask(call, answers(&exchanges[number + 1..])).await,
                Exchange::Host { kills } => assert!(self.node.engine.kill_outside(kills), "{}", self.at),
                Exchange::Node(_) => continue,
            }
            self.compare(exchanges[number + 1..].iter().map_while(|next| match next {
                Exchange::Node(call) => Some(call),
                _ => None,
            }))
            .await;
        }
    }

    /// Repeats a call of the panel.
    async fn ask(&self, call: &Call, answers: BTreeMap<(String, String), (u16, Value)>) {
        self.panel.lock().unwrap().answers.extend(answers);
        let body = if call.body.is_null() { Body::empty() } else { Body::from(call.body.to_string()) };
        let request = Request::builder()
            .method(call.method.as_str())
            .uri(&call.path)
            .header(header::USER_AGENT, "GuzzleHttp/7")
            .header(header::ACCEPT, "application/json")
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::AUTHORIZATION, format!("Bearer {TOKEN}"));
        let answer = self.router.clone().oneshot(request.body(body).unwrap()).await.unwrap();
        let (head, body) = answer.into_parts();
        let text = body.collect().await.unwrap().to_bytes();
        let context = format!("{}: {} {}: {}", self.at, call.method, call.path, String::from_utf8_lossy(&text));
        assert_eq!(head.status.as_u16(), call.status, "{context}");
        // The panel takes an answer without this header for a failed connection.
        let agent = head.headers.get(header::USER_AGENT).map(|agent| agent.to_str().unwrap());
        assert!(agent.is_some_and(|agent| agent.contains(&format!("(id:{TOKEN_ID})"))), "{agent:?} {context}");
        match &call.answer {
            Value::Null => assert!(text.is_empty(), "{context}"),
            Value::String(_) => assert!(!text.is_empty(), "{context}"),
            recorded => has_shape(recorded, &serde_json::from_slice(&text).expect(&context), &context),
        }
    }

    /// Waits for the calls that follow, and compares all that have arrived.
    async fn compare(&mut self, expected: impl Iterator<Item = &Call>) {
        let expected: Vec<&Call> = expected.filter(|call| call.is_compared()).collect();
        let deadline = tokio::time::Instant::now() + TIMEOUT;
        let arrived = loop {
            let all: Vec<Call> = self.panel.lock().unwrap().calls.iter().map(|(call, _)| call.clone()).collect();
            let new: Vec<Call> = all.into_iter().filter(Call::is_compared).skip(self.compared).collect();
            if new.len() >= expected.len() || tokio::time::Instant::now() > deadline {
                break new;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        // Reports come in the same order. When the node reads is its own affair.
        let reports = |calls: &mut dyn Iterator<Item = &Call>| -> Vec<(String, Value)> {
            calls.filter(|call| call.method == "POST").map(|call| (call.path.clone(), call.body.clone())).collect()
        };
        let read = |calls: &mut dyn Iterator<Item = &Call>| {
            let mut read: Vec<_> = calls.filter(|call| call.method == "GET").map(Call::key).collect();
            read.sort();
            read
        };
        let at = &self.at;
        assert_eq!(reports(&mut arrived.iter()), reports(&mut expected.iter().copied()), "{at}");
        assert_eq!(read(&mut arrived.iter()), read(&mut expected.iter().copied()), "{at}");
        self.compared += arrived.len();
    }

    /// Nothing else has arrived, and every call was as Wings makes it.
    async fn end(self) {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let panel = self.panel.lock().unwrap();
        assert_eq!(panel.calls.iter().filter(|(call, _)| call.is_compared()).count(), self.compared);
        for (call, headers) in &panel.calls {
            let header = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
            assert_eq!(header("authorization"), Some(format!("Bearer {TOKEN_ID}.{TOKEN}")), "{call:?}");
            assert_eq!(header("accept").as_deref(), Some("application/json"), "{call:?}");
            assert_eq!(header("content-type").as_deref(), Some("application/json"), "{call:?}");
            assert!(header("user-agent").unwrap().ends_with(&format!("(id:{TOKEN_ID})")), "{call:?}");
        }
    }
}

/// The first answer to each of the node's calls before the panel's next one.
fn answers(following: &[Exchange]) -> BTreeMap<(String, String), (u16, Value)> {
    let mut answers = BTreeMap::new();
    for exchange in following {
        match exchange {
            Exchange::Node(call) => drop(answers.entry(call.key()).or_insert((call.status, call.answer.clone()))),
            Exchange::Panel(_) => break,
            Exchange::Host { .. } => {}
        }
    }
    answers
}

/// `ours` has all keys of `recorded`, with values of the same type, and the same error.
fn has_shape(recorded: &Value, ours: &Value, context: &str) {
    match (recorded, ours) {
        (Value::Object(recorded), Value::Object(ours)) => {
            for (key, value) in recorded {
                let own = ours.get(key).unwrap_or_else(|| panic!("{key} is missing: {context}"));
                if key == "error" {
                    assert_eq!(own, value, "{context}");
                }
                has_shape(value, own, &format!("{key} of {context}"));
            }
        }
        (Value::Array(recorded), Value::Array(ours)) => {
            if let (Some(recorded), Some(ours)) = (recorded.first(), ours.first()) {
                has_shape(recorded, ours, context);
            }
        }
        _ => assert_eq!(std::mem::discriminant(recorded), std::mem::discriminant(ours), "{context}"),
    }
}

macro_rules! traffic {
    ($name:literal) => {
        ($name, include_str!(concat!("../fixtures/panel/traffic/", $name, ".json")))
    };
}

/// The server of the first scenario through its life.
#[tokio::test]
async fn the_traffic_about_one_server_is_repeated() {
    let mut replay = Replay::new().await;
    for (scenario, text) in [
        traffic!("create_install_start"),
        traffic!("suspend_and_unsuspend"),
        traffic!("reinstall"),
        traffic!("power_and_command"),
        traffic!("settings"),
        traffic!("stop"),
        traffic!("crash"),
    ] {
        replay.play(scenario, text).await;
    }
    replay.end().await;
}

#[tokio::test]
async fn the_traffic_about_other_servers_is_repeated() {
    let mut replay = Replay::new().await;
    for (scenario, text) in [traffic!("delete"), traffic!("other_calls")] {
        replay.play(scenario, text).await;
    }
    replay.end().await;
}
