//! Changes values in a YAML text and keeps everything else in it.
//!
//! [`merge`] takes a text and a value and returns a text that means exactly this value. Lines whose values did not change
//! keep their bytes, including comments, quotes, order and layout. The result is parsed and compared before it is returned.
//! A construct that cannot be edited in place is rewritten, or else the changed pairs of the outermost mapping, which costs their
//! comments and never changes a value.

use serde_json::Value;

use super::{YamlError, admit, parse_value, to_string, tree};

mod render;
mod splice;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

use splice::{Depth, Editor};

/// The node cannot be edited in place; the node around it has to be rewritten.
#[derive(Debug)]
struct Unable;

/// Changes `old_text` so that it means `new`, and returns it as it is if it does already.
///
/// # Errors
/// [`parse_value`] rejects `old_text`, or `new` exceeds its limits.
pub fn merge(old_text: &str, new: &Value) -> Result<String, YamlError> {
    let body = admit(old_text)?;
    let old = parse_value(body)?;
    if old == *new {
        return Ok(old_text.to_owned());
    }
    let root = tree::read(body, tree::Keys::Unique)?;
    let means_new = |text: &String| parse_value(text).is_ok_and(|value| value == *new);
    let edited = |depth| Editor::new(body, root.as_ref(), depth).edit(&old, new).ok().filter(means_new);
    let merged = match edited(Depth::Values).or_else(|| edited(Depth::OutermostPairs)) {
        Some(merged) => merged,
        None => rewrite(new)?,
    };
    let byte_order_mark = &old_text[..old_text.len() - body.len()];
    Ok(format!("{byte_order_mark}{merged}"))
}

/// Writes the value as a new text.
fn rewrite(new: &Value) -> Result<String, YamlError> {
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
