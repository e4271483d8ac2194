//! Errors of the deserializer, with their position, translated for the person who wrote the file.

use super::YamlError;
use super::syntax::{self, MAX_MESSAGE, MAX_QUOTE, cut};
use super::tree::{Kind, Node};

/// The longest path of keys, in characters.
const MAX_PATH: usize = 200;
/// The shortest prefix that counts as an abbreviation of a name, in characters.
const MIN_PREFIX: usize = 4;

/// The error for a document that does not have the expected shape.
pub(super) fn shape(text: &str, root: Option<&Node>, error: &serde_yaml::Error) -> YamlError {
    let (position, message) = split(error);
    let Some(root) = root else {
        let error = YamlError::at(1, 1, format!("there is nothing in it: {message}"));
        return error.help("write the missing keys");
    };
    // The deserializer has a scanner of its own, which rejects some texts that the parser accepts.
    if is_syntax(&message) {
        return syntax::explain(text, &message, position.unwrap_or((1, 1)), None);
    }
    let (mut target, rest) = follow(root, &message);
    if let Some(key) = quoted_after(rest, "unknown field `") {
        target = find_key(&target, key).unwrap_or(target);
    }
    let Target { node, path } = target;
    let (line, column) = position.filter(|_| path.is_empty()).unwrap_or((node.line, node.column));
    YamlError {
        line: Some(line),
        column: Some(column),
        help: suggestion(rest),
        message: cut(&wrong_type(rest, &path).unwrap_or_else(|| rest.to_owned()), MAX_MESSAGE),
        path: (!path.is_empty()).then(|| cut(&path, MAX_PATH)),
    }
}

/// The error for a document that the deserializer rejects, and whose tree cannot be read because of `fault`.
pub(super) fn unplaced(fault: YamlError, error: &serde_yaml::Error) -> YamlError {
    let (position, message) = split(error);
    if is_syntax(&message) {
        return fault;
    }
    let (line, column) = position.unzip();
    let (path, rest) = message.split_once(": ").filter(|(path, _)| !path.contains(' ')).unwrap_or(("", &message));
    let message = wrong_type(rest, path).unwrap_or_else(|| rest.to_owned());
    let path = (!path.is_empty()).then(|| cut(path, MAX_PATH));
    YamlError { line, column, path, help: suggestion(rest), message: cut(&message, MAX_MESSAGE) }
}

/// The position of an error, and its message without it.
fn split(error: &serde_yaml::Error) -> (Option<(usize, usize)>, String) {
    let position = error.location().map(|at| (at.line(), at.column()));
    let mut message = error.to_string();
    if let Some((line, column)) = position {
        let suffix = format!(" at line {line} column {column}");
        message.truncate(message.strip_suffix(&suffix).map_or(message.len(), str::len));
    }
    (position, message)
}

/// Whether a message is about the text and not about its meaning.
fn is_syntax(message: &str) -> bool {
    [", while ", "found ", "did not find", "not allowed in this context", "control characters", "could not find"]
        .iter()
        .any(|part| message.contains(part))
        && !message.contains("expected ")
        || message.contains(", while ")
}

/// The dotted path of the key that a mistake reports as missing.
pub(super) fn missing_key(mistake: &YamlError) -> Option<String> {
    let key = quoted_after(&mistake.message, "missing field `")?;
    Some(join(mistake.path.as_deref().unwrap_or_default(), key))
}

/// A node and the dotted path to it.
struct Target<'a> {
    node: &'a Node,
    path: String,
}

/// Follows the path with which the deserializer begins its message. Returns the node, and the rest of the message.
fn follow<'a, 'm>(root: &'a Node, message: &'m str) -> (Target<'a>, &'m str) {
    let mut target = Target { node: root, path: String::new() };
    let on_path = |child: Target<'a>| {
        let rest = message.strip_prefix(child.path.as_str()).filter(|rest| rest.starts_with([':', '.', '[']))?;
        Some((child, rest))
    };
    while let Some((child, rest)) =
        children(&target).into_iter().filter_map(on_path).max_by_key(|(child, _)| child.path.len())
    {
        target = child;
        if let Some(rest) = rest.strip_prefix(": ") {
            return (target, rest);
        }
    }
    // The message has no path, or one that leads through an alias.
    (Target { node: root, path: String::new() }, message)
}

/// The values in a collection, with their paths as the deserializer writes them.
fn children<'a>(parent: &Target<'a>) -> Vec<Target<'a>> {
    let path = &parent.path;
    match &parent.node.kind {
        Kind::Sequence { items, .. } => {
            let items = items.iter().enumerate();
            items.map(|(index, item)| Target { node: &item.value, path: format!("{path}[{index}]") }).collect()
        }
        Kind::Mapping { entries, .. } => {
            let named = entries.iter().filter_map(|entry| Some((entry.key.as_key()?, &entry.value)));
            named.map(|(key, node)| Target { node, path: join(path, key) }).collect()
        }
        Kind::Scalar { .. } | Kind::Alias => Vec::new(),
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// The nearest key of this name in or below the node. Buffered types (tagged enums) lose the exact position.
fn find_key<'a>(from: &Target<'a>, name: &str) -> Option<Target<'a>> {
    let in_node = |target: &Target<'a>| {
        let entry = target.node.entry(name)?;
        Some(Target { node: &entry.key, path: join(&target.path, name) })
    };
    let mut found = in_node(from);
    let mut level = children(from);
    while found.is_none() && !level.is_empty() {
        found = level.iter().find_map(in_node);
        level = level.iter().flat_map(children).collect();
    }
    found
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

/// The known name that is most similar to a wrong one, if one is similar enough.
pub fn nearest<'a>(wrong: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let wrong = cut(wrong, MAX_QUOTE).to_lowercase();
    let length = wrong.chars().count();
    let is_near = |distance: usize, name: &str| {
        let known = name.chars().count();
        // More than half of it is right: `on` resembles `down` no more than `up`.
        let alike = distance <= 1 + known / 4 && 2 * distance < known.max(length);
        alike || (length >= MIN_PREFIX && name.to_lowercase().starts_with(&wrong))
    };
    let distances = known.map(|name| (strsim::damerau_levenshtein(&wrong, &name.to_lowercase()), name));
    let near = distances.filter(|(distance, name)| is_near(*distance, name));
    near.min_by_key(|(distance, _)| *distance).map(|(_, name)| name)
}

/// Translates `invalid type: string "x", expected u32`. The value is left out if it may be a secret.
fn wrong_type(message: &str, path: &str) -> Option<String> {
    let found_expected = message.strip_prefix("invalid type: ").or_else(|| message.strip_prefix("invalid value: "))?;
    let (found, expected) = found_expected.rsplit_once(", expected ")?;
    let expected = match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number, zero or more",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "a string" => "a text",
        "a map" => "a mapping of keys to values",
        "any YAML value" | "any valid JSON value" => "a number of at most 64 bits",
        other if other.starts_with("struct ") => "a mapping of keys to values",
        other if other.starts_with("enum ") => "one of the known words",
        other => other,
    };
    let key = path.rsplit('.').next().unwrap_or_default().to_lowercase();
    let secret = ["token", "secret", "password", "key"].iter().any(|part| key.contains(part));
    Some(if secret {
        format!("expected {expected}, found something else")
    } else {
        format!("expected {expected}, found {}", describe(found))
    })
}

/// The number in ``integer `5` as u128``.
fn number_in(found: &str) -> String {
    cut(found.split('`').nth(1).unwrap_or_default(), MAX_QUOTE)
}

fn describe(found: &str) -> String {
    match found {
        "unit value" => "nothing".to_owned(),
        "map" => "a mapping".to_owned(),
        "sequence" => "a list".to_owned(),
        other => match other.strip_prefix("string ") {
            Some(text) => format!("the text {}", cut(text, MAX_QUOTE)),
            None if other.ends_with("128") => format!("the number {}, which is too large", number_in(other)),
            None => cut(other, MAX_QUOTE),
        },
    }
}
