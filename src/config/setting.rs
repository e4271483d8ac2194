//! How the keys of the file are read: as Wings reads them, with `yaml.v2` of Go.
//!
//! Each value is read over the one before it. So a section that is there twice is merged, of a value the last one counts, and a key
//! without a value counts as absent. `<<` merges mappings, at its place among the keys. A scalar is read as it is spelled: the type
//! of the key decides what it means. `section!` declares the keys of a section with their types and defaults.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::de::{
    DeserializeSeed, Deserializer, Error, IgnoredAny, IntoDeserializer, MapAccess, SeqAccess, Unexpected, Visitor,
};
use serde_json::Value;

use super::{Problem, Secret};

/// What was found besides values, and where the reading is.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// The keys from the top to the value that is being read, or that could not be read.
    pub path: Vec<String>,
    /// Paths that are not read, because their values are invalid.
    pub skipped: BTreeSet<String>,
    /// Keys that are there twice.
    pub twice: Vec<Problem>,
    /// Unknown keys.
    pub unknown: Vec<Unknown>,
    /// Number of known keys at the top.
    pub known: usize,
    /// The text goes on after the document that was read.
    pub more_documents: bool,
}

/// A key that its section does not have.
#[derive(Debug)]
pub(crate) struct Unknown {
    /// Dotted name of the key.
    pub path: String,
    /// The keys of its section.
    pub known: &'static [&'static str],
}

impl Report {
    /// Dotted name of the key that is being read.
    pub fn key(&self) -> String {
        self.path.join(".")
    }
}

/// A type of a key.
pub(crate) trait Setting: Sized {
    /// Reads a value, which is not null, over this one.
    fn read<'de, D: Deserializer<'de>>(&mut self, from: D, report: &mut Report) -> Result<(), D::Error>;
}

/// A mapping: a section, or a map with any keys.
pub(crate) trait Keys {
    /// Whether an unknown key is an error.
    const STRICT: bool = false;
    /// The keys of a section; empty for a map with any keys.
    const KNOWN: &'static [&'static str] = &[];

    /// Reads the value of a key. For a section, the key is one of `KNOWN`.
    fn read_key<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A, report: &mut Report)
    -> Result<(), A::Error>;
}

/// Reads a value over `.0`; null changes nothing.
pub(crate) struct Update<'a, T>(pub &'a mut T, pub &'a mut Report);

impl<'de, T: Setting> DeserializeSeed<'de> for Update<'_, T> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_option(self)
    }
}

impl<'de, T: Setting> Visitor<'de> for Update<'_, T> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_none<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        self.0.read(from, self.1)
    }
}

/// Reads a scalar as it is spelled, with a function that gives its meaning.
struct Scalar<F>(&'static str, F);

impl<T, F: FnOnce(&str) -> Option<T>> Visitor<'_> for Scalar<F> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        (self.1)(text).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self.0))
    }
}

macro_rules! scalar {
    ($type:ty, $expected:literal, $meaning:expr) => {
        impl Setting for $type {
            fn read<'de, D: Deserializer<'de>>(&mut self, from: D, _: &mut Report) -> Result<(), D::Error> {
                *self = from.deserialize_str(Scalar($expected, $meaning))?;
                Ok(())
            }
        }
    };
}

scalar!(String, "a text", |text: &str| Some(text.to_owned()));
scalar!(Secret, "a text", |text: &str| Some(Self::new(text)));
scalar!(bool, "true or false", boolean);
scalar!(i64, "a whole number", whole_number);
scalar!(f64, "a number", number);

fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "y" => Some(true),
        "false" | "no" | "off" | "n" => Some(false),
        _ => None,
    }
}

/// `1_420`, `0x10`, `0b11`, `0o17` and `017` are whole numbers; of `8080.5` and `1e3` the whole part is used.
pub(super) fn whole_number(text: &str) -> Option<i64> {
    let digits = text.replace('_', "");
    let (negative, digits) = match digits.strip_prefix(['-', '+']) {
        Some(rest) => (digits.starts_with('-'), rest),
        None => (false, digits.as_str()),
    };
    if text.starts_with('_') || digits.starts_with(['-', '+']) {
        return None;
    }
    let lower = digits.to_ascii_lowercase();
    let based = [("0x", 16), ("0b", 2), ("0o", 8), ("0", 8)]
        .into_iter()
        .find_map(|(prefix, base)| i128::from_str_radix(lower.strip_prefix(prefix)?, base).ok());
    let size = match based.or_else(|| digits.parse().ok()) {
        Some(size) => size,
        None => decimal(digits).filter(|value| *value < i64::MAX as f64)? as i128,
    };
    i64::try_from(if negative { -size } else { size }).ok()
}

fn number(text: &str) -> Option<f64> {
    let lower = text.to_ascii_lowercase();
    match lower.trim_start_matches(['+', '-']) {
        ".nan" => Some(f64::NAN),
        ".inf" if lower.starts_with('-') => Some(f64::NEG_INFINITY),
        ".inf" => Some(f64::INFINITY),
        _ => whole_number(text)
            .filter(|_| !text.contains(['.', 'e', 'E']))
            .map(|whole| whole as f64)
            .or_else(|| decimal(&text.replace('_', "")).filter(|_| !text.starts_with('_'))),
    }
}

/// A finite number in decimal notation.
fn decimal(text: &str) -> Option<f64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
    text.parse().ok().filter(|value: &f64| plain && value.is_finite())
}

impl<T: Setting + Default> Setting for Option<T> {
    fn read<'de, D: Deserializer<'de>>(&mut self, from: D, report: &mut Report) -> Result<(), D::Error> {
        self.get_or_insert_default().read(from, report)
    }
}

impl<T: Setting + Default> Setting for Vec<T> {
    fn read<'de, D: Deserializer<'de>>(&mut self, from: D, report: &mut Report) -> Result<(), D::Error> {
        *self = from.deserialize_seq(List(Self::new(), report))?;
        Ok(())
    }
}

struct List<'a, T>(Vec<T>, &'a mut Report);

impl<'de, T: Setting + Default> Visitor<'de> for List<'_, T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a sequence")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<Vec<T>, A::Error> {
        let mut item = T::default();
        while items.next_element_seed(Update(&mut item, self.1))?.is_some() {
            self.0.push(std::mem::take(&mut item));
        }
        Ok(self.0)
    }
}

impl<T: Setting + Default> Keys for BTreeMap<String, T> {
    fn read_key<'de, A: MapAccess<'de>>(
        &mut self,
        key: &str,
        map: &mut A,
        report: &mut Report,
    ) -> Result<(), A::Error> {
        let mut value = T::default();
        map.next_value_seed(Update(&mut value, report))?;
        self.insert(key.to_owned(), value);
        Ok(())
    }
}

impl<T: Setting + Default> Setting for BTreeMap<String, T> {
    fn read<'de, D: Deserializer<'de>>(&mut self, from: D, report: &mut Report) -> Result<(), D::Error> {
        from.deserialize_map(Mapping(self, report))
    }
}

/// Reads the keys of a mapping.
pub(crate) struct Mapping<'a, T>(pub &'a mut T, pub &'a mut Report);

impl<'de, T: Keys> Visitor<'de> for Mapping<'_, T> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self(keys, report) = self;
        let mut seen = BTreeSet::new();
        while let Some(key) = map.next_key::<String>()? {
            if key == "<<" {
                map.next_value_seed(Merge(keys, report))?;
                continue;
            }
            report.path.push(key.clone());
            let path = report.key();
            if report.skipped.contains(&path) {
                map.next_value::<IgnoredAny>()?;
            } else if T::KNOWN.is_empty() || T::KNOWN.contains(&key.as_str()) {
                report.known += usize::from(report.path.len() == 1);
                keys.read_key(&key, &mut map, report)?;
            } else if T::STRICT {
                return Err(A::Error::unknown_field(&key, T::KNOWN));
            } else {
                map.next_value::<IgnoredAny>()?;
                report.unknown.push(Unknown { path: path.clone(), known: T::KNOWN });
            }
            report.path.pop();
            if !seen.insert(key) {
                report
                    .twice
                    .push(Problem::new(path, "is there twice: sections are merged, of a value the last one counts"));
            }
        }
        Ok(())
    }
}

/// Reads the value of `<<` over a mapping: another mapping, or a list of mappings of which the first ones win.
struct Merge<'a, T>(&'a mut T, &'a mut Report);

impl<'de, T: Keys> DeserializeSeed<'de> for Merge<'_, T> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de, T: Keys> Visitor<'de> for Merge<'_, T> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping or a list of mappings")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        Mapping(self.0, self.1).visit_map(map)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let mut maps = Vec::new();
        while let Some(map) = items.next_element::<Value>()? {
            maps.push(spelled(map));
        }
        for map in maps.into_iter().rev() {
            map.into_deserializer().deserialize_map(Mapping(&mut *self.0, self.1)).map_err(A::Error::custom)?;
        }
        Ok(())
    }
}

/// The value with its numbers and booleans as texts, as [`Scalar`] reads them.
fn spelled(value: Value) -> Value {
    match value {
        Value::Number(number) => Value::String(number.to_string()),
        Value::Bool(value) => Value::String(value.to_string()),
        Value::Array(items) => Value::Array(items.into_iter().map(spelled).collect()),
        Value::Object(map) => Value::Object(map.into_iter().map(|(key, value)| (key, spelled(value))).collect()),
        other => other,
    }
}

/// Declares a section of the file with the names, types and defaults of its keys: `"name" field: Type = default`.
///
/// Unknown keys are accepted, unless the section begins with `@strict`.
macro_rules! section {
    (
        $(#[$meta:meta])*
        $(@$strict:ident)?
        struct $name:ident {
            $( $(#[$about:meta])* $key:literal $field:ident: $type:ty = $default:expr, )*
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, serde::Serialize)]
        pub struct $name {
            $( $(#[$about])* #[serde(rename = $key)] pub $field: $type, )*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $( $field: $default, )* }
            }
        }

        impl $crate::config::setting::Keys for $name {
            const STRICT: bool = {
                let flags: &[&str] = &[$(stringify!($strict))?];
                !flags.is_empty()
            };
            const KNOWN: &'static [&'static str] = &[$($key),*];

            fn read_key<'de, A: serde::de::MapAccess<'de>>(
                &mut self,
                key: &str,
                map: &mut A,
                report: &mut $crate::config::setting::Report,
            ) -> Result<(), A::Error> {
                match key {
                    $( $key => map.next_value_seed($crate::config::setting::Update(&mut self.$field, report)), )*
                    _ => Ok(()),
                }
            }
        }

        impl $crate::config::setting::Setting for $name {
            fn read<'de, D: serde::Deserializer<'de>>(
                &mut self,
                from: D,
                report: &mut $crate::config::setting::Report,
            ) -> Result<(), D::Error> {
                from.deserialize_map($crate::config::setting::Mapping(self, report))
            }
        }
    };
}
pub(crate) use section;

#[cfg(test)]
mod tests;
