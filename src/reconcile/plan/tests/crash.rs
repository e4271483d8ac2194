//! What follows when a server ends by itself. Source: lifecycle, "Crash handling".

use std::time::Duration;

use super::display::{reason, table};
use super::fixture::{Fixture, at};
use crate::model::{ConditionType, ContainerState, Reason};
use crate::reconcile::observed::Policy;

fn exited(code: i64) -> Fixture {
    Fixture::panel_server().installed().wants_up("p1").container_exited("c1", "p1", code)
}

fn policy(fixture: Fixture, change: impl FnOnce(&mut Policy)) -> Fixture {
    fixture.with(|fixture| change(&mut fixture.policy))
}

fn killed_for_memory(fixture: Fixture) -> Fixture {
    fixture.with(|fixture| {
        fixture.observed.server.as_mut().unwrap().state = ContainerState::Exited { code: 0, oom_killed: true };
    })
}

#[test]
fn a_crash_is_judged_once() {
    let restart: &[&str] = &["RecordCrash c1 Crashed restart"];
    let lenient = |fixture| policy(fixture, |policy| policy.clean_exit_is_crash = false);
    let off = |fixture| policy(fixture, |policy| policy.crash_detection = false);
    let own = |fixture: Fixture, on| fixture.with(|s| s.manifest().spec.settings.crash_detection_enabled = Some(on));
    table(&[
        ("a bad end", exited(1), restart),
        ("a clean end counts", exited(0), restart),
        ("a clean end does not count", lenient(exited(0)), &["ClosePower p1 Exited"]),
        ("out of memory always counts", lenient(killed_for_memory(exited(0))), restart),
        ("a bad end counts all the same", lenient(exited(1)), restart),
        ("detection is off", off(exited(1)), &["RecordCrash c1 CrashDetectionDisabled stay down"]),
        ("off on the node, on for the server", own(off(exited(1)), true), restart),
        (
            "on on the node, off for the server",
            own(exited(1), false),
            &["RecordCrash c1 CrashDetectionDisabled stay down"],
        ),
        ("judged: it is started again", exited(1).crashed("c1", 0, true), &["StartJob Sync p1#1800000000000"]),
        ("judged: it stays down", exited(1).crashed("c1", 0, false).closed("p1", Reason::CrashLoop), &[]),
    ]);
}

#[test]
fn a_second_crash_within_the_time_stays_down() {
    let again = |ago| exited(1).crashed("c0", ago, true);
    let loops: &[&str] = &["RecordCrash c1 CrashLoop stay down"];
    let restart: &[&str] = &["RecordCrash c1 Crashed restart"];
    table(&[
        ("just before", again(59), loops),
        ("long enough ago", again(60), restart),
        ("a longer time", policy(again(60), |policy| policy.crash_timeout = Duration::from_secs(61)), loops),
        ("no time", policy(again(1), |policy| policy.crash_timeout = Duration::ZERO), restart),
        (
            "only crashes that were followed by a start count",
            exited(1).crashed("c0", 70, true).crashed("c00", 10, false),
            restart,
        ),
        ("a clock that was set back", again(-1000), restart),
        ("a clock that was set back by a moment", again(-1), restart),
        ("at the same moment", again(0), loops),
        ("set back, and a crash since", again(-1000).crashed("c00", 10, true), loops),
        ("set forward and back, and crashes before and after", again(5).crashed("c00", -1000, true), restart),
    ]);
    assert_eq!(reason(&again(59).plan(), ConditionType::Running), Some(Reason::CrashLoop));
}

#[test]
fn a_requested_or_unobserved_end_is_no_crash() {
    let start: &[&str] = &["StartJob Sync p1"];
    table(&[
        ("a stop was sent to it", exited(1).stop_sent("c1", 5, 600), start),
        ("a stop was sent to another one", exited(1).stop_sent("c0", 5, 600), &["RecordCrash c1 Crashed restart"]),
        ("not seen running", exited(1).daemon_restarted(), start),
        ("it ran for an earlier request", exited(1).wants_up("p2"), &["StartJob Sync p2"]),
        ("it was stopped as wanted", exited(1).wants_down("d1"), &["ClosePower d1 Stopped"]),
        ("not requested", exited(1).closed("p1", Reason::Exited), &[]),
        ("it was never started", Fixture::panel_server().installed().wants_up("p1").container_made("c1", "p1"), start),
    ]);
}

#[test]
fn a_server_that_was_given_its_request_later_crashes_like_any_other() {
    let fixture = exited(1).wants_up("p2").serving("c1", "p2");
    table(&[("assigned", fixture, &["RecordCrash c1 Crashed restart"])]);
}

#[test]
fn a_crash_of_a_suspended_server_is_judged_and_not_followed_by_a_start() {
    table(&[
        ("judged", exited(1).suspended(), &["RecordCrash c1 Crashed restart"]),
        ("not started", exited(1).suspended().crashed("c1", 0, true), &["ClosePower p1 Suspended"]),
    ]);
}

#[test]
fn the_history_forgets_its_oldest_crashes() {
    let mut fixture = exited(1);
    for number in 0..50 {
        fixture = fixture.crashed(&format!("c-{number}"), 1000 - number, true);
    }
    assert_eq!(fixture.record.crashes.len(), crate::model::record::CRASH_HISTORY);
    assert_eq!(fixture.record.crashes.last().unwrap().at, at(-951));
}
