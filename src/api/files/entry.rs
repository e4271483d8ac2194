//! An entry as the panel reads it.

use std::borrow::Cow;
use std::fmt::Write;
use std::time::SystemTime;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

use crate::files::tree::{Entry, EntryKind};

/// The zone of times in answers.
#[derive(Clone)]
pub struct Zone(TimeZone);

impl Zone {
    /// The zone of the daemon.
    pub fn of_the_daemon() -> Self {
        Self(TimeZone::system())
    }

    /// A time in RFC 3339, with seconds.
    pub fn format(&self, time: SystemTime) -> String {
        let time = Timestamp::try_from(time).unwrap_or(Timestamp::UNIX_EPOCH);
        let offset = self.0.to_offset(time);
        let local = offset.to_datetime(time);
        let mut text = String::with_capacity(25);
        // Writing to a string does not fail.
        let _ = write!(
            text,
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}",
            local.year(),
            local.month(),
            local.day(),
            local.hour(),
            local.minute(),
            local.second()
        );
        let minutes = offset.seconds() / 60;
        let _ = match minutes {
            0 => write!(text, "Z"),
            _ => {
                let sign = if minutes < 0 { '-' } else { '+' };
                write!(text, "{sign}{:02}:{:02}", minutes.abs() / 60, minutes.abs() % 60)
            }
        };
        text
    }
}

/// An entry of a listing.
#[derive(Debug, Serialize)]
pub struct EntryView<'a> {
    name: Cow<'a, str>,
    /// The last change of its attributes.
    created: String,
    modified: String,
    mode: String,
    mode_bits: String,
    size: u64,
    directory: bool,
    file: bool,
    symlink: bool,
    mime: &'static str,
}

impl<'a> EntryView<'a> {
    /// An entry with this name and type.
    pub fn new(name: Cow<'a, str>, entry: &Entry, mime: &'static str, zone: &Zone) -> Self {
        Self {
            name,
            created: zone.format(entry.changed),
            modified: zone.format(entry.modified),
            mode: mode_text(entry),
            mode_bits: format!("{:o}", entry.mode & 0o777),
            size: entry.size,
            directory: entry.is_directory(),
            file: !entry.is_directory(),
            symlink: entry.kind == EntryKind::Symlink,
            mime,
        }
    }
}

/// The mode as Go writes it.
fn mode_text(entry: &Entry) -> String {
    let mut text = String::with_capacity(12);
    text.push_str(match entry.kind {
        EntryKind::Directory => "d",
        EntryKind::Symlink => "L",
        EntryKind::BlockDevice => "D",
        EntryKind::CharacterDevice => "Dc",
        EntryKind::Fifo => "p",
        EntryKind::Socket => "S",
        EntryKind::File => "",
    });
    for (bit, letter) in [(0o4000, 'u'), (0o2000, 'g'), (0o1000, 't')] {
        if entry.mode & bit != 0 {
            text.push(letter);
        }
    }
    if text.is_empty() {
        text.push('-');
    }
    for (position, letter) in "rwxrwxrwx".chars().enumerate() {
        text.push(if entry.mode & (0o400 >> position) != 0 { letter } else { '-' });
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn times_have_the_zone_of_the_daemon() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(1_000_000_000_900);
        let format = |zone: TimeZone| Zone(zone).format(time);
        assert_eq!(format(TimeZone::UTC), "2001-09-09T01:46:40Z");
        assert_eq!(format(TimeZone::fixed(jiff::tz::offset(-3))), "2001-09-08T22:46:40-03:00");
        assert_eq!(Zone(TimeZone::UTC).format(SystemTime::UNIX_EPOCH - Duration::from_secs(1)), "1969-12-31T23:59:59Z");
    }
}
