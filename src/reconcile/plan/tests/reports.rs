//! What the panel is told, and when.

use super::fixture::Fixture;
use super::words::{reason, seconds, table};
use crate::model::{ConditionType, InstallOutcome, Reason};
use crate::reconcile::job::JobKind::Report;

#[test]
fn the_result_of_an_installation_comes_before_states() {
    let done = || Fixture::panel_server().wants_install("i1").install_ended("i1", InstallOutcome::Failed);
    let pending_reports = |fixture: Fixture, count| fixture.with(|s| s.observed.pending_reports = count);
    table(&[
        ("a result", done(), &["StartJob Report install:i1"]),
        ("a result and states", pending_reports(done(), 3), &["StartJob Report install:i1"]),
        ("states", pending_reports(done().reported(), 1), &["StartJob Report state"]),
        ("being told", pending_reports(done().reported(), 1).job_running(Report, "state"), &[]),
        ("the panel is away", pending_reports(done().reported(), 1).job_failed(Report, "state", 3, 7), &[]),
        (
            "the panel is away, due",
            pending_reports(done().reported(), 1).job_failed(Report, "state", 3, 0),
            &["StartJob Report state"],
        ),
        ("nothing", done().reported(), &[]),
        ("no panel", pending_reports(done(), 3).with(|s| s.policy.panel = false), &[]),
        ("a file's server", pending_reports(Fixture::file_server().installed(), 3), &[]),
        (
            "beside an installation that is under way",
            pending_reports(
                Fixture::panel_server()
                    .wants_install("i1")
                    .synced()
                    .job_running(crate::reconcile::job::JobKind::Script, "i1"),
                1,
            ),
            &["StartJob Report state"],
        ),
    ]);
    let away = pending_reports(done().reported(), 1).job_failed(Report, "state", 3, 7).plan();
    assert_eq!(reason(&away, ConditionType::PanelNotified), Some(Reason::PanelAway));
    assert_eq!(seconds(away.requeue), Some(7));
    assert_eq!(reason(&done().reported().plan(), ConditionType::PanelNotified), Some(Reason::Reported));
}
