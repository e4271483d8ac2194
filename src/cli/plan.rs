//! `alula plan`: what would be done now, and why. Nothing is done.

use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::arguments::Select;
use super::error::CliError;
use super::node::{Endpoint, Node};
use super::output::{Cell, Paint, Printer, Progress, Tone, clean, table};
use super::server::{ServerView, runs_unasked};
use crate::clock::Clock;
use crate::config::NodeConfig;
use crate::model::{ConditionStatus, ConditionType, Phase, PowerState, Reason, ServerId, Timestamp};
use crate::reconcile::pass::first::first_plan;
use crate::requests;
use crate::runtime::docker::{Address, DockerRuntime};
use crate::runtime::host::{self, Host};
use crate::store::{Blocking, Store};
use crate::tasks::Tasks;

/// Servers that are looked at at the same time.
const AT_ONCE: usize = 8;

/// A server's plan, as the daemon gives it.
#[derive(Debug, Serialize, Deserialize)]
struct Planned {
    uuid: ServerId,
    /// What the server is wanted to be, and by whose word.
    #[serde(default)]
    wanted: String,
    plan: PlanView,
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

#[derive(Debug, Serialize, Deserialize)]
struct Verdict {
    kind: ConditionType,
    status: ConditionStatus,
    reason: Reason,
    message: String,
}

/// Shows plans.
///
/// # Errors
/// A name that names none, a daemon that does not answer.
pub async fn run(node: &Node, arguments: &Select, printer: Printer) -> Result<(), CliError> {
    node.warn_without_daemon("this is what it would do first");
    let servers = node.pick(&arguments.servers).await?;
    let source = Source::of(node)?;
    let mut progress = Progress::new("planning", servers.len());
    let plans: Vec<Planned> = stream::iter(&servers)
        .map(async |server| {
            let planned = source.plan(server.uuid).await?;
            Ok::<_, CliError>(
                planned.map(|planned| Planned { wanted: wanted(server, planned.plan.state, printer.now), ..planned }),
            )
        })
        .buffered(AT_ONCE)
        .inspect_ok(|_| progress.step())
        .try_filter_map(async |plan| Ok(plan))
        .try_collect()
        .await?;
    drop(progress);
    printer.print(&plans, || text(&servers, &plans, printer.paint))
}

/// Where plans come from.
enum Source<'a> {
    Daemon(&'a super::client::Client),
    Here(Local<'a>),
}

impl<'a> Source<'a> {
    fn of(node: &'a Node) -> Result<Self, CliError> {
        Ok(match &node.endpoint {
            Endpoint::Daemon(client) => Source::Daemon(client),
            Endpoint::Folder(store) => Source::Here(Local::new(&node.config, store)?),
        })
    }

    /// A server's plan; none where it has just gone.
    async fn plan(&self, id: ServerId) -> Result<Option<Planned>, CliError> {
        match self {
            Source::Daemon(client) => match client.get(&format!("/local/servers/{id}/plan")).await {
                Err(CliError::Rejected { status: 404, .. }) => Ok(None),
                plan => plan.map(Some),
            },
            Source::Here(local) => local.plan(id).await,
        }
    }
}

/// A node whose daemon does not run.
struct Local<'a> {
    node: &'a NodeConfig,
    store: &'a Store,
    runtime: DockerRuntime,
}

impl<'a> Local<'a> {
    fn new(node: &'a Arc<NodeConfig>, store: &'a Store) -> Result<Self, CliError> {
        let host = Host::new(node.clone(), Tasks::new(), Blocking::Inline, host::kernel_limits());
        Ok(Self { node, store, runtime: DockerRuntime::connect(Address::from_environment()?, host) })
    }

    async fn plan(&self, id: ServerId) -> Result<Option<Planned>, CliError> {
        let plan = first_plan(self.store, &self.runtime, self.node, id, Clock::System.now()).await;
        let Some(plan) = plan else { return Ok(None) };
        let plan = serde_json::from_value(serde_json::to_value(plan)?)?;
        Ok(Some(Planned { uuid: id, wanted: String::new(), plan }))
    }
}

fn text(servers: &[ServerView], plans: &[Planned], paint: Paint) -> String {
    let name = |id: ServerId| servers.iter().find(|server| server.uuid == id).map(ServerView::name).unwrap_or_default();
    let parts: Vec<String> = plans.iter().map(|planned| one(planned, name(planned.uuid), paint)).collect();
    parts.join("\n")
}

fn one(planned: &Planned, name: &str, paint: Paint) -> String {
    let plan = &planned.plan;
    let head = format!("{} {}", planned.uuid, clean(name));
    let phase = plan.phase.to_string();
    let mut text = format!(
        "{}  {} ({})\n",
        paint.text(Tone::Head, head.trim_end()),
        paint.text(super::get::tone(plan.phase), &phase),
        plan.state.as_str()
    );
    if !planned.wanted.is_empty() {
        text.push_str(&format!("  wanted: {}\n", clean(&planned.wanted)));
    }
    for (number, step) in plan.steps.iter().enumerate() {
        text.push_str(&format!("  {}. {}\n", number + 1, clean(&sentence(step))));
    }
    text.push_str(match plan.steps.as_slice() {
        [] => "  nothing to do now; look again when something happens",
        _ => "  then look again",
    });
    text.push_str(&plan.requeue.map(|at| format!(", and at {at} in any case")).unwrap_or_default());
    text.push('\n');
    let rows: Vec<Vec<Cell>> = plan.conditions.iter().map(because).collect();
    if !rows.is_empty() {
        text.push_str(&table(paint, "  ", &["BECAUSE", "STATUS", "REASON", "MESSAGE"], &rows));
    }
    text
}

/// What a server that is in a `state` should be, and by which request.
fn wanted(server: &ServerView, state: PowerState, now: Timestamp) -> String {
    let Some(manifest) = &server.manifest else { return String::new() };
    let asked = server.asked(now);
    if requests::deletion(&server.requests).is_some() {
        return "gone, by a deletion".into();
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
        let mut text = match &server.record.power.handled {
            Some(handled) => {
                format!(
                    "nothing: the request {} to {} was handled, {}",
                    handled.id,
                    handled.verb.as_str(),
                    handled.reason
                )
            }
            None => "nothing: no power request was made".into(),
        };
        if let Some(hint) = runs_unasked(asked, state) {
            text.push_str(&format!("; {hint}"));
        }
        return text;
    };
    let want = if power.verb.wants_up() { "up" } else { "down" };
    let held = if manifest.spec.suspended && power.verb.wants_up() { ", and held back: spec.suspended" } else { "" };
    format!("{want}, by the request {}{held}", power.id)
}

fn because(verdict: &Verdict) -> Vec<Cell> {
    let tone = match verdict.status {
        ConditionStatus::True => Tone::Good,
        ConditionStatus::False | ConditionStatus::Unknown => Tone::Notice,
    };
    vec![
        Cell::plain(verdict.kind.to_string()),
        Cell::new(tone, verdict.status.to_string()),
        Cell::plain(verdict.reason.as_str()),
        Cell::plain(&verdict.message),
    ]
}

/// A step as the daemon words it. One of a daemon that sends no words is shown as it came.
fn sentence(step: &Value) -> String {
    step["text"].as_str().map_or_else(|| step.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests;
