//! Reads JSON values by type and by key. Errors name the position of the value.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use super::{MAX_ELEMENTS, MAX_ENTRIES, MAX_TEXT, WireError};
use crate::model::ServerId;

/// The position of a value in the document.
pub(super) enum Trail<'a> {
    Root,
    Key(&'a Trail<'a>, &'a str),
    Index(&'a Trail<'a>, usize),
}

impl fmt::Display for Trail<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trail::Root => f.write_str("the answer"),
            Trail::Key(parent, key) => {
                if !matches!(parent, Trail::Root) {
                    write!(f, "{parent}.")?;
                }
                // The panel chooses the keys, too: limit their length and escape control characters.
                key.chars().take(64).try_for_each(|c| write!(f, "{}", c.escape_debug()))
            }
            Trail::Index(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

/// The JSON type of a value, for errors.
pub(super) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// A type that can be read from the panel's JSON.
pub(super) trait Read: Sized {
    /// Reads a value at a position.
    fn read(value: &Value, at: &Trail<'_>) -> Result<Self, WireError>;
}

/// The values of an object by key.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a> {
    map: Option<&'a Map<String, Value>>,
    at: &'a Trail<'a>,
}

impl<'a> Fields<'a> {
    /// Reads `value` as an object. `null` and the empty list, which is PHP's empty object, have no keys.
    pub(super) fn of(value: &'a Value, at: &'a Trail<'a>) -> Result<Self, WireError> {
        let map = match value {
            Value::Object(map) => Some(map),
            Value::Null => None,
            Value::Array(list) if list.is_empty() => None,
            other => return Err(WireError::new(at, "an object", type_name(other))),
        };
        Ok(Self { map, at })
    }

    /// The value of a key. `null` counts as absent.
    pub(super) fn get(&self, key: &str) -> Option<&'a Value> {
        self.map?.get(key).filter(|value| !value.is_null())
    }

    /// Reads the value of a key, which may be absent.
    pub(super) fn optional<T: Read>(&self, key: &str) -> Result<Option<T>, WireError> {
        let at = Trail::Key(self.at, key);
        self.get(key).map(|value| T::read(value, &at)).transpose()
    }

    /// Reads the value of a key; the default where it is absent.
    pub(super) fn value<T: Read + Default>(&self, key: &str) -> Result<T, WireError> {
        Ok(self.optional(key)?.unwrap_or_default())
    }

    /// Reads a text that must not be absent or empty.
    pub(super) fn required_text(&self, key: &str) -> Result<String, WireError> {
        let text = self.optional(key)?.filter(|text: &String| !text.is_empty());
        text.ok_or_else(|| WireError::new(&Trail::Key(self.at, key), "a text", "nothing"))
    }

    /// Reads an object that must not be absent or empty.
    pub(super) fn required_object<T: Read>(&self, key: &str) -> Result<T, WireError> {
        let (value, at) = (self.get(key).unwrap_or(&Value::Null), Trail::Key(self.at, key));
        match Fields::of(value, &at)?.map {
            Some(map) if !map.is_empty() => T::read(value, &at),
            _ => Err(WireError::new(&at, "an object", "nothing")),
        }
    }

    /// Reads a whole number in a range, which may be absent.
    pub(super) fn number(&self, key: &str, range: RangeInclusive<i64>) -> Result<Option<i64>, WireError> {
        let at = Trail::Key(self.at, key);
        self.get(key).map(|value| number(value, &at, range)).transpose()
    }
}

impl Read for String {
    fn read(value: &Value, at: &Trail<'_>) -> Result<Self, WireError> {
        match value {
            Value::String(text) if text.len() <= MAX_TEXT => Ok(text.clone()),
            Value::String(text) => {
                let found = format!("one of {} bytes", text.len());
                Err(WireError::new(at, format!("a text of at most {MAX_TEXT} bytes"), found))
            }
            other => Err(WireError::new(at, "a text", type_name(other))),
        }
    }
}

/// A text, or another scalar as text.
#[derive(Default)]
pub(super) struct Scalar(pub(super) String);

impl Read for Scalar {
    fn read(value: &Value, at: &Trail<'_>) -> Result<Self, WireError> {
        Ok(Self(match value {
            Value::Null => String::new(),
            Value::Bool(flag) => flag.to_string(),
            Value::Number(number) => number.to_string(),
            other => String::read(other, at)?,
        }))
    }
}

/// The value of an environment variable: a scalar. A container cannot have another type, so others count as empty.
impl Read for Value {
    fn read(value: &Value, at: &Trail<'_>) -> Result<Self, WireError> {
        match value {
            Value::String(_) => String::read(value, at).map(Value::String),
            Value::Array(_) | Value::Object(_) => Ok(Value::String(String::new())),
            scalar => Ok(scalar.clone()),
        }
    }
}

/// PHP is not strict about booleans: 0 and 1 are accepted.
impl Read for bool {
    fn read(value: &Value, at: &Trail<'_>) -> Result<Self, WireError> {
        match (value, value.as_u64()) {
            (Value::Bool(flag), _) => Ok(*flag),
            (_, Some(number @ 0..=1)) => Ok(number == 1),
            (other, _) => Err(WireError::new(at, "true or false", type_name(other))),
        }
    }
}

impl Read for i64 {
    fn read(value: &Value, at: &Trail<'_>) -> Result<Self, WireError> {
        number(value, at, i64::MIN..=i64::MAX)
    }
}

impl Read for ServerId {
    fn read(value: &Value, at: &Trail<'_>) -> Result<Self, WireError> {
        String::read(value, at)?.parse().map_err(|_| WireError::new(at, "a server's uuid", "another text"))
    }
}

/// An object stands for the list of its values: PHP encodes a list with gaps as an object.
impl<T: Read> Read for Vec<T> {
    fn read(value: &Value, at: &Trail<'_>) -> Result<Self, WireError> {
        let values: Vec<&Value> = match value {
            Value::Null => Vec::new(),
            Value::Array(list) => list.iter().collect(),
            Value::Object(map) => map.values().collect(),
            other => return Err(WireError::new(at, "a list", type_name(other))),
        };
        if values.len() > MAX_ELEMENTS {
            return Err(WireError::new(at, format!("at most {MAX_ELEMENTS} elements"), values.len()));
        }
        values.into_iter().enumerate().map(|(index, value)| T::read(value, &Trail::Index(at, index))).collect()
    }
}

impl<T: Read> Read for BTreeMap<String, T> {
    fn read(value: &Value, at: &Trail<'_>) -> Result<Self, WireError> {
        let Some(map) = Fields::of(value, at)?.map else { return Ok(Self::new()) };
        if map.len() > MAX_ENTRIES {
            return Err(WireError::new(at, format!("at most {MAX_ENTRIES} entries"), map.len()));
        }
        map.iter().map(|(name, value)| Ok((name.clone(), T::read(value, &Trail::Key(at, name))?))).collect()
    }
}

/// A whole number in a range. `1024.0` is one, too.
fn number(value: &Value, at: &Trail<'_>, range: RangeInclusive<i64>) -> Result<i64, WireError> {
    // Beyond 2^53 a float does not identify one whole number.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let number = value.as_i64().or_else(|| {
        let float = value.as_f64().filter(|float| float.fract() == 0.0 && float.abs() <= EXACT)?;
        #[expect(clippy::cast_possible_truncation, reason = "an integer below 2^53")]
        Some(float as i64)
    });
    number.filter(|number| range.contains(number)).ok_or_else(|| {
        let expected = match (*range.start(), *range.end()) {
            (i64::MIN, i64::MAX) => "a whole number".to_owned(),
            (min, max) => format!("a whole number from {min} to {max}"),
        };
        let found = if value.is_number() { "another number" } else { type_name(value) };
        WireError::new(at, expected, found)
    })
}
