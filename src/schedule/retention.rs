//! Which backups of a schedule are removed. Only what the schedule has made itself is a candidate.

use std::collections::BTreeSet;

use jiff::Zoned;
use jiff::tz::TimeZone;
use uuid::Uuid;

use crate::model::{Backup, BackupStorage, Requester, Timestamp};

/// How many backups are kept. Each rule keeps the latest backup of each of its latest periods; the latest backup is always kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct Keep {
    pub last: u32,
    pub daily: u32,
    pub weekly: u32,
    pub monthly: u32,
}

impl Keep {
    /// Whether there is no rule: all are kept.
    pub fn is_everything(&self) -> bool {
        *self == Self::default()
    }
}

/// The backups of a schedule that no rule keeps. `in_use` is one that is being restored.
///
/// Neither the latest success, nor a backup of another origin, a detached, a damaged or an unfinished one is among them. Failed
/// attempts that are older than the latest success are.
pub fn surplus(
    keep: Keep,
    schedule: &str,
    backups: &[Backup],
    in_use: Option<Uuid>,
    zone: &TimeZone,
) -> BTreeSet<Uuid> {
    let own = |backup: &&Backup| is_of(backup, schedule);
    let mut good: Vec<&Backup> = backups.iter().filter(own).filter(|backup| is_good(backup)).collect();
    // Latest first. The order of the list decides between those of the same time.
    good.reverse();
    good.sort_by_key(|backup| std::cmp::Reverse(backup.at));
    let Some(latest) = good.first() else { return BTreeSet::new() };
    let failed = backups.iter().filter(own).filter(|backup| has_failed(backup) && backup.at <= latest.at);
    let mut surplus: BTreeSet<Uuid> = failed.map(|backup| backup.id).collect();
    if !keep.is_everything() {
        let kept = kept(keep, &good, zone);
        surplus.extend(good.iter().map(|backup| backup.id).filter(|id| !kept.contains(id)));
    }
    surplus.retain(|id| Some(*id) != in_use);
    surplus
}

fn is_of(backup: &Backup, schedule: &str) -> bool {
    backup.by == Requester::Schedule
        && backup.schedule.as_deref() == Some(schedule)
        && backup.storage == BackupStorage::Local
        && !backup.detached
        && !backup.deleting
}

fn is_good(backup: &Backup) -> bool {
    backup.archive.is_some() && backup.result.as_ref().is_some_and(|result| result.succeeded) && !backup.is_damaged()
}

fn has_failed(backup: &Backup) -> bool {
    backup.result.as_ref().is_some_and(|result| !result.succeeded) && !backup.is_damaged()
}

/// Names the period of a time: the year, and its number in that year.
type Period<'a> = &'a dyn Fn(&Zoned) -> (i32, i32);

/// Those that a rule keeps, of the latest first.
fn kept(keep: Keep, good: &[&Backup], zone: &TimeZone) -> BTreeSet<Uuid> {
    let mut kept: BTreeSet<Uuid> = good.iter().take(keep.last.max(1) as usize).map(|backup| backup.id).collect();
    let local = |at: Timestamp| {
        let at = jiff::Timestamp::from_millisecond(at.as_millis()).unwrap_or_default();
        at.to_zoned(zone.clone())
    };
    let day = |at: &Zoned| (i32::from(at.year()), i32::from(at.day_of_year()));
    let week = |at: &Zoned| (i32::from(at.date().iso_week_date().year()), i32::from(at.date().iso_week_date().week()));
    let month = |at: &Zoned| (i32::from(at.year()), i32::from(at.month()));
    let rules: [(u32, Period<'_>); 3] = [(keep.daily, &day), (keep.weekly, &week), (keep.monthly, &month)];
    for (periods, period) in rules {
        let mut seen = BTreeSet::new();
        for backup in good {
            let period = period(&local(backup.at));
            if seen.len() < periods as usize && seen.insert(period) {
                kept.insert(backup.id);
            }
        }
    }
    kept
}

#[cfg(test)]
mod tests;
