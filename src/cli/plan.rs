//! `alula plan`: the steps that the next pass would execute, and why. Nothing is executed.

use std::sync::Arc;

use futures_util::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::OnceCell;

use super::arguments::Select;
use super::error::CliError;
use super::get::phase_tone;
use super::node::{Endpoint, Node};
use super::output::{Cell, Format, Printer, clean, paint, print, table, tone};
use super::server::{ServerView, runs_unasked};
use crate::clock::Clock;
use crate::config::NodeConfig;
use crate::egg_files::FileChange;
use crate::model::{ConditionStatus, ConditionType, Handled, Phase, PowerState, ServerId, Timestamp};
use crate::reconcile::pass::first::{first_files, first_plan};
use crate::reconcile::plan::Verdict;
use crate::requests;
use crate::runtime::docker::{Address, DockerRuntime};
use crate::runtime::host::{self, Host};
use crate::store::{Blocking, identity};
use crate::tasks::Tasks;

/// Servers that are planned at the same time.
const CONCURRENCY: usize = 8;

/// A server's plan, as the daemon sends it.
#[derive(Debug, Serialize, Deserialize)]
struct Planned {
    uuid: ServerId,
    /// The desired state, and the request that asks for it.
    #[serde(default)]
    wanted: String,
    plan: PlanView,
    /// Configuration files as the next start changes them.
    #[serde(default)]
    files: Vec<FileChange>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PlanView {
    steps: Vec<Value>,
    conditions: Vec<Verdict>,
    phase: Phase,
    state: PowerState,
    requeue: Option<Timestamp>,
}

/// Prints plans.
///
/// # Errors
/// A name matches no server, or the daemon does not answer.
pub async fn run(node: &Node, arguments: &Select, printer: Printer) -> Result<(), CliError> {
    node.warn_without_daemon("this is what it would do first");
    let servers = node.pick(&arguments.servers).await?;
    let engine = OnceCell::new();
    let mut plans = stream::iter(&servers)
        .map(async |server| (server, plan(node, &engine, server.uuid).await))
        .buffered(CONCURRENCY);
    let mut all = Vec::new();
    while let Some((server, planned)) = plans.next().await {
        let Some(mut planned) = planned? else { continue };
        planned.wanted = wanted(server, planned.plan.state, printer.now);
        if printer.format == Format::Table {
            let separator = if all.is_empty() { "" } else { "\n" };
            print(&format!("{separator}{}", text(&planned, server.name())))?;
        }
        all.push(planned);
    }
    printer.print(&all, String::new)
}

/// The engine, to make plans while no daemon runs.
///
/// # Errors
/// `DOCKER_HOST` is not an address.
pub fn engine(config: &Arc<NodeConfig>) -> Result<DockerRuntime, CliError> {
    let host = Host::new(config.clone(), Tasks::new(), Blocking::Inline, host::kernel_limits());
    // As the daemon: without an identity, containers are compared by their image.
    let identity = identity::read(&config.directories.root).map(|found| found.identity).unwrap_or_default();
    let host = host.with_identity(identity);
    Ok(DockerRuntime::connect(Address::from_environment()?, host))
}

/// A server's plan, made by the daemon or here; `None` if the server has been deleted meanwhile.
async fn plan(node: &Node, engine: &OnceCell<DockerRuntime>, id: ServerId) -> Result<Option<Planned>, CliError> {
    match &node.endpoint {
        Endpoint::Daemon(client) => match client.get(&format!("/local/servers/{id}/plan")).await {
            Err(CliError::Rejected { status: 404, .. }) => Ok(None),
            plan => plan.map(Some),
        },
        Endpoint::Folder(store, config) => {
            let engine = engine.get_or_try_init(async || self::engine(config)).await?;
            let Some(plan) = first_plan(store, engine, config, id, Clock::System.moment()).await else {
                return Ok(None);
            };
            let plan = serde_json::from_value(serde_json::to_value(plan)?)?;
            let files = first_files(store, engine, config, id).await;
            Ok(Some(Planned { uuid: id, wanted: String::new(), plan, files }))
        }
    }
}

fn text(planned: &Planned, name: &str) -> String {
    let plan = &planned.plan;
    let head = format!("{} {}", planned.uuid, clean(name));
    let phase = plan.phase.to_string();
    let (head, phase) = (paint(tone::HEAD, head.trim_end()), paint(phase_tone(plan.phase), &phase));
    let mut text = format!("{head}  {phase} ({})\n", plan.state.as_str());
    if !planned.wanted.is_empty() {
        text.push_str(&format!("  wanted: {}\n", clean(&planned.wanted)));
    }
    for (number, step) in plan.steps.iter().enumerate() {
        text.push_str(&format!("  {}. {}\n", number + 1, clean(&sentence(step))));
    }
    text.push_str(match plan.steps.as_slice() {
        [] if needs_restart(plan) => {
            "  nothing to do before the next start, which changes the server (UpToDate); the next pass runs on an event"
        }
        [] => "  nothing to do now; the next pass runs on an event",
        _ => "  then the next plan is made",
    });
    text.push_str(&plan.requeue.map(|at| format!(", at {at} at the latest")).unwrap_or_default());
    text.push('\n');
    text += &table("  ", None, &["BECAUSE", "STATUS", "REASON", "MESSAGE"], plan.conditions.iter().map(row).collect());
    planned.files.iter().for_each(|file| text += &changes(file));
    text
}

/// What the next start changes in a configuration file; empty where that is nothing.
fn changes(file: &FileChange) -> String {
    let path = clean(&file.path);
    let warnings = file.warnings.iter().map(|warning| format!("  {path} at the next start: {}\n", clean(warning)));
    let mut text: String = warnings.collect();
    if !file.diff.is_empty() {
        text += &format!("  the next start changes {path}:\n");
        file.diff.lines().for_each(|line| text += &format!("    {}\n", clean(line)));
    }
    text
}

/// Whether the manifest has values that the next start applies.
fn needs_restart(plan: &PlanView) -> bool {
    let up_to_date = plan.conditions.iter().find(|verdict| verdict.kind == ConditionType::UpToDate);
    up_to_date.is_some_and(|verdict| verdict.status == ConditionStatus::False)
}

/// The desired state of a server whose current state is `state`, and the request that asks for it.
fn wanted(server: &ServerView, state: PowerState, now: Timestamp) -> String {
    let Some(manifest) = &server.manifest else { return String::new() };
    let asked = server.asked(now);
    if requests::deletion(&server.requests).is_some() {
        return "deleted, by a request".into();
    }
    if server.record.parked.is_some() {
        return "left as it is, since its panel no longer lists it".into();
    }
    let power = asked.power();
    if let Some(install) = asked.install() {
        let then = match &power {
            _ if asked.start_follows() => ", then up".into(),
            Some(power) if power.verb.wants_up() => format!(", then up, by the request {}", power.id),
            _ => String::new(),
        };
        return format!("installed, by the request {}{then}", install.id);
    }
    let Some(power) = power else {
        let text = match &server.record.power.handled {
            Some(Handled { id, verb, reason, .. }) => {
                format!("nothing: the request {id} to {} was handled, {reason}", verb.as_str())
            }
            None => "nothing: no power request was made".into(),
        };
        return runs_unasked(asked, state).map_or(text.clone(), |hint| format!("{text}; {hint}"));
    };
    let want = if power.verb.wants_up() { "up" } else { "down" };
    let held = if manifest.spec.suspended && power.verb.wants_up() { ", and held back: spec.suspended" } else { "" };
    format!("{want}, by the request {}{held}", power.id)
}

fn row(verdict: &Verdict) -> Vec<Cell> {
    let tone = match verdict.status {
        ConditionStatus::True => tone::GOOD,
        ConditionStatus::False | ConditionStatus::Unknown => tone::NOTICE,
    };
    vec![
        Cell::plain(verdict.kind.to_string()),
        Cell::new(tone, verdict.status.to_string()),
        Cell::plain(verdict.reason.as_str()),
        Cell::plain(&verdict.message),
    ]
}

/// The daemon's description of a step. A step without one, of a daemon of another release, is printed as JSON.
fn sentence(step: &Value) -> String {
    step["text"].as_str().map_or_else(|| step.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests;
