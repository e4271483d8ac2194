//! The queue on disk: rows in the order in which they were appended, one JSON text a line, in files of bounded size.
//!
//! A file is named by the number of its first row, and is appended to by one process only: a crash can tear the last line of a file,
//! which is never read. The file `sent` has the number of the first row that the panel has not acknowledged. Rows beyond
//! [`MAX_BYTES`] displace the oldest file.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, ErrorKind, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde_json::value::RawValue;

use crate::atomic;

/// Size at which a new file is begun, bytes.
const FILE_BYTES: u64 = 1 << 20;
/// The most bytes of all files: some 250,000 rows.
pub(super) const MAX_BYTES: u64 = 64 << 20;
/// The most bytes of a batch. Web servers limit the body of a request, to 1 MiB by default.
const BATCH_BYTES: usize = 512 << 10;
/// The file with the number of the first row that is not sent.
const SENT: &str = "sent";
/// What follows a row's number in the name of a file.
const SUFFIX: &str = ".jsonl";

/// The queue of one node. Its methods use the disk.
#[derive(Debug)]
pub(super) struct Queue {
    folder: PathBuf,
    files: VecDeque<RowFile>,
    /// The newest file, if this process has created it.
    open: Option<File>,
    /// The first row that is not acknowledged, in the first file.
    sent: Position,
    /// The number of the next row.
    next: u64,
    max_bytes: u64,
}

/// A file of rows.
#[derive(Debug)]
struct RowFile {
    /// The number of its first row.
    first: u64,
    /// The size of its complete rows.
    bytes: u64,
}

/// A row, by its number and by its offset in its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    row: u64,
    offset: u64,
}

/// A row that is not acknowledged.
pub(super) struct Stored {
    /// The row as the panel gets it.
    pub(super) json: Box<RawValue>,
    /// Where the next row is.
    pub(super) end: Position,
}

impl Queue {
    /// Opens the queue in a folder, which is created if it is missing. What cannot be read is left out, with a log line.
    pub(super) fn open(folder: PathBuf) -> Self {
        let mut queue = Self {
            folder,
            files: VecDeque::new(),
            open: None,
            sent: Position { row: 0, offset: 0 },
            next: 0,
            max_bytes: MAX_BYTES,
        };
        if let Err(error) = queue.read_folder() {
            tracing::error!(folder = %queue.folder.display(), %error, "cannot read the queue of activity");
        }
        queue
    }

    fn read_folder(&mut self) -> io::Result<()> {
        atomic::create_private(&self.folder)?;
        atomic::clean_leftovers(&self.folder, |name| name == SENT)?;
        let mut numbers = Vec::new();
        for entry in std::fs::read_dir(&self.folder)? {
            numbers.extend(entry?.file_name().to_str().and_then(number_of));
        }
        numbers.sort_unstable();
        // A damaged number counts as none: rows are sent twice rather than never.
        let sent = match std::fs::read(self.folder.join(SENT)) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).trim().parse().unwrap_or(0),
            Err(error) if error.kind() == ErrorKind::NotFound => 0,
            Err(error) => return Err(error),
        };
        self.next = sent;
        for first in numbers {
            let (rows, bytes) = match complete(&self.path(first)) {
                Ok(found) => found,
                Err(error) => {
                    tracing::error!(path = %self.path(first).display(), %error, "cannot read rows of activity; they are left out");
                    // Its name is taken.
                    self.next = self.next.max(first.saturating_add(1));
                    continue;
                }
            };
            if rows == 0 || first.saturating_add(rows) <= sent {
                self.remove(first);
            } else {
                self.files.push_back(RowFile { first, bytes });
            }
            self.next = self.next.max(first.saturating_add(rows));
        }
        let first = self.files.front().map_or(sent, |file| file.first.max(sent));
        self.sent = Position { row: first, offset: self.offset_of(first)? };
        Ok(())
    }

    /// The offset of a row in the first file.
    fn offset_of(&self, row: u64) -> io::Result<u64> {
        let Some(file) = self.files.front() else { return Ok(0) };
        let mut lines = BufReader::new(File::open(self.path(file.first))?);
        let mut offset = 0;
        for _ in file.first..row {
            offset += lines.skip_until(b'\n')? as u64;
        }
        Ok(offset)
    }

    fn path(&self, first: u64) -> PathBuf {
        self.folder.join(format!("{first:020}{SUFFIX}"))
    }

    /// Whether every row is acknowledged.
    pub(super) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Appends rows, each of them a line, and brings them to disk. Returns how many of the oldest rows they displaced.
    ///
    /// # Errors
    /// The disk's error. None of the rows is in the queue then.
    pub(super) fn append(&mut self, rows: &[String]) -> io::Result<u64> {
        if self.open.is_none() || self.files.back().is_none_or(|file| file.bytes >= FILE_BYTES) {
            self.begin_file()?;
        }
        let (Some(file), Some(last)) = (&mut self.open, self.files.back_mut()) else { return Ok(0) };
        let bytes = rows.concat();
        if let Err(error) = file.write_all(bytes.as_bytes()).and_then(|()| file.sync_data()) {
            self.give_up_file();
            return Err(error);
        }
        last.bytes += bytes.len() as u64;
        self.next += rows.len() as u64;
        Ok(self.displace())
    }

    fn begin_file(&mut self) -> io::Result<()> {
        // Also after a person removed it.
        atomic::create_private(&self.folder)?;
        let path = self.path(self.next);
        let file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(&path)?;
        if let Err(error) = atomic::sync_folder(&self.folder) {
            let _ = std::fs::remove_file(&path);
            return Err(error.into());
        }
        self.open = Some(file);
        self.files.push_back(RowFile { first: self.next, bytes: 0 });
        if self.files.len() == 1 {
            self.sent = Position { row: self.next, offset: 0 };
        }
        Ok(())
    }

    /// After an error of the newest file: cuts off what may be there of the last rows, and appends to another file from now on.
    fn give_up_file(&mut self) {
        let (Some(file), Some(last)) = (self.open.take(), self.files.back()) else { return };
        let (first, bytes) = (last.first, last.bytes);
        if bytes == 0 {
            self.files.pop_back();
            self.remove(first);
        } else if let Err(error) = file.set_len(bytes) {
            tracing::warn!(folder = %self.folder.display(), %error, "cannot cut off an incomplete row of activity");
        }
    }

    /// Removes the oldest files while all of them are too large. Returns the number of rows that were not sent.
    fn displace(&mut self) -> u64 {
        let mut displaced = 0;
        while self.files.len() > 1 && self.files.iter().map(|file| file.bytes).sum::<u64>() > self.max_bytes {
            let next = self.files[1].first;
            displaced += next - self.sent.row;
            self.remove_first(next);
        }
        displaced
    }

    /// Removes the first file; `next` is the row after it.
    fn remove_first(&mut self, next: u64) {
        if let Some(file) = self.files.pop_front() {
            self.remove(file.first);
        }
        if self.files.is_empty() {
            self.open = None;
        }
        self.sent = Position { row: next, offset: 0 };
    }

    fn remove(&self, first: u64) {
        let path = self.path(first);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                tracing::warn!(path = %path.display(), %error, "cannot remove activity that was sent");
            }
            _ => {}
        }
    }

    /// The first rows that are not acknowledged, at most `max` of them. A line that is no row is left out.
    ///
    /// # Errors
    /// The disk's error.
    pub(super) fn peek(&mut self, max: usize) -> io::Result<Vec<Stored>> {
        let mut batch = Batch { rows: Vec::new(), bytes: 0, max, end: self.sent };
        let mut missing = Vec::new();
        for (index, file) in self.files.iter().enumerate() {
            let next = self.files.get(index + 1).map_or(self.next, |file| file.first);
            let offset = if index == 0 { self.sent.offset } else { 0 };
            batch.end = Position { row: file.first.max(self.sent.row), offset };
            match File::open(self.path(file.first)) {
                Ok(rows) => batch.read(rows, file.bytes)?,
                Err(error) if error.kind() == ErrorKind::NotFound => missing.push(file.first),
                Err(error) => return Err(error),
            }
            if batch.is_full() {
                break;
            }
            batch.end = Position { row: next, offset: 0 };
        }
        if !missing.is_empty() {
            tracing::warn!(folder = %self.folder.display(), files = missing.len(), "files of activity were removed");
        }
        if batch.rows.is_empty() {
            // What is left of the files is damaged or gone.
            self.acknowledge(batch.end);
        }
        Ok(batch.rows)
    }

    /// The panel has the rows before `end`, or never takes them.
    pub(super) fn acknowledge(&mut self, end: Position) {
        if end.row <= self.sent.row {
            // Displaced meanwhile, or nothing.
            return;
        }
        while let Some(next) = (!self.files.is_empty()).then(|| self.files.get(1).map_or(self.next, |file| file.first))
            && next <= end.row
        {
            self.remove_first(next);
        }
        if end.row > self.sent.row {
            self.sent = end;
        }
        let text = format!("{}\n", self.sent.row);
        if let Err(error) = atomic::write_file(&self.folder.join(SENT), text.as_bytes(), 0o600) {
            tracing::warn!(%error, "cannot record which activity was sent; after a crash some of it is sent again");
        }
    }
}

/// Rows that are read for the panel.
struct Batch {
    rows: Vec<Stored>,
    bytes: usize,
    max: usize,
    /// Where the reading goes on.
    end: Position,
}

impl Batch {
    fn is_full(&self) -> bool {
        self.rows.len() >= self.max.max(1) || self.bytes >= BATCH_BYTES
    }

    /// Reads rows of a file from `end` on; its complete rows have `size` bytes.
    fn read(&mut self, mut file: File, size: u64) -> io::Result<()> {
        file.seek(SeekFrom::Start(self.end.offset))?;
        let mut lines = BufReader::new(file);
        let mut line = Vec::new();
        while !self.is_full() && self.end.offset < size {
            line.clear();
            let length = lines.read_until(b'\n', &mut line)?;
            if !line.ends_with(b"\n") {
                break;
            }
            self.bytes += length;
            self.end = Position { row: self.end.row + 1, offset: self.end.offset + length as u64 };
            match serde_json::from_slice(&line) {
                Ok(json) => self.rows.push(Stored { json, end: self.end }),
                Err(error) => tracing::warn!(%error, "a row of activity is damaged and left out"),
            }
        }
        Ok(())
    }
}

/// The number of the first row of a file with this name.
fn number_of(name: &str) -> Option<u64> {
    name.strip_suffix(SUFFIX).filter(|digits| digits.len() == 20)?.parse().ok()
}

/// The number of complete lines of a file, and their size.
fn complete(path: &Path) -> io::Result<(u64, u64)> {
    let mut lines = BufReader::new(File::open(path)?);
    let (mut count, mut bytes, mut line) = (0, 0, Vec::new());
    while lines.read_until(b'\n', &mut line)? > 0 {
        if line.ends_with(b"\n") {
            count += 1;
            bytes += line.len() as u64;
        }
        line.clear();
    }
    Ok((count, bytes))
}

#[cfg(test)]
mod tests;
