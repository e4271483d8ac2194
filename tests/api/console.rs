//! Consoles of browsers: the handshake, events, actions, revocation, and slow readers.

use std::time::Duration;

use alula::model::{PowerState, Requester, Restore, RestoreFrom, ServerId, Timestamp};
use alula::testing::fake::{Act, Program, ServerScript};
use alula::testing::{IMAGE, panel_server, server_id};
use axum::body::Body;
use futures_util::{SinkExt, StreamExt};
use http::{Method, Request, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;
use uuid::Uuid;

use crate::node::{ApiNode, PANEL, TOKEN};

/// Longer than a token lives.
const TIMEOUT: Duration = Duration::from_secs(1200);
const USER: &str = "22222222-2222-4222-8222-222222222222";

/// A browser's end of a socket.
pub struct Browser {
    socket: WebSocketStream<DuplexStream>,
    head: String,
}

/// Opens a connection and sends a request to become a socket. Returns the head of the answer.
async fn request(node: &ApiNode, id: &str, origin: &str, room: usize) -> (String, DuplexStream) {
    let (mut stream, server) = tokio::io::duplex(room);
    let service = TowerToHyperService::new(node.tcp());
    tokio::spawn(async move {
        let _ = auto::Builder::new(TokioExecutor::new())
            .serve_connection_with_upgrades(TokioIo::new(server), service)
            .await;
    });
    let head = format!(
        "GET /api/servers/{id}/ws HTTP/1.1\r\nHost: node\r\nOrigin: {origin}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await.unwrap());
    }
    (String::from_utf8(answer).unwrap().to_lowercase(), stream)
}

pub fn token(node: &ApiNode, id: ServerId, change: Value) -> String {
    let now = node.context.clock.now().as_millis() / 1000;
    let mut claims = json!({
        "iat": now, "exp": now + 600, "jti": "one", "scope": "websocket", "server_uuid": id, "user_uuid": USER, "permissions": ["*"],
    });
    for (name, value) in change.as_object().unwrap() {
        claims[name] = value.clone();
    }
    encode(&Header::default(), &claims, &EncodingKey::from_secret(TOKEN.as_bytes()).unwrap()).unwrap()
}

impl Browser {
    pub async fn open(node: &ApiNode, id: ServerId) -> Self {
        Self::with_room(node, id, 64 * 1024).await
    }

    async fn with_room(node: &ApiNode, id: ServerId, room: usize) -> Self {
        let (head, stream) = request(node, &id.to_string(), PANEL, room).await;
        assert!(head.starts_with("http/1.1 101 "), "{head}");
        Self { socket: WebSocketStream::from_raw_socket(stream, Role::Client, None).await, head }
    }

    /// A socket with a token, past its greeting.
    async fn authenticated(node: &ApiNode, id: ServerId) -> Self {
        let mut browser = Self::open(node, id).await;
        browser.send("auth", &token(node, id, json!({}))).await;
        browser.find("status").await;
        browser
    }

    pub async fn send(&mut self, event: &str, argument: &str) {
        let text = json!({"event": event, "args": [argument]}).to_string();
        self.socket.send(Message::text(text)).await.unwrap();
    }

    /// The next event and its argument; `None` at the end.
    pub async fn next(&mut self) -> Option<(String, String)> {
        let message = tokio::time::timeout(TIMEOUT, self.socket.next()).await.expect("a frame, or the end");
        let Some(Ok(Message::Text(text))) = message else { return None };
        let value: Value = serde_json::from_str(&text).unwrap();
        Some((value["event"].as_str().unwrap().into(), value["args"][0].as_str().unwrap_or_default().into()))
    }

    /// The argument of the next event with this name.
    async fn find(&mut self, event: &str) -> String {
        while let Some((name, argument)) = self.next().await {
            if name == event {
                return argument;
            }
        }
        panic!("the socket ended before {event:?}");
    }

    /// Reads until the socket ends. Returns the code of a closing frame.
    async fn end(&mut self) -> Option<u16> {
        loop {
            match tokio::time::timeout(TIMEOUT, self.socket.next()).await.expect("the end") {
                Some(Ok(Message::Close(close))) => return close.map(|close| close.code.into()),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return None,
            }
        }
    }
}

pub async fn installed(node: &ApiNode) -> ServerId {
    // Tokens of the second of the start are refused.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (id, mut server) = (node.add(1), panel_server("run"));
    server.process.startup.done = vec![ServerScript::default().done];
    node.panel.add(id, server);
    id
}

pub async fn running(node: &ApiNode) -> ServerId {
    node.engine.set_program(IMAGE, Program::server(&ServerScript::default()));
    let id = installed(node).await;
    let answer =
        node.ask(Method::POST, &format!("/api/servers/{id}/power"), json!({"action": "start"}).to_string()).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED);
    node.becomes(id, PowerState::Running).await;
    id
}

#[tokio::test(start_paused = true)]
async fn a_request_becomes_a_socket_with_the_headers_of_wings() {
    let node = ApiNode::new();
    let id = installed(&node).await;
    let browser = Browser::open(&node, id).await;
    for line in [
        "sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=",
        "content-security-policy: default-src 'self'",
        "x-frame-options: deny",
        "x-request-id: ",
        "access-control-allow-origin: https://panel.example.com",
    ] {
        assert!(browser.head.contains(line), "{line}: {}", browser.head);
    }
    assert!(!browser.head.contains("user-agent"), "{}", browser.head);
    for (id, origin, status) in [
        (server_id(7).to_string(), PANEL, "404"),
        ("no-uuid".into(), PANEL, "404"),
        (id.to_string(), "https://evil.example", "403"),
    ] {
        let (head, _) = request(&node, &id, origin, 1024).await;
        assert!(head.starts_with(&format!("http/1.1 {status} ")), "{head}");
    }
    let plain = Request::builder().uri(format!("/api/servers/{id}/ws")).header("origin", PANEL).body(Body::empty());
    let answer = node.send(plain.unwrap()).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert!(answer.text.starts_with("Bad Request\n{\"error\":"), "{}", answer.text);
}

#[tokio::test(start_paused = true)]
async fn a_server_is_started_watched_and_stopped_over_a_socket() {
    let node = ApiNode::new();
    node.engine.set_program(IMAGE, Program::server(&ServerScript::default()));
    let id = installed(&node).await;
    let mut browser = Browser::open(&node, id).await;
    browser.send("auth", &token(&node, id, json!({}))).await;
    assert_eq!(browser.next().await.unwrap().0, "auth success");
    assert_eq!(browser.next().await.unwrap(), ("status".into(), "offline".into()));
    assert_eq!(browser.next().await.unwrap().0, "stats");
    browser.send("set state", "start").await;
    let (mut states, mut notices) = (Vec::new(), Vec::new());
    while states.last().is_none_or(|state| state != "running") {
        match browser.next().await.unwrap() {
            (event, state) if event == "status" => states.push(state),
            (event, line) if event == "console output" && line.contains("Daemon]:") => notices.push(line),
            _ => {}
        }
    }
    assert_eq!(states, ["starting", "running"]);
    let position = |text: &str| {
        notices.iter().position(|line| line.contains(text)).unwrap_or_else(|| panic!("{text}: {notices:?}"))
    };
    assert!(position("Pulling Docker container image") < position("Finished pulling Docker container image"));
    browser.send("set state", "start").await;
    assert!(
        browser.find("daemon error").await.ends_with("an unexpected error was encountered while handling this request")
    );
    browser.send("set state", "stop").await;
    while browser.find("status").await != "offline" {}
}

#[tokio::test(start_paused = true)]
async fn a_socket_ends_when_its_user_is_deauthorized_and_the_token_is_refused_afterwards() {
    for wrapped in [false, true] {
        let node = ApiNode::new();
        let id = installed(&node).await;
        let former = token(&node, id, json!({}));
        let mut browser = Browser::authenticated(&node, id).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        let body = json!({"user": USER, "servers": [id, server_id(9)]});
        let body = if wrapped { json!({"json": body}) } else { body };
        let answer = node.ask(Method::POST, "/api/deauthorize-user", body.to_string()).await;
        assert_eq!(answer.status, StatusCode::NO_CONTENT);
        assert_eq!(browser.end().await, None, "without a closing frame");
        let mut again = Browser::open(&node, id).await;
        again.send("auth", &former).await;
        assert!(again.find("jwt error").await.ends_with("jwt: created too far in past (denylist)"));
        tokio::time::sleep(Duration::from_secs(2)).await;
        again.send("auth", &token(&node, id, json!({}))).await;
        again.find("auth success").await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_denied_token_does_nothing_and_the_socket_stays() {
    let node = ApiNode::new();
    let id = installed(&node).await;
    let mut browser = Browser::authenticated(&node, id).await;
    let body = json!({"jtis": ["one"]}).to_string();
    let answer = node.ask(Method::POST, &format!("/api/servers/{id}/ws/deny"), body).await;
    assert_eq!(answer.status, StatusCode::NO_CONTENT);
    browser.send("send stats", "").await;
    assert!(browser.find("jwt error").await.contains("denylist"));
    browser.send("auth", &token(&node, id, json!({"jti": "two"}))).await;
    browser.find("auth success").await;
}

#[tokio::test(start_paused = true)]
async fn sockets_of_a_suspended_or_deleted_server_end() {
    let node = ApiNode::new();
    let id = installed(&node).await;
    let mut browser = Browser::authenticated(&node, id).await;
    let suspended = |suspended: bool| {
        let mut server = panel_server("run");
        server.suspended = suspended;
        node.panel.add(id, server);
    };
    suspended(true);
    assert_eq!(node.ask(Method::POST, &format!("/api/servers/{id}/sync"), "").await.status, StatusCode::NO_CONTENT);
    assert_eq!(browser.end().await, None);
    assert_eq!(Browser::open(&node, id).await.end().await, Some(4409));
    suspended(false);
    assert_eq!(node.ask(Method::POST, &format!("/api/servers/{id}/sync"), "").await.status, StatusCode::NO_CONTENT);
    let mut browser = Browser::authenticated(&node, id).await;
    assert_eq!(node.ask(Method::DELETE, &format!("/api/servers/{id}"), "").await.status, StatusCode::NO_CONTENT);
    assert_eq!(browser.find("deleted").await, "null");
    assert_eq!(browser.end().await, None);
}

#[tokio::test(start_paused = true)]
async fn odd_messages_are_ignored_and_long_ones_close_the_socket() {
    let node = ApiNode::new();
    let id = installed(&node).await;
    let mut browser = Browser::authenticated(&node, id).await;
    for message in [Message::text("{"), Message::binary(vec![0, 1]), Message::text("[]"), Message::Ping("x".into())] {
        browser.socket.send(message).await.unwrap();
    }
    browser.send("send stats", "").await;
    browser.find("stats").await;
    for length in [4097, 100_000] {
        let mut browser = Browser::open(&node, id).await;
        let _ = browser.socket.send(Message::text("x".repeat(length))).await;
        assert_eq!(browser.end().await, Some(1009), "{length} bytes");
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_has_thirty_sockets_at_most() {
    let node = ApiNode::new();
    let id = installed(&node).await;
    let mut browsers = Vec::new();
    for _ in 0..30 {
        browsers.push(Browser::open(&node, id).await);
    }
    let (head, _) = request(&node, &id.to_string(), PANEL, 1024).await;
    assert!(head.starts_with("http/1.1 400 "), "{head}");
    browsers.pop();
    tokio::time::sleep(Duration::from_millis(100)).await;
    Browser::open(&node, id).await;
}

#[tokio::test(start_paused = true)]
async fn commands_are_typed_and_the_log_is_sent_again() {
    let node = ApiNode::new();
    let id = running(&node).await;
    let mut browser = Browser::authenticated(&node, id).await;
    browser.send("send command", "say hi").await;
    // The server answers with the rest of the line.
    while browser.find("console output").await != "hi" {}
    browser.send("send logs", "").await;
    while browser.find("console output").await != "hi" {}
}

#[tokio::test(start_paused = true)]
async fn an_action_ends_the_socket_while_a_backup_is_restored() {
    let node = ApiNode::new();
    let id = running(&node).await;
    let mut browser = Browser::authenticated(&node, id).await;
    let (token, backup) = (Uuid::from_u128(1), Uuid::from_u128(2));
    let restore = Restore::new(token, backup, Timestamp::from_millis(0), Requester::Panel, RestoreFrom::Local);
    let restore = Restore { truncate: true, ..restore };
    node.context.store.commit(id, |record| record.begin_restore(restore)).unwrap();
    browser.send("send command", "say hi").await;
    assert_eq!(browser.end().await, None);
}

#[tokio::test(start_paused = true)]
async fn what_was_asked_for_before_a_socket_ends_is_done_and_recorded() {
    let node = ApiNode::new();
    let id = running(&node).await;
    let mut browser = Browser::authenticated(&node, id).await;
    for number in 0..4 {
        browser.send("send command", &format!("say number {number}")).await;
    }
    browser.socket.close(None).await.unwrap();
    browser.end().await;
    let mut other = Browser::authenticated(&node, id).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    other.send("set state", "kill").await;
    drop(other);
    node.becomes(id, PowerState::Offline).await;
    let printed = node.engine.printed(&id.to_string());
    let said: Vec<_> = printed.lines().filter(|line| line.starts_with("number ")).map(str::trim).collect();
    assert_eq!(said, ["number 0", "number 1", "number 2", "number 3"]);
    tokio::time::sleep(Duration::from_secs(120)).await;
    let recorded: Vec<_> = node.panel.lock().activity.iter().map(|row| row["event"].clone()).collect();
    assert_eq!(recorded.iter().filter(|event| *event == "server:console.command").count(), 4, "{recorded:?}");
    assert_eq!(recorded.iter().filter(|event| *event == "server:power.kill").count(), 1, "{recorded:?}");
}

#[tokio::test(start_paused = true)]
async fn a_browser_that_does_not_read_slows_no_other_and_learns_what_it_missed() {
    // In batches: all lines of a moment are read at once.
    let (moments, lines, text) = (200_u64, 1000_u64, "x".repeat(300));
    let node = ApiNode::with_config(|config| config.console_limit = None);
    let mut program = Program::server(&ServerScript { boots_in: None, ..ServerScript::default() });
    let printed = |moment: u64| {
        let text = (0..lines).map(|line| format!("{} {text}\r\n", moment * lines + line)).collect::<String>();
        (Duration::from_millis(60_000 + moment), Act::Print(text))
    };
    program.script = (0..moments).map(printed).collect();
    node.engine.set_program(IMAGE, program);
    let id = installed(&node).await;
    let body = json!({"action": "start"}).to_string();
    node.ask(Method::POST, &format!("/api/servers/{id}/power"), body).await;
    node.becomes(id, PowerState::Starting).await;
    let (mut slow, mut fast) = (Browser::authenticated(&node, id).await, Browser::authenticated(&node, id).await);
    let mut next = 0;
    while next < moments * lines {
        let line = fast.find("console output").await;
        if let Some((number, _)) = line.split_once(" x") {
            assert_eq!(number.parse(), Ok(next), "the fast one loses nothing");
            next += 1;
        }
    }
    let mut seen = 0;
    loop {
        let line = slow.find("console output").await;
        if line.contains("lines are missing here") {
            break;
        }
        seen += u64::from(line.contains(" x"));
    }
    assert!(seen < moments * lines);
}
