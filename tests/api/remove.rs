//! Servers that are deleted, and what remains of them.

use std::time::Duration;

use alula::model::{ManagedBy, Manifest, PowerState, Record, ServerId, Verb};
use alula::store::{CONFIG_FILE, DiskOp};
use alula::testing::{panel_server, server_id};
use http::{Method, StatusCode};
use serde_json::json;

use crate::node::{Answer, ApiNode};

async fn delete(node: &ApiNode, id: ServerId) -> Answer {
    node.ask(Method::DELETE, &format!("/api/servers/{id}"), "").await
}

/// A server with this command.
fn add(node: &ApiNode, invocation: &str) -> ServerId {
    let mut manifest = Manifest::new(server_id(1), ManagedBy::Panel);
    manifest.spec.settings.invocation = invocation.into();
    node.context.store.create(manifest, Record::default(), []).unwrap();
    server_id(1)
}

async fn gone(node: &ApiNode, id: ServerId) {
    while node.context.store.get(id).is_some() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_created_again_has_nothing_of_the_deleted_one() {
    let node = ApiNode::new();
    for invocation in ["first", "second"] {
        let id = add(&node, invocation);
        let answer = node.ask(Method::GET, &format!("/api/servers/{id}"), "").await.json();
        assert_eq!(answer["configuration"]["invocation"], invocation);
        assert_eq!(delete(&node, id).await.status, StatusCode::NO_CONTENT);
        gone(&node, id).await;
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_of_a_deleted_server_stays_in_memory() {
    let node = ApiNode::new();
    let id = add(&node, "run");
    assert_eq!(delete(&node, id).await.status, StatusCode::NO_CONTENT);
    gone(&node, id).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(node.context.servers.ids(), []);
}

/// The panel takes a 404 for "gone already".
#[tokio::test(start_paused = true)]
async fn a_server_that_may_be_on_the_list_is_not_called_unknown_before_it() {
    let node = ApiNode::before_list(|_| {});
    let began = tokio::time::Instant::now();
    let answer = delete(&node, server_id(1)).await;
    assert_eq!((answer.status, began.elapsed().as_secs()), (StatusCode::SERVICE_UNAVAILABLE, 5), "{answer:?}");
    assert!(answer.json()["error"].as_str().unwrap().contains("list of servers"), "{answer:?}");
    let other = node.ask(Method::GET, &format!("/api/servers/{}", server_id(1)), "").await;
    assert_eq!((other.status, began.elapsed().as_secs()), (StatusCode::NOT_FOUND, 5));
    assert_eq!(node.ask(Method::DELETE, "/api/servers/x", "").await.status, StatusCode::NOT_FOUND);

    let mut waiting = std::pin::pin!(delete(&node, server_id(1)));
    let early = tokio::time::timeout(Duration::from_secs(1), &mut waiting).await;
    assert!(early.is_err(), "{early:?}");
    add(&node, "run");
    node.sync().list_applied();
    assert_eq!(waiting.await.status, StatusCode::NO_CONTENT);
    let began = tokio::time::Instant::now();
    assert_eq!((delete(&node, server_id(2)).await.status, began.elapsed()), (StatusCode::NOT_FOUND, Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn a_second_delete_is_answered_at_once_also_before_the_list() {
    let node = ApiNode::before_list(|_| {});
    let id = add(&node, "run");
    assert_eq!(delete(&node, id).await.status, StatusCode::NO_CONTENT);
    for _ in 0..2 {
        let began = tokio::time::Instant::now();
        assert_eq!((delete(&node, id).await.status, began.elapsed()), (StatusCode::NOT_FOUND, Duration::ZERO));
        gone(&node, id).await;
    }
}

/// The server is created again while it is still being deleted, and its file is broken: what is asked for then is asked of the
/// new server.
#[tokio::test(start_paused = true)]
async fn what_is_asked_of_a_server_made_again_outlasts_the_deletion_before_it() {
    let node = ApiNode::new();
    let id = node.add(1);
    let path = node.context.store.folder(id).join(CONFIG_FILE);
    power(&node, id, "start").await;
    node.becomes(id, PowerState::Starting).await;
    power(&node, id, "restart").await;
    node.engine.set_engine_up(false);
    assert_eq!(delete(&node, id).await.status, StatusCode::NO_CONTENT);
    node.panel.add(id, panel_server("run"));
    let body = json!({"uuid": id, "start_on_completion": true}).to_string();
    assert_eq!(node.ask(Method::POST, "/api/servers", body).await.status, StatusCode::ACCEPTED);
    let now = || node.context.clock.now();
    let again = node.context.store.get(id).unwrap();
    assert_eq!(again.asked(now()).power(), None, "no power request of the deleted server is one of the new server's");
    assert!(again.asked(now()).start_follows());

    // A person asks for a start, too, and breaks the file; the panel's stop comes last.
    let text = std::fs::read_to_string(&path).unwrap();
    let by_hand = text.replace("spec:\n", "spec:\n  power: up\n");
    std::fs::write(&path, &by_hand).unwrap();
    assert!(node.context.store.refresh(id).unwrap());
    std::fs::write(&path, format!("{by_hand}\n\tbroken: [")).unwrap();
    node.context.store.refresh(id).unwrap();
    power(&node, id, "stop").await;
    let stops = || {
        let power = node.context.store.get(id).unwrap().asked(now()).power();
        power.is_some_and(|power| power.verb == Verb::Stop)
    };
    assert!(stops());

    node.engine.set_engine_up(true);
    while node.context.store.get(id).unwrap().is_being_deleted() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(stops(), "it still counts");
    std::fs::write(&path, &by_hand).unwrap();
    assert!(node.context.store.refresh(id).unwrap());
    tokio::time::sleep(Duration::from_secs(120)).await;
    let snapshot = node.context.store.get(id).unwrap();
    assert_eq!(snapshot.asked(now()).power(), None, "what the file said before counts no more");
    assert!(snapshot.record.install.done.is_some(), "it is installed: {:#?}", snapshot.record);
    assert_eq!(node.context.store.status(id).unwrap().state, PowerState::Offline);
}

/// The panel creates a server that was parked. The disk is full at some moment; the panel asks again.
#[tokio::test(start_paused = true)]
async fn a_create_over_a_parked_server_that_fails_is_completed_by_the_next_one() {
    let node = ApiNode::new();
    let id = node.add(1);
    let body = || json!({"uuid": id, "start_on_completion": false}).to_string();
    assert_eq!(node.ask(Method::POST, "/api/servers", body()).await.status, StatusCode::ACCEPTED);
    while node.context.store.get(id).unwrap().record.install.done.is_none() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let now = node.context.clock.now();
    node.context.store.commit(id, |record| record.parked = Some(now)).unwrap();
    node.disk.fail_next(DiskOp::WriteRequests);
    assert_eq!(node.ask(Method::POST, "/api/servers", body()).await.status, StatusCode::INSUFFICIENT_STORAGE);
    assert!(!node.context.store.get(id).unwrap().is_listed());
    assert_eq!(node.ask(Method::POST, "/api/servers", body()).await.status, StatusCode::ACCEPTED);
    let asked = node.context.store.get(id).unwrap();
    assert!(asked.is_listed() && asked.asked(now).install().is_some(), "{asked:#?}");
}

async fn power(node: &ApiNode, id: ServerId, action: &str) {
    let body = json!({"action": action}).to_string();
    let answer = node.ask(Method::POST, &format!("/api/servers/{id}/power"), body).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{answer:?}");
}
