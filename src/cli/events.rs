//! `alula events`: what happened, and, if asked for, what happens from now on.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Serialize;
use tokio::io::AsyncBufReadExt;

use super::arguments::Events;
use super::client::Client;
use super::error::CliError;
use super::node::{Endpoint, Node};
use super::output::{Cell, Paint, Printer, Tone, clean, table, tell};
use super::server::ServerView;
use crate::events::{self, EventKind};
use crate::model::{Reason, ServerId, Timestamp};

/// An event may come to be known this much later than its time says, after others with a later one.
const LATE: Duration = Duration::from_secs(10);
/// Width of reasons, so that lines of a stream are in line.
const REASONS: usize = 16;

/// An event and its server.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct ServerEvent {
    at: Timestamp,
    uuid: ServerId,
    reason: Reason,
    message: String,
    count: u32,
}

impl ServerEvent {
    /// What is shown of something that has happened: events of servers.
    fn of(event: events::ServerEvent) -> Option<Self> {
        match (event.uuid, event.kind) {
            (Some(uuid), EventKind::Event { reason, message, count }) => {
                Some(Self { at: event.at, uuid, reason, message, count })
            }
            _ => None,
        }
    }
}

/// Shows events.
///
/// # Errors
/// A name that names none, a daemon that does not answer.
pub async fn run(node: Node, arguments: &Events, printer: Printer) -> Result<(), CliError> {
    let servers = node.pick(&arguments.servers).await?;
    let named: Option<BTreeSet<ServerId>> =
        (!arguments.servers.is_empty()).then(|| servers.iter().map(|server| server.uuid).collect());
    let mut follower = Follower { named, printer, seen: Seen::default() };
    let client = match &node.endpoint {
        Endpoint::Daemon(client) if arguments.follow => client.clone(),
        _ => {
            node.warn_without_daemon("these are the events that were written down last");
            let events = written(&servers);
            if !arguments.follow {
                return printer.print(&events, || match events.as_slice() {
                    [] => String::new(),
                    events => text(events, printer.paint),
                });
            }
            events.into_iter().try_for_each(|event| follower.show(event))?;
            node.daemon_again().await
        }
    };
    follower.follow(&node, client).await
}

/// The events in the servers' status, the oldest first.
fn written(servers: &[ServerView]) -> Vec<ServerEvent> {
    let mut events: Vec<ServerEvent> = Vec::new();
    for server in servers {
        events.extend(server.status.events.iter().map(|event| ServerEvent {
            at: event.at,
            uuid: server.uuid,
            reason: event.reason,
            message: event.message.clone(),
            count: event.count,
        }));
    }
    events.sort();
    events
}

/// Shows each event once, as it happens.
struct Follower {
    /// The servers that are meant; all of them where none was named.
    named: Option<BTreeSet<ServerId>>,
    printer: Printer,
    seen: Seen,
}

impl Follower {
    /// Goes on until the output is closed. A daemon that is away is waited for: it may be restarting.
    async fn follow(mut self, node: &Node, mut client: Client) -> Result<(), CliError> {
        loop {
            let path = format!("/local/events?follow=true&after={}", self.seen.after().as_millis());
            match client.stream(&path).await {
                // An error of reading is the end of the daemon, as the end of the stream is.
                Ok(stream) => {
                    let mut lines = stream.lines();
                    while let Ok(Some(line)) = lines.next_line().await {
                        self.take(client.read(&line.into())?)?;
                    }
                }
                Err(error) if error.is_of_daemon() => {}
                Err(error) => return Err(error),
            }
            client = node.daemon_again().await;
        }
    }

    fn take(&mut self, event: events::ServerEvent) -> Result<(), CliError> {
        if let EventKind::Lagged { missed } = event.kind {
            tell(&format!("up to {missed} events are missing here: they were not read in time; see `alula events`"));
        }
        ServerEvent::of(event).map_or(Ok(()), |event| self.show(event))
    }

    fn show(&mut self, event: ServerEvent) -> Result<(), CliError> {
        let wanted = self.named.as_ref().is_none_or(|named| named.contains(&event.uuid));
        if !self.seen.is_new(&event) || !wanted {
            return Ok(());
        }
        self.printer.print_item(&event, || line(&event, self.printer.paint))
    }
}

/// What was shown already, and may come again from another run of the daemon.
#[derive(Default)]
struct Seen {
    newest: Timestamp,
    /// Events that are not older than [`LATE`] before the newest.
    shown: BTreeSet<ServerEvent>,
}

impl Seen {
    /// Whether the event was not there before.
    fn is_new(&mut self, event: &ServerEvent) -> bool {
        self.newest = self.newest.max(event.at);
        let after = self.after();
        self.shown.retain(|event| event.at >= after);
        event.at < after || self.shown.insert(event.clone())
    }

    /// Events that happened before this are not asked for again.
    fn after(&self) -> Timestamp {
        self.newest - LATE
    }
}

fn text(events: &[ServerEvent], paint: Paint) -> String {
    let row = |event: &ServerEvent| {
        vec![
            Cell::new(Tone::Dim, event.at.to_string()),
            Cell::plain(event.uuid.to_string()),
            Cell::plain(format!("{}x", event.count)),
            Cell::plain(event.reason.as_str()),
            Cell::plain(&event.message),
        ]
    };
    let rows: Vec<Vec<Cell>> = events.iter().map(row).collect();
    table(paint, "", &["AT", "UUID", "TIMES", "REASON", "MESSAGE"], &rows)
}

fn line(event: &ServerEvent, paint: Paint) -> String {
    let (at, reason) = (event.at.to_string(), format!("{:REASONS$}", event.reason));
    let times = if event.count > 1 { format!(" ({} times)", event.count) } else { String::new() };
    format!("{}  {}  {reason}  {}{times}\n", paint.text(Tone::Dim, &at), event.uuid, clean(&event.message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::examples;

    fn event(seconds: u64, reason: Reason) -> ServerEvent {
        ServerEvent {
            at: examples::now() + Duration::from_secs(seconds),
            uuid: examples::servers()[0].uuid,
            reason,
            message: "it happened".into(),
            count: 1,
        }
    }

    #[test]
    fn each_event_is_shown_once_also_one_that_comes_late() {
        let mut seen = Seen::default();
        let mut shown =
            |events: &[ServerEvent]| -> Vec<bool> { events.iter().map(|event| seen.is_new(event)).collect() };
        let (early, late) = (event(5, Reason::Parked), event(20, Reason::LeftOut));
        assert_eq!(shown(&[early.clone(), late.clone()]), [true, true]);
        assert_eq!(shown(&[late.clone(), event(19, Reason::SpecAccepted)]), [false, true]);
        // Older than anything that is asked for again: it cannot be a repetition.
        assert_eq!(shown(&[early.clone(), event(2, Reason::SpecMissing)]), [true, true]);
        let again = ServerEvent { count: 2, ..event(30, Reason::StepFailed) };
        assert_eq!(shown(&[again.clone(), again]), [true, false]);
        assert_eq!(seen.shown.len(), 2, "what cannot come again is forgotten");
    }

    #[test]
    fn as_people_see_it() {
        let events = [event(0, Reason::StateChanged), ServerEvent { count: 3, ..event(5, Reason::StepFailed) }];
        insta::assert_snapshot!(text(&events, Paint::fixed(false)) + &line(&events[1], Paint::fixed(false)));
    }
}
