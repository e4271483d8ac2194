//! `alula plan`: what would be done now, and why. Nothing is done.

use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::arguments::Select;
use super::error::CliError;
use super::node::{Door, Node};
use super::output::{Cell, Paint, Printer, Progress, Tone, clean, table};
use super::server::{ServerView, runs_for_nobody};
use crate::clock::Clock;
use crate::config::NodeConfig;
use crate::console::{Console, ConsoleOptions};
use crate::ids::Ids;
use crate::model::{
    ConditionKind, ConditionStatus, ContainerFacts, Phase, PowerState, Role, ServerId, Timestamp, Want,
};
use crate::panel::Panel;
use crate::panel::client::{HttpPanel, PanelOptions};
use crate::reconcile::pass::Reconciler;
use crate::reconcile::plan::{Wish, open_install, open_wish, wish};
use crate::reconcile::world::{Parts, World};
use crate::retry::Jitter;
use crate::runtime::docker::DockerRuntime;
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
    kind: ConditionKind,
    status: ConditionStatus,
    reason: String,
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
            Ok::<_, CliError>(planned.map(|planned| Planned { wanted: wanted(server, planned.plan.state), ..planned }))
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
    Here(Local),
}

impl<'a> Source<'a> {
    fn of(node: &'a Node) -> Result<Self, CliError> {
        Ok(match &node.door {
            Door::Daemon(client) => Source::Daemon(client),
            Door::Folder(store) => Source::Here(Local::new(&node.config, store.clone())?),
        })
    }

    /// A server's plan; none where it has just gone.
    async fn plan(&self, id: ServerId) -> Result<Option<Planned>, CliError> {
        match self {
            Source::Daemon(client) => match client.get(&format!("/local/servers/{id}/plan")).await {
                Err(CliError::Refused { status: 404, .. }) => Ok(None),
                plan => plan.map(Some),
            },
            Source::Here(local) => local.plan(id).await,
        }
    }
}

/// A reconciler of our own that only looks.
struct Local {
    reconciler: Reconciler,
}

impl Local {
    fn new(node: &Arc<NodeConfig>, store: Store) -> Result<Self, CliError> {
        let panel = match &node.panel {
            Some(panel) => Some(Arc::new(HttpPanel::new(PanelOptions::from(panel))?) as Arc<dyn Panel>),
            None => None,
        };
        let tasks = Tasks::new();
        let host = Host::new(node.clone(), tasks.clone(), Blocking::Inline, host::kernel_limits());
        let runtime = Arc::new(DockerRuntime::from_environment(host)?);
        let options = ConsoleOptions {
            app_name: node.app_name.clone(),
            max_transcript_bytes: node.logs.max_bytes,
            max_transcript_files: u32::try_from(node.logs.max_files).unwrap_or(u32::MAX),
        };
        let world = World::new(Parts {
            store,
            runtime: runtime.clone(),
            panel,
            console: Console::new(runtime, Blocking::Inline, options, tasks.clone(), Arc::new(|_| {})),
            node: node.clone(),
            clock: Clock::System,
            jitter: Jitter::random(),
            ids: Ids::by_time(),
            tasks,
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            wake: Arc::new(|_| {}),
        });
        Ok(Self { reconciler: Reconciler::new(Arc::new(world)) })
    }

    async fn plan(&self, id: ServerId) -> Result<Option<Planned>, CliError> {
        self.know_the_network(id).await;
        let Some(plan) = self.reconciler.preview(id).await else { return Ok(None) };
        let plan = serde_json::from_value(serde_json::to_value(plan)?)?;
        Ok(Some(Planned { uuid: id, wanted: String::new(), plan }))
    }

    /// Whether a container that was made and not started is still the right one depends on the servers' network, which is
    /// there if such a container is.
    async fn know_the_network(&self, id: ServerId) {
        let world = self.reconciler.world();
        let fresh = world.runtime.inspect(id, Role::Server).await;
        if !fresh.is_ok_and(|found| found.as_ref().is_some_and(ContainerFacts::fresh)) {
            return;
        }
        // Without it the plan goes by the configuration.
        let _ = world.runtime.prepare_node().await;
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
    let phase = format!("{:?}", plan.phase);
    let mut text = format!(
        "{}  {} ({})\n",
        paint.text(Tone::Head, head.trim_end()),
        paint.text(super::get::tone(plan.phase), &phase),
        plan.state.word()
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

/// What a server that is in a `state` is wanted to be, and by whose word: the wish that the steps serve.
fn wanted(server: &ServerView, state: PowerState) -> String {
    let Some(manifest) = &server.manifest else { return String::new() };
    let (spec, record) = (&manifest.spec, &server.record);
    if record.deletion.is_some() {
        return "gone, by a deletion".into();
    }
    if record.parked.is_some() {
        return "left as it is, since its panel no longer lists it".into();
    }
    if let Some(install) = open_install(manifest, record) {
        let then = match open_wish(manifest, record) {
            _ if install.then_start => ", then up".into(),
            Some(Wish { id, want: Want::Up, .. }) => format!(", then up, by the wish {id} (spec.power)"),
            _ => String::new(),
        };
        return format!("installed, by the token {} (spec.install){then}", install.token);
    }
    let Some(wish) = wish(manifest, record) else { return "nothing, since nobody has made a power wish".into() };
    let want = match wish.want {
        Want::Up => "up",
        Want::Down => "down",
    };
    let (id, source) = match &wish.install {
        Some(install) => (&install.token, "spec.install.thenStart"),
        None => (&wish.id, "spec.power"),
    };
    let id = if id.is_empty() { "without an id" } else { id };
    let mut text = format!("{want}, by the wish {id} ({source})");
    if record.power_closed(&wish.id, wish.want) {
        match record.power.closed.as_ref().filter(|closed| closed.is(&wish.id, wish.want)) {
            Some(closed) => text.push_str(&format!(", which is over: {}", closed.reason)),
            None => text.push_str(", which is an earlier one and over"),
        }
        if let Some(hint) = runs_for_nobody(wish.want, state) {
            text.push_str(&format!("; {hint}"));
        }
    } else if spec.suspended && wish.want == Want::Up {
        text.push_str(", and held back: spec.suspended");
    }
    text
}

fn because(verdict: &Verdict) -> Vec<Cell> {
    let tone = match verdict.status {
        ConditionStatus::True => Tone::Good,
        ConditionStatus::False | ConditionStatus::Unknown => Tone::Notice,
    };
    vec![
        Cell::plain(format!("{:?}", verdict.kind)),
        Cell::new(tone, format!("{:?}", verdict.status)),
        Cell::plain(&verdict.reason),
        Cell::plain(&verdict.message),
    ]
}

/// A step in words. One that this release does not know (the daemon may be newer) is shown as it came.
fn sentence(step: &Value) -> String {
    let field = |name: &str| match &step[name] {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    };
    let container = || field("container").chars().take(12).collect::<String>();
    match step["step"].as_str().unwrap_or_default() {
        "accept" => "record the intent that the files hold".into(),
        "takeInstallSlot" => "take one of the node's places for installations, if one is free".into(),
        "releaseInstallSlot" => "give the place for installations back".into(),
        "prepare" => "make the server's folders and links".into(),
        "startJob" => job(&field("job")),
        "writeScript" => format!("write the install script ({}) and begin its log", field("token")),
        "createInstaller" => format!("make the install container ({})", field("token")),
        "startInstaller" => format!("start the install container {}", container()),
        "kill" => format!("send SIGKILL to container {}", container()),
        "recordInterrupted" => format!("note that the install script in {} was cut off; it is run again", container()),
        "closeInstallLog" => format!("bring the log of the install container {} to its end", container()),
        "recordInstall" => {
            format!("record the installation ({}) as {}: {}", field("token"), field("outcome"), field("message"))
        }
        "removeInstaller" => format!("remove the install container {}", container()),
        "removeServer" => format!("remove the server's container {}", container()),
        "createServer" => format!("make the server's container ({})", field("token")),
        "assign" => format!("note that container {} serves the power wish {}", container(), field("power")),
        "startServer" => format!("attach to container {} and start it", container()),
        "attach" => format!("attach to the running container {}", container()),
        "stop" => stop(step, &container()),
        "updateLimits" => format!("put the new limits on container {} in force", container()),
        "recordBegun" => format!("record that the start ({}) has begun", field("power")),
        "recordStarted" => format!("record that the start-up in container {} has finished", container()),
        "endStart" => {
            format!("record that the start in container {} is over, though its end was not seen", container())
        }
        "recordCrash" => format!("record a crash of container {}: {}", container(), field("message")),
        "closePower" => format!("close the power wish {}: {}", field("power"), field("message")),
        "quiesce" => "end everything that runs for the server".into(),
        "forget" => "remove the server's record".into(),
        _ => step.to_string(),
    }
}

fn job(kind: &str) -> String {
    match kind {
        "sync" => "ask the panel for the newest configuration",
        "script" => "ask the panel for the install script",
        "serverImage" => "have the server's image (pull it where the policy says so)",
        "installerImage" => "have the installer's image (pull it where the policy says so)",
        "usage" => "count the bytes of the server's files",
        "permissions" => "give the server's files to their user",
        "installLog" => "follow the installer's output into the install log",
        "report" => "tell the panel what it does not know yet",
        "removal" => "remove the server's files",
        other => return format!("start the job {other}"),
    }
    .into()
}

fn stop(step: &Value, container: &str) -> String {
    let seconds = step["grace"]["secs"].as_u64().unwrap_or_default();
    let method = &step["method"];
    let how = match method.as_str() {
        Some("kill") => return format!("kill container {container}"),
        Some(_) => "with the signal that its image asks for".to_owned(),
        None => match (method["command"].as_str(), method["signal"].as_str()) {
            (Some(command), _) => format!("by typing {command:?}"),
            (_, Some(signal)) => format!("with {signal}"),
            _ => method.to_string(),
        },
    };
    format!("stop container {container} {how}; SIGKILL after {seconds} s")
}

#[cfg(test)]
mod tests;
