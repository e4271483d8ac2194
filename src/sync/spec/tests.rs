//! A fetched configuration meets a newer one, and a person's edit.

use super::*;
use crate::testing::{TestNode, panel_server, server_id};

fn at(second: i64) -> Timestamp {
    Timestamp::from_millis(second * 1000)
}

/// A configuration that was asked for at one second and read at the other.
fn fetched(invocation: &str, asked_at: i64, read_at: i64) -> FetchedSpec {
    FetchedSpec { server: panel_server(invocation), asked_at: at(asked_at), read_at: at(read_at) }
}

/// A store to which the configuration of second 10 is applied.
fn store() -> (TestNode, Store) {
    let node = TestNode::new();
    let (old, store) = (panel_server("old"), node.context.store.clone());
    let hash = digest(&(&old.settings, &old.process, false));
    let record = Record { synced_at: Some(at(10)), synced_hash: Some(hash), ..Record::default() };
    store.create(new_manifest(server_id(1), old), record, []).unwrap();
    (node, store)
}

fn invocation(store: &Store) -> String {
    store.list()[0].manifest.as_ref().unwrap().spec.settings.invocation.clone()
}

#[tokio::test(start_paused = true)]
async fn an_older_configuration_changes_nothing() {
    let (_node, store) = store();
    apply(&store, server_id(1), &fetched("newest", 12, 13), None).unwrap();
    apply(&store, server_id(1), &fetched("late", 11, 14), None).unwrap();
    let after = store.get(server_id(1)).unwrap();
    assert_eq!((invocation(&store).as_str(), after.record.synced_at), ("newest", Some(at(12))));

    // It was fetched for a start, which has its answer.
    apply(&store, server_id(1), &fetched("late", 11, 14), Some("start".into())).unwrap();
    let after = store.get(server_id(1)).unwrap();
    assert_eq!(after.record.synced_for.as_deref(), Some("start"));
    assert_eq!((invocation(&store).as_str(), after.record.synced_at), ("newest", Some(at(12))));
    apply(&store, server_id(1), &fetched("newest of all", 15, 15), None).unwrap();
    assert_eq!(invocation(&store), "newest of all");
}

#[tokio::test(start_paused = true)]
async fn a_configuration_from_the_future_was_applied_before_the_clock_was_set_back() {
    let (_node, store) = store();
    apply(&store, server_id(1), &fetched("future", 5_000, 5_000), None).unwrap();
    apply(&store, server_id(1), &fetched("now", 20, 21), None).unwrap();
    assert_eq!(invocation(&store), "now");
}

#[tokio::test(start_paused = true)]
async fn a_hand_edit_that_is_undone_is_named() {
    let (_node, store) = store();
    let by_hand = |manifest: &mut Manifest| {
        manifest.spec.settings.invocation = "by hand".into();
        manifest.spec.settings.build.memory_limit = 7;
    };
    store.sync(server_id(1), None, by_hand, |_| {}).unwrap();
    apply(&store, server_id(1), &fetched("old", 12, 12), None).unwrap();
    assert_eq!(invocation(&store), "old");
    let events: Vec<(Reason, String)> =
        store.status(server_id(1)).unwrap().events.iter().map(|e| (e.reason, e.message.clone())).collect();
    for field in ["spec.settings.invocation", "spec.settings.build.memory_limit"] {
        let named = |(reason, message): &(Reason, String)| {
            *reason == Reason::HandEditUndone
                && message.starts_with(&format!("{field} "))
                && message.contains("override.yml")
        };
        assert!(events.iter().any(named), "{field}: {events:?}");
    }
    assert_eq!(events.len(), 2);

    // A value that the panel has changed is no undone edit.
    store.sync(server_id(1), None, |manifest| manifest.spec.settings.invocation = "by hand".into(), |_| {}).unwrap();
    apply(&store, server_id(1), &fetched("new", 14, 14), None).unwrap();
    assert_eq!(store.status(server_id(1)).unwrap().events.len(), 2);
}
