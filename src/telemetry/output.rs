//! Writes log lines to an output that may accept a part of them, block, or fail.

use std::io::{self, ErrorKind, Write};
use std::time::Duration;

/// The pause before a retry of a write that would block.
const NO_ROOM_PAUSE: Duration = Duration::from_millis(5);

/// An output without a buffer, and whether its last line is incomplete.
pub struct Lines<O> {
    pub output: O,
    inside_line: bool,
}

/// Lines that were not written completely.
#[derive(Debug)]
pub struct Lost {
    pub lines: usize,
    pub error: io::Error,
}

impl<O: Write> Lines<O> {
    pub fn new(output: O) -> Self {
        Self { output, inside_line: false }
    }

    /// Writes lines and waits until the output accepts them. An incomplete line of an earlier write is ended first.
    ///
    /// # Errors
    /// The output fails. The lines before are written.
    pub fn write(&mut self, lines: &[u8]) -> Result<(), Lost> {
        let mut left = lines;
        let ended = if self.inside_line { self.advance(&mut b"\n".as_slice()) } else { Ok(()) };
        ended.and_then(|()| self.advance(&mut left)).map_err(|error| {
            let lines = left.iter().filter(|byte| **byte == b'\n').count();
            Lost { lines, error }
        })
    }

    /// Writes `left`, and removes what was written from it.
    #[expect(
        clippy::disallowed_methods,
        reason = "outputs do not signal when they accept more, and the thread does nothing else"
    )]
    fn advance(&mut self, left: &mut &[u8]) -> io::Result<()> {
        while !left.is_empty() {
            match self.output.write(left) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(taken) => {
                    let (written, rest) = left.split_at(taken);
                    self.inside_line = !written.ends_with(b"\n");
                    *left = rest;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // A process that shares stderr with the daemon may have made it non-blocking.
                Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(NO_ROOM_PAUSE),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// An output that accepts a number of bytes or fails, in a given order, and then accepts everything.
    #[derive(Default)]
    struct Scripted {
        answers: VecDeque<Result<usize, ErrorKind>>,
        written: Vec<u8>,
    }

    impl Write for Scripted {
        fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
            let taken = self.answers.pop_front().unwrap_or(Ok(lines.len()))?.min(lines.len());
            self.written.extend_from_slice(&lines[..taken]);
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn scripted(answers: impl IntoIterator<Item = Result<usize, ErrorKind>>) -> Lines<Scripted> {
        Lines::new(Scripted { answers: answers.into_iter().collect(), ..Scripted::default() })
    }

    fn text(lines: &Lines<Scripted>) -> &str {
        std::str::from_utf8(&lines.output.written).unwrap()
    }

    #[test]
    fn incomplete_lines_are_lost_and_the_next_line_is_separate() {
        let full = Err(ErrorKind::StorageFull);
        let mut lines = scripted([Ok(3), Ok(3), full, full]);
        let lost = lines.write(b"one\ntwo\nthree\n").unwrap_err();
        assert_eq!((lost.lines, lost.error.kind()), (2, ErrorKind::StorageFull));
        assert_eq!(lines.write(b"four\n").unwrap_err().lines, 1, "the end of the incomplete line was not accepted");
        lines.write(b"five\n").unwrap();
        lines.write(b"six\n").unwrap();
        assert_eq!(text(&lines), "one\ntw\nfive\nsix\n");
    }

    #[test]
    fn nothing_is_added_between_complete_lines() {
        let mut lines = scripted([Ok(4), Ok(0)]);
        let lost = lines.write(b"one\ntwo\n").unwrap_err();
        assert_eq!((lost.lines, lost.error.kind()), (1, ErrorKind::WriteZero));
        lines.write(b"three\n").unwrap();
        assert_eq!(text(&lines), "one\nthree\n");
    }

    #[test]
    fn blocked_and_interrupted_writes_are_repeated() {
        let (full, interrupted) = (Err(ErrorKind::WouldBlock), Err(ErrorKind::Interrupted));
        let mut lines = scripted([interrupted, full, Ok(2), full, full, Ok(3), interrupted]);
        lines.write(b"one\ntwo\n").unwrap();
        assert_eq!(text(&lines), "one\ntwo\n");
    }
}
