//! `alula get operations`: backups, restores and transfers that run now.

use serde::{Deserialize, Serialize};

use super::error::CliError;
use super::node::{Endpoint, Node};
use super::output::{Cell, Printer, bytes, notify, table, tone};
use super::server::ServerView;
use crate::model::ServerId;
use crate::progress::Speed;

/// The word after `alula get`.
pub const WORD: &str = "operations";

const HEADINGS: [&str; 9] = ["SERVER", "NAME", "OPERATION", "SUBJECT", "DONE", "BYTES", "OF", "RATE", "LEFT"];

/// An operation that runs, as the daemon has it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OperationView {
    pub server: ServerId,
    pub kind: String,
    pub subject: String,
    /// Bytes.
    pub done: u64,
    /// Bytes; zero while it is unknown.
    pub total: u64,
    pub seconds: f64,
}

/// The same with what follows from it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    #[serde(flatten)]
    operation: &'a OperationView,
    percent: Option<u64>,
    bytes_per_second: u64,
    seconds_left: Option<u64>,
}

/// The operations of the node. None run without a daemon.
///
/// # Errors
/// The daemon does not answer.
pub async fn running(node: &Node) -> Result<Vec<OperationView>, CliError> {
    match &node.endpoint {
        Endpoint::Daemon(client) => client.get("/local/operations").await,
        Endpoint::Folder(..) => Ok(Vec::new()),
    }
}

/// Lists the operations of some servers, or of all.
///
/// # Errors
/// A name matches no server, or the daemon does not answer.
pub async fn run(node: &Node, names: &[String], printer: Printer) -> Result<(), CliError> {
    node.warn_without_daemon("nothing runs");
    let servers = node.pick(names).await?;
    let mut operations = running(node).await?;
    operations.retain(|operation| servers.iter().any(|server| server.uuid == operation.server));
    if operations.is_empty() {
        notify("no backup, restore or transfer runs; see `alula backup list` for those that have ended");
    }
    let lines: Vec<Line<'_>> = operations.iter().map(Line::of).collect();
    printer.print(&lines, || text(&lines, &servers, printer.width))
}

impl<'a> Line<'a> {
    fn of(operation: &'a OperationView) -> Self {
        let speed = Speed::of(operation.done, operation.total, operation.seconds);
        Self { operation, percent: speed.percent, bytes_per_second: speed.rate, seconds_left: speed.left }
    }
}

fn text(lines: &[Line<'_>], servers: &[ServerView], width: Option<usize>) -> String {
    table("", width, &HEADINGS, lines.iter().map(|line| row(line, servers)).collect())
}

fn row(line: &Line<'_>, servers: &[ServerView]) -> Vec<Cell> {
    let OperationView { server, kind, subject, done, total, .. } = line.operation;
    let name = servers.iter().find(|found| found.uuid == *server).map(ServerView::name).unwrap_or_default();
    let known = |text: Option<String>| Cell::plain(text.unwrap_or_default());
    vec![
        Cell::plain(server.to_string()),
        Cell::plain(name),
        Cell::new(tone::NOTICE, kind),
        Cell::plain(subject.rsplit(':').next().unwrap_or(subject)),
        known(line.percent.map(|percent| format!("{percent} %"))),
        Cell::plain(bytes(*done)),
        known((*total > 0).then(|| bytes(*total))),
        Cell::plain(format!("{}/s", bytes(line.bytes_per_second))),
        known(line.seconds_left.map(|seconds| format!("{seconds} s"))),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::examples;

    fn operation(server: usize, kind: &str, done: u64, total: u64) -> OperationView {
        let server = examples::servers()[server].uuid;
        let subject = format!("{kind}:0198c0de-0000-7000-8000-000000000001");
        OperationView { server, kind: kind.into(), subject, done, total, seconds: 4.0 }
    }

    #[test]
    fn as_people_see_it() {
        let operations = [operation(0, "backup", 1 << 30, 4 << 30), operation(1, "restore", 5000, 0)];
        let lines: Vec<Line<'_>> = operations.iter().map(Line::of).collect();
        insta::assert_snapshot!(examples::without_colours(&text(&lines, &examples::servers(), None)));
        insta::assert_snapshot!(serde_json::to_string_pretty(&lines).unwrap());
    }
}
