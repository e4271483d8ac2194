//! Paths of `json`, `yaml` and `toml`, and the values that they set.
//!
//! `.` separates, `\` takes the next character literally, a number is an index of a list (`list.0` or `list[0]`), `-1` appends, `*`
//! stands for every child, `#` for every element, `#(key=="text")` for the first element with that value, and `#(…)#` for all
//! of them. What is missing is created, except where a condition, a `*` or a `#` asks for something that exists.

use std::cell::Cell;

use serde_json::{Map, Number, Value};

use super::{MAX_BYTES, Omission, Replacement};

/// The most elements that are created to reach an index.
const MAX_PADDING: usize = 64;
/// What a value costs besides its text.
const VALUE_COST: usize = 64;
/// The most steps of a path, far below the nesting that the parsers accept.
const MAX_STEPS: usize = 32;

/// One step of a path.
#[derive(Debug, Clone, PartialEq)]
enum Step {
    /// A key of an object, or an index of a list.
    Key(String),
    /// An index, in brackets.
    Index(usize),
    /// Every child.
    Each,
    /// Elements of a list: those with a value, or all.
    Elements { with: Option<Query>, all: bool },
}

impl Step {
    fn is_large_index(&self) -> bool {
        let index = match self {
            Self::Index(index) => Some(*index),
            Self::Key(key) => key.parse().ok(),
            Self::Each | Self::Elements { .. } => None,
        };
        index.is_some_and(|index| index > MAX_PADDING)
    }
}

/// Which elements a step selects.
#[derive(Debug, Clone, PartialEq)]
struct Query {
    key: String,
    operator: &'static str,
    value: Value,
}

/// Operators of queries. A longer one stands before its beginning.
const OPERATORS: [&str; 7] = ["==", "!=", "<=", ">=", "<", ">", "="];

/// Applies replacements to a value.
pub(super) fn apply(root: &mut Value, replacements: &[Replacement], omitted: &mut Vec<Omission>) {
    let budget = Cell::new(MAX_BYTES);
    for replacement in replacements {
        let result = match steps(&replacement.key) {
            Some(steps) => {
                let exists = |step: &Step| matches!(step, Step::Each | Step::Elements { .. });
                let last = steps.iter().rposition(exists);
                let creates = replacement.condition.is_none();
                // Only a large index fails after something was created on the way to it.
                let before = steps.iter().any(Step::is_large_index).then(|| root.clone());
                let setter = Setter { replacement, creates, budget: &budget };
                let set = setter.set(root, &steps, last.map_or(0, |last| last + 1));
                if let (Err(_), Some(before)) = (&set, before) {
                    *root = before;
                }
                set
            }
            None => Err("the path is empty, too long, or ends within brackets"),
        };
        if let Err(why) = result {
            omitted.push(Omission { key: replacement.key.clone(), why });
        }
    }
}

/// The steps of a path.
fn steps(path: &str) -> Option<Vec<Step>> {
    let mut steps = Vec::new();
    let mut rest = path;
    loop {
        let (part, literal, length) = part(rest)?;
        push_part(part, literal, &mut steps)?;
        if steps.len() > MAX_STEPS {
            return None;
        }
        match rest[length..].strip_prefix('.') {
            Some(after) => rest = after,
            None => return Some(steps),
        }
    }
}

/// The part of a path up to the next dot, whether it contains an escaped character, and its length in the path.
fn part(path: &str) -> Option<(String, bool, usize)> {
    if path.starts_with("#(") {
        let mut quoted = false;
        let end = path.char_indices().find(|(_, char)| {
            quoted ^= *char == '"';
            *char == ')' && !quoted
        })?;
        let length = end.0 + 1 + usize::from(path[end.0 + 1..].starts_with('#'));
        return Some((path[..length].to_owned(), false, length));
    }
    let (mut part, mut literal, mut escaped) = (String::new(), false, false);
    for (at, char) in path.char_indices() {
        match char {
            _ if escaped => {
                escaped = false;
                part.push(char);
            }
            '\\' => (escaped, literal) = (true, true),
            '.' => return Some((part, literal, at)),
            _ => part.push(char),
        }
    }
    Some((part, literal, path.len()))
}

fn push_part(part: String, literal: bool, steps: &mut Vec<Step>) -> Option<()> {
    if literal {
        steps.push(Step::Key(part));
        return Some(());
    }
    match part.as_str() {
        "" => return None,
        "*" => steps.push(Step::Each),
        "#" => steps.push(Step::Elements { with: None, all: true }),
        query if query.starts_with("#(") => {
            let all = query.ends_with('#');
            let inner = query.trim_end_matches('#').strip_prefix("#(")?.strip_suffix(')')?;
            steps.push(Step::Elements { with: Some(self::query(inner)?), all });
        }
        _ => {
            let (name, indices) = indices(&part);
            if !name.is_empty() {
                steps.push(Step::Key(name.to_owned()));
            }
            steps.extend(indices.into_iter().map(Step::Index));
        }
    }
    Some(())
}

fn query(text: &str) -> Option<Query> {
    let at = text.find(['=', '!', '<', '>'])?;
    let operator = OPERATORS.into_iter().find(|operator| text[at..].starts_with(operator))?;
    let value = text[at + operator.len()..].trim();
    let value = serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_owned()));
    Some(Query { key: text[..at].trim().to_owned(), operator, value })
}

/// The name and the indices of `name[0][1]`. Without indices the name is the whole part.
fn indices(part: &str) -> (&str, Vec<usize>) {
    let (mut name, mut indices) = (part, Vec::new());
    while let Some((before, index)) = name.strip_suffix(']').and_then(|name| name.rsplit_once('[')) {
        let Ok(index) = index.parse() else { break };
        indices.insert(0, index);
        name = before;
    }
    (name, indices)
}

/// Sets the values at a path.
struct Setter<'r> {
    replacement: &'r Replacement,
    /// Whether a missing value is created.
    creates: bool,
    /// Bytes that may still be added to the file: one path may select a million values of a hostile file.
    budget: &'r Cell<usize>,
}

impl Setter<'_> {
    /// `existing` is the number of the next steps that create nothing.
    fn set(&self, value: &mut Value, steps: &[Step], existing: usize) -> Result<(), &'static str> {
        let Some((step, rest)) = steps.split_first() else {
            if let Some(new) = new_value(self.replacement, Some(value)) {
                self.spend(scalar_text(&new).map_or(0, |text| text.len()))?;
                *value = new;
            }
            return Ok(());
        };
        let left = existing.saturating_sub(1);
        match step {
            // An error at one child does not prevent the others.
            Step::Each => {
                let each = children(value).into_iter().map(|child| self.set(child, rest, left));
                each.fold(Ok(()), Result::and)
            }
            Step::Elements { with, all } => {
                // As with Wings, nothing is created below an element.
                let below = Setter { creates: false, ..*self };
                let Value::Array(list) = value else { return Ok(()) };
                let selected =
                    list.iter_mut().filter(|element| with.as_ref().is_none_or(|query| query.selects(element)));
                let most = if *all { usize::MAX } else { 1 };
                let each = selected.take(most).map(|element| below.set(element, rest, rest.len() + 1));
                each.fold(Ok(()), Result::and)
            }
            Step::Key(_) | Step::Index(_) => match self.child(value, step, self.creates && existing == 0)? {
                Some(child) => self.set(child, rest, left),
                None => Ok(()),
            },
        }
    }

    fn spend(&self, bytes: usize) -> Result<(), &'static str> {
        let left = self.budget.get().checked_sub(bytes + VALUE_COST);
        self.budget.set(left.ok_or("it would add more to the file than the limit of its size allows")?);
        Ok(())
    }

    /// The child of a value, which is created if it is missing.
    fn child<'v>(
        &self,
        value: &'v mut Value,
        step: &Step,
        create: bool,
    ) -> Result<Option<&'v mut Value>, &'static str> {
        let index = match step {
            Step::Index(index) => Some(*index),
            Step::Key(key) => key.parse().ok(),
            Step::Each | Step::Elements { .. } => None,
        };
        let appends = matches!(step, Step::Key(key) if key == "-1");
        if create && !value.is_array() && !value.is_object() {
            let list = index.is_some() || appends;
            self.spend(0)?;
            *value = if list { Value::Array(Vec::new()) } else { Value::Object(Map::new()) };
        }
        match (value, step) {
            (Value::Object(map), Step::Key(key)) => Ok(match create {
                true => Some(map.entry(key.as_str()).or_insert(Value::Null)),
                false => map.get_mut(key),
            }),
            (Value::Array(list), _) => {
                let index = if appends { Some(list.len()) } else { index };
                let Some(index) = index else { return Err("a list has no keys, only the indices 0, 1, 2, …") };
                if create && index >= list.len() {
                    if index - list.len() > MAX_PADDING {
                        return Err("the index is too far behind the end of the list");
                    }
                    list.resize(index + 1, Value::Null);
                }
                Ok(list.get_mut(index))
            }
            (Value::Object(_), _) => Err("an index stands where the file has keys"),
            _ => Ok(None),
        }
    }
}

fn children(value: &mut Value) -> Vec<&mut Value> {
    match value {
        Value::Object(map) => map.values_mut().collect(),
        Value::Array(list) => list.iter_mut().collect(),
        _ => Vec::new(),
    }
}

impl Query {
    fn selects(&self, element: &Value) -> bool {
        let found = if self.key.is_empty() { Some(element) } else { element.get(&self.key) };
        let Some(found) = found else { return false };
        let order = match (found, &self.value) {
            (Value::Number(found), Value::Number(value)) => found.as_f64().partial_cmp(&value.as_f64()),
            (Value::String(found), Value::String(value)) => Some(found.cmp(value)),
            _ => (found == &self.value).then_some(std::cmp::Ordering::Equal),
        };
        match self.operator {
            "!=" => order.is_none_or(std::cmp::Ordering::is_ne),
            "<=" => order.is_some_and(std::cmp::Ordering::is_le),
            ">=" => order.is_some_and(std::cmp::Ordering::is_ge),
            "<" => order.is_some_and(std::cmp::Ordering::is_lt),
            ">" => order.is_some_and(std::cmp::Ordering::is_gt),
            _ => order.is_some_and(std::cmp::Ordering::is_eq),
        }
    }
}

/// The value that replaces `old`: a boolean or number stays one if the new text is one.
fn new_value(replacement: &Replacement, old: Option<&Value>) -> Option<Value> {
    let text = replacement.new_text(old.and_then(scalar_text).as_deref())?;
    if let Some(flag) = replacement.flag {
        return Some(Value::Bool(flag));
    }
    let typed = match old {
        Some(Value::Bool(_)) => boolean(&text).map(Value::Bool),
        Some(Value::Number(_)) => number(&text).map(Value::Number),
        _ => None,
    };
    Some(typed.unwrap_or(Value::String(text)))
}

fn scalar_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Null => Some(String::new()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        Value::Array(_) | Value::Object(_) => None,
    }
}

/// A boolean as Go reads it.
fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// A number of JSON, unless it would lose digits.
fn number(text: &str) -> Option<Number> {
    let number: Number = serde_json::from_str(text).ok()?;
    let is_integer = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    (!is_integer || !number.is_f64()).then_some(number)
}
