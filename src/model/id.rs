//! The id of a server: a UUID in its canonical spelling.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use uuid::Uuid;

/// A server's UUID. Only lower case with dashes is accepted, because the text names folders, containers and URL paths.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ServerId(Uuid);

/// Why a text is not a server id.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is not a server id: expected {EXPECTED}")]
pub struct InvalidServerId(String);

const EXPECTED: &str = "a UUID in lower case with dashes, such as 550e8400-e29b-41d4-a716-446655440000";

impl ServerId {
    /// Wraps a UUID.
    pub fn new(uuid: Uuid) -> Self {
        Self(uuid)
    }

    /// Whether this is a version 4 UUID, the only kind the panel's API accepts at creation.
    pub fn is_v4(&self) -> bool {
        self.0.get_version_num() == 4 && self.0.get_variant() == uuid::Variant::RFC4122
    }

    /// The UUID's 32 hexadecimal digits, as in a machine-id file.
    pub fn simple(&self) -> String {
        self.0.simple().to_string()
    }
}

impl FromStr for ServerId {
    type Err = InvalidServerId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidServerId(text.chars().take(64).collect());
        let uuid = Uuid::try_parse(text).map_err(|_| invalid())?;
        if uuid.hyphenated().to_string() != text {
            return Err(invalid());
        }
        Ok(Self(uuid))
    }
}

impl fmt::Display for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl fmt::Debug for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<'de> Deserialize<'de> for ServerId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        super::text::deserialize(deserializer, EXPECTED, |text| text.parse().ok())
    }
}

impl JsonSchema for ServerId {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ServerId".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "pattern": "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$",
            "description": "UUID in lower case with dashes; equals the name of the server's folder"
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_canonical_spelling_is_an_id() {
        assert!("550e8400-e29b-41d4-a716-446655440000".parse::<ServerId>().is_ok());
        for text in [
            "",
            "550E8400-e29b-41d4-a716-446655440000",
            "550e8400e29b41d4a716446655440000",
            "{550e8400-e29b-41d4-a716-446655440000}",
            "urn:uuid:550e8400-e29b-41d4-a716-446655440000",
            "../../etc/passwd",
        ] {
            assert!(text.parse::<ServerId>().is_err(), "{text}");
        }
    }

    #[test]
    fn only_version_4_is_v4() {
        let v4: ServerId = "550e8400-e29b-41d4-a716-446655440000".parse().unwrap();
        let v1: ServerId = "550e8400-e29b-11d4-a716-446655440000".parse().unwrap();
        assert!(v4.is_v4());
        assert!(!v1.is_v4());
    }
}
