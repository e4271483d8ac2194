//! The panel's word meets what is there: a newer word, a person's edit.

use std::time::Duration;

use super::*;
use crate::model::Verb;
use crate::panel::QUESTIONS;
use crate::reconcile::context::JOB_QUESTIONS;
use crate::reconcile::job::{JobKind, Subject};
use crate::reconcile::jobs::{JobOutput, JobRun, implementation};
use crate::testing::{TestNode, TestPanel, panel_server, server_id};

fn at(second: i64) -> Timestamp {
    Timestamp::from_millis(second * 1000)
}

/// What a panel said that was asked at one second and answered at the other.
fn word(invocation: &str, asked_at: i64, read_at: i64) -> FetchedSpec {
    FetchedSpec { server: panel_server(invocation), asked_at: at(asked_at), read_at: at(read_at) }
}

/// A store in which the panel's word of second 10 is in force.
fn store() -> (TestNode, Store) {
    let node = TestNode::new();
    let old = panel_server("old");
    let hash = digest(&(&old.settings, &old.process, false));
    let record = Record { synced_at: Some(at(10)), synced_hash: Some(hash), ..Record::default() };
    let store = node.context.store.clone();
    store.create(new_manifest(server_id(1), old), record, []).unwrap();
    (node, store)
}

fn invocation(store: &Store) -> String {
    store.list()[0].manifest.as_ref().unwrap().spec.settings.invocation.clone()
}

#[tokio::test(start_paused = true)]
async fn an_older_word_changes_nothing() {
    let (_node, store) = store();
    apply_sync(&store, server_id(1), &word("newest", 12, 13), None).unwrap();
    apply_sync(&store, server_id(1), &word("late", 11, 14), None).unwrap();
    let after = store.get(server_id(1)).unwrap();
    assert_eq!((invocation(&store).as_str(), after.record.synced_at), ("newest", Some(at(12))));

    // It was asked for a start all the same: that start has its answer.
    apply_sync(&store, server_id(1), &word("late", 11, 14), Some("start".into())).unwrap();
    let after = store.get(server_id(1)).unwrap();
    assert_eq!(after.record.synced_for.as_deref(), Some("start"));
    assert_eq!((invocation(&store).as_str(), after.record.synced_at), ("newest", Some(at(12))));
    apply_sync(&store, server_id(1), &word("newer still", 15, 15), None).unwrap();
    assert_eq!(invocation(&store), "newer still");
}

#[tokio::test(start_paused = true)]
async fn a_word_from_the_future_is_from_before_the_clock_was_set_back() {
    let (_node, store) = store();
    apply_sync(&store, server_id(1), &word("future", 5_000, 5_000), None).unwrap();
    apply_sync(&store, server_id(1), &word("now", 20, 21), None).unwrap();
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
    apply_sync(&store, server_id(1), &word("old", 12, 12), None).unwrap();
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

    // Where the panel has changed its mind, nobody's edit is undone.
    store.sync(server_id(1), None, |manifest| manifest.spec.settings.invocation = "by hand".into(), |_| {}).unwrap();
    apply_sync(&store, server_id(1), &word("new", 14, 14), None).unwrap();
    assert_eq!(store.status(server_id(1)).unwrap().events.len(), 2);
}

/// A world whose panel needs so long for an answer, and has servers that are to be installed.
fn slow(seconds: u64, servers: u32) -> (TestNode, TestPanel) {
    let panel = TestPanel::default();
    panel.delay(|_| true, Duration::from_secs(seconds));
    let node = TestNode::builder().panel(panel.clone()).build();
    for number in 0..servers {
        panel.add(server_id(number), panel_server("run"));
        let install = node.request("i1", Verb::Install { reinstall: false, then_start: false });
        let manifest = new_manifest(server_id(number), panel_server("old"));
        node.context.store.create(manifest, Record::default(), [install]).unwrap();
    }
    (node, panel)
}

async fn sync(context: &Arc<Context>, number: u32, subject: Subject) -> Result<JobOutput, JobError> {
    implementation(JobKind::Sync).run(&JobRun { context: context.clone(), server: server_id(number), subject }).await
}

#[tokio::test(start_paused = true)]
async fn an_installation_waits_for_a_slow_answer_and_a_start_does_not() {
    let (node, panel) = slow(20, 1);
    sync(&node.context, 0, Subject::Install("i1".into())).await.unwrap();
    assert_eq!((invocation(&node.context.store).as_str(), panel.calls()), ("run", 1));
    let began = tokio::time::Instant::now();
    sync(&node.context, 0, Subject::Start("install:i1".into())).await.unwrap_err();
    assert_eq!(began.elapsed(), PANEL_TIMEOUT);
}

#[tokio::test(start_paused = true)]
async fn a_request_does_not_wait_behind_the_starts_of_a_whole_node() {
    let (node, panel) = slow(2, 20);
    for number in 0..20 {
        let context = node.context.clone();
        tokio::spawn(async move { sync(&context, number, Subject::Start("start".into())).await });
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(panel.max_concurrent() as usize, JOB_QUESTIONS);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(panel.max_concurrent() as usize, JOB_QUESTIONS);
    const { assert!(JOB_QUESTIONS < QUESTIONS, "some places are for requests") }
}
