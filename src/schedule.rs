//! Schedules of backups: when one is due, for which servers, and which of its backups are kept ([`retention`]). Pure.

pub mod retention;

use std::collections::BTreeMap;

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::tz::TimeZone;

use crate::model::{ServerId, Timestamp};
use retention::Keep;

/// Backups that are made by time.
#[derive(Debug, Clone, PartialEq)]
pub struct BackupSchedule {
    /// Unique on the node. The backups of the schedule have it in the record.
    pub name: String,
    /// The servers that it is for.
    pub selector: Selector,
    /// When they are made.
    pub times: Times,
    /// Which of them are kept.
    pub keep: Keep,
}

/// Which servers a schedule is for: those that satisfy all of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selector {
    /// UUIDs or names of servers; any server if there are none.
    pub servers: Vec<String>,
    /// Labels of the manifest, each with its value.
    pub labels: BTreeMap<String, String>,
}

impl Selector {
    /// Whether a server is selected.
    pub fn selects(&self, id: ServerId, name: &str, labels: &BTreeMap<String, String>) -> bool {
        let id = id.to_string();
        let named = |wanted: &String| wanted.eq_ignore_ascii_case(&id) || (wanted == name && !name.is_empty());
        (self.servers.is_empty() || self.servers.iter().any(named))
            && self.labels.iter().all(|(key, value)| labels.get(key) == Some(value))
    }
}

/// Times, by a crontab expression.
#[derive(Debug, Clone, PartialEq)]
pub struct Times {
    crontab: Cron,
    zone: TimeZone,
}

/// Fields of an expression without a timezone.
const FIELDS: usize = 5;

impl Times {
    /// Parses an expression of five fields, such as `0 4 * * *`, in a timezone of the database. A sixth field is another timezone.
    ///
    /// # Errors
    /// What is wrong with it, or that it names no time at all.
    pub fn parse(text: &str, timezone: &str) -> Result<Self, String> {
        let fields: Vec<&str> = text.split_whitespace().collect();
        let (times, zone) = match fields.as_slice() {
            [times @ .., zone] if times.len() == FIELDS => (times, *zone),
            times => (times, timezone),
        };
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let crontab = parser.parse(&times.join(" ")).map_err(|error| error.to_string())?;
        let zone = TimeZone::get(zone).map_err(|_| format!("{zone:?} is not in the timezone database"))?;
        let times = Self { crontab, zone };
        match times.next_after(Timestamp::default()) {
            Some(_) => Ok(times),
            None => Err("no day has such a time".to_owned()),
        }
    }

    /// The first time after another one, if there is any.
    pub fn next_after(&self, at: Timestamp) -> Option<Timestamp> {
        let at = jiff::Timestamp::from_millisecond(at.as_millis()).ok()?.to_zoned(self.zone.clone());
        let next = self.crontab.find_next_occurrence(&at, false).ok()?;
        Some(Timestamp::from_millis(next.timestamp().as_millisecond()))
    }

    /// Whether a time has come since those through `handled` were handled. Several that were missed count once.
    pub fn is_due(&self, handled: Timestamp, now: Timestamp) -> bool {
        // A clock that was set back hides no time.
        self.next_after(handled.min(now)).is_some_and(|next| next <= now)
    }

    /// The timezone whose days count.
    pub fn zone(&self) -> &TimeZone {
        &self.zone
    }
}

#[cfg(test)]
mod tests;
