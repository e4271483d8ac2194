use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::model::{BackupArchive, BackupResult, BackupVerification};

const NAME: &str = "nightly";

fn at(text: &str) -> Timestamp {
    Timestamp::parse(text).unwrap()
}

fn made(number: u128, at: Timestamp) -> Backup {
    let result = BackupResult { succeeded: true, message: String::new(), at, parts: Vec::new() };
    let backup = Backup::new(Uuid::from_u128(number), at, Requester::Schedule, BackupStorage::Local);
    Backup { schedule: Some(NAME.into()), archive: Some(BackupArchive::default()), result: Some(result), ..backup }
}

fn failed(number: u128, at: Timestamp) -> Backup {
    let result = BackupResult { succeeded: false, message: "no room".into(), at, parts: Vec::new() };
    Backup { archive: None, result: Some(result), ..made(number, at) }
}

fn numbers(keep: Keep, backups: &[Backup], zone: &str) -> Vec<u128> {
    let zone = TimeZone::get(zone).unwrap();
    surplus(keep, NAME, backups, None, &zone).into_iter().map(|id| id.as_u128()).collect()
}

fn keep(last: u32, daily: u32, weekly: u32, monthly: u32) -> Keep {
    Keep { last, daily, weekly, monthly }
}

/// One a day at four o'clock, from 1 January 2026, a Thursday. The numbers are days of the year.
fn daily(days: u32) -> Vec<Backup> {
    let first = at("2026-01-01T04:00:00Z");
    (0..days).map(|day| made(u128::from(day) + 1, first + Duration::from_secs(u64::from(day) * 86_400))).collect()
}

fn left(keep: Keep, backups: &[Backup]) -> Vec<u128> {
    let gone = numbers(keep, backups, "UTC");
    backups.iter().map(|backup| backup.id.as_u128()).filter(|number| !gone.contains(number)).collect()
}

#[test]
fn each_rule_keeps_the_latest_of_its_latest_periods() {
    let backups = daily(60);
    for (rule, expected) in [
        (keep(0, 0, 0, 0), (1..=60).collect()),
        (keep(3, 0, 0, 0), vec![58, 59, 60]),
        (keep(0, 3, 0, 0), vec![58, 59, 60]),
        // 1 March is a Sunday, and day 60.
        (keep(1, 0, 3, 0), vec![46, 53, 60]),
        (keep(0, 0, 0, 2), vec![59, 60]),
        (keep(0, 0, 0, 3), vec![31, 59, 60]),
        (keep(2, 3, 2, 3), vec![31, 53, 58, 59, 60]),
        (keep(100, 0, 0, 0), (1..=60).collect()),
    ] {
        assert_eq!(left(rule, &backups), expected, "{rule:?}");
    }
}

#[test]
fn days_are_those_of_the_timezone() {
    let backups = [made(1, at("2026-01-01T21:30:00Z")), made(2, at("2026-01-01T23:30:00Z"))];
    assert_eq!(numbers(keep(0, 2, 0, 0), &backups, "UTC"), [1]);
    assert!(numbers(keep(0, 2, 0, 0), &backups, "Europe/Berlin").is_empty());
}

#[test]
fn failed_attempts_go_once_a_later_one_has_succeeded() {
    let backups = [
        failed(1, at("2026-01-01T04:00:00Z")),
        made(2, at("2026-01-02T04:00:00Z")),
        failed(3, at("2026-01-03T04:00:00Z")),
    ];
    assert_eq!(numbers(keep(1, 0, 0, 0), &backups, "UTC"), [1]);
    assert!(numbers(keep(1, 0, 0, 0), &backups[..1], "UTC").is_empty());
}

fn any_backup() -> impl Strategy<Value = Backup> {
    let by = prop_oneof![
        4 => Just(Requester::Schedule),
        1 => Just(Requester::Panel),
        1 => Just(Requester::Cli),
        1 => Just(Requester::Takeover),
    ];
    let flags = (any::<bool>(), any::<bool>(), 0..4_u8, 0..4_u8);
    (1..1000_u128, 0..400_u64, by, flags).prop_map(|(number, hours, by, (s3, other, state, verified))| {
        let at = at("2026-01-01T00:00:00Z") + Duration::from_secs(hours * 3600 * 5);
        let backup = match state {
            0 => failed(number, at),
            1 => Backup { archive: None, result: None, ..made(number, at) },
            _ => made(number, at),
        };
        let verification = BackupVerification { at, ok: verified != 0, message: String::new() };
        Backup {
            by,
            storage: if s3 && other { BackupStorage::S3 } else { BackupStorage::Local },
            schedule: (by == Requester::Schedule).then(|| if other { "other".into() } else { NAME.into() }),
            detached: s3 && !other,
            verified: (verified < 2).then_some(verification),
            ..backup
        }
    })
}

proptest! {
    #[test]
    fn nothing_goes_that_the_schedule_has_not_made_and_the_latest_success_stays(
        mut backups in proptest::collection::vec(any_backup(), 0..30),
        rules in (0..4_u32, 0..4_u32, 0..4_u32, 0..4_u32),
        in_use in 1..1000_u128,
    ) {
        backups.sort_by_key(|backup| (backup.id, backup.at));
        backups.dedup_by_key(|backup| backup.id);
        backups.sort_by_key(|backup| backup.at);
        let rules = keep(rules.0, rules.1, rules.2, rules.3);
        let in_use = Uuid::from_u128(in_use);
        let gone = surplus(rules, NAME, &backups, Some(in_use), &TimeZone::UTC);
        for backup in backups.iter().filter(|backup| gone.contains(&backup.id)) {
            prop_assert_eq!(backup.by, Requester::Schedule);
            prop_assert_eq!(backup.schedule.as_deref(), Some(NAME));
            prop_assert_eq!(backup.storage, BackupStorage::Local);
            prop_assert!(!backup.detached && backup.result.is_some() && !backup.is_damaged());
            prop_assert_ne!(backup.id, in_use);
        }
        let good = |backup: &&Backup| is_of(backup, NAME) && is_good(backup);
        if let Some(latest) = backups.iter().filter(good).max_by_key(|backup| backup.at) {
            prop_assert!(!gone.contains(&latest.id));
        }
        let kept = backups.iter().filter(good).filter(|backup| !gone.contains(&backup.id)).count() as u32;
        let all = backups.iter().filter(good).count() as u32;
        prop_assert!(kept >= rules.last.min(all));
        if !rules.is_everything() {
            prop_assert!(kept <= (rules.last.max(1) + rules.daily + rules.weekly + rules.monthly) + 1);
        }
        // What is left needs no further removal.
        let rest: Vec<Backup> = backups.into_iter().filter(|backup| !gone.contains(&backup.id)).collect();
        let again = surplus(rules, NAME, &rest, Some(in_use), &TimeZone::UTC);
        prop_assert!(again.is_empty(), "{:?}", again);
    }
}
