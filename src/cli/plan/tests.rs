//! The text of plans.

use super::*;
use crate::cli::examples;
use crate::clock::Moment;
use crate::model::{ConditionType, Reason};
use crate::model::{Requests, Verb};
use crate::reconcile::context::policy;
use crate::reconcile::job::{JobKind, Subject};
use crate::reconcile::observed::Observed;
use crate::reconcile::plan;
use crate::reconcile::step::Step;

#[test]
fn a_step_of_another_release_is_printed_with_its_description_or_as_json() {
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
            step(Step::StartJob { job: JobKind::Image, subject: Subject::Start("request-1".into()) }),
            step(Step::RecordBegun { power: "request-1".into() }),
        ],
        conditions: vec![
            verdict(ConditionType::SpecAccepted, ConditionStatus::True, Reason::Accepted, "accepted generation 3"),
            verdict(
                ConditionType::ImageReady,
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
        wanted: wanted(&servers[server], plan.state, examples::now()),
        plan,
        files: vec![FileChange {
            path: "server.properties".into(),
            diff: "@@ -1,2 +1,2 @@\n motd=hostile \u{1b}[31m\n-server-port=1\n+server-port=25565\n".into(),
            warnings: vec!["the parser \"x\" is unknown".into()],
        }],
    });
    let texts: Vec<String> =
        plans.iter().zip([1, 3]).map(|(planned, server)| text(planned, servers[server].name())).collect();
    insta::assert_snapshot!(examples::without_colours(&texts.join("\n")));
}

fn wanted_now(server: &ServerView, state: PowerState) -> String {
    wanted(server, state, examples::now())
}

#[test]
fn a_plan_names_the_request_that_it_serves() {
    let mut server = examples::servers().remove(0);
    assert_eq!(wanted_now(&server, PowerState::Offline), "up, by the request request-2");
    server.manifest.as_mut().unwrap().spec.suspended = true;
    assert_eq!(wanted_now(&server, PowerState::Offline), "up, by the request request-2, and held back: spec.suspended");
    let install = Verb::Install { reinstall: true, then_start: false };
    let mut pending = server.requests.accepted[0].clone();
    (pending.sequence, pending.id, pending.verb) = (1, "again".into(), install);
    server.record.install.done = None;
    server.requests.accepted.insert(0, pending);
    let installed = "installed, by the request again, then up, by the request request-2";
    assert_eq!(wanted_now(&server, PowerState::Offline), installed);
    assert!(wanted_now(&examples::servers()[2], PowerState::Offline).contains("no longer lists it"));
}

#[test]
fn a_handled_request_is_not_pending() {
    let mut server = examples::servers().remove(0);
    server.record.power.handled = Some(crate::model::Handled {
        sequence: 2,
        id: "request-2".into(),
        verb: Verb::Start,
        reason: Reason::CrashLoop,
        message: String::new(),
        at: examples::now(),
    });
    let handled = "nothing: the request request-2 to start was handled, CrashLoop";
    assert_eq!(wanted_now(&server, PowerState::Offline), handled);
    let hint = "it runs, but is not started again when it ends or the host reboots: `alula power start`";
    assert_eq!(wanted_now(&server, PowerState::Running), format!("{handled}; {hint}"));
}

#[test]
fn the_planners_plans_are_read() {
    let server = &examples::servers()[0];
    let node = crate::testing::node_config(std::path::Path::new("/srv/node"));
    let plan = plan::plan(plan::Input {
        manifest: server.manifest.as_ref(),
        problem: None,
        unrecorded: true,
        requests: &Requests::default(),
        record: &server.record,
        published: server.status.state,
        observed: &Observed::default(),
        policy: &policy(&node, true),
        now: Moment { time: examples::now(), instant: tokio::time::Instant::now() },
    });
    let sentences: Vec<String> = plan.steps.iter().map(Step::to_string).collect();
    let steps = sentences.len();
    let view: PlanView = serde_json::from_value(serde_json::to_value(plan).unwrap()).unwrap();
    assert!(view.steps.len() == steps && steps > 0 && !view.conditions.is_empty());
    assert_eq!(sentence(&view.steps[0]), sentences[0]);
}
