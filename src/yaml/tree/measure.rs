//! Exact positions of the nodes, their dashes and their colons, which [`edit`](crate::yaml::edit) needs.
//!
//! The parser's marks are made for error messages. A block collection ends where the next node starts, a quoted text
//! includes the comment after it, and a dash has no mark.

use saphyr_parser::ScalarStyle;

use super::{Entry, Item, Kind, Layout, Node};

/// The first byte at or after `at` that belongs to neither a space, a line break nor a comment.
fn skip_blank(text: &str, mut at: usize) -> usize {
    let bytes = text.as_bytes();
    while let Some(byte) = bytes.get(at) {
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' => at += 1,
            b'#' if at == 0 || bytes[at - 1].is_ascii_whitespace() => {
                at = text[at..].find('\n').map_or(text.len(), |n| at + n);
            }
            _ => break,
        }
    }
    at
}

/// As [`skip_blank`], but skips anchors and tags too.
fn skip_properties(text: &str, from: usize) -> usize {
    let mut at = skip_blank(text, from);
    while text[at..].starts_with(['&', '!']) {
        let end = text[at..].find(|c: char| c.is_ascii_whitespace()).map_or(text.len(), |n| at + n);
        at = skip_blank(text, end);
    }
    at
}

/// Sets the exact ends of nodes and the positions of dashes and colons.
/// `from` is where the text of this node may start: after its colon or dash.
pub(super) fn measure(node: &mut Node, text: &str, from: usize) {
    match &mut node.kind {
        Kind::Alias => node.end = node.start + text[node.start..node.end].trim_end().len(),
        Kind::Scalar { style: ScalarStyle::Literal | ScalarStyle::Folded, .. } => {
            node.start = skip_blank(text, from).min(node.start);
            node.end = block_scalar_end(text, node.start, node.end);
        }
        Kind::Scalar { style: ScalarStyle::Plain, value } => {
            let empty = value.is_empty() && !node.decorated;
            let covered = text[node.start..node.end].trim_end().len();
            node.end = node.start + if empty { 0 } else { covered };
        }
        Kind::Scalar { .. } => node.end = quoted_end(text, skip_properties(text, node.start)),
        Kind::Sequence { layout, items } => {
            let end = measure_items(items, *layout, text, skip_properties(text, from));
            if *layout != Layout::Flow {
                node.end = end;
            }
        }
        Kind::Mapping { layout, entries } => {
            let mut end = node.start;
            for entry in entries.iter_mut() {
                end = end.max(measure_entry(entry, text));
            }
            if *layout != Layout::Flow {
                node.end = end;
            }
        }
    }
}

/// Measures the items of a sequence whose first dash is at `at`. Returns the end of the last one.
fn measure_items(items: &mut [Item], layout: Layout, text: &str, mut at: usize) -> usize {
    for item in items {
        let mut from = item.value.start;
        if layout == Layout::Block {
            at = skip_blank(text, at);
            if text[at..].starts_with('-') {
                item.dash = Some(at);
                at += 1;
                from = at;
            }
        }
        measure(&mut item.value, text, from);
        at = at.max(item.value.end);
    }
    at
}

/// Measures a pair. Returns its end.
fn measure_entry(entry: &mut Entry, text: &str) -> usize {
    let start = entry.key.start;
    measure(&mut entry.key, text, start);
    let gap = &text[entry.key.end..];
    let colon = entry.key.end + gap.len() - gap.trim_start_matches([' ', '\t']).len();
    entry.colon = text[colon..].starts_with(':').then_some(colon);
    let from = entry.colon.map_or(entry.value.start, |colon| colon + 1);
    measure(&mut entry.value, text, from);
    entry.end().max(from)
}

/// The end of the last line of a block scalar. Blank lines after it belong to it only if its header has a `+`.
fn block_scalar_end(text: &str, start: usize, end: usize) -> usize {
    let header = skip_properties(text, start);
    let first_line = text[header..end.max(header)].lines().next().unwrap_or_default();
    let indicators = first_line.split_whitespace().next().unwrap_or_default();
    if indicators.contains('+') {
        let covered = &text[start..end];
        return start + covered.strip_suffix('\n').unwrap_or(covered).len();
    }
    start + text[start..end].trim_end().len()
}

/// The end of the quoted scalar that starts at `start`, including its closing quote.
fn quoted_end(text: &str, start: usize) -> usize {
    let bytes = text.as_bytes();
    let Some(&quote) = bytes.get(start) else {
        return text.len();
    };
    let mut at = start + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' if quote == b'"' => at += 2,
            byte if byte == quote && quote == b'\'' && bytes.get(at + 1) == Some(&quote) => at += 2,
            byte if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    text.len()
}
