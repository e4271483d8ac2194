//! Broadcasts: their subscribers, cost and end.

use std::sync::atomic::{AtomicU32, Ordering};

use super::*;

fn server(number: u128) -> ServerId {
    ServerId::new(uuid::Uuid::from_u128(number))
}

fn events() -> Events {
    Events::new(Clock::System)
}

fn line(text: &str) -> EventKind {
    EventKind::Daemon { line: text.into(), number: 0 }
}

fn printed(lines: &[&str]) -> EventKind {
    let mut output = frames::OutputBuilder::new("console output");
    lines.iter().for_each(|line| output.push(line, 0));
    EventKind::Console(output.take().unwrap())
}

fn state() -> EventKind {
    EventKind::State { state: PowerState::Running }
}

fn kinds(subscription: &mut Subscription) -> Vec<EventKind> {
    std::iter::from_fn(|| subscription.try_recv()).map(|event| event.kind.clone()).collect()
}

#[test]
fn a_server_gets_its_own_events_and_the_node_all_except_output() {
    let events = events();
    let (mut one, mut all) = (events.subscribe(server(1)), events.subscribe_to_all());
    events.publish_output(server(1), || line("one"));
    events.publish_output(server(2), || line("two"));
    events.publish(server(1), None, state);
    events.publish(server(2), Some(Timestamp::from_millis(5)), state);
    assert_eq!(kinds(&mut one), [line("one"), state()]);
    assert_eq!(all.try_recv().unwrap().uuid, Some(server(1)));
    let second = all.try_recv().unwrap();
    assert_eq!((second.uuid, second.at), (Some(server(2)), Timestamp::from_millis(5)));
    assert!(all.try_recv().is_none());
}

#[test]
fn nothing_is_created_or_kept_without_a_subscriber() {
    let events = events();
    let made = AtomicU32::new(0);
    let publish = || {
        let make = || {
            made.fetch_add(1, Ordering::Relaxed);
            line("x")
        };
        events.publish_output(server(1), make);
        made.load(Ordering::Relaxed)
    };
    assert_eq!(publish(), 0);
    let other = events.subscribe(server(2));
    let all = events.subscribe_to_all();
    assert_eq!(publish(), 0, "neither of these gets this output");
    let (first, second) = (events.subscribe(server(1)), events.subscribe(server(1)));
    assert_eq!(publish(), 1, "made once for both");
    drop(first);
    assert_eq!(publish(), 2);
    drop((second, other, all));
    assert_eq!(publish(), 2);
    assert!(!events.has_subscribers() && events.inner.channels().is_empty());
}

#[tokio::test]
async fn a_slow_subscriber_gets_the_number_of_missed_lines_and_continues() {
    let events = events();
    let mut slow = events.subscribe(server(1));
    let long = "x".repeat(SERVER_BYTES / 3);
    for _ in 0..4 {
        events.publish_output(server(1), || printed(&["a", "b", &long]));
    }
    let lagged = slow.recv().await.unwrap();
    assert_eq!((lagged.uuid, &lagged.kind), (Some(server(1)), &EventKind::Lagged { missed: 6 }));
    assert_eq!(kinds(&mut slow).len(), 2);
}

#[test]
fn a_subscriber_that_does_not_read_keeps_a_burst_of_output() {
    let events = events();
    let mut slow = events.subscribe(server(1));
    let text = "x".repeat(100);
    for _ in 0..2000 {
        events.publish_output(server(1), || printed(&[text.as_str(); 100]));
    }
    assert_eq!(kinds(&mut slow).len(), 2000, "200,000 lines");
}

#[tokio::test]
async fn a_broadcast_ends_after_its_server_is_removed_and_the_rest_is_read() {
    let events = events();
    let mut old = events.subscribe(server(1));
    events.publish_output(server(1), || line("last"));
    events.remove(server(1));
    let mut new = events.subscribe(server(1));
    events.publish_output(server(1), || line("of another server of this name"));
    assert_eq!(old.recv().await.unwrap().kind, line("last"));
    assert_eq!(old.recv().await.unwrap().kind, EventKind::Deleted);
    assert!(old.recv().await.is_none());
    drop(old);
    assert_eq!(kinds(&mut new).len(), 1, "the end of the earlier one does not affect it");
    events.publish_output(server(1), || line("x"));
    assert_eq!(kinds(&mut new).len(), 1);
}

#[test]
fn events_are_serialized_with_their_type() {
    let at = Timestamp::from_millis(1_700_000_000_000);
    let form = |uuid, kind| {
        let event = ServerEvent { uuid, at, kind };
        let text = serde_json::to_string(&event).unwrap();
        assert_eq!(serde_json::from_str::<ServerEvent>(&text).unwrap(), event);
        text
    };
    let id = server(1).to_string();
    assert_eq!(
        form(Some(server(1)), line("hi")),
        format!(r#"{{"uuid":"{id}","at":"2023-11-14T22:13:20.000Z","type":"daemon","line":"hi"}}"#)
    );
    assert_eq!(
        form(None, EventKind::Lagged { missed: 3 }),
        r#"{"at":"2023-11-14T22:13:20.000Z","type":"lagged","missed":3}"#
    );
    let happened = EventKind::Event { number: 7, reason: Reason::Parked, message: "why".into(), count: 2 };
    assert!(
        form(Some(server(1)), happened)
            .ends_with(r#""type":"event","number":7,"reason":"Parked","message":"why","count":2}"#)
    );
    assert!(form(Some(server(1)), state()).ends_with(r#""type":"state","state":"running"}"#));
}
