//! A YAML document as nodes that know where they stand in the text.
//!
//! Text goes in, one bounded [`Document`] comes out, or the reason why this text is refused: it is
//! no YAML, it holds more than one document, a key twice, too many nodes, too deep a nesting, or
//! aliases that unfold to more than anybody means. All of that is found out on the parser's events,
//! before the deserializer, whose own bounds are weaker, sees the text.

use std::collections::{HashMap, HashSet};

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span};

use super::{YamlError, syntax};

mod measure;

/// How deep collections may be nested. The deserializer and the nodes' own recursion need a bound.
pub(super) const MAX_DEPTH: usize = 64;
/// How many nodes a document may have after its aliases are unfolded.
pub(super) const MAX_NODES: usize = 100_000;
/// How many aliases a document may use.
pub(super) const MAX_ALIASES: usize = 64;

/// How a collection is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// By indentation, one entry a line.
    Block,
    /// In brackets or braces.
    Flow,
    /// A mapping of one pair inside a flow sequence, with no braces: `[a: 1]`.
    Pair,
}

/// What a node holds.
#[derive(Debug)]
pub(super) enum Kind {
    /// A text, and how it is quoted.
    Scalar { value: String, style: ScalarStyle },
    /// A name for what an anchor marks.
    Alias,
    /// A list.
    Sequence { layout: Layout, items: Vec<Item> },
    /// Keys with their values, in order.
    Mapping { layout: Layout, entries: Vec<Entry> },
}

/// A node and the bytes it covers, its anchor and tag included, comments around it excluded.
#[derive(Debug)]
pub(super) struct Node {
    /// What it is, with what is in it.
    pub kind: Kind,
    /// Its first byte.
    pub start: usize,
    /// The byte behind its last.
    pub end: usize,
    /// Counted from one.
    pub line: usize,
    /// Counted from one, in characters.
    pub column: usize,
    /// It has an anchor or a tag.
    pub decorated: bool,
}

/// An element of a sequence.
#[derive(Debug)]
pub(super) struct Item {
    /// Where its dash is, in block layout.
    pub dash: Option<usize>,
    /// What it is.
    pub value: Node,
}

/// A pair of a mapping.
#[derive(Debug)]
pub(super) struct Entry {
    /// Its name, mostly a text.
    pub key: Node,
    /// Where its colon is, if it follows the key on the same line.
    pub colon: Option<usize>,
    /// What is called so.
    pub value: Node,
}

/// The one document of a text.
#[derive(Debug)]
pub(super) struct Document {
    /// `None` for a text of blanks and comments.
    pub root: Option<Node>,
}

impl Node {
    /// The key this node is, where it can be one.
    pub fn as_key(&self) -> Option<&str> {
        match &self.kind {
            Kind::Scalar { value, .. } => Some(value),
            _ => None,
        }
    }

    /// The pair with this key.
    pub fn entry(&self, name: &str) -> Option<&Entry> {
        let Kind::Mapping { entries, .. } = &self.kind else {
            return None;
        };
        entries.iter().find(|e| e.key.as_key() == Some(name))
    }

    /// The element at this index.
    pub fn item(&self, index: usize) -> Option<&Self> {
        let Kind::Sequence { items, .. } = &self.kind else {
            return None;
        };
        items.get(index).map(|item| &item.value)
    }
}

impl Document {
    /// Reads `text`, which has no byte order mark and is at most [`super::MAX_BYTES`] long.
    pub fn read(text: &str) -> Result<Self, YamlError> {
        let mut builder = Builder::new(text);
        for event in Parser::new_from_str(text) {
            let (event, span) = event.map_err(|e| {
                let at = e.marker();
                syntax::complaint(text, e.info(), at.line(), at.col() + 1)
            })?;
            builder.take(event, span)?;
        }
        let mut root = builder.root;
        if let Some(node) = &mut root {
            measure::measure(node, text, builder.body);
        }
        Ok(Self { root })
    }
}

/// A collection whose end has not come yet.
struct Open {
    node: Node,
    anchor: usize,
    /// Nodes in it so far, aliases unfolded.
    unfolded: usize,
    /// The key that waits for its value.
    key: Option<Node>,
    /// The keys so far, with their lines.
    keys: HashMap<String, usize>,
}

/// Puts nodes together from events.
struct Builder<'t> {
    text: &'t str,
    /// Byte offset of each character, where the two differ.
    bytes: Option<Vec<u32>>,
    open: Vec<Open>,
    root: Option<Node>,
    /// Where the document's content may begin, after `---` if there is one.
    body: usize,
    documents: usize,
    aliases: usize,
    nodes: usize,
    /// Unfolded size of each complete anchored node.
    anchors: HashMap<usize, usize>,
    /// Anchors whose node is not complete yet.
    pending: HashSet<usize>,
}

impl<'t> Builder<'t> {
    fn new(text: &'t str) -> Self {
        let bytes = (!text.is_ascii()).then(|| {
            let ends = std::iter::once(text.len() as u32);
            text.char_indices().map(|(i, _)| i as u32).chain(ends).collect()
        });
        Self {
            text,
            bytes,
            open: Vec::new(),
            root: None,
            body: 0,
            documents: 0,
            aliases: 0,
            nodes: 0,
            anchors: HashMap::new(),
            pending: HashSet::new(),
        }
    }

    /// The parser counts characters, slices want bytes.
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
                    return Err(YamlError::at(
                        span.start.line(),
                        span.start.col() + 1,
                        "a second document begins here",
                    )
                    .help("a file holds one document: put the other one into a file of its own, or remove the `---`"));
                }
                if explicit {
                    self.body = self.byte(span.end);
                }
            }
            Event::Alias(anchor) => {
                self.aliases += 1;
                let unfolded = self.alias(anchor, span)?;
                let node = self.node(span, Kind::Alias, false);
                self.add(node, 0, unfolded)?;
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
        let inside_flow = self.open.last().is_some_and(|open| match &open.node.kind {
            Kind::Sequence { layout, .. } | Kind::Mapping { layout, .. } => *layout != Layout::Block,
            _ => false,
        });
        if self.text[self.byte(span.start)..self.byte(span.end)].ends_with(bracket) {
            Layout::Flow
        } else if inside_flow {
            Layout::Pair
        } else {
            Layout::Block
        }
    }

    /// The unfolded size of the node an alias stands for.
    fn alias(&self, anchor: usize, span: Span) -> Result<usize, YamlError> {
        let (line, column) = (span.start.line(), span.start.col() + 1);
        if self.aliases > MAX_ALIASES {
            let message = format!("more than {MAX_ALIASES} aliases (`*name`) in one document");
            return Err(YamlError::at(line, column, message).help("write the values out"));
        }
        if self.pending.contains(&anchor) {
            return Err(
                YamlError::at(line, column, "an alias inside the very value it stands for").help("write the value out")
            );
        }
        let parent = self.open.last();
        let is_key = parent.is_some_and(|p| matches!(p.node.kind, Kind::Mapping { .. }) && p.key.is_none());
        if is_key {
            return Err(YamlError::at(line, column, "an alias in the place of a key").help("write the key out"));
        }
        Ok(self.anchors.get(&anchor).copied().unwrap_or(1))
    }

    fn begin(&mut self, span: Span, kind: Kind, anchor: usize, tagged: bool) -> Result<(), YamlError> {
        if self.open.len() >= MAX_DEPTH {
            let message = format!("more than {MAX_DEPTH} levels of nesting");
            return Err(YamlError::at(span.start.line(), span.start.col() + 1, message));
        }
        if anchor != 0 {
            self.pending.insert(anchor);
        }
        let node = self.node(span, kind, anchor != 0 || tagged);
        self.open.push(Open { node, anchor, unfolded: 1, key: None, keys: HashMap::new() });
        Ok(())
    }

    fn finish(&mut self, span: Span) -> Result<(), YamlError> {
        let Some(mut open) = self.open.pop() else {
            return Ok(());
        };
        // The end of a flow collection is its bracket; the span goes on over a comment behind it.
        open.node.end = match &open.node.kind {
            Kind::Sequence { layout: Layout::Flow, .. } | Kind::Mapping { layout: Layout::Flow, .. } => {
                self.byte(span.start) + 1
            }
            _ => self.byte(span.start),
        };
        self.pending.remove(&open.anchor);
        self.add(open.node, open.anchor, open.unfolded)
    }

    /// Gives a complete node to the collection it stands in.
    fn add(&mut self, node: Node, anchor: usize, unfolded: usize) -> Result<(), YamlError> {
        let place = (node.line, node.column);
        self.nodes += 1;
        if anchor != 0 {
            self.anchors.insert(anchor, unfolded);
        }
        let Some(parent) = self.open.last_mut() else {
            self.root = (!is_blank(&node)).then_some(node);
            return Ok(());
        };
        parent.unfolded = parent.unfolded.saturating_add(unfolded);
        let total = parent.unfolded.max(self.nodes);
        match &mut parent.node.kind {
            Kind::Sequence { items, .. } => items.push(Item { dash: None, value: node }),
            Kind::Mapping { entries, .. } => match parent.key.take() {
                Some(key) => entries.push(Entry { key, colon: None, value: node }),
                None => {
                    if let Some(name) = node.as_key() {
                        let first = parent.keys.insert(name.to_owned(), node.line);
                        if let Some(line) = first {
                            let message =
                                format!("the key `{}` is there twice, first on line {line}", syntax::short(name));
                            return Err(YamlError::at(place.0, place.1, message).help("remove one of the two"));
                        }
                    }
                    parent.key = Some(node);
                }
            },
            Kind::Scalar { .. } | Kind::Alias => {}
        }
        if total > MAX_NODES {
            let message = format!("more than {MAX_NODES} values, counting what aliases stand for");
            return Err(YamlError::at(place.0, place.1, message));
        }
        Ok(())
    }
}

/// A text without content makes one empty scalar.
fn is_blank(node: &Node) -> bool {
    matches!(&node.kind, Kind::Scalar { value, style: ScalarStyle::Plain } if value.is_empty()) && !node.decorated
}
