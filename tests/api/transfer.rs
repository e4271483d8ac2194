//! Transfers between nodes, which this release does not make.

use std::time::Duration;

use alula::panel::PanelError;
use alula::testing::{PanelCall, server_id};
use http::{Method, StatusCode};

use crate::node::{Answer, ApiNode};

const BODY: &str = r#"{"url": "https://target:8080/api/transfers", "token": "Bearer jwt", "backups": [],
                       "server": {"uuid": "550e8400-e29b-41d4-a716-000000000001", "start_on_completion": false}}"#;

async fn transfer(node: &ApiNode, method: Method, body: &'static str) -> Answer {
    node.ask(method, &format!("/api/servers/{}/transfer", server_id(1)), body).await
}

fn is_locked(node: &ApiNode) -> bool {
    node.panel.lock().servers[&server_id(1)].transferring
}

fn lock(node: &ApiNode) {
    node.panel.lock().servers.get_mut(&server_id(1)).unwrap().transferring = true;
}

#[tokio::test(start_paused = true)]
async fn a_transfer_is_accepted_and_reported_as_failed_until_the_panel_has_it() {
    let node = ApiNode::new();
    node.add(1);
    let away = PanelError::Unreachable { call: String::new(), cause: "refused".into() };
    node.panel.fail(|call| matches!(call, PanelCall::ReportTransfer(_)), away);
    lock(&node);
    assert_eq!(transfer(&node, Method::POST, BODY).await.status, StatusCode::ACCEPTED);
    let again = transfer(&node, Method::POST, BODY).await;
    assert_eq!(again.status, StatusCode::CONFLICT);
    assert_eq!(again.json()["error"], "A transfer is already in progress for this server.");
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert!(is_locked(&node), "the panel does not answer");
    node.panel.succeed();
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert!(!is_locked(&node));
    assert_eq!(node.context.store.get(server_id(1)).unwrap().record.transfer, None);
    let status = node.context.store.status(server_id(1)).unwrap();
    assert!(status.events.iter().any(|event| event.message.contains("cannot transfer servers")), "{status:?}");
    // Another one.
    lock(&node);
    assert_eq!(transfer(&node, Method::POST, BODY).await.status, StatusCode::ACCEPTED);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(!is_locked(&node));
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_transfer_is_not_reported_later() {
    let node = ApiNode::new();
    node.add(1);
    assert_eq!(transfer(&node, Method::DELETE, "").await.status, StatusCode::ACCEPTED, "the panel has ended it");
    let away = PanelError::Unreachable { call: String::new(), cause: "refused".into() };
    node.panel.fail(|call| matches!(call, PanelCall::ReportTransfer(_)), away);
    lock(&node);
    assert_eq!(transfer(&node, Method::POST, BODY).await.status, StatusCode::ACCEPTED);
    assert_eq!(transfer(&node, Method::DELETE, "").await.status, StatusCode::ACCEPTED);
    node.panel.succeed();
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert!(is_locked(&node), "no report came");
}

#[tokio::test(start_paused = true)]
async fn a_transfer_without_a_target_is_rejected() {
    let node = ApiNode::new();
    node.add(1);
    for body in [r#"{"token": "x"}"#, r#"{"url": "x"}"#, "{}", "", "[]"] {
        assert_eq!(transfer(&node, Method::POST, body).await.status, StatusCode::BAD_REQUEST, "{body}");
    }
    let unknown = format!("/api/servers/{}/transfer", server_id(2));
    for method in [Method::POST, Method::DELETE] {
        assert_eq!(node.ask(method, &unknown, BODY).await.status, StatusCode::NOT_FOUND);
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_of_another_node_is_refused() {
    let node = ApiNode::new();
    let sent = node.ask(Method::POST, "/api/transfers", "").await;
    assert_eq!(sent.status, StatusCode::NOT_IMPLEMENTED);
    assert!(sent.json()["error"].as_str().unwrap().contains("cannot receive servers"), "{sent:?}");
    let cancel = node.ask(Method::DELETE, &format!("/api/transfers/{}", server_id(1)), "").await;
    assert_eq!(cancel.status, StatusCode::CONFLICT);
    let cancel = node.ask(Method::DELETE, "/api/transfer", r#"{"json": {"server_id": "1"}}"#).await;
    assert_eq!(cancel.status, StatusCode::ACCEPTED);
}
