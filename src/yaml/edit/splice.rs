//! The careful edit: what changed between two values as replacements of pieces of the text.

use std::ops::Range;

use serde_json::{Map, Value};

use super::render::{Rendered, Style, inline};
use super::{Unable, common_ends, flow};
use crate::yaml::tree::{Document, Entry, Item, Kind, Layout, Node};

/// What a value stands behind.
#[derive(Debug, Clone, Copy)]
pub(super) enum Site {
    /// Nothing: it is the document.
    Root,
    /// A key in column `indent`, with its colon at this byte.
    Key { indent: usize, mark: usize },
    /// A dash in column `indent`, at this byte.
    Dash { indent: usize, mark: usize },
    /// Something inside brackets or braces.
    Flow,
}

impl Site {
    /// What the value of a pair hangs on. A pair whose colon stands elsewhere cannot be edited in place.
    pub fn of_entry(layout: Layout, entry: &Entry) -> Result<Self, Unable> {
        match layout {
            Layout::Block => {
                let mark = entry.colon.ok_or(Unable)?;
                Ok(Self::Key { indent: entry.key.column - 1, mark })
            }
            Layout::Flow => Ok(Self::Flow),
            Layout::Pair => Err(Unable),
        }
    }

    /// What an element of a list hangs on.
    pub fn of_item(layout: Layout, item: &Item, text: &str) -> Result<Self, Unable> {
        match layout {
            Layout::Block => {
                let mark = item.dash.ok_or(Unable)?;
                Ok(Self::Dash { indent: column(text, mark), mark })
            }
            Layout::Flow => Ok(Self::Flow),
            Layout::Pair => Err(Unable),
        }
    }
}

/// The column, counted from zero, of a byte.
fn column(text: &str, at: usize) -> usize {
    text[..at].chars().rev().take_while(|c| *c != '\n').count()
}

/// A replacement of a piece of the text.
#[derive(Debug)]
struct Splice {
    range: Range<usize>,
    with: String,
}

/// Collects the replacements for one edit.
pub(super) struct Editor<'t> {
    text: &'t str,
    style: Style,
    splices: Vec<Splice>,
}

impl<'t> Editor<'t> {
    /// An editor that indents as the text does.
    pub fn new(text: &'t str, document: &Document) -> Self {
        let mut style = Seen::default();
        if let Some(root) = &document.root {
            style.look(root, text);
        }
        let style = Style { step: style.step.unwrap_or(2), dash: style.dash.unwrap_or(0) };
        Self { text, style, splices: Vec::new() }
    }

    /// The text with all replacements made.
    pub fn apply(mut self) -> Result<String, Unable> {
        // Stable, so that insertions at one place stay in the order in which they were made.
        self.splices.sort_by_key(|splice| (splice.range.start, splice.range.end));
        let crlf = self.text.contains("\r\n");
        let mut out = String::with_capacity(self.text.len() + 256);
        let mut at = 0;
        for Splice { range, with } in self.splices {
            let kept = self.text.get(at..range.start).ok_or(Unable)?;
            out += kept;
            out += &if crlf { with.replace('\n', "\r\n") } else { with };
            at = range.end;
        }
        out += self.text.get(at..).ok_or(Unable)?;
        Ok(out)
    }

    /// Puts a value behind the comments of a text that has none.
    pub fn append(&mut self, value: &Value) {
        let lines = self.style.alone(value);
        self.insert_lines(self.text.len(), lines);
    }

    /// Makes `node`, which means `old`, mean `new`.
    pub fn change(&mut self, site: Site, node: &Node, old: &Value, new: &Value) -> Result<(), Unable> {
        if old == new {
            return Ok(());
        }
        match (&node.kind, old, new) {
            (Kind::Mapping { layout: Layout::Block, entries }, Value::Object(old), Value::Object(new))
                if old.keys().any(|key| new.contains_key(key)) =>
            {
                self.change_mapping(entries, old, new)
            }
            (Kind::Sequence { layout: Layout::Block, items }, Value::Array(old), Value::Array(new))
                if !new.is_empty() =>
            {
                self.change_list(items, old, new)
            }
            (Kind::Mapping { layout: Layout::Flow, entries }, _, Value::Object(_)) if !entries.is_empty() => {
                self.change_flow(node, old, new)
            }
            (Kind::Sequence { layout: Layout::Flow, items }, _, Value::Array(_)) if !items.is_empty() => {
                self.change_flow(node, old, new)
            }
            _ => self.replace(site, node, new),
        }
    }

    fn change_flow(&mut self, node: &Node, old: &Value, new: &Value) -> Result<(), Unable> {
        let with = flow::edited(self.text, node, old, new)?;
        self.splices.push(Splice { range: node.start..node.end, with });
        Ok(())
    }

    /// Writes a value anew in the place of `node`.
    pub fn replace(&mut self, site: Site, node: &Node, new: &Value) -> Result<(), Unable> {
        let had = match &node.kind {
            Kind::Scalar { style, .. } => Some(*style),
            _ => None,
        };
        let (indent, mark, rendered) = match site {
            Site::Root => {
                let lines = self.style.alone(new);
                let with = lines.trim_end_matches('\n').to_owned();
                // Up to the end of the line: a comment there would become part of a text.
                let range = node.start..self.line_end(node.end);
                self.splices.push(Splice { range, with });
                return Ok(());
            }
            Site::Flow if node.start == node.end => return Err(Unable),
            Site::Flow => {
                let with = inline(new, had, true);
                self.splices.push(Splice { range: node.start..node.end, with });
                return Ok(());
            }
            Site::Key { indent, mark } => (indent, mark, self.style.after_key(new, indent, had)),
            Site::Dash { indent, mark } => (indent, mark, self.style.after_dash(new, indent, had)),
        };
        self.put(indent, mark, node, rendered);
        Ok(())
    }

    /// Puts a rendered value behind the colon or dash at `mark`, in the place of `node`. `indent` is the
    /// column of the key or dash.
    fn put(&mut self, indent: usize, mark: usize, node: &Node, rendered: Rendered) {
        let Rendered { inline, lines } = rendered;
        let behind = mark + 1;
        let gap = if inline.is_empty() { "" } else { " " };
        if node.start == node.end {
            // Nothing was there, but perhaps a comment.
            self.splices.push(Splice { range: behind..behind, with: format!("{gap}{inline}") });
            self.insert_lines(self.next_line(behind), lines);
        } else if self.text[behind..node.start].contains('\n') {
            // It was on the lines below. A comment behind the key stays.
            self.splices.push(Splice { range: behind..behind, with: format!("{gap}{inline}") });
            let below = self.line_end(behind)..self.with_comments_below(node.end, indent);
            let with = format!("\n{lines}");
            let with = with.trim_end_matches('\n').to_owned();
            self.splices.push(Splice { range: below, with });
        } else {
            let from = if inline.is_empty() && self.rest_is_blank(node.end) { behind } else { node.start };
            self.splices.push(Splice { range: from..node.end, with: inline });
            self.insert_lines(self.next_line(node.end), lines);
        }
    }

    fn change_mapping(
        &mut self,
        entries: &[Entry],
        old: &Map<String, Value>,
        new: &Map<String, Value>,
    ) -> Result<(), Unable> {
        for entry in entries {
            let key = entry.key.as_key().ok_or(Unable)?;
            let before = old.get(key).ok_or(Unable)?;
            if let Some(after) = new.get(key) {
                let site = Site::of_entry(Layout::Block, entry)?;
                self.change(site, &entry.value, before, after)?;
            }
        }
        self.insert_pairs(entries, old, new)?;
        self.remove_pairs(entries, new)
    }

    /// New keys go behind the one that they follow in `new`, those that follow none to the end.
    fn insert_pairs(
        &mut self,
        entries: &[Entry],
        old: &Map<String, Value>,
        new: &Map<String, Value>,
    ) -> Result<(), Unable> {
        let last = entries.last().ok_or(Unable)?;
        let indent = last.key.column - 1;
        let mut leading = String::new();
        let mut follows = None;
        for (key, value) in new {
            if old.contains_key(key) {
                follows = entries.iter().find(|entry| entry.key.as_key() == Some(key));
                continue;
            }
            let mut lines = String::new();
            self.style.pair(key, value, indent, &mut lines);
            match follows {
                Some(entry) => self.insert_lines(self.next_line(self.entry_end(entry)), lines),
                None => leading += &lines,
            }
        }
        self.insert_lines(self.next_line(self.entry_end(last)), leading);
        Ok(())
    }

    fn remove_pairs(&mut self, entries: &[Entry], new: &Map<String, Value>) -> Result<(), Unable> {
        let is_kept = |entry: &Entry| entry.key.as_key().is_some_and(|key| new.contains_key(key));
        let mut rest = entries;
        if let Some(first) = entries.first()
            && !is_kept(first)
            && !self.begins_line(first.key.start)
        {
            // It shares its line with a dash: the next pair that stays moves up to it.
            let kept = entries.iter().position(is_kept).ok_or(Unable)?;
            let range = first.key.start..entries[kept].key.start;
            self.splices.push(Splice { range, with: String::new() });
            rest = &entries[kept..];
        }
        let mut floor = 0;
        for entry in rest {
            let end = self.next_line(self.entry_end(entry));
            if !is_kept(entry) {
                let start = self.comments_above(entry.key.start, floor);
                self.splices.push(Splice { range: start..end, with: String::new() });
            }
            floor = end;
        }
        Ok(())
    }

    /// Elements are compared from both ends; what differs between is changed in place, and the rest
    /// inserted or removed.
    fn change_list(&mut self, items: &[Item], old: &[Value], new: &[Value]) -> Result<(), Unable> {
        if items.len() != old.len() {
            return Err(Unable);
        }
        let (head, tail) = common_ends(old, new);
        let (gone, come) = (&items[head..items.len() - tail], &new[head..new.len() - tail]);
        let paired = gone.len().min(come.len());
        for (index, item) in gone.iter().take(paired).enumerate() {
            let site = Site::of_item(Layout::Block, item, self.text)?;
            self.change(site, &item.value, &old[head + index], &come[index])?;
        }
        let mut lines = String::new();
        let indent = column(self.text, items.first().and_then(|item| item.dash).ok_or(Unable)?);
        for value in &come[paired..] {
            self.style.element(value, indent, &mut lines);
        }
        let place = match (head + paired).checked_sub(1) {
            Some(before) => self.next_line(self.item_end(&items[before])?),
            None => {
                let dash = items[0].dash.ok_or(Unable)?;
                if !self.begins_line(dash) && !lines.is_empty() {
                    return Err(Unable);
                }
                self.line_start(dash)
            }
        };
        self.insert_lines(place, lines);
        for item in &gone[paired..] {
            let dash = item.dash.ok_or(Unable)?;
            if !self.begins_line(dash) {
                return Err(Unable);
            }
            let start = self.comments_above(dash, 0);
            let end = self.next_line(self.item_end(item)?);
            self.splices.push(Splice { range: start..end, with: String::new() });
        }
        Ok(())
    }

    fn insert_lines(&mut self, at: usize, lines: String) {
        if lines.is_empty() {
            return;
        }
        let unfinished = at == self.text.len() && !self.text.is_empty() && !self.text.ends_with('\n');
        let with = if unfinished { format!("\n{}", lines.trim_end_matches('\n')) } else { lines };
        self.splices.push(Splice { range: at..at, with });
    }

    /// Where a pair's last line ends, comments below it that are indented deeper included.
    fn entry_end(&self, entry: &Entry) -> usize {
        let end = entry.colon.map_or(0, |colon| colon + 1).max(entry.value.end).max(entry.key.end);
        self.with_comments_below(end, entry.key.column - 1)
    }

    fn item_end(&self, item: &Item) -> Result<usize, Unable> {
        let dash = item.dash.ok_or(Unable)?;
        Ok(self.with_comments_below(item.value.end.max(dash + 1), column(self.text, dash)))
    }

    fn with_comments_below(&self, end: usize, indent: usize) -> usize {
        let mut last = self.line_end(end);
        let mut at = self.next_line(end);
        while at < self.text.len() {
            let line = &self.text[at..self.line_end(at)];
            let content = line.trim_start_matches(' ');
            if content.starts_with('#') && line.len() - content.len() > indent {
                last = self.line_end(at);
            } else if !content.trim().is_empty() {
                break;
            }
            at = self.next_line(at);
        }
        last
    }

    /// The start of the line at `at`, or of the comments directly above it with the same
    /// indentation. A comment at the head of the file belongs to the file.
    fn comments_above(&self, at: usize, floor: usize) -> usize {
        let own = self.line_start(at);
        let indent = at - own;
        let mut start = own;
        while start > floor {
            let above = self.line_start(start - 1);
            let line = &self.text[above..start];
            let content = line.trim_start_matches(' ');
            if !content.starts_with('#') || line.len() - content.len() != indent {
                return start;
            }
            start = above;
        }
        if start == 0 { own } else { start }
    }

    fn line_start(&self, at: usize) -> usize {
        self.text[..at].rfind('\n').map_or(0, |newline| newline + 1)
    }

    /// Where the line at `at` ends, before its line break.
    fn line_end(&self, at: usize) -> usize {
        let rest = &self.text[at..];
        let line = rest.find('\n').map_or(rest, |newline| &rest[..newline]);
        at + line.strip_suffix('\r').unwrap_or(line).len()
    }

    fn next_line(&self, at: usize) -> usize {
        self.text[at..].find('\n').map_or(self.text.len(), |newline| at + newline + 1)
    }

    fn begins_line(&self, at: usize) -> bool {
        self.text[self.line_start(at)..at].bytes().all(|b| b == b' ')
    }

    fn rest_is_blank(&self, at: usize) -> bool {
        self.text[at..self.line_end(at)].trim().is_empty()
    }
}

/// The first indentations that a text shows.
#[derive(Default)]
struct Seen {
    step: Option<usize>,
    dash: Option<usize>,
}

impl Seen {
    fn look(&mut self, node: &Node, text: &str) {
        match &node.kind {
            Kind::Mapping { layout: Layout::Block, entries } => {
                for entry in entries {
                    self.compare(entry, text);
                    self.look(&entry.value, text);
                }
            }
            Kind::Sequence { layout: Layout::Block, items } => {
                items.iter().for_each(|item| self.look(&item.value, text));
            }
            _ => {}
        }
    }

    fn compare(&mut self, entry: &Entry, text: &str) {
        let indent = entry.key.column;
        match &entry.value.kind {
            Kind::Mapping { layout: Layout::Block, entries } => {
                let inner = entries.first().map(|first| first.key.column);
                self.step = self.step.or(inner.and_then(|inner| inner.checked_sub(indent)));
            }
            Kind::Sequence { layout: Layout::Block, items } => {
                let dash = items.first().and_then(|first| first.dash);
                let column = dash.map(|dash| 1 + column(text, dash));
                self.dash = self.dash.or(column.and_then(|column| column.checked_sub(indent)));
            }
            _ => {}
        }
    }
}
