//! The parser `xml`: a dotted path of elements, and its text or attribute.
//!
//! `*` stands for any element, and `[@name='X']` behind a name for those with that attribute. Missing elements are created,
//! except where a `*` or a filter asks for one that exists. A value `[attribute='text']` sets an attribute. Conditions have no
//! effect, as with Wings.

mod document;
mod path;

use std::ops::Range;

use quick_xml::escape;

use super::{MAX_LAYOUT, Omission, ParseError, Replacement};
use document::{Document, Element};
use path::Segment;

/// The beginning of a new file.
const DECLARATION: &str = "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n";
/// One level of indentation, where the file shows none.
const UNIT: &str = "  ";

pub(super) fn edit(
    text: &str,
    replacements: &[Replacement],
    omitted: &mut Vec<Omission>,
) -> Result<String, ParseError> {
    let mut text = text.to_owned();
    // A file that is not XML is left alone, whatever the paths say.
    Document::read(&text)?;
    for replacement in replacements {
        match edited(&text, replacement)? {
            Ok(edited) => text = edited,
            Err(why) => omitted.push(Omission { key: replacement.key.clone(), why }),
        }
    }
    Ok(text)
}

fn edited(text: &str, replacement: &Replacement) -> Result<Result<String, &'static str>, ParseError> {
    let Some(segments) = path::segments(&replacement.key) else {
        return Ok(Err("the path is no dotted path of elements"));
    };
    if replacement.text.chars().any(|char| char.is_control() && !matches!(char, '\t' | '\n' | '\r'))
        || replacement.text.contains(['\u{fffe}', '\u{ffff}'])
    {
        return Ok(Err("the value contains control characters, which XML cannot hold"));
    }
    let mut document = Document::read(text)?;
    let mut created = None;
    if document.root().is_none() {
        let Some(name) = segments.first().and_then(Segment::plain_name) else { return Ok(Ok(text.to_owned())) };
        let gap = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
        let declaration = if text.trim_ascii().is_empty() { DECLARATION } else { "" };
        created = Some(format!("{text}{gap}{declaration}<{name}/>\n"));
    }
    if let Some(text) = &created {
        document = Document::read(text)?;
    }
    Ok(Ok(Editor { document: &document, splices: Vec::new(), length: text.len() }.apply(&segments, &replacement.text)?))
}

/// Collects replacements of byte ranges.
struct Editor<'d, 't> {
    document: &'d Document<'t>,
    splices: Vec<(Range<usize>, String)>,
    /// Bytes of the new text.
    length: usize,
}

impl Editor<'_, '_> {
    fn apply(mut self, segments: &[Segment], value: &str) -> Result<String, ParseError> {
        let found = self.document.find(segments);
        match found.is_empty() {
            true => self.create(segments, value),
            false => {
                for element in found {
                    self.set(element, value);
                    ParseError::check_length(self.length)?;
                }
            }
        }
        self.splices.sort_by_key(|(range, _)| (range.start, range.end));
        let mut out = String::with_capacity(self.document.text.len() + 256);
        let mut at = 0;
        for (range, with) in self.splices {
            out.push_str(&self.document.text[at..range.start]);
            out.push_str(&with);
            at = range.end;
        }
        Ok(out + &self.document.text[at..])
    }

    fn splice(&mut self, range: Range<usize>, with: String) {
        self.length += with.len();
        self.splices.push((range, with));
    }

    fn set(&mut self, element: &Element<'_>, value: &str) {
        match path::attribute(value) {
            Some((name, value)) => self.set_attribute(element, name, value),
            None => self.set_text(element, value),
        }
    }

    fn set_attribute(&mut self, element: &Element<'_>, name: &str, value: &str) {
        match element.attribute(self.document.text, name) {
            Some((old, _)) if old == value => {}
            Some((_, range)) => self.splice(range, escaped_attribute(value)),
            None => {
                let end = element.end_of_attributes(self.document.text);
                self.splice(end..end, format!(" {name}=\"{}\"", escaped_attribute(value)));
            }
        }
    }

    /// Sets the text before the first child. The blanks between the two are layout.
    fn set_text(&mut self, element: &Element<'_>, value: &str) {
        let value = if element.has_children() { value.trim_ascii() } else { value };
        if value.is_empty() && element.is_empty_tag() {
            return;
        }
        if element.is_empty_tag() {
            let end = element.end_of_attributes(self.document.text);
            let closed = format!(">{}</{}>", escaped_text(value), element.name);
            return self.splice(end..element.tag.end, closed);
        }
        if element.decoded_text(self.document.text).as_deref() == Some(value) {
            return;
        }
        let mut parts = element.text_ranges(self.document.text).into_iter();
        let first = parts.next().unwrap_or(element.content.start..element.content.start);
        self.splice(first, escaped_text(value));
        parts.for_each(|range| self.splice(range, String::new()));
    }

    /// Creates the missing elements at the end of a path, unless one of them is a `*` or has a filter.
    fn create(&mut self, segments: &[Segment], value: &str) {
        for length in (1..segments.len()).rev() {
            let Some(parent) = self.document.find(&segments[..length]).into_iter().next() else { continue };
            let names: Option<Vec<&str>> = segments[length..].iter().map(Segment::plain_name).collect();
            if let Some(names) = names {
                self.insert(parent, &names, value);
            }
            return;
        }
    }

    fn insert(&mut self, parent: &Element<'_>, names: &[&str], value: &str) {
        let text = self.document.text;
        let line_end = if text.contains("\r\n") { "\r\n" } else { "\n" };
        let children = self.document.children(parent);
        let unit = self.document.unit().filter(|unit| unit.len() <= MAX_LAYOUT).unwrap_or(UNIT.into());
        if let Some((first, last)) = children.first().zip(children.last()) {
            let before = text[..first.tag.start].trim_end_matches([' ', '\t']);
            let is_own_line = before.ends_with('\n');
            let indent = if is_own_line { short(&text[before.len()..first.tag.start]) } else { "" };
            let lead = if is_own_line { format!("{line_end}{indent}") } else { String::new() };
            let new = written(names, value, is_own_line.then_some((indent, unit.as_str(), line_end)));
            return self.splice(last.end..last.end, format!("{lead}{new}"));
        }
        let has_text = !text[parent.content.clone()].trim_ascii().is_empty();
        let own = &text[..parent.tag.start];
        let indent = &own[own.trim_end_matches([' ', '\t']).len()..];
        let is_pretty = !has_text && (own.is_empty() || own[..own.len() - indent.len()].ends_with('\n'));
        let indent = short(indent);
        let inner = format!("{indent}{unit}");
        let new = written(names, value, is_pretty.then_some((inner.as_str(), unit.as_str(), line_end)));
        let content = if is_pretty { format!("{line_end}{inner}{new}{line_end}{indent}") } else { new };
        if parent.is_empty_tag() {
            let end = parent.end_of_attributes(text);
            self.splice(end..parent.tag.end, format!(">{content}</{}>", parent.name));
        } else {
            let at = if has_text { parent.content.end..parent.content.end } else { parent.content.clone() };
            self.splice(at, content);
        }
    }
}

/// An indentation, unless it is very long.
fn short(indent: &str) -> &str {
    if indent.len() > MAX_LAYOUT { "" } else { indent }
}

/// New elements, each inside the one before it. `layout` is the indentation of the first one, one level of it, and the line end;
/// `None` puts all on one line.
fn written(names: &[&str], value: &str, layout: Option<(&str, &str, &str)>) -> String {
    let Some((name, rest)) = names.split_first() else { return String::new() };
    if rest.is_empty() {
        return match path::attribute(value) {
            Some((attribute, value)) => format!("<{name} {attribute}=\"{}\"/>", escaped_attribute(value)),
            None if value.is_empty() => format!("<{name}/>"),
            None => format!("<{name}>{}</{name}>", escaped_text(value)),
        };
    }
    match layout {
        Some((indent, unit, line_end)) => {
            let inner = format!("{indent}{unit}");
            let child = written(rest, value, Some((inner.as_str(), unit, line_end)));
            format!("<{name}>{line_end}{inner}{child}{line_end}{indent}</{name}>")
        }
        None => format!("<{name}>{}</{name}>", written(rest, value, None)),
    }
}

fn escaped_text(text: &str) -> String {
    escape::partial_escape(text).replace('\r', "&#13;")
}

fn escaped_attribute(text: &str) -> String {
    let escaped = escape::escape(text);
    escaped.replace('\t', "&#9;").replace('\n', "&#10;").replace('\r', "&#13;")
}
