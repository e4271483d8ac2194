//! Nulls that the deserializer reads as something else.

use saphyr_parser::ScalarStyle;
use serde_json::Value;

use super::YamlError;
use super::tree::{Kind, Node};

/// The first null in a document that became a text, and the first mapping that became a word (`power: {up: null}`). `value` is what
/// was read.
pub(super) fn find(root: &Node, value: &Value) -> Option<YamlError> {
    within(root, value, "")
}

fn within(node: &Node, value: &Value, path: &str) -> Option<YamlError> {
    match (&node.kind, value) {
        (Kind::Mapping { entries, .. }, Value::Object(map)) => entries.iter().find_map(|entry| {
            let key = entry.key.as_key()?;
            let path = if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
            within(&entry.value, map.get(key)?, &path)
        }),
        (Kind::Sequence { items, .. }, Value::Array(values)) => {
            let items = items.iter().zip(values).enumerate();
            items.into_iter().find_map(|(index, (item, value))| within(&item.value, value, &format!("{path}[{index}]")))
        }
        (Kind::Mapping { .. }, Value::String(_)) => Some(fault(node, path, "expected a word, found a mapping")),
        (Kind::Scalar { value: text, style: ScalarStyle::Plain }, Value::String(read))
            if !node.decorated && text == read && matches!(text.as_str(), "~" | "null" | "Null" | "NULL") =>
        {
            let error = fault(node, path, "expected a text, found nothing");
            Some(error.help("remove the key, or put the text in quotes"))
        }
        _ => None,
    }
}

fn fault(node: &Node, path: &str, message: &str) -> YamlError {
    YamlError { path: Some(path.to_owned()), ..YamlError::at(node.line, node.column, message) }
}
