//! Which fields of the manifest a container was created from, as digests by path.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::DigestKey;

/// The entry that shows which key the digests have.
const KEY: &str = "";
/// Limits, which are changed in place. An entry is there only while a limit needs another container, see [`Fields::changes_to`].
const LIMITS: &str = "build.";

/// Fields with this prefix are below `spec`, the others below `spec.settings`.
pub const RESOURCES: &str = "resources.";

/// Digests of fields, by their path below `spec.settings`, or below `spec` with the prefix [`RESOURCES`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fields(BTreeMap<String, String>);

impl Fields {
    /// No field yet.
    pub fn new(key: &DigestKey) -> Self {
        Self(BTreeMap::from([(KEY.to_owned(), key.digest(KEY, &()))]))
    }

    /// Whether there is none, as of an installer, or on a node without a key.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a field, unless there is one with this path.
    pub fn add(&mut self, key: &DigestKey, path: impl Into<String>, value: &impl Serialize) {
        let path = path.into();
        let digest = key.digest(&path, value);
        self.0.entry(path).or_insert(digest);
    }

    /// The paths of the fields that differ in a container that is created now. `None`: the digests have another key, or none.
    ///
    /// A limit that is no longer there was changed in place.
    pub fn changes_to<'a>(&'a self, wanted: &'a Self) -> Option<Vec<&'a str>> {
        let key = self.0.get(KEY)?;
        if wanted.0.get(KEY) != Some(key) {
            return None;
        }
        let changed = wanted.0.iter().filter(|(path, digest)| self.0.get(*path) != Some(*digest));
        let removed = self.0.iter().filter(|(path, _)| !wanted.0.contains_key(*path) && !path.starts_with(LIMITS));
        let mut paths: Vec<&str> = changed.chain(removed).map(|(path, _)| path.as_str()).collect();
        paths.sort_unstable();
        Some(paths)
    }

    /// The text of the label.
    pub fn to_label(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Reads a label.
    pub fn from_label(label: &str) -> Option<Self> {
        serde_json::from_str(label).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(key: &DigestKey, values: &[(&str, &str)]) -> Fields {
        let mut fields = Fields::new(key);
        values.iter().for_each(|(path, value)| fields.add(key, *path, value));
        fields
    }

    #[test]
    fn changed_added_and_removed_fields_differ() {
        let key = DigestKey::new("k".into());
        let created = fields(&key, &[("a", "1"), ("b", "1"), ("c", "1"), ("build.threads", "")]);
        let created = Fields::from_label(&created.to_label()).unwrap();
        let changes = |values: &[(&str, &str)]| created.changes_to(&fields(&key, values)).unwrap().join(" ");
        assert_eq!(changes(&[("a", "1"), ("b", "1"), ("c", "1"), ("build.threads", "")]), "");
        assert_eq!(changes(&[("a", "2"), ("b", "1"), ("d", "1")]), "a c d");
        assert_eq!(changes(&[("a", "1"), ("b", "1"), ("c", "1"), ("build.io_weight", "0")]), "build.io_weight");
    }

    #[test]
    fn digests_of_another_key_are_not_compared() {
        let created = fields(&DigestKey::new("k".into()), &[("a", "1")]);
        assert_eq!(created.changes_to(&fields(&DigestKey::new("other".into()), &[("a", "1")])), None);
        assert_eq!(created.changes_to(&Fields::default()), None);
        assert_eq!(Fields::default().changes_to(&Fields::default()), None);
        assert_eq!(Fields::from_label("garbage"), None);
    }
}
