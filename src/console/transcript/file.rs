//! The transcript's files: batches in, the last lines of a container out. Everything here blocks.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::{ANCHOR, POSITION_FILE, Rules, TRANSCRIPT_FILE, line_hash};

/// Bytes at the end of the transcript in which a container's last lines are looked for.
const TAIL: u64 = 64 * 1024;

/// Lines on their way to the disk.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    lines: u64,
    /// Lines that were dropped before these.
    lost_before: u64,
    /// Lines that were dropped after these.
    lost_after: u64,
    /// Where in the bytes another container's lines begin.
    mark: Option<usize>,
}

impl Batch {
    /// Adds a line, or counts it where there is no room left.
    pub fn add(&mut self, line: &[u8], room: usize) {
        // Nothing is added after a gap, so that the gap has one place.
        if self.lost_after > 0 || self.bytes.len() + line.len() + 1 >= room {
            self.lost_after += 1;
            return;
        }
        self.end_line();
        self.bytes.extend_from_slice(line);
        self.bytes.push(b'\n');
        self.lines += 1;
    }

    /// Adds the beginning of a line, if there is room.
    pub fn add_unfinished(&mut self, piece: &[u8], room: usize) {
        if self.lost_after == 0 && self.bytes.len() + piece.len() + 1 < room {
            self.end_line();
            self.bytes.extend_from_slice(piece);
        }
    }

    fn end_line(&mut self) {
        if self.bytes.last().is_some_and(|byte| *byte != b'\n') {
            self.bytes.push(b'\n');
        }
    }

    /// Writes down what is missing so far, so that lines can follow.
    pub fn close_gap(&mut self, rules: &Rules) {
        let gap = gap(std::mem::take(&mut self.lost_after), rules);
        self.end_line();
        self.bytes.extend_from_slice(gap.as_bytes());
    }

    /// What comes from now on is another container's.
    pub fn mark(&mut self) {
        self.end_line();
        self.mark = Some(self.bytes.len());
    }

    /// Takes note that an earlier batch could not be written.
    pub fn follow_lost(&mut self, lost: &Batch) {
        self.lost_before += lost.lines + lost.lost();
        if lost.mark.is_some() {
            self.mark.get_or_insert(0);
        }
    }

    /// Lines that are missing around these.
    pub fn lost(&self) -> u64 {
        self.lost_before + self.lost_after
    }

    /// The bytes that wait.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

/// Appends a batch of a container's lines. After an error nothing of it is there.
pub fn append(folder: &Path, container: Option<&str>, batch: &Batch, rules: &Rules) -> io::Result<()> {
    // The server's own folder has to be there: that of a deleted server must not come back.
    match DirBuilder::new().mode(0o750).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let path = folder.join(TRANSCRIPT_FILE);
    let mut file = open(&path)?;
    let mut size = file.metadata()?.len();
    let full = size > 0 && size + batch.bytes.len() as u64 > rules.max_bytes;
    if full {
        rotate(folder, rules.max_files)?;
        file = open(&path)?;
        size = 0;
    }
    // A line without an end was cut off, by a crash of the host or by the end of a connection.
    let ending = if size > 0 && last_byte(&file, size)? != b'\n' { "\n" } else { "" };
    let before = format!("{ending}{}", gap(batch.lost_before, rules));
    let after = gap(batch.lost_after, rules);
    // The position is written first: a position behind the end is valid, an outdated one is not.
    let begin = batch.mark.map(|mark| size + (before.len() + mark) as u64).or(full.then_some(0));
    if let (Some(container), Some(begin)) = (container, begin) {
        fs::write(folder.join(POSITION_FILE), format!("{container} {begin}\n"))?;
    }
    let written = [before.as_bytes(), &batch.bytes, after.as_bytes()].iter().try_for_each(|part| file.write_all(part));
    if written.is_err() {
        // Remove a partial line. The first error is the one to return.
        let _ = file.set_len(size);
    }
    written
}

fn gap(lines: u64, rules: &Rules) -> String {
    match lines {
        0 => String::new(),
        lines => format!("{}{lines} lines are missing here: they could not be written to disk\n", rules.daemon),
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).append(true).create(true).mode(0o640).open(path)
}

fn last_byte(file: &File, size: u64) -> io::Result<u8> {
    let mut byte = [0];
    file.read_exact_at(&mut byte, size - 1)?;
    Ok(byte[0])
}

/// Moves each file to the next number; the oldest go.
fn rotate(folder: &Path, files: u32) -> io::Result<()> {
    let numbered = |number: u32| -> PathBuf {
        match number {
            0 => folder.join(TRANSCRIPT_FILE),
            number => folder.join(format!("{TRANSCRIPT_FILE}.{number}")),
        }
    };
    let last = files.max(1) - 1;
    // More than the last one only where fewer are kept than once were.
    for number in last.. {
        match fs::remove_file(numbered(number)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && number > last => break,
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    for number in (0..last).rev() {
        match fs::rename(numbered(number), numbered(number + 1)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// The hashes of the last lines that the transcript has of a container; `None` if its end is from another one.
pub fn last_lines(folder: &Path, container: &str, rules: &Rules) -> Option<Vec<u64>> {
    let note = fs::read_to_string(folder.join(POSITION_FILE)).ok()?;
    let (noted, begin) = note.trim_end().split_once(' ')?;
    let begin: u64 = begin.parse().ok()?;
    if noted != container {
        return None;
    }
    let mut file = File::open(folder.join(TRANSCRIPT_FILE)).ok()?;
    let size = file.metadata().ok()?.len();
    let from = begin.max(size.saturating_sub(TAIL));
    let mut tail = Vec::new();
    file.seek(SeekFrom::Start(from)).ok()?;
    file.take(TAIL).read_to_end(&mut tail).ok()?;
    let mut lines: Vec<&[u8]> = tail.split(|byte| *byte == b'\n').collect();
    // What follows the last line's end: nothing, or a line that was cut off by a crash of the host.
    lines.pop();
    let complete = if from > begin && !lines.is_empty() { &lines[1..] } else { &lines[..] };
    let printed = complete.iter().filter(|line| !line.starts_with(rules.daemon.as_bytes()));
    let mut last: Vec<u64> = printed.rev().take(ANCHOR).map(|line| line_hash(line)).collect();
    last.reverse();
    Some(last)
}
