//! The parser `json`: changed values replace their bytes, new ones are added in the layout of the file.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::{MAX_LAYOUT, Omission, ParseError, Replacement, path};
use crate::model::PlainValue;

/// The most values of a file, which bounds the memory for them.
const MAX_VALUES: usize = 1_000_000;

pub(super) fn edit(
    text: &str,
    replacements: &[Replacement],
    omitted: &mut Vec<Omission>,
) -> Result<String, ParseError> {
    let error = |error: serde_json::Error| ParseError::syntax("JSON", error);
    if text.bytes().filter(|byte| matches!(byte, b',' | b'[' | b'{')).count() > MAX_VALUES {
        return Err(ParseError::syntax("JSON", format!("more than {MAX_VALUES} values are too many")));
    }
    let blank = text.trim_ascii().is_empty();
    let old = if blank { Value::Null } else { serde_json::from_str::<PlainValue>(text).map_err(error)?.0 };
    let mut new = old.clone();
    path::apply(&mut new, replacements, omitted);
    if new == old {
        return Ok(text.to_owned());
    }
    if blank {
        let style = Style { unit: Some("  ".into()), colon: ": ".into(), line_end: "\n".into() };
        return Ok(format!("{}\n", style.written(&new, "")));
    }
    let mut editor = Editor { text, style: Style::of(text).map_err(error)?, splices: Vec::new() };
    editor.change(text.trim_ascii(), &old, &new).map_err(error)?;
    Ok(editor.finish())
}

/// The children of a collection: their keys, if it is an object, and their values, all as in the text.
struct Children<'t>(Vec<(Option<&'t RawValue>, &'t RawValue)>);

impl<'t> Children<'t> {
    fn of(collection: &'t str) -> serde_json::Result<Self> {
        let mut deserializer = serde_json::Deserializer::from_str(collection);
        Ok(Self(deserializer.deserialize_any(Collector)?))
    }
}

struct Collector;

impl<'t> Visitor<'t> for Collector {
    type Value = Vec<(Option<&'t RawValue>, &'t RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or a list")
    }

    fn visit_map<A: MapAccess<'t>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut children = Vec::new();
        while let Some((key, value)) = map.next_entry()? {
            children.push((Some(key), value));
        }
        Ok(children)
    }

    fn visit_seq<A: SeqAccess<'t>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut children = Vec::new();
        while let Some(value) = list.next_element()? {
            children.push((None, value));
        }
        Ok(children)
    }
}

/// Collects replacements of byte ranges, in the order of the text.
struct Editor<'t> {
    text: &'t str,
    style: Style,
    splices: Vec<(Range<usize>, String)>,
}

impl<'t> Editor<'t> {
    /// Changes `raw`, a part of the text that means `old`, to mean `new`.
    fn change(&mut self, raw: &'t str, old: &Value, new: &Value) -> serde_json::Result<()> {
        match (old, new) {
            _ if old == new => {}
            (Value::Object(old), Value::Object(new)) if !old.is_empty() => self.change_object(raw, old, new)?,
            (Value::Array(old), Value::Array(new)) if !old.is_empty() => self.change_list(raw, old, new)?,
            _ => {
                let range = self.range(raw);
                let nested = new.is_object() || new.is_array();
                let indent = if nested { indentation(&self.text[..range.start]) } else { "" };
                let written = self.style.written(new, indent);
                self.splices.push((range, written));
            }
        }
        Ok(())
    }

    fn change_object(
        &mut self,
        raw: &'t str,
        old: &Map<String, Value>,
        new: &Map<String, Value>,
    ) -> serde_json::Result<()> {
        let children = Children::of(raw)?.0;
        for (key, value) in &children {
            let Some(key) = key else { continue };
            let key: Cow<'_, str> = serde_json::from_str(key.get())?;
            if let (Some(old), Some(new)) = (old.get(key.as_ref()), new.get(key.as_ref())) {
                self.change(value.get(), old, new)?;
            }
        }
        let added: Vec<_> = new.iter().filter(|(key, _)| !old.contains_key(*key)).collect();
        self.append(raw, &children, |style, indent| {
            added
                .iter()
                .map(|(key, value)| format!("{}{}{}", quoted(key), style.colon, style.written(value, indent)))
                .collect()
        });
        Ok(())
    }

    fn change_list(&mut self, raw: &'t str, old: &[Value], new: &[Value]) -> serde_json::Result<()> {
        let children = Children::of(raw)?.0;
        for ((_, raw), (old, new)) in children.iter().zip(old.iter().zip(new)) {
            self.change(raw.get(), old, new)?;
        }
        let added = &new[old.len()..];
        self.append(raw, &children, |style, indent| added.iter().map(|value| style.written(value, indent)).collect());
        Ok(())
    }

    /// Appends children to a collection, separated like those that it has.
    fn append(
        &mut self,
        raw: &'t str,
        children: &[(Option<&'t RawValue>, &'t RawValue)],
        written: impl Fn(&Style, &str) -> Vec<String>,
    ) {
        let Some((first, last)) = children.first().zip(children.last()) else { return };
        let start = self.range(first.0.unwrap_or(first.1).get()).start;
        let before_first = &self.text[self.range(raw).start + 1..start];
        let separator = match children.get(1) {
            _ if start - self.range(raw).start > MAX_LAYOUT => " ",
            _ if before_first.contains('\n') => before_first,
            // What stands between the comma and the second child.
            Some((key, value)) => {
                let second = self.range(key.unwrap_or(value).get()).start;
                let between = &self.text[self.range(first.1.get()).end..second];
                between.split_once(',').map(|(_, after)| after).filter(|after| after.len() <= MAX_LAYOUT).unwrap_or(" ")
            }
            None if self.style.colon.ends_with(' ') || before_first.starts_with(' ') => " ",
            None => "",
        };
        let indent = indentation(&self.text[..start]);
        let added: String = written(&self.style, indent).iter().map(|child| format!(",{separator}{child}")).collect();
        if !added.is_empty() {
            let end = self.range(last.1.get()).end;
            self.splices.push((end..end, added));
        }
    }

    /// The position of a part of the text.
    fn range(&self, part: &str) -> Range<usize> {
        let start = part.as_ptr() as usize - self.text.as_ptr() as usize;
        start..start + part.len()
    }

    fn finish(self) -> String {
        let mut out = String::with_capacity(self.text.len() + 256);
        let mut at = 0;
        for (range, with) in self.splices {
            out.push_str(&self.text[at..range.start]);
            out.push_str(&with);
            at = range.end;
        }
        out + &self.text[at..]
    }
}

/// The blanks at the beginning of the last line; none if there are very many.
fn indentation(before: &str) -> &str {
    let line = &before[before.rfind('\n').map_or(0, |newline| newline + 1)..];
    let indent = &line[..line.len() - line.trim_start_matches([' ', '\t']).len()];
    if indent.len() > MAX_LAYOUT { "" } else { indent }
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// The layout of a file.
struct Style {
    /// One level of indentation; `None` if a collection is on one line.
    unit: Option<String>,
    /// Between key and value.
    colon: String,
    line_end: String,
}

impl Style {
    /// The layout of the outermost collection.
    fn of(text: &str) -> serde_json::Result<Self> {
        let line_end = if text.contains("\r\n") { "\r\n" } else { "\n" };
        let root = text.trim_ascii();
        let mut style = Self { unit: Some("  ".into()), colon: ": ".into(), line_end: line_end.into() };
        let children = if root.starts_with(['{', '[']) { Children::of(root)?.0 } else { Vec::new() };
        let Some((key, value)) = children.first() else { return Ok(style) };
        let position = |part: &RawValue| part.get().as_ptr() as usize - root.as_ptr() as usize;
        let before = &root[1..position(key.unwrap_or(value))];
        style.unit = before.contains('\n').then(|| indentation(before).to_owned());
        if let Some(key) = key {
            let colon = &root[position(key) + key.get().len()..position(value)];
            if colon.len() <= MAX_LAYOUT {
                style.colon = colon.to_owned();
            }
        } else if style.unit.is_none() {
            style.colon = ":".into();
        }
        Ok(style)
    }

    /// A value whose first line is indented by `indent`.
    fn written(&self, value: &Value, indent: &str) -> String {
        let (open, close, children): (_, _, Vec<String>) = match value {
            Value::Object(map) if !map.is_empty() => {
                let inner = self.inner(indent);
                let pair = |(key, value): (&String, &Value)| {
                    format!("{}{}{}", quoted(key), self.colon, self.written(value, &inner))
                };
                ('{', '}', map.iter().map(pair).collect())
            }
            Value::Array(list) if !list.is_empty() => {
                let inner = self.inner(indent);
                ('[', ']', list.iter().map(|value| self.written(value, &inner)).collect())
            }
            scalar => return scalar.to_string(),
        };
        match &self.unit {
            Some(_) => {
                let (end, inner) = (&self.line_end, self.inner(indent));
                format!("{open}{end}{inner}{}{end}{indent}{close}", children.join(&format!(",{end}{inner}")))
            }
            None => {
                let comma = if self.colon.ends_with(' ') { ", " } else { "," };
                format!("{open}{}{close}", children.join(comma))
            }
        }
    }

    fn inner(&self, indent: &str) -> String {
        format!("{indent}{}", self.unit.as_deref().unwrap_or_default())
    }
}
