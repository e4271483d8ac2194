//! A configuration that the panel pushes (`POST /api/update`), laid over the file of the node.
//!
//! Only the keys of [`ALLOWED`] are taken: no folder, no panel, nothing that decides what containers may do to the host. A value of
//! another type than the key's is refused, and the others are taken. Source: configuration, "What the panel writes".

use std::path::PathBuf;

use serde_json::{Map, Value};

use super::environment::{Place, place};
use super::file::ConfigFile;
use super::ignored::{as_json, at};
use super::{LiveConfig, Problem, Secret, Variables};
use crate::yaml::{self, YamlError};

/// What the panel may change.
const ALLOWED: &[&str] = &[
    "debug",
    "quiet",
    "app_name",
    "uuid",
    "token_id",
    "token",
    "api.host",
    "api.port",
    "api.ssl.enabled",
    "api.ssl.cert",
    "api.ssl.key",
    "api.upload_limit",
    "api.remote_download.max_redirects",
    "system.timezone",
    "system.sftp.bind_address",
    "system.sftp.bind_port",
    "docker.network.dns",
    "docker.domainname",
    "docker.tmpfs_size",
    "docker.container_pid_limit",
    "docker.installer_limits.memory",
    "docker.installer_limits.cpu",
    "docker.overhead.override",
    "docker.overhead.default_multiplier",
    "throttles.enabled",
    "throttles.lines",
    "throttles.line_reset_interval",
    "remote_query.timeout",
    "allowed_origins",
    "allow_cors_private_network",
];

/// The folder in which the panel assumes the certificate of each node, by the node's name.
const LETS_ENCRYPT: &str = "/etc/letsencrypt/live/";
/// The most keys that are reported.
const MAX_REPORTED: usize = 30;
/// The longest key that is reported, in characters.
const MAX_KEY: usize = 80;

/// A pushed configuration, laid over the file.
#[derive(Debug)]
pub struct Merged {
    /// The new text of the file.
    pub text: String,
    /// Files that hold a token, with the new one.
    pub token_files: Vec<(PathBuf, Secret)>,
    /// Keys that the panel may change, with values that are not taken.
    pub refused: Vec<Problem>,
    /// Keys with another value than the file's, which the panel may not change.
    pub left_alone: Vec<String>,
}

struct Merge<'a> {
    /// The values of the file, with defaults; secrets are empty.
    current: Value,
    /// Their types.
    default: Value,
    live: &'a LiveConfig,
    variables: Variables<'a>,
    file: &'a ConfigFile,
    document: Value,
    merged: Merged,
}

/// Lays `pushed` over the text of a file. `live`: the tokens in effect.
///
/// # Errors
/// The text cannot be changed in place.
pub fn merge(
    text: &str,
    file: &ConfigFile,
    pushed: &Value,
    live: &LiveConfig,
    variables: Variables<'_>,
) -> Result<Merged, YamlError> {
    let document = yaml::parse_value(text)?;
    let merged = Merged { text: String::new(), token_files: Vec::new(), refused: Vec::new(), left_alone: Vec::new() };
    let (current, default) = (as_json(file), as_json(&ConfigFile::default()));
    let mut merge = Merge { current, default, live, variables, file, document, merged };
    let mut pushed = pushed.clone();
    keep_certificate(file, &mut pushed);
    merge.lay_over(&pushed, String::new());
    let text = yaml::edit::merge(text, &merge.document)?;
    Ok(Merged { text, ..merge.merged })
}

impl Merge<'_> {
    fn lay_over(&mut self, pushed: &Value, path: String) {
        let known = at(&self.default, &path);
        match pushed {
            // As in Wings, a key without a value changes nothing.
            Value::Null => {}
            Value::Object(keys) if path.is_empty() || known.is_some_and(Value::is_object) => {
                for (key, value) in keys {
                    let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                    match key.contains('.') {
                        true => self.leave_alone(&path),
                        false => self.lay_over(value, path),
                    }
                }
            }
            value if ALLOWED.contains(&path.as_str()) => self.set(&path, value),
            value if is_section(&path) => self.refuse(&path, format!("is {}: expected keys", kind(value))),
            value if at(&self.current, &path) == Some(value) => {}
            _ => self.leave_alone(&path),
        }
    }

    fn leave_alone(&mut self, path: &str) {
        if self.merged.left_alone.len() < MAX_REPORTED {
            // The panel sends any text, and the log has lines.
            self.merged.left_alone.push(path.chars().take(MAX_KEY).flat_map(char::escape_default).collect());
        }
    }

    fn set(&mut self, path: &str, value: &Value) {
        let expected = at(&self.default, path).unwrap_or(&Value::Null);
        if !fits(expected, value) {
            let texts = if expected.is_array() { " of texts" } else { "" };
            return self.refuse(path, format!("is {}: expected {}{texts}", kind(value), kind(expected)));
        }
        match (path, value.as_str()) {
            ("token_id", Some(new)) => self.set_token(path, "WINGS_TOKEN_ID", new),
            ("token", Some(new)) => self.set_token(path, "WINGS_TOKEN", new),
            _ if at(&self.current, path) == Some(value) => {}
            _ => put(&mut self.document, path, value.clone()),
        }
    }

    /// A token is written to where the node reads it from.
    fn set_token(&mut self, path: &str, variable: &str, new: &str) {
        let (written, current) = match path {
            "token" => (&self.file.token, self.live.token.expose()),
            _ => (&self.file.token_id, self.live.token_id.as_str()),
        };
        if current == new {
            return;
        }
        // Written to the file, these would name another file or a variable.
        let is_token = !new.is_empty() && new.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_token || new.contains('$') || new.starts_with("file://") {
            return self.refuse(path, "is no token: expected letters and digits".into());
        }
        match place(variable, written, self.variables) {
            Place::Written => put(&mut self.document, path, new.into()),
            Place::File(file) => self.merged.token_files.push((file, Secret::new(new))),
            Place::Variable(name) => self.refuse(
                path,
                format!("comes from the environment variable {name}: set the new one there, and restart the daemon"),
            ),
        }
    }

    fn refuse(&mut self, path: &str, message: String) {
        self.merged.refused.push(Problem::new(path, message));
    }
}

/// Leaves the certificate of a node that has one: the panel writes the paths of certbot for every node.
pub(super) fn keep_certificate(file: &ConfigFile, document: &mut Value) {
    let ssl = &file.api.ssl;
    let Some(new) = document.pointer_mut("/api/ssl").and_then(Value::as_object_mut) else { return };
    let is_default = new.get("key").and_then(Value::as_str).is_some_and(|key| key.starts_with(LETS_ENCRYPT));
    if is_default && !(ssl.cert.is_empty() && ssl.key.is_empty()) {
        new.retain(|name, _| !["cert", "key"].contains(&name.as_str()));
    }
}

/// Whether the panel may change keys below this one.
fn is_section(path: &str) -> bool {
    ALLOWED.iter().any(|allowed| allowed.strip_prefix(path).is_some_and(|rest| rest.starts_with('.')))
}

fn fits(expected: &Value, value: &Value) -> bool {
    match (expected, value) {
        (Value::Bool(_), Value::Bool(_)) | (Value::String(_), Value::String(_)) => true,
        (Value::Number(expected), Value::Number(value)) => expected.is_f64() || value.is_i64(),
        (Value::Array(_), Value::Array(values)) => values.iter().all(Value::is_string),
        _ => false,
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(number) if number.is_f64() => "a number",
        Value::Number(_) => "a whole number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a mapping",
    }
}

/// Sets a value, and creates the sections above it.
pub(super) fn put(document: &mut Value, path: &str, value: Value) {
    let mut section = document;
    for key in path.split('.') {
        if !section.is_object() {
            *section = Value::Object(Map::new());
        }
        section = &mut section[key];
    }
    *section = value;
}

#[cfg(test)]
mod tests;
