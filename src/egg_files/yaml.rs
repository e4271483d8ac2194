//! The parser `yaml`: the editor of [`crate::yaml::edit`] writes the changes.

use super::{Omission, ParseError, Replacement, path};
use crate::yaml;

pub(super) fn edit(
    text: &str,
    replacements: &[Replacement],
    omitted: &mut Vec<Omission>,
) -> Result<String, ParseError> {
    let error = |error| ParseError::syntax("YAML", error);
    let mut value = yaml::parse_value(text).map_err(error)?;
    if !value.is_object() && !value.is_null() && !value.is_array() {
        return Err(ParseError::syntax("YAML", "expected keys with values, found one text"));
    }
    let before = value.clone();
    path::apply(&mut value, replacements, omitted);
    if value == before {
        return Ok(text.to_owned());
    }
    yaml::edit::merge(text, &value).map_err(error)
}
