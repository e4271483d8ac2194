//! Coming down: what asks for it, how, until when, and what follows.

use std::time::Duration;

use super::display::{reason, seconds, steps, table, text};
use super::fixture::{Fixture, at};
use crate::model::{ConditionType, PowerState, Reason};
use crate::reconcile::job::JobKind::{self, InstallLog};
use crate::reconcile::step::StepKind;

const HOUR: Duration = Duration::from_secs(3600);

fn running() -> Fixture {
    Fixture::panel_server().installed().container_running("c1", "p1")
}

fn down() -> Fixture {
    running().wants_down("d1")
}

#[test]
fn a_server_is_stopped_in_the_egg_s_way() {
    let by = |kind, value| down().stops_by(kind, value);
    table(&[
        ("a command", by("command", "save-all; quit"), &["Stop c1 command \"save-all; quit\" 600s"]),
        ("an empty command", by("command", ""), &["Stop c1 native 600s"]),
        ("^C", by("signal", "C"), &["Stop c1 SIGINT 10s"]),
        ("SIGINT", by("signal", "sigint"), &["Stop c1 SIGINT 10s"]),
        ("SIGTERM", by("signal", "SIGTERM"), &["Stop c1 SIGTERM 10s"]),
        ("SIGABRT", by("signal", "SigAbrt"), &["Stop c1 SIGABRT 10s"]),
        ("no type, a signal", by("", "SIGTERM"), &["Stop c1 SIGTERM 10s"]),
        ("another signal", by("signal", "SIGUSR1"), &["Stop c1 SIGKILL 10s"]),
        ("nothing at all", by("", ""), &["Stop c1 SIGKILL 10s"]),
        ("the engine's way", by("stop", ""), &["Stop c1 native 600s"]),
        ("an unknown type", by("teleport", "x"), &["Stop c1 native 600s"]),
    ]);
}

#[test]
fn a_command_needs_a_terminal_and_nothing_else_does() {
    let restarted = || down().daemon_restarted();
    table(&[
        ("a command", restarted(), &["Attach c1", "Stop c1 command \"quit\" 600s"]),
        ("a signal", restarted().stops_by("signal", "SIGTERM"), &["Stop c1 SIGTERM 10s"]),
        ("a kill", running().daemon_restarted().wants_it_killed("k1"), &["Stop c1 SIGKILL 10s"]),
        (
            "no terminal to be had",
            restarted().step_unanswered(StepKind::Attach, "c1", 1, 3),
            &["Stop c1 command \"quit\" 600s"],
        ),
    ]);
}

#[test]
fn a_stop_has_a_deadline_and_sigkill_behind_it() {
    table(&[
        ("sent", down().stop_sent("c1", 1, 600), &[]),
        ("a second to go", down().stop_sent("c1", 599, 600), &[]),
        ("over", down().stop_sent("c1", 600, 600), &["Kill c1"]),
        ("over, by signal", down().stops_by("signal", "C").stop_sent("c1", 10, 10), &["Kill c1"]),
        ("SIGKILL is on its way", down().stop_sent("c1", 605, 600).kill_sent(4), &[]),
        ("SIGKILL did nothing", down().stop_sent("c1", 620, 600).kill_sent(10), &["Kill c1"]),
        ("sent to a container of before", down().stop_sent("c0", 600, 600), &["Stop c1 command \"quit\" 600s"]),
        ("could not be sent", down().step_unanswered(StepKind::Stop, "c1", 1, 3), &[]),
        (
            "could not be sent, due",
            down().step_unanswered(StepKind::Stop, "c1", 1, 0),
            &["Stop c1 command \"quit\" 600s"],
        ),
        (
            "SIGKILL could not be sent",
            down().stop_sent("c1", 600, 600).step_unanswered(StepKind::Kill, "c1", 1, 3),
            &[],
        ),
    ]);
    assert_eq!(seconds(down().stop_sent("c1", 599, 600).plan().requeue), Some(1));
    assert_eq!(seconds(down().stop_sent("c1", 605, 600).kill_sent(4).plan().requeue), Some(6));
    assert_eq!(seconds(down().step_unanswered(StepKind::Stop, "c1", 1, 3).plan().requeue), Some(3));
    assert_eq!(down().stop_sent("c1", 1, 600).plan().state, PowerState::Stopping);
}

#[test]
fn the_request_the_manifest_or_the_way_of_stopping_say_how_long_a_stop_waits() {
    let quit = |seconds: u64| format!("Stop c1 command \"quit\" {seconds}s");
    let by_signal = || down().stops_by("signal", "C");
    let sent = |fixture: Fixture| fixture.stop_sent("c1", 30, 600);
    let suspended = || running().suspended();
    table(&[
        ("the request", down().within(1200), &[&quit(1200)]),
        ("the manifest", down().stops_within(1200), &[&quit(1200)]),
        ("both: the request", down().stops_within(1200).within(5), &[&quit(5)]),
        ("a restart", running().wants_restart("p2").ready_to_start("p2").within(5), &[&quit(5)]),
        ("by signal, the request", by_signal().within(90), &["Stop c1 SIGINT 90s"]),
        ("by signal, the manifest", by_signal().stops_within(90), &["Stop c1 SIGINT 90s"]),
        ("by SIGKILL nothing waits", down().stops_by("signal", "SIGKILL").within(90), &["Stop c1 SIGKILL 10s"]),
        ("a suspension waits no longer than its minute", suspended().stops_within(1200), &[&quit(60)]),
        ("a suspension waits less where the manifest says so", suspended().stops_within(5), &[&quit(5)]),
        ("a time without an end counts as none", down().stops_within(u64::MAX), &[&quit(600)]),
        ("no time at all counts as none", down().stops_within(0), &[&quit(600)]),
        // While the stop is under way.
        ("a shorter time comes", sent(down().within(30)), &["Kill c1"]),
        ("a longer time comes", down().within(1200).stop_sent("c1", 601, 600), &[]),
        ("the manifest gets a shorter one", sent(down().stops_within(30)), &["Kill c1"]),
        ("the way of stopping changes meanwhile", sent(by_signal()), &[]),
        ("a request without one comes: it stays", running().stop_sent("c1", 30, 30), &["Kill c1"]),
        (
            "the engine rejected the stop",
            down().within(600).stop_sent("c1", 1, 1).with(|s| s.observed.stop.as_mut().unwrap().rejected = true),
            &["Kill c1"],
        ),
    ]);
}

#[test]
fn a_stop_that_is_not_obeyed_says_until_when_it_waits_and_what_follows() {
    let message = |fixture: Fixture| {
        let plan = fixture.plan();
        let found = plan.conditions.into_iter().find(|verdict| verdict.kind == ConditionType::Running);
        found.unwrap().message
    };
    // The present of each scene is 08:00:00.
    let waits = "the server is being stopped by the command \"quit\": waits until 08:09:55 UTC for its end, then the container is \
                 killed";
    assert_eq!(message(down().stop_sent("c1", 5, 600)), waits);
    let paused = "; the container is paused and does not react; `docker unpause c1` continues it";
    assert_eq!(message(down().stop_sent("c1", 5, 600).paused()), waits.to_owned() + paused);
    let killed = "the container was killed and still runs; it is killed again at 08:00:06 UTC";
    assert_eq!(message(down().stop_sent("c1", 605, 600).kill_sent(4)), killed);
}

#[test]
fn a_paused_server_does_not_run_as_requested() {
    let paused = running().paused();
    assert_eq!(reason(&paused.plan(), ConditionType::Running), Some(Reason::Paused));
    assert_eq!(reason(&paused.plan(), ConditionType::Ready), Some(Reason::Paused));
    assert_eq!(paused.plan().state, running().plan().state, "for the panel it runs");
    table(&[("nothing is done", paused, &[])]);
}

#[test]
fn a_clock_that_was_set_shortens_and_lengthens_nothing() {
    let installing = || Fixture::panel_server().wants_install("i1").synced().script_fetched("i1");
    let limited = installing().installer_running("n1", "i1").with(|s| s.policy.install_timeout = Some(HOUR));
    for (name, fixture) in [
        ("a stop", down().stop_sent("c1", 5, 600)),
        ("a kill", down().stop_sent("c1", 605, 600).kill_sent(4)),
        ("a step that failed", down().step_unanswered(StepKind::Stop, "c1", 1, 3)),
        ("a job that failed", running().wants_up("p1").disk_limit(100).job_failed(JobKind::Usage, "watch", 1, 7)),
        ("a count of files", running().wants_up("p1").disk_limit(100).usage(50)),
        ("an installer with a limit", limited),
        ("an installer's follower", installing().installer_exited("n1", "i1", 0).job_running(InstallLog, "n1")),
    ] {
        let plan = fixture.plan();
        assert!(plan.requeue.is_some(), "{name}: there is a deadline");
        for step in [-3600 * 24, -10, 10, 3600 * 24] {
            let stepped = fixture.clone().with(|fixture| fixture.clock_step = step).plan();
            assert_eq!((steps(&stepped), stepped.requeue), (steps(&plan), plan.requeue), "{name}, set by {step} s");
        }
    }
}

#[test]
fn a_kill_is_sigkill_at_once_and_escalates_a_stop() {
    let kill = || running().wants_it_killed("k1");
    table(&[
        ("running", kill(), &["Stop c1 SIGKILL 10s"]),
        ("a stop was sent a moment ago", kill().stop_sent("c1", 1, 600), &["Kill c1"]),
        ("SIGKILL is on its way", kill().stop_sent("c1", 1, 10).kill_sent(1), &[]),
        ("SIGKILL did nothing", kill().stop_sent("c1", 10, 10).kill_sent(10), &["Kill c1"]),
        ("also one that is suspended", kill().suspended(), &["Stop c1 SIGKILL 10s"]),
        ("down", kill().container_exited("c1", "p1", 137), &["ClosePower k1 Stopped"]),
    ]);
}

#[test]
fn a_server_that_is_down_completes_the_request() {
    let wanted = || Fixture::panel_server().installed().wants_down("d1");
    table(&[
        ("exited", wanted().container_exited("c1", "p1", 0), &["ClosePower d1 Stopped"]),
        ("never made", wanted(), &["ClosePower d1 Stopped"]),
        ("made and never started", wanted().container_made("c1", "p1"), &["ClosePower d1 Stopped"]),
        ("closed", wanted().closed("d1", Reason::Stopped), &[]),
    ]);
    let exited_badly = wanted().container_exited("c1", "p1", 1);
    assert_eq!(steps(&exited_badly.plan()), ["ClosePower d1 Stopped"], "what was asked for is no crash");
    assert_eq!(exited_badly.plan().state, PowerState::Offline);
}

#[test]
fn a_handled_stop_does_not_stop_what_another_daemon_started() {
    table(&[("adopted", running().wants_down("d1").closed("d1", Reason::Stopped), &[])]);
}

#[test]
fn a_restart_is_a_stop_and_a_start() {
    let again = || running().wants_restart("p2");
    table(&[
        ("the newest configuration first", again(), &["StartJob Sync p2"]),
        ("then the image", again().synced_for("p2"), &["StartJob Image p2 server game:1"]),
        ("then down", again().ready_to_start("p2"), &["Stop c1 command \"quit\" 600s"]),
        ("still coming down", again().stop_sent("c1", 5, 600), &[]),
        ("too slowly", again().stop_sent("c1", 600, 600), &["Kill c1"]),
        ("down", again().container_exited("c1", "p1", 0).stop_sent("c1", 5, 600), &["StartJob Sync p2"]),
        ("then its container goes", again().container_exited("c1", "p1", 1).ready_to_start("p2"), &["RemoveServer c1"]),
        ("done", again().container_running("c2", "p2"), &[]),
    ]);
}

#[test]
fn a_restart_ends_the_server_only_when_its_image_is_there() {
    let pulling = |state: fn(Fixture) -> Fixture| state(running().wants_restart("p2").synced_for("p2"));
    let image = "p2 server game:1";
    let kept = [
        pulling(|server| server.job_running(JobKind::Image, "p2 server game:1")),
        pulling(|server| server.job_failed(JobKind::Image, "p2 server game:1", 9, 3)),
        pulling(|server| server.job_rejected(JobKind::Image, "p2 server game:1")),
        running().wants_restart("p2").job_running(JobKind::Sync, "p2"),
    ];
    for server in kept {
        let plan = server.plan();
        assert_eq!(steps(&plan), Vec::<String>::new());
        assert_eq!(plan.state, PowerState::Running);
        assert_eq!(reason(&plan, ConditionType::Running), Some(Reason::RestartRequested));
    }
    let refused = running().wants_restart("p2").job_rejected(JobKind::Sync, "p2");
    let silent = running().wants_restart("p2").job_failed(JobKind::Sync, "p2", 1, 3);
    let after_two_minutes = running().wants_restart("p2").synced_for("p2").with(|server| {
        server.record.power.started = None;
        server.observed.server.as_mut().unwrap().started_at = Some(at(-500));
    });
    table(&[
        ("the panel rejects it: the server stays", refused, &["ClosePower p2 PanelRejected"]),
        ("the panel does not answer", silent, &["StartJob Image p2 server game:1"]),
        ("what was fetched for it counts", after_two_minutes, &["StartJob Image p2 server game:1"]),
        (
            "a stop comes first",
            running().wants_restart("p2").job_running(JobKind::Image, image).wants_down("d1"),
            &["Stop c1 command \"quit\" 600s"],
        ),
    ]);
}

#[test]
fn a_start_of_a_server_that_runs_lets_it_run_for_the_new_request() {
    table(&[
        ("it runs for another", running().wants_up("p2"), &["Assign p2"]),
        ("it does", running().wants_up("p2").serving("c1", "p2"), &[]),
        ("not now", running().wants_up("p2").step_unanswered(StepKind::Assign, "p2", 1, 3), &[]),
    ]);
}

#[test]
fn a_restart_that_has_begun_to_stop_no_longer_expires() {
    let again = || running().wants_restart("p2").until(30);
    table(&[
        ("begins", again(), &["RecordBegun p2", "StartJob Sync p2"]),
        ("begun, stopping", again().begun("p2").stop_sent("c1", 5, 600), &[]),
        ("begun, its time is over", again().begun("p2").until(-1).stop_sent("c1", 40, 600), &[]),
        ("begun, its time is over, not stopping yet", again().begun("p2").until(-1), &["StartJob Sync p2"]),
        ("cannot begin", again().step_unanswered(StepKind::Stop, "c1", 1, 3), &[]),
        ("could not begin in time", again().until(0), &["ClosePower p2 Expired"]),
    ]);
}

#[test]
fn a_start_during_a_stop_comes_after_it() {
    let stopping = || running().wants_up("p2").stop_sent("c1", 5, 600);
    table(&[
        ("still coming down", stopping(), &[]),
        ("with a time, waiting", stopping().until(8), &[]),
        ("with a time, too late", stopping().until(0), &["ClosePower p2 Expired"]),
        ("expired: the stop goes on", stopping().until(-1).closed("p2", Reason::Expired), &[]),
        (
            "expired: to its end",
            running().wants_up("p2").closed("p2", Reason::Expired).stop_sent("c1", 600, 600),
            &["Kill c1"],
        ),
        ("down, in time", stopping().until(8).container_exited("c1", "p1", 0), &["RecordBegun p2", "StartJob Sync p2"]),
    ]);
    assert_eq!(seconds(stopping().until(8).plan().requeue), Some(8));
    assert_eq!(stopping().until(-1).closed("p2", Reason::Expired).plan().state, PowerState::Stopping);
}

#[test]
fn a_stop_counts_again_when_the_start_after_it_expires() {
    let asked = |seconds| running().wants_down("d1").wants_restart("p2").until(seconds);
    table(&[
        ("in time", asked(8).stop_sent("c1", 5, 600), &[]),
        ("too late, and coming down", asked(0).stop_sent("c1", 5, 600), &[]),
        ("too slowly", asked(0).stop_sent("c1", 600, 600), &["Kill c1"]),
        ("too late, by a daemon that has just come up", asked(0), &["Stop c1 command \"quit\" 600s"]),
        ("down", asked(0).container_exited("c1", "p1", 0), &["ClosePower d1 Stopped"]),
        (
            "both are over",
            asked(0).closed("d1", Reason::Stopped).container_exited("c1", "p1", 0),
            &["ClosePower p2 Expired"],
        ),
        ("begun", asked(0).begun("p2").stop_sent("c1", 5, 600), &[]),
    ]);
    assert_eq!(asked(0).plan().state, PowerState::Stopping);
}

#[test]
fn a_suspension_brings_a_server_down_within_a_minute() {
    let panel = || running().wants_up("p1").suspended();
    let file = || Fixture::file_server().installed().container_running("c1", "p1").wants_up("p1").suspended();
    table(&[
        ("the panel's: the request ends", panel(), &["Stop c1 command \"quit\" 60s", "ClosePower p1 Suspended"]),
        ("unasked", running().suspended(), &["Stop c1 command \"quit\" 60s"]),
        ("a file's: the request stays", file(), &["Stop c1 command \"quit\" 60s"]),
        ("a long stop is cut short", running().suspended().wants_down("d1").stop_sent("c1", 60, 600), &["Kill c1"]),
        ("a short one is not made longer", running().suspended().stops_by("signal", "C"), &["Stop c1 SIGINT 10s"]),
        ("a file's, down", file().container_exited("c1", "p1", 0).stop_sent("c1", 5, 60), &[]),
        (
            "a file's, lifted while it comes down",
            file().with(|s| s.manifest().spec.suspended = false).stop_sent("c1", 5, 60),
            &[],
        ),
        (
            "a file's, lifted: up again, and no crash",
            file().with(|s| s.manifest().spec.suspended = false).container_exited("c1", "p1", 1).stop_sent("c1", 5, 60),
            &["StartJob Permissions p1", "StartJob Image p1 server game:1"],
        ),
    ]);
}

#[test]
fn a_full_disk_brings_a_server_down_within_a_minute() {
    let full = || running().wants_up("p1").disk_limit(100).usage(101);
    table(&[
        ("over", full(), &["Stop c1 command \"quit\" 60s", "ClosePower p1 DiskLimitExceeded"]),
        ("closed, coming down", full().closed("p1", Reason::DiskLimitExceeded).stop_sent("c1", 59, 60), &[]),
        ("closed, too slowly", full().closed("p1", Reason::DiskLimitExceeded).stop_sent("c1", 60, 60), &["Kill c1"]),
        ("closed, and wanted again meanwhile", full().wants_up("p2").stop_sent("c1", 5, 60), &[]),
        ("a restart may make room first", full().wants_up("p2"), &["Stop c1 command \"quit\" 60s"]),
        ("down", full().closed("p1", Reason::DiskLimitExceeded).container_exited("c1", "p1", 0), &[]),
        ("at the limit", running().wants_up("p1").disk_limit(100).usage(100), &[]),
        (
            "a new start counts again",
            full().wants_up("p2").container_exited("c1", "p1", 0).synced_for("p2"),
            &["StartJob Usage p2"],
        ),
        (
            "never measured",
            full().with(|s| s.policy.disk_check_interval = std::time::Duration::ZERO).job_done(JobKind::Usage, "watch"),
            &[],
        ),
    ]);
    assert_eq!(reason(&full().plan(), ConditionType::DiskWithinLimit), Some(Reason::Exceeded));
    assert_eq!(reason(&full().plan(), ConditionType::Running), Some(Reason::DiskLimitExceeded));
}

#[test]
fn complete_plans_of_a_stop() {
    insta::assert_snapshot!("stop_sent", text(&down().stop_sent("c1", 5, 600).plan()));
    insta::assert_snapshot!("suspended", text(&running().wants_up("p1").suspended().plan()));
}
