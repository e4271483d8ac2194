//! The deletion mark, and servers that are left alone.

use super::display::{reason, steps, table, text};
use super::fixture::{Fixture, container};
use crate::model::{ConditionType, ContainerState, ContainerStatus, Phase, PowerState, Reason};
use crate::reconcile::job::JobKind::{Removal, Sync};
use crate::reconcile::step::{Step, StepKind};

fn doomed() -> Fixture {
    Fixture::panel_server().installed().wants_up("p1").deleted(false)
}

#[test]
fn a_deletion_removes_containers_then_files_then_the_record() {
    let both = || doomed().container_running("c1", "p1").installer_running("n1", "i1");
    table(&[
        ("everything is there", both(), &["Quiesce", "RemoveInstaller n1", "RemoveServer c1"]),
        ("after a restart", both().daemon_restarted(), &["Quiesce", "RemoveInstaller n1", "RemoveServer c1"]),
        ("the server's container is left", doomed().container_exited("c1", "p1", 0), &["RemoveServer c1"]),
        (
            "another daemon's containers go too",
            doomed().container(container("c9", None)).installer(container("n9", None)),
            &["RemoveInstaller n9", "RemoveServer c9"],
        ),
        (
            "one cannot be removed",
            doomed().container_exited("c1", "p1", 0).step_unanswered(StepKind::RemoveServer, "c1", 1, 3),
            &[],
        ),
        ("jobs are under way", doomed().job_running(Sync, "p1"), &["Quiesce", "StartJob Removal deletion"]),
        (
            "it waits for a place",
            doomed().with(|s| s.observed.install_queued = true),
            &["Quiesce", "StartJob Removal deletion"],
        ),
        ("no containers", doomed(), &["StartJob Removal deletion"]),
        ("files are being removed", doomed().job_running(Removal, "deletion"), &[]),
        ("files are in the way", doomed().job_failed(Removal, "deletion", 2, 4), &[]),
        ("files are in the way, due", doomed().job_failed(Removal, "deletion", 2, 0), &["StartJob Removal deletion"]),
        ("files are gone", doomed().job_done(Removal, "deletion"), &["Forget"]),
        ("requested again meanwhile", doomed().deleted(true).job_done(Removal, "deletion"), &["Forget"]),
        (
            "an installation that was under way",
            doomed().wants_install("i1").installer_made("n1", "i1"),
            &["RemoveInstaller n1"],
        ),
        ("a parked server", doomed().with(|s| s.record.parked = Some(s.now)), &["StartJob Removal deletion"]),
        ("a broken spec", doomed().with(|s| s.manifest = None), &["StartJob Removal deletion"]),
    ]);
    let plan = both().plan();
    assert_eq!((plan.phase, plan.state), (Phase::Deleting, PowerState::Offline));
    let stuck = doomed().job_failed(Removal, "deletion", 2, 4).plan();
    assert_eq!(reason(&stuck, ConditionType::Deleting), Some(Reason::FilesInTheWay));
}

#[test]
fn a_deletion_waits_for_an_unreachable_engine() {
    let plan = doomed().with(|s| s.observed.outage = Some("no answer".into())).plan();
    assert!(plan.steps.is_empty(), "{:?}", steps(&plan));
    assert_eq!(reason(&plan, ConditionType::Deleting), Some(Reason::RuntimeUnreachable));
}

#[test]
fn a_parked_server_is_left_as_it_is() {
    let parked = |fixture: Fixture| fixture.with(|s| s.record.parked = Some(s.now));
    let running = || Fixture::panel_server().installed().wants_down("d1").container_running("c1", "p1");
    table(&[
        ("running", parked(running()), &[]),
        ("crashed", parked(Fixture::panel_server().installed().wants_up("p1").container_exited("c1", "p1", 1)), &[]),
        ("to be installed", parked(Fixture::panel_server().wants_install("i1")), &[]),
        (
            "it waited for a place",
            parked(Fixture::panel_server().wants_install("i1")).with(|s| s.observed.install_queued = true),
            &["ReleaseInstallSlot"],
        ),
        (
            "it held a place",
            parked(Fixture::panel_server().wants_install("i1")).with(|s| s.observed.install_slot = true),
            &["ReleaseInstallSlot"],
        ),
        (
            "its installer runs on in its place",
            parked(Fixture::panel_server().wants_install("i1").installer_running("n1", "i1")),
            &[],
        ),
        ("with a state to report", parked(running().with(|s| s.observed.unacknowledged = true)), &[]),
    ]);
    let plan = parked(running()).plan();
    assert_eq!((plan.phase, plan.state), (Phase::Parked, PowerState::Running));
    let unreachable = parked(running().with(|s| {
        s.observed.outage = Some("no answer".into());
        s.observed.server = None;
        s.published = PowerState::Running;
    }));
    assert_eq!(
        unreachable.plan().state,
        PowerState::Running,
        "while the engine is unreachable, the last known state is published"
    );
}

#[test]
fn while_the_engine_is_unreachable_nothing_is_decided_about_containers() {
    let unreachable = |fixture: Fixture| {
        fixture.with(|s| {
            s.observed.outage = Some("connection refused".into());
            s.observed.server = None;
            s.published = PowerState::Running;
        })
    };
    table(&[
        ("running", unreachable(Fixture::panel_server().installed().wants_up("p1").container_running("c1", "p1")), &[]),
        ("to be installed", unreachable(Fixture::panel_server().wants_install("i1")), &[]),
        (
            "a changed file is read all the same",
            unreachable(Fixture::file_server().installed()).with(|s| s.unrecorded = true),
            &["Accept"],
        ),
        (
            "the panel gets the report all the same",
            unreachable(Fixture::panel_server().installed()).with(|s| s.observed.unacknowledged = true),
            &["StartJob Report state"],
        ),
    ]);
    let plan = unreachable(Fixture::panel_server().installed()).plan();
    assert_eq!(plan.state, PowerState::Running, "the last observed state is still published");
    assert_eq!(reason(&plan, ConditionType::ContainerReady), Some(Reason::RuntimeUnreachable));
}

#[test]
fn a_broken_spec_is_a_condition_and_the_last_valid_one_is_effective() {
    let broken =
        |fixture: Fixture| fixture.with(|s| s.problem = Some((Reason::SpecInvalid, "config.yml: line 3".into())));
    let plan = broken(Fixture::file_server().installed().wants_up("p1")).plan();
    assert_eq!(reason(&plan, ConditionType::SpecAccepted), Some(Reason::SpecInvalid));
    assert_eq!(steps(&plan), ["StartJob Permissions p1", "StartJob Image p1 server game:1"]);

    let never_good = broken(Fixture::file_server().container_running("c1", "p1").with(|s| {
        s.manifest = None;
        s.published = PowerState::Running;
    }));
    let plan = never_good.plan();
    assert!(plan.steps.is_empty(), "nothing is done without a manifest: {:?}", steps(&plan));
    assert_eq!(plan.state, PowerState::Running);
}

#[test]
fn a_changed_file_is_recorded_first() {
    let fixture = Fixture::file_server().installed().wants_up("p1").with(|s| s.unrecorded = true);
    assert_eq!(steps(&fixture.plan())[0], "Accept");
    let running = Fixture::file_server().installed().container_running("c1", "p1").with(|s| s.unrecorded = true);
    assert_eq!(steps(&running.plan()), ["Accept"]);
}

#[test]
fn a_server_without_a_request_gets_its_folders_and_nothing_else() {
    let idle = Fixture::panel_server().installed();
    table(&[
        ("folders are missing", idle.clone().with(|s| s.observed.prepared = false), &["Prepare"]),
        (
            "folders cannot be made",
            idle.clone().with(|s| s.observed.prepared = false).step_rejected(StepKind::Prepare, "", 1, 4),
            &[],
        ),
        ("all is well", idle.clone(), &[]),
        ("never installed", Fixture::panel_server(), &[]),
        (
            "an ended leftover",
            idle.clone().installer_exited("n1", "old", 0).with(|s| s.observed.install_slot = false),
            &["RemoveInstaller n1"],
        ),
        ("a place that is no longer needed", idle.slot(), &["ReleaseInstallSlot"]),
    ]);
}

#[test]
fn a_running_leftover_goes_before_the_start() {
    let runs = ContainerStatus { state: ContainerState::Running, ..container("n1", Some("old")) };
    let plan = Fixture::panel_server()
        .installed()
        .wants_up("p1")
        .ready_to_start("p1")
        .container_made("c1", "p1")
        .installer(runs)
        .plan();
    assert!(plan.steps.contains(&Step::RemoveInstaller { container: "n1".into() }));
    assert!(!plan.steps.iter().any(|step| matches!(step, Step::StartServer { .. })), "{:?}", steps(&plan));
}

#[test]
fn complete_plans_of_a_deletion() {
    insta::assert_snapshot!(
        "deletion",
        text(&doomed().container_running("c1", "p1").installer_made("n1", "i1").plan())
    );
}
