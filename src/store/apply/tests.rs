//! Files that are applied, and events that outlive the daemon.

use std::fs;
use std::path::Path;

use futures_util::FutureExt;

use super::*;
use crate::clock::Clock;
use crate::events::EventKind;
use crate::model::{
    Condition, ConditionStatus, ConditionType, PowerState, Reason, Requester, Requests, Timestamp, Verb,
};
use crate::requests::NewRequest;
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
    Store::open(root, Blocking::Inline, Clock::System, None).unwrap()
}

fn config(store: &Store) -> String {
    fs::read_to_string(store.folder(id()).join(CONFIG_FILE)).unwrap()
}

fn asks(store: &Store, verb: Verb) -> Requests {
    let new = NewRequest {
        id: "one".into(),
        at: Timestamp::default(),
        expires_at: None,
        timeout: None,
        by: Requester::Cli,
        verb,
    };
    Requests::clone(&store.request(id(), None, [new]).unwrap().requests)
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
fn a_changed_file_replaces_the_old_one_and_no_request() {
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path());
    store.apply(id(), FILE, false).unwrap();
    let asked = asks(&store, Verb::Start);
    let changed = FILE.replace("image:1", "image:2").replace("# mine", "# ours");
    assert_eq!(store.apply(id(), &changed, true).unwrap(), Applied::Changed);
    assert_eq!(config(&store), FILE, "a dry run writes nothing");
    assert_eq!(store.apply(id(), &changed, false).unwrap(), Applied::Changed);
    assert_eq!(config(&store), changed);
    let snapshot = store.get(id()).unwrap();
    assert_eq!(snapshot.manifest.as_ref().unwrap().spec.settings.container.image, "example/image:2");
    assert_eq!(*snapshot.requests, asked);
    assert_eq!(store.apply(id(), &changed.replace("# ours", "# theirs"), false).unwrap(), Applied::Changed);
    assert_eq!(store.get(id()).unwrap().record.generation, 2, "a comment is a change of the file alone");
}

#[test]
fn a_file_without_a_script_keeps_the_script_of_the_panel() {
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path());
    let of_panel = FILE.replace("spec:\n", "  managedBy: panel\nspec:\n");
    let script = of_panel.clone() + "  script: {image: 'installer:1', entrypoint: sh, text: 'true'}\n";
    store.apply(id(), &script, false).unwrap();
    store.apply(id(), &of_panel.replace("image:1", "image:2"), false).unwrap();
    let spec = store.get(id()).unwrap().manifest.clone().unwrap().spec.clone();
    assert_eq!(spec.script.unwrap().image, "installer:1");
    assert_eq!(spec.settings.container.image, "example/image:2");
}

#[test]
fn what_cannot_be_applied_changes_nothing() {
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path());
    let other: ServerId = "650e8400-e29b-41d4-a716-446655440000".parse().unwrap();
    assert!(matches!(store.apply(other, FILE, false), Err(ApplyError::OtherServer { .. })));
    assert!(matches!(store.apply(id(), "kind: [", false), Err(ApplyError::Text(_))));
    let senseless = FILE.replace("spec:\n", "spec:\n  install: {version: one}\n");
    assert!(matches!(store.apply(id(), &senseless, false), Err(ApplyError::Invalid(_))));
    assert!(store.ids().is_empty());

    store.apply(id(), FILE, false).unwrap();
    asks(&store, Verb::Delete);
    let changed = FILE.replace("image:1", "image:2");
    assert!(matches!(store.apply(id(), &changed, false), Err(ApplyError::BeingDeleted(_))));
    assert_eq!(config(&store), FILE);
}

#[test]
fn a_file_that_vanished_comes_back_and_a_broken_one_is_replaced() {
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path());
    store.apply(id(), FILE, false).unwrap();
    let asked = asks(&store, Verb::Start);
    let path = store.folder(id()).join(CONFIG_FILE);
    let breaks = [|path: &Path| fs::remove_file(path).unwrap(), |path: &Path| fs::write(path, "half an ed").unwrap()];
    for break_it in breaks {
        break_it(&path);
        store.refresh(id()).unwrap();
        assert!(store.get(id()).unwrap().problem.is_some());
        assert_eq!(store.apply(id(), FILE, true).unwrap(), Applied::Changed);
        assert!(fs::read_to_string(&path).ok().as_deref() != Some(FILE), "a dry run writes nothing");
        assert_eq!(store.apply(id(), FILE, false).unwrap(), Applied::Changed);
        assert_eq!(config(&store), FILE);
        let snapshot = store.get(id()).unwrap();
        assert_eq!((&snapshot.problem, &*snapshot.requests), (&None, &asked));
        assert_eq!(snapshot.record.generation, 1);
    }
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
    assert!(first.set_status(id(), |_| ()), "an event makes status.yml stale");
    first.write_status(id()).unwrap();
    assert!(!first.set_status(id(), |_| ()));

    let second = store(root.path());
    second.event(id(), Timestamp::from_millis(2), Reason::LeftOut, "it happened again");
    assert_eq!(reasons(&second), [Reason::LeftOut], "nothing is read at boot");
    second.recall(id());
    assert_eq!(reasons(&second), [Reason::StepFailed, Reason::LeftOut]);
    second.write_status(id()).unwrap();
    assert_eq!(reasons(&second), [Reason::StepFailed, Reason::LeftOut], "read once");

    let numbers: Vec<u64> = second.status(id()).unwrap().events.iter().map(|event| event.number).collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");

    let third = store(root.path());
    fs::write(third.folder(id()).join(STATUS_FILE), "events: [half").unwrap();
    third.event(id(), Timestamp::from_millis(3), Reason::SpecAccepted, "and again");
    third.write_status(id()).unwrap();
    assert_eq!(reasons(&third), [Reason::SpecAccepted], "a broken status.yml is no obstacle");
}

#[test]
fn a_state_and_the_time_of_each_condition_outlive_the_daemon() {
    let root = tempfile::tempdir().unwrap();
    let running = |seconds: i64| Condition {
        condition_type: ConditionType::Running,
        status: ConditionStatus::True,
        reason: Reason::Running,
        message: "the server runs".into(),
        last_transition_time: Timestamp::from_millis(seconds * 1000),
        observed_generation: 1,
    };
    let run = |store: &Store, seconds| {
        store.set_status(id(), |status| {
            status.state = PowerState::Running;
            status.set_condition(running(seconds));
        })
    };
    let first = store(root.path());
    first.apply(id(), FILE, false).unwrap();
    assert!(run(&first, 7));
    first.write_status(id()).unwrap();

    let second = store(root.path());
    assert!(!second.is_recalled(id()));
    second.recall(id());
    assert!(second.is_recalled(id()));
    let status = second.status(id()).unwrap();
    assert_eq!((status.state, status.conditions.as_slice()), (PowerState::Running, [running(7)].as_slice()));
    assert!(!run(&second, 90), "nothing has changed");

    let third = store(root.path());
    run(&third, 90);
    third.recall(id());
    assert_eq!(third.status(id()).unwrap().conditions, [running(90)], "what this run has published stays");

    // A folder that was copied has the status of another server.
    let file = third.folder(id()).join(STATUS_FILE);
    let text = fs::read_to_string(&file).unwrap().replace(&id().to_string(), "99999999-e29b-41d4-a716-446655440000");
    fs::write(file, text).unwrap();
    let fourth = store(root.path());
    fourth.recall(id());
    assert_eq!(fourth.status(id()).unwrap().state, PowerState::Offline);
}

#[test]
fn changes_of_status_are_published() {
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path());
    store.apply(id(), FILE, false).unwrap();
    let mut subscription = store.events().subscribe(id());
    let at = Timestamp::from_millis(1);
    store.event(id(), at, Reason::LeftOut, "it happened");
    let condition = Condition {
        condition_type: ConditionType::Running,
        status: ConditionStatus::True,
        reason: Reason::Running,
        message: "the server runs".into(),
        last_transition_time: at,
        observed_generation: 1,
    };
    store.set_status(id(), |status| {
        (status.state, status.disk_bytes) = (PowerState::Running, 5);
        status.set_condition(condition.clone());
    });
    let published = std::iter::from_fn(|| subscription.try_recv()).map(|event| event.kind.clone());
    assert_eq!(
        published.collect::<Vec<_>>(),
        [
            EventKind::Event { number: 1, reason: Reason::LeftOut, message: "it happened".into(), count: 1 },
            EventKind::State { state: PowerState::Running },
            EventKind::Condition { condition },
        ]
    );
    store.set_status(id(), |status| {
        status.disk_bytes = 6;
        status.conditions[0].observed_generation = 2;
    });
    assert!(subscription.try_recv().is_none(), "none of these has changed");
    store.remove(id(), |_| true).unwrap();
    let mut next = || subscription.recv().now_or_never().unwrap().map(|event| event.kind.clone());
    assert_eq!((next(), next()), (Some(EventKind::Deleted), None), "the server is gone");
}
