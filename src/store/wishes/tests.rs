//! Files and wishes that are applied, and events that outlive the daemon.

use std::fs;
use std::path::Path;

use super::*;
use crate::model::{Deletion, How, Status, Timestamp, Want};
use crate::store::{Blocking, CONFIG_FILE, STATUS_FILE};

const FILE: &str = "\
# My first server
apiVersion: alula/v1
kind: Server
metadata:
  uuid: 550e8400-e29b-41d4-a716-446655440000 # mine
spec:
  settings:
    invocation: ./run # fast
    container: {image: 'example/image:1'}
";

fn id() -> ServerId {
    "550e8400-e29b-41d4-a716-446655440000".parse().unwrap()
}

fn store(root: &Path) -> Store {
    Store::open(root, Blocking::Inline, None).unwrap()
}

fn config(store: &Store) -> String {
    fs::read_to_string(store.folder(id()).join(CONFIG_FILE)).unwrap()
}

fn up(name: &str) -> PowerIntent {
    PowerIntent { id: name.into(), want: Want::Up, how: How::Graceful, requested_at: None, expires_at: None }
}

#[test]
fn a_new_server_gets_the_file_as_it_is() {
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path());
    assert_eq!(store.apply(id(), FILE, true).unwrap(), Applied::Created);
    assert!(store.get(id()).is_none(), "a dry run writes nothing");
    assert_eq!(store.apply(id(), FILE, false).unwrap(), Applied::Created);
    assert_eq!(config(&store), FILE);
    assert_eq!(store.get(id()).unwrap().record.generation, 1);
    assert_eq!(store.apply(id(), FILE, true).unwrap(), Applied::Unchanged);
    assert_eq!(store.apply(id(), FILE, false).unwrap(), Applied::Unchanged);
    assert_eq!(store.get(id()).unwrap().record.generation, 1);
}

#[test]
fn a_change_keeps_comments_and_the_power_wish() {
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path());
    store.apply(id(), FILE, false).unwrap();
    store.wish_power(id(), None, up("one")).unwrap();
    let changed = FILE.replace("image:1", "image:2");
    assert_eq!(store.apply(id(), &changed, true).unwrap(), Applied::Changed);
    assert!(config(&store).contains("image:1"), "a dry run writes nothing");
    assert_eq!(store.apply(id(), &changed, false).unwrap(), Applied::Changed);
    let text = config(&store);
    assert!(text.contains("image:2") && text.contains("# fast") && text.contains("# mine"), "{text}");
    let manifest = store.get(id()).unwrap().manifest.clone().unwrap();
    assert_eq!(manifest.spec.power, Some(up("one")));
}

#[test]
fn what_cannot_be_applied_changes_nothing() {
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path());
    let other: ServerId = "650e8400-e29b-41d4-a716-446655440000".parse().unwrap();
    assert!(matches!(store.apply(other, FILE, false), Err(ApplyError::OtherServer { .. })));
    assert!(matches!(store.apply(id(), "kind: [", false), Err(ApplyError::Text(_))));
    let senseless = FILE.replace("spec:\n", "spec:\n  install: {token: ''}\n");
    assert!(matches!(store.apply(id(), &senseless, false), Err(ApplyError::Invalid(_))));
    assert!(store.ids().is_empty());

    store.apply(id(), FILE, false).unwrap();
    store
        .commit(id(), |record| record.deletion = Some(Deletion { at: Timestamp::default(), recreate: false }))
        .unwrap();
    let changed = FILE.replace("image:1", "image:2");
    assert!(matches!(store.apply(id(), &changed, false), Err(ApplyError::BeingDeleted(_))));
    assert_eq!(config(&store), FILE);
}

#[test]
fn a_file_that_vanished_comes_back_and_a_broken_one_is_a_persons_matter() {
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path());
    store.apply(id(), FILE, false).unwrap();
    let path = store.folder(id()).join(CONFIG_FILE);
    fs::remove_file(&path).unwrap();
    store.refresh(id()).unwrap();
    assert_eq!(store.apply(id(), FILE, false).unwrap(), Applied::Changed);
    assert_eq!(config(&store), FILE);
    assert_eq!(store.get(id()).unwrap().problem, None);

    fs::write(&path, "half an ed").unwrap();
    store.refresh(id()).unwrap();
    for dry_run in [true, false] {
        let refused = store.apply(id(), FILE, dry_run).unwrap_err();
        assert!(matches!(refused, ApplyError::Store(StoreError::Broken { .. })), "{refused}");
    }
    assert_eq!(config(&store), "half an ed");
    store.wish_power(id(), None, up("two")).unwrap();
    assert_eq!(config(&store), "half an ed");
    assert_eq!(store.get(id()).unwrap().manifest.as_ref().unwrap().spec.power, Some(up("two")));
}

#[test]
fn a_parked_server_that_a_file_takes_over_is_found_again() {
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path());
    let of_panel = FILE.replace("spec:\n", "  managedBy: panel\nspec:\n");
    store.apply(id(), &of_panel, false).unwrap();
    store.commit(id(), |record| record.parked = Some(Timestamp::default())).unwrap();
    assert_eq!(store.apply(id(), &of_panel, false).unwrap(), Applied::Unchanged);
    assert!(store.get(id()).unwrap().record.parked.is_some());
    assert_eq!(store.apply(id(), FILE, true).unwrap(), Applied::Changed);
    assert_eq!(store.apply(id(), FILE, false).unwrap(), Applied::Changed);
    assert!(store.get(id()).unwrap().record.parked.is_none());
}

#[test]
fn events_outlive_the_daemon() {
    let root = tempfile::tempdir().unwrap();
    let reasons = |store: &Store| -> Vec<String> {
        store.status(id()).unwrap().events.iter().map(|event| event.reason.clone()).collect()
    };
    let first = store(root.path());
    first.apply(id(), FILE, false).unwrap();
    first.event(id(), Timestamp::from_millis(1), "One", "it happened");
    assert!(first.set_status(id(), Status::clone(&first.status(id()).unwrap())), "an event makes status.yml stale");
    first.write_status(id()).unwrap();
    assert!(!first.set_status(id(), Status::clone(&first.status(id()).unwrap())));

    let second = store(root.path());
    second.event(id(), Timestamp::from_millis(2), "Two", "it happened again");
    assert_eq!(reasons(&second), ["Two"], "nothing is read at boot");
    second.write_status(id()).unwrap();
    assert_eq!(reasons(&second), ["One", "Two"]);
    second.write_status(id()).unwrap();
    assert_eq!(reasons(&second), ["One", "Two"], "read once");

    let third = store(root.path());
    fs::write(third.folder(id()).join(STATUS_FILE), "events: [half").unwrap();
    third.event(id(), Timestamp::from_millis(3), "Three", "and again");
    third.write_status(id()).unwrap();
    assert_eq!(reasons(&third), ["Three"], "a broken status.yml is no obstacle");
}
