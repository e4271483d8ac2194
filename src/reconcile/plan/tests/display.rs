//! Plans as short texts, so that a table can be read.

use tokio::time::Instant;

use crate::model::{ConditionType, Handled, InstallResult, Reason};
use crate::reconcile::plan::Plan;
use crate::reconcile::step::{Step, StopMethod};

use super::fixture::{Fixture, NOW, time};

/// A step in a few words: its name, then what distinguishes it from others of its name.
pub fn step_text(step: &Step) -> String {
    match step {
        Step::StartJob { job, subject } => format!("StartJob {job:?} {subject}"),
        Step::RecordInstall(InstallResult { token, outcome, exit_code, reason, .. }) => {
            let code = exit_code.map_or(String::new(), |code| format!(" {code}"));
            format!("RecordInstall {token} {outcome:?} {reason}{code}")
        }
        Step::AdoptInstaller { container, reinstall } => {
            format!("AdoptInstaller {container}{}", if *reinstall { " again" } else { "" })
        }
        Step::Attach { container, replay } => format!("Attach {container}{}", if *replay { " replay" } else { "" }),
        Step::Stop { container, method, grace } => {
            let method = match method {
                StopMethod::Command(command) => format!("command {command:?}"),
                StopMethod::Signal(signal) => (*signal).to_string(),
                StopMethod::Native => "native".into(),
                StopMethod::Kill => "SIGKILL".into(),
            };
            format!("Stop {container} {method} {}s", grace.as_secs())
        }
        Step::RecordCrash { crash, handled } => {
            let then = if crash.restarted { "restart" } else { "stay down" };
            format!("RecordCrash {} {} {then}", crash.container, handled.reason)
        }
        Step::ClosePower(Handled { id, reason, .. }) => format!("ClosePower {id} {reason}"),
        step => format!("{} {}", step.kind().as_str(), step.subject()).trim_end().to_string(),
    }
}

/// The steps of a plan in words.
pub fn steps(plan: &Plan) -> Vec<String> {
    plan.steps.iter().map(step_text).collect()
}

/// When the next pass is due without an event, in seconds from the fixture's time.
pub fn seconds(at: Option<Instant>) -> Option<i64> {
    at.map(|at| time(at).as_millis() / 1000 - NOW)
}

/// The reason of a condition.
pub fn reason(plan: &Plan, kind: ConditionType) -> Option<Reason> {
    plan.conditions.iter().find(|verdict| verdict.kind == kind).map(|verdict| verdict.reason)
}

/// The whole plan, for snapshots.
pub fn text(plan: &Plan) -> String {
    use std::fmt::Write;
    let mut text = format!("{:?}, {}\n", plan.phase, plan.state.as_str());
    for step in steps(plan) {
        writeln!(text, "  do {step}").unwrap();
    }
    for verdict in &plan.conditions {
        writeln!(text, "  {:?} {:?} {}: {}", verdict.kind, verdict.status, verdict.reason, verdict.message).unwrap();
    }
    match seconds(plan.requeue) {
        Some(seconds) => writeln!(text, "  again in {seconds} s").unwrap(),
        None => writeln!(text, "  again at the next event").unwrap(),
    }
    text
}

/// Checks each row of a table: a situation, and the steps of its plan. The message names all rows that fail.
#[track_caller]
pub fn table(rows: &[(&str, Fixture, &[&str])]) {
    let mut wrong = String::new();
    for (name, fixture, expected) in rows {
        let plan = fixture.plan();
        let found = steps(&plan);
        if found != *expected {
            wrong += &format!("\n{name}\n  expected {expected:?}\n     found {found:?}\n  {}", text(&plan));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}
