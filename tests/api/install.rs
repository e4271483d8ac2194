//! Servers that the panel creates, and their installations.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use alula::model::{InstallOutcome, ManagedBy, Manifest, PowerState, Record, Role};
use alula::panel::PanelError;
use alula::runtime::container_name;
use alula::testing::fake::LocalImage;
use alula::testing::{IMAGE, PanelCall, panel_manifest, panel_server, server_id};
use http::{Method, StatusCode};
use serde_json::json;

use crate::node::ApiNode;

async fn create(node: &ApiNode, number: u32) {
    node.panel.add(server_id(number), panel_server("run"));
    let body = json!({"uuid": server_id(number), "start_on_completion": false}).to_string();
    let answer = node.ask(Method::POST, "/api/servers", body).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{answer:?}");
}

#[tokio::test(start_paused = true)]
async fn a_script_that_cannot_be_read_fails_the_installation_in_the_end() {
    let node = ApiNode::new();
    let invalid_response =
        PanelError::InvalidResponse { call: "GET /install".into(), detail: "the answer: expected JSON".into() };
    node.panel.fail(|call| matches!(call, PanelCall::Script(_)), invalid_response);
    create(&node, 1).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(node.context.store.get(server_id(1)).unwrap().record.install.done, None, "it may be a moment's");
    tokio::time::sleep(Duration::from_secs(115)).await;
    let done = node.context.store.get(server_id(1)).unwrap().record.install.done.clone().expect("it is over");
    assert_eq!((done.outcome, done.reported), (InstallOutcome::Failed, true));
    assert!(done.message.contains("cannot be read"), "{done:?}");
    assert_eq!(node.panel.installs(server_id(1)), [(false, false)]);
}

#[tokio::test(start_paused = true)]
async fn an_installation_waits_for_an_unreachable_panel() {
    let node = ApiNode::new();
    let away = PanelError::Unreachable { call: "GET /install".into(), cause: "refused".into() };
    node.panel.fail(|call| matches!(call, PanelCall::Script(_)), away);
    create(&node, 1).await;
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(node.context.store.get(server_id(1)).unwrap().record.install.done, None);
    node.panel.succeed();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(node.panel.installs(server_id(1)), [(true, false)]);
}

#[tokio::test(start_paused = true)]
async fn a_create_after_a_reported_installation_reports_its_result_again() {
    let node = ApiNode::new();
    create(&node, 1).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(node.panel.installs(server_id(1)), [(true, false)]);
    // The panel forgets the first report with its entry.
    create(&node, 1).await;
    assert_eq!(node.panel.installs(server_id(1)), []);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(node.panel.installs(server_id(1)), [(true, false)]);
    assert_eq!(node.context.store.get(server_id(1)).unwrap().requests.accepted.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_create_that_finds_an_installation_under_way_waits_for_a_reset_all_the_same() {
    let node = ApiNode::new();
    let id = node.add(1);
    create(&node, 1).await;
    let reset = node.sync().hold_back_installs().await;
    let mut again = std::pin::pin!(create(&node, 1));
    let soon = tokio::time::timeout(Duration::from_secs(4), &mut again).await;
    assert!(soon.is_err(), "the panel would take {id} for installed although it was promised another report");
    drop(reset);
    again.await;
}

#[tokio::test(start_paused = true)]
async fn a_create_does_not_undo_a_newer_configuration() {
    let node = ApiNode::new();
    let context = node.context.clone();
    node.panel.during_next_fetch(move || {
        // The panel's list, which was requested later, arrives first.
        let record = Record { synced_at: Some(context.clock.now()), ..Record::default() };
        context.store.create(panel_manifest(1, "newer"), record, []).unwrap();
    });
    create(&node, 1).await;
    let snapshot = node.context.store.get(server_id(1)).unwrap();
    let spec = &snapshot.manifest.as_ref().unwrap().spec;
    assert_eq!(spec.settings.invocation, "newer");
    let asked = snapshot.asked(node.context.clock.now());
    assert!(asked.install().is_some(), "it is installed all the same");
}

/// The server came with the list and was started since; the panel creates it, and it stays offline after its installation.
#[tokio::test(start_paused = true)]
async fn a_create_supersedes_an_earlier_start() {
    for newer in [false, true] {
        let node = ApiNode::new();
        let id = node.add(1);
        let start = json!({"action": "start"}).to_string();
        node.ask(Method::POST, &format!("/api/servers/{id}/power"), start).await;
        node.becomes(id, PowerState::Starting).await;
        if newer {
            let context = node.context.clone();
            node.panel.during_next_fetch(move || {
                // The configuration for the start, which was requested later, arrives first.
                let now = context.clock.now();
                context.store.commit(id, |record| record.synced_at = Some(now)).unwrap();
            });
        }
        create(&node, 1).await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        let snapshot = node.context.store.get(id).unwrap();
        assert!(snapshot.record.install.done.is_some(), "newer={newer}: it is installed");
        let state = node.context.store.status(id).unwrap().state;
        assert_eq!(state, PowerState::Offline, "newer={newer}: there was no start request since");
    }
}

/// Its deletion ends at any moment, also between two steps of the create.
#[tokio::test(start_paused = true)]
async fn a_server_that_disappears_during_a_create_is_created() {
    let node = ApiNode::new();
    let (store, stop) = (node.context.store.clone(), Arc::new(AtomicBool::new(false)));
    let others = {
        let stop = stop.clone();
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let _ = store.create(Manifest::new(server_id(1), ManagedBy::Panel), Record::default(), []);
                let _ = store.remove(server_id(1), |_| true);
                std::thread::sleep(Duration::from_millis(1));
            }
        })
    };
    for _ in 0..100 {
        create(&node, 1).await;
    }
    stop.store(true, Ordering::Relaxed);
    others.join().unwrap();
}

/// An installation makes the server's container; what is pulled at the start is what runs.
#[tokio::test(start_paused = true)]
async fn a_start_runs_the_image_that_its_reference_means_now() {
    let node = ApiNode::new();
    create(&node, 1).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    let name = container_name(server_id(1), Role::Server);
    let made = || node.engine.history().iter().filter(|entry| entry.call == "create" && entry.name == name).count();
    assert_eq!(made(), 1);
    let start = json!({"action": "start"}).to_string();
    let power = format!("/api/servers/{}/power", server_id(1));
    node.engine.add_image(IMAGE, LocalImage { version: 2, ..LocalImage::default() });
    node.ask(Method::POST, &power, start).await;
    node.becomes(server_id(1), PowerState::Starting).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(made(), 2, "the container of the older image is not started");
}
