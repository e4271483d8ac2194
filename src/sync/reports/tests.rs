//! What is reported to the panel, and what the record says that it may show.

use std::sync::Arc;

use super::*;
use crate::model::PowerState::{Offline, Running, Starting, Stopping};
use crate::model::Record;
use crate::testing::{PanelCall, TestNode, TestPanel, panel_manifest, server_id};

/// A server of a panel for which an earlier process has recorded this.
fn fixture(recorded: Option<PowerState>) -> (TestNode, Arc<PanelSync>, TestPanel, ServerId) {
    let (node, panel) = TestNode::with_panel();
    let record = Record { last_reported: recorded, ..Record::default() };
    node.context.store.create(panel_manifest(1, "run"), record, []).unwrap();
    let sync = node.sync().clone();
    (node, sync, panel, server_id(1))
}

fn recorded(sync: &PanelSync, id: ServerId) -> Option<PowerState> {
    sync.store.get(id).unwrap().record.last_reported
}

fn transitions(sync: &PanelSync, id: ServerId) -> Vec<PowerState> {
    sync.change(id, |pending| pending.transitions.iter().copied().collect())
}

/// A pass publishes this state.
fn observe(sync: &PanelSync, id: ServerId, state: PowerState) {
    sync.state_published(id, &sync.store.get(id).unwrap().record, state);
}

/// What the next process reports when it observes this state.
fn reported_after_a_restart(sync: &PanelSync, id: ServerId, now: PowerState) -> Vec<PowerState> {
    sync.forget(id);
    observe(sync, id, now);
    transitions(sync, id)
}

/// The status as the latest pass published it.
fn publish(sync: &PanelSync, id: ServerId, state: PowerState) {
    sync.store.set_status(id, |status| status.state = state);
}

#[tokio::test(start_paused = true)]
async fn a_report_without_an_answer_may_have_arrived_whatever_was_acknowledged_before_it() {
    for (before, states, lost) in [
        (None, vec![Starting], Starting),
        (Some(Running), vec![Offline, Starting], Starting),
        (Some(Stopping), vec![Offline, Starting, Running], Running),
        (Some(Running), vec![Offline], Offline),
    ] {
        let (_node, sync, panel, id) = fixture(before);
        sync.change(id, |pending| pending.transitions.extend(states.clone()));
        panel.lose_answers(move |call| *call == PanelCall::ReportState(id, lost));
        sync.report(id).await.unwrap_err();
        assert_eq!(panel.states(id).last().map(|(_, new)| *new), Some(lost));
        assert_eq!(
            reported_after_a_restart(&sync, id, Offline),
            [Offline],
            "{before:?} {states:?}: recorded {:?}",
            recorded(&sync, id)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_state_that_the_panel_has_for_certain_is_not_reported_again() {
    let (_node, sync, panel, id) = fixture(Some(Running));
    sync.change(id, |pending| pending.transitions.extend([Stopping, Offline]));
    sync.report(id).await.unwrap();
    assert_eq!(panel.states(id), [(Running, Stopping), (Stopping, Offline)]);
    assert_eq!(recorded(&sync, id), Some(Offline));
    observe(&sync, id, Offline);
    assert_eq!(transitions(&sync, id), []);
    assert_eq!(reported_after_a_restart(&sync, id, Offline), []);
}

#[tokio::test(start_paused = true)]
async fn states_are_compared_with_the_last_acknowledged_one() {
    for (recorded, published, expected) in [
        (None, vec![Offline, Offline], vec![]),
        (Some(Offline), vec![Offline], vec![]),
        (None, vec![Running], vec![Running]),
        (Some(Running), vec![Running, Running], vec![Running]),
        (Some(Starting), vec![Starting], vec![Starting]),
        (Some(Running), vec![Starting], vec![Offline, Starting]),
        (Some(Running), vec![Offline], vec![Offline]),
        (None, vec![Offline, Starting, Running, Starting], vec![Starting, Running, Offline, Starting]),
    ] {
        let (_node, sync, _panel, id) = fixture(recorded);
        for now in &published {
            observe(&sync, id, *now);
        }
        assert_eq!(transitions(&sync, id), expected, "{recorded:?} {published:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_latest_state_is_reported_although_no_transition_was_kept() {
    for (recorded, published, expected) in [
        (None, Running, vec![(Offline, Running)]),
        (Some(Running), Offline, vec![(Running, Offline)]),
        (Some(Running), Running, vec![(Offline, Running)]),
        (None, Offline, vec![]),
    ] {
        let (_node, sync, panel, id) = fixture(recorded);
        publish(&sync, id, published);
        sync.report(id).await.unwrap();
        sync.report(id).await.unwrap();
        assert_eq!(panel.states(id), expected, "{recorded:?} {published:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_state_is_reported_again_after_one_whose_answer_was_lost() {
    let (_node, sync, panel, id) = fixture(None);
    publish(&sync, id, Running);
    sync.report(id).await.unwrap();
    observe(&sync, id, Stopping);
    panel.lose_answers(move |call| *call == PanelCall::ReportState(id, Stopping));
    sync.report(id).await.unwrap_err();
    sync.change(id, |pending| pending.transitions.clear());
    panel.succeed();
    sync.report(id).await.unwrap();
    assert_eq!(panel.states(id).last(), Some(&(Stopping, Running)), "it may show the server as stopping");
}
