//! From the panel's JSON to the strict model.
//!
//! In: the bytes or the JSON of an answer, which may be anything. Out: the model's values, or a [`WireError`] that names the key
//! and what was expected there. Reading is lenient where PHP is loose (`[]` for an empty object, `null` for absent,
//! a list that became an object, keys that nobody needs) and strict where a guess could do harm: a text where an object
//! belongs is an error. Everything that grows has a limit. Values never appear in errors, since they may be secret.

mod process;
mod read;
mod settings;

use std::fmt;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use self::read::{Fields, Trail};
use super::{ListedServer, PanelServer};
use crate::model::{Script, ServerId};

/// Longest answer of the panel that is read, bytes.
pub const MAX_ANSWER: usize = 16 << 20;
/// Longest single text, bytes.
pub const MAX_TEXT: usize = 1 << 20;
/// Most entries of one object, such as the environment.
pub const MAX_ENTRIES: usize = 1_000;
/// Most elements of one list.
pub const MAX_ELEMENTS: usize = 65_536;
/// Most pages that a listing may have.
pub const MAX_PAGES: u32 = 10_000;

/// Why an answer cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{at}: expected {expected}, found {found}")]
pub struct WireError {
    /// The key, as a path from the document's root.
    pub at: String,
    /// What belongs there.
    pub expected: String,
    /// What kind of thing is there; never the value itself.
    pub found: String,
}

impl WireError {
    fn new(trail: &Trail<'_>, expected: impl Into<String>, found: impl fmt::Display) -> Self {
        Self { at: trail.to_string(), expected: expected.into(), found: found.to_string() }
    }
}

/// One page of the list (`GET /api/remote/servers`).
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// Number of the last page, at least 1.
    pub last: u32,
    /// Servers on all pages, where the panel says it.
    pub total: Option<u64>,
    /// Entries on this page, those without a name included.
    pub entries: usize,
    /// The entries that have a server's name.
    pub servers: Vec<ListedServer>,
}

/// Parses JSON text.
pub fn json(bytes: &[u8]) -> Result<Value, WireError> {
    serde_json::from_slice(bytes).map_err(|error| not_json(&error))
}

/// Reads the answer to `GET /api/remote/servers/{uuid}`, which must speak of this server.
pub fn server(id: ServerId, answer: &Value) -> Result<PanelServer, WireError> {
    let root = Fields::of(answer, &Trail::Root)?;
    let settings::Read { uuid, suspended, settings } = root.required("settings", settings::read)?;
    if let Some(other) = uuid.filter(|uuid| *uuid != id) {
        let settings = Trail::Key(&Trail::Root, "settings");
        return Err(WireError::new(&Trail::Key(&settings, "uuid"), id.to_string(), other));
    }
    let process = root.required("process_configuration", process::read)?;
    Ok(PanelServer { suspended, settings, process })
}

/// Reads the answer to `GET /api/remote/servers/{uuid}/install`. What is missing is empty.
pub fn script(answer: &Value) -> Result<Script, WireError> {
    let root = Fields::of(answer, &Trail::Root)?;
    Ok(Script {
        image: root.text("container_image")?,
        entrypoint: root.text("entrypoint")?,
        text: root.text("script")?,
    })
}

/// Reads the answer to `GET /api/remote/servers`. A broken entry is listed with its error; one that does not even say
/// which server it is about is only counted.
pub fn page(bytes: &[u8]) -> Result<Page, WireError> {
    // Entries are parsed one by one, so that a large page is never in memory as JSON values all at once.
    #[derive(Deserialize)]
    struct Raw<'a> {
        #[serde(borrow, default)]
        data: Option<&'a RawValue>,
        #[serde(borrow, default)]
        meta: Option<&'a RawValue>,
    }
    let Raw { data, meta } = serde_json::from_slice(bytes).map_err(|error| not_json(&error))?;
    let data_trail = Trail::Key(&Trail::Root, "data");
    let Some(data) = data else {
        return Err(WireError::new(&data_trail, "a list of servers", "nothing"));
    };
    let data: Vec<&RawValue> = serde_json::from_str(data.get())
        .map_err(|_| WireError::new(&data_trail, "a list of servers", kind_of(data)))?;
    if data.len() > MAX_ELEMENTS {
        return Err(WireError::new(&data_trail, format!("at most {MAX_ELEMENTS} servers"), data.len()));
    }
    let meta = meta.map_or(Ok(Value::Null), |meta| json(meta.get().as_bytes()))?;
    let meta_trail = Trail::Key(&Trail::Root, "meta");
    let meta = Fields::of(&meta, &meta_trail)?;
    let last = meta.whole("last_page", 0..=i64::from(MAX_PAGES))?.unwrap_or(1).max(1);
    let total = meta.whole("total", 0..=i64::MAX)?;
    let entries = data.iter().enumerate();
    Ok(Page {
        last: u32::try_from(last).unwrap_or(MAX_PAGES),
        total: total.and_then(|total| u64::try_from(total).ok()),
        entries: data.len(),
        servers: entries.filter_map(|(index, entry)| listed(entry, &Trail::Index(&data_trail, index))).collect(),
    })
}

/// The panel's own words in the body of an error answer, in one bounded line.
pub fn rejection(body: &[u8]) -> String {
    let answer: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
    let first = &answer["errors"][0];
    let words: Vec<&str> = ["code", "detail"].iter().filter_map(|key| first[*key].as_str()).collect();
    let words = match (words.is_empty(), answer["message"].as_str()) {
        (false, _) => words.join(": "),
        (true, Some(message)) => message.to_owned(),
        (true, None) => String::from_utf8_lossy(&body[..body.len().min(400)]).into_owned(),
    };
    let line = words.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    let line: String = line.collect::<Vec<_>>().join(" ").chars().take(200).collect();
    if line.is_empty() { "it gave no reason".into() } else { line }
}

fn listed(entry: &RawValue, trail: &Trail<'_>) -> Option<ListedServer> {
    // The name is read by itself, so that an entry that cannot be parsed still counts as listed.
    #[derive(Deserialize)]
    struct Name {
        uuid: Option<String>,
    }
    let value = json(entry.get().as_bytes());
    let inner = value.as_ref().ok().and_then(|value| value.get("settings")?.get("uuid")?.as_str());
    let name = serde_json::from_str::<Name>(entry.get()).ok().and_then(|name| name.uuid);
    let Some(id) = name.as_deref().or(inner).and_then(|name| name.parse().ok()) else {
        tracing::warn!(entry = %trail, "an entry of the panel's list does not say which server it is, and is left out");
        return None;
    };
    let server = value.and_then(|value| server(id, &value)).map_err(|error| error.to_string());
    Some(ListedServer { id, server })
}

fn kind_of(raw: &RawValue) -> &'static str {
    serde_json::from_str::<Value>(raw.get()).map_or("something else", |value| read::kind(&value))
}

fn not_json(error: &serde_json::Error) -> WireError {
    // The library's own text may quote the value.
    let kind = if error.is_data() { "JSON of another kind" } else { "something else" };
    let found = format!("{kind} at line {}, column {}", error.line(), error.column());
    WireError::new(&Trail::Root, "JSON as the remote API has it", found)
}

#[cfg(test)]
mod tests;
