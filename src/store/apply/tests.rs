//! Files and wishes that are applied, and events that outlive the daemon.

use std::fs;
use std::path::Path;

use super::*;
use crate::model::{Closed, Deletion, How, InstallOutcome, InstallResult, Status, Timestamp, Want};
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

const WISHES: &str = "  power: {id: A, want: up}\n  install: {token: I, skipScripts: true}\n";

fn installed(token: &str) -> InstallResult {
    InstallResult {
        token: token.into(),
        outcome: InstallOutcome::Succeeded,
        reinstall: false,
        exit_code: Some(0),
        reason: Reason::Completed,
        message: String::new(),
        at: Timestamp::default(),
        reported: true,
    }
}

/// A server that did what [`WISHES`] ask for, and then what came after them.
fn with_later_wishes(store: &Store, file: &str) {
    store.apply(id(), file, false).unwrap();
    store.commit(id(), |record| record.finish_install(installed("I"))).unwrap();
    let again = |manifest: &mut Manifest| {
        manifest.spec.power = Some(PowerIntent { want: Want::Down, ..up("B") });
        manifest.spec.install.as_mut().unwrap().token = "J".into();
    };
    store.change(id(), None, again).unwrap();
    store.commit(id(), |record| record.finish_install(installed("J"))).unwrap();
    let (reason, message, at) = (Reason::Stopped, String::new(), Timestamp::default());
    let closed = Closed { id: "B".into(), want: Some(Want::Down), reason, message, at };
    store.commit(id(), |record| record.close_power(closed)).unwrap();
}

fn wishes(store: &Store) -> (String, String) {
    let manifest = store.get(id()).unwrap().manifest.clone().unwrap();
    (manifest.spec.power.as_ref().unwrap().id.clone(), manifest.spec.install.as_ref().unwrap().token.clone())
}

#[test]
fn a_file_that_is_applied_again_asks_for_nothing() {
    let root = tempfile::tempdir().unwrap();
    let first = store(root.path());
    let file = FILE.replace("spec:\n", &format!("spec:\n{WISHES}"));
    with_later_wishes(&first, &file);
    let text = config(&first);
    for store in [&first, &store(root.path())] {
        assert_eq!(store.apply(id(), &file, true).unwrap(), Applied::Unchanged);
        assert_eq!(store.apply(id(), &file, false).unwrap(), Applied::Unchanged);
        assert_eq!(config(store), text);
        assert_eq!(store.apply(id(), &file.replace("image:1", "image:2"), false).unwrap(), Applied::Changed);
        assert_eq!(wishes(store), ("B".into(), "J".into()), "the rest of the file counts");
        assert_eq!(store.apply(id(), &file, false).unwrap(), Applied::Changed);
    }
    let path = first.folder(id()).join(CONFIG_FILE);
    fs::remove_file(&path).unwrap();
    first.refresh(id()).unwrap();
    first.apply(id(), &file, false).unwrap();
    assert_eq!(wishes(&first), ("B".into(), "J".into()), "also where the file had vanished");
    assert!(config(&first).contains("# mine"));

    let newer = file.replace("id: A", "id: C").replace("token: I", "token: K");
    first.apply(id(), &newer, false).unwrap();
    assert_eq!(wishes(&first), ("C".into(), "K".into()));
    // The present wish under its own name with another word is no repetition.
    for want in ["down", "up", "down"] {
        first.apply(id(), &newer.replace("want: up", &format!("want: {want}")), false).unwrap();
        let after = first.get(id()).unwrap();
        let power = after.manifest.as_ref().unwrap().spec.power.clone().unwrap();
        assert_eq!((power.id.as_str(), power.want == Want::Down), ("C", want == "down"));
        assert!(!after.record.power_closed("C", power.want));
    }
}

#[test]
fn wishes_that_an_editor_puts_back_are_over() {
    let root = tempfile::tempdir().unwrap();
    let first = store(root.path());
    let file = FILE.replace("spec:\n", &format!("spec:\n{WISHES}"));
    with_later_wishes(&first, &file);
    let later = config(&first);
    let path = first.folder(id()).join(CONFIG_FILE);
    for reboots in [false, true] {
        fs::write(&path, &file).unwrap();
        let booted = if reboots { store(root.path()) } else { first.clone() };
        booted.refresh(id()).unwrap();
        let snapshot = booted.get(id()).unwrap();
        assert_eq!(wishes(&booted), ("A".into(), "I".into()));
        assert!(
            snapshot.record.power_closed("A", Want::Up) && snapshot.record.install_over("I"),
            "a script over a world"
        );
        // Nor has what is over taken the place of anything.
        fs::write(&path, later.replace("id: B", "id: D")).unwrap();
        booted.refresh(id()).unwrap();
        assert!(!booted.get(id()).unwrap().record.power_closed("D", Want::Down));
        fs::write(&path, &later).unwrap();
        first.refresh(id()).unwrap();
    }
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
    let reasons = |store: &Store| -> Vec<Reason> {
        store.status(id()).unwrap().events.iter().map(|event| event.reason).collect()
    };
    let first = store(root.path());
    first.apply(id(), FILE, false).unwrap();
    first.event(id(), Timestamp::from_millis(1), Reason::StepFailed, "it happened");
    assert!(first.set_status(id(), Status::clone(&first.status(id()).unwrap())), "an event makes status.yml stale");
    first.write_status(id()).unwrap();
    assert!(!first.set_status(id(), Status::clone(&first.status(id()).unwrap())));

    let second = store(root.path());
    second.event(id(), Timestamp::from_millis(2), Reason::LeftOut, "it happened again");
    assert_eq!(reasons(&second), [Reason::LeftOut], "nothing is read at boot");
    second.write_status(id()).unwrap();
    assert_eq!(reasons(&second), [Reason::StepFailed, Reason::LeftOut]);
    second.write_status(id()).unwrap();
    assert_eq!(reasons(&second), [Reason::StepFailed, Reason::LeftOut], "read once");

    let third = store(root.path());
    fs::write(third.folder(id()).join(STATUS_FILE), "events: [half").unwrap();
    third.event(id(), Timestamp::from_millis(3), Reason::SpecAccepted, "and again");
    third.write_status(id()).unwrap();
    assert_eq!(reasons(&third), [Reason::SpecAccepted], "a broken status.yml is no obstacle");
}
