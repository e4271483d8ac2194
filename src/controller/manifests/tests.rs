//! Changed files, and files that hang.

use std::fs;
use std::sync::Mutex;

use super::*;
use crate::clock::Clock;
use crate::model::{Manifest, Record};
use crate::store::{Blocking, CONFIG_FILE};
use crate::testing::{TestNode, file_manifest, server_id};

/// A person saves the server's file with another command.
fn saves(context: &Context, number: u32, invocation: &str) {
    let path = context.store.folder(server_id(number)).join(CONFIG_FILE);
    let mut manifest: Manifest = crate::yaml::parse(&fs::read_to_string(&path).unwrap()).unwrap();
    manifest.spec.settings.invocation = invocation.into();
    fs::write(&path, crate::yaml::to_string(&manifest).unwrap()).unwrap();
}

fn runs(context: &Context, number: u32, invocation: &str) -> bool {
    context.store.get(server_id(number)).unwrap().manifest.as_ref().unwrap().spec.settings.invocation == invocation
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..500 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("not in time: {what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_hangs_holds_up_no_other_server() {
    let node = TestNode::builder().blocking(Blocking::Pool).build();
    let context = &node.context;
    for number in 0..5 {
        context.store.create(file_manifest(number), Record::default(), []).unwrap();
    }
    let (hang, hanging) = std::sync::mpsc::channel::<()>();
    let hanging = Mutex::new(hanging);
    node.disk.on_before(move |server, _| {
        if server != server_id(0) {
            let _ = hanging.lock().unwrap().recv();
        }
        Ok(())
    });
    let (edits, events) = mpsc::channel(8);
    context.tasks.spawn("manifests", follow(context.clone(), events));
    for round in 0..3 {
        let invocation = format!("run {round}");
        (0..5).for_each(|number| saves(context, number, &invocation));
        for number in (1..5).chain(0..5) {
            edits.send(WatchEvent::Changed(server_id(number).to_string())).await.unwrap();
        }
        edits.send(WatchEvent::Rescan).await.unwrap();
        until("the edit is effective", || runs(context, 0, &invocation)).await;
    }
    let reads = || context.tasks.running().iter().filter(|name| name.starts_with("read the files")).count();
    until("one read for each that hangs", || reads() == 4).await;

    // Files that changed during a read are read again after it.
    drop(hang);
    until("the latest edits are effective", || (1..5).all(|number| runs(context, number, "run 2"))).await;
    until("no read is left", || reads() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rescan_reads_a_file_once_it_has_not_changed_for_a_second() {
    // The clock of the files.
    let node = TestNode::builder().blocking(Blocking::Pool).epoch(Clock::System.now(), Instant::now()).build();
    let context = &node.context;
    context.store.create(file_manifest(0), Record::default(), []).unwrap();
    let (edits, events) = mpsc::channel(8);
    context.tasks.spawn("manifests", follow(context.clone(), events));
    // A slow writer: each part is a valid manifest of its own.
    for part in 0..6 {
        saves(context, 0, &format!("part {part}"));
        edits.send(WatchEvent::Rescan).await.unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!((0..6).all(|part| !runs(context, 0, &format!("part {part}"))), "part {part}");
    }
    until("the last part is effective", || runs(context, 0, "part 5")).await;
    assert_eq!(context.store.get(server_id(0)).unwrap().record.generation, 2);

    // The watch knows when the writer has closed the file.
    saves(context, 0, "closed");
    edits.send(WatchEvent::Rescan).await.unwrap();
    edits.send(WatchEvent::Changed(server_id(0).to_string())).await.unwrap();
    let begun = Instant::now();
    until("the closed file is effective", || runs(context, 0, "closed")).await;
    assert!(begun.elapsed() < Duration::from_millis(700), "{:?}", begun.elapsed());
}
