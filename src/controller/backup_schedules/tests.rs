use std::time::Duration;

use super::*;
use crate::model::{BackupResult, ServerId};
use crate::schedule::retention::Keep;
use crate::schedule::{Selector, Times};
use crate::testing::{TestNode, file_manifest, server_id};

const NAME: &str = "nightly";
const DAY: Duration = Duration::from_secs(86_400);

fn node(at: &str) -> TestNode {
    let schedule = BackupSchedule {
        name: NAME.into(),
        selector: Selector { servers: vec![server_id(1).to_string()], labels: [].into() },
        times: Times::parse("0 4 * * *", "UTC").unwrap(),
        keep: Keep { last: 1, ..Keep::default() },
    };
    let at = Timestamp::parse(at).unwrap();
    let builder = TestNode::builder().config(|config| {
        config.live.update(|live| live.backup_schedules = vec![schedule]);
    });
    let node = builder.epoch(at, tokio::time::Instant::now()).build();
    for number in [1, 2] {
        node.context.store.create(file_manifest(number), Record::default(), []).unwrap();
    }
    node
}

fn requested(node: &TestNode, id: ServerId) -> Vec<String> {
    let record = node.context.store.get(id).unwrap().record.clone();
    record.backups.iter().map(|backup| backup.at.to_string()[..13].to_owned()).collect()
}

fn complete(node: &TestNode) {
    let result = BackupResult { succeeded: true, message: String::new(), at: Timestamp::default(), parts: Vec::new() };
    let end = |record: &mut Record| {
        record.backups.iter_mut().for_each(|backup| backup.result = Some(result.clone()));
    };
    node.context.store.commit(server_id(1), end).unwrap();
}

async fn follows(node: &TestNode, time: Duration) {
    let _ = tokio::time::timeout(time, follow(node.context.clone())).await;
}

#[tokio::test(start_paused = true)]
async fn backups_are_requested_at_their_times_for_the_servers_of_the_schedule() {
    let node = node("2026-01-01T12:00:00Z");
    follows(&node, DAY / 2).await;
    assert!(requested(&node, server_id(1)).is_empty(), "it was never due");
    follows(&node, DAY / 2).await;
    assert_eq!(requested(&node, server_id(1)), ["2026-01-02T04"]);
    // One that is still being made counts for the next time.
    follows(&node, DAY).await;
    assert_eq!(requested(&node, server_id(1)).len(), 1);
    complete(&node);
    follows(&node, DAY).await;
    assert_eq!(requested(&node, server_id(1)), ["2026-01-02T04", "2026-01-04T04"]);
    assert!(requested(&node, server_id(2)).is_empty(), "the schedule is not for it");
}

#[tokio::test(start_paused = true)]
async fn a_time_that_was_missed_is_made_up_for_once() {
    let node = node("2026-01-01T12:00:00Z");
    follows(&node, Duration::from_secs(1)).await;
    // The daemon does not run for three days.
    tokio::time::sleep(3 * DAY).await;
    follows(&node, Duration::from_secs(1)).await;
    assert_eq!(requested(&node, server_id(1)), ["2026-01-04T12"]);
    complete(&node);
    follows(&node, Duration::from_secs(1)).await;
    follows(&node, Duration::from_secs(1)).await;
    assert_eq!(requested(&node, server_id(1)).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_new_gets_its_first_backup_at_the_next_time() {
    let node = node("2026-01-01T12:00:00Z");
    let forget = |record: &mut Record| {
        record.scheduled.clear();
        record.created_at = Timestamp::parse("2026-01-01T13:00:00Z");
    };
    let follow = tokio::spawn(follow(node.context.clone()));
    tokio::time::sleep(DAY / 24).await;
    node.context.store.commit(server_id(1), forget).unwrap();
    tokio::time::sleep(DAY / 2).await;
    assert!(requested(&node, server_id(1)).is_empty());
    tokio::time::sleep(DAY / 2).await;
    assert_eq!(requested(&node, server_id(1)), ["2026-01-02T04"]);
    follow.abort();
}

#[tokio::test(start_paused = true)]
async fn the_first_time_of_a_new_server_is_made_up_for_too() {
    let node = node("2026-01-02T03:30:00Z");
    let new = |record: &mut Record| {
        record.scheduled.clear();
        record.created_at = Timestamp::parse("2026-01-02T03:50:00Z");
    };
    let daemon = tokio::spawn(follow(node.context.clone()));
    tokio::time::sleep(DAY / 72).await;
    node.context.store.commit(server_id(1), new).unwrap();
    tokio::time::sleep(DAY / 288).await;
    daemon.abort();
    // It dies five minutes before the time, and is back ten minutes later.
    tokio::time::sleep(DAY / 144).await;
    follows(&node, Duration::from_secs(1)).await;
    assert_eq!(requested(&node, server_id(1)), ["2026-01-02T04"]);
}

#[tokio::test(start_paused = true)]
async fn a_schedule_that_is_changed_counts_from_then_on() {
    let node = node("2026-01-01T12:00:00Z");
    let live = node.context.node.config.live.clone();
    let changes = async {
        tokio::time::sleep(DAY / 4).await;
        live.update(|live| live.backup_schedules.clear());
        tokio::time::sleep(DAY).await;
        // Its time today is over.
        let noon = Times::parse("0 17 * * *", "UTC").unwrap();
        let schedule =
            BackupSchedule { name: "late".into(), selector: Selector::default(), times: noon, keep: Keep::default() };
        live.update(|live| live.backup_schedules.push(schedule));
        tokio::time::sleep(DAY).await;
    };
    tokio::select! {
        () = follow(node.context.clone()) => unreachable!(),
        () = changes => {}
    }
    assert_eq!(requested(&node, server_id(1)), ["2026-01-03T17"]);
    assert_eq!(requested(&node, server_id(2)), ["2026-01-03T17"]);
}
