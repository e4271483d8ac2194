//! Raw terminal output in, lines out.
//!
//! A line ends with `\n`; carriage returns before it belong to the ending. A line of more than the maximum length is cut into
//! pieces of that length, and empty lines are left out. Bytes without a line end are kept until the rest arrives, or until
//! [`Lines::finish`].

use std::borrow::Cow;

/// The default maximum length of a line, in bytes.
pub const LINE: usize = 64 * 1024;

/// Buffer capacity that is kept between lines, in bytes.
const KEPT: usize = 1024;

/// Cuts a stream of bytes into lines. Holds fewer bytes than the maximum length of a line.
#[derive(Debug)]
pub struct Lines {
    unfinished: Vec<u8>,
    max: usize,
}

impl Default for Lines {
    fn default() -> Self {
        Self::new(LINE)
    }
}

impl Lines {
    /// Lines of at most `max` bytes.
    pub fn new(max: usize) -> Self {
        Self { unfinished: Vec::new(), max }
    }

    /// Takes the next bytes and passes on the lines that they complete.
    pub fn feed(&mut self, mut bytes: &[u8], mut line: impl FnMut(&[u8])) {
        while !bytes.is_empty() {
            let room = self.max - self.unfinished.len();
            let seen = &bytes[..bytes.len().min(room)];
            let end = seen.iter().position(|byte| *byte == b'\n');
            if end.is_none() && seen.len() < room {
                self.unfinished.extend_from_slice(seen);
                return;
            }
            let piece = &seen[..end.unwrap_or(seen.len())];
            bytes = &bytes[end.map_or(seen.len(), |end| end + 1)..];
            if self.unfinished.is_empty() {
                give(piece, &mut line);
            } else {
                self.unfinished.extend_from_slice(piece);
                give(&self.unfinished, &mut line);
                self.unfinished.clear();
                self.unfinished.shrink_to(KEPT);
            }
        }
    }

    /// Passes on the last line, which has no end.
    pub fn finish(&mut self, mut line: impl FnMut(&[u8])) {
        give(&std::mem::take(&mut self.unfinished), &mut line);
    }
}

fn give(mut piece: &[u8], line: &mut impl FnMut(&[u8])) {
    while let [rest @ .., b'\r'] = piece {
        piece = rest;
    }
    if !piece.is_empty() {
        line(piece);
    }
}

/// A line as text for matching and for people. Each `" \r"`, where a terminal of fixed width wraps, becomes a line break.
pub fn display_text(line: &[u8]) -> Cow<'_, str> {
    let text = String::from_utf8_lossy(line);
    if text.contains(" \r") { Cow::Owned(text.replace(" \r", "\r\n")) } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(pieces: &[&[u8]]) -> Vec<String> {
        let mut lines = Lines::default();
        let mut given = Vec::new();
        for piece in pieces {
            lines.feed(piece, |line| given.push(String::from_utf8_lossy(line).into_owned()));
        }
        lines.finish(|line| given.push(String::from_utf8_lossy(line).into_owned()));
        given
    }

    #[test]
    fn lines_end_with_any_mix_of_returns_and_a_newline() {
        assert_eq!(cut(&[b"a\nb\r\nc\r\r\n\n\r\nd"]), ["a", "b", "c", "d"]);
        assert_eq!(cut(&[b"  a \tb \n"]), ["  a \tb "]);
        assert_eq!(cut(&[b"50%\r100%\r\n"]), ["50%\r100%"], "a return inside a line is part of it");
        assert!(cut(&[b"\n\r\n", b"\r"]).is_empty());
    }

    #[test]
    fn lines_do_not_depend_on_where_the_stream_is_cut() {
        let text = b"first\r\nsecond \rwrapped\n\nthird\r";
        let uncut = cut(&[text]);
        assert_eq!(uncut, ["first", "second \rwrapped", "third"]);
        for at in 0..text.len() {
            assert_eq!(cut(&[&text[..at], &text[at..]]), uncut, "cut at {at}");
        }
        assert_eq!(cut(&text.chunks(1).collect::<Vec<_>>()), uncut);
    }

    #[test]
    fn long_lines_are_cut_and_their_buffer_is_freed() {
        let text = vec![b'x'; 2 * LINE + 5];
        for size in [1000, LINE - 1, LINE, LINE + 1, text.len()] {
            let mut lines = Lines::default();
            let mut sizes = Vec::new();
            for piece in text.chunks(size) {
                lines.feed(piece, |line| sizes.push(line.len()));
                assert!(lines.unfinished.len() < LINE);
            }
            lines.feed(b"\nnext\n", |line| sizes.push(line.len()));
            assert_eq!(sizes, [LINE, LINE, 5, 4], "in pieces of {size}");
            assert!(lines.unfinished.capacity() <= KEPT);
        }
    }

    #[test]
    fn wrapped_lines_become_line_breaks() {
        assert_eq!(display_text(b"one \rtwo \r"), "one\r\ntwo\r\n");
        assert_eq!(display_text(b"one\rtwo"), "one\rtwo");
        assert_eq!(display_text(b"caf\xe9"), "caf\u{fffd}");
    }
}
