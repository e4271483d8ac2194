//! How one setting of the file is read: as leniently as Wings does, with errors for people.
//!
//! A key without a value counts as absent. `yes` and `on` are true. Where a text is wanted, a number
//! will do. Sections are declared with `section!`, which ties together the YAML name, the type, the default
//! and the meaning of each key.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::marker::PhantomData;
use std::str::FromStr;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};

use super::Secret;

/// A type that a key of the file may have.
pub(crate) trait Setting: Sized {
    /// Reads a value that is not null.
    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error>;

    /// Writes the value as the file has it, secrets included.
    fn write<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error>;
}

/// Reads by [`Setting`] where serde wants [`Deserialize`].
pub(crate) struct Typed<T>(pub T);

impl<'de, T: Setting> Deserialize<'de> for Typed<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        T::read(from).map(Typed)
    }
}

/// Writes by [`Setting`] where serde wants [`Serialize`].
pub(crate) struct Written<'a, T>(pub &'a T);

impl<T: Setting> Serialize for Written<'_, T> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.0.write(to)
    }
}

impl Setting for bool {
    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Bool;
        impl Visitor<'_> for Bool {
            type Value = bool;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true or false")
            }

            fn visit_bool<E: Error>(self, value: bool) -> Result<bool, E> {
                Ok(value)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<bool, E> {
                match text.to_ascii_lowercase().as_str() {
                    "true" | "yes" | "on" | "y" => Ok(true),
                    "false" | "no" | "off" | "n" => Ok(false),
                    _ => Err(E::invalid_value(serde::de::Unexpected::Str(text), &self)),
                }
            }
        }
        from.deserialize_any(Bool)
    }

    fn write<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bool(*self)
    }
}

impl Setting for i64 {
    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Int;
        impl Visitor<'_> for Int {
            type Value = i64;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number")
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<i64, E> {
                Ok(value)
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<i64, E> {
                i64::try_from(value).map_err(|_| E::invalid_value(serde::de::Unexpected::Unsigned(value), &self))
            }

            fn visit_f64<E: Error>(self, value: f64) -> Result<i64, E> {
                // 8080.0 is a whole number too; beyond 2^53 a float cannot say which one it means.
                if value.fract() == 0.0 && value.abs() < 9_007_199_254_740_992.0 {
                    return Ok(value as i64);
                }
                Err(E::invalid_value(serde::de::Unexpected::Float(value), &self))
            }
        }
        from.deserialize_any(Int)
    }

    fn write<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_i64(*self)
    }
}

impl Setting for f64 {
    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Float;
        impl Visitor<'_> for Float {
            type Value = f64;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number")
            }

            fn visit_f64<E: Error>(self, value: f64) -> Result<f64, E> {
                Ok(value)
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<f64, E> {
                Ok(value as f64)
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<f64, E> {
                Ok(value as f64)
            }
        }
        from.deserialize_any(Float)
    }

    fn write<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_f64(*self)
    }
}

impl Setting for String {
    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = String;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<String, E> {
                Ok(text.to_owned())
            }

            fn visit_bool<E: Error>(self, value: bool) -> Result<String, E> {
                Ok(value.to_string())
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<String, E> {
                Ok(value.to_string())
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<String, E> {
                Ok(value.to_string())
            }
        }
        // Asked for a string, the YAML reader gives a plain scalar as it is spelled: a token of digits
        // only, or `12e5`, arrives unharmed.
        from.deserialize_string(Text)
    }

    fn write<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self)
    }
}

impl Setting for Secret {
    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::read(from).map(Secret::new)
    }

    fn write<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.expose())
    }
}

impl<T: Setting> Setting for Option<T> {
    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        T::read(from).map(Some)
    }

    fn write<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Some(value) => value.write(to),
            None => to.serialize_none(),
        }
    }
}

impl<T: Setting> Setting for Vec<T> {
    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct List<T>(PhantomData<T>);
        impl<'de, T: Setting> Visitor<'de> for List<T> {
            type Value = Vec<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<T>, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = items.next_element::<Option<Typed<T>>>()? {
                    list.extend(item.map(|typed| typed.0));
                }
                Ok(list)
            }
        }
        from.deserialize_any(List(PhantomData))
    }

    fn write<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(self.iter().map(Written))
    }
}

impl<K, T> Setting for BTreeMap<K, T>
where
    K: FromStr + Ord + Serialize,
    K::Err: Display,
    T: Setting,
{
    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Map<K, T>(PhantomData<(K, T)>);
        impl<'de, K, T> Visitor<'de> for Map<K, T>
        where
            K: FromStr + Ord,
            K::Err: Display,
            T: Setting,
        {
            type Value = BTreeMap<K, T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<BTreeMap<K, T>, A::Error> {
                let mut map = BTreeMap::new();
                // Keys go through their text, since JSON has numbers as keys only in quotes.
                while let Some(Typed(name)) = entries.next_key::<Typed<String>>()? {
                    let key = name.parse().map_err(|why| A::Error::custom(format!("key `{name}`: {why}")))?;
                    if let Some(Typed(value)) = entries.next_value::<Option<Typed<T>>>()? {
                        map.insert(key, value);
                    }
                }
                Ok(map)
            }
        }
        from.deserialize_any(Map(PhantomData))
    }

    fn write<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(Some(self.len()))?;
        for (key, value) in self {
            map.serialize_entry(key, &Written(value))?;
        }
        map.end()
    }
}

/// The name of a key as a section meets it.
pub(crate) struct Key {
    /// Place in the section's list of keys; `None` for an unknown key.
    pub index: Option<usize>,
}

/// Reads the name of a key against the keys of a section.
pub(crate) struct KeyOf {
    /// The keys that the section has.
    pub known: &'static [&'static str],
    /// Whether an unknown key is an error.
    pub strict: bool,
}

impl<'de> serde::de::DeserializeSeed<'de> for KeyOf {
    type Value = Key;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Key, D::Error> {
        // The error is made here, not by the section, so that it carries the key's own line and column.
        let Typed(name) = Typed::<String>::deserialize(from)?;
        let index = self.known.iter().position(|key| *key == name);
        if index.is_none() && self.strict {
            return Err(D::Error::custom(unknown_key(&name, self.known)));
        }
        Ok(Key { index })
    }
}

fn unknown_key(name: &str, known: &[&str]) -> String {
    let nearest = crate::yaml::nearest(name, known.iter().copied());
    let hint = nearest.map_or(String::new(), |nearest| format!(" did you mean `{nearest}`?"));
    format!("unknown key `{name}`;{hint} known here: {}", known.join(", "))
}

/// Declares a section of the file: a struct with the defaults and the YAML names of its keys.
///
/// `"name" field: Type = default` for each key. A `strict` section refuses unknown keys, any other ignores them.
macro_rules! section {
    ($(#[$meta:meta])* struct $($rest:tt)*) => {
        section! { @strict false $(#[$meta])* struct $($rest)* }
    };
    ($(#[$meta:meta])* strict struct $($rest:tt)*) => {
        section! { @strict true $(#[$meta])* struct $($rest)* }
    };
    (
        @strict $strict:literal
        $(#[$meta:meta])*
        struct $name:ident {
            $( $(#[$about:meta])* $key:literal $field:ident: $type:ty = $default:expr, )*
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq)]
        pub struct $name {
            $( $(#[$about])* pub $field: $type, )*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $( $field: $default, )* }
            }
        }

        impl $name {
            /// The YAML names of this section's keys, in the order in which they are written.
            pub const KEYS: &'static [&'static str] = &[$( $key, )*];
        }

        impl $crate::config::setting::Setting for $name {
            fn read<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                struct Section;
                impl<'de> serde::de::Visitor<'de> for Section {
                    type Value = $name;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        write!(f, "a section with keys such as `{}`", $name::KEYS[0])
                    }

                    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut entries: A) -> Result<$name, A::Error> {
                        use $crate::config::setting::{KeyOf, Typed};
                        let mut section = $name::default();
                        let keys = || KeyOf { known: $name::KEYS, strict: $strict };
                        while let Some(key) = entries.next_key_seed(keys())? {
                            match key.index.map(|index| $name::KEYS[index]) {
                                $( Some($key) => {
                                    if let Some(Typed(value)) = entries.next_value::<Option<Typed<$type>>>()? {
                                        section.$field = value;
                                    }
                                } )*
                                _ => { entries.next_value::<serde::de::IgnoredAny>()?; }
                            }
                        }
                        Ok(section)
                    }
                }
                from.deserialize_any(Section)
            }

            fn write<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                use serde::ser::SerializeMap;
                let mut map = to.serialize_map(Some($name::KEYS.len()))?;
                $( map.serialize_entry($key, &$crate::config::setting::Written(&self.$field))?; )*
                map.end()
            }
        }
    };
}
pub(crate) use section;
