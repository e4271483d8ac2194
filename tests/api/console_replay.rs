//! Consoles of real browsers and Wings: what the browser sent is sent again at the same times, and the node answers as Wings did.
//!
//! A file of `fixtures/panel/console` is a list of frames in their order, without statistics and output.

use std::time::Duration;

use alula::model::ServerId;
use alula::testing::IMAGE;
use alula::testing::fake::{Program, ServerScript};
use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;

use crate::console::{Browser, installed, running, token};
use crate::node::ApiNode;

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Side {
    User,
    Node,
}

/// A token of the panel.
#[derive(Debug, Clone, Deserialize)]
struct Token {
    /// Seconds.
    lifetime: i64,
    permissions: Vec<String>,
}

/// A frame of a console.
#[derive(Debug, Clone, Deserialize)]
struct Frame {
    /// Seconds since the socket was opened.
    at: f64,
    from: Side,
    event: String,
    #[serde(default)]
    argument: String,
    /// What the user presents instead of an argument.
    token: Option<Token>,
}

/// An event of the node. The text of an error is the node's own.
fn comparable(event: &str, argument: &str) -> (String, String) {
    let argument = if event == "daemon error" { "" } else { argument };
    (event.to_owned(), argument.to_owned())
}

/// What the node sends until this time.
async fn events_until(browser: &mut Browser, end: Instant) -> Vec<(String, String)> {
    let mut events = Vec::new();
    while let Ok(event) = tokio::time::timeout_at(end, browser.next()).await {
        let (event, argument) = event.expect("the socket stays open");
        if !matches!(event.as_str(), "stats" | "console output" | "install output") {
            events.push(comparable(&event, &argument));
        }
    }
    events
}

async fn replay(node: &ApiNode, id: ServerId, text: &str) {
    let frames: Vec<Frame> = serde_json::from_str(text).unwrap();
    let (sent, expected): (Vec<Frame>, Vec<Frame>) = frames.into_iter().partition(|frame| frame.from == Side::User);
    let mut browser = Browser::open(node, id).await;
    let (opened, mut events) = (Instant::now(), Vec::new());
    for frame in sent {
        events.extend(events_until(&mut browser, opened + Duration::from_secs_f64(frame.at)).await);
        let argument = match &frame.token {
            Some(Token { lifetime, permissions }) => {
                let now = node.context.clock.now().as_millis() / 1000;
                token(node, id, json!({"exp": now + lifetime, "permissions": permissions}))
            }
            None => frame.argument,
        };
        browser.send(&frame.event, &argument).await;
    }
    events.extend(events_until(&mut browser, Instant::now() + Duration::from_secs(1)).await);
    let expected: Vec<_> = expected.iter().map(|frame| comparable(&frame.event, &frame.argument)).collect();
    assert_eq!(events, expected);
}

fn traffic(name: &str) -> String {
    let path = format!("{}/tests/fixtures/panel/console/{name}.json", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(path).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_session_of_a_browser_is_repeated() {
    let node = ApiNode::new();
    let id = running(&node).await;
    let times = ServerScript {
        boots_in: Some(Duration::from_secs(2)),
        stops_in: Some(Duration::from_secs(1)),
        ..ServerScript::default()
    };
    node.engine.set_program(IMAGE, Program::server(&times));
    replay(&node, id, &traffic("session")).await;
}

#[tokio::test(start_paused = true)]
async fn tokens_that_expire_and_are_renewed_are_repeated() {
    for name in ["renewed_token", "expired_token"] {
        let node = ApiNode::new();
        let id = installed(&node).await;
        replay(&node, id, &traffic(name)).await;
    }
}
