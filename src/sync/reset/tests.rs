//! When the panel's flags are reset, and what becomes of servers whose record was lost.

use super::*;
use crate::model::{InstallOutcome, InstallRecord, InstallResult, Reason, Verb};
use crate::panel::PanelError;
use crate::sync::new_manifest;
use crate::testing::{TestNode, panel_server, server_id};

/// A server of the panel with an installation: pending, or done as far as a lost record lets the store assume.
fn add_installed(node: &TestNode, number: u32, lost: bool) {
    let done = InstallResult {
        token: "i1".into(),
        sequence: 1,
        outcome: InstallOutcome::Succeeded,
        reinstall: false,
        exit_code: None,
        reason: Reason::RecordLost,
        message: String::new(),
        at: Timestamp::default(),
        reported: true,
    };
    let install = match lost {
        true => InstallRecord { done: Some(done), reset_owed: true, ..InstallRecord::default() },
        false => InstallRecord::default(),
    };
    let asked = node.request("i1", Verb::Install { reinstall: false, then_start: false });
    let record = Record { install, ..Record::default() };
    let asked = (!lost).then_some(asked);
    node.context.store.create(new_manifest(server_id(number), panel_server("run")), record, asked).unwrap();
}

/// Whether a reset is owed to a server, and whether its assumed result is reported.
fn owed(node: &TestNode, number: u32) -> (bool, bool) {
    let record = &node.context.store.get(server_id(number)).unwrap().record;
    (record.install.reset_owed, record.install.done.as_ref().unwrap().reported)
}

#[tokio::test(start_paused = true)]
async fn a_reset_is_all_that_a_lost_record_needs() {
    let (node, _panel) = TestNode::with_panel();
    add_installed(&node, 1, true);
    node.sync().reset().await;
    assert_eq!(owed(&node, 1), (false, true));
}

#[tokio::test(start_paused = true)]
async fn a_lost_record_s_result_is_reported_where_the_panel_rejects_a_reset() {
    let (node, panel) = TestNode::with_panel();
    add_installed(&node, 1, true);
    node.context.store.create(new_manifest(server_id(2), panel_server("run")), Record::default(), []).unwrap();
    panel.fail(
        |_| true,
        PanelError::Rejected { call: "POST /servers/reset".into(), status: 404, detail: "none".into() },
    );
    node.sync().reset().await;
    assert_eq!(owed(&node, 1), (false, false));
    assert_eq!(
        node.context.store.get(server_id(2)).unwrap().record.install,
        InstallRecord::default(),
        "nothing was owed to it"
    );
}

#[tokio::test(start_paused = true)]
async fn a_lost_record_s_result_is_reported_where_others_keep_installing() {
    let (node, _panel) = TestNode::with_panel();
    add_installed(&node, 1, true);
    add_installed(&node, 2, false);
    add_installed(&node, 3, true);
    node.context.store.commit(server_id(3), |record| record.parked = Some(Timestamp::default())).unwrap();
    let held_back = tokio::time::timeout(wait::RESET_HELD_BACK - wait::RESET_CHECK, node.sync().reset()).await;
    assert!(held_back.is_err());
    assert_eq!(owed(&node, 1), (true, true), "the reset may still come");
    let held_back = tokio::time::timeout(wait::RESET_HELD_BACK + wait::RESET_CHECK, node.sync().reset()).await;
    assert!(held_back.is_err());
    assert_eq!(owed(&node, 1), (false, false));
    assert_eq!(owed(&node, 3), (true, true), "the panel does not list it");
}

#[tokio::test(start_paused = true)]
async fn a_panel_that_does_not_answer_a_reset_for_long_gets_no_assumed_result() {
    let (node, panel) = TestNode::with_panel();
    add_installed(&node, 1, true);
    panel.fail(
        |_| true,
        PanelError::Failed {
            call: "POST /servers/reset".into(),
            status: 502,
            detail: "busy".into(),
            retry_after: None,
        },
    );
    let sync = node.sync().clone();
    node.context.tasks.spawn("reset", async move { sync.reset().await });
    tokio::time::sleep(2 * wait::RESET_HELD_BACK).await;
    add_installed(&node, 2, false);
    tokio::time::sleep(wait::RESET_HELD_BACK / 2).await;
    assert_eq!(owed(&node, 1), (true, true), "installations have held the reset back for five minutes");
    tokio::time::sleep(wait::RESET_HELD_BACK).await;
    assert_eq!(owed(&node, 1), (false, false));
}
