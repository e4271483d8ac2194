//! What the deserializer complains about, as a place and in words for the person who wrote the file.

use super::YamlError;
use super::syntax::{self, MAX_MESSAGE, MAX_QUOTE, cut, short};
use super::tree::{Document, Kind, Node};

/// The longest path of keys, in characters.
const MAX_PATH: usize = 200;
/// The shortest beginning of a name that stands for it, in characters.
const MIN_BEGINNING: usize = 4;

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
        return syntax::complaint(text, &message, line, column);
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

/// The one of the known names that a wrong one was probably meant to be.
pub fn nearest<'a>(wrong: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let wrong = cut(wrong, MAX_QUOTE).to_lowercase();
    let length = wrong.chars().count();
    let is_near = |distance: usize, name: &str| {
        let known = name.chars().count();
        // More than half of it is right: `on` resembles `down` no more than `up`.
        let alike = distance <= 1 + known / 4 && 2 * distance < known.max(length);
        alike || (length >= MIN_BEGINNING && name.to_lowercase().starts_with(&wrong))
    };
    let distances = known.map(|name| (strsim::damerau_levenshtein(&wrong, &name.to_lowercase()), name));
    let near = distances.filter(|(distance, name)| is_near(*distance, name));
    near.min_by_key(|(distance, _)| *distance).map(|(_, name)| name)
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
