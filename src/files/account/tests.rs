use std::thread;

use proptest::prelude::*;

use super::*;

#[test]
fn zero_is_unlimited_and_a_negative_limit_allows_no_writes() {
    assert_eq!(limit_of(0), None);
    assert_eq!(limit_of(1), Some(1 << 20));
    assert_eq!(limit_of(-1), Some(0));
    assert_eq!(limit_of(i64::MIN), Some(0));
    assert_eq!(limit_of(i64::MAX), Some(u64::MAX));

    let unlimited = DiskAccount::new(limit_of(0), u64::MAX - 1);
    assert!(unlimited.has_space() && unlimited.fits(u64::MAX));
    unlimited.charge(u64::MAX).unwrap().keep();
    assert_eq!(unlimited.used(), u64::MAX);

    let none = DiskAccount::new(limit_of(-1), 0);
    assert!(none.has_space() && none.fits(0) && !none.fits(1));
    none.charge(0).unwrap().keep();
    assert_eq!(none.charge(1).unwrap_err(), OverLimit { requested: 1, used: 0, limit: 0 });
}

#[test]
fn a_charge_is_kept_or_released() {
    let account = DiskAccount::new(Some(100), 40);
    let mut charge = account.charge(10).unwrap();
    charge.grow(50).unwrap();
    assert_eq!((account.used(), charge.bytes()), (100, 60));
    assert_eq!(charge.grow(1).unwrap_err(), OverLimit { requested: 1, used: 100, limit: 100 });
    assert!(account.charge(0).is_ok(), "nothing always fits");
    charge.shrink_to(20);
    charge.shrink_to(30);
    assert_eq!((account.used(), charge.bytes()), (60, 20));
    charge.keep();
    assert_eq!(account.used(), 60);
    drop(account.charge(40).unwrap());
    assert_eq!(account.used(), 60);
    account.release(70);
    assert_eq!(account.used(), 0, "never below zero");
}

#[test]
fn over_the_limit_only_nothing_fits() {
    let account = DiskAccount::new(Some(100), 100);
    assert!(account.has_space() && account.fits(0) && !account.fits(1));
    account.set_limit(Some(99));
    assert!(!account.has_space() && account.fits(0) && !account.fits(1));
    account.set_limit(None);
    assert!(account.has_space() && account.fits(1));
}

#[test]
fn without_writers_a_measurement_replaces_the_account() {
    let account = DiskAccount::new(None, 7);
    let begun = account.begin_measurement();
    assert_eq!(account.measured(begun, 1000), Measured { used: 1000, exact: true });
    let begun = account.begin_measurement();
    assert_eq!(account.measured(begun, 3), Measured { used: 3, exact: true });
    let begun = account.begin_measurement();
    assert_eq!(account.measured_at_least(begun, 2), Measured { used: 3, exact: false }, "the rest may be hidden");
    let begun = account.begin_measurement();
    assert_eq!(account.measured_at_least(begun, 5), Measured { used: 5, exact: false });
}

#[test]
fn what_a_measurement_may_have_seen_or_missed_stays_counted_once() {
    // (seen by the measurement, missed by it); the game has 50 bytes.
    for seen in [0, 10] {
        let account = DiskAccount::new(None, 50);
        let begun = account.begin_measurement();
        account.charge(10).unwrap().keep();
        assert_eq!(account.measured(begun, 50 + seen), Measured { used: 60, exact: false });
    }
    // A charge that was open before, of which a part was written.
    for seen in [0, 4, 10] {
        let account = DiskAccount::new(None, 50);
        let charge = account.charge(10).unwrap();
        let begun = account.begin_measurement();
        assert_eq!(account.measured(begun, 50 + seen), Measured { used: 60, exact: false });
        charge.keep();
    }
    // A file that was removed.
    for seen in [0, 10] {
        let account = DiskAccount::new(None, 60);
        let begun = account.begin_measurement();
        account.release(10);
        assert_eq!(account.measured(begun, 50 + seen), Measured { used: 50, exact: false });
    }
}

#[test]
fn what_others_have_written_counts_next_to_writers() {
    let account = DiskAccount::new(Some(100), 50);
    let begun = account.begin_measurement();
    account.charge(10).unwrap().keep();
    // The game wrote 90 bytes.
    assert_eq!(account.measured(begun, 140).used, 140);
    assert!(!account.has_space());
    // The game removed 120 bytes while one more was charged.
    account.set_limit(None);
    let begun = account.begin_measurement();
    account.charge(1).unwrap().keep();
    assert_eq!(account.measured(begun, 20).used, 21);
}

#[test]
fn concurrent_charges_never_pass_the_limit_together() {
    const LIMIT: u64 = 10_000;
    let account = DiskAccount::new(Some(LIMIT), 0);
    let kept: u64 = thread::scope(|scope| {
        let writers: Vec<_> = (1..=8_u64)
            .map(|writer| {
                scope.spawn({
                    let account = account.clone();
                    move || {
                        let mut kept = 0;
                        for turn in 0..5_000_u64 {
                            let bytes = (writer * 7 + turn) % 23;
                            let Ok(mut charge) = account.charge(bytes) else { continue };
                            let grown = charge.grow(writer).is_ok();
                            assert!(account.used() <= LIMIT);
                            match turn % 3 {
                                0 => drop(charge),
                                _ => {
                                    kept += bytes + if grown { writer } else { 0 };
                                    charge.keep();
                                }
                            }
                        }
                        kept
                    }
                })
            })
            .collect();
        writers.into_iter().map(|writer| writer.join().unwrap()).sum()
    });
    assert_eq!(account.used(), kept);
    assert!(kept <= LIMIT && LIMIT - kept < 23, "{kept}");
    assert_eq!(account.books().open, 0);
}

/// What happens to an account and to the disk below it.
#[derive(Debug, Clone)]
enum Happens {
    /// alula writes a file, of which the running measurement sees this part.
    Written { bytes: u64, seen: u64 },
    /// A write fails, and what was written of it is removed.
    Failed { bytes: u64, seen: u64 },
    /// alula removes what it wrote before, up to this many bytes.
    Removed { bytes: u64, seen: bool },
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        (0..1000_u64, 0..1000_u64).prop_map(|(bytes, seen)| Happens::Written { bytes, seen: seen.min(bytes) }),
        (0..1000_u64, 0..1000_u64).prop_map(|(bytes, seen)| Happens::Failed { bytes, seen: seen.min(bytes) }),
        (0..1000_u64, any::<bool>()).prop_map(|(bytes, seen)| Happens::Removed { bytes, seen }),
    ]
}

proptest! {
    /// Where only alula writes, the account is exact, whatever a measurement sees of the writes next to it.
    #[test]
    fn a_measurement_next_to_writers_changes_nothing_that_is_right(
        before in 0..10_000_u64,
        open in 0..1000_u64,
        open_seen in 0..1000_u64,
        events in prop::collection::vec(happens(), 0..20),
    ) {
        let account = DiskAccount::new(None, before);
        let charge = account.charge(open).unwrap();
        let begun = account.begin_measurement();
        let (mut on_disk, mut measured) = (before, before + open_seen.min(open));
        for event in events {
            match event {
                Happens::Written { bytes, seen } => {
                    account.charge(bytes).unwrap().keep();
                    on_disk += bytes;
                    measured += seen;
                }
                Happens::Failed { bytes, seen } => {
                    drop(account.charge(bytes).unwrap());
                    measured += seen;
                }
                Happens::Removed { bytes, seen } => {
                    // Only what was there before: it is measured, or not any more.
                    let bytes = bytes.min(on_disk).min(measured);
                    account.release(bytes);
                    on_disk -= bytes;
                    measured -= if seen { 0 } else { bytes };
                }
            }
        }
        account.measured(begun, measured);
        charge.keep();
        prop_assert_eq!(account.used(), on_disk + open);
    }

    /// Whatever others did, the account is in the range that the measurement allows.
    #[test]
    fn a_measurement_bounds_the_account(before in 0..10_000_u64, charged in 0..1000_u64, released in 0..1000_u64, measured in 0..20_000_u64) {
        let account = DiskAccount::new(None, before);
        let begun = account.begin_measurement();
        account.charge(charged).unwrap().keep();
        account.release(released);
        let used = account.measured(begun, measured).used;
        prop_assert!(used >= measured.saturating_sub(released) && used <= measured + charged);
    }
}
