//! Errors in the format of the protocol.

use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex};

use alula::panel::PanelError;
use alula::testing::server_id;
use http::{Method, StatusCode};
use serde_json::json;

use crate::node::ApiNode;

const UNEXPECTED: &str = "An unexpected error was encountered while processing this request";

#[tokio::test(start_paused = true)]
async fn an_unknown_server_is_a_404_whatever_its_name() {
    let node = ApiNode::new();
    let unknown = json!({"error": "The requested resource does not exist on this instance."});
    for name in [&server_id(9).to_string(), "x", "%FF", "550E8400-E29B-41D4-A716-000000000001", "%2e%2e", "a%2Fb"] {
        for (method, path) in [
            (Method::GET, format!("/api/servers/{name}")),
            (Method::DELETE, format!("/api/servers/{name}")),
            (Method::POST, format!("/api/servers/{name}/power")),
            (Method::POST, format!("/api/servers/{name}/commands")),
            (Method::POST, format!("/api/servers/{name}/sync")),
            (Method::POST, format!("/api/servers/{name}/reinstall")),
            (Method::POST, format!("/api/servers/{name}/ws/deny")),
            (Method::GET, format!("/api/servers/{name}/logs")),
            (Method::GET, format!("/api/servers/{name}/install-logs")),
        ] {
            let answer = node.ask(method, &path, vec![b' '; 5 << 20]).await;
            assert_eq!((answer.status, answer.json()), (StatusCode::NOT_FOUND, unknown.clone()), "{path}");
            assert_eq!(answer.header("content-type"), "application/json; charset=utf-8");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn bodies_that_cannot_be_used() {
    let node = ApiNode::new();
    let power = format!("/api/servers/{}/power", node.add(1));
    let no_body = "The data passed in the request was not in a parsable format. Please try again.";
    for (path, body, status, message) in [
        (power.as_str(), "", 400, no_body),
        ("/api/servers", " \n", 400, no_body),
        (&power, "{", 400, UNEXPECTED),
        (&power, "[]", 400, UNEXPECTED),
        (&power, r#"{"action": 5}"#, 400, UNEXPECTED),
        (
            &power,
            r#"{"action": "terminate"}"#,
            422,
            r#"The power action provided was not valid, should be one of "stop", "start", "restart", "kill""#,
        ),
        ("/api/servers", r#"{"uuid": "x"}"#, 422, "The data provided in the request could not be validated."),
    ] {
        let answer = node.ask(Method::POST, path, body).await;
        assert_eq!(
            (answer.status.as_u16(), answer.json()["error"].as_str()),
            (status, Some(message)),
            "{path} {body:?}"
        );
        let request_id = answer.json()["request_id"].as_str().unwrap_or_default().to_owned();
        let expected = if message == UNEXPECTED { answer.header("x-request-id") } else { "" };
        assert_eq!(request_id, expected, "{path} {body:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_too_long_is_rejected_with_a_message() {
    let node = ApiNode::new();
    let power = format!("/api/servers/{}/power", node.add(1));
    for path in [power.as_str(), "/api/servers"] {
        let answer = node.ask(Method::POST, path, vec![b' '; (4 << 20) + 1]).await;
        assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(answer.json(), json!({"error": "The request body is larger than 4 MiB."}));
        assert_eq!(answer.header("content-type"), "application/json; charset=utf-8");
    }
    let mut body = br#"{"action": "kill"}"#.to_vec();
    body.resize(4 << 20, b' ');
    assert_eq!(node.ask(Method::POST, &power, body).await.status, StatusCode::ACCEPTED);
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_rejects_is_named() {
    let node = ApiNode::new();
    let power = format!("/api/servers/{}/power", node.add(1));
    for (kind, status, message) in [
        (ErrorKind::StorageFull, 507, "The node's disk is full; free some space and try again."),
        (ErrorKind::QuotaExceeded, 507, "The node's disk is full; free some space and try again."),
        (
            ErrorKind::ReadOnlyFilesystem,
            500,
            "The node's state folder is on a read-only file system; mount it writable and try again.",
        ),
        (ErrorKind::PermissionDenied, 500, UNEXPECTED),
    ] {
        node.disk.fail(kind, |_, _| true);
        let answer = node.ask(Method::POST, &power, r#"{"action": "start"}"#).await;
        let path = format!("/local/servers/{}/power", server_id(1));
        let local = node.send_locally(Method::POST, &path, r#"{"action": "start"}"#).await;
        node.disk.succeed();
        let reason = local.json()["error"].as_str().unwrap_or_default().to_owned();
        assert_eq!(local.status.as_u16(), status, "{kind:?}");
        assert!(reason.contains("requests.json: "), "local callers get the reason: {reason}");
        assert!(reason.ends_with(message) != (message == UNEXPECTED), "{reason}");
        assert_eq!(answer.status.as_u16(), status, "{kind:?}");
        assert_eq!(answer.json(), json!({"error": message, "request_id": answer.header("x-request-id")}), "{kind:?}");
    }
    assert_eq!(node.context.store.get(server_id(1)).unwrap().requests.accepted, []);
}

#[tokio::test(start_paused = true)]
async fn an_invalid_response_of_the_panel_does_not_delay_a_create() {
    let node = ApiNode::new();
    let invalid_response =
        PanelError::InvalidResponse { call: "GET /servers".into(), detail: "the answer: expected JSON".into() };
    node.panel.fail(|_| true, invalid_response);
    let began = tokio::time::Instant::now();
    let answer = node.ask(Method::POST, "/api/servers", json!({"uuid": server_id(2)}).to_string()).await;
    assert_eq!((answer.status, began.elapsed().as_millis()), (StatusCode::INTERNAL_SERVER_ERROR, 0));
    assert_eq!(answer.json()["error"], UNEXPECTED);
    assert!(node.context.store.get(server_id(2)).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_a_handler_is_answered_and_logged() {
    let log = Log::start();
    let node = ApiNode::new();
    node.add(1);
    node.panel.during_next_fetch(|| panic!("out of luck"));
    let body = json!({"uuid": server_id(2)}).to_string();
    let local = node.send_locally(Method::POST, "/api/servers", body.clone()).await;
    assert!(local.json()["error"].as_str().unwrap().contains("out of luck"), "{local:?}");
    node.panel.during_next_fetch(|| panic!("out of luck"));
    let answer = node.ask(Method::POST, "/api/servers?secret=1", body).await;
    assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
    let request_id = answer.header("x-request-id");
    assert_eq!(answer.json(), json!({"error": UNEXPECTED, "request_id": request_id}));
    let log = log.text();
    let line = log.lines().find(|line| line.contains("out of luck") && line.contains(request_id)).expect(&log);
    assert!(line.contains(request_id) && line.contains("path=\"/api/servers\"") && !line.contains("secret"), "{line}");
    // The next request succeeds.
    let answer = node.ask(Method::GET, &format!("/api/servers/{}", server_id(1)), "").await;
    assert_eq!(answer.status, StatusCode::OK);
}

/// The errors that this process logs: a log of one thread would miss lines that another thread was the first to come by.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn start() -> Self {
        let (log, lines) = (Self::default(), tracing_subscriber::fmt().with_max_level(tracing::Level::ERROR));
        let writer = log.clone();
        lines.with_ansi(false).with_writer(move || writer.clone()).init();
        log
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
