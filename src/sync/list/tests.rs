//! The panel's list meets what is on disk.

use std::sync::Mutex;
use std::time::Duration;

use super::*;
use crate::model::Record;
use crate::panel::ListedServer;
use crate::store::DiskOp;
use crate::testing::{TestNode, file_manifest, panel_server, server_id};

fn listed(servers: &[(u32, &str)], asked: Instant) -> Listed {
    let entry = |(number, invocation): &(u32, &str)| ListedServer {
        id: server_id(*number),
        server: Ok(panel_server(invocation)),
    };
    Listed { servers: servers.iter().map(entry).collect(), asked, incomplete: None }
}

/// Applies a list that was asked for so many seconds ago.
async fn apply_list(node: &TestNode, listed: Listed, ago: u64) -> usize {
    let read_at = node.context.clock.now();
    let list = FetchedList { listed, asked_at: read_at - Duration::from_secs(ago), read_at };
    let layout = node.context.node.layout.clone();
    node.sync().apply_list(list, move |id| layout.prepare(id).unwrap()).await
}

/// A server that was synced so many seconds ago.
fn add(node: &TestNode, number: u32, invocation: &str, ago: u64) {
    let synced_at = Some(node.context.clock.now() - Duration::from_secs(ago));
    let record = Record { synced_at, ..Record::default() };
    node.context
        .store
        .create(crate::sync::new_manifest(server_id(number), panel_server(invocation)), record, [])
        .unwrap();
}

fn parked(node: &TestNode) -> Vec<ServerId> {
    let servers = node.context.store.list().into_iter();
    servers.filter(|snapshot| snapshot.record.parked.is_some()).map(|snapshot| snapshot.id).collect()
}

fn invocation(node: &TestNode, number: u32) -> String {
    node.context.store.get(server_id(number)).unwrap().manifest.as_ref().unwrap().spec.settings.invocation.clone()
}

#[tokio::test(start_paused = true)]
async fn servers_that_are_not_listed_are_parked_and_come_back() {
    let (node, _panel) = TestNode::with_panel();
    add(&node, 1, "a", 100);
    add(&node, 2, "b", 100);
    // Made while the list was on its way.
    add(&node, 3, "c", 3);
    node.context.store.create(file_manifest(4), Record::default(), []).unwrap();
    apply_list(&node, listed(&[(1, "a")], Instant::now()), 5).await;
    assert_eq!(parked(&node), [server_id(2)]);
    assert!(!node.context.store.get(server_id(2)).unwrap().is_listed());
    assert_eq!(node.context.store.status(server_id(2)).unwrap().events[0].reason, Reason::Parked);

    apply_list(&node, listed(&[(1, "a"), (2, "b2"), (3, "c")], Instant::now()), 0).await;
    assert_eq!(parked(&node), []);
    assert_eq!(invocation(&node, 2), "b2");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_listed_again_is_no_longer_parked_without_a_restart_of_the_daemon() {
    let (node, panel) = TestNode::with_panel();
    add(&node, 1, "a", 100);
    add(&node, 2, "b", 100);
    apply_list(&node, listed(&[], Instant::now()), 5).await;
    assert_eq!(parked(&node), [server_id(1), server_id(2)]);
    // One that is being deleted is not waited for.
    node.context.store.request(server_id(2), None, [node.request("delete", crate::model::Verb::Delete)]).unwrap();
    panel.lock().lists.extend([Ok(listed(&[(3, "new")], Instant::now())), Ok(listed(&[(1, "a2")], Instant::now()))]);
    let began = Instant::now();
    node.sync().follow_parked().await;
    assert_eq!(parked(&node), [server_id(2)]);
    assert_eq!(invocation(&node, 1), "a2");
    assert_eq!(node.context.store.ids(), [server_id(1), server_id(2)], "a later list creates no server");
    let waited = began.elapsed().as_secs();
    assert!((60..=120).contains(&waited), "{waited} s");
}

#[tokio::test(start_paused = true)]
async fn an_incomplete_list_parks_no_server() {
    let (node, _panel) = TestNode::with_panel();
    add(&node, 1, "a", 100);
    let list = Listed { incomplete: Some("for a test".into()), ..listed(&[(2, "b")], Instant::now()) };
    apply_list(&node, list, 5).await;
    assert_eq!(parked(&node), []);
    assert_eq!(invocation(&node, 2), "b", "what it has is applied");
}

#[tokio::test(start_paused = true)]
async fn a_list_does_not_undo_a_configuration_that_was_fetched_after_it() {
    let (node, _panel) = TestNode::with_panel();
    add(&node, 1, "newer", 3);
    add(&node, 2, "older", 8);
    apply_list(&node, listed(&[(1, "listed"), (2, "listed")], Instant::now()), 5).await;
    assert_eq!((invocation(&node, 1).as_str(), invocation(&node, 2).as_str()), ("newer", "listed"));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_was_deleted_meanwhile_does_not_come_back() {
    let (node, _panel) = TestNode::with_panel();
    let before = Instant::now();
    tokio::time::advance(Duration::from_secs(1)).await;
    node.sync().server_removed(server_id(1));
    apply_list(&node, listed(&[(1, "a"), (2, "b")], before), 1).await;
    assert_eq!(node.context.store.ids(), [server_id(2)]);
    // A panel that lists it still, asked later, wants it.
    tokio::time::advance(Duration::from_secs(1)).await;
    apply_list(&node, listed(&[(1, "a"), (2, "b")], Instant::now()), 0).await;
    assert_eq!(node.context.store.ids(), [server_id(1), server_id(2)]);
}

#[tokio::test(start_paused = true)]
async fn the_list_is_as_old_as_the_question_for_its_oldest_page() {
    let (node, panel) = TestNode::with_panel();
    let (asked_at, asked) = (node.context.clock.now(), Instant::now());
    tokio::time::advance(Duration::from_secs(20)).await;
    let away = PanelError::Unreachable { call: "GET /servers".into(), cause: "refused".into() };
    panel.lock().lists.extend([Err(away), Ok(listed(&[], asked))]);
    let list = node.sync().fetch_list(|_| ()).await;
    assert_eq!(list.asked_at, asked_at);
    assert!(list.read_at > asked_at + Duration::from_secs(20));
}

#[tokio::test(start_paused = true)]
async fn a_panel_that_rejects_the_list_is_left_alone_for_minutes() {
    let rejected = PanelError::Rejected { call: "GET /servers".into(), status: 403, detail: "wrong token".into() };
    let failed = PanelError::Failed {
        call: "GET /servers".into(),
        status: 502,
        detail: "bad gateway".into(),
        retry_after: None,
    };
    for (error, shortest, longest) in [(rejected, 80, 300), (failed, 0, 2)] {
        let (node, panel) = TestNode::with_panel();
        panel.lock().lists.push_back(Err(error));
        let began = Instant::now();
        node.sync().fetch_list(|_| ()).await;
        let waited = began.elapsed().as_secs();
        assert!((shortest..=longest).contains(&waited), "{waited} s");
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_cannot_be_created_leaves_no_files() {
    let (rejected, _panel) = TestNode::with_panel();
    rejected.disk.fail(std::io::ErrorKind::StorageFull, |_, op| op == DiskOp::WriteManifest);
    assert_eq!(apply_list(&rejected, listed(&[(1, "a")], Instant::now()), 0).await, 0);
    let (data, folder) = (rejected.context.node.layout.data(server_id(1)), rejected.context.store.folder(server_id(1)));
    assert_eq!((data.exists(), folder.exists()), (false, false));

    let (written, _panel) = TestNode::with_panel();
    let (seen, data) = (Arc::new(Mutex::new(None)), written.context.node.layout.data(server_id(1)));
    let woken = seen.clone();
    written.context.store.on_change(move |_| {
        woken.lock().unwrap().get_or_insert(data.exists());
    });
    assert_eq!(apply_list(&written, listed(&[(1, "a")], Instant::now()), 0).await, 1);
    assert_eq!(*seen.lock().unwrap(), Some(true), "its folder is there when it is published");
}
