//! Servers that the panel makes, and how their installations go on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use alula::model::{InstallOutcome, ManagedBy, Manifest, PowerState, Record, Role};
use alula::panel::PanelError;
use alula::runtime::container_name;
use alula::runtime::fake::LocalImage;
use http::{Method, StatusCode};
use serde_json::json;

use crate::bench::{Bench, IMAGE, id, server};

async fn create(bench: &Bench, number: u32) {
    bench.panel.servers.lock().unwrap().insert(id(number), server());
    let body = json!({"uuid": id(number), "start_on_completion": false}).to_string();
    let answer = bench.ask(Method::POST, "/api/servers", body).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{answer:?}");
}

#[tokio::test(start_paused = true)]
async fn a_script_that_cannot_be_read_fails_the_installation_in_the_end() {
    let bench = Bench::new();
    let invalid_response =
        PanelError::InvalidResponse { call: "GET /install".into(), detail: "the answer: expected JSON".into() };
    *bench.panel.script_error.lock().unwrap() = Some(invalid_response);
    create(&bench, 1).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(bench.world.store.get(id(1)).unwrap().record.install.done, None, "it may be a moment's");
    tokio::time::sleep(Duration::from_secs(115)).await;
    let done = bench.world.store.get(id(1)).unwrap().record.install.done.clone().expect("it is over");
    assert_eq!((done.outcome, done.reported), (InstallOutcome::Failed, true));
    assert!(done.message.contains("cannot be read"), "{done:?}");
    assert_eq!(*bench.panel.installed.lock().unwrap(), [(id(1), false, false)]);
}

#[tokio::test(start_paused = true)]
async fn a_panel_that_is_silent_is_waited_for() {
    let bench = Bench::new();
    let away = PanelError::Unreachable { call: "GET /install".into(), cause: "refused".into() };
    *bench.panel.script_error.lock().unwrap() = Some(away);
    create(&bench, 1).await;
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(bench.world.store.get(id(1)).unwrap().record.install.done, None);
    *bench.panel.script_error.lock().unwrap() = None;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(*bench.panel.installed.lock().unwrap(), [(id(1), true, false)]);
}

#[tokio::test(start_paused = true)]
async fn a_create_that_finds_an_installation_under_way_waits_for_a_reset_all_the_same() {
    let bench = Bench::new();
    let id = bench.add(1);
    create(&bench, 1).await;
    let reset = bench.world.sync.as_ref().unwrap().hold_back_installs().await;
    let mut again = std::pin::pin!(create(&bench, 1));
    let soon = tokio::time::timeout(Duration::from_secs(4), &mut again).await;
    assert!(soon.is_err(), "the panel would take {id} for installed although it was promised another report");
    drop(reset);
    again.await;
}

#[tokio::test(start_paused = true)]
async fn a_create_does_not_undo_a_newer_word_of_the_panel() {
    let bench = Bench::new();
    let world = bench.world.clone();
    *bench.panel.meanwhile.lock().unwrap() = Some(Box::new(move || {
        // The panel's list, asked for a moment later, is there first.
        let mut manifest = Manifest::new(id(1), ManagedBy::Panel);
        manifest.spec.settings = server().settings;
        manifest.spec.settings.invocation = "newer".into();
        let record = Record { synced_at: Some(world.clock.now()), ..Record::default() };
        world.store.create(manifest, record, []).unwrap();
    }));
    create(&bench, 1).await;
    let snapshot = bench.world.store.get(id(1)).unwrap();
    let spec = &snapshot.manifest.as_ref().unwrap().spec;
    assert_eq!(spec.settings.invocation, "newer");
    let asked = snapshot.asked(bench.world.clock.now());
    assert!(asked.install().is_some(), "it is installed all the same");
}

/// One that the list brought, and that was started since: the panel wants it as new, and down when it is installed.
#[tokio::test(start_paused = true)]
async fn a_create_counts_later_than_an_earlier_start_whoever_has_the_newer_word() {
    for newer in [false, true] {
        let bench = Bench::new();
        let id = bench.add(1);
        let start = json!({"action": "start"}).to_string();
        bench.ask(Method::POST, &format!("/api/servers/{id}/power"), start).await;
        bench.becomes(id, PowerState::Starting).await;
        if newer {
            let world = bench.world.clone();
            *bench.panel.meanwhile.lock().unwrap() = Some(Box::new(move || {
                // The start's own word of the panel, asked for a moment later, is there first.
                let now = world.clock.now();
                world.store.commit(id, |record| record.synced_at = Some(now)).unwrap();
            }));
        }
        create(&bench, 1).await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        let snapshot = bench.world.store.get(id).unwrap();
        assert!(snapshot.record.install.done.is_some(), "newer={newer}: it is installed");
        let shown = bench.world.store.status(id).unwrap().state;
        assert_eq!(shown, PowerState::Offline, "newer={newer}: nobody has asked for a start since");
    }
}

/// Its deletion ends at any moment, also between two looks of whoever makes it again.
#[tokio::test(start_paused = true)]
async fn a_server_that_vanishes_meanwhile_is_made_again() {
    let bench = Bench::new();
    let (store, stop) = (bench.world.store.clone(), Arc::new(AtomicBool::new(false)));
    let others = {
        let stop = stop.clone();
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let _ = store.create(Manifest::new(id(1), ManagedBy::Panel), Record::default(), []);
                let _ = store.remove(id(1), |_| true);
                std::thread::sleep(Duration::from_millis(1));
            }
        })
    };
    for _ in 0..100 {
        create(&bench, 1).await;
    }
    stop.store(true, Ordering::Relaxed);
    others.join().unwrap();
}

/// An installation makes the server's container; what is pulled at the start is what runs.
#[tokio::test(start_paused = true)]
async fn a_start_runs_the_image_that_its_reference_means_now() {
    let bench = Bench::new();
    create(&bench, 1).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    let name = container_name(id(1), Role::Server);
    let made = || bench.docker.history().iter().filter(|entry| entry.call == "create" && entry.name == name).count();
    assert_eq!(made(), 1);
    let start = json!({"action": "start"}).to_string();
    let power = format!("/api/servers/{}/power", id(1));
    bench.docker.add_image(IMAGE, LocalImage { version: 2, ..LocalImage::default() });
    bench.ask(Method::POST, &power, start).await;
    bench.becomes(id(1), PowerState::Starting).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(made(), 2, "the container of the older image is not started");
}
