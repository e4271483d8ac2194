//! Fetching from a panel that is slow, away, or asked by many.

use std::time::Duration;

use super::*;
use crate::testing::{TestNode, TestPanel, server_id};

/// A node whose panel takes so many seconds to answer.
fn node(seconds: u64) -> (TestNode, Arc<PanelSync>, TestPanel) {
    let (node, panel) = TestNode::with_panel();
    panel.delay(|_| true, Duration::from_secs(seconds));
    let sync = node.sync().clone();
    (node, sync, panel)
}

#[tokio::test(start_paused = true)]
async fn an_installation_waits_for_a_slow_answer_and_a_start_does_not() {
    let (_node, sync, panel) = node(20);
    assert_eq!(sync.fetch_for_install(server_id(0)).await.unwrap().server.settings.invocation, "run");
    assert_eq!(panel.calls(), 1);
    let began = Instant::now();
    assert!(sync.fetch_for_start(server_id(0)).await.is_err());
    assert_eq!(began.elapsed(), wait::PANEL_ANSWER);
}

#[tokio::test(start_paused = true)]
async fn a_request_does_not_wait_behind_the_starts_of_all_servers() {
    let (_node, sync, panel) = node(2);
    for number in 0..20 {
        let sync = sync.clone();
        tokio::spawn(async move { sync.fetch_for_start(server_id(number)).await.map(drop) });
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(panel.max_concurrent() as usize, JOB_QUESTIONS);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(panel.max_concurrent() as usize, JOB_QUESTIONS);
    const { assert!(JOB_QUESTIONS < QUESTIONS, "some are for requests") }
}

#[tokio::test(start_paused = true)]
async fn a_request_does_not_wait_for_an_answer_that_will_not_come() {
    let (_node, sync, panel) = node(0);
    let (began, call) = (Instant::now(), "GET /servers/x".to_owned());
    let invalid = PanelError::InvalidResponse { call: call.clone(), detail: "expected JSON".into() };
    let timeout = PanelError::Timeout { call: call.clone(), limit: Duration::from_secs(3) };
    for error in [invalid, timeout] {
        panel.fail(|_| true, error.clone());
        let failed = sync.fetch(server_id(1)).await.err();
        assert_eq!((failed, panel.calls(), began.elapsed()), (Some(error), 1, Duration::ZERO));
    }
    let away = PanelError::Unreachable { call, cause: "refused".into() };
    panel.fail(|_| true, away.clone());
    assert_eq!(sync.fetch(server_id(1)).await.err(), Some(away));
    assert!(panel.calls() > 3, "a panel that is away is asked again");
}

#[tokio::test(start_paused = true)]
async fn a_delete_waits_for_the_list_until_it_is_applied() {
    let (_node, sync, _panel) = node(0);
    let began = Instant::now();
    assert_eq!((sync.wait_for_list().await, began.elapsed()), (false, wait::DELETE_FOR_LIST));
    let other = sync.clone();
    tokio::spawn(async move { other.list_applied() });
    assert_eq!((sync.wait_for_list().await, began.elapsed()), (true, wait::DELETE_FOR_LIST));
    sync.server_removed(server_id(1));
    assert!(!sync.was_removed(server_id(1)), "nothing is kept once the list is applied");
}

#[tokio::test]
async fn a_panel_that_answers_again_is_noticed_once() {
    let (_node, sync, _panel) = node(0);
    let noticed = [true, false, false, true, true].map(|answered| sync.note_answer(answered));
    assert_eq!(noticed, [false, false, false, true, false]);
}
