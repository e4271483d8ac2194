//! `alula get`: a list of servers.

use anstyle::Style;

use super::arguments::Select;
use super::error::CliError;
use super::node::Node;
use super::operations;
use super::output::{Cell, Printer, notify, span, table, tone};
use super::server::ServerView;
use crate::model::{Phase, Timestamp};

const HEADINGS: [&str; 11] =
    ["UUID", "NAME", "PHASE", "STATE", "MANAGED BY", "GEN", "IMAGE", "AGE", "UPTIME", "REASON", "MESSAGE"];

/// What is shown of a server without conditions.
const UNOBSERVED: &str = "not observed yet; the daemon lists the engine's containers first";

/// Lists servers.
///
/// # Errors
/// A name matches no server, or the daemon does not answer.
pub async fn run(node: &Node, arguments: &Select, printer: Printer) -> Result<(), CliError> {
    if let [first, servers @ ..] = arguments.servers.as_slice()
        && first == operations::WORD
    {
        return operations::run(node, servers, printer).await;
    }
    node.warn_without_daemon("phases and states are the last known ones");
    let servers = node.pick(&arguments.servers).await?;
    if servers.is_empty() {
        notify("there are no servers; write the first one with `alula apply -f FILE`");
    }
    if servers.iter().any(ServerView::needs_restart) {
        notify("*: the next start of the server changes it; see UpToDate in `alula describe`");
    }
    if arguments.servers.is_empty() {
        node.troubles().await?.iter().for_each(|trouble| notify(trouble));
    }
    printer.print(&servers, || text(&servers, printer.width, printer.now))
}

fn text(servers: &[ServerView], width: Option<usize>, now: Timestamp) -> String {
    table("", width, &HEADINGS, servers.iter().map(|server| row(server, now)).collect())
}

fn row(server: &ServerView, now: Timestamp) -> Vec<Cell> {
    let phase = server.phase();
    let since = |at: Option<Timestamp>| at.map(|at| span(now.since(at))).unwrap_or_default();
    let is_unobserved = server.status.conditions.is_empty() && phase != Phase::Parked;
    let unobserved = if is_unobserved { UNOBSERVED } else { "" };
    let (reason, message) = server.trouble().map_or(("", unobserved), |(reason, message)| (reason.as_str(), message));
    vec![
        Cell::plain(server.uuid.to_string()),
        Cell::plain(server.name()),
        Cell::new(phase_tone(phase), phase.to_string()),
        Cell::plain(server.status.state.as_str()),
        Cell::plain(server.managed_by()),
        Cell::plain(server.record.generation.to_string()),
        Cell::plain(image(server)),
        Cell::plain(since(server.record.created_at)),
        Cell::plain(since(server.status.started_at)),
        Cell::new(tone::BAD, reason),
        Cell::plain(message),
    ]
}

/// The image that runs, with a mark if the next start changes the server's container.
fn image(server: &ServerView) -> String {
    let image = server.running_image().unwrap_or(server.image());
    let mark = if server.needs_restart() { " *" } else { "" };
    format!("{image}{mark}")
}

/// The colour of a phase.
pub fn phase_tone(phase: Phase) -> Style {
    match phase {
        Phase::Online => tone::GOOD,
        Phase::Created | Phase::Installing | Phase::Deleting => tone::NOTICE,
        Phase::Failed => tone::BAD,
        Phase::Offline => tone::PLAIN,
        Phase::Parked => tone::DIM,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::examples;

    #[test]
    fn as_people_see_it() {
        let text = text(&examples::servers(), None, examples::now());
        insta::assert_snapshot!(examples::without_colours(&text));
    }

    #[test]
    fn a_server_that_needs_a_restart_has_a_mark_and_its_running_image() {
        let mut server = examples::servers().remove(0);
        assert_eq!(image(&server), "ghcr.io/example/java:21");
        server.status.image = Some("ghcr.io/example/java:17".into());
        examples::needs_restart(&mut server);
        assert_eq!(image(&server), "ghcr.io/example/java:17 *");
        server.status.image = Some("ghcr.io/example/java:21".into());
        assert_eq!(image(&server), "ghcr.io/example/java:21 *", "another field has changed");
        server.manifest.as_mut().unwrap().spec.settings.container.image.insert(0, '~');
        assert_eq!(image(&server), "~ghcr.io/example/java:21 *");
    }

    #[test]
    fn with_colours() {
        let text = text(&examples::servers()[..1], Some(80), examples::now());
        assert!(text.contains("\u{1b}[32mOnline\u{1b}[0m"), "{text:?}");
    }

    #[test]
    fn json_and_yaml_have_every_field() {
        let server = &examples::servers()[0];
        let json = serde_json::to_string(server).unwrap();
        let again: ServerView = serde_json::from_str(&json).unwrap();
        assert_eq!(serde_json::to_string(&again).unwrap(), json);
        let yaml = crate::yaml::to_string(server).unwrap();
        assert_eq!(crate::yaml::parse::<ServerView>(&yaml).unwrap().record, server.record);
    }
}
