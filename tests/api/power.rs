//! Power requests and console lines, down to the container.

use std::time::Duration;

use alula::model::{Manifest, PowerState, Reason, Role, ServerId};
use alula::panel::PanelError;
use alula::testing::fake::{Act, Program, ServerScript};
use alula::testing::{IMAGE, PanelCall, panel_server};
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::node::ApiNode;

async fn act(node: &ApiNode, id: ServerId, action: &str) {
    let body = json!({"action": action}).to_string();
    let answer = node.ask(Method::POST, &format!("/api/servers/{id}/power"), body).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{answer:?}");
}

async fn type_lines(node: &ApiNode, id: ServerId, lines: &[&str]) -> StatusCode {
    let body = json!({"commands": lines}).to_string();
    node.ask(Method::POST, &format!("/api/servers/{id}/commands"), body).await.status
}

/// A server that says so when it is asked to stop, and ends when it is asked again.
fn stubborn() -> Program {
    Program::server(&ServerScript { stops_in: None, done: "ready".into(), ..ServerScript::default() })
        .on_line("stop", vec![(Duration::ZERO, Act::Print("asked to stop".into()))])
        .on_line("end", vec![(Duration::ZERO, Act::Exit(0))])
}

async fn running(node: &ApiNode) -> ServerId {
    node.engine.set_program(IMAGE, stubborn());
    let id = node.add(1);
    act(node, id, "start").await;
    node.becomes(id, PowerState::Starting).await;
    // Its egg names no line that ends the start-up.
    tokio::time::sleep(Duration::from_secs(5)).await;
    id
}

/// The lines that the container printed and that are about input.
fn acknowledged(node: &ApiNode, id: ServerId) -> Vec<String> {
    let printed = node.engine.printed(&id.to_string());
    let lines = printed.lines().map(|line| line.trim_end().to_owned());
    lines.filter(|line| line == "asked to stop" || line.starts_with("line ")).collect()
}

#[tokio::test(start_paused = true)]
async fn a_second_stop_command_is_typed() {
    let node = ApiNode::new();
    let id = running(&node).await;
    assert_eq!(type_lines(&node, id, &["stop"]).await, StatusCode::NO_CONTENT);
    node.becomes(id, PowerState::Stopping).await;
    assert_eq!(type_lines(&node, id, &["stop"]).await, StatusCode::NO_CONTENT);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(acknowledged(&node, id), ["asked to stop", "asked to stop"]);
}

#[tokio::test(start_paused = true)]
async fn a_running_server_has_an_uptime_and_a_memory_limit() {
    let node = ApiNode::new();
    let id = node.add(1);
    let utilization = async || {
        let one: Value = node.ask(Method::GET, &format!("/api/servers/{id}"), "").await.json();
        let list: Value = node.ask(Method::GET, "/api/servers", "").await.json();
        assert_eq!(list[0], one);
        one["utilization"].clone()
    };
    let offline = utilization().await;
    assert_eq!(offline["uptime"], 0);
    assert!(offline["memory_limit_bytes"].as_u64().unwrap() > 64 << 20, "that of the host: {offline}");

    act(&node, id, "start").await;
    node.becomes(id, PowerState::Starting).await;
    let first = utilization().await["uptime"].as_u64().unwrap();
    assert!(first > 0, "the panel would show the server as offline");
    tokio::time::sleep(Duration::from_secs(90)).await;
    let later = utilization().await["uptime"].as_u64().unwrap();
    assert!((first + 90_000..first + 91_000).contains(&later), "{first} {later}");
    // While the container is inspected again.
    node.context.servers.container_changed(id, Role::Server);
    assert!(utilization().await["uptime"].as_u64().unwrap() > 0);

    let limited = |manifest: &mut Manifest| manifest.spec.settings.build.memory_limit = 1000;
    node.context.store.sync(id, None, limited, |_| ()).unwrap();
    // The container's own limit, which a pass changes.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(utilization().await["memory_limit_bytes"], 1_205_862_400_u64);
}

#[tokio::test(start_paused = true)]
async fn lines_keep_their_order_around_a_stop_command() {
    let node = ApiNode::new();
    let id = running(&node).await;
    assert_eq!(
        type_lines(&node, id, &["say line 1", "stop", "say line 2", "stop", "say line 3"]).await,
        StatusCode::NO_CONTENT
    );
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(acknowledged(&node, id), ["line 1", "asked to stop", "line 2", "asked to stop", "line 3"]);
    // It was a request, so what follows is no crash.
    assert_eq!(type_lines(&node, id, &["end"]).await, StatusCode::NO_CONTENT);
    node.becomes(id, PowerState::Offline).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    node.becomes(id, PowerState::Offline).await;
    assert_eq!(node.context.store.get(id).unwrap().record.crashes, []);
}

#[tokio::test(start_paused = true)]
async fn a_start_of_what_runs_already_is_remembered() {
    let node = ApiNode::new();
    let id = node.add(1);
    let container = node.engine.create_foreign(&id.to_string()).unwrap();
    assert!(node.engine.start_outside(&id.to_string()));
    node.becomes(id, PowerState::Running).await;

    act(&node, id, "start").await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    let status = node.context.store.status(id).unwrap();
    assert_eq!((status.state, status.container.as_deref()), (PowerState::Running, Some(container.as_str())));
    act(&node, id, "start").await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(
        node.context.store.status(id).unwrap().container.as_deref(),
        Some(container.as_str()),
        "nothing restarts"
    );

    // It crashes, and comes back.
    assert!(node.engine.kill_outside(&id.to_string()));
    tokio::time::sleep(Duration::from_secs(30)).await;
    let status = node.context.store.status(id).unwrap();
    assert!(matches!(status.state, PowerState::Starting | PowerState::Running), "{status:?}");
    assert_ne!(status.container.as_deref(), Some(container.as_str()));
    assert_eq!(node.context.store.get(id).unwrap().record.crashes.len(), 1);
}

/// A state that the API returns was reported to the panel before, unless the panel is slow.
#[tokio::test(start_paused = true)]
async fn a_state_is_reported_before_it_is_returned() {
    for (takes, last_reported) in [(20, true), (5000, false)] {
        let node = ApiNode::new();
        node.panel.delay(|call| matches!(call, PanelCall::ReportState(..)), Duration::from_millis(takes));
        let id = running(&node).await;
        act(&node, id, "kill").await;
        let path = format!("/api/servers/{id}");
        let is_offline = async || node.ask(Method::GET, &path, "").await.json()["state"] == "offline";
        let began = tokio::time::Instant::now();
        while !is_offline().await {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(
            node.panel.states(id).last().is_some_and(|(_, new)| *new == PowerState::Offline),
            last_reported,
            "{takes} ms"
        );
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    }
}

/// What people see is written down a moment later; on a full disk, when there is room again.
#[tokio::test(start_paused = true)]
async fn a_start_that_comes_as_soon_as_the_end_is_seen_is_done() {
    let node = ApiNode::with_config(|node| node.crash_detection = false);
    let id = running(&node).await;
    node.disk.fail(std::io::ErrorKind::StorageFull, |_, _| true);
    assert!(node.engine.kill_outside(&id.to_string()));
    node.becomes(id, PowerState::Offline).await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    node.disk.succeed();
    act(&node, id, "start").await;
    tokio::time::sleep(Duration::from_secs(100)).await;
    let status = node.context.store.status(id).unwrap();
    assert!(matches!(status.state, PowerState::Starting | PowerState::Running), "{status:#?}");
}

/// An engine that is away keeps a restart from beginning in its time.
#[tokio::test(start_paused = true)]
async fn a_restart_that_expires_does_not_end_the_request_before_it() {
    let node = ApiNode::new();
    let id = running(&node).await;
    node.engine.set_live_restore(true);
    node.engine.set_engine_up(false);
    tokio::time::sleep(Duration::from_secs(5)).await;
    let body = json!({"action": "restart", "wait_seconds": 30}).to_string();
    let answer = node.ask(Method::POST, &format!("/api/servers/{id}/power"), body).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{answer:?}");
    tokio::time::sleep(Duration::from_secs(60)).await;
    node.engine.set_engine_up(true);
    tokio::time::sleep(Duration::from_secs(120)).await;
    let snapshot = node.context.store.get(id).unwrap();
    let power = snapshot.asked(node.context.clock.now()).power();
    assert!(power.is_some_and(|power| power.verb.wants_up()), "{snapshot:#?}");
}

/// A request may come before the watch has seen what a person has just saved.
#[tokio::test(start_paused = true)]
async fn what_a_request_finds_in_the_files_is_an_event_too() {
    let node = ApiNode::new();
    let id = running(&node).await;
    let path = node.context.store.folder(id).join("config.yml");
    std::fs::write(path, "half an ed").unwrap();
    act(&node, id, "kill").await;
    let status = node.context.store.status(id).unwrap();
    assert!(status.events.iter().any(|event| event.reason == Reason::SpecInvalid), "{:#?}", status.events);
}

/// What answers in the panel's place, once on each call: nothing is lost, and the server runs.
#[tokio::test(start_paused = true)]
async fn a_foreign_page_costs_no_call_more_than_another_attempt() {
    for which in ["server", "script", "report_install", "report_state"] {
        let node = ApiNode::new();
        let failed = std::sync::atomic::AtomicBool::new(false);
        let chosen = move |call: &PanelCall| {
            let matches = match call {
                PanelCall::Server(_) => which == "server",
                PanelCall::Script(_) => which == "script",
                PanelCall::ReportInstall(_) => which == "report_install",
                PanelCall::ReportState(..) => which == "report_state",
                PanelCall::List
                | PanelCall::ReportTransfer(_)
                | PanelCall::BackupUpload(_)
                | PanelCall::ReportBackup(_)
                | PanelCall::ReportRestore(_)
                | PanelCall::ReportActivity
                | PanelCall::SftpLogin
                | PanelCall::Reset => false,
            };
            matches && !failed.swap(true, std::sync::atomic::Ordering::Relaxed)
        };
        let page = PanelError::Failed {
            call: which.into(),
            status: 403,
            detail: "<title>Just a moment...</title>".into(),
            retry_after: None,
        };
        let id = alula::testing::server_id(1);
        node.panel.add(id, panel_server("run"));
        node.panel.fail(chosen, page);
        let body = json!({"uuid": id, "start_on_completion": true}).to_string();
        let answer = node.ask(Method::POST, "/api/servers", body).await;
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{which}");
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(node.panel.installs(id), [(true, false)], "{which}");
        let state = node.context.store.status(id).unwrap().state;
        assert_ne!(state, PowerState::Offline, "{which}");
        assert_eq!(node.panel.states(id).last().map(|(_, new)| *new), Some(state), "{which}");
    }
}
