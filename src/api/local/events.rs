//! `GET /local/events`: past and new events as a stream.

use std::io;
use std::sync::Arc;

use axum::extract::RawQuery;
use axum::response::Response;

use crate::api::request::parameter;
use crate::api::startup::Started;
use crate::api::stream::{self, Out};
use crate::events::{EventKind, ServerEvent, Subscription};
use crate::store::Store;

/// `GET /local/events[?after={number}]`: a line of JSON for each event of any server from that number on, and then for each new event,
/// state and condition. The number of an event is at least its time in milliseconds.
pub async fn events(Started(api): Started, RawQuery(query): RawQuery) -> Response {
    let after = parameter(query.as_deref(), "after").and_then(|after| after.parse().ok());
    let after: u64 = after.unwrap_or_default();
    let store = &api.context.store;
    // Before past events are read, so that none is missed.
    let subscription = store.events().subscribe_to_all();
    let store = store.clone();
    let name = "stream of events".to_owned();
    let work = move |out| follow(store, after, subscription, out);
    stream::answer(&api.context.tasks, name, "application/x-ndjson", work)
}

/// The events in the servers' status from this number on, in their order.
fn past_events(store: &Store, after: u64) -> Vec<ServerEvent> {
    let mut past = Vec::new();
    for id in store.ids() {
        store.recall(id);
        let Some(status) = store.status(id) else { continue };
        past.extend(status.events.iter().filter(|event| event.number >= after).map(|event| ServerEvent {
            uuid: Some(id),
            at: event.at,
            kind: EventKind::Event {
                number: event.number,
                reason: event.reason,
                message: event.message.clone(),
                count: event.count,
            },
        }));
    }
    past.sort_by_key(number);
    past
}

fn number(event: &ServerEvent) -> u64 {
    match event.kind {
        EventKind::Event { number, .. } => number,
        _ => 0,
    }
}

async fn follow(store: Store, after: u64, mut subscription: Subscription, out: Out) -> io::Result<()> {
    let past = store.run(move |store| past_events(store, after)).await;
    // Events between the subscription and the read are in both.
    let meanwhile: Vec<Arc<ServerEvent>> = std::iter::from_fn(|| subscription.try_recv()).collect();
    for event in &past {
        out.send(line(event)?).await?;
    }
    for event in meanwhile.iter().filter(|event| !past.iter().any(|known| covers(known, event))) {
        out.send(line(event)?).await?;
    }
    drop((past, meanwhile));
    while let Some(event) = out.wait_for(subscription.recv()).await? {
        out.send(line(&event)?).await?;
    }
    Ok(())
}

/// Whether `event` is `known`, or a repetition that `known` has counted.
fn covers(known: &ServerEvent, event: &ServerEvent) -> bool {
    match (&known.kind, &event.kind) {
        (
            EventKind::Event { number, reason, message, count },
            EventKind::Event { number: other, reason: other_reason, message: other_message, count: other_count },
        ) => {
            (known.uuid, reason, message) == (event.uuid, other_reason, other_message)
                && number >= other
                && count >= other_count
        }
        _ => false,
    }
}

fn line(event: &ServerEvent) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(event)?;
    line.push(b'\n');
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Reason, ServerId, Timestamp};

    #[test]
    fn an_event_is_covered_by_itself_and_by_a_later_count() {
        let event = |server, number, count| ServerEvent {
            uuid: Some(ServerId::new(uuid::Uuid::from_u128(server))),
            // The clock was set back between them.
            at: Timestamp::from_millis(1000 - number as i64),
            kind: EventKind::Event { number, reason: Reason::StepFailed, message: "again".into(), count },
        };
        assert!(covers(&event(1, 10, 1), &event(1, 10, 1)));
        assert!(covers(&event(1, 20, 3), &event(1, 10, 2)));
        assert!(!covers(&event(1, 10, 2), &event(1, 20, 3)));
        assert!(!covers(&event(2, 10, 1), &event(1, 10, 1)));
        let lagged = ServerEvent { kind: EventKind::Lagged { missed: 1 }, ..event(1, 10, 1) };
        assert!(!covers(&lagged, &lagged) && !covers(&event(1, 10, 1), &lagged));
    }
}
