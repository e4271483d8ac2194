//! Properties of merges of any value into any handwritten form of another one.

use proptest::prelude::*;
use serde_json::{Map, json};

use super::*;

/// Keys, few, so that two values often share some.
fn key() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => "[a-e]",
        1 => "[a-z]{2,6}",
        1 => prop::sample::select(vec!["y", "8080", "a b", "é", "", "#", "a: b", "~", "'", "-", "true"]).prop_map(str::to_owned),
    ]
}

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-5_i64..50).prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-1e6..1e6).prop_map(|f: f64| json!(f)),
        "[a-z]{0,6}".prop_map(Value::from),
        "[ -~]{0,12}".prop_map(Value::from),
        "[a-c \\n#:-]{0,16}".prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    scalar().prop_recursive(4, 40, 5, |inner| {
        prop_oneof![
            2 => prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            5 => mapping(inner),
        ]
    })
}

fn mapping(values: impl Strategy<Value = Value>) -> impl Strategy<Value = Value> {
    let pairs = prop::collection::vec((key(), values), 0..6);
    pairs.prop_map(|pairs| pairs.into_iter().collect::<Map<_, _>>().into())
}

/// Choices between the ways to write a value by hand, used in a cycle.
#[derive(Debug, Clone)]
struct Hand {
    choices: Vec<u8>,
    next: usize,
    step: usize,
    comments: usize,
}

fn hand() -> impl Strategy<Value = Hand> {
    (prop::collection::vec(any::<u8>(), 1..40), 1..5_usize).prop_map(|(choices, step)| Hand {
        choices,
        next: 0,
        step,
        comments: 0,
    })
}

impl Hand {
    fn choose(&mut self, of: u8) -> u8 {
        self.next += 1;
        self.choices[self.next % self.choices.len()] % of
    }

    fn comment(&mut self) -> String {
        self.comments += 1;
        format!("# {} it's: \"{{[", self.comments)
    }

    /// Comment and blank lines.
    fn decoration(&mut self, indent: usize, out: &mut String) {
        for _ in 0..self.choose(3) {
            match self.choose(3) {
                0 => out.push('\n'),
                1 => *out += &format!("{:indent$}{}\n", "", self.comment()),
                _ => {}
            }
        }
    }

    fn line_end(&mut self, out: &mut String) {
        if self.choose(4) == 0 {
            *out += &format!("   {}", self.comment());
        }
        out.push('\n');
    }

    /// The value after a colon or dash, up to the end of its last line.
    fn write(&mut self, value: &Value, indent: usize, out: &mut String) {
        match value {
            Value::Object(map) if !map.is_empty() && self.choose(4) > 0 => {
                self.line_end(out);
                self.pairs(map, indent, out);
            }
            Value::Array(list) if !list.is_empty() && self.choose(4) > 0 => {
                self.line_end(out);
                self.decoration(indent, out);
                for value in list {
                    *out += &format!("{:indent$}-", "");
                    self.write(value, indent + self.step, out);
                    self.decoration(indent, out);
                }
            }
            Value::Null if self.choose(2) == 0 => self.line_end(out),
            Value::String(text) if is_simple_text(text) && self.choose(2) == 0 => {
                *out += " |\n";
                for line in text.lines() {
                    *out += &format!("{:indent$}{line}\n", "");
                }
            }
            // JSON, which is YAML's flow style with double quotes.
            other => {
                *out += &format!(" {}", escaped(other));
                self.line_end(out);
            }
        }
    }

    fn pairs(&mut self, map: &Map<String, Value>, indent: usize, out: &mut String) {
        for (key, value) in map {
            self.decoration(indent, out);
            let plain = key.chars().all(|c| c.is_ascii_lowercase()) && !["", "true"].contains(&key.as_str());
            let quoted = escaped(&json!(key));
            let key = if plain && self.choose(3) > 0 { key } else { &quoted };
            *out += &format!("{:indent$}{key}:", "");
            self.write(value, indent + self.step, out);
        }
    }

    fn document(&mut self, value: &Value) -> String {
        let mut out = String::new();
        self.decoration(0, &mut out);
        match value {
            Value::Object(map) if !map.is_empty() => self.pairs(map, 0, &mut out),
            other => out += &format!("{}\n", escaped(other)),
        }
        self.decoration(0, &mut out);
        out
    }
}

/// A text for the simplest form of a literal block.
fn is_simple_text(text: &str) -> bool {
    let body = text.strip_suffix('\n').unwrap_or_default();
    !body.is_empty()
        && body.lines().all(|l| l.starts_with(|c: char| c.is_ascii_alphanumeric()))
        && body.is_ascii()
        && !body.contains(['\r', '\t', '\u{b}', '\u{c}'])
        && !body.chars().any(|c| c.is_control() && c != '\n')
        && !body.ends_with('\n')
}

/// JSON whose every unusual character is escaped.
fn escaped(value: &Value) -> String {
    let mut out = String::new();
    for c in value.to_string().chars() {
        match u32::from(c) {
            0x20..=0x7e => out.push(c),
            n if n <= 0xffff => out += &format!("\\u{n:04x}"),
            n => out += &format!("\\U{n:08x}"),
        }
    }
    out
}

/// The lines of a text that begin a pair of the outermost mapping, with everything below them up to the next.
fn sections(text: &str) -> Vec<String> {
    let mut sections: Vec<String> = Vec::new();
    for line in text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')) {
        match sections.last_mut() {
            Some(section) if line.starts_with([' ', '-']) => {
                if !line.trim_start().starts_with('#') {
                    section.push('\n');
                    section.push_str(line);
                }
            }
            _ => sections.push(line.to_owned()),
        }
    }
    sections
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_merged_text_means_the_new_value(old in mapping(value()), new in mapping(value()), mut hand in hand()) {
        let text = hand.document(&old);
        prop_assert_eq!(parse_value(&text).map_err(|e| TestCaseError::fail(format!("{e}\n{text}")))?, old, "{}", text);
        let merged = merge(&text, &new).map_err(|e| TestCaseError::fail(format!("{e}\n{text}")))?;
        prop_assert_eq!(parse_value(&merged).unwrap(), new.clone(), "{}\n===\n{}", text, merged);
        prop_assert_eq!(merge(&merged, &new).unwrap(), merged);
    }

    #[test]
    fn any_value_can_be_merged_into_any(old in value(), new in value()) {
        let text = to_string(&old).unwrap();
        prop_assert_eq!(parse_value(&text).map_err(|e| TestCaseError::fail(format!("{e}\n{text}")))?, old, "{}", text);
        let merged = merge(&text, &new).unwrap();
        prop_assert_eq!(parse_value(&merged).unwrap(), new);
    }

    #[test]
    fn a_text_with_the_same_value_stays(old in mapping(value()), mut hand in hand()) {
        let text = hand.document(&old);
        prop_assert_eq!(merge(&text, &old).unwrap(), text);
    }

    /// One pair is changed and one inserted: all other pairs keep their bytes and their comments.
    #[test]
    fn unchanged_pairs_keep_their_bytes(
        old in mapping(value()), mut hand in hand(), inserted in value(), changed in any::<prop::sample::Index>(),
    ) {
        let text = hand.document(&old);
        let mut new = old.clone();
        let map = new.as_object_mut().unwrap();
        let mut touched = vec!["new".to_owned()];
        if !map.is_empty() {
            let key = map.keys().nth(changed.index(map.len())).unwrap().clone();
            map[&key] = inserted.clone();
            touched.push(key);
        }
        map.insert("new".into(), inserted);
        let merged = merge(&text, &new).unwrap();
        prop_assert_eq!(parse_value(&merged).unwrap(), new, "{}\n===\n{}", text, merged);

        let after = sections(&merged);
        for section in sections(&text) {
            let key = parse_value(&format!("{section}\n")).unwrap().as_object().and_then(|m| m.keys().next().cloned());
            if key.is_some_and(|key| !touched.contains(&key)) {
                prop_assert!(after.contains(&section), "{:?} of\n{}\n===\n{}", section, text, merged);
            }
        }
    }

    /// A change deep inside keeps every comment that is not in or on the changed value.
    #[test]
    fn a_changed_scalar_keeps_all_comments(mut hand in hand(), old in mapping(value()), new in "[a-z]{1,5}") {
        let mut wrapped = json!({"first": old, "spec": {"power": {"id": "x1", "want": "up"}}, "last": 1});
        let text = hand.document(&wrapped);
        wrapped["spec"]["power"]["id"] = json!(new);
        let merged = merge(&text, &wrapped).unwrap();
        prop_assert_eq!(parse_value(&merged).unwrap(), wrapped);
        prop_assert_eq!(merged.lines().count(), text.lines().count(), "{}\n===\n{}", text, merged);
        let differing = merged.lines().zip(text.lines()).filter(|(a, b)| a != b).count();
        prop_assert!(differing <= 1, "{}\n===\n{}", text, merged);
    }
}
