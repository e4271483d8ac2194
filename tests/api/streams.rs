//! Streamed answers of the local socket: events and logs, the earlier ones first.

use std::fs;
use std::time::Duration;

use alula::events::{EventKind, ServerEvent};
use alula::model::{PowerState, Reason, ServerId, Verb};
use alula::testing::fake::{Act, Program, ServerScript};
use alula::testing::{IMAGE, panel_server, server_id};
use http::{Method, StatusCode};
use serde_json::json;

use crate::node::{ApiNode, Stream};

/// Prints a line each second, and ends when it is asked to stop.
fn counting(lines: u32) -> Program {
    let mut program = Program::server(&ServerScript { boots_in: None, ..ServerScript::default() });
    let line = |number| (Duration::from_secs(number), Act::Print(format!("line {number}")));
    program.script = (1..=u64::from(lines)).map(line).collect();
    program
}

async fn started(node: &ApiNode, lines: u32) -> ServerId {
    node.engine.set_program(IMAGE, counting(lines));
    let id = node.add(1);
    let body = json!({"action": "start"}).to_string();
    let answer = node.ask(Method::POST, &format!("/api/servers/{id}/power"), body).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{answer:?}");
    node.becomes(id, PowerState::Starting).await;
    id
}

async fn next(stream: &mut Stream) -> ServerEvent {
    serde_json::from_str(&stream.line().await.expect("another event")).unwrap()
}

async fn next_reason(stream: &mut Stream) -> (Reason, String) {
    loop {
        if let EventKind::Event { reason, message, .. } = next(stream).await.kind {
            return (reason, message);
        }
    }
}

fn lines(from: u32, to: u32) -> Vec<String> {
    (from..=to).map(|number| format!("line {number}")).collect()
}

#[tokio::test(start_paused = true)]
async fn events_are_followed_from_the_past_on() {
    let node = ApiNode::new();
    let id = node.add(1);
    let note = |message| node.context.store.event(id, node.context.clock.now(), Reason::LeftOut, message);
    note("first");
    tokio::time::sleep(Duration::from_secs(10)).await;
    let later = node.context.clock.now();
    note("second");
    let mut all = node.stream("/local/events").await;
    let mut late = node.stream(&format!("/local/events?after={}", later.as_millis())).await;
    // While the past is being sent.
    note("third");
    for message in ["first", "second", "third"] {
        assert_eq!(next_reason(&mut all).await, (Reason::LeftOut, message.to_owned()));
    }
    for message in ["second", "third"] {
        assert_eq!(next_reason(&mut late).await, (Reason::LeftOut, message.to_owned()));
    }
    note("again");
    note("again");
    assert!(matches!(next(&mut all).await.kind, EventKind::Event { count: 1, .. }));
    assert!(matches!(next(&mut all).await.kind, EventKind::Event { count: 2, .. }));
}

#[tokio::test(start_paused = true)]
async fn states_and_conditions_are_followed() {
    let node = ApiNode::new();
    let mut stream = node.stream("/local/events").await;
    let id = started(&node, 1).await;
    let (mut state, mut condition, mut changed) = (false, false, false);
    while !(state && condition && changed) {
        let event = next(&mut stream).await;
        assert_eq!(event.uuid, Some(id));
        match event.kind {
            EventKind::State { state: now } => state |= now == PowerState::Starting,
            EventKind::Condition { condition: now } => condition |= now.reason == Reason::Ready,
            EventKind::Event { reason, .. } => changed |= reason == Reason::StateChanged,
            other => panic!("no output is for all: {other:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_console_is_followed_from_its_transcript_on() {
    let node = ApiNode::new();
    let id = started(&node, 20).await;
    // Half a line's time after the seventh, which is printed and not written yet.
    let path = format!("/local/servers/{id}/logs");
    let mut complete = node.stream(&format!("{path}?follow=true")).await;
    let begun = complete.lines(10).await;
    assert!(begun[..3].iter().all(|line| line.starts_with("[pelican Daemon]: ")), "{begun:?}");
    assert_eq!(begun[3..], lines(1, 7));
    let mut last = node.stream(&format!("{path}?follow=true&tail=2")).await;
    assert_eq!(last.lines(4).await, lines(6, 9));
    assert_eq!(node.stream(&format!("{path}?tail=3")).await.rest().await, lines(7, 9));
    assert_eq!(complete.lines(13).await, lines(8, 20));
    node.context.console.announce(id, "goodbye");
    assert_eq!(complete.line().await.unwrap(), "[pelican Daemon]: goodbye");
    let read = node.stream(&path).await.rest().await;
    assert_eq!(read.last().unwrap(), "[pelican Daemon]: goodbye");
    assert_eq!(read[3..23], lines(1, 20));
}

#[tokio::test(start_paused = true)]
async fn the_panel_reads_the_transcript_where_the_engine_keeps_no_log() {
    let node = ApiNode::with_config(|config| {
        config.live.update(|live| live.log_config.driver = "none".into());
    });
    let id = started(&node, 20).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    let answer = node.ask(Method::GET, &format!("/api/servers/{id}/logs?size=3"), String::new()).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert_eq!(answer.json()["data"], json!(lines(18, 20)));
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_with_its_server() {
    let node = ApiNode::new();
    let id = started(&node, 3).await;
    let console = node.stream(&format!("/local/servers/{id}/logs?follow=true")).await;
    let install = node.stream(&format!("/local/servers/{id}/logs?follow=true&install=true")).await;
    let answer = node.ask(Method::DELETE, &format!("/api/servers/{id}"), "").await;
    assert_eq!(answer.status, StatusCode::NO_CONTENT);
    console.rest().await;
    assert!(install.rest().await.is_empty());
    while node.context.store.get(id).is_some() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let unknown = node.ask_locally(&format!("/local/servers/{id}/logs?follow=true")).await;
    assert_eq!(unknown.status, StatusCode::NOT_FOUND);
    assert!(!node.context.store.events().has_subscribers());
}

#[tokio::test(start_paused = true)]
async fn streams_end_with_the_daemon_and_with_their_readers() {
    let node = ApiNode::new();
    let id = started(&node, 1).await;
    let followed = ["/local/events".to_owned(), format!("/local/servers/{id}/logs?follow=true")];
    for path in &followed {
        drop(node.stream(path).await);
    }
    while node.context.store.events().has_subscribers() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let (events, console) = (node.stream(&followed[0]).await, node.stream(&followed[1]).await);
    assert!(node.context.tasks.shutdown(Duration::from_secs(1)).await.is_empty(), "nothing waits for the readers");
    events.rest().await;
    console.rest().await;
}

#[tokio::test(start_paused = true)]
async fn an_installation_is_followed_and_so_is_the_next_one() {
    let node = ApiNode::new();
    node.engine.set_program(IMAGE, Program { script: installing(), ..Program::default() });
    node.panel.add(server_id(1), panel_server("run"));
    let body = json!({"uuid": server_id(1), "start_on_completion": false}).to_string();
    assert_eq!(node.ask(Method::POST, "/api/servers", body).await.status, StatusCode::ACCEPTED);
    let path = format!("/local/servers/{}/logs?install=true", server_id(1));
    // Before there is a log.
    let mut stream = node.stream(&format!("{path}&follow=true")).await;
    assert_eq!(stream.lines(2).await, ["download\r", "download\r"].map(|line| line.to_owned()));
    let mut late = node.stream(&format!("{path}&follow=true&tail=1")).await;
    assert_eq!(late.lines(2).await, ["download\r", "done\r"]);
    assert_eq!(stream.lines(1).await, ["done\r"]);
    while node.context.store.get(server_id(1)).unwrap().record.install.done.is_none() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let asked = node.context.store.request(
        server_id(1),
        None,
        [alula::requests::NewRequest {
            id: "again".into(),
            at: node.context.clock.now(),
            expires_at: None,
            timeout: None,
            by: alula::model::Requester::Cli,
            verb: Verb::Install { reinstall: true, then_start: false },
        }],
    );
    asked.unwrap();
    assert_eq!(stream.lines(3).await, ["download\r", "download\r", "done\r"], "of the other log");
    assert_eq!(node.stream(&path).await.rest().await.len(), 3);
}

fn installing() -> Vec<(Duration, Act)> {
    let print = |at, text: &str| (Duration::from_secs(at), Act::Print(text.into()));
    vec![print(1, "download"), print(2, "download"), print(5, "done"), (Duration::from_secs(6), Act::Exit(0))]
}

#[tokio::test(start_paused = true)]
async fn a_log_that_cannot_be_read_ends_with_error() {
    let node = ApiNode::new();
    let id = node.add(1);
    let log = node.context.node.layout.logs(id).join("console.log");
    let path = format!("/local/servers/{id}/logs");
    assert!(node.stream(&path).await.rest().await.is_empty(), "a server that never ran has printed nothing");
    fs::create_dir_all(&log).unwrap();
    assert!(node.stream(&path).await.ends_with_error().await);
    let wrong = node.ask_locally(&format!("{path}?tail=some")).await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);
    let over_tcp = node.ask(Method::GET, &path, "").await;
    assert_eq!(over_tcp.status, StatusCode::NOT_FOUND, "the local socket alone");
}
