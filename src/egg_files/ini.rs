//! The parser `ini`: `key = value` in sections.
//!
//! A key is `section.key`, where the first dot outside of brackets ends the section, or the key of the unnamed section at the top.
//! Conditions have no effect, as with Wings.

use std::ops::Range;

use super::lines::{end_last_line, line_end, lines};
use super::{Omission, ParseError, Replacement};

/// Between key and value in a file without pairs.
const SEPARATOR: &str = " = ";

pub(super) fn edit(
    text: &[u8],
    replacements: &[Replacement],
    omitted: &mut Vec<Omission>,
) -> Result<Vec<u8>, ParseError> {
    let mut text = text.to_vec();
    for replacement in replacements {
        let (section, key) = split(&replacement.key);
        let value = written(&replacement.text).filter(|_| is_written_back(section, key));
        match value {
            Some(value) => text = set(&text, section, key, &value)?,
            None => {
                let why = "an INI file cannot hold this section, key or value";
                omitted.push(Omission { key: replacement.key.clone(), why });
            }
        }
    }
    Ok(text)
}

/// Section and key.
fn split(path: &str) -> (&str, &str) {
    let mut depth = 0_usize;
    for (at, char) in path.char_indices() {
        match char {
            '[' => depth += 1,
            ']' => depth = depth.saturating_sub(1),
            '.' if depth == 0 => {
                let section = &path[..at];
                let inner = section.strip_prefix('[').and_then(|section| section.strip_suffix(']'));
                return (inner.unwrap_or(section).trim(), path[at + 1..].trim());
            }
            _ => {}
        }
    }
    ("", path.trim())
}

/// Whether section and key are found again after they were written.
fn is_written_back(section: &str, key: &str) -> bool {
    let (header, line) = (format!("[{section}]"), format!("{key}=x"));
    let is_line = !header.contains(['\n', '\r']) && !line.contains(['\n', '\r']) && !key.is_empty();
    let found_section = matches!(classify(header.as_bytes()), Line::Section(name) if name == section.as_bytes());
    is_line && found_section && matches!(classify(line.as_bytes()), Line::Pair(pair) if pair.key == key.as_bytes())
}

/// A value, in quotes if it would be read as another one without. `None` if it cannot be written.
fn written(value: &str) -> Option<String> {
    let has_comment =
        begins_comment(value.as_bytes()) || [" ;", " #", "\t;", "\t#"].iter().any(|mark| value.contains(mark));
    let needs_quotes = has_comment || value.trim_ascii() != value;
    let quote = ['"', '`'].into_iter().find(|quote| !value.contains(*quote));
    match quote {
        _ if value.contains(['\n', '\r']) => None,
        Some(quote) if needs_quotes => Some(format!("{quote}{value}{quote}")),
        None if needs_quotes => None,
        _ => Some(value.to_owned()),
    }
}

/// What a line is.
enum Line<'t> {
    Section(&'t [u8]),
    Pair(Pair<'t>),
    Other,
}

/// A line with a key. The ranges are bytes of the line.
struct Pair<'t> {
    key: &'t [u8],
    /// The separator with the blanks around it.
    separator: Range<usize>,
    value: Range<usize>,
}

fn classify(line: &[u8]) -> Line<'_> {
    let content = line.trim_ascii();
    match content {
        [] | [b';' | b'#', ..] => return Line::Other,
        [b'[', rest @ ..] => {
            let is_end =
                |at: &usize| rest[*at] == b']' && matches!(rest[at + 1..].trim_ascii_start(), [] | [b';' | b'#', ..]);
            let end = (0..rest.len()).find(is_end);
            return end.map_or(Line::Other, |end| Line::Section(rest[..end].trim_ascii()));
        }
        _ => {}
    }
    let Some(mark) = line.iter().position(|byte| matches!(byte, b'=' | b':')) else { return Line::Other };
    let key = line[..mark].trim_ascii();
    let key_end = line[..mark].trim_ascii_end().len();
    let blanks = line[mark + 1..].len() - line[mark + 1..].trim_ascii_start().len();
    let start = mark + 1 + blanks;
    Line::Pair(Pair { key, separator: key_end..start, value: start..start + value_length(&line[start..]) })
}

/// Whether a comment stands in place of a value. `#ff0000` is a value.
fn begins_comment(text: &[u8]) -> bool {
    matches!(text, [b';', ..] | [b'#'] | [b'#', b' ' | b'\t', ..])
}

/// The length of the value that begins a text: up to a comment after it.
fn value_length(text: &[u8]) -> usize {
    if let Some(quote @ (b'"' | b'`')) = text.first() {
        let end = text[1..].iter().position(|byte| byte == quote).map(|end| end + 2);
        let closed = end.filter(|end| matches!(text[*end..].trim_ascii_start(), [] | [b';' | b'#', ..]));
        if let Some(end) = closed {
            return end;
        }
    }
    if begins_comment(text) {
        return 0;
    }
    let comment = text.windows(2).position(|pair| matches!(pair, [b' ' | b'\t', b';' | b'#']));
    text[..comment.unwrap_or(text.len())].trim_ascii_end().len()
}

/// Sets a key wherever the section has it, or else appends it to the section.
fn set(text: &[u8], section: &str, key: &str, value: &str) -> Result<Vec<u8>, ParseError> {
    let section = section.as_bytes();
    let mut out = Vec::with_capacity(text.len() + 64);
    let mut current: &[u8] = b"";
    let (mut found, mut separator) = (false, None);
    // Where the last pair of the section ends in `out`. The section may occur again: a key is appended to its first occurrence.
    let mut section_end = section.is_empty().then_some(0);
    let mut in_first = section.is_empty();
    let mut has_pairs = false;
    for line in lines(text) {
        ParseError::check_length(out.len())?;
        let kind = classify(line.content);
        let mut changed = None;
        match &kind {
            Line::Section(name) => {
                current = name;
                in_first = current == section && section_end.is_none();
            }
            Line::Pair(pair) => {
                has_pairs = true;
                separator = separator.or(line.content.get(pair.separator.clone()));
                if current == section && pair.key == key.as_bytes() {
                    found = true;
                    changed = changed_line(line.content, pair, value);
                }
            }
            Line::Other => {}
        }
        out.extend_from_slice(changed.as_deref().unwrap_or(line.content));
        out.extend_from_slice(line.end);
        // Comments at the head of the file stay there; other ones belong to what follows.
        let is_head = section.is_empty() && !has_pairs && !line.content.trim_ascii().is_empty();
        if in_first && (is_head || !matches!(kind, Line::Other)) {
            section_end = Some(out.len());
        }
    }
    if !found {
        let separator = separator.map_or(SEPARATOR.into(), String::from_utf8_lossy);
        append(&mut out, section_end, section, &format!("{key}{separator}{value}"), line_end(text));
    }
    Ok(out)
}

/// A line with another value, and with the comment after it; `None` if it has this value.
fn changed_line(line: &[u8], pair: &Pair<'_>, value: &str) -> Option<Vec<u8>> {
    let (old, after) = (&line[pair.value.clone()], &line[pair.value.end..]);
    let quoted = matches!(old, [b'"', inner @ .., b'"'] if !inner.contains(&b'"'));
    // A value keeps its quotes, unless the egg's value has some.
    let new = match quoted && !value.is_empty() && !value.contains(['"', '`']) {
        true => format!("\"{value}\""),
        false => value.to_owned(),
    };
    let changed = [&line[..pair.value.start], new.as_bytes(), after].concat();
    // The comment is lost where it would become the value.
    let is_kept = matches!(classify(&changed), Line::Pair(pair) if changed[pair.value.clone()] == *new.as_bytes());
    (old != new.as_bytes())
        .then(|| if is_kept { changed } else { [&line[..pair.value.start], new.as_bytes()].concat() })
}

/// Inserts a pair at the end of its section, which is created if it has no end.
fn append(out: &mut Vec<u8>, section_end: Option<usize>, section: &[u8], pair: &str, end: &str) {
    match section_end {
        Some(at) => {
            let rest = out.split_off(at);
            end_last_line(out, end);
            out.extend_from_slice(format!("{pair}{end}").as_bytes());
            out.extend_from_slice(&rest);
        }
        None => {
            end_last_line(out, end);
            let gap = if out.is_empty() { "" } else { end };
            let section = String::from_utf8_lossy(section);
            out.extend_from_slice(format!("{gap}[{section}]{end}{pair}{end}").as_bytes());
        }
    }
}
