//! Converts the panel's JSON to the strict model.
//!
//! The input is an answer with any content. The output is the model's values, or a [`WireError`] that names the key and the
//! expected value. Reading is lenient where PHP is: `[]` for an empty object, `null` for absent, an object for a list, unknown
//! keys. It is strict where a guess could do harm: a text in place of an object is an error. Everything that can grow has a
//! limit. Errors never contain values, which may be secret.

mod process;
mod read;
mod settings;

use std::fmt;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use self::read::{Fields, Trail};
use self::settings::WireSettings;
use super::{ListedServer, MAX_PARTS, PanelServer, SftpUser, UploadLinks};
use crate::model::image::trimmed;
use crate::model::{Script, ServerId};

/// Longest answer of the panel, in bytes.
pub const MAX_ANSWER: usize = 16 << 20;
/// Longest single text, in bytes.
pub const MAX_TEXT: usize = 1 << 20;
/// Most entries of one object, such as the environment.
pub const MAX_ENTRIES: usize = 1_000;
/// Most elements of one list.
pub const MAX_ELEMENTS: usize = 65_536;
/// Most pages of a listing.
pub const MAX_PAGES: u32 = 10_000;

/// Why an answer cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{at}: expected {expected}, found {found}")]
pub struct WireError {
    /// The key, as a path from the document's root.
    pub at: String,
    /// The expected type or value.
    pub expected: String,
    /// The type that was found; never the value itself.
    pub found: String,
}

impl WireError {
    fn new(at: &Trail<'_>, expected: impl Into<String>, found: impl fmt::Display) -> Self {
        Self { at: at.to_string(), expected: expected.into(), found: found.to_string() }
    }
}

/// One page of the list (`GET /api/remote/servers`).
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// Number of the last page, at least 1.
    pub last: u32,
    /// Servers on all pages, if the panel sends the number.
    pub total: Option<u64>,
    /// Entries on this page, including those without a server id.
    pub entries: usize,
    /// The entries that have a server id.
    pub servers: Vec<ListedServer>,
}

/// Whether an answer is JSON. The panel answers in JSON only; proxies and firewalls answer with pages.
pub fn is_json(bytes: &[u8]) -> bool {
    serde_json::from_slice::<serde::de::IgnoredAny>(bytes).is_ok()
}

/// Whether the body of an error is the panel's own: JSON with a list of `errors`, each of which has a textual code or detail, or is a
/// text (Calagopus). The API of a content delivery network has `errors` with numbers as codes.
pub fn is_panel_error(body: &[u8]) -> bool {
    let answer: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
    let of_panel = |error: &Value| error.is_string() || ["code", "detail"].iter().any(|key| error[*key].is_string());
    answer["errors"].as_array().is_some_and(|errors| !errors.is_empty() && errors.iter().all(of_panel))
}

/// Parses JSON text.
pub fn json(bytes: &[u8]) -> Result<Value, WireError> {
    serde_json::from_slice(bytes).map_err(|error| not_json(&error))
}

/// Reads the answer to `GET /api/remote/servers/{uuid}`, which must be about this server.
pub fn server(id: ServerId, answer: &Value) -> Result<PanelServer, WireError> {
    let root = Fields::of(answer, &Trail::Root)?;
    let WireSettings { uuid, suspended, settings } = root.required_object("settings")?;
    if let Some(other) = uuid.filter(|uuid| *uuid != id) {
        let settings = Trail::Key(&Trail::Root, "settings");
        return Err(WireError::new(&Trail::Key(&settings, "uuid"), id.to_string(), other));
    }
    Ok(PanelServer { suspended, settings, process: root.required_object("process_configuration")? })
}

/// Reads the answer to `GET /api/remote/servers/{uuid}/install`. Absent values are empty, but one of them must be there: other JSON is
/// no answer to the question.
pub fn script(answer: &Value) -> Result<Script, WireError> {
    let root = Fields::of(answer, &Trail::Root)?;
    if !["container_image", "entrypoint", "script"].iter().any(|key| answer.get(key).is_some()) {
        return Err(WireError::new(&Trail::Root, "an install script", "none of its keys"));
    }
    Ok(Script {
        image: trimmed(&root.value::<String>("container_image")?),
        entrypoint: trimmed(&root.value::<String>("entrypoint")?),
        text: root.value("script")?,
    })
}

/// Reads the answer to `POST /api/remote/sftp/auth`.
pub fn sftp_user(answer: &Value) -> Result<SftpUser, WireError> {
    let root = Fields::of(answer, &Trail::Root)?;
    let server = Trail::Key(&Trail::Root, "server");
    let user = Trail::Key(&Trail::Root, "user");
    let parsed = root.required_text("user")?.parse();
    Ok(SftpUser {
        user: parsed.map_err(|_| WireError::new(&user, "a user's uuid", "another text"))?,
        server: root.optional("server")?.ok_or_else(|| WireError::new(&server, "a server's uuid", "nothing"))?,
        permissions: root.value("permissions")?,
    })
}

/// Reads the answer to `GET /api/remote/backups/{uuid}?size=`. Its parts hold an archive of this size.
pub fn upload_links(size: u64, answer: &Value) -> Result<UploadLinks, WireError> {
    let root = Fields::of(answer, &Trail::Root)?;
    let parts: Vec<String> = root.value("parts")?;
    let part_size = root.number("part_size", 1..=i64::MAX)?;
    let part_size = part_size.and_then(|size| u64::try_from(size).ok());
    let part_size =
        part_size.ok_or_else(|| WireError::new(&Trail::Key(&Trail::Root, "part_size"), "a size", "nothing"))?;
    let needed = size.div_ceil(part_size).max(1);
    if parts.len() > MAX_PARTS || (parts.len() as u64) < needed {
        let expected = format!("{needed} links for {size} bytes, and at most {MAX_PARTS}");
        return Err(WireError::new(&Trail::Key(&Trail::Root, "parts"), expected, parts.len()));
    }
    // A number that makes no sense is no reason to lose a backup.
    let max_concurrent = root.number("max_concurrent_uploads", i64::MIN..=i64::MAX).ok().flatten();
    let max_concurrent = max_concurrent.filter(|count| *count > 0);
    Ok(UploadLinks {
        parts,
        part_size,
        max_concurrent: max_concurrent.map(|count| u32::try_from(count).unwrap_or(u32::MAX)),
    })
}

/// Whether the reason of a 400 is that the backup was completed before. The panel has other reasons for a 400, which its body does not
/// tell apart but by the text: "Cannot update the status of a backup that is already marked as completed."
pub fn is_already_completed(detail: &str) -> bool {
    let detail = detail.to_lowercase();
    detail.contains("already") && detail.contains("complete")
}

/// Reads the answer to `GET /api/remote/servers`. An invalid entry is listed with its error; an entry without a server id is
/// only counted.
pub fn page(bytes: &[u8]) -> Result<Page, WireError> {
    // Entries are parsed one by one, so that a large page never occupies memory as JSON values all at once.
    #[derive(Deserialize)]
    struct Raw<'a> {
        #[serde(borrow, default)]
        data: Option<&'a RawValue>,
        #[serde(borrow, default)]
        meta: Option<&'a RawValue>,
    }
    let Raw { data, meta } = serde_json::from_slice(bytes).map_err(|error| not_json(&error))?;
    let data_trail = Trail::Key(&Trail::Root, "data");
    let no_list = |found| WireError::new(&data_trail, "a list of servers", found);
    let data = data.ok_or_else(|| no_list("nothing"))?;
    let data: Vec<&RawValue> = serde_json::from_str(data.get()).map_err(|_| no_list(raw_type_name(data)))?;
    if data.len() > MAX_ELEMENTS {
        return Err(WireError::new(&data_trail, format!("at most {MAX_ELEMENTS} servers"), data.len()));
    }
    let meta = meta.map_or(Ok(Value::Null), |meta| json(meta.get().as_bytes()))?;
    let meta_trail = Trail::Key(&Trail::Root, "meta");
    let meta = Fields::of(&meta, &meta_trail)?;
    let last = meta.number("last_page", 0..=i64::from(MAX_PAGES))?.unwrap_or(1).max(1);
    let total = meta.number("total", 0..=i64::MAX)?;
    let entries = data.iter().enumerate();
    Ok(Page {
        last: u32::try_from(last).unwrap_or(MAX_PAGES),
        total: total.and_then(|total| u64::try_from(total).ok()),
        entries: data.len(),
        servers: entries.filter_map(|(index, entry)| listed(entry, &Trail::Index(&data_trail, index))).collect(),
    })
}

/// The panel's reason in the body of an error answer, as one line of at most 200 characters.
pub fn rejection(body: &[u8]) -> String {
    let answer: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
    let first = &answer["errors"][0];
    let parts = [first.as_str(), first["code"].as_str(), first["detail"].as_str()];
    let parts: Vec<&str> = parts.into_iter().flatten().collect();
    let reason = match (parts.is_empty(), answer["message"].as_str()) {
        (false, _) => parts.join(": "),
        (true, Some(message)) => message.to_owned(),
        (true, None) => String::from_utf8_lossy(&body[..body.len().min(400)]).into_owned(),
    };
    let parts = reason.split(|c: char| c.is_whitespace() || c.is_control()).filter(|part| !part.is_empty());
    let line: String = parts.collect::<Vec<_>>().join(" ").chars().take(200).collect();
    if line.is_empty() { "it gave no reason".into() } else { line }
}

fn listed(entry: &RawValue, at: &Trail<'_>) -> Option<ListedServer> {
    // The id is parsed separately, so that an entry that cannot be parsed as a whole still counts as listed.
    #[derive(Deserialize)]
    struct Id {
        uuid: Option<String>,
    }
    let value = json(entry.get().as_bytes());
    let inner = value.as_ref().ok().and_then(|value| value.get("settings")?.get("uuid")?.as_str());
    let outer = serde_json::from_str::<Id>(entry.get()).ok().and_then(|entry| entry.uuid);
    let Some(id) = outer.as_deref().or(inner).and_then(|id| id.parse().ok()) else {
        tracing::warn!(entry = %at, "skipping an entry of the panel's list without a server id");
        return None;
    };
    let server = value.and_then(|value| server(id, &value)).map_err(|error| error.to_string());
    Some(ListedServer { id, server })
}

fn raw_type_name(raw: &RawValue) -> &'static str {
    serde_json::from_str::<Value>(raw.get()).map_or("something else", |value| read::type_name(&value))
}

fn not_json(error: &serde_json::Error) -> WireError {
    // The text of serde_json's error may quote the value.
    let kind = if error.is_data() { "JSON of another kind" } else { "something else" };
    let found = format!("{kind} at line {}, column {}", error.line(), error.column());
    WireError::new(&Trail::Root, "JSON as the remote API has it", found)
}

#[cfg(test)]
mod tests;
