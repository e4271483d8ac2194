//! Renders values as YAML in the style of the file.

use saphyr_parser::ScalarStyle;
use serde_json::Value;

/// The indentation of a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Style {
    /// Columns by which a mapping inside a mapping is indented.
    pub step: usize,
    /// Columns by which the dashes of a list inside a mapping are indented.
    pub dash: usize,
}

/// A value in two parts.
#[derive(Debug, Default)]
pub(super) struct Rendered {
    /// The part after the colon or dash; may be empty.
    pub inline: String,
    /// The lines below, each with its line break.
    pub lines: String,
}

impl Style {
    /// A value after a key in column `indent`, counted from zero. A text keeps the kind of quotes it `had`.
    pub fn after_key(&self, value: &Value, indent: usize, had: Option<ScalarStyle>) -> Rendered {
        let (inner, dash) = (indent + self.step, indent + self.dash);
        self.collection(value, inner, dash).unwrap_or_else(|| scalar(value, inner, had))
    }

    /// A value after a dash in column `indent` and one space.
    pub fn after_dash(&self, value: &Value, indent: usize, had: Option<ScalarStyle>) -> Rendered {
        let inner = indent + 2;
        let Some(Rendered { lines, .. }) = self.collection(value, inner, inner) else {
            return scalar(value, inner, had);
        };
        // The first line continues the line of the dash.
        let (first, rest) = lines.split_once('\n').unwrap_or((&lines, ""));
        Rendered { inline: first.trim_start().to_owned(), lines: rest.to_owned() }
    }

    /// A value that is the whole document.
    pub fn alone(&self, value: &Value) -> String {
        match self.collection(value, 0, 0) {
            Some(rendered) => rendered.lines,
            None => {
                let Rendered { inline, lines } = scalar(value, self.step, None);
                format!("{inline}\n{lines}")
            }
        }
    }

    /// The lines of a collection with keys in column `indent`, or dashes in column `dash`. `None` for a scalar or an
    /// empty collection.
    fn collection(&self, value: &Value, indent: usize, dash: usize) -> Option<Rendered> {
        let mut lines = String::new();
        match value {
            Value::Object(map) => map.iter().for_each(|(key, value)| self.pair(key, value, indent, &mut lines)),
            Value::Array(list) => list.iter().for_each(|value| self.element(value, dash, &mut lines)),
            _ => {}
        }
        (!lines.is_empty()).then_some(Rendered { inline: String::new(), lines })
    }

    /// Appends the lines of a pair with its key in column `indent`.
    pub fn pair(&self, key: &str, value: &Value, indent: usize, out: &mut String) {
        let rendered = self.after_key(value, indent, None);
        let gap = if rendered.inline.is_empty() { "" } else { " " };
        let (key, inline) = (text(key, None, false), &rendered.inline);
        *out += &format!("{:indent$}{key}:{gap}{inline}\n{}", "", rendered.lines);
    }

    /// Appends the lines of a list element with its dash in column `indent`.
    pub fn element(&self, value: &Value, indent: usize, out: &mut String) {
        let rendered = self.after_dash(value, indent, None);
        *out += &format!("{:indent$}- {}\n{}", "", rendered.inline, rendered.lines);
    }
}

/// A value without children. The lines of a long text start in column `indent`.
fn scalar(value: &Value, indent: usize, had: Option<ScalarStyle>) -> Rendered {
    let quoted = matches!(had, Some(ScalarStyle::DoubleQuoted | ScalarStyle::SingleQuoted));
    match value {
        Value::String(string) if !quoted && fits_literal(string) => literal(string, indent),
        other => Rendered { inline: inline(other, had, false), lines: String::new() },
    }
}

/// A value on one line.
pub(super) fn inline(value: &Value, had: Option<ScalarStyle>, in_flow: bool) -> String {
    match value {
        Value::String(string) => text(string, had, in_flow),
        Value::Array(list) => {
            let list: Vec<_> = list.iter().map(|v| inline(v, None, true)).collect();
            format!("[{}]", list.join(", "))
        }
        Value::Object(map) => {
            let pairs: Vec<_> = map.iter().map(|(key, value)| flow_pair(key, value)).collect();
            format!("{{{}}}", pairs.join(", "))
        }
        // Null, booleans and numbers are written alike in JSON and YAML.
        other => other.to_string(),
    }
}

/// A pair inside braces.
pub(super) fn flow_pair(key: &str, value: &Value) -> String {
    format!("{}: {}", text(key, None, true), inline(value, None, true))
}

/// A text on one line, with the quotes it had, or without quotes if it needs none.
fn text(string: &str, had: Option<ScalarStyle>, in_flow: bool) -> String {
    let printable = string.chars().all(is_printable);
    match had {
        Some(ScalarStyle::DoubleQuoted) => double_quoted(string),
        _ if !printable => double_quoted(string),
        Some(ScalarStyle::SingleQuoted) => single_quoted(string),
        _ if is_plain(string, in_flow) => string.to_owned(),
        _ => single_quoted(string),
    }
}

/// Whether a text without quotes is read back as that text, by this crate and by parsers of YAML 1.1, which many game
/// servers use.
fn is_plain(string: &str, in_flow: bool) -> bool {
    const YAML_1_1_BOOLEANS: [&str; 6] = ["y", "n", "yes", "no", "on", "off"];
    let first = string.chars().next();
    let begins_well = first.is_some_and(|c| c.is_alphanumeric() || c == '/' || c == '_');
    // YAML 1.1 has dates, numbers with underscores, and numbers of base 60.
    let date_like =
        string.len() > 4 && string.chars().take(4).all(|c| c.is_ascii_digit()) && string[4..].starts_with('-');
    let number_like = date_like || first.is_some_and(|c| c.is_ascii_digit()) && string.contains(['_', ':']);
    // A dash before a bracket or brace is read as that of a list.
    let breaks_flow = in_flow && (string.contains([',', '[', ']', '{', '}', ':', '#']) || string.ends_with('-'));
    begins_well
        && !number_like
        && !breaks_flow
        && !YAML_1_1_BOOLEANS.contains(&string.to_lowercase().as_str())
        && serde_yaml::to_string(string).is_ok_and(|text| text.strip_suffix('\n') == Some(string))
}

fn single_quoted(string: &str) -> String {
    format!("'{}'", string.replace('\'', "''"))
}

fn double_quoted(string: &str) -> String {
    let mut out = String::from("\"");
    for c in string.chars() {
        match c {
            '"' => out += "\\\"",
            '\\' => out += "\\\\",
            '\n' => out += "\\n",
            '\r' => out += "\\r",
            '\t' => out += "\\t",
            c if is_printable(c) => out.push(c),
            c => out += &format!("\\U{:08x}", u32::from(c)),
        }
    }
    out.push('"');
    out
}

/// Whether a character needs no escape in a text on one line.
fn is_printable(c: char) -> bool {
    !c.is_control() && !matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
}

/// Whether a text can be written as a literal block scalar without an indentation indicator.
fn fits_literal(string: &str) -> bool {
    string.contains('\n')
        && !string.starts_with([' ', '\t', '\n'])
        && !string.ends_with("\n\n")
        && string.chars().all(|c| c == '\n' || c == '\t' || is_printable(c))
}

fn literal(string: &str, indent: usize) -> Rendered {
    let (header, body) = match string.strip_suffix('\n') {
        Some(body) => ("|", body),
        None => ("|-", string),
    };
    let mut lines = String::new();
    for line in body.split('\n') {
        if !line.is_empty() {
            lines += &format!("{:indent$}{line}", "");
        }
        lines.push('\n');
    }
    Rendered { inline: header.to_owned(), lines }
}
