//! Entries on their way to a panel in memory, with paused time.

use serde_json::json;

use super::*;
use crate::panel::PanelError;
use crate::testing::{PanelCall, TestNode, TestPanel, server_id};

const MINUTE: Duration = Duration::from_secs(60);

fn entry(number: u32, command: &str) -> Entry {
    Entry {
        server: server_id(number),
        event: ActivityEvent::ConsoleCommand,
        user: Some(Uuid::from_u128(7)),
        ip: "::ffff:192.0.2.1".parse().ok(),
        metadata: json!({"command": command}),
    }
}

/// A node that sends its activity, and its panel.
fn node() -> (TestNode, TestPanel) {
    let (node, panel) = TestNode::with_panel();
    send(&node);
    (node, panel)
}

fn send(node: &TestNode) {
    node.context.tasks.spawn("activity", crate::controller::activity::send(node.context.clone()));
}

fn commands(panel: &TestPanel) -> Vec<String> {
    panel.lock().activity.iter().map(|row| row["metadata"]["command"].as_str().unwrap_or("none").to_owned()).collect()
}

fn condition(node: &TestNode) -> String {
    let conditions = node.context.node.conditions.list();
    let of_activity =
        conditions.iter().find(|condition| condition.r#type == crate::model::NodeConditionType::ActivitySent);
    of_activity.map_or("none".into(), |condition| format!("{:?} {}", condition.status, condition.message))
}

#[tokio::test(start_paused = true)]
async fn entries_reach_the_panel_in_its_format() {
    let (node, panel) = node();
    node.context.activity.record(entry(1, "say hi"));
    let crash = Entry { user: None, ip: None, event: ActivityEvent::Crashed, metadata: json!({}), ..entry(2, "") };
    node.context.activity.record(crash);
    node.context.activity.record(Entry { metadata: json!("text"), ..entry(3, "") });
    node.context.activity.record(entry(4, &"x".repeat(20_000)));
    tokio::time::sleep(MINUTE - Duration::from_secs(1)).await;
    assert!(panel.lock().activity.is_empty(), "a report is made once a minute");
    tokio::time::sleep(Duration::from_secs(2)).await;
    let rows = panel.lock().activity.clone();
    let expected = json!({
        "user": "00000000-0000-0000-0000-000000000007", "server": server_id(1).to_string(),
        "event": "server:console.command", "metadata": {"command": "say hi"}, "ip": "192.0.2.1",
        "timestamp": rows[0]["timestamp"],
    });
    assert_eq!(rows[0], expected);
    let keys = |row: &Value| row.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert!(rows.iter().all(|row| keys(row) == ["user", "server", "event", "metadata", "ip", "timestamp"]));
    assert_eq!((&rows[1]["user"], &rows[1]["ip"], &rows[1]["metadata"]), (&Value::Null, &Value::Null, &json!({})));
    assert_eq!((&rows[2]["metadata"], &rows[3]["metadata"]), (&json!({}), &json!({"truncated": true})));
    let timestamps: Vec<&str> = rows.iter().map(|row| row["timestamp"].as_str().unwrap()).collect();
    assert!(timestamps.is_sorted_by(|a, b| a < b), "each row has one of its own: {timestamps:?}");
    assert!(timestamps.iter().all(|time| time.ends_with('Z') && time.len() == "2026-01-01T00:00:00.123456789Z".len()));
    assert_eq!(condition(&node), "True ");
}

#[tokio::test(start_paused = true)]
async fn a_batch_has_the_configured_number_of_rows() {
    let (node, panel) = TestNode::with_panel();
    panel.fail(|_| false, PanelError::Timeout { call: String::new(), limit: MINUTE });
    send(&node);
    (0..250).for_each(|number| node.context.activity.record(entry(1, &number.to_string())));
    tokio::time::sleep(2 * MINUTE).await;
    assert_eq!(commands(&panel), (0..250).map(|number| number.to_string()).collect::<Vec<_>>());
    assert_eq!(panel.calls(), 3);
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_a_day_loses_no_row_and_repeats_none() {
    let (node, panel) = node();
    for (error, is_down) in [
        (PanelError::Unreachable { call: String::new(), cause: "refused".into() }, true),
        (
            PanelError::Failed { call: String::new(), status: 503, detail: "maintenance".into(), retry_after: None },
            true,
        ),
        (PanelError::Failed { call: String::new(), status: 200, detail: "a page".into(), retry_after: None }, true),
        (PanelError::Rejected { call: String::new(), status: 403, detail: "not authorized".into() }, true),
        (PanelError::Timeout { call: String::new(), limit: MINUTE }, false),
    ] {
        panel.lock().activity.clear();
        if is_down {
            panel.fail(|call| *call == PanelCall::ReportActivity, error);
        }
        for hour in 0..24 {
            node.context.activity.record(entry(1, &hour.to_string()));
            tokio::time::sleep(60 * MINUTE).await;
        }
        assert_eq!(commands(&panel).is_empty(), is_down);
        assert_eq!(condition(&node).starts_with("False"), is_down, "{}", condition(&node));
        panel.succeed();
        tokio::time::sleep(2 * MINUTE).await;
        assert_eq!(commands(&panel), (0..24).map(|hour| hour.to_string()).collect::<Vec<_>>());
    }
}

/// Rejects batches with the row `bad` from now on, as the panel does whose validation or database fails on it.
fn fail_on_bad_rows(panel: &TestPanel, status: Option<u16>) {
    panel.lock().rejects_rows = Some((Box::new(|row| row["metadata"]["command"] == "bad"), status));
}

#[tokio::test(start_paused = true)]
async fn a_row_that_the_panel_does_not_take_is_dropped_and_holds_back_no_other_one() {
    for status in [None, Some(413), Some(500)] {
        let (node, panel) = node();
        fail_on_bad_rows(&panel, status);
        for number in 0..100 {
            node.context.activity.record(entry(1, if number % 40 == 7 { "bad" } else { "good" }));
        }
        tokio::time::sleep(60 * MINUTE).await;
        assert_eq!(commands(&panel).len(), 97, "{status:?}");
        assert_eq!(condition(&node), "True ", "{status:?}");
    }
}

/// Whenever the panel recovers: also between the last attempt with a row and the first one with another.
#[tokio::test(start_paused = true)]
async fn a_panel_that_fails_for_a_while_loses_no_row() {
    for failures in 1..12 {
        let (node, panel) = node();
        let left = std::sync::atomic::AtomicU32::new(failures);
        let fails = move |_: &serde_json::Value| {
            let count = |left: u32| left.checked_sub(1);
            left.fetch_update(std::sync::atomic::Ordering::Relaxed, std::sync::atomic::Ordering::Relaxed, count).is_ok()
        };
        panel.lock().rejects_rows = Some((Box::new(fails), Some(500)));
        for number in 0..3 {
            node.context.activity.record(entry(1, &number.to_string()));
        }
        tokio::time::sleep(120 * MINUTE).await;
        let mut arrived = commands(&panel);
        arrived.sort();
        assert_eq!(arrived, ["0", "1", "2"], "{failures} failures");
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_whose_answer_was_lost_is_sent_again_unchanged() {
    let (node, panel) = node();
    panel.lose_answers(|call| *call == PanelCall::ReportActivity);
    node.context.activity.record(entry(1, "once"));
    tokio::time::sleep(MINUTE + Duration::from_millis(500)).await;
    panel.succeed();
    tokio::time::sleep(MINUTE).await;
    let rows = panel.lock().activity.clone();
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[0], rows[1]);
}

#[tokio::test(start_paused = true)]
async fn rows_of_an_earlier_run_are_sent() {
    let (node, panel) = TestNode::with_panel();
    node.context.activity.record(entry(1, "before"));
    tokio::time::sleep(Duration::from_secs(1)).await;
    // As after a crash: the queue is opened again.
    let context = &node.context;
    let activity = Activity::open(
        Some(Arc::new(panel.clone())),
        (&*context.node.config).into(),
        context.clock,
        context.jitter.clone(),
        Blocking::Inline,
        &context.tasks,
    );
    activity.record(entry(1, "after"));
    context.tasks.spawn("activity", activity.send(|_| {}));
    tokio::time::sleep(2 * MINUTE).await;
    assert_eq!(commands(&panel), ["before", "after"]);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_daemon_brings_the_last_rows_to_disk() {
    let (node, _) = TestNode::with_panel();
    for number in 0..3 {
        node.context.activity.record(entry(1, &number.to_string()));
    }
    node.context.tasks.shutdown(MINUTE).await;
    let mut queue = Queue::open(node.root().join("activity"));
    assert_eq!(queue.peek(10).unwrap().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn rows_wait_for_a_disk_that_takes_none_up_to_a_limit() {
    let (node, panel) = node();
    let folder = node.root().join("activity");
    std::fs::remove_dir(&folder).unwrap();
    std::fs::write(&folder, "in the way").unwrap();
    node.context.activity.record(entry(1, "kept"));
    tokio::time::sleep(MINUTE).await;
    (0..200).for_each(|_| node.context.activity.record(entry(1, &"x".repeat(10_000))));
    tokio::time::sleep(MINUTE).await;
    std::fs::remove_file(&folder).unwrap();
    tokio::time::sleep(20 * MINUTE).await;
    let commands = commands(&panel);
    assert_eq!(commands[0], "kept");
    assert!((80..110).contains(&commands.len()), "{}", commands.len());
}

#[tokio::test(start_paused = true)]
async fn a_node_without_a_panel_records_nothing() {
    let node = TestNode::new();
    node.context.activity.record(entry(1, "x"));
    tokio::time::sleep(MINUTE).await;
    assert!(!node.root().join("activity").exists());
}
