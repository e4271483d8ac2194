//! A report about the node for people who help its operator. It contains no secret, and addresses only if they are asked for.
//!
//! The daemon and the command line make it of what they can find out. Source: HTTP API, "Other system routes".

#![allow(missing_docs)]

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::config::{NodeConfig, NotApplied};
use crate::files::log::LogReader;
use crate::model::{ConditionStatus, ConditionType, NodeCondition, Status, Timestamp};
use crate::panel::client::WINGS_VERSION;
use crate::runtime::{EngineInfo, Listed, Runtime, RuntimeError};
use crate::stats;
use crate::wait;

/// What is shown instead of an address.
const HIDDEN: &str = "{redacted}";
/// Lines of the log without a number in the request.
pub const LOG_LINES: u64 = 200;
/// The most lines of the log.
pub const MAX_LOG_LINES: u64 = 500;
/// The most servers that a report names.
const MAX_SERVERS: usize = 50;
/// The most bytes of the log.
const MAX_LOG: usize = 1024 * 1024;

/// What a report contains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contents {
    /// Addresses of the panel and of listeners.
    pub endpoints: bool,
    /// The last lines of the daemon's log; `None` leaves it out.
    pub log_lines: Option<u64>,
}

/// A report.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Report {
    pub sections: Vec<Section>,
}

/// A part of a report.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Section {
    pub title: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<Value>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lines: Vec<String>,
}

/// A named value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Value {
    pub name: String,
    pub value: String,
}

/// What is known of the node. What could not be found out is the reason.
pub struct Known<'a> {
    pub now: Timestamp,
    pub node: Result<&'a NodeConfig, String>,
    pub engine: EngineAnswers,
    /// Of the daemon; `None` if none runs.
    pub conditions: Option<Vec<NodeCondition>>,
    /// What of the latest configuration from the panel is not in the file.
    pub not_applied: Option<NotApplied>,
    pub servers: Vec<Arc<Status>>,
    /// Lines of the daemon's log.
    pub log: Result<Vec<String>, String>,
}

/// What the engine has answered.
pub struct EngineAnswers {
    info: Result<EngineInfo, String>,
    containers: Result<Vec<Listed>, String>,
}

impl EngineAnswers {
    /// Asks the engine, for a short time.
    pub async fn of(runtime: &dyn Runtime) -> Self {
        let (info, containers) = tokio::join!(within(runtime.engine()), within(runtime.list()));
        Self { info, containers }
    }

    /// The engine cannot be asked.
    pub fn none(why: &str) -> Self {
        Self { info: Err(why.into()), containers: Err(why.into()) }
    }
}

async fn within<T>(answer: impl Future<Output = Result<T, RuntimeError>>) -> Result<T, String> {
    match tokio::time::timeout(wait::REPORT_FOR_ENGINE, answer).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err(format!("the container engine has not answered within {:?}", wait::REPORT_FOR_ENGINE)),
    }
}

/// The last lines of the daemon's log. Blocks.
///
/// # Errors
/// It cannot be read.
pub fn log_tail(node: &NodeConfig, lines: u64) -> Result<Vec<String>, String> {
    let path = node.directories.daemon_log();
    let read = || {
        let Some(mut reader) = LogReader::open(&path)? else { return Ok(Vec::new()) };
        reader.end_here()?;
        reader.skip_to_last(lines)?;
        let bytes = reader.read_rest(MAX_LOG)?;
        Ok(String::from_utf8_lossy(&bytes).lines().map(str::to_owned).collect())
    };
    read().map_err(|error: std::io::Error| format!("cannot read {}: {error}", path.display()))
}

impl Report {
    /// Makes the report.
    pub fn new(known: &Known<'_>, contents: Contents) -> Self {
        let mut sections = vec![versions(known), configuration(known, contents.endpoints)];
        sections.push(conditions(known));
        sections.extend(known.not_applied.as_ref().map(not_applied));
        sections.push(servers(&known.servers));
        sections.push(engine(&known.engine));
        sections.push(containers(&known.engine));
        sections.push(log(known, contents));
        let hidden = known.node.as_ref().map(|node| hidden(node, contents.endpoints)).unwrap_or_default();
        sections.iter_mut().for_each(|section| section.hide(&hidden));
        Self { sections }
    }

    /// The report as a text.
    pub fn text(&self) -> String {
        let mut text = "Pelican Wings (alula) - Diagnostics Report\n".to_owned();
        for Section { title, values, lines } in &self.sections {
            text.push_str(&format!("\n|\n| {title}\n| ------------------------------\n"));
            for Value { name, value } in values {
                text.push_str(&format!("{name:>20}: {value}\n"));
            }
            lines.iter().for_each(|line| text.push_str(&format!("{line}\n")));
        }
        text
    }
}

impl Section {
    fn new(title: &str) -> Self {
        Self { title: title.into(), ..Self::default() }
    }

    fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.values.push(Value { name: name.into(), value: value.to_string() });
        self
    }

    fn line(mut self, line: impl Into<String>) -> Self {
        self.lines.push(line.into());
        self
    }

    fn hide(&mut self, hidden: &[String]) {
        let texts = self.values.iter_mut().map(|value| &mut value.value).chain(&mut self.lines);
        for text in texts {
            *text = hidden.iter().fold(std::mem::take(text), |text, hidden| text.replace(hidden, HIDDEN));
        }
    }
}

fn versions(known: &Known<'_>) -> Section {
    let engine = known.engine.info.as_ref().map_or("unknown", |engine| engine.version.as_str());
    Section::new("Versions")
        .with("alula", env!("CARGO_PKG_VERSION"))
        .with("Wings", WINGS_VERSION)
        .with("Docker", engine)
        .with("Kernel", stats::kernel())
        .with("OS", stats::os_name())
}

fn configuration(known: &Known<'_>, endpoints: bool) -> Section {
    let section = Section::new("Wings Configuration").with("Server Time", known.now);
    let node = match &known.node {
        Ok(node) => *node,
        Err(error) => return section.line(error),
    };
    let address = |text: &dyn std::fmt::Display| if endpoints { text.to_string() } else { HIDDEN.to_owned() };
    let panel = node.panel.as_ref().map_or_else(|| "none".to_owned(), |panel| address(&panel.url));
    let directories = &node.directories;
    let data = directories.data.as_ref().unwrap_or(&directories.root);
    section
        .with("Configuration File", node.source.display())
        .with("Panel Location", panel)
        .with("Internal Webserver", address(&node.api.address))
        .with("SSL Enabled", node.api.tls.is_some())
        .with("Root Directory", directories.root.display())
        .with("Logs Directory", directories.log.display())
        .with("Data Directory", data.display())
        .with("Archive Directory", directories.archive.display())
        .with("Backup Directory", directories.backup.display())
        .with("Temp Directory", directories.tmp.display())
        .with("Username", &node.owner.name)
        .with("Timezone", &node.timezone)
        .with("Debug Mode", node.debug)
        .with("Replaced Values", node.adjusted.len())
}

fn conditions(known: &Known<'_>) -> Section {
    let section = Section::new("Node Conditions");
    let Some(conditions) = &known.conditions else { return section.line("No daemon runs.") };
    conditions.iter().fold(section, |section, condition| {
        let colon = if condition.message.is_empty() { "" } else { ": " };
        section.line(format!("{}={}{colon}{}", condition.r#type, condition.status, condition.message))
    })
}

fn not_applied(NotApplied { at, reasons }: &NotApplied) -> Section {
    let section = Section::new("Configuration from the Panel: Not Applied").with("Sent", at);
    reasons.iter().fold(section, |section, reason| section.line(reason))
}

fn servers(servers: &[Arc<Status>]) -> Section {
    let in_phase = |status: &Arc<Status>| status.phase.to_string();
    let mut phases: Vec<(String, usize)> = Vec::new();
    for phase in servers.iter().map(in_phase) {
        match phases.iter_mut().find(|(known, _)| *known == phase) {
            Some((_, count)) => *count += 1,
            None => phases.push((phase, 1)),
        }
    }
    let section = Section::new("Servers").with("Servers", servers.len());
    let section = phases.iter().fold(section, |section, (phase, count)| section.with(phase, count));
    let unready = servers.iter().filter_map(|status| {
        let ready = status.condition(ConditionType::Ready).filter(|ready| ready.status != ConditionStatus::True)?;
        // The message may quote the console, which is the customer's.
        Some(format!("{}: {}", status.uuid, ready.reason.as_str()))
    });
    unready.take(MAX_SERVERS).fold(section, Section::line)
}

fn engine(answers: &EngineAnswers) -> Section {
    let section = Section::new("Docker: Info");
    match &answers.info {
        Ok(engine) => section
            .with("Server Version", &engine.version)
            .with("Storage Driver", &engine.storage_driver)
            .with("Backing Filesystem", &engine.storage_filesystem)
            .with("Cgroup Driver", &engine.cgroup_driver)
            .with("Cgroup Version", &engine.cgroup_version)
            .with("runc", &engine.runc),
        Err(error) => section.line(error),
    }
}

fn containers(answers: &EngineAnswers) -> Section {
    let section = Section::new("Docker: Running Containers");
    match &answers.containers {
        Ok(containers) => {
            containers.iter().filter(|container| container.running).fold(section, |section, container| {
                let id: String = container.id.chars().take(12).collect();
                section.line(format!("{id}  {}  {}", container.server, container.role))
            })
        }
        Err(error) => section.line(error),
    }
}

fn log(known: &Known<'_>, contents: Contents) -> Section {
    let section = Section::new("Latest Wings Logs");
    if contents.log_lines.is_none() {
        return section.line("Logs redacted.");
    }
    match &known.log {
        Ok(lines) => lines.iter().fold(section, Section::line),
        Err(error) => section.line(error),
    }
}

/// What no value and no line may contain. No token is logged; this holds for one that a person has put into a name, too.
fn hidden(node: &NodeConfig, endpoints: bool) -> Vec<String> {
    let panel = node.panel.as_ref().filter(|_| !endpoints);
    let host = panel.and_then(|panel| Some(url::Url::parse(&panel.url).ok()?.host_str()?.to_owned()));
    let hidden = [Some(node.live.get().token.expose().to_owned()), host];
    hidden.into_iter().flatten().filter(|text| !text.is_empty()).collect()
}

#[cfg(test)]
mod tests;
