//! A server goes to a Wings, or stays.

use std::time::{Duration, Instant};

use alula::model::{ConditionType, PowerState, Verb};
use alula::panel::PanelError;
use alula::testing::PanelCall;
use http::{Method, StatusCode};
use serde_json::json;

use crate::node::{Node, add_backup, server, statuses, tree, wait};
use crate::wings::Wings;

fn succeeded(node: &Node) -> Option<bool> {
    node.transfer().and_then(|transfer| transfer.result).map(|result| result.succeeded)
}

fn state(node: &Node) -> PowerState {
    node.node().context.store.status(server()).unwrap().state
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wings_accepts_what_is_sent() {
    let (node, wings) = (Node::with_config(|config| config.storage_pool = Some("nfs".into())).await, Wings::default());
    node.add_server();
    std::fs::write(node.node().context.node.layout.install_log(server()), "the log").unwrap();
    let absent = json!(["0f0e0d0c-0b0a-4000-8000-00000000000a"]);
    assert_eq!(node.send_to(&wings.listen().await, "Bearer a.b.c", absent).await, StatusCode::ACCEPTED);
    wait("the end", || succeeded(&node).is_some()).await;
    assert_eq!(succeeded(&node), Some(true), "{:?}", node.transfer());
    let parts = wings.seen(|seen| seen.parts.clone());
    let names: Vec<&str> = parts.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["archive", "checksum_archive", "checksum", "install_logs"]);
    assert_eq!(parts[0].1.as_deref(), Some("archive.tar.gz"));
    assert_eq!(parts[3].1.as_deref(), Some("install.log"));
    assert!(wings.seen(|seen| seen.accepted));
    assert_eq!(wings.seen(|seen| seen.authorization.clone()), "Bearer a.b.c");
    assert_eq!(wings.seen(|seen| seen.pool.clone()), None, "the files are in the state folder");
    assert_eq!(wings.seen(|seen| seen.files["world/level.dat"].clone()), b"level");
    assert!(wings.seen(|seen| seen.files.keys().all(|name| !name.ends_with('/'))), "no directories");
    // The secret is in the record's file only.
    let shown = serde_json::to_string(&node.record().unwrap().without_secrets()).unwrap();
    assert!(!shown.contains("a.b.c"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_that_fails_leaves_the_server_as_it_was() {
    for status in
        [StatusCode::NO_CONTENT, StatusCode::FOUND, StatusCode::UNAUTHORIZED, StatusCode::INTERNAL_SERVER_ERROR]
    {
        let (node, wings) = (Node::new().await, Wings { refuses: Some(status), ..Wings::default() });
        let before = tree(&node.add_server());
        node.node().accept(server(), Verb::Start);
        wait("it runs", || state(&node) != PowerState::Offline).await;
        let mut events = node.events();
        assert_eq!(node.send_to(&wings.listen().await, "Bearer a", json!([])).await, StatusCode::ACCEPTED);
        wait("the panel has it", || node.reported() == [false]).await;
        wait("it runs again", || state(&node) != PowerState::Offline).await;
        let message = node.transfer().unwrap().result.unwrap().message;
        assert!(message.contains(status.as_str()) && !message.contains("Bearer"), "{message}");
        assert_eq!(tree(&node.data()), before);
        let mut seen = Vec::new();
        wait("browsers know", || {
            seen.extend(statuses(&mut events));
            seen == ["processing", "failure"]
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_that_is_away_is_a_failure_that_is_reported_until_the_panel_has_it() {
    let node = Node::new().await;
    node.add_server();
    node.panel_is_away();
    assert_eq!(node.send_to("http://127.0.0.1:1/api/transfers", "Bearer a", json!([])).await, StatusCode::ACCEPTED);
    wait("it has failed", || succeeded(&node) == Some(false)).await;
    assert!(!node.transfer().unwrap().reported);
    node.panel.succeed();
    wait("the panel has it", || node.reported() == [false]).await;
    wait("it is recorded", || node.transfer().unwrap().reported).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_begin_is_reported_as_a_failure() {
    for (url, token, backups) in [
        ("", "Bearer a", json!([])),
        ("http://target/api/transfers", "", json!([])),
        ("ftp://target/", "Bearer a", json!([])),
        ("target", "Bearer a", json!([])),
        ("http://target/", "Bearer a", json!(["../x"])),
    ] {
        let node = Node::new().await;
        node.add_server();
        assert_eq!(node.send_to(url, token, backups).await, StatusCode::BAD_REQUEST, "{url}");
        wait("the panel has it", || node.reported() == [false]).await;
    }
    let node = Node::new().await;
    let (status, _) = node.ask(Method::POST, &format!("/api/servers/{}/transfer", server()), "{}").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_transfer_ends_at_once() {
    let (node, wings) = (Node::new().await, Wings { hangs: true, ..Wings::default() });
    let path = format!("/api/servers/{}/transfer", server());
    node.add_server();
    assert_eq!(node.ask(Method::DELETE, &path, "").await.0, StatusCode::CONFLICT);
    node.node().accept(server(), Verb::Start);
    wait("it runs", || state(&node) != PowerState::Offline).await;
    let mut events = node.events();
    assert_eq!(node.send_to(&wings.listen().await, "Bearer a", json!([])).await, StatusCode::ACCEPTED);
    wait("it is sent", || wings.seen(|seen| seen.requests) == 1).await;
    // The panel forgets its backups meanwhile.
    let backup = add_backup(&node, "0f0e0d0c-0b0a-4000-8000-00000000000a", b"kept");
    let of_backup = format!("/api/servers/{}/backup/{backup}", server());
    assert_eq!(node.ask(Method::DELETE, &of_backup, "").await.0, StatusCode::NO_CONTENT);
    assert!(node.record().unwrap().backup(backup).is_some_and(|known| known.detached && !known.deleting));
    let began = Instant::now();
    assert_eq!(node.ask(Method::DELETE, &path, "").await.0, StatusCode::ACCEPTED);
    wait("the end", || succeeded(&node) == Some(false)).await;
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    wait("the panel has it", || node.reported() == [false]).await;
    wait("it runs again", || state(&node) != PowerState::Offline).await;
    let mut seen = Vec::new();
    wait("browsers know", || {
        seen.extend(statuses(&mut events));
        seen == ["processing", "cancelling", "failure"]
    })
    .await;
    wait("it is over", || node.transfer().unwrap().reported).await;
    assert_eq!(node.ask(Method::DELETE, &path, "").await.0, StatusCode::CONFLICT, "it is over");
    assert!(node.node().context.node.layout.backup_archive(server(), backup).exists());
    assert_eq!(node.ask(Method::DELETE, &of_backup, "").await.0, StatusCode::NO_CONTENT);
    wait("the backup is removed", || node.record().unwrap().backups.is_empty()).await;
}

/// A Wings reports to the panel before it answers, and the panel deletes the server here at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_deleted_before_the_destination_has_answered_is_gone() {
    let wings = Wings { hangs: true, ..Wings::default() };
    let node = Node::new().await;
    node.add_server();
    assert_eq!(node.send_to(&wings.listen().await, "Bearer a", json!([])).await, StatusCode::ACCEPTED);
    wait("it is sent", || wings.seen(|seen| seen.requests) == 1).await;
    let (status, _) = node.ask(Method::DELETE, &format!("/api/servers/{}", server()), "").await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    node.is_gone().await;
}

/// A Wings takes another form, and would lose what its players have done since the first one.
#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_dies_while_it_sends_does_not_send_again() {
    for (status, succeeds) in [(Some(403), true), (None, false)] {
        let (mut node, wings) = (Node::new().await, Wings { hangs: true, ..Wings::default() });
        node.add_server();
        assert_eq!(node.send_to(&wings.listen().await, "Bearer a", json!([])).await, StatusCode::ACCEPTED);
        wait("it is sent", || wings.seen(|seen| seen.requests) == 1).await;
        node.die();
        let asked = |call: &PanelCall| matches!(call, PanelCall::Server(_));
        node.panel.fail(asked, PanelError::Unreachable { call: String::new(), cause: "refused".into() });
        node.start().await;
        wait("the panel is asked", || {
            let status = node.node().context.store.status(server()).unwrap();
            let condition = status.condition(ConditionType::Transferred).map(|condition| condition.message.clone());
            condition.is_some_and(|message| message.contains("the panel does not say"))
        })
        .await;
        assert_eq!(succeeded(&node), None);
        match status {
            Some(status) => {
                node.panel.fail(asked, PanelError::Rejected { call: String::new(), status, detail: String::new() });
            }
            None => node.panel.succeed(),
        }
        wait("its end", || succeeded(&node) == Some(succeeds)).await;
        wait("its report", || node.reported() == if succeeds { vec![] } else { vec![false] }).await;
        assert_eq!(node.record().unwrap().holding_transfer().is_some(), succeeds);
        assert_eq!(wings.seen(|seen| seen.requests), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_that_was_cancelled_when_the_daemon_died_is_reported() {
    let (mut node, wings) = (Node::new().await, Wings { hangs: true, ..Wings::default() });
    node.add_server();
    assert_eq!(node.send_to(&wings.listen().await, "Bearer a", json!([])).await, StatusCode::ACCEPTED);
    wait("it is sent", || wings.seen(|seen| seen.requests) == 1).await;
    node.node().context.store.commit(server(), |record| record.transfer.as_mut().unwrap().cancelled = true).unwrap();
    node.die();
    node.start().await;
    wait("the panel has it", || node.reported() == [false]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_that_the_panel_rejects_is_settled_by_who_may_read_the_server() {
    for (known, stays) in [(true, true), (false, false)] {
        let (node, wings) = (Node::new().await, Wings { refuses: Some(StatusCode::FORBIDDEN), ..Wings::default() });
        node.add_server();
        let rejected = PanelError::Rejected { call: String::new(), status: 403, detail: String::new() };
        let fails = move |call: &PanelCall| match call {
            PanelCall::ReportTransfer(_) => true,
            PanelCall::Server(_) => !known,
            _ => false,
        };
        node.panel.fail(fails, rejected);
        assert_eq!(node.send_to(&wings.listen().await, "Bearer a", json!([])).await, StatusCode::ACCEPTED);
        wait("it is settled", || node.transfer().is_some_and(|transfer| transfer.reported)).await;
        assert_eq!(node.record().unwrap().holding_transfer().is_none(), stays, "known: {known}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_an_earlier_release_has_left_is_reported() {
    let mut node = Node::new().await;
    node.add_server();
    let record = node.root().join("servers").join(server().to_string()).join("record.json");
    wait("the record is there", || record.exists()).await;
    node.node().context.store.commit(server(), |record| record.crashes.clear()).unwrap();
    node.die();
    let mut text: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&record).unwrap()).unwrap();
    let inner = if text.get("record").is_some() { &mut text["record"] } else { &mut text };
    inner["transfer"] = json!({"token": "abc", "outcome": "failed"});
    std::fs::write(&record, text.to_string()).unwrap();
    node.start().await;
    wait("the panel has it", || node.reported() == [false]).await;
}
