//! Plans as people read them.

use super::*;
use crate::cli::examples;
use crate::model::{PastWish, Want};
use crate::reconcile::job::{JobKind, Subject};
use crate::reconcile::observed::{Observed, Policy};
use crate::reconcile::plan;
use crate::reconcile::step::Step;

#[test]
fn a_step_of_another_release_is_shown_in_the_daemons_words_or_as_it_came() {
    let mut step = serde_json::json!({"step": "dance", "partner": "x"});
    assert_eq!(sentence(&step), r#"{"step":"dance","partner":"x"}"#);
    step["text"] = "dance with x".into();
    assert_eq!(sentence(&step), "dance with x");
}

#[test]
fn plans_as_people_see_them() {
    let servers = examples::servers();
    let verdict =
        |kind, status, reason: Reason, message: &str| Verdict { kind, status, reason, message: message.into() };
    let step = |step: Step| serde_json::json!({"text": step.to_string()});
    let to_do = PlanView {
        steps: vec![
            step(Step::StartJob { job: JobKind::ServerImage, subject: Subject::Start("wish-1".into()) }),
            step(Step::RecordBegun { power: "wish-1".into() }),
        ],
        conditions: vec![
            verdict(
                ConditionKind::SpecAccepted,
                ConditionStatus::True,
                Reason::Accepted,
                "the files of intent are in force",
            ),
            verdict(
                ConditionKind::ImageReady,
                ConditionStatus::False,
                Reason::Pulling,
                "hostile \u{1b}[31m is being pulled",
            ),
        ],
        phase: Phase::Offline,
        state: PowerState::Starting,
        requeue: Some(examples::now()),
    };
    let idle =
        PlanView { steps: vec![], conditions: vec![], phase: Phase::Online, state: PowerState::Running, requeue: None };
    let plans = [(1, to_do), (3, idle)].map(|(server, plan)| Planned {
        uuid: servers[server].uuid,
        wanted: wanted(&servers[server], plan.state),
        plan,
    });
    insta::assert_snapshot!(text(&servers, &plans, Paint::fixed(false)));
}

#[test]
fn a_plan_names_the_wish_that_it_serves() {
    let mut server = examples::servers().remove(0);
    assert_eq!(wanted(&server, PowerState::Offline), "up, by the wish wish-2 (spec.power)");
    server.record.power.closed = Some(crate::model::Closed {
        id: "wish-2".into(),
        want: None,
        reason: Reason::CrashLoop,
        message: String::new(),
        at: examples::now(),
    });
    assert_eq!(wanted(&server, PowerState::Offline), "up, by the wish wish-2 (spec.power), which is over: CrashLoop");
    server.record.power.closed = None;
    server.manifest.as_mut().unwrap().spec.suspended = true;
    assert_eq!(
        wanted(&server, PowerState::Offline),
        "up, by the wish wish-2 (spec.power), and held back: spec.suspended"
    );
    server.manifest.as_mut().unwrap().spec.install = Some(crate::model::InstallIntent {
        token: "again".into(),
        then_start: false,
        reinstall: true,
        skip_scripts: false,
        abort: false,
        timeout: None,
        requested_at: None,
    });
    let installed = "installed, by the token again (spec.install), then up, by the wish wish-2 (spec.power)";
    assert_eq!(wanted(&server, PowerState::Offline), installed);
    assert!(wanted(&examples::servers()[2], PowerState::Offline).contains("no longer lists it"));
}

#[test]
fn a_wish_that_is_over_is_not_taken_for_one_that_counts() {
    let mut server = examples::servers().remove(0);
    let closed = |id: &str, want| crate::model::Closed {
        id: id.into(),
        want: Some(want),
        reason: Reason::Stopped,
        message: String::new(),
        at: examples::now(),
    };
    // Its opposite is over, and it is not.
    server.record.power.closed = Some(closed("wish-2", Want::Down));
    assert_eq!(wanted(&server, PowerState::Running), "up, by the wish wish-2 (spec.power)");
    // An older file was put back.
    server.record.power.closed = Some(closed("wish-3", Want::Down));
    server.record.power.past = vec![PastWish { id: "wish-2".into(), want: Some(Want::Up) }];
    let over = "up, by the wish wish-2 (spec.power), which is an earlier one and over";
    assert_eq!(wanted(&server, PowerState::Offline), over);
    let hint = "it runs, but is not started again when it ends or the host reboots: write another id into spec.power, or \
                `alula power start`";
    assert_eq!(wanted(&server, PowerState::Running), format!("{over}; {hint}"));
}

#[test]
fn the_planners_plans_are_understood() {
    let server = &examples::servers()[0];
    let plan = plan::plan(plan::Input {
        intent: server.manifest.as_ref(),
        problem: None,
        unrecorded: true,
        record: &server.record,
        shown: server.status.state,
        observed: &Observed::default(),
        policy: &Policy::default(),
        now: examples::now(),
    });
    let sentences: Vec<String> = plan.steps.iter().map(Step::to_string).collect();
    let steps = sentences.len();
    let view: PlanView = serde_json::from_value(serde_json::to_value(plan).unwrap()).unwrap();
    assert!(view.steps.len() == steps && steps > 0 && !view.conditions.is_empty());
    assert_eq!(sentence(&view.steps[0]), sentences[0]);
}
