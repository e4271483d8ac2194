//! What parser and deserializer complain about, as a place and in words for the person who wrote
//! the file.

use super::YamlError;
use super::tree::{Document, Kind, Node};

mod brackets;

/// What the scanner says where brackets do not match.
const FLOW: [&str; 4] =
    ["did not find expected node content", "illegal placement of ':'", "a flow mapping", "a flow sequence"];
/// The longest piece of a file that a message repeats, in characters.
const MAX_QUOTE: usize = 60;
/// The longest path of keys, in characters.
const MAX_PATH: usize = 200;
/// The longest message, in characters.
const MAX_MESSAGE: usize = 1000;

/// `text` as far as a message repeats it.
pub(super) fn short(text: &str) -> String {
    cut(text, MAX_QUOTE)
}

fn cut(text: &str, characters: usize) -> String {
    match text.char_indices().nth(characters) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

/// A text that is not YAML. `line` and `column` count from one.
pub(super) fn syntax(text: &str, message: &str, line: usize, column: usize) -> YamlError {
    if let Some(tab) = tab_in_indentation(text, line) {
        let message = format!("a tab at line {tab}: YAML is indented with spaces");
        return YamlError::at(tab, 1, message).help("replace the tab by spaces");
    }
    if FLOW.iter().any(|words| message.contains(words))
        && let Some((bracket, line, column)) = brackets::unclosed(text)
    {
        let (opening, closing) = bracket;
        let error = YamlError::at(line, column, format!("a `{opening}` is not closed"));
        return error.help(format!("write the `{closing}` that belongs to it, or put the value in quotes"));
    }
    let (says, help) = in_words(message);
    let (line, column) = if message.contains("simple key expect") {
        // The scanner notices only on a later line that the colon never came.
        last_content_line(text, line).unwrap_or((line, column))
    } else {
        (line, column)
    };
    let error = YamlError::at(line, column, says);
    match help {
        Some(help) => error.help(help),
        None => error,
    }
}

/// The first of the lines around `line` that is indented with a tab.
fn tab_in_indentation(text: &str, line: usize) -> Option<usize> {
    let first = line.saturating_sub(1).max(1);
    text.lines().enumerate().skip(first - 1).take(3).find_map(|(index, content)| {
        let indentation = content.len() - content.trim_start_matches([' ', '\t']).len();
        content[..indentation].contains('\t').then_some(index + 1)
    })
}

/// The last line before `line` that is not blank, and the column of its first character.
fn last_content_line(text: &str, line: usize) -> Option<(usize, usize)> {
    let before = text.lines().enumerate().take(line.saturating_sub(1));
    let (index, content) = before.filter(|(_, l)| !l.trim().is_empty()).last()?;
    Some((index + 1, content.len() - content.trim_start().len() + 1))
}

/// The scanner's words in those of people who write files.
fn in_words(message: &str) -> (String, Option<&'static str>) {
    let known: [(&str, &str, Option<&'static str>); 13] = [
        (
            "illegal placement of ':'",
            "a `:` where no key can be",
            Some("put a value that contains `: ` in quotes, or correct the indentation"),
        ),
        ("misplaced bracket", "a bracket that closes nothing", Some("put the value in quotes")),
        ("did not find expected node content", "expected a value here", Some("put the value in quotes")),
        (
            "mapping values are not allowed",
            "a `:` where no key can be",
            Some("put a value that contains `: ` in quotes, or correct the indentation"),
        ),
        ("simple key expect", "expected `key: value`, found no `:`", Some("write a `:` and a space after the key")),
        (
            "invalid indentation in quoted scalar",
            "a quoted text that is not closed, or whose next line is not indented",
            Some("close the quote"),
        ),
        ("unclosed quote", "a quoted text that is not closed", Some("close the quote")),
        ("found unexpected end of stream", "a quoted text that is not closed", Some("close the quote")),
        (
            "invalid trailing content",
            "text behind the closing quote",
            Some("in single quotes, write a quote as two: `''`"),
        ),
        (
            "while parsing a block mapping, did not find expected key",
            "expected a key here",
            Some("indent all keys of one mapping alike"),
        ),
        (
            "did not find expected '-' indicator",
            "expected another `- ` of the list here",
            Some("indent all elements of one list alike"),
        ),
        (
            "unknown anchor",
            "an alias (`*name`) to an anchor (`&name`) that is not there",
            Some("put a value that begins with `*` in quotes"),
        ),
        ("recursion limit", "too deep a nesting", None),
    ];
    if let Some((_, says, help)) = known.iter().find(|(needle, ..)| message.contains(needle)) {
        return ((*says).to_owned(), *help);
    }
    let help = (message.contains("unexpected character") || message.contains("cannot start any token"))
        .then_some("put the value in quotes");
    (cut(message, MAX_MESSAGE), help)
}

/// A document that is not of the expected shape: the deserializer's error, with its place.
pub(super) fn shape(text: &str, document: &Document, error: &serde_yaml::Error) -> YamlError {
    let place = error.location().map(|at| (at.line(), at.column()));
    let mut message = error.to_string();
    if let Some((line, column)) = place {
        let suffix = format!(" at line {line} column {column}");
        message.truncate(message.strip_suffix(&suffix).map_or(message.len(), str::len));
    }
    let Some(root) = &document.root else {
        let error = YamlError::at(1, 1, format!("there is nothing in it: {message}"));
        return error.help("write the missing keys");
    };
    // A place of the deserializer's own scanner: what it calls an error, ours let pass.
    if message.contains(", while ") || message.contains("found character") {
        let (line, column) = place.unwrap_or((1, 1));
        return syntax(text, &message, line, column);
    }
    let mut target = follow(root, &message);
    let said = target.rest.to_owned();
    if let Some(key) = quoted_after(&said, "unknown field `")
        && let Some(found) = find_key(&target, key)
    {
        target = found;
    }
    let node_place = (target.node.line, target.node.column);
    let (line, column) = match place {
        Some(place) if target.path.is_empty() => place,
        _ => node_place,
    };
    YamlError {
        line: Some(line),
        column: Some(column),
        help: suggestion(&said),
        message: cut(&wrong_type(&said, &target.path).unwrap_or(said), MAX_MESSAGE),
        path: (!target.path.is_empty()).then(|| cut(&target.path, MAX_PATH)),
    }
}

/// A node, the dotted path to it, and what is left of the message behind that path.
struct Target<'a> {
    node: &'a Node,
    path: String,
    rest: &'a str,
}

/// Walks along the path with which the deserializer begins its message.
fn follow<'a>(root: &'a Node, message: &'a str) -> Target<'a> {
    let mut target = Target { node: root, path: String::new(), rest: message };
    while let Some((node, path)) = children(target.node, &target.path)
        .filter(|(_, path)| message.starts_with(path.as_str()))
        .filter(|(_, path)| message[path.len()..].starts_with([':', '.', '[']))
        .max_by_key(|(_, path)| path.len())
    {
        let rest = message[path.len()..].strip_prefix(": ").unwrap_or(message);
        target = Target { node, path, rest };
        if target.rest.len() < message.len() {
            break;
        }
    }
    if target.rest.len() == message.len() {
        // No node is called so: the message has no path, or one that leads through an alias.
        target = Target { node: root, path: String::new(), rest: message };
    }
    target
}

/// The values in a collection with their paths, written as the deserializer writes them.
fn children<'a>(node: &'a Node, path: &str) -> Box<dyn Iterator<Item = (&'a Node, String)> + 'a> {
    let path = path.to_owned();
    match &node.kind {
        Kind::Sequence { items, .. } => {
            Box::new(items.iter().enumerate().map(move |(i, item)| (&item.value, format!("{path}[{i}]"))))
        }
        Kind::Mapping { entries, .. } => Box::new(entries.iter().filter_map(move |entry| {
            let key = entry.key.as_key()?;
            Some((&entry.value, join(&path, key)))
        })),
        Kind::Scalar { .. } | Kind::Alias => Box::new(std::iter::empty()),
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// The key of this name in the node or, since buffered types lose the place, nearest below it.
fn find_key<'a>(from: &Target<'a>, name: &str) -> Option<Target<'a>> {
    let mut level = vec![(from.node, from.path.clone())];
    while !level.is_empty() {
        for (node, path) in &level {
            if let Some(entry) = node.entry(name) {
                return Some(Target { node: &entry.key, path: join(path, name), rest: from.rest });
            }
        }
        level = level.iter().flat_map(|(node, path)| children(node, path)).collect();
    }
    None
}

fn quoted_after<'a>(message: &'a str, start: &str) -> Option<&'a str> {
    let (_, rest) = message.split_once(start)?;
    rest.split_once('`').map(|(name, _)| name)
}

/// The known name nearest to an unknown one.
fn suggestion(message: &str) -> Option<String> {
    let wrong = quoted_after(message, "unknown field `").or_else(|| quoted_after(message, "unknown variant `"))?;
    let (_, expected) = message.split_once("expected ")?;
    let known = expected.split('`').skip(1).step_by(2);
    nearest(wrong, known).map(|name| format!("did you mean `{name}`?"))
}

/// The one of `known` that `wrong` was probably meant to be.
pub(super) fn nearest<'a>(wrong: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let wrong = cut(wrong, MAX_QUOTE).to_lowercase();
    let near = known.map(|name| (strsim::damerau_levenshtein(&wrong, &name.to_lowercase()), name));
    let long = |name: &str| name.chars().count().max(wrong.chars().count());
    // Near is also: more than half of it is right. `on` resembles `down` no more than `up`.
    near.filter(|(distance, name)| *distance <= 1 + name.chars().count() / 4 && 2 * *distance < long(name))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// `invalid type: string "x", expected u32` as a sentence that names types as people do, and that
/// does not repeat what may be a secret.
fn wrong_type(message: &str, path: &str) -> Option<String> {
    let found_expected = message.strip_prefix("invalid type: ").or_else(|| message.strip_prefix("invalid value: "))?;
    let (found, expected) = found_expected.rsplit_once(", expected ")?;
    let expected = match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number, zero or more",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "a map" => "a mapping of keys to values",
        other if other.starts_with("struct ") => "a mapping of keys to values",
        other if other.starts_with("enum ") => "one of the known words",
        other => other,
    };
    let key = path.rsplit('.').next().unwrap_or_default().to_lowercase();
    let secret = ["token", "secret", "password", "key"].iter().any(|word| key.contains(word));
    Some(if secret {
        format!("expected {expected}, found something else")
    } else {
        format!("expected {expected}, found {}", found_in_words(found))
    })
}

fn found_in_words(found: &str) -> String {
    match found {
        "unit value" => "nothing".to_owned(),
        "map" => "a mapping".to_owned(),
        "sequence" => "a list".to_owned(),
        other => match other.strip_prefix("string ") {
            Some(text) => format!("the text {}", short(text)),
            None => short(other),
        },
    }
}
