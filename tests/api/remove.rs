//! Servers that are deleted, and what is left of them.

use std::time::Duration;

use alula::model::{ManagedBy, Manifest, PowerState, Record, ServerId, Verb};
use alula::store::{CONFIG_FILE, DiskOp};
use http::{Method, StatusCode};
use serde_json::json;

use crate::bench::{Answer, Bench, id, server};

async fn delete(bench: &Bench, id: ServerId) -> Answer {
    bench.ask(Method::DELETE, &format!("/api/servers/{id}"), "").await
}

/// A server with this command.
fn add(bench: &Bench, invocation: &str) -> ServerId {
    let mut manifest = Manifest::new(id(1), ManagedBy::Panel);
    manifest.spec.settings.invocation = invocation.into();
    bench.world.store.create(manifest, Record::default(), []).unwrap();
    id(1)
}

async fn gone(bench: &Bench, id: ServerId) {
    while bench.world.store.get(id).is_some() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_made_again_shows_nothing_of_the_one_before() {
    let bench = Bench::new();
    for invocation in ["first", "second"] {
        let id = add(&bench, invocation);
        let shown = bench.ask(Method::GET, &format!("/api/servers/{id}"), "").await.json();
        assert_eq!(shown["configuration"]["invocation"], invocation);
        assert_eq!(delete(&bench, id).await.status, StatusCode::NO_CONTENT);
        gone(&bench, id).await;
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_of_a_deleted_server_stays_in_memory() {
    let bench = Bench::new();
    let id = add(&bench, "run");
    assert_eq!(delete(&bench, id).await.status, StatusCode::NO_CONTENT);
    gone(&bench, id).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(bench.world.servers.ids(), []);
}

/// The panel takes a 404 for "gone already".
#[tokio::test(start_paused = true)]
async fn a_server_that_may_be_on_the_list_is_not_called_unknown_before_it() {
    let bench = Bench::before_the_list(|_| {});
    let began = tokio::time::Instant::now();
    let answer = delete(&bench, id(1)).await;
    assert_eq!((answer.status, began.elapsed().as_secs()), (StatusCode::SERVICE_UNAVAILABLE, 5), "{answer:?}");
    assert!(answer.json()["error"].as_str().unwrap().contains("list of servers"), "{answer:?}");
    let other = bench.ask(Method::GET, &format!("/api/servers/{}", id(1)), "").await;
    assert_eq!((other.status, began.elapsed().as_secs()), (StatusCode::NOT_FOUND, 5));
    assert_eq!(bench.ask(Method::DELETE, "/api/servers/x", "").await.status, StatusCode::NOT_FOUND);

    let mut waiting = std::pin::pin!(delete(&bench, id(1)));
    let early = tokio::time::timeout(Duration::from_secs(1), &mut waiting).await;
    assert!(early.is_err(), "{early:?}");
    add(&bench, "run");
    bench.world.sync.as_ref().unwrap().list_applied();
    assert_eq!(waiting.await.status, StatusCode::NO_CONTENT);
    let began = tokio::time::Instant::now();
    assert_eq!((delete(&bench, id(2)).await.status, began.elapsed()), (StatusCode::NOT_FOUND, Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn a_second_delete_is_answered_at_once_also_before_the_list() {
    let bench = Bench::before_the_list(|_| {});
    let id = add(&bench, "run");
    assert_eq!(delete(&bench, id).await.status, StatusCode::NO_CONTENT);
    for _ in 0..2 {
        let began = tokio::time::Instant::now();
        assert_eq!((delete(&bench, id).await.status, began.elapsed()), (StatusCode::NOT_FOUND, Duration::ZERO));
        gone(&bench, id).await;
    }
}

/// The server is created again while it is still being deleted, and its file is broken: what is asked for then is asked of the
/// new server.
#[tokio::test(start_paused = true)]
async fn what_is_asked_of_a_server_made_again_outlasts_the_deletion_before_it() {
    let bench = Bench::new();
    let id = bench.add(1);
    let path = bench.world.store.folder(id).join(CONFIG_FILE);
    power(&bench, id, "start").await;
    bench.becomes(id, PowerState::Starting).await;
    power(&bench, id, "restart").await;
    bench.docker.set_engine_up(false);
    assert_eq!(delete(&bench, id).await.status, StatusCode::NO_CONTENT);
    bench.panel.servers.lock().unwrap().insert(id, server());
    let body = json!({"uuid": id, "start_on_completion": true}).to_string();
    assert_eq!(bench.ask(Method::POST, "/api/servers", body).await.status, StatusCode::ACCEPTED);
    let now = || bench.world.clock.now();
    let again = bench.world.store.get(id).unwrap();
    assert_eq!(again.asked(now()).power(), None, "no power request of the deleted server is one of the new server's");
    assert!(again.asked(now()).start_follows());

    // A person asks for a start, too, and breaks the file; the panel's stop comes last.
    let text = std::fs::read_to_string(&path).unwrap();
    let by_hand = text.replace("spec:\n", "spec:\n  power: up\n");
    std::fs::write(&path, &by_hand).unwrap();
    assert!(bench.world.store.refresh(id).unwrap());
    std::fs::write(&path, format!("{by_hand}\n\tbroken: [")).unwrap();
    bench.world.store.refresh(id).unwrap();
    power(&bench, id, "stop").await;
    let stops = || {
        let power = bench.world.store.get(id).unwrap().asked(now()).power();
        power.is_some_and(|power| power.verb == Verb::Stop)
    };
    assert!(stops());

    bench.docker.set_engine_up(true);
    while bench.world.store.get(id).unwrap().is_being_deleted() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(stops(), "it still counts");
    std::fs::write(&path, &by_hand).unwrap();
    assert!(bench.world.store.refresh(id).unwrap());
    tokio::time::sleep(Duration::from_secs(120)).await;
    let snapshot = bench.world.store.get(id).unwrap();
    assert_eq!(snapshot.asked(now()).power(), None, "what the file said before counts no more");
    assert!(snapshot.record.install.done.is_some(), "it is installed: {:#?}", snapshot.record);
    assert_eq!(bench.world.store.status(id).unwrap().state, PowerState::Offline);
}

/// The panel creates a server that was parked. The disk is full at some moment; the panel asks again.
#[tokio::test(start_paused = true)]
async fn a_create_over_a_parked_server_that_fails_is_completed_by_the_next_one() {
    let bench = Bench::new();
    let id = bench.add(1);
    let body = || json!({"uuid": id, "start_on_completion": false}).to_string();
    assert_eq!(bench.ask(Method::POST, "/api/servers", body()).await.status, StatusCode::ACCEPTED);
    while bench.world.store.get(id).unwrap().record.install.done.is_none() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let now = bench.world.clock.now();
    bench.world.store.commit(id, |record| record.parked = Some(now)).unwrap();
    bench.disk.rejects_one(DiskOp::WriteRequests);
    assert_eq!(bench.ask(Method::POST, "/api/servers", body()).await.status, StatusCode::INSUFFICIENT_STORAGE);
    assert!(!bench.world.store.get(id).unwrap().is_listed());
    assert_eq!(bench.ask(Method::POST, "/api/servers", body()).await.status, StatusCode::ACCEPTED);
    let asked = bench.world.store.get(id).unwrap();
    assert!(asked.is_listed() && asked.asked(now).install().is_some(), "{asked:#?}");
}

async fn power(bench: &Bench, id: ServerId, action: &str) {
    let body = json!({"action": action}).to_string();
    let answer = bench.ask(Method::POST, &format!("/api/servers/{id}/power"), body).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{answer:?}");
}
