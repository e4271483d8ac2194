//! How the keys of the file are read.
//!
//! A key without a value counts as absent. `yes`, `no`, `on` and `off` are booleans, as they are for Wings. Where a text is
//! expected, a number is accepted as it is spelled. `section!` declares the keys of a section with their types and defaults.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, DeserializeOwned, Deserializer, Error, Unexpected, Visitor};

use super::Secret;

/// A type of a key.
pub(crate) trait Setting: DeserializeOwned {
    /// Reads a value; `None` for a key without one.
    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Self>, D::Error> {
        Option::deserialize(from)
    }
}

impl Setting for i64 {}
impl Setting for f64 {}
impl Setting for String {}
impl Setting for Secret {}
impl<T: Setting> Setting for Option<T> {}
impl<T: Setting> Setting for Vec<T> {}
impl<T: Setting> Setting for BTreeMap<String, T> {}

impl Setting for bool {
    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Self>, D::Error> {
        struct Boolean;
        impl Visitor<'_> for Boolean {
            type Value = Option<bool>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true or false")
            }

            fn visit_unit<E: Error>(self) -> Result<Option<bool>, E> {
                Ok(None)
            }

            fn visit_bool<E: Error>(self, value: bool) -> Result<Option<bool>, E> {
                Ok(Some(value))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Option<bool>, E> {
                match text.to_ascii_lowercase().as_str() {
                    "yes" | "on" | "y" => Ok(Some(true)),
                    "no" | "off" | "n" => Ok(Some(false)),
                    "true" | "false" => Ok(Some(text.eq_ignore_ascii_case("true"))),
                    _ => Err(E::invalid_value(Unexpected::Str(text), &self)),
                }
            }
        }
        from.deserialize_any(Boolean)
    }
}

/// Declares a section of the file with the names, types and defaults of its keys: `"name" field: Type = default`.
///
/// Unknown keys are accepted, unless the section begins with `@deny_unknown_fields`.
macro_rules! section {
    (
        $(#[$meta:meta])*
        $(@$container:meta)?
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

        impl $crate::config::setting::Setting for $name {}

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                use $crate::config::setting::Setting;

                #[derive(serde::Deserialize)]
                $(#[serde($container)])?
                struct Section {
                    $( #[serde(rename = $key, default, deserialize_with = "Setting::read")] $field: Option<$type>, )*
                }
                let section = Section::deserialize(from)?;
                let default = Self::default();
                Ok(Self { $( $field: section.$field.unwrap_or(default.$field), )* })
            }
        }
    };
}
pub(crate) use section;
