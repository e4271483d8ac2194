use proptest::prelude::*;

use super::*;

fn at(text: &str) -> Timestamp {
    Timestamp::parse(text).unwrap()
}

fn times(text: &str, zone: &str) -> Times {
    Times::parse(text, zone).unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn a_time_is_due_once_however_often_it_was_missed() {
    let nightly = times("0 4 * * *", "UTC");
    for (handled, now, expected) in [
        ("2026-01-01T04:00:00Z", "2026-01-01T04:00:01Z", false),
        ("2026-01-01T03:59:59Z", "2026-01-01T03:59:59Z", false),
        ("2026-01-01T03:59:59Z", "2026-01-01T04:00:00Z", true),
        ("2026-01-01T04:00:00Z", "2026-01-02T03:59:59Z", false),
        ("2026-01-01T04:00:00Z", "2026-01-02T09:00:00Z", true),
        ("2026-01-01T04:00:00Z", "2026-02-02T09:00:00Z", true),
        // The clock was set back.
        ("2026-06-01T04:00:00Z", "2026-01-02T04:00:00Z", false),
    ] {
        assert_eq!(nightly.is_due(at(handled), at(now)), expected, "{handled} {now}");
    }
    assert!(!nightly.is_due(at("2026-02-02T09:00:00Z"), at("2026-02-02T09:00:00Z")), "made up once");
}

#[test]
fn times_are_those_of_the_timezone_through_the_change_of_clocks() {
    let nightly = times("30 2 * * *", "Europe/Berlin");
    assert_eq!(nightly.next_after(at("2026-01-01T00:00:00Z")), Some(at("2026-01-01T01:30:00Z")));
    assert_eq!(nightly.next_after(at("2026-07-01T00:00:00Z")), Some(at("2026-07-01T00:30:00Z")));
    // On 29 March 2026 there is no half past two.
    let after = nightly.next_after(at("2026-03-28T12:00:00Z")).unwrap();
    assert!(after > at("2026-03-28T12:00:00Z") && after < at("2026-03-30T12:00:00Z"), "{after}");
    let other = times("0 4 * * * Asia/Tokyo", "Europe/Berlin");
    assert_eq!(other.next_after(at("2026-01-01T00:00:00Z")), Some(at("2026-01-01T19:00:00Z")));
}

/// A time of which a library once searched the successor for ever.
#[test]
fn a_time_that_the_change_of_clocks_skips_is_passed() {
    let weekly = times("30 2 * * 0", "Australia/Lord_Howe");
    let at = Timestamp::from_millis(3_858_034_559_539);
    let next = weekly.next_after(at).unwrap();
    assert!(next > at && next.as_millis() - at.as_millis() < 8 * 86_400_000, "{next}");
}

#[test]
fn what_is_no_time_is_an_error() {
    for text in ["", "daily", "0 4 * *", "61 * * * *", "0 4 * * * Nowhere/City", "0 4 * * * UTC more", "0 0 30 2 *"] {
        assert!(Times::parse(text, "UTC").is_err(), "{text:?}");
    }
    assert!(Times::parse("0 4 * * *", "Nowhere/City").is_err());
}

#[test]
fn a_selector_selects_by_name_and_labels() {
    let id = crate::testing::server_id(1);
    let labels: BTreeMap<String, String> = [("team".to_owned(), "blue".to_owned())].into();
    let selector = |servers: &[&str], labels: &[(&str, &str)]| Selector {
        servers: servers.iter().map(ToString::to_string).collect(),
        labels: labels.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect(),
    };
    let whole = id.to_string().to_uppercase();
    for (selector, expected) in [
        (selector(&[], &[]), true),
        (selector(&["lobby"], &[]), true),
        (selector(&[&whole], &[]), true),
        (selector(&["other"], &[]), false),
        (selector(&[], &[("team", "blue")]), true),
        (selector(&[], &[("team", "red")]), false),
        (selector(&[], &[("team", "blue"), ("size", "big")]), false),
        (selector(&["lobby"], &[("team", "red")]), false),
    ] {
        assert_eq!(selector.selects(id, "lobby", &labels), expected, "{selector:?}");
    }
    assert!(!selector(&[""], &[]).selects(id, "", &labels));
}

proptest! {
    #[test]
    fn the_next_time_is_later_and_due_then(
        millis in 0..3_900_000_000_000_i64,
        text in prop::sample::select(vec!["0 4 * * *", "*/15 * * * *", "30 2 * * 0", "0 0 1 * *", "15 2 * * *", "0 0 29 2 *"]),
        zone in prop::sample::select(vec!["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Cairo"]),
    ) {
        let times = times(text, zone);
        let now = Timestamp::from_millis(millis);
        let next = times.next_after(now).unwrap();
        prop_assert!(next > now);
        prop_assert!(times.is_due(now, next) && !times.is_due(now, Timestamp::from_millis(next.as_millis() - 1)));
        prop_assert!(!times.is_due(next, next));
    }
}
