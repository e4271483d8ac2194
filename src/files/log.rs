//! Reads logs of any length in pieces. All functions block.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;

/// Bytes that are read at a time.
const PIECE: usize = 64 * 1024;

/// Reads a log from a position.
#[derive(Debug)]
pub struct LogReader {
    file: File,
    /// The position of the next piece.
    at: u64,
    /// Where reading ends, if not at the end of the file.
    end: Option<u64>,
}

impl LogReader {
    /// Opens a log; `None` if it does not exist.
    ///
    /// # Errors
    /// It cannot be opened, or is not a regular file.
    pub fn open(path: &Path) -> io::Result<Option<Self>> {
        match open_regular(OpenOptions::new().read(true), path) {
            Ok(file) => Ok(Some(Self::new(file, 0))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads an open file from this position.
    pub(super) fn new(file: File, at: u64) -> Self {
        Self { file, at, end: None }
    }

    /// Sets the end to the current length of the file.
    ///
    /// # Errors
    /// The length cannot be read.
    pub fn end_here(&mut self) -> io::Result<()> {
        self.end = Some(self.file.metadata()?.len());
        Ok(())
    }

    /// Skips everything before the last `lines` lines. An incomplete line counts.
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
                // The line break at the end of the file belongs to the last line.
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

    /// The next bytes; empty at the end. After the file grows, more can be read.
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

    /// The rest, up to the end or a piece beyond `max` bytes.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read_rest(&mut self, max: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        while bytes.len() < max {
            match self.next_piece()? {
                piece if piece.is_empty() => break,
                piece => bytes.extend(piece),
            }
        }
        Ok(bytes)
    }

    /// Whether `path` is missing or another file by now.
    pub fn was_replaced(&self, path: &Path) -> bool {
        let identity = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
        let now = path.metadata().map(identity).ok();
        now != self.file.metadata().map(identity).ok()
    }
}

/// Opens a regular file. Does not block on a FIFO.
pub(super) fn open_regular(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or(0);
    let file = options.custom_flags(flags).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("it is not a regular file; move it away")),
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

    /// Reads the last lines of a log with this text.
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
    fn additions_are_read_unless_the_end_is_set() {
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
        assert!(LogReader::open(folder.path()).is_err(), "a folder is not a log");
    }
}
