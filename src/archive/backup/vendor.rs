//! What only alula reads from an archive: directories, and the files that changed while they were read.
//!
//! | record | value |
//! |---|---|
//! | `ALULA.directories` | `MODE MTIME UID GID LENGTH:PATH,` for each: octal, decimal seconds, decimal; the root is `.` |
//! | `ALULA.changed` | the number of all, `;`, then `KIND LENGTH:PATH,` for each that is listed |
//!
//! A record has at most [`MAX_RECORD`] bytes. Directories are spread over the regular entries as they come. The changes are on the
//! last regular entry, which is one that was read before it was written.

use std::collections::VecDeque;
use std::time::SystemTime;

use strum::{EnumString, IntoStaticStr};

use super::super::header::Meta;
use super::pax::{number, parse_time, time_text};

/// The key of the record of directories.
pub(super) const DIRECTORIES: &str = "ALULA.directories";
/// The key of the record of changes.
pub(super) const CHANGED: &str = "ALULA.changed";

/// The longest value of a record, in bytes.
pub(super) const MAX_RECORD: usize = 512 << 10;

/// From this many bytes on, directories are put into the next regular entry.
const ENOUGH: usize = 64 << 10;

/// The paths of changes that are listed, in bytes. More are only counted.
const MAX_CHANGES: usize = 256 << 10;

/// What happened to a file or directory while it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr, EnumString)]
#[strum(serialize_all = "lowercase")]
pub enum ChangeKind {
    /// It became longer: cut at the length that it had.
    Grew,
    /// It became shorter: filled up with zeros.
    Shrank,
    /// It was written without changing its length, or its attributes were changed.
    Modified,
    /// It was removed. It is complete if it was open, and missing otherwise.
    Vanished,
    /// Names were added to a directory, or removed: new ones may be missing.
    Entries,
    /// Its path is too long for an archive: it is missing.
    TooLong,
}

/// Something that changed while it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The path from the server's directory.
    pub path: Vec<u8>,
    /// What happened.
    pub kind: ChangeKind,
}

/// What changed while an archive was made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// The first ones.
    pub listed: Vec<Change>,
    /// All of them.
    pub count: u64,
    bytes: usize,
}

impl Changes {
    /// Counts a change, and lists it if there is room.
    pub(super) fn add(&mut self, path: &[u8], kind: ChangeKind) {
        self.count += 1;
        let bytes = path.len() + 24;
        if self.bytes + bytes <= MAX_CHANGES {
            self.bytes += bytes;
            self.listed.push(Change { path: path.to_vec(), kind });
        }
    }

    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(super) fn to_record(&self) -> Vec<u8> {
        let mut record = format!("{};", self.count).into_bytes();
        for Change { path, kind } in &self.listed {
            let kind: &str = kind.into();
            record.extend_from_slice(format!("{kind} ").as_bytes());
            add_path(&mut record, path);
        }
        record
    }

    /// Reads a record. `None`: it is damaged.
    pub(super) fn from_record(record: &[u8]) -> Option<Self> {
        let (count, mut rest) = split(record, b';')?;
        let mut changes = Self::default();
        while !rest.is_empty() {
            let (kind, path);
            (kind, rest) = split(rest, b' ')?;
            (path, rest) = take_path(rest)?;
            // A later version may have more kinds.
            let kind = std::str::from_utf8(kind).ok()?.parse().unwrap_or(ChangeKind::Modified);
            changes.add(path, kind);
        }
        changes.count = number(count)?;
        Some(changes)
    }
}

/// Directories that are not written yet.
#[derive(Debug, Default)]
pub(super) struct Directories {
    /// Each within the limit of a record.
    records: VecDeque<Vec<u8>>,
}

impl Directories {
    pub(super) fn add(&mut self, path: &[u8], meta: &Meta) {
        let (uid, gid) = meta.owner.unwrap_or_default();
        let modified = time_text(meta.modified.unwrap_or(SystemTime::UNIX_EPOCH));
        let mut text = format!("{:o} {modified} {uid} {gid} ", meta.mode.unwrap_or(0o755)).into_bytes();
        add_path(&mut text, if path.is_empty() { b"." } else { path });
        match self.records.back_mut() {
            Some(last) if last.len() + text.len() <= MAX_RECORD => last.extend_from_slice(&text),
            _ => self.records.push_back(text),
        }
    }

    /// The record for the next regular entry, if it is worth one.
    pub(super) fn next_if_enough(&mut self) -> Option<Vec<u8>> {
        match self.records.front()?.len() >= ENOUGH {
            true => self.next(),
            false => None,
        }
    }

    /// The record for the last regular entry.
    pub(super) fn next(&mut self) -> Option<Vec<u8>> {
        self.records.pop_front()
    }
}

/// The first directory of a record, with its path, and the rest. `None`: it is damaged.
pub(super) fn next_directory(record: &[u8]) -> Option<(&[u8], Meta, &[u8])> {
    let (mode, rest) = split(record, b' ')?;
    let (modified, rest) = split(rest, b' ')?;
    let (uid, rest) = split(rest, b' ')?;
    let (gid, rest) = split(rest, b' ')?;
    let (path, rest) = take_path(rest)?;
    let mode = u32::from_str_radix(std::str::from_utf8(mode).ok()?, 8).ok()?;
    let meta = Meta { mode: Some(mode), modified: parse_time(modified), owner: Some((number(uid)?, number(gid)?)) };
    Some((path, meta, rest))
}

fn add_path(record: &mut Vec<u8>, path: &[u8]) {
    record.extend_from_slice(format!("{}:", path.len()).as_bytes());
    record.extend_from_slice(path);
    record.push(b',');
}

fn take_path(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = split(text, b':')?;
    let (path, rest) = rest.split_at_checked(number(length)?)?;
    Some((path, rest.strip_prefix(b",")?))
}

fn split(text: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let end = text.iter().take(40).position(|byte| *byte == at)?;
    Some((&text[..end], &text[end + 1..]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn changes_are_read_as_they_were_written() {
        let mut changes = Changes::default();
        changes.add(b"a,b\n\xff", ChangeKind::Grew);
        changes.add(b"d", ChangeKind::TooLong);
        assert_eq!(Changes::from_record(&changes.to_record()), Some(changes.clone()));
        for _ in 0..100_000 {
            changes.add(&[b'x'; 100], ChangeKind::Modified);
        }
        assert!(changes.to_record().len() < MAX_RECORD && changes.listed.len() > 1000);
        let read = Changes::from_record(&changes.to_record()).unwrap();
        assert_eq!((read.count, &read), (100_002, &changes));
    }

    #[test]
    fn directories_fill_records() {
        let mut directories = Directories::default();
        let meta = Meta { mode: Some(0o2755), modified: Some(SystemTime::UNIX_EPOCH), owner: Some((1, 4_000_000)) };
        let name = |number: usize| format!("{number:0100}").into_bytes();
        for number in 0..10_000 {
            directories.add(&name(number), &meta);
        }
        let mut number = 0;
        while let Some(record) = directories.next() {
            assert!(record.len() <= MAX_RECORD);
            let mut rest = record.as_slice();
            while !rest.is_empty() {
                let (path, found, after) = next_directory(rest).unwrap();
                assert_eq!((path, found), (name(number).as_slice(), meta));
                (number, rest) = (number + 1, after);
            }
        }
        assert_eq!(number, 10_000);
    }

    proptest! {
        #[test]
        fn damaged_records_do_not_panic(
            bytes in prop::collection::vec(prop_oneof![any::<u8>(), prop::sample::select(b"0179:, ;grew".to_vec())], 0..64),
        ) {
            let _ = Changes::from_record(&bytes);
            let _ = next_directory(&bytes);
        }
    }
}
