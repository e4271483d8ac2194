//! `alula events`: what happened, and, if asked for, what happens from now on.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::arguments::Events;
use super::error::CliError;
use super::node::{Door, Node};
use super::output::{Cell, Paint, Printer, Tone, clean, table, tell};
use crate::model::{Reason, ServerId, Timestamp};

/// Time between looks for new events.
const INTERVAL: Duration = Duration::from_millis(500);
/// An event may come to be known this much later than its time says, after others with a later one.
const LATE: Duration = Duration::from_secs(10);
/// Width of reasons, so that lines of a stream are in line.
const REASONS: usize = 16;

/// An event and its server.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ServerEvent {
    at: Timestamp,
    uuid: ServerId,
    reason: Reason,
    message: String,
    count: u32,
}

/// Shows events.
///
/// # Errors
/// A name that names none, a daemon that does not answer.
pub async fn run(node: Node, arguments: &Events, printer: Printer) -> Result<(), CliError> {
    node.warn_without_daemon("these are the events that were written down last");
    let servers = node.pick(&arguments.servers).await?;
    let named: Option<BTreeSet<ServerId>> =
        (!arguments.servers.is_empty()).then(|| servers.iter().map(|server| server.uuid).collect());
    let wanted = |event: &ServerEvent| named.as_ref().is_none_or(|named| named.contains(&event.uuid));
    let mut events: Vec<ServerEvent> = Vec::new();
    for server in &servers {
        events.extend(server.status.events.iter().map(|event| ServerEvent {
            at: event.at,
            uuid: server.uuid,
            reason: event.reason,
            message: event.message.clone(),
            count: event.count,
        }));
    }
    events.sort();
    if !arguments.follow {
        return printer.print(&events, || if events.is_empty() { String::new() } else { text(&events, printer.paint) });
    }
    let mut seen = Seen::default();
    loop {
        for event in seen.fresh(events) {
            if wanted(&event) {
                printer.print_item(&event, || line(&event, printer.paint))?;
            }
        }
        tokio::time::sleep(INTERVAL).await;
        events = seen.ask(&node).await?;
    }
}

/// What was shown already.
#[derive(Default)]
struct Seen {
    newest: Timestamp,
    /// Events that are not older than [`LATE`] before the newest.
    shown: BTreeSet<ServerEvent>,
    /// Whether the daemon has been away.
    away: bool,
}

impl Seen {
    /// Those of the events that were not there before, in order.
    fn fresh(&mut self, mut events: Vec<ServerEvent>) -> Vec<ServerEvent> {
        events.sort();
        let after = self.after();
        events.retain(|event| event.at >= after && !self.shown.contains(event));
        self.newest = events.last().map_or(self.newest, |last| last.at.max(self.newest));
        self.shown.extend(events.iter().cloned());
        let after = self.after();
        self.shown.retain(|event| event.at >= after);
        events
    }

    fn after(&self) -> Timestamp {
        self.newest - LATE
    }

    /// What may be new. A daemon that is away is waited for: it may be restarting.
    async fn ask(&mut self, node: &Node) -> Result<Vec<ServerEvent>, CliError> {
        if let Ok(Node { door: Door::Daemon(client), .. }) = node.reopen()
            && let Ok(events) = client.get(&format!("/local/events?after={}", self.after().as_millis())).await
        {
            if std::mem::take(&mut self.away) {
                tell("the daemon runs");
            }
            return Ok(events);
        }
        if !std::mem::replace(&mut self.away, true) {
            tell("no daemon runs; waiting for it");
        }
        Ok(Vec::new())
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

    fn reasons(events: Vec<ServerEvent>) -> Vec<Reason> {
        events.into_iter().map(|event| event.reason).collect()
    }

    #[test]
    fn each_event_is_shown_once_also_one_that_comes_late() {
        let mut seen = Seen::default();
        assert_eq!(
            reasons(seen.fresh(vec![event(20, Reason::LeftOut), event(5, Reason::Parked)])),
            [Reason::Parked, Reason::LeftOut]
        );
        assert!(seen.fresh(vec![event(5, Reason::Parked), event(20, Reason::LeftOut)]).is_empty());
        assert_eq!(
            reasons(seen.fresh(vec![
                event(20, Reason::LeftOut),
                event(19, Reason::SpecAccepted),
                event(21, Reason::StepFailed)
            ])),
            [Reason::SpecAccepted, Reason::StepFailed]
        );
        assert!(seen.fresh(vec![event(19, Reason::SpecAccepted), event(2, Reason::SpecMissing)]).is_empty());
        let again = ServerEvent { count: 2, ..event(30, Reason::StepFailed) };
        assert_eq!(seen.fresh(vec![again.clone()]), [again]);
        assert_eq!(seen.shown.len(), 3, "what cannot come again is forgotten");
    }

    #[test]
    fn as_people_see_it() {
        let events = [event(0, Reason::StateChanged), ServerEvent { count: 3, ..event(5, Reason::StepFailed) }];
        insta::assert_snapshot!(text(&events, Paint::fixed(false)) + &line(&events[1], Paint::fixed(false)));
    }
}
