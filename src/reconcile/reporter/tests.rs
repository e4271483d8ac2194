//! What the panel is told, and what the record says it may believe.

use super::*;
use crate::model::PowerState::{Offline, Running, Starting, Stopping};
use crate::model::Record;
use crate::testing::{PanelCall, TestNode, TestPanel, panel_manifest, server_id};

/// A server of a panel of which an earlier life of the daemon has recorded this.
fn fixture(recorded: Option<PowerState>) -> (TestNode, TestPanel, ServerId) {
    let panel = TestPanel::with_servers();
    let node = TestNode::builder().panel(panel.clone()).build();
    let record = Record { last_reported: recorded, ..Record::default() };
    node.context.store.create(panel_manifest(1, "run"), record, []).unwrap();
    (node, panel, server_id(1))
}

fn recorded(context: &Context, id: ServerId) -> Option<PowerState> {
    context.store.get(id).unwrap().record.last_reported
}

fn transitions(context: &Context, id: ServerId) -> Vec<PowerState> {
    context.with_server(id, |state| state.transitions.iter().copied().collect())
}

/// What the next process reports when it observes this state.
fn reported_after_a_restart(context: &Context, id: ServerId, now: PowerState) -> Vec<PowerState> {
    context.forget_server(id);
    keep_transition(context, id, recorded(context, id), now);
    transitions(context, id)
}

/// The status as the latest pass published it.
fn publish(context: &Context, id: ServerId, state: PowerState) {
    let mut status = crate::model::Status::clone(&context.store.status(id).unwrap());
    status.state = state;
    context.store.set_status(id, status);
}

#[tokio::test(start_paused = true)]
async fn a_report_without_an_answer_may_have_been_heard_whatever_was_acknowledged_before_it() {
    for (before, states, lost) in [
        (None, vec![Starting], Starting),
        (Some(Running), vec![Offline, Starting], Starting),
        (Some(Stopping), vec![Offline, Starting, Running], Running),
        (Some(Running), vec![Offline], Offline),
    ] {
        let (node, panel, id) = fixture(before);
        node.context.with_server(id, |state| state.transitions.extend(states.clone()));
        panel.lose_answers(move |call| *call == PanelCall::ReportState(id, lost));
        report(&node.context, &panel, id).await.unwrap_err();
        assert_eq!(panel.states(id).last().map(|(_, new)| *new), Some(lost));
        assert_eq!(
            reported_after_a_restart(&node.context, id, Offline),
            [Offline],
            "{before:?} {states:?}: recorded {:?}",
            recorded(&node.context, id)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_panel_knows_for_certain_is_not_said_again() {
    let (node, panel, id) = fixture(Some(Running));
    node.context.with_server(id, |state| state.transitions.extend([Stopping, Offline]));
    report(&node.context, &panel, id).await.unwrap();
    assert_eq!(panel.states(id), [(Running, Stopping), (Stopping, Offline)]);
    assert_eq!(recorded(&node.context, id), Some(Offline));
    keep_transition(&node.context, id, None, Offline);
    assert_eq!(transitions(&node.context, id), []);
    assert_eq!(reported_after_a_restart(&node.context, id, Offline), []);
}

#[tokio::test(start_paused = true)]
async fn states_are_noted_against_what_was_told_last() {
    for (recorded, shown, expected) in [
        (None, vec![Offline, Offline], vec![]),
        (Some(Offline), vec![Offline], vec![]),
        (None, vec![Running], vec![Running]),
        (Some(Running), vec![Running, Running], vec![Running]),
        (Some(Starting), vec![Starting], vec![Starting]),
        (Some(Running), vec![Starting], vec![Offline, Starting]),
        (Some(Running), vec![Offline], vec![Offline]),
        (None, vec![Offline, Starting, Running, Starting], vec![Starting, Running, Offline, Starting]),
    ] {
        let (node, _panel, id) = fixture(recorded);
        for now in &shown {
            keep_transition(&node.context, id, recorded, *now);
        }
        assert_eq!(transitions(&node.context, id), expected, "{recorded:?} {shown:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_latest_state_is_reported_although_no_transition_was_kept() {
    for (recorded, shown, expected) in [
        (None, Running, vec![(Offline, Running)]),
        (Some(Running), Offline, vec![(Running, Offline)]),
        (Some(Running), Running, vec![(Offline, Running)]),
        (None, Offline, vec![]),
    ] {
        let (node, panel, id) = fixture(recorded);
        publish(&node.context, id, shown);
        report(&node.context, &panel, id).await.unwrap();
        report(&node.context, &panel, id).await.unwrap();
        assert_eq!(panel.states(id), expected, "{recorded:?} {shown:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_state_is_reported_again_after_one_whose_answer_was_lost() {
    let (node, panel, id) = fixture(None);
    publish(&node.context, id, Running);
    report(&node.context, &panel, id).await.unwrap();
    keep_transition(&node.context, id, recorded(&node.context, id), Stopping);
    panel.lose_answers(move |call| *call == PanelCall::ReportState(id, Stopping));
    report(&node.context, &panel, id).await.unwrap_err();
    node.context.with_server(id, |state| state.transitions.clear());
    panel.succeed();
    report(&node.context, &panel, id).await.unwrap();
    assert_eq!(panel.states(id).last(), Some(&(Stopping, Running)), "it may show the server as stopping");
}
