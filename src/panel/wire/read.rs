//! Reading JSON values by key, with the place of each value at hand for errors.

use std::fmt;
use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use super::{MAX_ELEMENTS, MAX_ENTRIES, MAX_TEXT, WireError};
use crate::model::ServerId;

/// Where a value stands in the document.
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
                // Keys are the panel's too: bounded, and without control characters.
                key.chars().take(64).try_for_each(|c| write!(f, "{}", c.escape_debug()))
            }
            Trail::Index(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

/// What kind of thing a value is, for errors.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// An object's values by key. An absent one has none.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a> {
    map: Option<&'a Map<String, Value>>,
    trail: &'a Trail<'a>,
}

impl<'a> Fields<'a> {
    /// Sees `value` as an object. `null` and the empty list, which is PHP's empty object, have no keys.
    pub(super) fn of(value: &'a Value, trail: &'a Trail<'a>) -> Result<Self, WireError> {
        let map = match value {
            Value::Object(map) => Some(map),
            Value::Null => None,
            Value::Array(list) if list.is_empty() => None,
            other => return Err(WireError::new(trail, "an object", kind(other))),
        };
        Ok(Self { map, trail })
    }

    /// The value of a key; `null` is none.
    fn get(&self, key: &str) -> Option<&'a Value> {
        self.map?.get(key).filter(|value| !value.is_null())
    }

    /// Reads the object at `key`, which may be absent.
    pub(super) fn nested<T>(
        &self,
        key: &str,
        read: impl FnOnce(Fields<'_>) -> Result<T, WireError>,
    ) -> Result<T, WireError> {
        let trail = Trail::Key(self.trail, key);
        read(Fields::of(self.get(key).unwrap_or(&Value::Null), &trail)?)
    }

    /// Reads the object at `key`, which must be there and have something in it.
    pub(super) fn required<T>(
        &self,
        key: &str,
        read: impl FnOnce(Fields<'_>) -> Result<T, WireError>,
    ) -> Result<T, WireError> {
        self.nested(key, |fields| match fields.map {
            Some(map) if !map.is_empty() => read(fields),
            _ => Err(WireError::new(fields.trail, "an object", "nothing")),
        })
    }

    /// A text; empty where absent.
    pub(super) fn text(&self, key: &str) -> Result<String, WireError> {
        Ok(self.optional_text(key)?.unwrap_or_default())
    }

    /// A text, if there is one.
    pub(super) fn optional_text(&self, key: &str) -> Result<Option<String>, WireError> {
        let trail = Trail::Key(self.trail, key);
        self.get(key).map(|value| text(value, &trail)).transpose()
    }

    /// A text that must be there and not be empty.
    pub(super) fn required_text(&self, key: &str) -> Result<String, WireError> {
        let text = self.optional_text(key)?.filter(|text| !text.is_empty());
        text.ok_or_else(|| WireError::new(&Trail::Key(self.trail, key), "a text", "nothing"))
    }

    /// The texts of a list; a text alone stands for a list of one.
    pub(super) fn texts(&self, key: &str) -> Result<Vec<String>, WireError> {
        match self.get(key) {
            Some(value @ Value::String(_)) => Ok(vec![text(value, &Trail::Key(self.trail, key))?]),
            _ => self.list(key, text),
        }
    }

    /// A server's name, if there is one.
    pub(super) fn server_id(&self, key: &str) -> Result<Option<ServerId>, WireError> {
        let parse = |text: String| {
            let invalid = |_| WireError::new(&Trail::Key(self.trail, key), "a server's uuid", "another text");
            text.parse().map_err(invalid)
        };
        self.optional_text(key)?.map(parse).transpose()
    }

    /// A text, or another scalar as text; empty where absent.
    pub(super) fn scalar_text(&self, key: &str) -> Result<String, WireError> {
        Ok(self.optional_scalar_text(key)?.unwrap_or_default())
    }

    /// A text, or another scalar as text, if there is one.
    pub(super) fn optional_scalar_text(&self, key: &str) -> Result<Option<String>, WireError> {
        let trail = Trail::Key(self.trail, key);
        self.get(key).map(|value| scalar_text(value, &trail)).transpose()
    }

    /// True or false; 0 and 1 are accepted, since PHP is not strict about them.
    pub(super) fn flag(&self, key: &str) -> Result<Option<bool>, WireError> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        match (value, value.as_u64()) {
            (Value::Bool(flag), _) => Ok(Some(*flag)),
            (_, Some(number @ 0..=1)) => Ok(Some(number == 1)),
            (other, _) => Err(WireError::new(&Trail::Key(self.trail, key), "true or false", kind(other))),
        }
    }

    /// A whole number in a range, if there is one. `1024.0` is one too.
    pub(super) fn whole(&self, key: &str, range: RangeInclusive<i64>) -> Result<Option<i64>, WireError> {
        let trail = Trail::Key(self.trail, key);
        self.get(key).map(|value| whole(value, &trail, range)).transpose()
    }

    /// The elements of a list, each read by `read`; none where absent. An object stands for the list of its values:
    /// that is what PHP makes of a list with gaps.
    pub(super) fn list<T>(
        &self,
        key: &str,
        read: impl FnMut(&Value, &Trail<'_>) -> Result<T, WireError>,
    ) -> Result<Vec<T>, WireError> {
        let trail = Trail::Key(self.trail, key);
        self.get(key).map_or(Ok(Vec::new()), |value| list(value, &trail, read))
    }

    /// The entries of the object at `key`, each read by `read`; none where absent.
    pub(super) fn map<T>(
        &self,
        key: &str,
        mut read: impl FnMut(&Value, &Trail<'_>) -> Result<T, WireError>,
    ) -> Result<Vec<(String, T)>, WireError> {
        self.nested(key, |fields| {
            let Some(map) = fields.map else {
                return Ok(Vec::new());
            };
            if map.len() > MAX_ENTRIES {
                let expected = format!("at most {MAX_ENTRIES} entries");
                return Err(WireError::new(fields.trail, expected, map.len()));
            }
            map.iter().map(|(name, value)| Ok((name.clone(), read(value, &Trail::Key(fields.trail, name))?))).collect()
        })
    }
}

/// The elements of a list, or of an object that stands for one.
pub(super) fn list<T>(
    value: &Value,
    trail: &Trail<'_>,
    mut read: impl FnMut(&Value, &Trail<'_>) -> Result<T, WireError>,
) -> Result<Vec<T>, WireError> {
    let bounded = |length: usize| match length {
        0..=MAX_ELEMENTS => Ok(()),
        _ => Err(WireError::new(trail, format!("at most {MAX_ELEMENTS} elements"), length)),
    };
    let mut read = |(index, value)| read(value, &Trail::Index(trail, index));
    match value {
        Value::Null => Ok(Vec::new()),
        Value::Array(list) => bounded(list.len()).and_then(|()| list.iter().enumerate().map(&mut read).collect()),
        Value::Object(map) => bounded(map.len()).and_then(|()| map.values().enumerate().map(&mut read).collect()),
        other => Err(WireError::new(trail, "a list", kind(other))),
    }
}

/// A text of bounded length.
pub(super) fn text(value: &Value, trail: &Trail<'_>) -> Result<String, WireError> {
    match value {
        Value::String(text) if text.len() <= MAX_TEXT => Ok(text.clone()),
        Value::String(text) => {
            let found = format!("one of {} bytes", text.len());
            Err(WireError::new(trail, format!("a text of at most {MAX_TEXT} bytes"), found))
        }
        other => Err(WireError::new(trail, "a text", kind(other))),
    }
}

/// A text, or another scalar as text.
pub(super) fn scalar_text(value: &Value, trail: &Trail<'_>) -> Result<String, WireError> {
    match value {
        Value::Null => Ok(String::new()),
        Value::Bool(flag) => Ok(flag.to_string()),
        Value::Number(number) => Ok(number.to_string()),
        other => text(other, trail),
    }
}

/// A whole number in a range.
pub(super) fn whole(value: &Value, trail: &Trail<'_>, range: RangeInclusive<i64>) -> Result<i64, WireError> {
    // Beyond 2^53 a float no longer says which whole number is meant.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let number = value.as_i64().or_else(|| {
        let float = value.as_f64().filter(|float| float.fract() == 0.0 && float.abs() <= EXACT)?;
        #[expect(clippy::cast_possible_truncation, reason = "whole and below 2^53")]
        Some(float as i64)
    });
    number.filter(|number| range.contains(number)).ok_or_else(|| {
        let expected = match (*range.start(), *range.end()) {
            (i64::MIN, i64::MAX) => "a whole number".to_owned(),
            (least, most) => format!("a whole number from {least} to {most}"),
        };
        let found = if value.is_number() { "another number" } else { kind(value) };
        WireError::new(trail, expected, found)
    })
}
