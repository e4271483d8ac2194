//! `GET /local/events`: what has happened, and what happens from then on.

use std::io;
use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::response::Response;
use serde_json::json;

use super::parameter;
use crate::api::stream::{self, Out};
use crate::api::system::axum_json;
use crate::api::{Api, ApiError};
use crate::events::{EventKind, ServerEvent, Subscription};
use crate::model::Timestamp;
use crate::store::Store;

/// `GET /local/events[?after={milliseconds}][&follow=true]`: what happened to any server at that time or later, as an array; or,
/// followed, as a line for each, and then events, states and conditions as they happen.
pub async fn events(State(api): State<Arc<Api>>, RawQuery(query): RawQuery) -> Result<Response, ApiError> {
    let after = parameter(query.as_deref(), "after").and_then(|after| after.parse().ok());
    let after = Timestamp::from_millis(after.unwrap_or_default());
    let store = &api.context.store;
    if parameter(query.as_deref(), "follow") != Some("true") {
        let happened = store.run(move |store| happened(store, after)).await;
        return Ok(axum_json(&json!(happened)));
    }
    // First of all: what happens from here on is not missed.
    let subscription = store.events().subscribe_to_all();
    let store = store.clone();
    let name = "stream of events".to_owned();
    let work = move |out| follow(store, after, subscription, out);
    Ok(stream::answer(&api.context.tasks, name, "application/x-ndjson", work))
}

/// The events in the servers' status at this time or later, the oldest first.
fn happened(store: &Store, after: Timestamp) -> Vec<ServerEvent> {
    let mut happened = Vec::new();
    for id in store.ids() {
        store.recall_events(id);
        let Some(status) = store.status(id) else { continue };
        happened.extend(status.events.iter().filter(|event| event.at >= after).map(|event| ServerEvent {
            uuid: Some(id),
            at: event.at,
            kind: EventKind::Event { reason: event.reason, message: event.message.clone(), count: event.count },
        }));
    }
    happened.sort_by_key(|event| event.at);
    happened
}

async fn follow(store: Store, after: Timestamp, mut subscription: Subscription, out: Out) -> io::Result<()> {
    let happened = store.run(move |store| happened(store, after)).await;
    // What happened after the subscription and before the look is in both.
    let meanwhile: Vec<Arc<ServerEvent>> = std::iter::from_fn(|| subscription.try_recv()).collect();
    for event in &happened {
        out.send(line(event)?).await?;
    }
    for event in meanwhile.iter().filter(|event| !happened.iter().any(|known| covers(known, event))) {
        out.send(line(event)?).await?;
    }
    drop((happened, meanwhile));
    while let Some(event) = out.wait_for(subscription.recv()).await? {
        out.send(line(&event)?).await?;
    }
    Ok(())
}

/// Whether `event` is `known`, or a repetition that `known` has counted.
fn covers(known: &ServerEvent, event: &ServerEvent) -> bool {
    match (&known.kind, &event.kind) {
        (
            EventKind::Event { reason, message, count },
            EventKind::Event { reason: other_reason, message: other_message, count: other_count },
        ) => {
            (known.uuid, reason, message) == (event.uuid, other_reason, other_message)
                && known.at >= event.at
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
    use crate::model::{Reason, ServerId};

    #[test]
    fn an_event_is_covered_by_itself_and_by_what_counts_it() {
        let event = |server, at, count| ServerEvent {
            uuid: Some(ServerId::new(uuid::Uuid::from_u128(server))),
            at: Timestamp::from_millis(at),
            kind: EventKind::Event { reason: Reason::StepFailed, message: "again".into(), count },
        };
        assert!(covers(&event(1, 10, 1), &event(1, 10, 1)));
        assert!(covers(&event(1, 20, 3), &event(1, 10, 2)));
        assert!(!covers(&event(1, 10, 2), &event(1, 20, 3)));
        assert!(!covers(&event(2, 10, 1), &event(1, 10, 1)));
        let lagged = ServerEvent { kind: EventKind::Lagged { missed: 1 }, ..event(1, 10, 1) };
        assert!(!covers(&lagged, &lagged) && !covers(&event(1, 10, 1), &lagged));
    }
}
