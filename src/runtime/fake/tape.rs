//! What a fake container has printed, bounded.

use std::collections::VecDeque;

use bytes::Bytes;

/// Pieces that a container's log keeps; the oldest are forgotten.
pub const TAPE: usize = 4_096;

/// A bounded log.
#[derive(Debug, Default)]
pub(super) struct Tape {
    pieces: VecDeque<Bytes>,
}

impl Tape {
    pub(super) fn push(&mut self, bytes: Bytes) {
        if self.pieces.len() == TAPE {
            self.pieces.pop_front();
        }
        self.pieces.push_back(bytes);
    }

    /// Forgets the oldest pieces until no more than so many bytes are left, as a log driver with a largest size does.
    pub(super) fn rotate(&mut self, kept: usize) {
        let mut bytes: usize = self.pieces.iter().map(Bytes::len).sum();
        while bytes > kept
            && let Some(piece) = self.pieces.pop_front()
        {
            bytes -= piece.len();
        }
    }

    /// Everything, as one text.
    pub(super) fn all(&self) -> Bytes {
        self.pieces.iter().flatten().copied().collect()
    }

    /// The last lines.
    pub(super) fn tail(&self, lines: u32) -> Bytes {
        let all = self.all();
        let ends = all.iter().enumerate().rev().filter(|(at, byte)| **byte == b'\n' && at + 1 < all.len());
        let from = match (lines as usize).checked_sub(1) {
            None => all.len(),
            Some(earlier) => ends.map(|(at, _)| at + 1).nth(earlier).unwrap_or(0),
        };
        all.slice(from..)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_counts_lines_and_an_unfinished_one_is_a_line() {
        let mut tape = Tape::default();
        for text in ["a\r\n", "b", "b\r\n", "c"] {
            tape.push(Bytes::from_static(text.as_bytes()));
        }
        assert_eq!(tape.tail(0), "");
        assert_eq!(tape.tail(1), "c");
        assert_eq!(tape.tail(2), "bb\r\nc");
        assert_eq!(tape.tail(3), "a\r\nbb\r\nc");
        assert_eq!(tape.tail(9), "a\r\nbb\r\nc");
    }

    #[test]
    fn a_rotated_log_keeps_its_end() {
        let mut tape = Tape::default();
        for text in ["one\n", "two\n", "three\n"] {
            tape.push(Bytes::from_static(text.as_bytes()));
        }
        tape.rotate(12);
        assert_eq!(tape.all(), "two\nthree\n");
    }

    #[test]
    fn the_oldest_pieces_are_forgotten() {
        let mut tape = Tape::default();
        for number in 0..TAPE as u64 + 3 {
            tape.push(Bytes::from(format!("{number}\n")));
        }
        assert!(tape.all().starts_with(b"3\n4\n"));
        assert!(tape.all().ends_with(format!("\n{}\n", TAPE + 2).as_bytes()));
    }
}
