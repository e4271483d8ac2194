//! Reads `process_configuration`: start-up detection, stop, configuration files.

use serde_json::Value;

use super::WireError;
use super::read::{Fields, Read, Scalar, Trail, type_name};
use crate::model::settings::{ConfigFile, Process, Replacement, Startup, Stop};

/// Wings writes this text into a file for a replacement that is no scalar.
const NOT_A_SCALAR: &str = "<invalid>";

impl Read for Process {
    fn read(value: &Value, at: &Trail<'_>) -> Result<Self, WireError> {
        let fields = Fields::of(value, at)?;
        Ok(Self { startup: fields.value("startup")?, stop: fields.value("stop")?, configs: fields.value("configs")? })
    }
}

impl Read for Startup {
    fn read(value: &Value, at: &Trail<'_>) -> Result<Self, WireError> {
        let fields = Fields::of(value, at)?;
        // A text alone stands for a list of one.
        let done = match fields.get("done") {
            Some(Value::String(_)) => vec![fields.value("done")?],
            _ => fields.value("done")?,
        };
        Ok(Self { done, strip_ansi: fields.value("strip_ansi")? })
    }
}

impl Read for Stop {
    fn read(value: &Value, at: &Trail<'_>) -> Result<Self, WireError> {
        let fields = Fields::of(value, at)?;
        Ok(Self { kind: fields.value("type")?, value: fields.value("value")?, timeout: None })
    }
}

/// An entry without `parser` or `file` makes the whole configuration unreadable, as in Wings.
impl Read for ConfigFile {
    fn read(value: &Value, at: &Trail<'_>) -> Result<Self, WireError> {
        let fields = Fields::of(value, at)?;
        let replace: Vec<Option<Replacement>> = fields.value("replace")?;
        Ok(Self {
            parser: fields.required_text("parser")?,
            file: fields.required_text("file")?,
            create_file: fields.optional("create_file")?.unwrap_or(true),
            replace: replace.into_iter().flatten().collect(),
        })
    }
}

/// An invalid replacement must not keep a server from starting: it is left out.
impl Read for Option<Replacement> {
    fn read(value: &Value, at: &Trail<'_>) -> Result<Self, WireError> {
        let skipped = |error: &WireError| tracing::debug!(%error, "skipping a replacement in a configuration file");
        Ok(replacement(value, at).inspect_err(skipped).ok())
    }
}

fn replacement(value: &Value, at: &Trail<'_>) -> Result<Replacement, WireError> {
    let fields = Fields::of(value, at)?;
    // `value` is the older name of the key. A key with the value `null` is present: `null` is a replacement, too.
    let with = ["replace_with", "value"].iter().find_map(|key| value.get(key).map(|value| (*key, value)));
    let replace_with = match with {
        None => return Err(WireError::new(&Trail::Key(at, "replace_with"), "a scalar", "nothing")),
        Some((_, value @ (Value::Array(_) | Value::Object(_)))) => {
            tracing::debug!(at = %at, found = type_name(value), "replacement is no scalar");
            Value::String(NOT_A_SCALAR.into())
        }
        Some((key, scalar)) => Value::read(scalar, &Trail::Key(at, key))?,
    };
    let if_value = fields.optional::<Scalar>("if_value")?.map(|scalar| scalar.0);
    Ok(Replacement { key: fields.required_text("match")?, if_value, replace_with })
}
