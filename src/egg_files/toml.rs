//! The parser `toml`: changes are assigned in the document of `toml_edit`, with the comments around the old values.

use serde_json::{Map, Value as Json};
use toml_edit::{Array, ArrayOfTables, DocumentMut, InlineTable, Item, Table, TableLike, Value};

use super::{Omission, ParseError, Replacement, path};

/// The longest file, in bytes. The document takes many times its memory.
const MAX_BYTES: usize = 1 << 20;

pub(super) fn edit(
    text: &str,
    replacements: &[Replacement],
    omitted: &mut Vec<Omission>,
) -> Result<String, ParseError> {
    if text.len() > MAX_BYTES {
        return Err(ParseError::syntax("TOML", format!("{} bytes are too many; the limit is {MAX_BYTES}", text.len())));
    }
    let parsed = text.parse::<DocumentMut>();
    let mut document = parsed.map_err(|error| ParseError::syntax("TOML", error.message()))?;
    let mut new = json_of_table(document.as_table());
    let old = new.clone();
    path::apply(&mut new, replacements, omitted);
    let (Json::Object(old), Json::Object(new)) = (&old, &new) else {
        return Err(ParseError::syntax("TOML", "the document is no table"));
    };
    if old == new {
        return Ok(text.to_owned());
    }
    change_table(document.as_table_mut(), old, new, false);
    Ok(with_line_ends_of(text, document.to_string()))
}

/// `toml_edit` ends lines with `\n` and the last line always.
fn with_line_ends_of(text: &str, mut edited: String) -> String {
    if !text.is_empty() && !text.ends_with('\n') && edited.ends_with('\n') {
        edited.pop();
    }
    match text.contains("\r\n") {
        true => edited.replace("\r\n", "\n").replace('\n', "\r\n"),
        false => edited,
    }
}

fn json_of_table(table: &dyn TableLike) -> Json {
    let pairs = table.iter().filter(|(_, item)| !item.is_none());
    Json::Object(pairs.map(|(key, item)| (key.to_owned(), json(item))).collect())
}

/// An item as the paths see it: dates are texts.
fn json(item: &Item) -> Json {
    match item {
        Item::None => Json::Null,
        Item::Value(value) => json_of_value(value),
        Item::Table(table) => json_of_table(table),
        Item::ArrayOfTables(tables) => tables.iter().map(|table| json_of_table(table)).collect(),
    }
}

fn json_of_value(value: &Value) -> Json {
    match value {
        Value::String(text) => text.value().as_str().into(),
        Value::Integer(number) => (*number.value()).into(),
        // Infinity and not-a-number are null, which no replacement makes of them.
        Value::Float(number) => (*number.value()).into(),
        Value::Boolean(flag) => (*flag.value()).into(),
        Value::Datetime(time) => time.value().to_string().into(),
        Value::Array(list) => list.iter().map(json_of_value).collect(),
        Value::InlineTable(table) => json_of_table(table),
    }
}

fn change_table(table: &mut dyn TableLike, old: &Map<String, Json>, new: &Map<String, Json>, inline: bool) {
    for (key, new) in new {
        let old = old.get(key);
        if old == Some(new) {
            continue;
        }
        match (table.get_mut(key), old) {
            (Some(item), Some(old)) => change_item(item, old, new),
            _ => drop(table.insert(key, new_item(new, inline))),
        }
    }
}

fn change_item(item: &mut Item, old: &Json, new: &Json) {
    match (&mut *item, old, new) {
        (Item::Table(table), Json::Object(old), Json::Object(new)) => change_table(table, old, new, false),
        (Item::ArrayOfTables(tables), Json::Array(old), Json::Array(new)) if new.iter().all(Json::is_object) => {
            change_tables(tables, old, new);
        }
        (Item::Value(value), ..) => change_value(value, old, new),
        _ => *item = new_item(new, false),
    }
}

fn change_tables(tables: &mut ArrayOfTables, old: &[Json], new: &[Json]) {
    for (index, new) in new.iter().enumerate() {
        let Json::Object(new) = new else { continue };
        match (tables.get_mut(index), old.get(index)) {
            (Some(table), Some(Json::Object(old))) => change_table(table, old, new, false),
            _ => tables.push(new_table(new)),
        }
    }
}

fn change_value(value: &mut Value, old: &Json, new: &Json) {
    match (&mut *value, old, new) {
        _ if old == new => {}
        (Value::InlineTable(table), Json::Object(old), Json::Object(new)) => change_table(table, old, new, true),
        (Value::Array(list), Json::Array(old), Json::Array(new)) => {
            for (index, new) in new.iter().enumerate() {
                match (list.get_mut(index), old.get(index)) {
                    (Some(value), Some(old)) => change_value(value, old, new),
                    _ => list.push(new_value(new)),
                }
            }
        }
        _ => {
            // An assignment alone loses the blanks and the comment around the value.
            let decor = value.decor().clone();
            *value = replaced(value, new);
            *value.decor_mut() = decor;
        }
    }
}

/// The new value of a value, with its type if that is possible.
fn replaced(old: &Value, new: &Json) -> Value {
    match (old, new) {
        (Value::Float(_), Json::Number(number)) => number.as_f64().map_or_else(|| new_value(new), Value::from),
        (Value::Datetime(_), Json::String(text)) => {
            text.parse::<toml_edit::Datetime>().map_or_else(|_| new_value(new), Value::from)
        }
        _ => new_value(new),
    }
}

fn new_item(new: &Json, inline: bool) -> Item {
    match new {
        Json::Object(map) if !inline => Item::Table(new_table(map)),
        _ => Item::Value(new_value(new)),
    }
}

fn new_table(new: &Map<String, Json>) -> Table {
    let mut table = Table::new();
    // A table of tables needs no header of its own.
    table.set_implicit(!new.is_empty() && new.values().all(Json::is_object));
    change_table(&mut table, &Map::new(), new, false);
    table
}

fn new_value(new: &Json) -> Value {
    match new {
        Json::Object(map) => {
            let mut table = InlineTable::new();
            change_table(&mut table, &Map::new(), map, true);
            Value::InlineTable(table)
        }
        Json::Array(list) => Value::Array(list.iter().map(new_value).collect::<Array>()),
        Json::Bool(flag) => (*flag).into(),
        Json::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(integer), _) => integer.into(),
            (None, Some(float)) if number.is_f64() => float.into(),
            _ => number.to_string().into(),
        },
        Json::String(text) => text.as_str().into(),
        // TOML has no null: it stands for an element that pads a list.
        Json::Null => "".into(),
    }
}
