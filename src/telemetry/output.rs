//! Where log lines end up, and the writing of them to an output that takes a part, that takes them later, or that fails.

use std::io::{self, ErrorKind, Write};
use std::time::Duration;

/// How long an output that has no room, and does not wait until it has some, is left alone.
const NO_ROOM_PAUSE: Duration = Duration::from_millis(5);

/// Where lines end up. It keeps none of them back.
pub trait Output: Write + Send + 'static {
    /// Opens the file of this name again, which may be another one by now.
    ///
    /// # Errors
    /// It cannot be opened; the old file stays in use.
    fn reopen(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Output for io::Stderr {}

/// An output, and whether it ends inside a line.
pub struct Lines<O> {
    output: O,
    inside_line: bool,
}

/// Lines that are not in the output, or not with their end.
#[derive(Debug)]
pub struct Lost {
    pub lines: usize,
    pub error: io::Error,
}

impl<O: Output> Lines<O> {
    pub fn new(output: O) -> Self {
        Self { output, inside_line: false }
    }

    /// See [`Output::reopen`].
    pub fn reopen(&mut self) -> io::Result<()> {
        self.output.reopen()
    }

    /// Writes lines, for as long as the output needs; half a line of an earlier write stays a line of its own.
    ///
    /// # Errors
    /// The output fails. What it took before that is written.
    pub fn write(&mut self, lines: &[u8]) -> Result<(), Lost> {
        let mut left = lines;
        let ended = if self.inside_line { self.advance(&mut b"\n".as_slice()) } else { Ok(()) };
        ended.and_then(|()| self.advance(&mut left)).map_err(|error| {
            let lines = left.iter().filter(|byte| **byte == b'\n').count();
            Lost { lines, error }
        })
    }

    /// Leaves what is not written.
    #[expect(
        clippy::disallowed_methods,
        reason = "no output says when it has room again, and this is the log's own thread"
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
                // Whoever shares stderr with the daemon may have made it non-blocking.
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

    /// An output that takes so many bytes, or fails, as it is told; everything once it is told nothing more.
    #[derive(Default)]
    struct Reported {
        answers: VecDeque<Result<usize, ErrorKind>>,
        written: Vec<u8>,
    }

    impl Write for Reported {
        fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
            let taken = self.answers.pop_front().unwrap_or(Ok(lines.len()))?.min(lines.len());
            self.written.extend_from_slice(&lines[..taken]);
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Output for Reported {}

    fn last_reported(answers: impl IntoIterator<Item = Result<usize, ErrorKind>>) -> Lines<Reported> {
        Lines::new(Reported { answers: answers.into_iter().collect(), ..Reported::default() })
    }

    fn text(lines: &Lines<Reported>) -> &str {
        std::str::from_utf8(&lines.output.written).unwrap()
    }

    #[test]
    fn only_lines_without_their_end_are_lost_and_the_next_one_begins_a_line() {
        let full = Err(ErrorKind::StorageFull);
        let mut lines = last_reported([Ok(3), Ok(3), full, full]);
        let lost = lines.write(b"one\ntwo\nthree\n").unwrap_err();
        assert_eq!((lost.lines, lost.error.kind()), (2, ErrorKind::StorageFull));
        assert_eq!(lines.write(b"four\n").unwrap_err().lines, 1, "not even the end of the half line was taken");
        lines.write(b"five\n").unwrap();
        lines.write(b"six\n").unwrap();
        assert_eq!(text(&lines), "one\ntw\nfive\nsix\n");
    }

    #[test]
    fn between_two_lines_nothing_is_added() {
        let mut lines = last_reported([Ok(4), Ok(0)]);
        let lost = lines.write(b"one\ntwo\n").unwrap_err();
        assert_eq!((lost.lines, lost.error.kind()), (1, ErrorKind::WriteZero));
        lines.write(b"three\n").unwrap();
        assert_eq!(text(&lines), "one\nthree\n");
    }

    #[test]
    fn an_output_without_room_and_an_interrupted_write_are_tried_again() {
        let (full, interrupted) = (Err(ErrorKind::WouldBlock), Err(ErrorKind::Interrupted));
        let mut lines = last_reported([interrupted, full, Ok(2), full, full, Ok(3), interrupted]);
        lines.write(b"one\ntwo\n").unwrap();
        assert_eq!(text(&lines), "one\ntwo\n");
    }
}
