//! An entry of an archive, the same for all formats.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What an archive says about an entry besides its name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Meta {
    /// Permission bits, if the format has them.
    pub mode: Option<u32>,
    /// When the content was changed.
    pub modified: Option<SystemTime>,
    /// The numeric owner and group. Written into backups; what is unpacked belongs to the server.
    pub owner: Option<(u32, u32)>,
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content<'a> {
    /// A directory.
    Directory,
    /// A regular file, of this size if the archive declares it.
    File(Option<u64>),
    /// A symbolic link with this text.
    Symlink(&'a [u8]),
    /// Another name of the entry with this name.
    HardLink(&'a [u8]),
    /// A device, a pipe or a socket.
    Special,
}

/// An entry of an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header<'a> {
    /// The name as stored, with `/` between the names of directories.
    pub name: &'a [u8],
    /// What it is.
    pub content: Content<'a>,
    /// Mode and time.
    pub meta: Meta,
}

/// Seconds since 1970.
pub(super) fn seconds(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
        Err(before) => -i64::try_from(before.duration().as_secs()).unwrap_or(i64::MAX),
    }
}

/// The time so many seconds after 1970. `None` if the system cannot represent it.
pub(super) fn time(seconds: i64, nanoseconds: u32) -> Option<SystemTime> {
    let distance = Duration::from_secs(seconds.unsigned_abs());
    let whole = if seconds < 0 { UNIX_EPOCH.checked_sub(distance) } else { UNIX_EPOCH.checked_add(distance) };
    whole?.checked_add(Duration::from_nanos(nanoseconds.into()))
}
