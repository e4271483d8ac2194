//! Lines of a file of any encoding that contains ASCII.

/// A line without its end, and its end: `\n`, `\r\n`, or nothing at the end of the file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line<'t> {
    pub content: &'t [u8],
    pub end: &'t [u8],
}

/// The lines of a text.
pub(super) fn lines(text: &[u8]) -> impl Iterator<Item = Line<'_>> + Clone {
    text.split_inclusive(|byte| *byte == b'\n').map(|line| {
        let content = line.strip_suffix(b"\n").unwrap_or(line);
        let content = content.strip_suffix(b"\r").unwrap_or(content);
        Line { content, end: &line[content.len()..] }
    })
}

/// The line end of a file: that of its first line.
pub(super) fn line_end(text: &[u8]) -> &'static str {
    match lines(text).next() {
        Some(Line { end: b"\r\n", .. }) => "\r\n",
        _ => "\n",
    }
}

/// Ends the last line of `out`, so that a line can be appended.
pub(super) fn end_last_line(out: &mut Vec<u8>, end: &str) {
    if out.last().is_some_and(|byte| *byte != b'\n') {
        out.extend_from_slice(end.as_bytes());
    }
}
