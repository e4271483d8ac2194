//! The parser `properties`: `key=value` lines as Java reads them.
//!
//! Where a value changes, every separator becomes `=`, which all readers of such files understand; eggs for Wings rely on it.
//! References such as `${NAME}` stay as they are: what a user writes there must not name a variable of the daemon.

use std::ops::Range;

use super::lines::{end_last_line, line_end};
use super::{ParseError, Replacement};

/// The most pairs of a file, which bounds the memory for them.
const MAX_PAIRS: usize = 200_000;

/// A pair of a file. The ranges are bytes of the text.
struct Pair {
    key: String,
    value: String,
    /// Between key and value.
    separator: Range<usize>,
    /// Up to the end of the last line, which may be a continuation.
    value_at: Range<usize>,
    key_start: usize,
    /// The file ends with a backslash: a line that is appended would continue the pair.
    is_open: bool,
}

pub(super) fn edit(text: &[u8], replacements: &[Replacement]) -> Result<Vec<u8>, ParseError> {
    let mut pairs = pairs(text)?;
    let mut changed = vec![false; pairs.len()];
    let mut added: Vec<(&str, String)> = Vec::new();
    for replacement in replacements {
        let key = replacement.key.as_str();
        // The last one counts for Java.
        let old = pairs.iter().rfind(|pair| pair.key == key).map(|pair| &pair.value);
        let old = old.or(added.iter().find(|(name, _)| *name == key).map(|(_, value)| value));
        let is_new = old.is_none();
        let Some(new) = replacement.new_text(old.map(String::as_str)) else { continue };
        if is_new {
            added.push((key, new));
            continue;
        }
        added.iter_mut().filter(|(name, _)| *name == key).for_each(|(_, value)| value.clone_from(&new));
        let mut length = 0;
        for (pair, changed) in pairs.iter_mut().zip(&mut changed).filter(|(pair, _)| pair.key == key) {
            length += new.len();
            ParseError::check_length(length)?;
            *changed |= pair.value != new;
            pair.value.clone_from(&new);
        }
    }
    if added.is_empty() && !changed.contains(&true) {
        return Ok(text.to_vec());
    }
    let mut out = Vec::with_capacity(text.len() + 256);
    let mut at = 0;
    for (pair, changed) in pairs.iter().zip(changed) {
        ParseError::check_length(out.len())?;
        out.extend_from_slice(&text[at..pair.key_start]);
        match pair.is_open {
            true => out.extend_from_slice(escaped_key(&pair.key).as_bytes()),
            false => out.extend_from_slice(&text[pair.key_start..pair.separator.start]),
        }
        out.push(b'=');
        match changed || pair.is_open {
            true => out.extend_from_slice(escaped_value(&pair.value).as_bytes()),
            false => out.extend_from_slice(&text[pair.value_at.clone()]),
        }
        at = pair.value_at.end;
    }
    out.extend_from_slice(&text[at..]);
    let end = line_end(text);
    for (key, value) in added {
        end_last_line(&mut out, end);
        out.extend_from_slice(format!("{}={}{end}", escaped_key(key), escaped_value(&value)).as_bytes());
    }
    Ok(out)
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\x0c')
}

/// The pairs of a text. Comments and blank lines are between them.
fn pairs(text: &[u8]) -> Result<Vec<Pair>, ParseError> {
    let mut pairs = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let start = skip(text, at, is_blank);
        if matches!(text.get(start), Some(b'#' | b'!' | b'\n' | b'\r') | None) {
            at = skip(text, start, |byte| byte != b'\n' && byte != b'\r') + 1;
            continue;
        }
        let end = logical_end(text, start);
        let key_end = key_end(text, start, end);
        let mut value_start = skip_blanks_and_breaks(text, key_end, end);
        if matches!(text[..end].get(value_start), Some(b'=' | b':')) {
            value_start = skip_blanks_and_breaks(text, value_start + 1, end);
        }
        pairs.push(Pair {
            key: unescaped(&text[start..key_end]),
            value: unescaped(&text[value_start..end]),
            separator: key_end..value_start,
            value_at: value_start..end,
            key_start: start,
            is_open: end == text.len() && ends_with_backslash(&text[start..end]),
        });
        if pairs.len() > MAX_PAIRS {
            return Err(ParseError::syntax("properties", format!("more than {MAX_PAIRS} keys are too many")));
        }
        at = end;
    }
    Ok(pairs)
}

fn skip(text: &[u8], at: usize, skipped: impl Fn(u8) -> bool) -> usize {
    at + text[at..].iter().take_while(|byte| skipped(**byte)).count()
}

/// The end of the line that begins at `at`, with the lines that continue it.
fn logical_end(text: &[u8], mut at: usize) -> usize {
    while let Some(byte) = text.get(at) {
        match byte {
            b'\n' | b'\r' => break,
            b'\\' if text[at + 1..].starts_with(b"\r\n") => at += 3,
            // Nothing follows the last line.
            b'\\' => at = (at + 2).min(text.len()),
            _ => at += 1,
        }
    }
    at
}

/// Whether the last character is a backslash that escapes nothing, or a line break.
fn ends_with_backslash(raw: &[u8]) -> bool {
    let raw = raw.strip_suffix(b"\n").unwrap_or(raw);
    let raw = raw.strip_suffix(b"\r").unwrap_or(raw);
    raw.iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1
}

/// The end of a key: the first separator that is not escaped.
fn key_end(text: &[u8], start: usize, end: usize) -> usize {
    let mut at = start;
    while at < end && !is_blank(text[at]) && !matches!(text[at], b'=' | b':') {
        at = match text[at] {
            // The key is continued on the next line, or ends there.
            b'\\' if text[at + 1..end].starts_with(b"\r\n") => skip(text, at + 3, is_blank),
            b'\\' if matches!(text[..end].get(at + 1), Some(b'\n' | b'\r')) => skip(text, at + 2, is_blank),
            b'\\' => at + 2,
            _ => at + 1,
        };
    }
    at.min(end)
}

fn skip_blanks_and_breaks(text: &[u8], mut at: usize, end: usize) -> usize {
    loop {
        at = skip(&text[..end], at, is_blank);
        at += match &text[at..end] {
            [b'\\', b'\r', b'\n', ..] => 3,
            [b'\\', b'\n' | b'\r', ..] => 2,
            _ => return at,
        };
    }
}

/// The text of a key or value. Bytes that are not UTF-8 are Latin-1, the encoding of older files.
fn unescaped(raw: &[u8]) -> String {
    let raw = match std::str::from_utf8(raw) {
        Ok(text) => text.to_owned(),
        Err(_) => raw.iter().map(|byte| char::from(*byte)).collect(),
    };
    let mut units: Vec<u16> = Vec::with_capacity(raw.len());
    let mut chars = raw.chars().peekable();
    while let Some(char) = chars.next() {
        let char = match (char, chars.peek()) {
            ('\\', Some(_)) => chars.next().unwrap_or_default(),
            ('\\', None) => break,
            _ => {
                units.extend_from_slice(char.encode_utf16(&mut [0; 2]));
                continue;
            }
        };
        let char = match char {
            't' => '\t',
            'n' => '\n',
            'r' => '\r',
            'f' => '\x0c',
            'u' => {
                let digits: String = chars.clone().take_while(char::is_ascii_hexdigit).take(4).collect();
                match u16::from_str_radix(&digits, 16) {
                    Ok(unit) if digits.len() == 4 => {
                        chars.nth(3);
                        units.push(unit);
                        continue;
                    }
                    _ => 'u',
                }
            }
            '\n' | '\r' => {
                chars.next_if(|next| char == '\r' && *next == '\n');
                while chars.next_if(|next| matches!(next, ' ' | '\t' | '\x0c')).is_some() {}
                continue;
            }
            other => other,
        };
        units.extend_from_slice(char.encode_utf16(&mut [0; 2]));
    }
    String::from_utf16_lossy(&units)
}

/// A value as Java reads it in any encoding.
fn escaped_value(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    let mut leading = true;
    for char in value.chars() {
        match char {
            ' ' if leading => out.push_str("\\ "),
            '\\' => out.push_str("\\\\"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\x0c' => out.push_str("\\f"),
            ' '..='~' => out.push(char),
            // Java's characters are UTF-16.
            _ => char.encode_utf16(&mut [0; 2]).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04x}"))),
        }
        leading &= char == ' ';
    }
    out
}

fn escaped_key(key: &str) -> String {
    let mut out = String::with_capacity(key.len());
    for char in key.chars() {
        match char {
            ' ' | '=' | ':' | '#' | '!' => out.extend(['\\', char]),
            _ => out.push_str(&escaped_value(char.encode_utf8(&mut [0; 4]))),
        }
    }
    out
}
