//! `alula describe`: everything about one server.

use std::fmt::Write;
use std::path::Path;

use serde::Serialize;

use super::arguments::One;
use super::error::CliError;
use super::get::tone;
use super::node::Node;
use super::output::{Cell, Paint, Printer, Tone, bytes, clean, span, table};
use super::server::{ServerView, is_trouble, runs_for_nobody};
use crate::config::NodeConfig;
use crate::files::Layout;
use crate::model::{ConditionStatus, InstallOutcome, InstallResult, Manifest, Record, ServerId, Timestamp};
use crate::reconcile::plan::{open_install, wish};
use crate::store::{CONFIG_FILE, OVERRIDE_FILE, RECORD_FILE, STATUS_FILE};

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
        place("facts", &folder.join(RECORD_FILE)),
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
        intent(&mut page, manifest);
        wishes(&mut page, manifest, server, now);
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
    page.field("State", server.status.state.word());
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

fn intent(page: &mut Page, manifest: &Manifest) {
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

fn wishes(page: &mut Page, manifest: &Manifest, server: &ServerView, now: Timestamp) {
    let (record, state) = (&server.record, server.status.state);
    if let Some(install) = open_install(manifest, record) {
        let then = if install.then_start { ", then start" } else { "" };
        page.painted("Install", Tone::Notice, format!("wanted ({}){then}", install.token));
    }
    if let Some(done) = &record.install.done {
        let bad = done.outcome == InstallOutcome::Failed;
        page.painted("Installed", if bad { Tone::Bad } else { Tone::Plain }, installed(done, manifest, now));
    }
    if let Some(wish) = wish(manifest, record) {
        let mut text = power(wish.want, wish.how, &wish.id);
        if let Some(at) =
            manifest.spec.power.as_ref().filter(|power| power.id == wish.id).and_then(|power| power.requested_at)
        {
            let _ = write!(text, ", made {} ago", span(now.since(at)));
        }
        match record.power.closed.as_ref().filter(|closed| closed.is(&wish.id, wish.want)) {
            Some(closed) => {
                let _ = write!(
                    text,
                    "; over since {} ago: {}, {}",
                    span(now.since(closed.at)),
                    closed.reason,
                    closed.message
                );
            }
            None if record.power_closed(&wish.id, wish.want) => text.push_str("; over, as an earlier wish"),
            None => text.push_str("; open"),
        }
        if record.power_closed(&wish.id, wish.want)
            && let Some(hint) = runs_for_nobody(wish.want, state)
        {
            let _ = write!(text, "; {hint}");
        }
        page.field("Power", text);
    }
}

fn power(want: crate::model::Want, how: crate::model::How, id: &str) -> String {
    use crate::model::{How, Want};
    let want = match (want, how) {
        (Want::Up, _) => "up",
        (Want::Down, How::Graceful) => "down",
        (Want::Down, How::Kill) => "down at once",
    };
    if id.is_empty() { want.into() } else { format!("{want} ({id})") }
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
    if let Some(told) = status.told.or(record.told) {
        page.field("Panel knows", told.word());
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
    if let Some(deletion) = &record.deletion {
        let then = if deletion.recreate { "; wanted again after that" } else { "" };
        page.painted("Deletion", Tone::Notice, format!("asked for {} ago{then}", span(now.since(deletion.at))));
    }
}

fn conditions(server: &ServerView, paint: Paint, now: Timestamp) -> String {
    let conditions = &server.status.conditions;
    if conditions.is_empty() {
        return String::new();
    }
    let row = |condition: &crate::model::Condition| {
        let tone = match condition.status {
            _ if is_trouble(condition) => Tone::Bad,
            ConditionStatus::True => Tone::Good,
            _ => Tone::Plain,
        };
        vec![
            Cell::plain(condition.kind.to_string()),
            Cell::new(tone, condition.status.to_string()),
            Cell::plain(condition.reason.as_str()),
            Cell::plain(span(now.since(condition.since))),
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
    fn a_server_that_runs_by_an_earlier_wish_says_so() {
        let mut server = examples::servers().remove(0);
        let past = crate::model::PastWish { id: "wish-2".into(), want: Some(crate::model::Want::Up) };
        server.record.power.past = vec![past];
        let described = Described { server: &server, files: Vec::new() };
        let text = text(&described, Paint::fixed(false), examples::now());
        let line = text.lines().find(|line| line.starts_with("Power:")).unwrap();
        assert!(line.contains("over, as an earlier wish; it runs, but is not started again"), "{line}");
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
