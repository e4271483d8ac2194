//! Starts after a boot of the host or a restart of the engine.

use super::display::{reason, seconds, table};
use super::fixture::{Fixture, container, due};
use crate::model::Requester::Takeover;
use crate::model::{ConditionType, ContainerState, ContainerStatus, PowerState, Reason};
use crate::reconcile::job::JobKind;

/// A server that ran for `p1` when the host went down.
fn resumed() -> Fixture {
    Fixture::panel_server().installed().wants_up("p1").container_exited("c1", "p1", 143).daemon_restarted()
}

/// A server that Wings ran when the host went down, before the first start of this daemon.
fn left_by_wings() -> Fixture {
    let by_wings =
        |fixture: &mut Fixture| fixture.requests.accepted.iter_mut().for_each(|request| request.by = Takeover);
    Fixture::panel_server().installed().wants_up("p1").with(by_wings).container_exited("c1", "", 143).daemon_restarted()
}

fn holds(fixture: Fixture) -> Fixture {
    fixture.with(|fixture| fixture.observed.start_slot = true)
}

fn queued(fixture: Fixture) -> Fixture {
    fixture.with(|fixture| fixture.observed.start_queued = true)
}

fn starting(fixture: Fixture, seconds_ago: i64) -> Fixture {
    let server = ContainerStatus {
        state: ContainerState::Running,
        started_at: Some(super::fixture::at(-seconds_ago)),
        ..container("c2", Some("p1"))
    };
    fixture.container(server).seen_running("c2").attached("c2")
}

#[test]
fn a_server_that_ran_before_the_boot_is_started_with_a_slot() {
    let take: &[&str] = &["TakeStartSlot"];
    let start: &[&str] = &["StartJob Sync p1"];
    table(&[
        ("none yet", resumed(), take),
        ("it waits", queued(resumed()), take),
        ("it ran for Wings", left_by_wings(), take),
        ("it ran for Wings, and its container is gone", left_by_wings().with(|s| s.observed.server = None), take),
        ("it has been started since", left_by_wings().wants_up("p2"), &["StartJob Sync p2"]),
        ("it has one", holds(resumed()), start),
        ("it has one, and its old container is gone", holds(resumed().with(|s| s.observed.server = None)), start),
        ("it is suspended", queued(resumed().suspended()), &["ClosePower p1 Suspended", "ReleaseStartSlot"]),
        ("it is stopped", queued(resumed().wants_down("d1")), &["ClosePower d1 Stopped", "ReleaseStartSlot"]),
        ("it is asked for since", queued(resumed().wants_up("p2")), &["StartJob Sync p2", "ReleaseStartSlot"]),
        ("it ended under the eyes of the daemon", resumed().seen_running("c1"), &["RecordCrash c1 Crashed restart"]),
        (
            "its start fails",
            holds(resumed().synced_for("p1").job_failed(JobKind::Image, "p1 server game:1", 1, 5)),
            &["StartJob Permissions p1", "ReleaseStartSlot"],
        ),
        ("it is deleted", queued(resumed().deleted(false)), &["RemoveServer c1", "ReleaseStartSlot"]),
        ("the engine is away", holds(resumed().with(|s| s.observed.outage = Some("no answer".into()))), &[]),
    ]);
    let plan = queued(resumed()).plan();
    assert_eq!((plan.state, reason(&plan, ConditionType::Running)), (PowerState::Offline, Some(Reason::StartQueued)));
}

#[test]
fn servers_wait_for_each_other_before_the_first_one_starts() {
    let plan = resumed().with(|fixture| fixture.observed.start_slots_open_at = Some(due(2))).plan();
    assert_eq!(seconds(plan.requeue), Some(2));
}

#[test]
fn the_slot_is_released_when_the_start_up_has_finished_or_takes_long() {
    table(&[
        ("just started", holds(starting(resumed(), 5)), &[]),
        ("for long", holds(starting(resumed(), 30)), &["ReleaseStartSlot"]),
        ("finished", holds(starting(resumed(), 5).started("c2")), &["ReleaseStartSlot"]),
        ("without a slot", starting(resumed(), 5), &[]),
    ]);
    assert_eq!(seconds(holds(starting(resumed(), 5)).plan().requeue), Some(25));
}
