//! What a merge changes, in order: decided and on disk before the first change.
//!
//! ```text
//! kind [times and mode, for directories] path NUL
//! ```

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::super::FilesError;
use super::super::crash_point::crash_point;
use super::super::user_path::UserPath;
use super::operation::Times;

const FILE: &str = "journal";
const ACTION: &str = "write";

/// The attributes of a directory that a merge changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DirectoryState {
    pub mode: u32,
    pub times: Times,
}

/// One change of the server's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// What is staged, with all that is in it, is put where nothing is.
    Add,
    /// The same where something is, which is kept under the number of the change.
    Replace,
    /// A directory is there and stays. Its attributes become those that are staged, if they were set.
    Keep { before: DirectoryState, after: Option<DirectoryState> },
}

/// Changes with their paths.
pub(super) type Journal = Vec<(Change, UserPath)>;

/// Writes the journal. It is on disk afterwards.
pub(super) fn write(folder: &Path, journal: &Journal) -> Result<(), FilesError> {
    let path = folder.join(FILE);
    let write = || {
        crash_point()?;
        let mut file = BufWriter::new(File::create(&path)?);
        for (change, at) in journal {
            let mut header = String::new();
            match change {
                Change::Add => header.push('a'),
                Change::Replace => header.push('r'),
                Change::Keep { before, after } => {
                    header.push('k');
                    header.push_str(&text(before));
                    header.push_str(&after.as_ref().map_or_else(|| " -".into(), text));
                }
            }
            file.write_all(header.as_bytes())?;
            file.write_all(b"/")?;
            file.write_all(at.as_bytes())?;
            file.write_all(&[0])?;
        }
        file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
    };
    write().map_err(FilesError::disk(ACTION, &path))
}

/// Reads the journal.
pub(super) fn read(folder: &Path) -> Result<Journal, FilesError> {
    let path = folder.join(FILE);
    let read = || {
        let mut journal = Journal::new();
        for line in BufReader::new(File::open(&path)?).split(0) {
            journal.push(parse(&line?).ok_or(io::ErrorKind::InvalidData)?);
        }
        Ok(journal)
    };
    read().map_err(FilesError::disk::<io::Error>("read", &path))
}

fn text(state: &DirectoryState) -> String {
    let ((access, access_ns), (modification, modification_ns)) = state.times;
    format!(" {:o},{access},{access_ns},{modification},{modification_ns}", state.mode)
}

fn parse(line: &[u8]) -> Option<(Change, UserPath)> {
    let end = line.iter().position(|byte| *byte == b'/')?;
    let mut fields = std::str::from_utf8(&line[..end]).ok()?.split(' ');
    let change = match fields.next()? {
        "a" => Change::Add,
        "r" => Change::Replace,
        "k" => {
            let before = state(fields.next()?)?;
            let after = fields.next().filter(|text| *text != "-");
            Change::Keep { before, after: after.map(|text| state(text).ok_or(())).transpose().ok()? }
        }
        _ => return None,
    };
    Some((change, UserPath::parse(OsStr::from_bytes(&line[end + 1..])).ok()?))
}

fn state(text: &str) -> Option<DirectoryState> {
    let mut fields = text.split(',');
    let mode = u32::from_str_radix(fields.next()?, 8).ok()?;
    let mut next = || fields.next()?.parse().ok();
    Some(DirectoryState { mode, times: ((next()?, next()?), (next()?, next()?)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &[u8]| UserPath::parse(OsStr::from_bytes(path)).unwrap();
        let state = |mode, second| DirectoryState { mode, times: ((second, 1), (-second, 999_999_999)) };
        let journal = vec![
            (Change::Keep { before: state(0o700, 5), after: None }, UserPath::root()),
            (Change::Keep { before: state(0o4755, 0), after: Some(state(0o2770, 7)) }, at(b"world")),
            (Change::Add, at(b"world/a b\n\xff,c")),
            (Change::Replace, at(b"a")),
        ];
        write(folder.path(), &journal).unwrap();
        assert_eq!(read(folder.path()).unwrap(), journal);
        std::fs::write(folder.path().join(FILE), b"x/a\0").unwrap();
        assert_eq!(read(folder.path()).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
