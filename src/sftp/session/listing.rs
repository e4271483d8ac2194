//! Lines of a listing, as `ls -l` prints them: clients show them to people.

use std::os::unix::ffi::OsStrExt;
use std::time::SystemTime;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::attributes::kind_bits;
use crate::files::tree::{Entry, EntryKind};

/// Times that are further away are shown with the year: about half a year, in seconds.
const RECENT: i64 = 180 * 24 * 3600;

/// The line of an entry.
pub fn line(entry: &Entry, zone: &TimeZone) -> Vec<u8> {
    let Entry { kind, mode, links, uid, gid, size, .. } = entry;
    let (mode, time) = (permissions(*kind, *mode), time(entry.modified, zone));
    let mut line = format!("{mode} {links:>4} {uid:<8} {gid:<8} {size:>12} {time} ").into_bytes();
    line.extend_from_slice(entry.name.as_bytes());
    line
}

fn permissions(kind: EntryKind, mode: u32) -> String {
    let first = match kind_bits(kind) {
        0o040_000 => 'd',
        0o120_000 => 'l',
        0o010_000 => 'p',
        0o140_000 => 's',
        0o060_000 => 'b',
        0o020_000 => 'c',
        _ => '-',
    };
    let bit = |(position, letter): (u32, char)| if mode & (0o400 >> position) != 0 { letter } else { '-' };
    std::iter::once(first).chain((0..9).zip("rwxrwxrwx".chars()).map(bit)).collect()
}

fn time(time: SystemTime, zone: &TimeZone) -> String {
    let Ok(time) = Timestamp::try_from(time) else { return "-".to_owned() };
    let age = Timestamp::now().as_second() - time.as_second();
    let format = if (0..RECENT).contains(&age) { "%b %e %H:%M" } else { "%b %e  %Y" };
    time.to_zoned(zone.clone()).strftime(format).to_string()
}
