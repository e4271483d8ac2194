//! Installing, from the request to the recorded result, and everything that can come in between.

use super::display::{reason, seconds, steps, table, text};
use super::fixture::{Fixture, at, container, could_not_start, due};
use crate::model::{
    ConditionType, ContainerState, ContainerStatus, InstallOutcome, Interrupted, Phase, PowerState, Reason, Verb,
};
use crate::reconcile::job::JobKind::{Image, InstallLog, Report, Script, Sync};
use crate::reconcile::observed::JobState;
use crate::reconcile::step::{Step, StepKind};

fn first() -> Fixture {
    Fixture::panel_server().wants_install("i1").then_start()
}

fn running() -> Fixture {
    first().ready_to_install("i1").installer_running("n1", "i1")
}

#[test]
fn a_first_installation_goes_stage_by_stage() {
    let fetched = || first().synced().script_fetched("i1");
    let with_images = || fetched().slot().job_done(Image, "i1 server game:1").job_done(Image, "i1 installer setup:1");
    table(&[
        ("nothing is there", first(), &["StartJob Sync i1"]),
        ("the panel is being asked", first().job_running(Sync, "i1"), &[]),
        ("asked for an earlier request", first().job_done(Sync, "i0"), &["StartJob Sync i1"]),
        ("the configuration is there", first().synced(), &["StartJob Script i1"]),
        ("the script is being fetched", first().synced().job_running(Script, "i1"), &[]),
        ("the script is there", fetched(), &["TakeInstallSlot"]),
        ("it has a place", fetched().slot().with(|s| s.observed.prepared = false), &["Prepare"]),
        (
            "folders are there",
            fetched().slot(),
            &["StartJob Image i1 server game:1", "StartJob Image i1 installer setup:1"],
        ),
        (
            "one image is there",
            fetched().slot().job_done(Image, "i1 server game:1").job_running(Image, "i1 installer setup:1"),
            &[],
        ),
        ("both images are there", with_images(), &["CreateServer install:i1"]),
        ("the server's container too", with_images().container_made("c0", "install:i1"), &["WriteScript i1"]),
        (
            "the script lies there",
            with_images().container_made("c0", "install:i1").script_ready("i1"),
            &["CreateInstaller i1"],
        ),
        ("the installer is made", first().ready_to_install("i1").installer_made("n1", "i1"), &["StartInstaller i1"]),
        ("it runs", running(), &[]),
        (
            "it has ended",
            first().ready_to_install("i1").installer_exited("n1", "i1", 0),
            &["CloseInstallLog n1", "RecordInstall i1 Succeeded Completed 0"],
        ),
        (
            "the result is on disk",
            first()
                .ready_to_install("i1")
                .installer_exited("n1", "i1", 0)
                .install_ended("i1", InstallOutcome::Succeeded),
            &["ReleaseInstallSlot", "RemoveInstaller n1", "StartJob Report install:i1"],
        ),
        (
            "the panel knows",
            first().install_ended("i1", InstallOutcome::Succeeded).reported(),
            &["StartJob Sync install:i1"],
        ),
    ]);
}

#[test]
fn a_server_of_a_file_needs_no_panel() {
    let fixture = || Fixture::file_server().wants_install("i1");
    table(&[
        ("at once to its place", fixture(), &["TakeInstallSlot"]),
        (
            "there is nothing to report to",
            fixture().then_start().install_ended("i1", InstallOutcome::Succeeded),
            &["StartJob Permissions install:i1", "StartJob Image install:i1 server game:1"],
        ),
    ]);
    let without_panel = first().with(|fixture| fixture.policy.panel = false).with(|fixture| {
        fixture.manifest().spec.script = Some(super::fixture::script());
    });
    assert_eq!(steps(&without_panel.plan()), ["TakeInstallSlot"], "a node without a panel asks none");
}

#[test]
fn an_installation_waits_for_its_place() {
    let plan = first().synced().script_fetched("i1").plan();
    assert_eq!(reason(&plan, ConditionType::Installed), Some(Reason::Queued));
    assert_eq!(plan.phase, Phase::Installing);
    assert_eq!(plan.state, PowerState::Offline);
}

#[test]
fn an_image_that_cannot_be_had_is_asked_for_three_times() {
    let fixture = || first().synced().script_fetched("i1").slot().job_done(Image, "i1 server game:1");
    let failing = |attempts, retry_in| fixture().job_failed(Image, "i1 installer setup:1", attempts, retry_in);
    table(&[
        ("once, not due", failing(1, 4), &[]),
        ("once, due", failing(1, 0), &["StartJob Image i1 installer setup:1"]),
        ("twice, due", failing(2, -1), &["StartJob Image i1 installer setup:1"]),
        ("three times", failing(3, 4), &["RecordInstall i1 Failed ImagePullFailed"]),
        (
            "refused",
            fixture().job_rejected(Image, "i1 installer setup:1"),
            &["RecordInstall i1 Failed ImagePullFailed"],
        ),
        (
            "the server's image, with the other one not begun",
            first().synced().script_fetched("i1").slot().job_failed(Image, "i1 server game:1", 3, 4),
            &["RecordInstall i1 Failed ImagePullFailed"],
        ),
        (
            "nothing more is pulled then",
            first().synced().script_fetched("i1").slot().job_failed(Image, "i1 installer setup:1", 3, 4),
            &["RecordInstall i1 Failed ImagePullFailed"],
        ),
        (
            "the failures of another image do not count",
            fixture().job_failed(Image, "i1 installer setup:0", 3, 4),
            &["StartJob Image i1 installer setup:1"],
        ),
    ]);
    let plan = failing(1, 4).plan();
    assert_eq!(reason(&plan, ConditionType::ImageReady), Some(Reason::ImagePullBackOff));
    assert_eq!(seconds(plan.requeue), Some(4));
}

#[test]
fn containers_that_the_engine_rejects_end_the_installation() {
    let without_server = || {
        let mut fixture = first().ready_to_install("i1");
        fixture.observed.server = None;
        fixture
    };
    let rejected =
        |attempts, retry_in| without_server().step_rejected(StepKind::CreateServer, "install:i1", attempts, retry_in);
    let ready = || first().ready_to_install("i1");
    table(&[
        ("server, once, not due", rejected(1, 3), &[]),
        ("server, once, due", rejected(1, 0), &["CreateServer install:i1"]),
        ("server, three times", rejected(3, 3), &["RecordInstall i1 Failed ContainerRejected"]),
        (
            "server, an engine that is away",
            without_server().step_unanswered(StepKind::CreateServer, "install:i1", 9, 0),
            &["CreateServer install:i1"],
        ),
        ("installer made, once, not due", ready().step_rejected(StepKind::CreateInstaller, "i1", 1, 3), &[]),
        (
            "installer made, twice, due",
            ready().step_rejected(StepKind::CreateInstaller, "i1", 2, 0),
            &["CreateInstaller i1"],
        ),
        (
            "installer made, three times",
            ready().step_rejected(StepKind::CreateInstaller, "i1", 3, 3),
            &["RecordInstall i1 Failed ContainerRejected"],
        ),
        ("installer, an engine that is away", ready().step_unanswered(StepKind::CreateInstaller, "i1", 9, 3), &[]),
        (
            "installer, the same, due",
            ready().step_unanswered(StepKind::CreateInstaller, "i1", 9, 0),
            &["CreateInstaller i1"],
        ),
        (
            "installer started, twice, due",
            ready().installer_made("n2", "i1").step_rejected(StepKind::StartInstaller, "i1", 2, 0),
            &["StartInstaller i1"],
        ),
        ("not due", ready().installer_made("n2", "i1").step_rejected(StepKind::StartInstaller, "i1", 2, 3), &[]),
        (
            "that one has failed",
            ready().installer(could_not_start("n2", "i1")).step_rejected(StepKind::StartInstaller, "i1", 2, 3),
            &["RemoveInstaller n2"],
        ),
        ("in another life of the daemon", ready().installer(could_not_start("n2", "i1")), &["RemoveInstaller n2"]),
        (
            "installer started, three times",
            ready().installer(could_not_start("n3", "i1")).step_rejected(StepKind::StartInstaller, "i1", 3, 3),
            &["RecordInstall i1 Failed ContainerRejected"],
        ),
        (
            "an earlier request's refusal",
            ready().step_rejected(StepKind::CreateInstaller, "i0", 3, 3),
            &["CreateInstaller i1"],
        ),
    ]);
}

#[test]
fn the_panel_is_waited_for_and_its_rejection_is_final() {
    table(&[
        ("away", first().job_failed(Sync, "i1", 7, 5), &[]),
        ("away, due", first().job_failed(Sync, "i1", 7, 0), &["StartJob Sync i1"]),
        ("refuses the configuration", first().job_rejected(Sync, "i1"), &["RecordInstall i1 Failed PanelRejected"]),
        ("refuses the script", first().synced().job_rejected(Script, "i1"), &["RecordInstall i1 Failed PanelRejected"]),
        (
            "its word of a time to come does not count",
            first().with(|s| s.record.synced_at = Some(at(5))),
            &["StartJob Sync i1"],
        ),
        ("its old word does not count", first().with(|s| s.record.synced_at = Some(at(-11))), &["StartJob Sync i1"]),
        ("a script that a person took out", first().synced().job_done(Script, "i1").slot(), &[]),
        ("an old script does not count", first().synced().script_fetched("i0"), &["StartJob Script i1"]),
    ]);
    let plan = first().job_failed(Sync, "i1", 7, 5).plan();
    assert_eq!(reason(&plan, ConditionType::PanelReachable), Some(Reason::PanelAway));
    assert_eq!(seconds(plan.requeue), Some(5));
}

#[test]
fn folders_that_cannot_be_made_hold_it_up_visibly() {
    let fixture = |retry_in| {
        first().synced().script_fetched("i1").slot().with(|s| s.observed.prepared = false).step_rejected(
            StepKind::Prepare,
            "",
            2,
            retry_in,
        )
    };
    table(&[("not due", fixture(6), &[]), ("due", fixture(0), &["Prepare"])]);
    let plan = fixture(6).plan();
    assert_eq!(reason(&plan, ConditionType::Installed), Some(Reason::FoldersInTheWay));
    assert_eq!(seconds(plan.requeue), Some(6));
}

#[test]
fn a_daemon_that_comes_back_takes_the_installer_up() {
    let made = first().ready_to_install("i1").installer_made("n1", "i1").daemon_restarted();
    let runs = running().daemon_restarted();
    let ended = |code| first().ready_to_install("i1").installer_exited("n1", "i1", code).daemon_restarted();
    table(&[
        ("before the start: the script may be half there", made, &["WriteScript i1", "StartInstaller i1"]),
        ("while it runs", runs, &["StartJob InstallLog n1"]),
        ("after its end", ended(0), &["CloseInstallLog n1", "RecordInstall i1 Succeeded Completed 0"]),
        ("before there was one", first().ready_to_install("i1").daemon_restarted(), &["TakeInstallSlot"]),
    ]);
}

/// The engine was restarted, or the host went down, while the script ran.
#[test]
fn a_script_that_was_cut_off_runs_again() {
    let ended = |code| first().ready_to_install("i1").installer_exited("n1", "i1", code);
    let seen = |fixture: Fixture| fixture.with(|s| s.observed.installer_seen = Some("n1".into()));
    let noted = |fixture: Fixture, times: usize| {
        fixture.with(|s| {
            let earlier = (1..times).map(|number| format!("n0{number}"));
            let containers = earlier.chain(["n1".to_owned()]).collect();
            s.record.install.interrupted = Some(Interrupted { token: "i1".into(), containers });
        })
    };
    let earlier = |times: usize, token: &str| {
        let containers = (0..times).map(|number| format!("n0{number}")).collect();
        let interrupted = Interrupted { token: token.into(), containers };
        ended(137).with(|s| s.record.install.interrupted = Some(interrupted.clone()))
    };
    let oom = ContainerStatus {
        state: ContainerState::Exited { code: 137, oom_killed: true },
        started_at: Some(at(-60)),
        finished_at: Some(at(-1)),
        ..container("n1", Some("i1"))
    };
    let again = &["RecordInterrupted n1"][..];
    table(&[
        ("SIGKILL", ended(137), again),
        ("SIGTERM", ended(143), again),
        ("unobserved", ended(255), again),
        ("noted", noted(ended(137), 1), &["RemoveInstaller n1"]),
        ("noted, for the third time", noted(ended(137), 3), &["RemoveInstaller n1"]),
        ("for the third time", earlier(2, "i1"), again),
        ("for the fourth time", earlier(3, "i1"), &["RecordInstall i1 Failed Interrupted"]),
        ("an earlier installation was", earlier(3, "i0"), again),
        ("before our eyes", seen(ended(137)), &["CloseInstallLog n1", "RecordInstall i1 Succeeded Completed 137"]),
        ("another code", ended(1), &["CloseInstallLog n1", "RecordInstall i1 Succeeded Completed 1"]),
        (
            "no memory",
            first().ready_to_install("i1").installer(oom).job_done(InstallLog, "n1"),
            &["CloseInstallLog n1", "RecordInstall i1 Succeeded Completed 137"],
        ),
        (
            "by itself, after its time, unobserved",
            ended(0).install_timeout(5),
            &["CloseInstallLog n1", "RecordInstall i1 Succeeded Completed 0"],
        ),
    ]);
}

#[test]
fn the_end_of_the_log_is_waited_for_but_not_for_ever() {
    let ended = |finished: i64| {
        let status = ContainerStatus {
            state: ContainerState::Exited { code: 0, oom_killed: false },
            started_at: Some(at(-100)),
            finished_at: Some(at(finished)),
            ..container("n1", Some("i1"))
        };
        first().ready_to_install("i1").installer(status)
    };
    let record = "RecordInstall i1 Succeeded Completed 0";
    table(&[
        ("its follower reads on", ended(-1).job_running(InstallLog, "n1"), &[]),
        ("its follower hangs", ended(-5).job_running(InstallLog, "n1"), &["CloseInstallLog n1", record]),
        ("its follower has failed", ended(-1).job_failed(InstallLog, "n1", 1, 9), &["CloseInstallLog n1", record]),
        // With the script, or just before its end: that is not known.
        ("its follower's stream has ended", ended(-1).job_done(InstallLog, "n1"), &["CloseInstallLog n1", record]),
        ("at that very moment", ended(0).job_done(InstallLog, "n1"), &["CloseInstallLog n1", record]),
        ("the rest was refused", ended(-1).step_rejected(StepKind::CloseInstallLog, "n1", 1, 3), &[]),
        (
            "the rest was refused six times",
            ended(-1).step_rejected(StepKind::CloseInstallLog, "n1", 6, 0),
            &["CloseInstallLog n1", record],
        ),
        ("the rest was refused seven times", ended(-1).step_rejected(StepKind::CloseInstallLog, "n1", 7, 0), &[record]),
    ]);
    assert_eq!(seconds(ended(-1).job_running(InstallLog, "n1").plan().requeue), Some(4));
}

#[test]
fn the_exit_code_decides_where_the_node_configures_it() {
    let ended = |code| first().ready_to_install("i1").installer_exited("n1", "i1", code);
    let strict = |code| ended(code).with(|fixture| fixture.policy.fail_on_nonzero_exit = true);
    table(&[
        ("lenient", ended(3), &["CloseInstallLog n1", "RecordInstall i1 Succeeded Completed 3"]),
        ("strict, bad", strict(3), &["CloseInstallLog n1", "RecordInstall i1 Failed ScriptFailed 3"]),
        ("strict, good", strict(0), &["CloseInstallLog n1", "RecordInstall i1 Succeeded Completed 0"]),
    ]);
}

#[test]
fn a_script_has_its_time() {
    let limited = |seconds| running().install_timeout(seconds);
    let ended = |code| first().ready_to_install("i1").installer_exited("n1", "i1", code);
    table(&[
        ("within it", limited(90), &[]),
        ("over", limited(60), &["Kill n1"]),
        ("SIGKILL is on its way", limited(60).stop_sent("n1", 3, 0).kill_sent(3), &[]),
        ("SIGKILL did nothing", limited(60).stop_sent("n1", 10, 0).kill_sent(10), &["Kill n1"]),
        ("SIGKILL was for another one", limited(60).stop_sent("c1", 3, 0).kill_sent(3), &["Kill n1"]),
        ("refused a moment ago", limited(60).step_rejected(StepKind::Kill, "n1", 1, 2), &[]),
        (
            "ended by it",
            ended(137).stop_sent("n1", 2, 0).kill_sent(2).install_timeout(60),
            &["CloseInstallLog n1", "RecordInstall i1 Failed TimedOut 137"],
        ),
        (
            "ended by it, and the clock was set back meanwhile",
            ended(137).stop_sent("n1", 2, 0).kill_sent(2).install_timeout(3600),
            &["CloseInstallLog n1", "RecordInstall i1 Failed TimedOut 137"],
        ),
        (
            "ended by it, and the daemon was restarted",
            ended(137).install_timeout(60).daemon_restarted(),
            &["CloseInstallLog n1", "RecordInstall i1 Failed TimedOut 137"],
        ),
        (
            "killed by a person, and the clock was set forward meanwhile",
            ended(137).install_timeout(60).with(|s| s.observed.installer_seen = Some("n1".into())),
            &["CloseInstallLog n1", "RecordInstall i1 Succeeded Completed 137"],
        ),
        (
            "ended just before it",
            ended(0).install_timeout(61),
            &["CloseInstallLog n1", "RecordInstall i1 Succeeded Completed 0"],
        ),
        (
            "the node's limit",
            running().with(|fixture| fixture.policy.install_timeout = Some(std::time::Duration::from_secs(60))),
            &["Kill n1"],
        ),
        (
            "the manifest's own limit wins",
            limited(90).with(|fixture| fixture.policy.install_timeout = Some(std::time::Duration::from_secs(60))),
            &[],
        ),
    ]);
    assert_eq!(seconds(limited(90).plan().requeue), Some(30));
    assert_eq!(seconds(limited(60).stop_sent("n1", 3, 0).kill_sent(3).plan().requeue), Some(7));
    assert_eq!(running().plan().requeue, None, "without a limit only its end matters");
}

#[test]
fn an_abort_ends_it_as_failed() {
    let aborted = |fixture: Fixture| fixture.asks("a1", Verb::Abort, -1);
    table(&[
        ("before it began", aborted(first()), &["RecordInstall i1 Failed Aborted"]),
        ("while it runs", aborted(running()), &["RemoveInstaller n1"]),
        ("an engine that is away", aborted(running()).step_unanswered(StepKind::RemoveInstaller, "n1", 1, 2), &[]),
        ("after its container went", aborted(first().ready_to_install("i1")), &["RecordInstall i1 Failed Aborted"]),
        ("after it was done", aborted(first().install_ended("i1", InstallOutcome::Failed).reported()), &[]),
    ]);
}

#[test]
fn a_new_request_replaces_the_one_that_is_under_way() {
    let next = |fixture: Fixture| fixture.wants_install("i2").synced().script_fetched("i2");
    table(&[
        ("a running installer", next(running()), &["RemoveInstaller n1"]),
        ("an ended one", next(first().installer_exited("n1", "i1", 0)), &["RemoveInstaller n1"]),
        ("another daemon's", next(first()).installer(container("n1", None)), &["RemoveInstaller n1"]),
        (
            "the script of the old request",
            first()
                .ready_to_install("i1")
                .wants_install("i2")
                .synced()
                .script_fetched("i2")
                .job_done(Image, "i2 server game:1")
                .job_done(Image, "i2 installer setup:1"),
            &["WriteScript i2"],
        ),
    ]);
}

#[test]
fn without_a_script_nothing_runs() {
    let by_egg = || first().with(|fixture| fixture.manifest().spec.settings.skip_egg_scripts = true);
    let skipped = "RecordInstall i1 Succeeded Skipped";
    table(&[
        ("the panel is asked all the same", by_egg(), &["StartJob Sync i1"]),
        ("by egg", by_egg().synced(), &[skipped]),
        ("folders first", by_egg().synced().with(|s| s.observed.prepared = false), &["Prepare"]),
        (
            "a file's",
            Fixture::file_server()
                .wants_install("i1")
                .with(|fixture| fixture.manifest().spec.settings.skip_egg_scripts = true),
            &[skipped],
        ),
    ]);
}

#[test]
fn a_script_of_white_space_succeeds_without_an_image() {
    let with = |text: &'static str, image: &'static str| {
        first().synced().script_fetched("i1").with(move |fixture| {
            let script = fixture.manifest().spec.script.as_mut().unwrap();
            (script.text, script.image) = (text.into(), image.into());
        })
    };
    let skipped = "RecordInstall i1 Succeeded Skipped";
    table(&[
        ("neither script nor image", with("", ""), &[skipped]),
        ("white space", with(" \r\n\t\n", "setup:1"), &[skipped]),
        ("a script without an image", with("echo", ""), &["RecordInstall i1 Failed InvalidImage"]),
    ]);
    let plan = with("echo", "").plan();
    let [Step::RecordInstall(result)] = plan.steps.as_slice() else { panic!("{:?}", plan.steps) };
    assert!(result.message.contains("spec.script.image"), "{}", result.message);
}

#[test]
fn a_running_server_comes_down_first() {
    let fixture =
        || Fixture::panel_server().installed().container_running("c1", "p0").wants_install("i1").wants_down("d1");
    table(&[
        ("asked as the egg says, with ten seconds", fixture(), &["Stop c1 command \"quit\" 10s"]),
        ("still within them", fixture().stop_sent("c1", 4, 10), &[]),
        ("a longer stop is cut short", fixture().stop_sent("c1", 10, 600), &["Kill c1"]),
        (
            "aborted before it began: it runs on",
            fixture().asks("a1", Verb::Abort, -1),
            &["RecordInstall i1 Failed Aborted"],
        ),
        ("down", fixture().container_exited("c1", "p0", 0), &["StartJob Sync i1"]),
    ]);
    let plan = fixture().stop_sent("c1", 4, 10).plan();
    assert_eq!((plan.state, seconds(plan.requeue)), (PowerState::Stopping, Some(6)));
}

#[test]
fn a_request_that_waits_for_an_installation_expires_meanwhile() {
    let alone = || Fixture::panel_server().wants_install("i1").ready_to_install("i1").installer_running("n1", "i1");
    table(&[
        ("in time", alone().wants_up("p1").until(5), &[]),
        ("too late", alone().wants_up("p1").until(0), &["ClosePower p1 Expired"]),
        ("another start follows", running().wants_up("p1").until(0), &[]),
    ]);
    assert_eq!(seconds(alone().wants_up("p1").until(5).plan().requeue), Some(5));
}

#[test]
fn without_a_panel_an_installation_that_is_rejected_stays_pending() {
    let first = || Fixture::file_server().wants_install("i1");
    let prepared = || first().slot().job_done(Image, "i1 server game:1").job_done(Image, "i1 installer setup:1");
    let no_image = || first().with(|server| server.manifest().spec.script.as_mut().unwrap().image.clear());
    let refused = |attempts, due| prepared().step_rejected(StepKind::CreateServer, "install:i1", attempts, due);
    table(&[
        ("no image in the manifest", no_image(), &[]),
        (
            "an image that cannot be",
            first().slot().job_rejected(Image, "i1 installer setup:1"),
            &["ReleaseInstallSlot"],
        ),
        (
            "an image that is not there",
            first().slot().job_failed(Image, "i1 server game:1", 3, 9),
            &["ReleaseInstallSlot"],
        ),
        ("the same, due", first().job_failed(Image, "i1 server game:1", 3, 0), &["TakeInstallSlot"]),
        ("rejected twice", refused(2, 9), &[]),
        ("rejected often", refused(3, 9), &["ReleaseInstallSlot"]),
        ("rejected often, due", refused(9, 0), &["CreateServer install:i1"]),
        (
            "an installer that cannot start",
            prepared()
                .container_made("c1", "install:i1")
                .script_ready("i1")
                .installer(could_not_start("n1", "i1"))
                .step_rejected(StepKind::StartInstaller, "i1", 5, 9),
            &["RemoveInstaller n1"],
        ),
    ]);
    for (server, expected) in [(no_image(), Reason::InvalidImage), (refused(3, 9), Reason::ContainerBackOff)] {
        assert_eq!(reason(&server.plan(), ConditionType::Installed), Some(expected));
    }
}

#[test]
fn without_a_panel_a_failed_installation_holds_the_start_back() {
    let failed = || Fixture::file_server().wants_install("i1").install_ended("i1", InstallOutcome::Failed);
    let skipped = failed().with(|server| server.manifest().spec.settings.skip_egg_scripts = true);
    let start = ["StartJob Permissions p1", "StartJob Image p1 server game:1"];
    table(&[
        ("failed", failed().wants_up("p1"), &[]),
        ("the script does not count", skipped.wants_up("p1"), &start),
        ("another one is pending", failed().wants_up("p1").wants_install("i2"), &["TakeInstallSlot"]),
        (
            "another one has succeeded",
            failed().wants_up("p1").wants_install("i2").install_ended("i2", InstallOutcome::Succeeded),
            &start,
        ),
        ("one that runs already", failed().container_running("c1", "p1").wants_up("p1"), &[]),
        ("a restart does not end it", failed().container_running("c1", "p1").wants_restart("p2"), &[]),
        ("a restart does not end it", failed().container_running("c1", "p1").wants_restart("p2"), &[]),
    ]);
    let plan = failed().wants_up("p1").plan();
    assert_eq!(reason(&plan, ConditionType::Running), Some(Reason::InstallFailed));
    insta::assert_snapshot!("file_installation_failed", text(&plan));
}

#[test]
fn a_failed_installation_leaves_the_server_down() {
    let failed = |fixture: Fixture| fixture.install_ended("i1", InstallOutcome::Failed);
    table(&[
        ("not reported", failed(first()), &["StartJob Report install:i1"]),
        ("nothing follows", failed(first()).reported(), &[]),
        ("but it may be started", failed(first()).reported().wants_up("p1"), &["StartJob Sync p1"]),
    ]);
    assert_eq!(failed(first()).reported().plan().phase, Phase::Failed);
}

#[test]
fn the_start_that_follows_waits_for_the_first_attempt_to_report() {
    let done = || first().install_ended("i1", InstallOutcome::Succeeded);
    table(&[
        ("not reported", done(), &["StartJob Report install:i1"]),
        ("being reported", done().job_running(Report, "install:i1"), &[]),
        ("the panel is away", done().job_failed(Report, "install:i1", 1, 9), &["StartJob Sync install:i1"]),
        ("it is asked again", done().job(Report, "install:i1", JobState::Running, 2), &["StartJob Sync install:i1"]),
    ]);
}

#[test]
fn an_installer_beside_a_running_server_keeps_it_from_starting_again() {
    let foreign = ContainerStatus { state: ContainerState::Running, ..container("n9", None) };
    let fixture = || Fixture::panel_server().installed().installer(foreign.clone());
    table(&[
        (
            "a stop is carried out",
            fixture().container_running("c1", "p0").wants_down("d1"),
            &["Stop c1 command \"quit\" 600s"],
        ),
        (
            "a restart comes down",
            fixture().container_running("c1", "p0").wants_restart("p1").ready_to_start("p1"),
            &["Stop c1 command \"quit\" 600s"],
        ),
    ]);
    let beside = fixture().container_running("c1", "p0");
    assert_eq!(reason(&beside.plan(), ConditionType::Installed), Some(Reason::ForeignInstaller));
}

#[test]
fn an_installation_that_wings_has_begun_is_taken_over() {
    let server = |started| {
        let fixture = Fixture::panel_server().container_exited("c1", "p0", 0);
        fixture.with(|fixture| fixture.observed.server.as_mut().unwrap().started_at = started)
    };
    let left = |state| ContainerStatus {
        state,
        started_at: Some(at(-60)),
        finished_at: Some(at(-1)),
        ..container("n9", None)
    };
    let ended = ContainerState::Exited { code: 0, oom_killed: false };
    let runs = || left(ContainerState::Running);
    let created = || ContainerStatus { started_at: None, finished_at: None, ..left(ContainerState::Created) };
    table(&[
        ("it runs", Fixture::panel_server().installer(runs()), &["AdoptInstaller n9"]),
        ("it has ended", Fixture::panel_server().installer(left(ended.clone())), &["AdoptInstaller n9"]),
        ("it never ran", Fixture::panel_server().installer(created()), &["AdoptInstaller n9"]),
        ("no start before its end", Fixture::panel_server().installer(runs()).wants_up("p1"), &["AdoptInstaller n9"]),
        ("a reinstallation", server(Some(at(-90))).installer(runs()), &["AdoptInstaller n9 again"]),
        ("the same at its end", server(Some(at(-90))).installer(left(ended.clone())), &["AdoptInstaller n9 again"]),
        ("the server was started since", server(Some(at(-30))).installer(left(ended.clone())), &["RemoveInstaller n9"]),
        ("it may be old", server(Some(at(-30))).installer(created()), &["RemoveInstaller n9"]),
        (
            "a pause after a failure",
            Fixture::panel_server().installer(runs()).wants_up("p1").step_unanswered(
                StepKind::AdoptInstaller,
                "n9",
                1,
                3,
            ),
            &[],
        ),
    ]);
}

#[test]
fn an_adopted_installer_is_followed_as_one_of_this_node() {
    let adopted = |reinstall, state| {
        let fixture = Fixture::panel_server().asks("adopted:n9", Verb::Install { reinstall, then_start: false }, -1);
        fixture.slot().installer(ContainerStatus {
            state,
            started_at: Some(at(-60)),
            finished_at: Some(at(-1)),
            ..container("n9", Some("adopted:n9"))
        })
    };
    let ended = |code| ContainerState::Exited { code, oom_killed: false };
    table(&[
        ("it runs", adopted(false, ContainerState::Running), &["StartJob InstallLog n9"]),
        (
            "it has ended",
            adopted(false, ended(1)),
            &["CloseInstallLog n9", "RecordInstall adopted:n9 Succeeded Completed 1"],
        ),
        ("the host went down", adopted(false, ended(137)), &["RecordInterrupted n9"]),
        ("the same in a reinstallation", adopted(true, ended(137)), &["RecordInstall adopted:n9 Failed Interrupted"]),
    ]);
}

#[test]
fn a_leftover_that_cannot_be_removed_keeps_the_server_from_starting_while_it_runs() {
    let held = |fixture: Fixture| fixture.wants_up("p1").step_unanswered(StepKind::RemoveInstaller, "n1", 1, 3);
    let runs =
        Fixture::panel_server().installed().installer_running("n1", "old").with(|s| s.observed.install_slot = false);
    let ended =
        Fixture::panel_server().installed().installer_exited("n1", "old", 0).with(|s| s.observed.install_slot = false);
    table(&[("it runs", held(runs), &[]), ("it has ended", held(ended), &["StartJob Sync p1"])]);
}

#[test]
fn complete_plans_of_an_installation() {
    insta::assert_snapshot!("install_begins", text(&first().plan()));
    insta::assert_snapshot!("install_runs", text(&running().install_timeout(3600).plan()));
    insta::assert_snapshot!(
        "install_backs_off",
        text(
            &first()
                .synced()
                .script_fetched("i1")
                .slot()
                .job_done(Image, "i1 server game:1")
                .job_failed(Image, "i1 installer setup:1", 2, 20)
                .plan()
        )
    );
}

#[test]
fn a_script_that_was_put_back_with_an_earlier_manifest_is_fetched_again() {
    let gone = |done| {
        let fixture =
            first().synced().script_fetched("i1").slot().job(Script, "i1", JobState::Done { at: due(done) }, 1);
        fixture.with(|fixture| fixture.manifest().spec.script = None)
    };
    table(&[
        ("long ago", gone(-5), &["StartJob Script i1"]),
        ("a moment ago", gone(-1), &[]),
        ("by another daemon", gone(-5).with(|fixture| fixture.observed.jobs.clear()), &["StartJob Script i1"]),
    ]);
    assert_eq!(seconds(gone(-1).plan().requeue), Some(4));
}
