//! Logs read in pieces, however long they are. Everything here blocks.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;

/// Bytes that are read at a time.
const PIECE: usize = 64 * 1024;

/// A log that is read from some position on.
#[derive(Debug)]
pub struct LogReader {
    file: File,
    /// What is read next.
    at: u64,
    /// Where reading ends: here, or where the file does.
    end: Option<u64>,
}

impl LogReader {
    /// Opens a log; `None` where there is none.
    ///
    /// # Errors
    /// It cannot be opened, or is no regular file.
    pub fn open(path: &Path) -> io::Result<Option<Self>> {
        match open_regular(OpenOptions::new().read(true), path) {
            Ok(file) => Ok(Some(Self::new(file, 0))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads an open file from this position on.
    pub(super) fn new(file: File, at: u64) -> Self {
        Self { file, at, end: None }
    }

    /// Leaves out what is added to the file from now on.
    ///
    /// # Errors
    /// The file's length cannot be had.
    pub fn end_here(&mut self) -> io::Result<()> {
        self.end = Some(self.file.metadata()?.len());
        Ok(())
    }

    /// Leaves out what comes before the last lines. A line that has no end yet counts.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn skip_to_last(&mut self, lines: u64) -> io::Result<()> {
        let end = match self.end {
            Some(end) => end,
            None => self.file.metadata()?.len(),
        };
        let (mut left, mut before) = (lines, end.max(self.at));
        if lines == 0 {
            self.at = before;
        }
        let mut buffer = vec![0; PIECE];
        while before > self.at {
            let length = usize::try_from(before - self.at).unwrap_or(PIECE).min(PIECE);
            let from = before - length as u64;
            let piece = &mut buffer[..length];
            self.file.read_exact_at(piece, from)?;
            for (index, _) in piece.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
                let next = from + index as u64 + 1;
                // The last byte ends the last line.
                if next == end {
                    continue;
                }
                left = left.saturating_sub(1);
                if left == 0 {
                    self.at = next;
                    return Ok(());
                }
            }
            before = from;
        }
        Ok(())
    }

    /// The next bytes; none where reading ends. What is added to the file later can be read then.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn next_piece(&mut self) -> io::Result<Vec<u8>> {
        let room = self.end.map_or(PIECE as u64, |end| end.saturating_sub(self.at));
        let mut piece = vec![0; usize::try_from(room).unwrap_or(PIECE).min(PIECE)];
        let read = read_at_most(&self.file, &mut piece, self.at)?;
        piece.truncate(read);
        self.at += read as u64;
        Ok(piece)
    }

    /// Whether `path` is another file by now, or none.
    pub fn was_replaced(&self, path: &Path) -> bool {
        let identity = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
        let now = path.metadata().map(identity).ok();
        now != self.file.metadata().map(identity).ok()
    }
}

/// Opens a file that is one: no FIFO that a reader waits at.
pub(super) fn open_regular(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or(0);
    let file = options.custom_flags(flags).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("it is no regular file; move it away")),
    }
}

/// Reads until the buffer is full or the file ends.
pub(super) fn read_at_most(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut read = 0;
    while read < buffer.len() {
        match file.read_at(&mut buffer[read..], offset + read as u64) {
            Ok(0) => break,
            Ok(more) => read += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use super::*;

    /// What is read of a log with this text, of its last lines.
    fn tail(text: &str, lines: u64) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        fs::write(&path, text).unwrap();
        let mut reader = LogReader::open(&path).unwrap().unwrap();
        reader.end_here().unwrap();
        reader.skip_to_last(lines).unwrap();
        read(&mut reader)
    }

    fn read(reader: &mut LogReader) -> String {
        let pieces = std::iter::from_fn(|| Some(reader.next_piece().unwrap()).filter(|piece| !piece.is_empty()));
        String::from_utf8(pieces.flatten().collect()).unwrap()
    }

    #[test]
    fn the_last_lines_are_found() {
        for (text, lines, expected) in [
            ("a\nb\nc\n", 2, "b\nc\n"),
            ("a\nb\nc", 2, "b\nc"),
            ("a\nb\nc\n", 3, "a\nb\nc\n"),
            ("a\nb\nc\n", 9, "a\nb\nc\n"),
            ("a\n\n\n", 2, "\n\n"),
            ("a\nb\n", 0, ""),
            ("", 3, ""),
            ("\n", 1, "\n"),
        ] {
            assert_eq!(tail(text, lines), expected, "{text:?}, {lines}");
        }
        let line = "x".repeat(PIECE / 3) + "\n";
        assert_eq!(tail(&line.repeat(10), 7), line.repeat(7), "over several pieces");
        let exact = "x".repeat(PIECE - 1) + "\n";
        assert_eq!(tail(&exact.repeat(3), 2), exact.repeat(2), "a line ends where a piece does");
    }

    #[test]
    fn what_is_added_is_read_later_or_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        assert!(LogReader::open(&path).unwrap().is_none());
        fs::write(&path, "a\n").unwrap();
        let (mut follows, mut ends) =
            (LogReader::open(&path).unwrap().unwrap(), LogReader::open(&path).unwrap().unwrap());
        ends.end_here().unwrap();
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        assert_eq!(read(&mut follows), "a\n");
        file.write_all(b"b\n").unwrap();
        assert_eq!((read(&mut follows), read(&mut ends)), ("b\n".to_owned(), "a\n".to_owned()));
        assert!(!follows.was_replaced(&path));
        fs::write(folder.path().join("new"), "c\n").unwrap();
        fs::rename(folder.path().join("new"), &path).unwrap();
        assert!(follows.was_replaced(&path));
        assert!(LogReader::open(folder.path()).is_err(), "a folder is no log");
    }
}
