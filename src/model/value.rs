//! A value of any JSON type from a file whose writer is not trusted.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Reads a [`Value`] from hostile text.
///
/// `serde_json` itself reads the text below one private key as JSON once more, without regard to the depth at which it stands: a small
/// file overflows the stack. Here that key has no meaning. A key that is there twice is an error, since programs disagree on which one
/// counts.
#[derive(Debug, Clone, PartialEq)]
pub struct PlainValue(pub Value);

impl<'de> Deserialize<'de> for PlainValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PlainVisitor).map(Self)
    }
}

struct PlainVisitor;

impl<'de> Visitor<'de> for PlainVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        PlainValue::deserialize(deserializer).map(|value| value.0)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(PlainValue(value)) = list.next_element()? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut values = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            let PlainValue(value) = map.next_value()?;
            if values.contains_key(&key) {
                let short: String = key.chars().take(60).collect();
                return Err(A::Error::custom(format!("the key {short:?} is there twice; remove one of them")));
            }
            values.insert(key, value);
        }
        Ok(Value::Object(values))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(text: &str) -> Result<Value, String> {
        serde_json::from_str::<PlainValue>(text).map(|value| value.0).map_err(|error| error.to_string())
    }

    #[test]
    fn every_type_is_read() {
        let value = json!({"a": null, "b": true, "c": [-1, 18_446_744_073_709_551_615_u64, 1.5], "d": {"e": "ü"}});
        assert_eq!(read(&value.to_string()), Ok(value));
    }

    #[test]
    fn the_private_key_of_the_library_has_no_meaning() {
        let inner = "[".repeat(100);
        let text = json!({ "$serde_json::private::RawValue": inner }).to_string();
        assert_eq!(read(&text), Ok(json!({ "$serde_json::private::RawValue": inner })), "a text stays a text");
        let escaped = text.replace('$', "\\u0024");
        assert_eq!(read(&escaped), read(&text));
        // Read by the library, each level adds its own depth: enough of them overflow the stack.
        let mut nested = "0".to_owned();
        for _ in 0..12 {
            let level = json!({ "$serde_json::private::RawValue": nested }).to_string();
            nested = format!("{}{level}{}", "[".repeat(100), "]".repeat(100));
        }
        assert!(read(&nested).is_ok());
        assert!(read(&"[".repeat(200)).is_err(), "the depth has a limit");
    }

    #[test]
    fn a_key_that_is_there_twice_is_an_error() {
        let error = read(r#"{"a": {"b": 1, "c": 2, "b": 3}}"#).unwrap_err();
        assert!(error.contains("\"b\" is there twice"), "{error}");
    }
}
