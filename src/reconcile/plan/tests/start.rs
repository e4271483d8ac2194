//! Starting: every stage of it, what holds it up, and what ends the request.

use super::display::{reason, seconds, table, text};
use super::fixture::{Fixture, at, container, could_not_start, due};
use crate::model::{ConditionType, ContainerState, ContainerStatus, Crash, PowerState, Reason, Role};
use crate::reconcile::job::JobKind::{ConfigFiles, Image, Permissions, Sync, Usage};
use crate::reconcile::job::Subject;
use crate::reconcile::observed::{Job, JobState};
use crate::reconcile::step::StepKind;

fn up() -> Fixture {
    Fixture::panel_server().installed().wants_up("p1")
}

fn ready() -> Fixture {
    up().ready_to_start("p1")
}

#[test]
fn a_start_goes_stage_by_stage() {
    let image = "StartJob Image p1 server game:1";
    let permissions = "StartJob Permissions p1";
    table(&[
        ("the panel is asked", up(), &["StartJob Sync p1"]),
        ("it is being asked", up().job_running(Sync, "p1"), &[]),
        ("it was asked for another start", up().synced_for("p0").job_done(Sync, "p0"), &["StartJob Sync p1"]),
        ("it has answered", up().synced_for("p1"), &[permissions, image]),
        ("folders come first", up().synced_for("p1").with(|s| s.observed.prepared = false), &["Prepare"]),
        (
            "the image is being pulled",
            up().synced_for("p1").job_running(Image, "p1 server game:1").job_done(Permissions, "p1"),
            &[],
        ),
        (
            "files are being given away",
            up().synced_for("p1").job_done(Image, "p1 server game:1").job_running(Permissions, "p1"),
            &[],
        ),
        ("no permissions wanted", up().synced_for("p1").with(|s| s.policy.fix_permissions = false), &[image]),
        ("no container", ready(), &["CreateServer p1"]),
        ("a container", ready().container_made("c1", "p1"), &["StartServer p1"]),
        ("the installation's container", ready().container_made("c1", "install:i0"), &["Assign p1", "StartServer p1"]),
        ("the same, assigned", ready().container_made("c1", "install:i0").serving("c1", "p1"), &["StartServer p1"]),
        ("a used container", ready().container_exited("c1", "p0", 0), &["RemoveServer c1"]),
        (
            "a container of another spec",
            ready().container(ContainerStatus { spec_hash: Some("old".into()), ..container("c1", Some("p1")) }),
            &["RemoveServer c1"],
        ),
        (
            "a container of other limits",
            ready().container(ContainerStatus { limits_hash: Some("old".into()), ..container("c1", Some("p1")) }),
            &["RemoveServer c1"],
        ),
        ("another daemon's container", ready().container(container("c1", None)), &["RemoveServer c1"]),
        ("a container that could not start", ready().container(could_not_start("c1", "p1")), &["RemoveServer c1"]),
        (
            "one made in its place, not due",
            ready().container_made("c2", "p1").step_rejected(StepKind::StartServer, "p1", 1, 3),
            &[],
        ),
        (
            "one made in its place, due",
            ready().container_made("c2", "p1").step_rejected(StepKind::StartServer, "p1", 1, 0),
            &["StartServer p1"],
        ),
        ("running", ready().container_running("c1", "p1"), &[]),
    ]);
}

#[test]
fn configuration_files_are_written_before_each_start_and_do_not_hold_it_up() {
    let configured = || {
        up().synced_for("p1").with(|s| {
            let file = serde_json::json!({"parser": "ini", "file": "a.ini"});
            s.manifest.as_mut().unwrap().spec.process.configs = vec![serde_json::from_value(file).unwrap()];
        })
    };
    let go_on: &[&str] = &["StartJob Permissions p1", "StartJob Image p1 server game:1"];
    table(&[
        ("first", configured(), &["StartJob ConfigFiles p1"]),
        ("after the folders", configured().with(|s| s.observed.prepared = false), &["Prepare"]),
        ("for an earlier start", configured().job_done(ConfigFiles, "p0"), &["StartJob ConfigFiles p1"]),
        ("being written", configured().job_running(ConfigFiles, "p1"), &[]),
        ("written", configured().job_done(ConfigFiles, "p1"), go_on),
        ("failed", configured().job_failed(ConfigFiles, "p1", 1, 5), go_on),
    ]);
    let plan = configured().job_running(ConfigFiles, "p1").plan();
    assert_eq!(reason(&plan, ConditionType::Running), Some(Reason::WritingConfigFiles));
    assert_eq!(plan.state, PowerState::Starting);
}

#[test]
fn a_server_of_a_file_asks_no_panel() {
    let fixture = Fixture::file_server().installed().wants_up("p1");
    table(&[("at once", fixture, &["StartJob Permissions p1", "StartJob Image p1 server game:1"])]);
}

#[test]
fn a_start_with_a_time_is_noted_as_begun_before_anything_else() {
    table(&[
        ("in time", up().until(30), &["RecordBegun p1", "StartJob Sync p1"]),
        ("begun", up().until(30).begun("p1"), &["StartJob Sync p1"]),
        ("begun, and its time is over", up().until(-5).begun("p1"), &["StartJob Sync p1"]),
        ("too late", up().until(0), &["ClosePower p1 Expired"]),
        ("lapsed", up().until(-5).closed("p1", Reason::Expired), &[]),
    ]);
    assert_eq!(seconds(up().until(30).plan().requeue), Some(30));
    assert_eq!(up().until(30).begun("p1").job_running(Sync, "p1").plan().requeue, None);
}

#[test]
fn the_panel_away_does_not_hold_a_start_up_and_its_rejection_does() {
    table(&[
        ("away", up().job_failed(Sync, "p1", 1, 5), &["StartJob Permissions p1", "StartJob Image p1 server game:1"]),
        ("refuses", up().job_rejected(Sync, "p1"), &["ClosePower p1 PanelRejected"]),
    ]);
    let plan = up().synced().job_failed(Sync, "p1", 1, 5).plan();
    assert_eq!(reason(&plan, ConditionType::PanelReachable), Some(Reason::SpecStale));
    let message = &plan.conditions.iter().find(|verdict| verdict.reason == Reason::SpecStale).unwrap().message;
    assert!(message.contains("the configuration of 2027-01-15T08:00:00.000Z is used"), "{message}");
}

#[test]
fn the_disk_limit_is_checked_before_a_start() {
    let limited = || up().synced_for("p1").disk_limit(100);
    let counted = |mib| limited().job_done(Usage, "p1").usage(mib);
    let uncounted = |mib| limited().job_failed(Usage, "p1", 1, 5).usage(mib);
    let go_on: &[&str] = &["StartJob Permissions p1", "StartJob Image p1 server game:1"];
    table(&[
        ("counted first", limited(), &["StartJob Usage p1"]),
        ("being counted", limited().job_running(Usage, "p1"), &[]),
        ("an old count does not count", limited().job_done(Usage, "watch").usage(500), &["StartJob Usage p1"]),
        ("within", counted(100), go_on),
        ("over", counted(101), &["ClosePower p1 DiskLimitExceeded"]),
        ("cannot be counted", limited().job_failed(Usage, "p1", 1, 5), go_on),
        ("not all can be counted, and it is too much", uncounted(101), &["ClosePower p1 DiskLimitExceeded"]),
        (
            "something is hidden",
            uncounted(1).with(|s| s.observed.usage.as_mut().unwrap().hidden = true),
            &["ClosePower p1 DiskLimitExceeded"],
        ),
        (
            "the node never measures",
            counted(101).with(|s| s.policy.disk_check_interval = std::time::Duration::ZERO),
            go_on,
        ),
        ("no limit", up().synced_for("p1").usage(u64::MAX >> 30), go_on),
    ]);
}

#[test]
fn a_suspended_server_does_not_start() {
    table(&[
        ("the panel's", up().suspended(), &["ClosePower p1 Suspended"]),
        ("closed", up().suspended().closed("p1", Reason::Suspended), &[]),
        ("a file's", Fixture::file_server().installed().wants_up("p1").suspended(), &[]),
        (
            "not even with everything ready",
            ready().suspended().container_made("c1", "p1"),
            &["ClosePower p1 Suspended"],
        ),
    ]);
    let plan = Fixture::file_server().installed().wants_up("p1").suspended().plan();
    assert_eq!(reason(&plan, ConditionType::Running), Some(Reason::Suspended));
}

#[test]
fn folders_that_cannot_be_made_hold_a_start_up_visibly() {
    let fixture =
        |retry_in| ready().with(|s| s.observed.prepared = false).step_rejected(StepKind::Prepare, "", 2, retry_in);
    table(&[("not due: nothing is started without its folders", fixture(6), &[]), ("due", fixture(0), &["Prepare"])]);
    let plan = fixture(6).plan();
    assert_eq!(reason(&plan, ConditionType::Running), Some(Reason::FoldersInTheWay));
    assert_eq!((plan.state, seconds(plan.requeue)), (PowerState::Offline, Some(6)));
}

#[test]
fn a_mount_that_does_not_answer_holds_up_a_start_and_nothing_else() {
    let unreachable = |fixture: Fixture| {
        fixture.with(|fixture| {
            fixture.observed.wanted = None;
            fixture.observed.unresponsive_path = Some("/mnt/share does not answer".into());
        })
    };
    let running = ready().container_running("c1", "p1");
    let limits_alone = running.with(|fixture| fixture.observed.wanted.as_mut().unwrap().spec_hash = None);
    table(&[
        ("no container", unreachable(ready()), &[]),
        ("a container", unreachable(ready().container_made("c1", "p1")), &[]),
        ("a used container", unreachable(ready().container_exited("c1", "p0", 0)), &[]),
        (
            "what comes before it",
            unreachable(up().synced_for("p1").job_done(Permissions, "p1")),
            &["StartJob Image p1 server game:1"],
        ),
        ("it runs", limits_alone, &[]),
        ("a stop", unreachable(Fixture::panel_server().installed().wants_down("d1")), &["ClosePower d1 Stopped"]),
    ]);
    let plan = unreachable(ready()).plan();
    assert_eq!(reason(&plan, ConditionType::ContainerReady), Some(Reason::MountUnresponsive));
    assert_eq!(reason(&plan, ConditionType::Running), Some(Reason::MountUnresponsive));
    assert_eq!(plan.state, PowerState::Offline);
}

#[test]
fn what_fails_is_tried_again_for_as_long_as_it_is_wanted() {
    let image = |attempts, retry_in| {
        up().synced_for("p1").job_done(Permissions, "p1").job_failed(Image, "p1 server game:1", attempts, retry_in)
    };
    table(&[
        ("image, not due", image(1, 5), &[]),
        ("image, due", image(99, 0), &["StartJob Image p1 server game:1"]),
        (
            "image refused",
            up().synced_for("p1").job_done(Permissions, "p1").job_rejected(Image, "p1 server game:1"),
            &[],
        ),
        ("permissions, not due", up().ready_to_start("p1").job_failed(Permissions, "p1", 1, 5), &[]),
        (
            "permissions, due",
            up().ready_to_start("p1").job_failed(Permissions, "p1", 1, 0),
            &["StartJob Permissions p1"],
        ),
        ("container, not due", ready().step_rejected(StepKind::CreateServer, "p1", 99, 5), &[]),
        ("container, due", ready().step_rejected(StepKind::CreateServer, "p1", 99, 0), &["CreateServer p1"]),
        ("start, not due", ready().container_made("c1", "p1").step_rejected(StepKind::StartServer, "p1", 1, 5), &[]),
        (
            "start, due",
            ready().container_made("c1", "p1").step_rejected(StepKind::StartServer, "p1", 1, 0),
            &["StartServer p1"],
        ),
        (
            "removal, not due",
            ready().container_exited("c1", "p0", 0).step_rejected(StepKind::RemoveServer, "c1", 1, 5),
            &[],
        ),
        (
            "an earlier request's failure does not count",
            ready().step_rejected(StepKind::CreateServer, "p0", 9, 5),
            &["CreateServer p1"],
        ),
    ]);
    let plan = image(1, 5).plan();
    assert_eq!(reason(&plan, ConditionType::Running), Some(Reason::ImagePullBackOff));
    assert_eq!(seconds(plan.requeue), Some(5));
    let invalid = up().synced_for("p1").job_done(Permissions, "p1").job_rejected(Image, "p1 server game:1").plan();
    assert_eq!((reason(&invalid, ConditionType::Running), invalid.requeue), (Some(Reason::InvalidImage), None));
}

#[test]
fn the_state_is_starting_on_the_first_attempt_only() {
    for (name, fixture, state) in [
        ("before the panel's answer", up(), PowerState::Offline),
        ("pulling", up().synced_for("p1"), PowerState::Starting),
        ("making", ready(), PowerState::Starting),
        ("a pull has failed", ready().job_failed(Image, "p1 server game:1", 1, 5), PowerState::Offline),
        (
            "a pull that has failed is tried again",
            ready().job(Image, "p1 server game:1", crate::reconcile::observed::JobState::Running, 2),
            PowerState::Offline,
        ),
        ("the engine has refused", ready().step_rejected(StepKind::CreateServer, "p1", 1, 5), PowerState::Offline),
        (
            "the engine refuses the start",
            ready().container_made("c1", "p1").step_rejected(StepKind::StartServer, "p1", 1, 5),
            PowerState::Offline,
        ),
        (
            "the start-up goes on",
            ready().container_running("c1", "p1").with(|s| s.record.power.started = None),
            PowerState::Starting,
        ),
        ("the start-up is over", ready().container_running("c1", "p1"), PowerState::Running),
    ] {
        assert_eq!(fixture.plan().state, state, "{name}");
    }
}

#[test]
fn a_running_container_is_attached_and_its_start_up_noticed() {
    let running = || {
        ready().container_running("c1", "p1").with(|fixture| {
            fixture.record.power.started = None;
            fixture.observed.attached = None;
        })
    };
    table(&[
        ("not attached", running(), &["Attach c1 replay"]),
        ("another one was attached", running().attached("c0"), &["Attach c1 replay"]),
        ("cannot be attached", running().step_rejected(StepKind::Attach, "c1", 1, 5), &[]),
        ("attached", running().attached("c1"), &[]),
        (
            "its start-up was seen",
            running().attached("c1").with(|s| s.observed.done_seen = Some("c1".into())),
            &["RecordStarted c1"],
        ),
        ("another one's was seen", running().attached("c1").with(|s| s.observed.done_seen = Some("c0".into())), &[]),
    ]);
}

/// What was asked of panel and registry for a start does not hold for the next one, also where no done line comes.
#[test]
fn a_start_that_is_never_seen_to_finish_is_over_after_a_while() {
    let since = |seconds: i64| {
        let status = ContainerStatus {
            state: ContainerState::Running,
            started_at: Some(at(-seconds)),
            ..container("c1", Some("p1"))
        };
        ready().container(status).seen_running("c1").attached("c1")
    };
    let asked_nothing = since(300).with(|s| {
        s.record.synced_for = None;
        s.observed.jobs.clear();
    });
    table(&[
        ("a moment ago", since(5), &[]),
        ("long ago", since(120), &["EndStart c1"]),
        ("written down", asked_nothing, &[]),
        ("the disk did not take it", since(300).step_rejected(StepKind::EndStart, "c1", 1, 5), &[]),
    ]);
    assert_eq!(seconds(since(5).plan().requeue), Some(115));
}

/// A disk that does not take the crash does not keep the server down either.
#[test]
fn a_crash_that_is_not_written_down_is_judged_once() {
    let crash = |restarted| Crash { container: "c1".into(), at: at(-5), exit_code: 1, restarted, ..Crash::default() };
    let crashed = ready().container_exited("c1", "p1", 1).seen_running("c1");
    table(&[
        ("now", crashed.clone(), &["RecordCrash c1 Crashed restart"]),
        (
            "kept in memory",
            crashed.clone().with(|s| s.observed.crash = Some(crash(true))),
            &["StartJob Sync p1#1799999995000"],
        ),
        (
            "and again within a minute",
            ready().container_exited("c2", "p1", 1).seen_running("c2").with(|s| s.observed.crash = Some(crash(true))),
            &["RecordCrash c2 CrashLoop stay down"],
        ),
    ]);
}

#[test]
fn a_daemon_that_comes_back_adopts_what_runs() {
    let foreign = ContainerStatus { state: ContainerState::Running, spec_hash: None, ..container("c9", None) };
    let idle = || Fixture::panel_server().installed();
    table(&[
        ("started", ready().container_running("c1", "p1").daemon_restarted(), &["Attach c1"]),
        (
            "not started",
            ready().container_running("c1", "p1").with(|s| s.record.power.started = None).daemon_restarted(),
            &["Attach c1 replay"],
        ),
        ("another daemon's, unasked", idle().container(foreign.clone()), &["AdoptServer c9", "Attach c9 replay"]),
        (
            "it is asked to run from then on",
            idle().container(foreign.clone()).wants_up("a1"),
            &["Assign a1", "Attach c9 replay"],
        ),
        (
            "another daemon's, to be stopped",
            idle().container(foreign.clone()).wants_down("d1"),
            &["Attach c9 replay", "Stop c9 command \"quit\" 600s"],
        ),
        (
            "ended unobserved",
            up().ready_to_start("p1").container_exited("c1", "p1", 1).daemon_restarted(),
            &["TakeStartSlot"],
        ),
        (
            "a stop was under way",
            ready().container_running("c1", "p1").wants_down("d1").daemon_restarted(),
            &["Attach c1", "Stop c1 command \"quit\" 600s"],
        ),
    ]);
    assert_eq!(idle().container(foreign).plan().state, PowerState::Running, "its start-up is taken for finished");
}

#[test]
fn what_an_installation_fetched_does_not_count_for_a_start_of_the_same_name() {
    let pulled_for = |of: Subject| {
        let subject = of.image(Role::Server, "game:1");
        let job = Job { kind: Image, subject, state: JobState::Done { at: due(-1) }, attempts: 1 };
        let fixture = up().synced_for("p1").job_done(Permissions, "p1");
        fixture.with(|s| s.observed.jobs.push(job))
    };
    table(&[
        ("the start's", pulled_for(Subject::Start("p1".into())), &["CreateServer p1"]),
        ("an installation's", pulled_for(Subject::Install("p1".into())), &["StartJob Image p1 server game:1"]),
    ]);
}

#[test]
fn limits_change_while_it_runs_and_everything_else_at_the_next_start() {
    let drifted = |spec: &str, limits: &str| {
        let fixture = ready().container_running("c1", "p1");
        let (spec, limits) = (spec.to_string(), limits.to_string());
        fixture.with(|fixture| {
            let wanted = fixture.observed.wanted.as_mut().unwrap();
            (wanted.spec_hash, wanted.limits_hash) = (Some(spec), limits);
        })
    };
    table(&[
        ("limits", drifted("spec", "more"), &["UpdateLimits c1"]),
        ("limits were refused", drifted("spec", "more").step_rejected(StepKind::UpdateLimits, "c1", 1, 5), &[]),
        ("anything else", drifted("new", "limits"), &[]),
    ]);
    let plan = drifted("spec", "more").step_rejected(StepKind::UpdateLimits, "c1", 1, 5).plan();
    assert_eq!(reason(&plan, ConditionType::ContainerReady), Some(Reason::LimitsRejected));
}

#[test]
fn a_running_servers_files_are_counted_at_the_configured_interval() {
    let running = || ready().container_running("c1", "p1").disk_limit(100);
    table(&[
        ("never counted", running(), &["StartJob Usage watch"]),
        ("counted a second ago", running().usage(50), &[]),
        ("counted long ago", running().usage(50).with(|s| s.now = super::fixture::at(149)), &["StartJob Usage watch"]),
        ("being counted", running().job_running(Usage, "watch"), &[]),
        ("could not be counted", running().job_failed(Usage, "watch", 1, 5), &[]),
        ("could not be counted, due", running().job_failed(Usage, "watch", 1, 0), &["StartJob Usage watch"]),
        ("no limit", ready().container_running("c1", "p1"), &[]),
        ("never measured", running().with(|s| s.policy.disk_check_interval = std::time::Duration::ZERO), &[]),
    ]);
    assert_eq!(seconds(running().usage(50).plan().requeue), Some(149));
}

#[test]
fn complete_plans_of_a_start() {
    insta::assert_snapshot!("start_begins", text(&up().until(30).plan()));
    insta::assert_snapshot!("start_refused", text(&ready().step_rejected(StepKind::CreateServer, "p1", 3, 20).plan()));
    insta::assert_snapshot!("runs", text(&ready().container_running("c1", "p1").disk_limit(100).usage(50).plan()));
}

#[test]
fn a_state_folder_that_cannot_be_written_is_a_condition_while_something_is_to_be_written() {
    let starting = |retry_in| {
        let fixture = Fixture::panel_server().installed().wants_up("p1").ready_to_start("p1");
        fixture.container_made("c1", "p0").step_unanswered(StepKind::Assign, "p1", 2, retry_in)
    };
    let recorded = |fixture: Fixture| reason(&fixture.plan(), ConditionType::Recorded);
    assert_eq!(recorded(starting(5)), Some(Reason::CannotRecord), "not due yet");
    assert_eq!(recorded(starting(0)), Some(Reason::CannotRecord), "due");
    assert_eq!(reason(&starting(0).plan(), ConditionType::Ready), Some(Reason::CannotRecord));
    assert_eq!(recorded(starting(-1).wants_down("d1")), None, "it is no longer needed");
    let elsewhere = Fixture::panel_server().installed().wants_up("p1").step_unanswered(StepKind::Kill, "c1", 1, 5);
    assert_eq!(recorded(elsewhere), None);
}
