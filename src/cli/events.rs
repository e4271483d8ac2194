//! `alula events`: past events, and new ones with `--follow`.

use std::collections::BTreeSet;
use std::io;

use futures_util::TryStreamExt;
use serde::Serialize;
use tokio::io::AsyncBufReadExt;
use tokio_util::io::StreamReader;

use super::arguments::Events;
use super::client::Client;
use super::error::CliError;
use super::node::{Endpoint, Node};
use super::output::{Cell, Printer, clean, notify, paint, print, table, tone};
use super::server::ServerView;
use crate::events::{self, EventKind};
use crate::model::{Event, Reason, ServerId, Timestamp};

/// An event may arrive after others whose numbers are higher by this; numbers ascend by one for each millisecond or event.
const MAX_DELAY: u64 = 10_000;
/// Width of the column of reasons.
const REASONS: usize = 16;

/// An event and its server.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct ServerEvent {
    number: u64,
    at: Timestamp,
    uuid: ServerId,
    reason: Reason,
    message: String,
    count: u32,
}

impl ServerEvent {
    /// `None` for anything but an event of a server.
    fn of(event: events::ServerEvent) -> Option<Self> {
        match (event.uuid, event.kind) {
            (Some(uuid), EventKind::Event { number, reason, message, count }) => {
                Some(Self { number, at: event.at, uuid, reason, message, count })
            }
            _ => None,
        }
    }
}

/// Prints events.
///
/// # Errors
/// A name matches no server, or the daemon does not answer.
pub async fn run(node: Node, arguments: &Events, printer: Printer) -> Result<(), CliError> {
    let names = &arguments.select.servers;
    let servers = node.pick(names).await?;
    let named = (!names.is_empty()).then(|| servers.iter().map(|server| server.uuid).collect());
    let mut follower = Follower { named, printer, seen: Seen::default() };
    let client = match &node.endpoint {
        Endpoint::Daemon(client) if arguments.follow => client.clone(),
        _ => {
            node.warn_without_daemon("these are the last known events");
            let events = written(&servers);
            if !arguments.follow {
                return printer.print(&events, || text(&events));
            }
            events.into_iter().try_for_each(|event| follower.print(event))?;
            node.daemon_again().await
        }
    };
    follower.follow(&node, client).await
}

/// The events in the servers' status, the oldest first.
fn written(servers: &[ServerView]) -> Vec<ServerEvent> {
    let of_server = |server: &ServerView| {
        let uuid = server.uuid;
        let events = server.status.events.clone().into_iter();
        events.map(move |Event { number, at, reason, message, count }| ServerEvent {
            number,
            at,
            uuid,
            reason,
            message,
            count,
        })
    };
    let mut events: Vec<ServerEvent> = servers.iter().flat_map(of_server).collect();
    events.sort();
    events
}

/// Prints each event once.
struct Follower {
    /// The servers whose events are printed; all servers if `None`.
    named: Option<BTreeSet<ServerId>>,
    printer: Printer,
    seen: Seen,
}

impl Follower {
    /// Runs until the output is closed. A daemon that does not run is waited for: it may be restarting.
    async fn follow(mut self, node: &Node, mut client: Client) -> Result<(), CliError> {
        loop {
            let path = format!("/local/events?after={}", self.seen.after());
            match client.stream(&path).await {
                // A read error means that the daemon has ended, as does the end of the stream.
                Ok(stream) => {
                    let mut lines = StreamReader::new(stream.map_err(io::Error::other)).lines();
                    while let Ok(Some(line)) = lines.next_line().await {
                        self.receive(client.read(line.as_bytes())?)?;
                    }
                }
                Err(error) if error.is_of_daemon() => {}
                Err(error) => return Err(error),
            }
            client = node.daemon_again().await;
        }
    }

    fn receive(&mut self, event: events::ServerEvent) -> Result<(), CliError> {
        if let EventKind::Lagged { missed } = event.kind {
            notify(&format!("up to {missed} events are missing here: they were not read in time; see `alula events`"));
        }
        ServerEvent::of(event).map_or(Ok(()), |event| self.print(event))
    }

    fn print(&mut self, event: ServerEvent) -> Result<(), CliError> {
        let wanted = self.named.as_ref().is_none_or(|named| named.contains(&event.uuid));
        if !self.seen.is_new(&event) || !wanted {
            return Ok(());
        }
        print(&self.printer.item(&event, || line(&event))?)
    }
}

/// Events that were printed, and that a restarted daemon may send again.
#[derive(Default)]
struct Seen {
    newest: u64,
    /// Events at most [`MAX_DELAY`] older than the newest.
    printed: BTreeSet<ServerEvent>,
}

impl Seen {
    /// Whether the event was not printed before.
    fn is_new(&mut self, event: &ServerEvent) -> bool {
        self.newest = self.newest.max(event.number);
        let after = self.after();
        self.printed.retain(|event| event.number >= after);
        event.number < after || self.printed.insert(event.clone())
    }

    /// Start of the events that are requested again.
    fn after(&self) -> u64 {
        self.newest.saturating_sub(MAX_DELAY)
    }
}

fn text(events: &[ServerEvent]) -> String {
    let row = |event: &ServerEvent| {
        vec![
            Cell::new(tone::DIM, event.at.to_string()),
            Cell::plain(event.uuid.to_string()),
            Cell::plain(format!("{}x", event.count)),
            Cell::plain(event.reason.as_str()),
            Cell::plain(&event.message),
        ]
    };
    table("", None, &["AT", "UUID", "TIMES", "REASON", "MESSAGE"], events.iter().map(row).collect())
}

fn line(event: &ServerEvent) -> String {
    let (at, reason) = (event.at.to_string(), format!("{:REASONS$}", event.reason));
    let times = if event.count > 1 { format!(" ({} times)", event.count) } else { String::new() };
    format!("{}  {}  {reason}  {}{times}\n", paint(tone::DIM, &at), event.uuid, clean(&event.message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use crate::cli::examples;

    fn event(seconds: u64, reason: Reason) -> ServerEvent {
        ServerEvent {
            number: 1_000_000 + seconds * 1000,
            at: examples::now() + Duration::from_secs(seconds),
            uuid: examples::servers()[0].uuid,
            reason,
            message: "it happened".into(),
            count: 1,
        }
    }

    #[test]
    fn each_event_is_printed_once_also_a_late_one() {
        let mut seen = Seen::default();
        let mut new = |events: &[ServerEvent]| -> Vec<bool> { events.iter().map(|event| seen.is_new(event)).collect() };
        let (early, late) = (event(5, Reason::Parked), event(20, Reason::LeftOut));
        assert_eq!(new(&[early.clone(), late.clone()]), [true, true]);
        assert_eq!(new(&[late.clone(), event(19, Reason::SpecAccepted)]), [false, true]);
        // Older than what is requested again: it cannot be a repetition.
        assert_eq!(new(&[early.clone(), event(2, Reason::SpecMissing)]), [true, true]);
        let again = ServerEvent { count: 2, ..event(30, Reason::StepFailed) };
        assert_eq!(new(&[again.clone(), again]), [true, false]);
        assert_eq!(seen.printed.len(), 2, "events that cannot come again are dropped");
    }

    #[test]
    fn events_are_in_the_order_of_their_numbers_whatever_the_clock_said() {
        let before = event(5, Reason::Parked);
        let after = ServerEvent { at: before.at - Duration::from_secs(3600), ..event(6, Reason::LeftOut) };
        let mut events = [after.clone(), before.clone()];
        events.sort();
        assert_eq!(events, [before, after]);
    }

    #[test]
    fn as_people_see_it() {
        let events = [event(0, Reason::StateChanged), ServerEvent { count: 3, ..event(5, Reason::StepFailed) }];
        insta::assert_snapshot!(examples::without_colours(&(text(&events) + &line(&events[1]))));
    }
}
