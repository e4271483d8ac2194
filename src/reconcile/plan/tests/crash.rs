//! What follows when a server ends by itself. Source: lifecycle, "Crash handling".

use std::time::Duration;

use super::display::{reason, seconds, steps, table};
use super::fixture::{Fixture, at};
use crate::model::time::Span;
use crate::model::{ConditionType, ContainerState, Crash, PowerState, Reason, Restart, RestartPolicy};
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
        ("not seen running", exited(1).daemon_restarted(), &["TakeStartSlot"]),
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

fn with_restart(policy: RestartPolicy, fixture: Fixture) -> Fixture {
    fixture.with(|fixture| fixture.manifest().spec.restart = Some(Restart::new(policy)))
}

/// The latest of so many crashes in a row of `p1`, after each of which it was to be started again.
fn crash_in_row(fixture: Fixture, number: u32, ago: i64) -> Fixture {
    fixture.crashed("c1", ago, true).with(|fixture| {
        let crash = fixture.record.crashes.last_mut().unwrap();
        (crash.in_row, crash.lines) = (number, vec!["loading".into(), "no such map".into()]);
    })
}

fn recorded(fixture: &Fixture) -> Crash {
    use crate::reconcile::step::Step;
    let plan = fixture.plan();
    let crash = plan.steps.into_iter().find_map(|step| match step {
        Step::RecordCrash { crash, .. } => Some(crash),
        _ => None,
    });
    crash.expect("a crash is recorded")
}

#[test]
fn a_restart_policy_replaces_the_rule_of_the_node() {
    use RestartPolicy::{Always, Never, OnFailure};
    let restart: &[&str] = &["RecordCrash c1 Crashed restart"];
    let down: &[&str] = &["RecordCrash c1 NotRestarted stay down"];
    let exited_0: &[&str] = &["ClosePower p1 Exited"];
    let detection_off = |fixture| policy(fixture, |policy| policy.crash_detection = false);
    let lenient = |fixture| policy(fixture, |policy| policy.clean_exit_is_crash = false);
    table(&[
        ("always, after a failure", with_restart(Always, exited(1)), restart),
        ("always, after a clean end", with_restart(Always, lenient(exited(0))), restart),
        ("always, with detection off", with_restart(Always, detection_off(exited(1))), restart),
        ("on failure, after a failure", with_restart(OnFailure, exited(1)), restart),
        ("on failure, after a clean end", with_restart(OnFailure, exited(0)), exited_0),
        ("on failure, for want of memory", with_restart(OnFailure, killed_for_memory(exited(0))), restart),
        ("never, after a failure", with_restart(Never, exited(1)), down),
        ("never, after a clean end", with_restart(Never, exited(0)), exited_0),
        ("always, just after another crash", with_restart(Always, exited(1).crashed("c0", 5, true)), restart),
    ]);
}

#[test]
fn restarts_wait_for_their_delay_and_say_why_and_until_when() {
    use RestartPolicy::Always;
    let start: &[&str] = &["StartJob Sync p1#1799999995000"];
    let crashed = |number, ago| with_restart(Always, crash_in_row(exited(1), number, ago));
    table(&[
        ("the first at once", crashed(1, 5), start),
        ("the second", crashed(2, 5), &[]),
        ("the second, when its time has come", crashed(2, 10), &["StartJob Sync p1#1799999990000"]),
        ("the fifth", crashed(5, 79), &[]),
        ("the fifth, when its time has come", crashed(5, 80), &["StartJob Sync p1#1799999920000"]),
        ("no later than the cap", crashed(100, 300), &["StartJob Sync p1#1799999700000"]),
        ("without a policy nothing waits", crash_in_row(exited(1), 9, 5), start),
        ("a new request does not wait", crashed(9, 5).wants_up("p2"), &["StartJob Sync p2#1799999995000"]),
        ("a stop ends it", crashed(9, 5).wants_down("d1"), &["ClosePower d1 Stopped"]),
        ("a suspension ends it", crashed(9, 5).suspended(), &["ClosePower p1 Suspended"]),
        ("the daemon was restarted", crashed(3, 5).daemon_restarted(), &[]),
        (
            "a clock that was set back while the daemon was down",
            crashed(3, -1000).daemon_restarted(),
            &["TakeStartSlot"],
        ),
    ]);
    let plan = crashed(3, 5).plan();
    assert_eq!((plan.state, seconds(plan.requeue)), (PowerState::Offline, Some(15)));
    let running = plan.conditions.iter().find(|verdict| verdict.kind == ConditionType::Running).unwrap();
    assert_eq!(running.reason, Reason::CrashLoop);
    assert_eq!(
        running.message,
        "the server crashed 3 times in a row, and ended with exit code 1 at last; it is started again at 08:00:15 UTC. Its last lines: \
         loading | no such map"
    );
    assert_eq!(reason(&plan, ConditionType::Ready), Some(Reason::CrashLoop));
}

#[test]
fn crashes_in_a_row_are_counted_for_one_request_and_until_a_long_run() {
    let policy = RestartPolicy::OnFailure;
    let again = |number| {
        with_restart(
            policy,
            crash_in_row(exited(1), number, 61).with(|fixture| fixture.record.crashes[0].container = "c0".into()),
        )
    };
    let reset_after = |seconds, fixture: Fixture| {
        fixture.with(|fixture| {
            fixture.manifest().spec.restart.as_mut().unwrap().reset_after = Span(Duration::from_secs(seconds));
        })
    };
    assert_eq!(recorded(&with_restart(policy, exited(1))).in_row, 1);
    assert_eq!(recorded(&again(1)).in_row, 2);
    assert_eq!(recorded(&again(7)).in_row, 8);
    assert_eq!(recorded(&again(0)).in_row, 2, "recorded by an earlier release");
    assert_eq!(recorded(&reset_after(59, again(7))).in_row, 1, "it ran for 59 seconds");
    assert_eq!(recorded(&reset_after(60, again(7))).in_row, 8);
    let another = again(7).wants_up("p2").serving("c1", "p2");
    let crash = recorded(&another);
    assert_eq!((crash.in_row, crash.power.as_str()), (1, "p2"), "a person has started it since");
}

#[test]
fn a_server_that_stays_down_says_what_it_printed_at_last() {
    let fixture = crash_in_row(exited(1), 2, 5).with(|fixture| fixture.record.crashes[0].restarted = false);
    let plan = fixture.closed("p1", Reason::CrashLoop).plan();
    assert_eq!(steps(&plan), [""; 0]);
    let running = plan.conditions.iter().find(|verdict| verdict.kind == ConditionType::Running).unwrap();
    assert_eq!(running.message, "closed: CrashLoop. Its last lines: loading | no such map");
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
