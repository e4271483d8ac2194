//! What is reported to the panel, and when.

use super::display::{reason, seconds, steps, table};
use super::fixture::Fixture;
use crate::model::PowerState::{Offline, Running, Starting};
use crate::model::{ConditionType, InstallOutcome, Reason};
use crate::reconcile::job::JobKind::{Report, Script};

fn done() -> Fixture {
    Fixture::panel_server().wants_install("i1").install_ended("i1", InstallOutcome::Failed)
}

/// The panel has not acknowledged an earlier state.
fn unacknowledged(fixture: Fixture) -> Fixture {
    fixture.with(|s| s.observed.unacknowledged = true)
}

#[test]
fn the_result_of_an_installation_comes_before_states() {
    let state = || unacknowledged(done().reported());
    let installing = Fixture::panel_server().wants_install("i1").synced().job_running(Script, "i1");
    table(&[
        ("a result", done(), &["StartJob Report install:i1"]),
        ("a result and a state", unacknowledged(done()), &["StartJob Report install:i1"]),
        ("a state", state(), &["StartJob Report state"]),
        ("a report is running", state().job_running(Report, "state"), &[]),
        ("the panel is away", state().job_failed(Report, "state", 3, 7), &[]),
        ("the panel is away, due", state().job_failed(Report, "state", 3, 0), &["StartJob Report state"]),
        ("nothing", done().reported(), &[]),
        ("no panel", unacknowledged(done()).with(|s| s.policy.panel = false), &[]),
        ("a file's server", unacknowledged(Fixture::file_server().installed()), &[]),
        ("during an installation", unacknowledged(installing), &["StartJob Report state"]),
    ]);
    let away = state().job_failed(Report, "state", 3, 7).plan();
    assert_eq!(reason(&away, ConditionType::PanelNotified), Some(Reason::PanelAway));
    assert_eq!(seconds(away.requeue), Some(7));
    assert_eq!(reason(&done().reported().plan(), ConditionType::PanelNotified), Some(Reason::Reported));
}

#[test]
fn a_state_is_reported_where_the_panel_may_have_another_one() {
    let offline = || Fixture::panel_server().installed();
    let running = || Fixture::panel_server().installed().wants_up("p1").container_running("c1", "p1");
    let away = || running().with(|s| (s.observed.outage, s.published) = (Some("no answer".into()), Running));
    for (name, fixture, acknowledged, recorded, due) in [
        ("offline, and nothing was ever reported", offline(), None, None, false),
        ("offline, as recorded", offline(), None, Some(Offline), false),
        ("offline, and the earlier process reported it running", offline(), None, Some(Running), true),
        ("running, and nothing was ever reported", running(), None, None, true),
        ("running, and the earlier process's report may be lost", running(), None, Some(Running), true),
        ("running, acknowledged", running(), Some(Running), Some(Running), false),
        ("running, and the record is behind", running(), Some(Running), Some(Starting), false),
        ("running, and starting was acknowledged", running(), Some(Starting), Some(Starting), true),
        ("published as running, and the engine is unreachable", away(), Some(Running), Some(Running), false),
        ("published as running after a restart, and the engine is unreachable", away(), None, Some(Running), false),
    ] {
        let plan = fixture.with(|s| {
            s.reports_states = true;
            (s.observed.acknowledged, s.record.last_reported) = (acknowledged, recorded);
        });
        let reports = steps(&plan.plan()).contains(&"StartJob Report state".to_owned());
        assert_eq!(reports, due, "{name}");
    }
}
