//! Edits of a YAML text that keep what people wrote around the values.
//!
//! A text and a value come in, a text that means exactly that value goes out: lines whose values did not
//! change keep their bytes, with their comments, quotes, order and layout. Every result is read again
//! and compared before it is handed out, so a case that the careful edit does not master costs
//! layout, never meaning: then the smallest mapping around it is written anew, at last the whole text.

use serde_json::Value;

use super::tree::{Document, Kind, Node};
use super::{YamlError, admit, parse_value, to_string};

mod flow;
mod render;
mod splice;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

use splice::{Editor, Site};

/// How many edits are tried one by one, after all of them together did not give the value that was asked for.
const MAX_STEPS: usize = 50;

/// The careful edit does not master this text; something larger has to be written anew.
#[derive(Debug)]
struct Unable;

/// A step on the way from the root to a value.
#[derive(Debug, Clone)]
enum Step {
    Key(String),
    Index(usize),
}

/// Changes `old_text` so that it means `new`. If it does already, it stays as it is.
///
/// # Errors
/// `old_text` is not YAML that [`parse_value`] accepts (a person may be in the middle of writing
/// it), or `new` does not fit into its limits.
pub fn merge(old_text: &str, new: &Value) -> Result<String, YamlError> {
    let body = admit(old_text)?;
    let old = parse_value(body)?;
    if old == *new {
        return Ok(old_text.to_owned());
    }
    let mut steps = MAX_STEPS;
    let merged = match stepwise(body, &mut Vec::new(), new, &mut steps) {
        Some(merged) => merged,
        None => whole(new)?,
    };
    let byte_order_mark = &old_text[..old_text.len() - body.len()];
    Ok(format!("{byte_order_mark}{merged}"))
}

/// The value written anew.
fn whole(new: &Value) -> Result<String, YamlError> {
    let text = to_string(new)?;
    if parse_value(&text)? == *new {
        return Ok(text);
    }
    // JSON is YAML with other escapes.
    let text = format!("{new:#}\n");
    if parse_value(&text)? == *new {
        return Ok(text);
    }
    Err(YamlError::new("this value cannot be written as YAML"))
}

/// The text with the value at `path` as it is in `new`, and all else as it was: by the careful edit if
/// that succeeds, else child by child, else by writing this value anew.
fn stepwise(text: &str, path: &mut Vec<Step>, new: &Value, steps: &mut usize) -> Option<String> {
    let wanted = value_at(new, path)?;
    let old = parse_value(text).ok()?;
    let mut expected = old.clone();
    *value_at_mut(&mut expected, path)? = wanted.clone();
    if let Some(edited) = attempt(text, path, &old, &expected, steps, false) {
        return Some(edited);
    }
    child_by_child(text, path, &old, &expected, new, steps)
        .or_else(|| attempt(text, path, &old, &expected, steps, true))
}

/// The same, with an edit for each value in this one that differs, then one for the rest.
fn child_by_child(
    text: &str,
    path: &mut Vec<Step>,
    old: &Value,
    expected: &Value,
    new: &Value,
    steps: &mut usize,
) -> Option<String> {
    let mut current = text.to_owned();
    for step in changed_children(value_at(old, path)?, value_at(new, path)?) {
        path.push(step);
        let edited = stepwise(&current, path, new, steps);
        path.pop();
        current = edited?;
    }
    let children_done = parse_value(&current).ok()?;
    if children_done == *expected {
        return Some(current);
    }
    attempt(&current, path, &children_done, expected, steps, false)
}

/// The values in both collections that differ.
fn changed_children(old: &Value, new: &Value) -> Vec<Step> {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            let changed = new.iter().filter(|(key, new)| old.get(*key).is_some_and(|old| old != *new));
            changed.map(|(key, _)| Step::Key(key.clone())).collect()
        }
        (Value::Array(old), Value::Array(new)) if old.len() == new.len() => {
            (0..new.len()).filter(|i| old[*i] != new[*i]).map(Step::Index).collect()
        }
        _ => Vec::new(),
    }
}

/// One edit of the value at `path`, with its result checked.
fn attempt(text: &str, path: &[Step], old: &Value, expected: &Value, steps: &mut usize, again: bool) -> Option<String> {
    *steps = steps.checked_sub(1)?;
    let document = Document::read(text).ok()?;
    let mut editor = Editor::new(text, &document);
    let (from, to) = (value_at(old, path)?, value_at(expected, path)?);
    match document.root.as_ref() {
        Some(root) => {
            let (site, node) = node_at(text, root, path)?;
            if again {
                editor.replace(site, node, to).ok()?;
            } else {
                editor.change(site, node, from, to).ok()?;
            }
        }
        None => editor.append(to),
    }
    let edited = editor.apply().ok()?;
    (parse_value(&edited).ok()? == *expected).then_some(edited)
}

fn value_at<'v>(root: &'v Value, path: &[Step]) -> Option<&'v Value> {
    path.iter().try_fold(root, |value, step| match step {
        Step::Key(key) => value.get(key),
        Step::Index(index) => value.get(index),
    })
}

fn value_at_mut<'v>(root: &'v mut Value, path: &[Step]) -> Option<&'v mut Value> {
    path.iter().try_fold(root, |value, step| match step {
        Step::Key(key) => value.get_mut(key),
        Step::Index(index) => value.get_mut(index),
    })
}

fn node_at<'n>(text: &str, root: &'n Node, path: &[Step]) -> Option<(Site, &'n Node)> {
    path.iter().try_fold((Site::Root, root), |(_, node), step| match (step, &node.kind) {
        (Step::Key(key), Kind::Mapping { layout, .. }) => {
            let entry = node.entry(key)?;
            Some((Site::of_entry(*layout, entry).ok()?, &entry.value))
        }
        (Step::Index(index), Kind::Sequence { layout, items }) => {
            let item = items.get(*index)?;
            Some((Site::of_item(*layout, item, text).ok()?, &item.value))
        }
        _ => None,
    })
}

/// How many elements two lists have in common at their beginnings and, of the rest, at their ends.
fn common_ends(old: &[Value], new: &[Value]) -> (usize, usize) {
    let head = old.iter().zip(new).take_while(|(a, b)| a == b).count();
    let ends = old[head..].iter().rev().zip(new[head..].iter().rev());
    (head, ends.take_while(|(a, b)| a == b).count())
}
