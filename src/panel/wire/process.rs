//! `process_configuration`: start-up detection, stop, configuration files.

use serde_json::Value;

use super::WireError;
use super::read::{Fields, Trail, kind, text};
use crate::model::settings::{ConfigFile, Process, Replacement, Startup, Stop};

/// What Wings writes into a file for a replacement that is no scalar.
const NOT_A_SCALAR: &str = "<invalid>";

pub(super) fn read(fields: Fields<'_>) -> Result<Process, WireError> {
    Ok(Process {
        startup: fields.nested("startup", startup)?,
        stop: fields.nested("stop", |fields| Ok(Stop { kind: fields.text("type")?, value: fields.text("value")? }))?,
        configs: fields.list("configs", config_file)?,
    })
}

fn startup(fields: Fields<'_>) -> Result<Startup, WireError> {
    Ok(Startup { done: fields.texts("done")?, strip_ansi: fields.flag("strip_ansi")?.unwrap_or(false) })
}

/// An entry without `parser` or `file` makes the whole configuration unreadable, as in Wings.
fn config_file(value: &Value, trail: &Trail<'_>) -> Result<ConfigFile, WireError> {
    let fields = Fields::of(value, trail)?;
    let replace = fields.list("replace", |value, trail| Ok(replacement_or_none(value, trail)))?;
    Ok(ConfigFile {
        parser: fields.required_text("parser")?,
        file: fields.required_text("file")?,
        create_file: fields.flag("create_file")?.unwrap_or(true),
        replace: replace.into_iter().flatten().collect(),
    })
}

/// One bad replacement does not keep a server from starting: it is left out.
fn replacement_or_none(value: &Value, trail: &Trail<'_>) -> Option<Replacement> {
    replacement(value, trail)
        .inspect_err(|error| tracing::debug!(%error, "a replacement in a configuration file is left out"))
        .ok()
}

fn replacement(value: &Value, trail: &Trail<'_>) -> Result<Replacement, WireError> {
    let fields = Fields::of(value, trail)?;
    // `value` is the key's older name. A key that is there counts even if it is null, which is a value of its own.
    let with = ["replace_with", "value"].iter().find_map(|key| value.get(key).map(|value| (*key, value)));
    let replace_with = match with {
        None => {
            return Err(WireError::new(&Trail::Key(trail, "replace_with"), "a scalar", "nothing"));
        }
        Some((key, value @ Value::String(_))) => Value::String(text(value, &Trail::Key(trail, key))?),
        Some((_, value @ (Value::Array(_) | Value::Object(_)))) => {
            tracing::debug!(at = %trail, found = kind(value), "a replacement is no scalar");
            Value::String(NOT_A_SCALAR.into())
        }
        Some((_, scalar)) => scalar.clone(),
    };
    Ok(Replacement {
        key: fields.required_text("match")?,
        if_value: fields.optional_scalar_text("if_value")?,
        replace_with,
    })
}
