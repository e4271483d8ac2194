//! `alula describe`: everything about one server.

use std::fmt::Write;
use std::path::Path;

use serde::Serialize;

use super::arguments::One;
use super::error::CliError;
use super::get::tone;
use super::node::Node;
use super::output::{Cell, Paint, Printer, Tone, bytes, clean, span, table};
use super::server::{ServerView, runs_unasked};
use crate::config::NodeConfig;
use crate::files::Layout;
use crate::model::{ConditionStatus, InstallOutcome, InstallResult, Manifest, Record, ServerId, Timestamp};
use crate::requests;
use crate::store::{CONFIG_FILE, OVERRIDE_FILE, RECORD_FILE, REQUESTS_FILE, STATUS_FILE};

/// Width of the names of fields.
const NAMES: usize = 14;

/// One of a server's files.
#[derive(Debug, Serialize)]
struct Place {
    what: &'static str,
    path: String,
    there: bool,
}

#[derive(Serialize)]
struct Described<'a> {
    #[serde(flatten)]
    server: &'a ServerView,
    files: Vec<Place>,
}

/// Describes one server.
///
/// # Errors
/// A name that names none, a daemon that does not answer.
pub async fn run(node: &Node, arguments: &One, printer: Printer) -> Result<(), CliError> {
    node.warn_without_daemon("the status is the one that was seen last");
    for server in node.pick(std::slice::from_ref(&arguments.server)).await? {
        let described = Described { files: places(&node.config, server.uuid), server: &server };
        printer.print(&described, || text(&described, printer.paint, printer.now))?;
    }
    Ok(())
}

fn places(node: &NodeConfig, id: ServerId) -> Vec<Place> {
    let layout = Layout::new(node);
    let folder = layout.folder(id);
    let place = |what, path: &Path| Place { what, path: path.display().to_string(), there: path.exists() };
    vec![
        place("intent", &folder.join(CONFIG_FILE)),
        place("override", &folder.join(OVERRIDE_FILE)),
        place("requests", &folder.join(REQUESTS_FILE)),
        place("record", &folder.join(RECORD_FILE)),
        place("status", &folder.join(STATUS_FILE)),
        place("data", &layout.data(id)),
        place("logs", &layout.logs(id)),
        place("install log", &layout.install_log(id)),
    ]
}

fn text(described: &Described<'_>, paint: Paint, now: Timestamp) -> String {
    let server = described.server;
    let mut page = Page { text: String::new(), paint };
    identity(&mut page, server);
    if let Some(manifest) = &server.manifest {
        spec(&mut page, manifest);
        asked(&mut page, manifest, server, now);
    }
    seen(&mut page, server, now);
    if let Some(problem) = &server.problem {
        page.section("Problem", format!("  {}: {}\n", problem.reason, clean(&problem.message)));
    }
    page.section("Conditions", conditions(server, paint, now));
    page.section("Crashes", crashes(&server.record, paint, now));
    page.section("Events", events(server, paint, now));
    let rows: Vec<Vec<Cell>> = described.files.iter().map(place_row).collect();
    page.section("Files", table(paint, "  ", &["WHAT", "THERE", "PATH"], &rows));
    page.text
}

struct Page {
    text: String,
    paint: Paint,
}

impl Page {
    fn field(&mut self, name: &str, value: impl AsRef<str>) {
        self.painted(name, Tone::Plain, value);
    }

    fn painted(&mut self, name: &str, tone: Tone, value: impl AsRef<str>) {
        let value = clean(value.as_ref());
        if value.is_empty() {
            return;
        }
        let name = format!("{:NAMES$}", format!("{name}:"));
        let (name, value) = (self.paint.text(Tone::Head, &name), self.paint.text(tone, &value));
        self.text.push_str(&format!("{name}{value}\n"));
    }

    fn section(&mut self, name: &str, body: String) {
        if body.is_empty() {
            return;
        }
        let heading = self.paint.text(Tone::Head, name);
        self.text.push_str(&format!("\n{heading}:\n{body}"));
    }
}

fn identity(page: &mut Page, server: &ServerView) {
    page.field("UUID", server.uuid.to_string());
    page.field("Name", server.name());
    if let Some(manifest) = &server.manifest {
        page.field("Description", &manifest.spec.settings.meta.description);
        let labels: Vec<String> =
            manifest.metadata.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        page.field("Labels", labels.join(", "));
    }
    let phase = server.phase();
    page.painted("Phase", tone(phase), phase.to_string());
    page.field("State", server.status.state.as_str());
    page.field("Managed by", server.managed_by());
    let generation = server.record.generation;
    page.field(
        "Generation",
        match server.status.observed_generation {
            observed if observed == generation => generation.to_string(),
            0 => format!("{generation}, not looked at yet"),
            observed => format!("{generation}; the status below is of {observed}"),
        },
    );
}

fn spec(page: &mut Page, manifest: &Manifest) {
    let (spec, settings) = (&manifest.spec, &manifest.spec.settings);
    page.field("Image", &settings.container.image);
    page.field("Command", &settings.invocation);
    page.field("Limits", limits(manifest));
    let allocations = &settings.allocations;
    let first = (allocations.default.port != 0).then_some((&allocations.default.ip, allocations.default.port));
    let others = allocations.mappings.iter().flat_map(|(ip, ports)| ports.iter().map(move |port| (ip, *port)));
    let ports = first.into_iter().chain(others.filter(|address| Some(*address) != first));
    let ports: Vec<String> = ports.map(|(ip, port)| format!("{ip}:{port}")).collect();
    page.field("Addresses", ports.join(", "));
    let stop = &spec.process.stop;
    page.field(
        "Stop",
        match stop.kind.as_str() {
            "" if stop.value.is_empty() => String::new(),
            "" => format!("signal {}", stop.value),
            kind => format!("{kind} {}", stop.value).trim_end().to_owned(),
        },
    );
    page.painted("Suspended", Tone::Notice, if spec.suspended { "yes" } else { "" });
}

fn limits(manifest: &Manifest) -> String {
    let build = &manifest.spec.settings.build;
    let mut limits = Vec::new();
    if build.memory_limit > 0 {
        limits.push(format!("{} MiB of memory", build.memory_limit));
    }
    if build.cpu_limit > 0 {
        limits.push(format!("{} % of a core", build.cpu_limit));
    }
    if build.disk_space > 0 {
        limits.push(format!("{} MiB of disk", build.disk_space));
    }
    if limits.is_empty() { "none".into() } else { limits.join(", ") }
}

fn asked(page: &mut Page, manifest: &Manifest, server: &ServerView, now: Timestamp) {
    let (asked, record) = (server.asked(now), &server.record);
    if let Some(install) = asked.install() {
        let then = if install.then_start { ", then start" } else { "" };
        page.painted("Install", Tone::Notice, format!("pending ({}){then}", install.id));
    }
    if let Some(done) = &record.install.done {
        let bad = done.outcome == InstallOutcome::Failed;
        page.painted("Installed", if bad { Tone::Bad } else { Tone::Plain }, installed(done, manifest, now));
    }
    page.field("Power", power(server, now));
}

/// The power request that is pending, or the one that was handled last.
fn power(server: &ServerView, now: Timestamp) -> String {
    let asked = server.asked(now);
    let mut text = match (asked.power(), &server.record.power.handled) {
        (Some(power), _) => {
            let accepted = server.requests.accepted.iter().find(|request| request.sequence == power.sequence);
            let age = accepted.map(|request| format!(", requested {} ago", span(now.since(request.at))));
            format!("{} ({}){}", power.verb.as_str(), power.id, age.unwrap_or_default())
        }
        (None, Some(handled)) => {
            let (verb, id, age) = (handled.verb.as_str(), &handled.id, span(now.since(handled.at)));
            format!("{verb} ({id}), handled {age} ago: {}, {}", handled.reason, handled.message)
        }
        (None, None) => String::new(),
    };
    if let Some(hint) = runs_unasked(asked, server.status.state) {
        text.push_str(if text.is_empty() { "" } else { "; " });
        text.push_str(hint);
    }
    text
}

fn installed(done: &InstallResult, manifest: &Manifest, now: Timestamp) -> String {
    let kind = if done.reinstall { "reinstallation" } else { "installation" };
    let outcome = match done.outcome {
        InstallOutcome::Succeeded => "succeeded",
        InstallOutcome::Failed => "failed",
    };
    let mut text = format!("{kind} {outcome} {} ago", span(now.since(done.at)));
    if let Some(code) = done.exit_code {
        let _ = write!(text, ", exit code {code}");
    }
    if !done.message.is_empty() {
        let _ = write!(text, ": {}", done.message);
    }
    if !done.reported && manifest.metadata.managed_by == crate::model::ManagedBy::Panel {
        text.push_str("; the panel has not heard of it yet");
    }
    text
}

fn seen(page: &mut Page, server: &ServerView, now: Timestamp) {
    let (record, status) = (&server.record, &server.status);
    page.field("Container", status.container.as_deref().unwrap_or_default());
    if status.disk_bytes > 0 {
        page.field("Disk used", bytes(status.disk_bytes));
    }
    if let Some(last_reported) = status.last_reported.or(record.last_reported) {
        page.field("Panel knows", last_reported.as_str());
    }
    if let Some(at) = record.synced_at {
        page.field("Panel asked", format!("{} ago", span(now.since(at))));
    }
    if let Some(at) = record.parked {
        let since = span(now.since(at));
        page.painted(
            "Parked",
            Tone::Notice,
            format!("the panel has not listed it for {since}; `alula delete` removes it for good"),
        );
    }
    if let Some(deletion) = requests::deletion(&server.requests) {
        let then = if requests::wanted(&server.requests) { "; it is made again after that" } else { "" };
        page.painted("Deletion", Tone::Notice, format!("requested {} ago{then}", span(now.since(deletion.at))));
    }
}

fn conditions(server: &ServerView, paint: Paint, now: Timestamp) -> String {
    let conditions = &server.status.conditions;
    if conditions.is_empty() {
        return String::new();
    }
    let row = |condition: &crate::model::Condition| {
        let tone = match condition.status {
            status if condition.condition_type.is_failing(status, condition.reason) => Tone::Bad,
            ConditionStatus::True => Tone::Good,
            _ => Tone::Plain,
        };
        vec![
            Cell::plain(condition.condition_type.to_string()),
            Cell::new(tone, condition.status.to_string()),
            Cell::plain(condition.reason.as_str()),
            Cell::plain(span(now.since(condition.last_transition_time))),
            Cell::plain(&condition.message),
        ]
    };
    let rows: Vec<Vec<Cell>> = conditions.iter().map(row).collect();
    table(paint, "  ", &["CONDITION", "STATUS", "REASON", "FOR", "MESSAGE"], &rows)
}

fn crashes(record: &Record, paint: Paint, now: Timestamp) -> String {
    if record.crashes.is_empty() {
        return String::new();
    }
    let row = |crash: &crate::model::Crash| {
        let how = if crash.oom_killed { "out of memory".to_owned() } else { format!("exit code {}", crash.exit_code) };
        vec![
            Cell::plain(crash.at.to_string()),
            Cell::plain(span(now.since(crash.at))),
            Cell::plain(how),
            Cell::plain(if crash.restarted { "yes" } else { "no" }),
            Cell::plain(&crash.container),
        ]
    };
    let rows: Vec<Vec<Cell>> = record.crashes.iter().map(row).collect();
    table(paint, "  ", &["AT", "AGO", "HOW", "RESTARTED", "CONTAINER"], &rows)
}

fn events(server: &ServerView, paint: Paint, now: Timestamp) -> String {
    let events = &server.status.events;
    if events.is_empty() {
        return String::new();
    }
    let row = |event: &crate::model::Event| {
        vec![
            Cell::plain(event.at.to_string()),
            Cell::plain(span(now.since(event.at))),
            Cell::plain(format!("{}x", event.count)),
            Cell::plain(event.reason.as_str()),
            Cell::plain(&event.message),
        ]
    };
    let rows: Vec<Vec<Cell>> = events.iter().map(row).collect();
    table(paint, "  ", &["AT", "AGO", "TIMES", "REASON", "MESSAGE"], &rows)
}

fn place_row(place: &Place) -> Vec<Cell> {
    let there = if place.there { Cell::plain("yes") } else { Cell::new(Tone::Dim, "no") };
    vec![Cell::plain(place.what), there, Cell::plain(&place.path)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::examples;

    fn described(index: usize) -> String {
        let server = &examples::servers()[index];
        let node = NodeConfig::for_tests(Path::new("/srv/node"));
        let described = Described { server, files: places(&node, server.uuid) };
        text(&described, Paint::fixed(false), examples::now())
    }

    #[test]
    fn a_running_server() {
        insta::assert_snapshot!(described(0));
    }

    #[test]
    fn a_server_that_runs_unasked_says_so() {
        let mut server = examples::servers().remove(0);
        server.requests = crate::model::Requests::default();
        let described = Described { server: &server, files: Vec::new() };
        let text = text(&described, Paint::fixed(false), examples::now());
        let line = text.lines().find(|line| line.starts_with("Power:")).unwrap();
        assert!(line.contains("it runs, but is not started again"), "{line}");
    }

    #[test]
    fn a_server_in_trouble() {
        insta::assert_snapshot!(described(1));
    }

    #[test]
    fn a_server_that_nobody_has_looked_at() {
        assert!(described(3).contains("Generation:   1, not looked at yet\n"));
    }

    #[test]
    fn a_parked_server() {
        insta::assert_snapshot!(described(2));
    }
}
