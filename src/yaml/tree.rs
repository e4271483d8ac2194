//! A YAML document as a tree of nodes with their positions in the text.
//!
//! [`read`] rejects a text that is not YAML, holds more than one document or (with [`Keys::Unique`]) a key twice, or exceeds the limits on
//! nesting, values and aliases. It works on the parser's events, before the deserializer, whose own limits are weaker, reads
//! the text.

use std::collections::HashMap;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span};

use super::{YamlError, syntax};

mod measure;

/// Levels of nested collections. Bounds the recursion over nodes.
pub(super) const MAX_DEPTH: usize = 64;
/// Nodes of a document, each alias counted as the nodes that it stands for.
pub(super) const MAX_NODES: usize = 100_000;
/// Aliases in a document.
pub(super) const MAX_ALIASES: usize = 64;

/// Whether a mapping may hold a key twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keys {
    Unique,
    Any,
}

/// How a collection is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// By indentation, one entry per line.
    Block,
    /// In brackets or braces.
    Flow,
    /// A mapping of one pair in a flow sequence, without braces: `[a: 1]`.
    Pair,
}

#[derive(Debug)]
pub(super) enum Kind {
    Scalar { value: String, style: ScalarStyle },
    Alias,
    Sequence { layout: Layout, items: Vec<Item> },
    Mapping { layout: Layout, entries: Vec<Entry> },
}

/// A node and the bytes it covers, including its anchor and tag, excluding the comments around it.
#[derive(Debug)]
pub(super) struct Node {
    pub kind: Kind,
    pub start: usize,
    pub end: usize,
    /// Counted from one.
    pub line: usize,
    /// Counted from one, in characters.
    pub column: usize,
    /// The node has an anchor or a tag.
    pub decorated: bool,
}

#[derive(Debug)]
pub(super) struct Item {
    /// Position of the dash, in block layout.
    pub dash: Option<usize>,
    pub value: Node,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub key: Node,
    /// Position of the colon, if it is on the line of the key.
    pub colon: Option<usize>,
    pub value: Node,
}

impl Node {
    fn layout(&self) -> Option<Layout> {
        match &self.kind {
            Kind::Sequence { layout, .. } | Kind::Mapping { layout, .. } => Some(*layout),
            Kind::Scalar { .. } | Kind::Alias => None,
        }
    }

    /// The text of a scalar.
    pub fn as_key(&self) -> Option<&str> {
        match &self.kind {
            Kind::Scalar { value, .. } => Some(value),
            _ => None,
        }
    }

    /// The entry of a mapping with this key; the last one if there are several.
    pub fn entry(&self, name: &str) -> Option<&Entry> {
        match &self.kind {
            Kind::Mapping { entries, .. } => entries.iter().rfind(|entry| entry.key.as_key() == Some(name)),
            _ => None,
        }
    }

    /// The element of a sequence at this index.
    pub fn item(&self, index: usize) -> Option<&Self> {
        match &self.kind {
            Kind::Sequence { items, .. } => items.get(index).map(|item| &item.value),
            _ => None,
        }
    }
}

impl Entry {
    /// The byte after the entry.
    pub fn end(&self) -> usize {
        let after_colon = self.colon.map_or(0, |colon| colon + 1);
        after_colon.max(self.value.end).max(self.key.end)
    }
}

/// Reads `text`, which has no byte order mark and is at most [`super::MAX_BYTES`] long. `None` for a text of blanks and comments.
pub(super) fn read(text: &str, keys: Keys) -> Result<Option<Node>, YamlError> {
    let mut builder = Builder::new(text, keys);
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|e| {
            let at = e.marker();
            syntax::explain(text, e.info(), (at.line(), at.col() + 1), builder.unclosed_bracket())
        })?;
        builder.take(event, span)?;
    }
    let mut root = builder.root;
    if let Some(node) = &mut root {
        measure::measure(node, text, builder.body);
    }
    Ok(root)
}

/// A collection whose end has not been read yet.
struct Open {
    node: Node,
    anchor: usize,
    /// Nodes in it so far, with aliases expanded.
    expanded: usize,
    /// The key whose value has not been read yet.
    key: Option<Node>,
    /// The keys so far, with their lines.
    keys: HashMap<String, usize>,
}

/// Builds nodes from events.
struct Builder<'t> {
    text: &'t str,
    keys: Keys,
    /// Byte offset of each character, if the text is not ASCII.
    bytes: Option<Vec<u32>>,
    open: Vec<Open>,
    root: Option<Node>,
    /// Where the content of the document may start: after `---` if there is one.
    body: usize,
    documents: usize,
    aliases: usize,
    nodes: usize,
    /// Expanded size of each anchored node. `None` while the node is open.
    anchors: HashMap<usize, Option<usize>>,
}

impl<'t> Builder<'t> {
    fn new(text: &'t str, keys: Keys) -> Self {
        let bytes = (!text.is_ascii()).then(|| {
            let ends = std::iter::once(text.len() as u32);
            text.char_indices().map(|(i, _)| i as u32).chain(ends).collect()
        });
        Self {
            text,
            keys,
            bytes,
            open: Vec::new(),
            root: None,
            body: 0,
            documents: 0,
            aliases: 0,
            nodes: 0,
            anchors: HashMap::new(),
        }
    }

    /// The parser counts characters.
    fn byte(&self, at: Marker) -> usize {
        match &self.bytes {
            None => at.index().min(self.text.len()),
            Some(table) => table.get(at.index()).map_or(self.text.len(), |offset| *offset as usize),
        }
    }

    fn node(&self, span: Span, kind: Kind, decorated: bool) -> Node {
        Node {
            kind,
            start: self.byte(span.start),
            end: self.byte(span.end),
            line: span.start.line(),
            column: span.start.col() + 1,
            decorated,
        }
    }

    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), YamlError> {
        match event {
            Event::DocumentStart(explicit) => {
                self.documents += 1;
                if self.documents > 1 {
                    let help = "a file holds one document: move the second one to its own file, or remove the `---`";
                    return Err(error(span, "a second document begins here").help(help));
                }
                if explicit {
                    self.body = self.byte(span.end);
                }
            }
            Event::Alias(anchor) => {
                self.aliases += 1;
                let expanded = self.alias(anchor, span)?;
                let node = self.node(span, Kind::Alias, false);
                self.add(node, 0, expanded)?;
            }
            Event::Scalar(value, style, anchor, tag) => {
                let kind = Kind::Scalar { value: value.into_owned(), style };
                let node = self.node(span, kind, anchor != 0 || tag.is_some());
                self.add(node, anchor, 1)?;
            }
            Event::SequenceStart(anchor, tag) => {
                let layout = self.layout(span, '[');
                let kind = Kind::Sequence { layout, items: Vec::new() };
                self.begin(span, kind, anchor, tag.is_some())?;
            }
            Event::MappingStart(anchor, tag) => {
                let layout = self.layout(span, '{');
                let kind = Kind::Mapping { layout, entries: Vec::new() };
                self.begin(span, kind, anchor, tag.is_some())?;
            }
            Event::SequenceEnd | Event::MappingEnd => self.finish(span)?,
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
        }
        Ok(())
    }

    fn layout(&self, span: Span, bracket: char) -> Layout {
        if self.text[self.byte(span.start)..self.byte(span.end)].ends_with(bracket) {
            Layout::Flow
        } else if self.open.last().is_some_and(|open| open.node.layout() != Some(Layout::Block)) {
            Layout::Pair
        } else {
            Layout::Block
        }
    }

    /// The innermost open bracket or brace, with line and column.
    fn unclosed_bracket(&self) -> Option<(char, (usize, usize))> {
        let node = &self.open.iter().rfind(|open| open.node.layout() == Some(Layout::Flow))?.node;
        let bracket = if matches!(node.kind, Kind::Sequence { .. }) { '[' } else { '{' };
        Some((bracket, (node.line, node.column)))
    }

    /// The expanded size of the node that an alias stands for.
    fn alias(&self, anchor: usize, span: Span) -> Result<usize, YamlError> {
        if self.aliases > MAX_ALIASES {
            let message = format!("more than {MAX_ALIASES} aliases (`*name`) in one document");
            return Err(error(span, message).help("write the values out"));
        }
        let parent = self.open.last();
        if parent.is_some_and(|p| matches!(p.node.kind, Kind::Mapping { .. }) && p.key.is_none()) {
            return Err(error(span, "an alias in the position of a key").help("write the key out"));
        }
        match self.anchors.get(&anchor) {
            Some(None) => Err(error(span, "an alias inside the value it stands for").help("write the value out")),
            Some(Some(expanded)) => Ok(*expanded),
            None => Ok(1),
        }
    }

    fn begin(&mut self, span: Span, kind: Kind, anchor: usize, tagged: bool) -> Result<(), YamlError> {
        if self.open.len() >= MAX_DEPTH {
            return Err(error(span, format!("more than {MAX_DEPTH} levels of nesting")));
        }
        if anchor != 0 {
            self.anchors.insert(anchor, None);
        }
        let node = self.node(span, kind, anchor != 0 || tagged);
        self.open.push(Open { node, anchor, expanded: 1, key: None, keys: HashMap::new() });
        Ok(())
    }

    fn finish(&mut self, span: Span) -> Result<(), YamlError> {
        let Some(mut open) = self.open.pop() else {
            return Ok(());
        };
        // The end of a flow collection is its bracket; the span extends over a comment after it.
        let bracket = usize::from(open.node.layout() == Some(Layout::Flow));
        open.node.end = self.byte(span.start) + bracket;
        self.add(open.node, open.anchor, open.expanded)
    }

    /// Adds a complete node to the collection that contains it.
    fn add(&mut self, node: Node, anchor: usize, expanded: usize) -> Result<(), YamlError> {
        let (line, column) = (node.line, node.column);
        self.nodes += 1;
        if anchor != 0 {
            self.anchors.insert(anchor, Some(expanded));
        }
        let Some(parent) = self.open.last_mut() else {
            self.root = (!is_blank(&node)).then_some(node);
            return Ok(());
        };
        parent.expanded = parent.expanded.saturating_add(expanded);
        if parent.expanded.max(self.nodes) > MAX_NODES {
            let message = format!("more than {MAX_NODES} values, with aliases expanded");
            return Err(YamlError::at(line, column, message));
        }
        match &mut parent.node.kind {
            Kind::Sequence { items, .. } => items.push(Item { dash: None, value: node }),
            Kind::Mapping { entries, .. } => match parent.key.take() {
                Some(key) => entries.push(Entry { key, colon: None, value: node }),
                None => {
                    if let Some(name) = node.as_key()
                        && let Some(first) = parent.keys.insert(name.to_owned(), line)
                        && self.keys == Keys::Unique
                    {
                        let name = syntax::cut(name, syntax::MAX_QUOTE);
                        let message = format!("the key `{name}` is there twice, first on line {first}");
                        return Err(YamlError::at(line, column, message).help("remove one of the two"));
                    }
                    parent.key = Some(node);
                }
            },
            Kind::Scalar { .. } | Kind::Alias => {}
        }
        Ok(())
    }
}

fn error(span: Span, message: impl Into<String>) -> YamlError {
    YamlError::at(span.start.line(), span.start.col() + 1, message)
}

/// The parser reads one empty scalar from a text without content.
fn is_blank(node: &Node) -> bool {
    matches!(&node.kind, Kind::Scalar { value, style: ScalarStyle::Plain } if value.is_empty()) && !node.decorated
}
