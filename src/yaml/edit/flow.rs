//! Edits inside brackets and braces: pieces that stay are copied, with the separators that are there.

use std::ops::Range;

use serde_json::{Map, Value};

use super::render::{flow_pair, inline};
use super::{Unable, common_ends};
use crate::yaml::tree::{Entry, Item, Kind, Layout, Node};

/// The text of a flow collection that meant `old` and shall mean `new`.
pub(super) fn edited(text: &str, node: &Node, old: &Value, new: &Value) -> Result<String, Unable> {
    if old == new {
        return Ok(text[node.start..node.end].to_owned());
    }
    match (&node.kind, old, new) {
        (Kind::Mapping { layout: Layout::Flow, entries }, Value::Object(old), Value::Object(new))
            if !node.decorated && !new.is_empty() && !entries.is_empty() =>
        {
            mapping(text, node, entries, old, new)
        }
        (Kind::Sequence { layout: Layout::Flow, items }, Value::Array(old), Value::Array(new))
            if !node.decorated && !new.is_empty() && items.len() == old.len() && !items.is_empty() =>
        {
            list(text, node, items, old, new)
        }
        (Kind::Scalar { style, .. }, ..) if node.start < node.end => Ok(inline(new, Some(*style), true)),
        _ if node.start < node.end => Ok(inline(new, None, true)),
        _ => Err(Unable),
    }
}

/// What becomes of a piece of a collection.
enum Piece {
    /// The text at this place stays, perhaps changed.
    Kept(Range<usize>, String),
    /// The text at this place goes.
    Gone(Range<usize>),
    /// Something new comes.
    Come(String),
}

fn mapping(
    text: &str,
    node: &Node,
    entries: &[Entry],
    old: &Map<String, Value>,
    new: &Map<String, Value>,
) -> Result<String, Unable> {
    let mut pieces = Vec::new();
    for entry in entries {
        let key = entry.key.as_key().ok_or(Unable)?;
        let before = old.get(key).ok_or(Unable)?;
        let span = entry.key.start..entry_end(entry);
        pieces.push(match new.get(key) {
            None => Piece::Gone(span),
            Some(after) => Piece::Kept(span, pair(text, entry, before, after)?),
        });
    }
    let added = new.iter().filter(|(key, _)| !old.contains_key(*key));
    pieces.extend(added.map(|(key, value)| Piece::Come(flow_pair(key, value))));
    join(text, node, pieces)
}

fn entry_end(entry: &Entry) -> usize {
    let behind_colon = entry.colon.map_or(0, |colon| colon + 1);
    behind_colon.max(entry.value.end).max(entry.key.end)
}

fn pair(text: &str, entry: &Entry, before: &Value, after: &Value) -> Result<String, Unable> {
    let start = entry.key.start;
    if before == after {
        return Ok(text[start..entry_end(entry)].to_owned());
    }
    if entry.value.start < entry.value.end {
        let value = edited(text, &entry.value, before, after)?;
        return Ok(format!("{}{value}", &text[start..entry.value.start]));
    }
    let colon = entry.colon.ok_or(Unable)?;
    Ok(format!("{} {}", &text[start..=colon], inline(after, None, true)))
}

fn list(text: &str, node: &Node, items: &[Item], old: &[Value], new: &[Value]) -> Result<String, Unable> {
    let (head, tail) = common_ends(old, new);
    let (last_old, last_new) = (old.len() - tail, new.len() - tail);
    let paired = last_old.min(last_new);
    let mut pieces = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let span = item.value.start..item.value.end;
        if index == last_old {
            pieces.extend(fresh(&new[paired..last_new]));
        }
        let after = match index {
            _ if index < head || index >= last_old => &old[index],
            _ if index < paired => &new[index],
            _ => {
                pieces.push(Piece::Gone(span));
                continue;
            }
        };
        pieces.push(Piece::Kept(span, edited(text, &item.value, &old[index], after)?));
    }
    if tail == 0 {
        pieces.extend(fresh(&new[paired..last_new]));
    }
    join(text, node, pieces)
}

fn fresh(values: &[Value]) -> impl Iterator<Item = Piece> {
    values.iter().map(|value| Piece::Come(inline(value, None, true)))
}

/// Puts pieces together again. Neighbours that stay keep what is between them; all others get the
/// separator that the collection begins with.
fn join(text: &str, node: &Node, pieces: Vec<Piece>) -> Result<String, Unable> {
    let spans: Vec<_> = pieces.iter().filter_map(Piece::span).collect();
    let (first, last) = (spans.first().ok_or(Unable)?, spans.last().ok_or(Unable)?);
    let between = spans.get(1).map_or(", ", |second| &text[first.end..second.start]);
    let usual = if between.trim() == "," { between } else { ", " };
    let mut out = text[node.start..first.start].to_owned();
    let closing = &text[last.end..node.end];
    let mut previous: Option<Option<usize>> = None;
    for piece in pieces {
        let (start, end, with) = match piece {
            Piece::Kept(span, with) => (Some(span.start), Some(span.end), with),
            Piece::Come(with) => (None, None, with),
            Piece::Gone(_) => {
                previous = previous.map(|_| None);
                continue;
            }
        };
        out += match (previous, start) {
            (None, _) => "",
            (Some(Some(end)), Some(start)) => &text[end..start],
            _ => usual,
        };
        out += &with;
        previous = Some(end);
    }
    Ok(out + closing)
}

impl Piece {
    fn span(&self) -> Option<Range<usize>> {
        match self {
            Self::Kept(span, _) | Self::Gone(span) => Some(span.clone()),
            Self::Come(_) => None,
        }
    }
}
