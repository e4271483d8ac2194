//! `alula get`: servers, one a line.

use super::arguments::Select;
use super::error::CliError;
use super::node::Node;
use super::output::{Cell, Paint, Printer, Tone, span, table_within, tell};
use super::server::ServerView;
use crate::model::{Phase, Timestamp};

const HEADINGS: [&str; 10] =
    ["UUID", "NAME", "PHASE", "STATE", "MANAGED BY", "GEN", "IMAGE", "AGE", "REASON", "MESSAGE"];

/// Lists servers.
///
/// # Errors
/// A name that names none, a daemon that does not answer.
pub async fn run(node: &Node, arguments: &Select, printer: Printer) -> Result<(), CliError> {
    node.warn_without_daemon("phases and states are those that were seen last");
    let servers = node.pick(&arguments.servers).await?;
    if servers.is_empty() {
        tell("there are no servers; write the first one with `alula apply -f FILE`");
    }
    if arguments.servers.is_empty() {
        for stranger in node.strangers() {
            tell(&format!("left alone: {stranger}"));
        }
    }
    let table = || text(&servers, printer.width, printer.paint, printer.now);
    printer.print(&servers, || if servers.is_empty() { String::new() } else { table() })
}

fn text(servers: &[ServerView], width: Option<usize>, paint: Paint, now: Timestamp) -> String {
    let rows: Vec<Vec<Cell>> = servers.iter().map(|server| row(server, now)).collect();
    table_within(width, paint, &HEADINGS, rows)
}

fn row(server: &ServerView, now: Timestamp) -> Vec<Cell> {
    let phase = server.phase();
    let age = server.changed_at().map(|at| span(now.since(at))).unwrap_or_default();
    let trouble = server.trouble();
    let reason = trouble.map(|trouble| trouble.reason.as_str());
    let message = trouble.map(|trouble| trouble.message);
    vec![
        Cell::plain(server.uuid.to_string()),
        Cell::plain(server.name()),
        Cell::new(tone(phase), phase.to_string()),
        Cell::plain(server.status.state.as_str()),
        Cell::plain(server.managed_by()),
        Cell::plain(server.record.generation.to_string()),
        Cell::plain(server.image()),
        Cell::plain(age),
        Cell::new(Tone::Bad, reason.unwrap_or_default()).dim_if_empty(),
        Cell::new(Tone::Plain, message.unwrap_or_default()).dim_if_empty(),
    ]
}

/// The colour of a phase.
pub fn tone(phase: Phase) -> Tone {
    match phase {
        Phase::Online => Tone::Good,
        Phase::Created | Phase::Installing | Phase::Deleting => Tone::Notice,
        Phase::Failed => Tone::Bad,
        Phase::Offline => Tone::Plain,
        Phase::Parked => Tone::Dim,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::examples;

    #[test]
    fn as_people_see_it() {
        insta::assert_snapshot!(text(&examples::servers(), None, Paint::fixed(false), examples::now()));
    }

    #[test]
    fn with_colours() {
        let text = text(&examples::servers()[..1], Some(80), Paint::fixed(true), examples::now());
        assert!(text.contains("\u{1b}[32mOnline\u{1b}[0m"), "{text:?}");
    }

    #[test]
    fn programs_see_everything() {
        let server = &examples::servers()[0];
        let json = serde_json::to_string(server).unwrap();
        let again: ServerView = serde_json::from_str(&json).unwrap();
        assert_eq!(serde_json::to_string(&again).unwrap(), json);
        let yaml = crate::yaml::to_string(server).unwrap();
        assert_eq!(crate::yaml::parse::<ServerView>(&yaml).unwrap().record, server.record);
    }
}
