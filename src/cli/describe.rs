//! `alula describe`: the details of one server.

use std::path::PathBuf;

use anstyle::Style;
use serde::Serialize;

use super::arguments::One;
use super::error::CliError;
use super::get::phase_tone;
use super::node::Node;
use super::output::{Cell, Printer, bytes, clean, notify, paint, span, table, tone};
use super::server::{ServerView, runs_unasked};
use crate::config::Directories;
use crate::model::settings::Allocations;
use crate::model::{
    Condition, ConditionStatus, Crash, Event, InstallOutcome, InstallResult, ManagedBy, Manifest, Restart,
    RestartPolicy, ServerId, Status, Timestamp,
};
use crate::requests;
use crate::store::{CONFIG_FILE, DATA_FOLDER, OVERRIDE_FILE, RECORD_FILE, REQUESTS_FILE, STATUS_FILE};

/// Width of the names of fields.
const NAMES: usize = 14;

/// A file or folder of a server.
#[derive(Debug, Serialize)]
struct ServerFile {
    what: &'static str,
    path: String,
    /// `None` if this user may not know.
    there: Option<bool>,
}

#[derive(Serialize)]
struct Described<'a> {
    #[serde(flatten)]
    server: &'a ServerView,
    files: Vec<ServerFile>,
}

/// Describes one server.
///
/// # Errors
/// The name matches no server, or the daemon does not answer.
pub async fn run(node: &Node, arguments: &One, printer: Printer) -> Result<(), CliError> {
    node.warn_without_daemon("the status is the last known one");
    for server in node.pick(std::slice::from_ref(&arguments.server)).await? {
        let described = Described { files: files(&node.directories, server.uuid), server: &server };
        printer.print(&described, || text(&described, printer.now))?;
        if described.files.iter().any(|file| file.there.is_none()) {
            notify(
                "this user may not enter the state folder, so its files are not checked; run this as root to see them",
            );
        }
    }
    Ok(())
}

fn files(directories: &Directories, id: ServerId) -> Vec<ServerFile> {
    let folder = directories.server(&id);
    let data = folder.join(DATA_FOLDER);
    let files = [
        ("manifest", folder.join(CONFIG_FILE)),
        ("override", folder.join(OVERRIDE_FILE)),
        ("requests", folder.join(REQUESTS_FILE)),
        ("record", folder.join(RECORD_FILE)),
        ("status", folder.join(STATUS_FILE)),
        // It may be a link to the folder of Wings.
        ("data", data.canonicalize().unwrap_or_else(|_| directories.server_data(&id))),
        ("logs", folder.join("logs")),
        ("install log", directories.log.join("install").join(format!("{id}.log"))),
    ];
    let file = |(what, path): (_, PathBuf)| ServerFile {
        what,
        there: path.try_exists().ok(),
        path: path.display().to_string(),
    };
    files.map(file).into()
}

fn text(described: &Described<'_>, now: Timestamp) -> String {
    let server = described.server;
    let mut page = Page::default();
    identity(&mut page, server);
    if let Some(manifest) = &server.manifest {
        image(&mut page, server);
        spec(&mut page, manifest);
        requested(&mut page, manifest, server, now);
    }
    observed(&mut page, server, now);
    if let Some(problem) = &server.problem {
        page.section("Problem", format!("  {}: {}\n", problem.reason, clean(&problem.message)));
    }
    page.section("Conditions", conditions(&server.status.conditions, now));
    page.section("Crashes", crashes(&server.record.crashes, now));
    page.section("Events", events(&server.status.events, now));
    let row = |file: &ServerFile| {
        let there = match file.there {
            Some(true) => Cell::plain("yes"),
            Some(false) => Cell::new(tone::DIM, "no"),
            None => Cell::new(tone::DIM, "?"),
        };
        vec![Cell::plain(file.what), there, Cell::plain(&file.path)]
    };
    page.section("Files", rows(&["WHAT", "THERE", "PATH"], &described.files, row));
    page.0
}

/// The text that is written.
#[derive(Default)]
struct Page(String);

impl Page {
    fn field(&mut self, name: &str, value: impl AsRef<str>) {
        self.painted(name, tone::PLAIN, value);
    }

    fn painted(&mut self, name: &str, tone: Style, value: impl AsRef<str>) {
        let value = clean(value.as_ref());
        if !value.is_empty() {
            let name = format!("{:NAMES$}", format!("{name}:"));
            self.0.push_str(&format!("{}{}\n", paint(tone::HEAD, &name), paint(tone, &value)));
        }
    }

    fn section(&mut self, name: &str, body: String) {
        if !body.is_empty() {
            self.0.push_str(&format!("\n{}:\n{body}", paint(tone::HEAD, name)));
        }
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
    page.painted("Phase", phase_tone(phase), phase.to_string());
    page.field("State", server.status.state.as_str());
    page.field("Managed by", server.managed_by());
    let generation = server.record.generation;
    page.field(
        "Generation",
        match server.status.observed_generation {
            observed if observed == generation => generation.to_string(),
            0 => format!("{generation}, not observed yet"),
            observed => format!("{generation}; the status below is of {observed}"),
        },
    );
}

fn image(page: &mut Page, server: &ServerView) {
    match server.running_image() {
        Some(running) => {
            page.painted("Image", tone::NOTICE, format!("{running}; from the next start {}", server.image()))
        }
        None => page.field("Image", server.image()),
    }
}

fn spec(page: &mut Page, manifest: &Manifest) {
    let (spec, settings) = (&manifest.spec, &manifest.spec.settings);
    page.field("Command", &settings.invocation);
    page.field("Limits", limits(manifest));
    page.field("Allocations", addresses(&settings.allocations).join(", "));
    let stop = &spec.process.stop;
    page.field(
        "Stop",
        match stop.kind.as_str() {
            "" if stop.value.is_empty() => String::new(),
            "" => format!("signal {}", stop.value),
            kind => format!("{kind} {}", stop.value).trim_end().to_owned(),
        },
    );
    page.field("Restart", spec.restart.as_ref().map_or(String::new(), restart));
    page.painted("Suspended", tone::NOTICE, if spec.suspended { "yes" } else { "" });
}

/// A restart policy and its delays.
fn restart(restart: &Restart) -> String {
    let Restart { policy, backoff, max_backoff, reset_after } = restart;
    match policy {
        RestartPolicy::Never => "never".into(),
        policy => format!(
            "{policy:?}, after {} to {}; at once after a run of {}",
            span(backoff.0),
            span(max_backoff.0),
            span(reset_after.0)
        ),
    }
}

fn limits(manifest: &Manifest) -> String {
    let build = &manifest.spec.settings.build;
    let limits =
        [(build.memory_limit, "MiB of memory"), (build.cpu_limit, "% of a core"), (build.disk_space, "MiB of disk")];
    let limits = limits.into_iter().filter(|(limit, _)| *limit > 0).map(|(limit, unit)| format!("{limit} {unit}"));
    let limits: Vec<String> = limits.collect();
    if limits.is_empty() { "none".into() } else { limits.join(", ") }
}

fn requested(page: &mut Page, manifest: &Manifest, server: &ServerView, now: Timestamp) {
    if let Some(install) = server.asked(now).install() {
        let then = if install.then_start { ", then start" } else { "" };
        page.painted("Install", tone::NOTICE, format!("pending ({}){then}", install.id));
    }
    if let Some(done) = &server.record.install.done {
        let tone = if done.outcome == InstallOutcome::Failed { tone::BAD } else { tone::PLAIN };
        page.painted("Installed", tone, installed(done, manifest, now));
    }
    page.field("Power", power(server, now));
}

/// The pending power request, or the one that was handled last.
fn power(server: &ServerView, now: Timestamp) -> String {
    let asked = server.asked(now);
    let mut parts = Vec::new();
    if let Some(power) = asked.power() {
        let accepted = server.requests.accepted.iter().find(|request| request.sequence == power.sequence);
        let age = accepted.map(|request| format!(", requested {} ago", span(now.since(request.at))));
        parts.push(format!("{} ({}){}", power.verb.as_str(), power.id, age.unwrap_or_default()));
    } else if let Some(handled) = &server.record.power.handled {
        let (verb, id, age) = (handled.verb.as_str(), &handled.id, span(now.since(handled.at)));
        parts.push(format!("{verb} ({id}), handled {age} ago: {}, {}", handled.reason, handled.message));
    }
    parts.extend(runs_unasked(asked, server.status.state).map(str::to_owned));
    parts.join("; ")
}

fn installed(done: &InstallResult, manifest: &Manifest, now: Timestamp) -> String {
    let kind = if done.reinstall { "reinstallation" } else { "installation" };
    let outcome = match done.outcome {
        InstallOutcome::Succeeded => "succeeded",
        InstallOutcome::Failed => "failed",
    };
    let mut text = format!("{kind} {outcome} {} ago", span(now.since(done.at)));
    if let Some(code) = done.exit_code {
        text.push_str(&format!(", exit code {code}"));
    }
    if !done.message.is_empty() {
        text.push_str(&format!(": {}", done.message));
    }
    if !done.reported && manifest.metadata.managed_by == ManagedBy::Panel {
        text.push_str("; not reported to the panel yet");
    }
    text
}

fn observed(page: &mut Page, server: &ServerView, now: Timestamp) {
    let (record, status) = (&server.record, &server.status);
    page.field("Container", status.container.as_deref().unwrap_or_default());
    page.field("Ports", bound(status));
    if status.disk_bytes > 0 {
        page.field("Disk used", bytes(status.disk_bytes));
    }
    if let Some(last_reported) = status.last_reported.or(record.last_reported) {
        page.field("Reported", last_reported.as_str());
    }
    if let Some(at) = record.synced_at {
        page.field("Synced", format!("{} ago", span(now.since(at))));
    }
    if let Some(at) = record.parked {
        let text = "the panel has not listed it for";
        let text = format!("{text} {}; `alula delete` removes it for good", span(now.since(at)));
        page.painted("Parked", tone::NOTICE, text);
    }
    if let Some(deletion) = requests::deletion(&server.requests) {
        let then = if requests::wanted(&server.requests) { "; it is created again after that" } else { "" };
        page.painted("Deletion", tone::NOTICE, format!("requested {} ago{then}", span(now.since(deletion.at))));
    }
}

/// The default allocation, and then the others, each once.
fn addresses(allocations: &Allocations) -> Vec<String> {
    let first = (allocations.default.port != 0).then_some((&allocations.default.ip, allocations.default.port));
    let others = allocations.mappings.iter().flat_map(|(ip, ports)| ports.iter().map(move |port| (ip, *port)));
    let mut listed = Vec::new();
    for (ip, port) in first.into_iter().chain(others) {
        let text = if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") };
        if !listed.contains(&text) {
            listed.push(text);
        }
    }
    listed
}

/// The ports of the host that the running container has.
fn bound(status: &Status) -> String {
    // Without an image nothing was observed of a running container.
    if status.image.is_none() {
        return String::new();
    }
    let ports: Vec<String> = status.ports.iter().map(ToString::to_string).collect();
    if ports.is_empty() { "none bound on this host".into() } else { format!("{} (bound)", ports.join(", ")) }
}

fn rows<T>(headings: &[&str], items: &[T], row: impl Fn(&T) -> Vec<Cell>) -> String {
    table("  ", None, headings, items.iter().map(row).collect())
}

fn conditions(conditions: &[Condition], now: Timestamp) -> String {
    rows(&["CONDITION", "STATUS", "REASON", "FOR", "MESSAGE"], conditions, |condition| {
        let tone = match condition.status {
            status if condition.condition_type.is_failing(status, condition.reason) => tone::BAD,
            ConditionStatus::True => tone::GOOD,
            _ => tone::PLAIN,
        };
        vec![
            Cell::plain(condition.condition_type.to_string()),
            Cell::new(tone, condition.status.to_string()),
            Cell::plain(condition.reason.as_str()),
            Cell::plain(span(now.since(condition.last_transition_time))),
            Cell::plain(&condition.message),
        ]
    })
}

fn crashes(crashes: &[Crash], now: Timestamp) -> String {
    let mut text = rows(&["AT", "AGO", "HOW", "IN A ROW", "RESTARTED", "CONTAINER"], crashes, |crash| {
        let how = if crash.oom_killed { "out of memory".to_owned() } else { format!("exit code {}", crash.exit_code) };
        vec![
            Cell::plain(crash.at.to_string()),
            Cell::plain(span(now.since(crash.at))),
            Cell::plain(how),
            Cell::plain(crash.in_row.to_string()),
            Cell::plain(if crash.restarted { "yes" } else { "no" }),
            Cell::plain(&crash.container),
        ]
    });
    if let Some(latest) = crashes.last().filter(|crash| !crash.lines.is_empty()) {
        text.push_str("  last lines before the latest:\n");
        latest.lines.iter().for_each(|line| text.push_str(&format!("    {}\n", clean(line))));
    }
    text
}

fn events(events: &[Event], now: Timestamp) -> String {
    rows(&["AT", "AGO", "TIMES", "REASON", "MESSAGE"], events, |event| {
        vec![
            Cell::plain(event.at.to_string()),
            Cell::plain(span(now.since(event.at))),
            Cell::plain(format!("{}x", event.count)),
            Cell::plain(event.reason.as_str()),
            Cell::plain(&event.message),
        ]
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::examples;
    use crate::model::PublishedPort;

    fn described(server: &ServerView) -> String {
        let node = crate::testing::node_config(std::path::Path::new("/srv/node"));
        let described = Described { server, files: files(&node.directories, server.uuid) };
        examples::without_colours(&text(&described, examples::now()))
    }

    #[test]
    fn a_running_server() {
        insta::assert_snapshot!(described(&examples::servers()[0]));
    }

    #[test]
    fn a_server_that_needs_a_restart() {
        let mut server = examples::servers().remove(0);
        server.status.image = Some("ghcr.io/example/java:17".into());
        examples::needs_restart(&mut server);
        let text = described(&server);
        assert!(text.contains("ghcr.io/example/java:17; from the next start ghcr.io/example/java:21"), "{text}");
        assert!(text.contains("RestartRequired  60s  the next start changes spec.settings.container.image"), "{text}");
    }

    #[test]
    fn allocations_are_listed_once_and_addresses_of_ipv6_have_brackets() {
        let allocations: Allocations = serde_json::from_value(serde_json::json!({
            "default": {"ip": "10.0.0.1", "port": 7},
            "mappings": {"10.0.0.1": [7, 8, 8], "fd00::1": [7, 7]},
        }))
        .unwrap();
        assert_eq!(addresses(&allocations), ["10.0.0.1:7", "10.0.0.1:8", "[fd00::1]:7"]);
    }

    #[test]
    fn the_ports_are_those_that_the_engine_has_bound() {
        let mut server = examples::servers().remove(0);
        let line =
            |server: &ServerView| described(server).lines().find(|line| line.starts_with("Ports:")).map(String::from);
        server.status.image = None;
        assert_eq!(line(&server), None, "it does not run");
        server.status.image = Some("ghcr.io/example/java:21".into());
        server.status.ports.clear();
        assert_eq!(line(&server).unwrap(), "Ports:        none bound on this host");
        let port = |address: &str| PublishedPort { address: address.into(), port: 25565 };
        server.status.ports = vec![port("0.0.0.0"), port("::1")];
        assert_eq!(line(&server).unwrap(), "Ports:        0.0.0.0:25565, [::1]:25565 (bound)");
    }

    #[test]
    fn a_server_that_runs_without_a_request_has_a_hint() {
        let mut server = examples::servers().remove(0);
        server.requests = crate::model::Requests::default();
        let text = described(&server);
        let line = text.lines().find(|line| line.starts_with("Power:")).unwrap();
        assert!(line.contains("it runs, but is not started again"), "{line}");
    }

    #[test]
    fn a_failed_server() {
        insta::assert_snapshot!(described(&examples::servers()[1]));
    }

    #[test]
    fn a_server_without_a_pass() {
        assert!(described(&examples::servers()[3]).contains("Generation:   1, not observed yet\n"));
    }

    #[test]
    fn a_parked_server() {
        insta::assert_snapshot!(described(&examples::servers()[2]));
    }
}
