//! Paths of elements, and values that name an attribute.

/// One element of a path.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Segment {
    /// The name; `*` for any.
    name: String,
    pub filters: Vec<Filter>,
}

/// What an element must have.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Filter {
    /// An attribute, with this value if there is one.
    Attribute { name: String, value: Option<String> },
    /// A child, with this text if there is one.
    Child { name: String, text: Option<String> },
    /// The position, counted from zero, among those that the filters before leave.
    Position(usize),
}

impl Segment {
    pub fn selects_name(&self, name: &str) -> bool {
        self.name == "*" || self.name == name
    }

    /// The name, if the element can be created from it.
    pub fn plain_name(&self) -> Option<&str> {
        (self.filters.is_empty() && self.name != "*").then_some(&self.name)
    }
}

/// The elements of a dotted path. Dots in brackets do not separate.
pub(super) fn segments(path: &str) -> Option<Vec<Segment>> {
    let (mut segments, mut start, mut depth, mut quote) = (Vec::new(), 0, 0_usize, None);
    for (at, char) in path.char_indices() {
        match (char, quote) {
            (_, Some(open)) if char == open => quote = None,
            (_, Some(_)) => {}
            ('\'' | '"', None) if depth > 0 => quote = Some(char),
            ('[', None) => depth += 1,
            (']', None) => depth = depth.checked_sub(1)?,
            ('.', None) if depth == 0 => {
                segments.push(segment(&path[start..at])?);
                start = at + 1;
            }
            _ => {}
        }
    }
    segments.push(segment(&path[start..])?);
    Some(segments)
}

fn segment(text: &str) -> Option<Segment> {
    let (name, mut rest) = text.split_at(text.find('[').unwrap_or(text.len()));
    if name != "*" && !is_name(name) {
        return None;
    }
    let mut filters = Vec::new();
    while let Some(inner) = rest.strip_prefix('[') {
        // A closing bracket inside quotes does not count.
        let quoted = |at: usize| inner[..at].matches(['\'', '"']).count() % 2 == 1;
        let (end, _) = inner.match_indices(']').find(|(at, _)| !quoted(*at))?;
        filters.push(filter(&inner[..end])?);
        rest = &inner[end + 1..];
    }
    rest.is_empty().then(|| Segment { name: name.to_owned(), filters })
}

fn filter(text: &str) -> Option<Filter> {
    if let Ok(position) = text.parse::<usize>() {
        return Some(Filter::Position(position.checked_sub(1)?));
    }
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name.trim(), Some(unquoted(value.trim())?.to_owned())),
        None => (text.trim(), None),
    };
    match name.strip_prefix('@') {
        Some(name) => is_name(name).then(|| Filter::Attribute { name: name.to_owned(), value }),
        None => is_name(name).then(|| Filter::Child { name: name.to_owned(), text: value }),
    }
}

fn unquoted(text: &str) -> Option<&str> {
    let inner = |quote| text.strip_prefix(quote).and_then(|text| text.strip_suffix(quote));
    inner('\'').or_else(|| inner('"'))
}

/// The attribute that a value sets: `[name='text']`.
pub(super) fn attribute(value: &str) -> Option<(&str, &str)> {
    let (name, text) = value.strip_prefix('[')?.strip_suffix(']')?.split_once('=')?;
    Some((is_name(name).then_some(name)?, unquoted(text)?))
}

/// Whether a text can be the name of an element or attribute.
fn is_name(text: &str) -> bool {
    let begins_well = |char: char| char.is_alphabetic() || char == '_' || char == ':';
    let mut chars = text.chars();
    chars.next().is_some_and(begins_well)
        && chars.all(|char| begins_well(char) || char.is_numeric() || matches!(char, '-' | '.' | '\u{b7}'))
}
