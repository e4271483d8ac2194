//! What enforces the disk limit, and when the files are measured because that is due.

use std::time::Duration;

use super::display::{reason, seconds, table};
use super::fixture::{Fixture, at};
use crate::model::{ConditionType, Quota, Reason};
use crate::reconcile::job::JobKind::{self, Usage};
use crate::reconcile::step::StepKind;

const MIB: u64 = 1024 * 1024;

fn up() -> Fixture {
    Fixture::panel_server().installed().wants_up("p1").synced_for("p1").ready_to_start("p1")
}

fn running() -> Fixture {
    up().container_running("c1", "p1").disk_limit(100).usage(50)
}

fn quota(fixture: Fixture, quota: Quota) -> Fixture {
    fixture.with(|s| s.observed.quota = quota)
}

fn assigned(limit: Option<u64>) -> Quota {
    Quota::Assigned { project: 7, limit }
}

#[test]
fn a_server_starts_when_its_files_are_under_their_quota() {
    let starting = |limit, now| quota(up().disk_limit(limit).job_done(Usage, "p1").usage(1), now);
    let begin: &[&str] = &["StartJob Quota watch"];
    table(&[
        ("not yet", starting(100, Quota::Unassigned), begin),
        ("being assigned", starting(100, Quota::Unassigned).job_running(JobKind::Quota, "watch"), &[]),
        ("they are", starting(100, assigned(Some(100 * MIB))), &["CreateServer p1"]),
        ("the limit is another one", starting(100, assigned(Some(50 * MIB))), begin),
        ("assigned before", starting(100, assigned(Some(50 * MIB))).job_done(JobKind::Quota, "watch"), begin),
        ("no limit any more", starting(0, assigned(Some(50 * MIB))), begin),
        ("no limit", starting(0, assigned(None)), &["CreateServer p1"]),
        ("none is set", starting(0, Quota::Unassigned), begin),
        ("a negative limit is none", starting(-1, assigned(None)), &["CreateServer p1"]),
        ("it fails", starting(100, Quota::Unassigned).job_failed(JobKind::Quota, "watch", 1, 5), &["CreateServer p1"]),
        ("the disk has none", starting(100, Quota::Unavailable("no".into())), &["CreateServer p1"]),
        ("a project that is full", starting(1, assigned(Some(MIB))), &["ClosePower p1 DiskLimitExceeded"]),
        ("full without a project", starting(1, Quota::Off), &["CreateServer p1"]),
        ("folders come first", starting(100, Quota::Unassigned).with(|s| s.observed.prepared = false), &["Prepare"]),
    ]);
}

#[test]
fn a_quota_is_kept_in_step_whatever_the_server_does() {
    let wanted = assigned(Some(100 * MIB));
    let outage = quota(running(), assigned(None)).with(|s| s.observed.outage = Some("no".into()));
    table(&[
        ("as it should be", quota(running(), wanted.clone()), &[]),
        ("the limit has changed", quota(running(), assigned(None)), &["StartJob Quota watch"]),
        (
            "an offline server",
            quota(Fixture::panel_server().installed().disk_limit(100), assigned(None)),
            &["StartJob Quota watch"],
        ),
        ("nothing without the engine", outage, &[]),
    ]);
    let failed = quota(running(), Quota::Unassigned).job_failed(JobKind::Quota, "watch", 2, 5).plan();
    assert_eq!(seconds(failed.requeue), Some(5));
}

#[test]
fn what_enforces_the_limit_is_a_condition() {
    let never = |s: &mut Fixture| s.policy.disk_check_interval = Duration::ZERO;
    for (fixture, expected) in [
        (quota(running(), assigned(Some(100 * MIB))), Some(Reason::ProjectQuota)),
        (quota(running(), Quota::Unassigned), Some(Reason::Assigning)),
        (quota(running(), Quota::Unassigned).job_failed(JobKind::Quota, "watch", 1, 5), Some(Reason::QuotaFailed)),
        (quota(running(), Quota::Unavailable("no".into())), Some(Reason::QuotaUnavailable)),
        (running(), Some(Reason::Counted)),
        (running().with(never), Some(Reason::NotCounted)),
        (running().disk_limit(0), None),
        (quota(running().disk_limit(0), Quota::Unavailable("no".into())), None),
        (quota(running().disk_limit(0), assigned(None)), None),
    ] {
        let plan = fixture.plan();
        assert_eq!(reason(&plan, ConditionType::DiskLimitEnforced), expected);
        assert_eq!(reason(&plan, ConditionType::Ready), Some(Reason::Ready), "{expected:?}");
    }
}

#[test]
fn a_measurement_that_is_due_comes_soon_and_costs_little() {
    let due = |took: u64, counted_ago: i64| {
        running().with(|s| {
            (s.observed.measurement_due, s.observed.measurement_took) = (true, Duration::from_millis(took));
            s.now = at(counted_ago - 1);
        })
    };
    let measure: &[&str] = &["StartJob Usage watch"];
    table(&[
        ("at once is too soon", due(0, 1), &[]),
        ("soon", due(0, 2), measure),
        ("a long measurement is not repeated at once", due(1000, 49), &[]),
        ("but after a while", due(1000, 50), measure),
        ("and never later than the interval", due(1_000_000, 150), measure),
        ("it is being measured", due(0, 10).job_running(Usage, "watch"), &[]),
        ("it failed", due(0, 10).job_failed(Usage, "watch", 1, 30), &[]),
        ("never measured before", due(0, 10).with(|s| s.observed.usage = None), measure),
        ("the node never measures", due(0, 10).with(|s| s.policy.disk_check_interval = Duration::ZERO), &[]),
        ("a server without a limit", due(0, 10).disk_limit(0), measure),
        ("an offline server", Fixture::panel_server().installed().with(|s| s.observed.measurement_due = true), measure),
        ("without the engine", due(0, 10).with(|s| s.observed.outage = Some("no".into())), measure),
        (
            "with another one for a start",
            up().disk_limit(100).with(|s| s.observed.measurement_due = true),
            &["StartJob Usage p1"],
        ),
    ]);
    let steps = due(1000, 10).plan().steps;
    assert!(!steps.iter().any(|step| step.kind() == StepKind::StartJob));
    assert_eq!(seconds(due(1000, 10).plan().requeue), Some(49));
}
