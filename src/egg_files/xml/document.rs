//! The elements of an XML text with their positions.

use std::ops::Range;

use quick_xml::Reader;
use quick_xml::escape;
use quick_xml::events::Event;
use quick_xml::events::attributes::Attributes;

use super::path::{Filter, Segment};
use crate::egg_files::ParseError;

/// The most elements of a file, which bounds the memory for them.
const MAX_ELEMENTS: usize = 500_000;

/// The most attributes of an element.
const MAX_ATTRIBUTES: usize = 1000;

/// The elements of a text, in its order.
pub(super) struct Document<'t> {
    pub text: &'t str,
    elements: Vec<Element<'t>>,
}

/// An element. Ranges are bytes of the text.
pub(super) struct Element<'t> {
    pub name: &'t str,
    /// The start tag, or the only tag.
    pub tag: Range<usize>,
    /// Between the tags.
    pub content: Range<usize>,
    /// After the end tag.
    pub end: usize,
    parent: Option<usize>,
    children: Vec<usize>,
    /// Texts, references and CDATA before the first child.
    parts: Vec<Range<usize>>,
}

impl<'t> Document<'t> {
    /// # Errors
    /// The text is malformed, or has too many elements.
    pub fn read(text: &'t str) -> Result<Self, ParseError> {
        let error = |message: &dyn std::fmt::Display| ParseError::syntax("XML", message);
        let mut reader = Reader::from_str(text);
        let (mut elements, mut open): (Vec<Element<'t>>, Vec<usize>) = (Vec::new(), Vec::new());
        loop {
            let start = reader.buffer_position() as usize;
            let event = reader.read_event().map_err(|e| error(&e))?;
            let range = start..reader.buffer_position() as usize;
            match event {
                Event::Start(_) | Event::Empty(_) => {
                    let parent = open.last().copied();
                    if elements.len() >= MAX_ELEMENTS {
                        return Err(error(&format!("more than {MAX_ELEMENTS} elements")));
                    }
                    if parent.is_none() && !elements.is_empty() {
                        return Err(error(&"a second root element"));
                    }
                    let index = elements.len();
                    if let Some(parent) = parent {
                        elements[parent].children.push(index);
                    }
                    if matches!(event, Event::Start(_)) {
                        open.push(index);
                    }
                    elements.push(
                        Element::new(text, range, parent)
                            .ok_or_else(|| error(&"a tag that is invalid or has too many attributes"))?,
                    );
                }
                Event::End(_) => {
                    let Some(index) = open.pop() else { return Err(error(&"an end tag without a start tag")) };
                    let element = &mut elements[index];
                    element.content.end = range.start;
                    element.end = range.end;
                }
                Event::Text(_) | Event::CData(_) | Event::GeneralRef(_) => match open.last() {
                    Some(index) if elements[*index].children.is_empty() => elements[*index].parts.push(range),
                    Some(_) => {}
                    None if text[range.clone()].trim_ascii().is_empty() => {}
                    None => return Err(error(&"text outside of the root element")),
                },
                Event::Eof => break,
                Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => {}
            }
        }
        match open.is_empty() {
            true => Ok(Self { text, elements }),
            false => Err(error(&"an element is not closed")),
        }
    }

    pub fn root(&self) -> Option<&Element<'t>> {
        self.elements.first()
    }

    pub fn children(&self, element: &Element<'t>) -> Vec<&Element<'t>> {
        element.children.iter().map(|index| &self.elements[*index]).collect()
    }

    /// The elements at a path.
    pub fn find(&self, segments: &[Segment]) -> Vec<&Element<'t>> {
        let Some((first, rest)) = segments.split_first() else { return Vec::new() };
        let root: Vec<_> = self.root().into_iter().collect();
        rest.iter().fold(self.matching(&root, first), |parents, segment| {
            parents.iter().flat_map(|parent| self.matching(&self.children(parent), segment)).collect()
        })
    }

    /// Those of some siblings that a segment selects.
    fn matching<'d>(&'d self, siblings: &[&'d Element<'t>], segment: &Segment) -> Vec<&'d Element<'t>> {
        let named = siblings.iter().copied().filter(|element| segment.selects_name(element.name));
        segment.filters.iter().fold(named.collect(), |left: Vec<_>, filter| {
            let kept = left.into_iter().enumerate();
            kept.filter(|(index, element)| self.passes(element, *index, filter)).map(|(_, element)| element).collect()
        })
    }

    /// Whether an element, at this position among those that the filters before leave, has what a filter asks for.
    fn passes(&self, element: &Element<'t>, position: usize, filter: &Filter) -> bool {
        let equals = |expected: &Option<String>, found: Option<String>| match expected {
            Some(expected) => found.as_ref() == Some(expected),
            None => true,
        };
        match filter {
            Filter::Attribute { name, value } => {
                element.attribute(self.text, name).is_some_and(|(found, _)| equals(value, Some(found)))
            }
            Filter::Child { name, text } => {
                let mut named = self.children(element).into_iter().filter(|child| child.name == name);
                named.any(|child| equals(text, child.decoded_text(self.text)))
            }
            Filter::Position(wanted) => *wanted == position,
        }
    }

    /// One level of indentation: that of the first element on a line of its own.
    pub fn unit(&self) -> Option<String> {
        self.elements.iter().filter(|element| element.parent == Some(0)).find_map(|element| {
            let before = &self.text[..element.tag.start];
            let line = before.trim_end_matches([' ', '\t']);
            (line.ends_with('\n') && line.len() < before.len()).then(|| before[line.len()..].to_owned())
        })
    }
}

impl<'t> Element<'t> {
    fn new(text: &'t str, tag: Range<usize>, parent: Option<usize>) -> Option<Self> {
        let inner = text.get(tag.clone())?.strip_prefix('<')?;
        let name = &inner[..inner.find(|char: char| char.is_ascii_whitespace() || matches!(char, '/' | '>'))?];
        let (content, end) = (tag.end..tag.end, tag.end);
        let element = Self { name, tag, content, end, parent, children: Vec::new(), parts: Vec::new() };
        // Each attribute is compared with all before it.
        let mut attributes = element.attributes(text);
        let all_valid = attributes.by_ref().take(MAX_ATTRIBUTES).all(|attribute| attribute.is_ok());
        (!name.is_empty() && all_valid && attributes.next().is_none()).then_some(element)
    }

    /// Whether there are elements inside.
    pub fn has_children(&self) -> bool {
        !self.children.is_empty()
    }

    /// Whether there is one tag, `<a/>`, and no content.
    pub fn is_empty_tag(&self) -> bool {
        self.end == self.tag.end
    }

    fn attributes(&self, text: &'t str) -> Attributes<'t> {
        let inner = &text[self.tag.start + 1..self.end_of_attributes(text)];
        Attributes::new(inner, self.name.len())
    }

    /// The value of an attribute, and the position of the escaped value.
    pub fn attribute(&self, text: &'t str, name: &str) -> Option<(String, Range<usize>)> {
        let attribute = self.attributes(text).flatten().find(|attribute| attribute.key.0 == name)?;
        let raw: &str = attribute.value.as_ref();
        let start = (raw.as_ptr() as usize).checked_sub(text.as_ptr() as usize)?;
        let value = escape::unescape(raw).map_or_else(|_| raw.to_owned(), |value| value.into_owned());
        Some((value, start..start + raw.len()))
    }

    /// The position of `>` or `/>`, without blanks before it.
    pub fn end_of_attributes(&self, text: &str) -> usize {
        let tag = &text[self.tag.clone()];
        let tag = tag.strip_suffix('>').unwrap_or(tag);
        let tag = if self.is_empty_tag() { tag.strip_suffix('/').unwrap_or(tag) } else { tag };
        self.tag.start + tag.trim_ascii_end().len()
    }

    /// The parts of the text, of an element with children without the blanks around them.
    pub fn text_ranges(&self, text: &str) -> Vec<Range<usize>> {
        let mut parts = self.parts.clone();
        if self.children.is_empty() {
            return parts;
        }
        let is_blank = |range: &Range<usize>| text[range.clone()].trim_ascii().is_empty();
        while parts.last().is_some_and(is_blank) {
            parts.pop();
        }
        parts.drain(..parts.iter().take_while(|range| is_blank(range)).count());
        if let Some(first) = parts.first_mut() {
            first.start = first.end - text[first.clone()].trim_ascii_start().len();
        }
        if let Some(last) = parts.last_mut() {
            last.end = last.start + text[last.clone()].trim_ascii_end().len();
        }
        parts
    }

    /// The text, unless it refers to an entity of the document.
    pub fn decoded_text(&self, text: &str) -> Option<String> {
        let parts = self.text_ranges(text);
        let decoded = parts.into_iter().map(|range| {
            let raw = &text[range];
            match raw.strip_prefix("<![CDATA[").and_then(|raw| raw.strip_suffix("]]>")) {
                Some(inner) => Some(inner.to_owned()),
                None => escape::unescape(raw).ok().map(|text| text.into_owned()),
            }
        });
        decoded.collect()
    }
}
