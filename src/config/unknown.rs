//! Keys that nobody knows: they are accepted, as Wings does, and named, since most of them are slips.

use serde_json::Value;

use super::file::ConfigFile;
use crate::yaml;

/// At most so many are named.
const MAX: usize = 30;

/// A key that the file has and nobody reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownKey {
    /// The sections that lead to it, and the key itself.
    pub path: Vec<String>,
    /// The known key of the same section that is most like it, if one is like it at all.
    pub nearest: Option<String>,
}

impl UnknownKey {
    /// What to say about it.
    pub fn message(&self) -> String {
        let nearest = self.nearest.as_ref().map_or(String::new(), |nearest| format!("; did you mean `{nearest}`?"));
        format!("`{}` is no key of this file, and is ignored{nearest}", self.path.join("."))
    }
}

/// The unknown keys of a file's text. None where the text is no YAML: that is somebody else's to say.
pub fn unknown_keys(text: &str) -> Vec<UnknownKey> {
    let Ok(set) = yaml::parse_value(text) else { return Vec::new() };
    let known = serde_json::to_value(ConfigFile::default()).unwrap_or_default();
    let mut found = Vec::new();
    compare(&set, &known, &mut Vec::new(), &mut found);
    found.truncate(MAX);
    found
}

fn compare(set: &Value, known: &Value, path: &mut Vec<String>, found: &mut Vec<UnknownKey>) {
    let (Value::Object(set), Value::Object(known)) = (set, known) else { return };
    // An empty one is a map whose keys are anybody's.
    if known.is_empty() {
        return;
    }
    for (key, value) in set {
        path.push(key.clone());
        match known.get(key) {
            Some(known) => compare(value, known, path, found),
            None => {
                let nearest = yaml::nearest(key, known.keys().map(String::as_str)).map(str::to_owned);
                found.push(UnknownKey { path: path.clone(), nearest });
            }
        }
        path.pop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(text: &str) -> Vec<String> {
        unknown_keys(text).iter().map(UnknownKey::message).collect()
    }

    #[test]
    fn slips_are_named_with_what_was_meant() {
        let text = "remot: https://panel.example.com\nsystem:\n  sftp: {bind_prot: 1}\n  xyzzy: {a: 1}\nsearch: {}\n";
        assert_eq!(
            messages(text),
            [
                "`remot` is no key of this file, and is ignored; did you mean `remote`?",
                "`system.sftp.bind_prot` is no key of this file, and is ignored; did you mean `bind_port`?",
                "`system.xyzzy` is no key of this file, and is ignored",
                "`search` is no key of this file, and is ignored; did you mean `Search`?",
            ]
        );
    }

    #[test]
    fn known_keys_and_maps_of_anybodys_keys_are_not() {
        let default = crate::yaml::to_string(&ConfigFile::default()).unwrap();
        assert_eq!(messages(&default), [""; 0]);
        let maps = "docker:\n  registries: {ghcr.io: {username: a, password: b}}\n  log_config: {config: {tag: x}}\n  \
                    overhead: {multipliers: {512: 1.3}}\nremote_query: {custom_headers: {X-A: b}}\n";
        assert_eq!(messages(maps), [""; 0]);
        for text in ["", "5", "a: [", "system: 5"] {
            assert_eq!(messages(text), [""; 0], "{text:?}");
        }
    }

    #[test]
    fn whatever_is_known_is_passed_over() {
        let keys = |text: &str| -> Vec<String> { unknown_keys(text).iter().map(|key| key.path.join(".")).collect() };
        assert_eq!(keys("sytem: {a: 1}\nsystem:\n  usrname: x\n"), ["sytem", "system.usrname"]);
        let all = serde_json::to_value(ConfigFile::default()).unwrap();
        assert!(keys(&crate::yaml::to_string(&all).unwrap()).is_empty());
        let maps = "docker: {registries: {x: {}}, log_config: {config: {max-file: 3}}}\n\
                    remote_query: {custom_headers: {a: b}}\n";
        assert!(keys(maps).is_empty() && keys("").is_empty() && keys("5: x\n").len() == 1);
    }
}
