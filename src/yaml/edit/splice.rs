//! Edits a text in place: the differences between two values as replacements of byte ranges.

use std::ops::Range;

use serde_json::{Map, Value};

use super::Unable;
use super::render::{Rendered, Style, flow_pair, inline};
use crate::yaml::tree::{Entry, Item, Kind, Layout, Node};

/// The position of a value in the text.
#[derive(Debug, Clone, Copy)]
pub(super) enum Site {
    /// The whole document.
    Root,
    /// After a key in column `indent` and the colon at byte `mark`.
    Key { indent: usize, mark: usize },
    /// After a dash in column `indent`, at byte `mark`.
    Dash { indent: usize, mark: usize },
    /// Inside brackets or braces.
    Flow,
}

impl Site {
    /// Fails for a pair in brackets without braces, and for one whose colon is not on the line of its key.
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

/// Replaces a byte range of the text.
struct Splice {
    range: Range<usize>,
    with: String,
}

/// Collects the replacements of one edit.
pub(super) struct Editor<'t> {
    text: &'t str,
    /// `None` for a text of comments.
    root: Option<&'t Node>,
    style: Style,
    depth: Depth,
    splices: Vec<Splice>,
}

/// How small the parts are that are replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    /// The changed values, at any depth.
    Values,
    /// The changed pairs of the outermost mapping, each as a whole.
    OutermostPairs,
}

impl<'t> Editor<'t> {
    /// An editor for the document `root`, which was read from `text`. New lines are indented like those of the text.
    pub fn new(text: &'t str, root: Option<&'t Node>, depth: Depth) -> Self {
        let mut indentation = Indentation::default();
        if let Some(root) = root {
            indentation.detect(root, text);
        }
        let style = Style { step: indentation.step.unwrap_or(2), dash: indentation.dash.unwrap_or(0) };
        Self { text, root, style, depth, splices: Vec::new() }
    }

    /// The text, which means `old`, changed to mean `new`. The caller verifies the result.
    pub fn edit(mut self, old: &Value, new: &Value) -> Result<String, Unable> {
        match self.root {
            Some(root) => self.change(Site::Root, root, old, new)?,
            None => self.insert_lines(self.text.len(), self.style.alone(new)),
        }
        self.apply()
    }

    fn apply(mut self) -> Result<String, Unable> {
        // The sort is stable: insertions at one position keep their order.
        self.splices.sort_by_key(|splice| (splice.range.start, splice.range.end));
        let crlf = self.text.contains("\r\n");
        let mut out = String::with_capacity(self.text.len() + 256);
        let mut at = 0;
        for Splice { range, with } in self.splices {
            out += self.text.get(at..range.start).ok_or(Unable)?;
            out += &if crlf { with.replace('\n', "\r\n") } else { with };
            at = range.end;
        }
        Ok(out + self.text.get(at..).ok_or(Unable)?)
    }

    /// Changes `node`, which means `old`, to mean `new`: in place if possible, otherwise by rewriting the node.
    fn change(&mut self, site: Site, node: &Node, old: &Value, new: &Value) -> Result<(), Unable> {
        let before = self.splices.len();
        let in_place = self.depth == Depth::Values || matches!(site, Site::Root);
        if old == new || (in_place && self.change_in_place(node, old, new).is_ok()) {
            return Ok(());
        }
        self.splices.truncate(before);
        self.replace(site, node, new)
    }

    fn change_in_place(&mut self, node: &Node, old: &Value, new: &Value) -> Result<(), Unable> {
        match (&node.kind, old, new) {
            (Kind::Mapping { layout: Layout::Block, entries }, Value::Object(old), Value::Object(new))
                if old.keys().any(|key| new.contains_key(key)) =>
            {
                self.change_entries(Layout::Block, entries, old, new)?;
                self.insert_pairs(entries, old, new)?;
                self.remove_pairs(entries, new)
            }
            (Kind::Mapping { layout, entries }, Value::Object(old), Value::Object(new))
                if old.keys().all(|key| new.contains_key(key)) =>
            {
                self.change_entries(*layout, entries, old, new)?;
                let added = new.iter().filter(|(key, _)| !old.contains_key(*key));
                let added: String = added.map(|(key, value)| format!(", {}", flow_pair(key, value))).collect();
                self.insert(entries.last().ok_or(Unable)?.end(), added);
                Ok(())
            }
            (Kind::Sequence { layout: Layout::Block, items }, Value::Array(old), Value::Array(new))
                if !new.is_empty() =>
            {
                self.change_list(items, old, new)
            }
            (Kind::Sequence { layout, items }, Value::Array(old), Value::Array(new))
                if items.len() == old.len() && old.len() <= new.len() =>
            {
                for (item, (old, new)) in items.iter().zip(old.iter().zip(new)) {
                    self.change(Site::of_item(*layout, item, self.text)?, &item.value, old, new)?;
                }
                let added: String =
                    new[old.len()..].iter().map(|new| format!(", {}", inline(new, None, true))).collect();
                self.insert(items.last().ok_or(Unable)?.value.end, added);
                Ok(())
            }
            _ => Err(Unable),
        }
    }

    /// Writes `new` in the position of `node`.
    fn replace(&mut self, site: Site, node: &Node, new: &Value) -> Result<(), Unable> {
        let had = match &node.kind {
            Kind::Scalar { style, .. } => Some(*style),
            _ => None,
        };
        // A flow collection stays one.
        let site = match (&node.kind, new) {
            _ if self.depth == Depth::OutermostPairs => site,
            (Kind::Mapping { layout: Layout::Flow, entries }, Value::Object(_)) if !entries.is_empty() => Site::Flow,
            (Kind::Sequence { layout: Layout::Flow, items }, Value::Array(_)) if !items.is_empty() => Site::Flow,
            _ => site,
        };
        let (indent, mark, rendered) = match site {
            Site::Root => {
                let with = self.style.alone(new).trim_end_matches('\n').to_owned();
                // Up to the end of the line: a comment there would become part of a block scalar.
                self.splices.push(Splice { range: node.start..self.line_end(node.end), with });
                return Ok(());
            }
            Site::Flow if node.start == node.end => return Err(Unable),
            Site::Flow => {
                self.splices.push(Splice { range: node.start..node.end, with: inline(new, had, true) });
                return Ok(());
            }
            Site::Key { indent, mark } => (indent, mark, self.style.after_key(new, indent, had)),
            Site::Dash { indent, mark } => (indent, mark, self.style.after_dash(new, indent, had)),
        };
        self.put(indent, mark, node, rendered);
        Ok(())
    }

    /// Writes `rendered` after the colon or dash at `mark`, in the position of `node`. `indent` is the column of the key or
    /// dash.
    fn put(&mut self, indent: usize, mark: usize, node: &Node, rendered: Rendered) {
        let Rendered { inline, lines } = rendered;
        let after_mark = mark + 1;
        let gap = if inline.is_empty() { "" } else { " " };
        if node.start == node.end {
            // The old value is empty; a comment may follow the mark.
            self.insert(after_mark, format!("{gap}{inline}"));
            self.insert_lines(self.next_line(after_mark), lines);
        } else if self.text[after_mark..node.start].contains('\n') {
            // The old value is on the lines below. A comment after the mark stays.
            self.insert(after_mark, format!("{gap}{inline}"));
            let range = self.line_end(after_mark)..self.with_comments_below(node.end, indent);
            self.splices.push(Splice { range, with: format!("\n{lines}").trim_end_matches('\n').to_owned() });
        } else {
            let from = if inline.is_empty() && self.rest_is_blank(node.end) { after_mark } else { node.start };
            self.splices.push(Splice { range: from..node.end, with: inline });
            self.insert_lines(self.next_line(node.end), lines);
        }
    }

    fn change_entries(
        &mut self,
        layout: Layout,
        entries: &[Entry],
        old: &Map<String, Value>,
        new: &Map<String, Value>,
    ) -> Result<(), Unable> {
        for entry in entries {
            let key = entry.key.as_key().ok_or(Unable)?;
            let before = old.get(key).ok_or(Unable)?;
            if let Some(after) = new.get(key).filter(|after| *after != before) {
                self.change(Site::of_entry(layout, entry)?, &entry.value, before, after)?;
            }
        }
        Ok(())
    }

    /// Inserts each new key after the key that precedes it in `new`, or at the end if there is none.
    fn insert_pairs(
        &mut self,
        entries: &[Entry],
        old: &Map<String, Value>,
        new: &Map<String, Value>,
    ) -> Result<(), Unable> {
        let last = entries.last().ok_or(Unable)?;
        let mut leading = String::new();
        let mut previous = None;
        for (key, value) in new {
            if old.contains_key(key) {
                previous = entries.iter().find(|entry| entry.key.as_key() == Some(key));
                continue;
            }
            let mut lines = String::new();
            self.style.pair(key, value, last.key.column - 1, &mut lines);
            match previous {
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
            // The first key is on the line of a dash: the next key that stays takes its position.
            let kept = entries.iter().position(is_kept).ok_or(Unable)?;
            self.remove(first.key.start..entries[kept].key.start);
            rest = &entries[kept..];
        }
        let mut floor = 0;
        for entry in rest {
            let end = self.next_line(self.entry_end(entry));
            if !is_kept(entry) {
                self.remove(self.comments_above(entry.key.start, floor)..end);
            }
            floor = end;
        }
        Ok(())
    }

    /// Elements that both lists have at their ends stay. The others are changed in place, in pairs; what remains of the
    /// longer list is inserted or removed.
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
        let first_dash = items.first().and_then(|item| item.dash).ok_or(Unable)?;
        let mut lines = String::new();
        for value in &come[paired..] {
            self.style.element(value, column(self.text, first_dash), &mut lines);
        }
        match (head + paired).checked_sub(1) {
            Some(previous) => self.insert_lines(self.next_line(self.item_end(&items[previous])?), lines),
            None if lines.is_empty() => {}
            None if self.begins_line(first_dash) => self.insert_lines(self.line_start(first_dash), lines),
            None => return Err(Unable),
        }
        for item in &gone[paired..] {
            let dash = item.dash.filter(|dash| self.begins_line(*dash)).ok_or(Unable)?;
            self.remove(self.comments_above(dash, 0)..self.next_line(self.item_end(item)?));
        }
        Ok(())
    }

    fn remove(&mut self, range: Range<usize>) {
        self.splices.push(Splice { range, with: String::new() });
    }

    fn insert(&mut self, at: usize, with: String) {
        self.splices.push(Splice { range: at..at, with });
    }

    fn insert_lines(&mut self, at: usize, lines: String) {
        let unfinished = at == self.text.len() && !self.text.is_empty() && !self.text.ends_with('\n');
        match unfinished && !lines.is_empty() {
            true => self.insert(at, format!("\n{}", lines.trim_end_matches('\n'))),
            false => self.insert(at, lines),
        }
    }

    /// The end of the last line of a pair, including comments below it that are indented deeper.
    fn entry_end(&self, entry: &Entry) -> usize {
        self.with_comments_below(entry.end(), entry.key.column - 1)
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

    /// The start of the line at `at`, or of the comments directly above it with the same indentation. A comment at the
    /// head of the file belongs to the file.
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

    /// The end of the line at `at`, before its line break.
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

/// How many elements two lists have in common at their beginnings and, of the rest, at their ends.
fn common_ends(old: &[Value], new: &[Value]) -> (usize, usize) {
    let head = old.iter().zip(new).take_while(|(a, b)| a == b).count();
    let ends = old[head..].iter().rev().zip(new[head..].iter().rev());
    (head, ends.take_while(|(a, b)| a == b).count())
}

/// The first indentations in a text.
#[derive(Default)]
struct Indentation {
    step: Option<usize>,
    dash: Option<usize>,
}

impl Indentation {
    fn detect(&mut self, node: &Node, text: &str) {
        match &node.kind {
            Kind::Mapping { layout: Layout::Block, entries } => {
                for Entry { key, value, .. } in entries {
                    self.compare(key.column, value, text);
                    self.detect(value, text);
                }
            }
            Kind::Sequence { layout: Layout::Block, items } => {
                items.iter().for_each(|item| self.detect(&item.value, text));
            }
            _ => {}
        }
    }

    /// `outer` is the column of the key whose value is `node`.
    fn compare(&mut self, outer: usize, node: &Node, text: &str) {
        let deeper = |inner: usize| inner.checked_sub(outer);
        match &node.kind {
            Kind::Mapping { layout: Layout::Block, entries } => {
                self.step = self.step.or(entries.first().and_then(|entry| deeper(entry.key.column)));
            }
            Kind::Sequence { layout: Layout::Block, items } => {
                let dash = items.first().and_then(|item| item.dash);
                self.dash = self.dash.or(dash.and_then(|dash| deeper(1 + column(text, dash))));
            }
            _ => {}
        }
    }
}
