//! Crashes: what the panel's activity log and the console learn of them.

use std::time::Duration;

use alula::model::{ConditionType, PowerState, Reason, ServerId};
use alula::testing::IMAGE;
use alula::testing::fake::{Act, Program, ServerScript};
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::node::ApiNode;

/// A server that says why before it crashes.
fn fragile() -> Program {
    let now = Duration::ZERO;
    let print = |line: &str| (now, Act::Print(line.into()));
    Program::server(&ServerScript::default())
        .on_line("crash", vec![print("loading"), print("\u{1b}[31mno such map\u{1b}[0m"), (now, Act::Exit(9))])
        .on_line("grow", vec![(now, Act::RunOutOfMemory)])
}

async fn running(node: &ApiNode) -> ServerId {
    let tasks = &node.context.tasks;
    tasks.spawn("activity", alula::controller::activity::send(node.context.clone()));
    node.engine.set_program(IMAGE, fragile());
    let id = node.add(1);
    let path = format!("/api/servers/{id}/power");
    let answer = node.ask(Method::POST, &path, json!({"action": "start"}).to_string()).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED);
    node.becomes(id, PowerState::Starting).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    id
}

async fn type_line(node: &ApiNode, id: ServerId, line: &str) {
    let body = json!({"commands": [line]}).to_string();
    let answer = node.ask(Method::POST, &format!("/api/servers/{id}/commands"), body).await;
    assert_eq!(answer.status, StatusCode::NO_CONTENT);
    tokio::time::sleep(Duration::from_secs(10)).await;
}

fn crashes(node: &ApiNode) -> Vec<Value> {
    let rows = node.panel.lock().activity.clone();
    rows.into_iter().filter(|row| row["event"] == "server:crashed").collect()
}

/// The daemon's own lines in the transcript.
async fn notices(node: &ApiNode, id: ServerId) -> Vec<String> {
    let text = node.ask_locally(&format!("/local/servers/{id}/logs")).await.text;
    let lines = text.lines().filter_map(|line| line.split_once("Daemon]:")).map(|(_, text)| text.to_owned());
    lines.map(|text| text.trim_start_matches("\u{1b}[39m").trim().to_owned()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_crash_is_an_activity_and_announced_on_the_console() {
    let node = ApiNode::new();
    let id = running(&node).await;
    type_line(&node, id, "crash").await;
    tokio::time::sleep(Duration::from_secs(130)).await;
    let rows = crashes(&node);
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!(
        rows[0]["metadata"],
        json!({"exit_code": 9, "oomkilled": false, "logs": ["loading", "\u{1b}[31mno such map\u{1b}[0m"]})
    );
    assert_eq!(
        (&rows[0]["user"], &rows[0]["ip"], &rows[0]["server"]),
        (&json!(null), &json!("127.0.0.1"), &json!(id.to_string()))
    );
    let notices = notices(&node, id).await;
    let crash =
        ["---------- Detected server process in a crashed state! ----------", "Exit code: 9", "Out of memory: false"];
    assert!(notices.windows(3).any(|lines| lines == crash), "{notices:?}");
    let record = &node.context.store.get(id).unwrap().record;
    assert_eq!(record.crashes[0].lines.last().unwrap(), "no such map", "without colours");
}

#[tokio::test(start_paused = true)]
async fn a_second_crash_within_the_time_is_no_activity_and_says_what_it_printed() {
    let node = ApiNode::new();
    let id = running(&node).await;
    type_line(&node, id, "grow").await;
    type_line(&node, id, "crash").await;
    node.becomes(id, PowerState::Offline).await;
    tokio::time::sleep(Duration::from_secs(130)).await;
    let rows = crashes(&node);
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!((&rows[0]["metadata"]["exit_code"], &rows[0]["metadata"]["oomkilled"]), (&json!(137), &json!(true)));
    let notices = notices(&node, id).await;
    assert_eq!(notices.last().unwrap(), "Aborting automatic restart, last crash occurred less than 60 seconds ago.");
    let status = node.context.store.status(id).unwrap();
    let running = status.condition(ConditionType::Running).unwrap();
    assert_eq!(running.reason, Reason::CrashLoop);
    assert!(running.message.ends_with("no such map"), "{}", running.message);
}

#[tokio::test(start_paused = true)]
async fn without_crash_detection_there_is_one_notice_alone() {
    let node = ApiNode::with_config(|node| node.crash_detection = false);
    let id = running(&node).await;
    let before = notices(&node, id).await.len();
    type_line(&node, id, "crash").await;
    node.becomes(id, PowerState::Offline).await;
    tokio::time::sleep(Duration::from_secs(130)).await;
    assert_eq!(crashes(&node), [json!(null); 0]);
    let notices = notices(&node, id).await;
    assert_eq!(notices[before..], ["Aborting automatic restart, crash detection is disabled for this instance."]);
}
