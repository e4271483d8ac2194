//! Changed files, and files that hang.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::sync::{Condvar, Mutex};

use super::*;
use crate::model::{ManagedBy, Manifest, Record};
use crate::reconcile::bench::{context_on, id};
use crate::store::{Blocking, CONFIG_FILE, DiskHook, DiskOp};

/// A disk on which writing some servers' files hangs.
#[derive(Default)]
struct Disk {
    hanging: Mutex<BTreeSet<ServerId>>,
    changed: Condvar,
}

impl Disk {
    fn hangs(&self, servers: impl Iterator<Item = ServerId>) {
        *self.hanging.lock().unwrap() = servers.collect();
        self.changed.notify_all();
    }
}

impl DiskHook for Disk {
    fn before(&self, server: ServerId, _: DiskOp) -> io::Result<()> {
        let hanging = self.hanging.lock().unwrap();
        drop(self.changed.wait_while(hanging, |hanging| hanging.contains(&server)).unwrap());
        Ok(())
    }

    fn after(&self, _: ServerId, _: DiskOp) {}
}

/// A person saves the server's file with another command.
fn saves(context: &Context, number: u32, invocation: &str) {
    let path = context.store.folder(id(number)).join(CONFIG_FILE);
    let mut manifest: Manifest = crate::yaml::parse(&fs::read_to_string(&path).unwrap()).unwrap();
    manifest.spec.settings.invocation = invocation.into();
    fs::write(&path, crate::yaml::to_string(&manifest).unwrap()).unwrap();
}

fn runs(context: &Context, number: u32, invocation: &str) -> bool {
    context.store.get(id(number)).unwrap().manifest.as_ref().unwrap().spec.settings.invocation == invocation
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
    let disk = Arc::new(Disk::default());
    let (_root, context) = context_on(Blocking::Pool, Some(disk.clone()), None);
    for number in 0..5 {
        let mut manifest = Manifest::new(id(number), ManagedBy::File);
        manifest.spec.settings.container.image = "game:1".into();
        context.store.create(manifest, Record::default(), []).unwrap();
    }
    disk.hangs((1..5).map(id));
    let (edits, events) = mpsc::channel(8);
    context.tasks.spawn("manifests", follow(context.clone(), events));
    for round in 0..3 {
        let invocation = format!("run {round}");
        (0..5).for_each(|number| saves(&context, number, &invocation));
        for number in (1..5).chain(0..5) {
            edits.send(WatchEvent::Changed(id(number).to_string())).await.unwrap();
        }
        edits.send(WatchEvent::Rescan).await.unwrap();
        until("the edit is effective", || runs(&context, 0, &invocation)).await;
    }
    let reads = || context.tasks.running().iter().filter(|name| name.starts_with("read the files")).count();
    until("one read for each that hangs", || reads() == 4).await;

    // Files that changed during a read are read again after it.
    disk.hangs(std::iter::empty());
    until("the latest edits are effective", || (1..5).all(|number| runs(&context, number, "run 2"))).await;
    until("no read is left", || reads() == 0).await;
}
