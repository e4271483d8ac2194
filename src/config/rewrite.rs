//! The only writer of the node's file.
//!
//! A file that somebody wrote is theirs: at boot nothing but its mode is touched. What the panel pushes
//! (`POST /api/update`) is laid over the text, key by key, and everything else in it stays: comments, unknown keys,
//! the forms in which tokens are given.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde_json::{Map, Value};

use super::file::ConfigFile;
use super::{ConfigError, NodeConfig, Problem, Variables, canonical_timezone, read_text};
use crate::atomic;
use crate::yaml::{self, YamlError};

/// Mode of the file: it holds the node's token.
pub const MODE: u32 = 0o600;

/// What the panel may change by a push. Wings also takes the owner of files and the folders of `passwd` and
/// `machine-id` from it; those are the host's matter here, since files of the host are written there.
/// No panel sends them, nor `docker.overhead.multipliers`, whose numbers as keys JSON cannot have.
const PUSHABLE: &[&str] = &[
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
    "api.remote_download.max_redirects",
    "api.upload_limit",
    "api.trusted_proxies",
    "system.timezone",
    "system.user.passwd.enable",
    "system.machine_id.enable",
    "system.quotas.enabled",
    "system.sftp.bind_address",
    "system.sftp.bind_port",
    "docker.network.interface",
    "docker.network.dns",
    "docker.network.name",
    "docker.network.ispn",
    "docker.network.IPv6",
    "docker.network.driver",
    "docker.network.interfaces.v4.subnet",
    "docker.network.interfaces.v4.gateway",
    "docker.network.interfaces.v6.subnet",
    "docker.network.interfaces.v6.gateway",
    "docker.domainname",
    "docker.registries",
    "docker.tmpfs_size",
    "docker.container_pid_limit",
    "docker.installer_limits.memory",
    "docker.installer_limits.cpu",
    "docker.overhead.override",
    "docker.overhead.default_multiplier",
    "docker.use_performant_inspect",
    "docker.userns_mode",
    "docker.system_ips",
    "docker.log_config.type",
    "docker.log_config.config",
    "throttles.enabled",
    "throttles.lines",
    "throttles.line_reset_interval",
    "remote_query.timeout",
    "allowed_origins",
    "allow_cors_private_network",
    "ignore_panel_config_updates",
];

/// Where certbot keeps certificates: the panel guesses these paths, so what the file says counts for more.
const GUESSED_CERTIFICATES: &str = "/etc/letsencrypt/live/";

/// What becomes of a push of the panel.
#[derive(Debug)]
pub enum PanelUpdate {
    /// The file says that pushes are ignored.
    Ignored,
    /// The file's new text and what it means.
    Applied(Box<AppliedUpdate>),
}

/// A push that makes sense.
#[derive(Debug)]
pub struct AppliedUpdate {
    /// The keys that change; with none of them the text is the old one.
    pub changed: Vec<&'static str>,
    /// The file's new text.
    pub text: String,
    /// What it means. Listeners and other things that are made once at boot follow at the next start.
    pub node: NodeConfig,
}

/// Why a push changes nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UpdateError {
    /// The body is not a JSON object.
    #[error("the node's configuration must be a JSON object")]
    NotAnObject,
    /// The file on disk cannot be read any more.
    #[error("the file on disk has an error, which must be corrected first: {0}")]
    File(#[source] ConfigError),
    /// With what was pushed the file would make no sense.
    #[error("what was pushed is refused: {0}")]
    Refused(#[source] ConfigError),
    /// The new text could not be made.
    #[error("cannot lay what was pushed over the file: {0}")]
    Edit(#[source] YamlError),
    /// The new text could not be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Lays a push of the panel over the file on disk, one push at a time. A push that changes nothing writes nothing.
///
/// Blocks on the disk: not for async threads.
///
/// # Errors
/// The body, the file, or what would come of both makes no sense, or the file cannot be written: it is then as it was.
pub fn receive_panel_update(
    current: &NodeConfig,
    body: &Value,
    variables: Variables<'_>,
) -> Result<PanelUpdate, UpdateError> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let path = &current.source;
    let text = read_text(path).map_err(UpdateError::File)?;
    let update = apply_panel_update(current, &text, body, variables)?;
    if let PanelUpdate::Applied(update) = &update {
        let write = || {
            if update.changed.is_empty() { Ok(()) } else { save(path, &update.text) }
        };
        write().map_err(|source| UpdateError::Write { path: path.clone(), source })?;
    }
    Ok(update)
}

/// Lays a push of the panel over the file's text, and writes nothing.
///
/// `current` is the configuration in force: a token that equals the one in force leaves the text's own form
/// (`${VAR}`, `file://`) alone. Absent and null keys keep their value, and so do keys that cannot be pushed.
///
/// # Errors
/// The body, the text, or what would come of both makes no sense.
pub fn apply_panel_update(
    current: &NodeConfig,
    text: &str,
    body: &Value,
    variables: Variables<'_>,
) -> Result<PanelUpdate, UpdateError> {
    let path = &current.source;
    let file = ConfigFile::parse(path, text).map_err(UpdateError::File)?;
    if file.ignore_panel_config_updates {
        return Ok(PanelUpdate::Ignored);
    }
    let Value::Object(body) = body else {
        return Err(UpdateError::NotAnObject);
    };
    let changes = changes(current, &file, body);

    let mut text = text.to_owned();
    if !changes.is_empty() {
        let mut document = yaml::parse_value(&text).map_err(UpdateError::Edit)?;
        for (key, value) in &changes {
            set(&mut document, key, value.clone());
        }
        text = yaml::edit::merge(&text, &document).map_err(UpdateError::Edit)?;
    }
    let changed = changes.into_iter().map(|(key, _)| key).collect();
    let node = meaning(current, &text, variables).map_err(UpdateError::Refused)?;
    Ok(PanelUpdate::Applied(Box::new(AppliedUpdate { changed, text, node })))
}

fn meaning(current: &NodeConfig, text: &str, variables: Variables<'_>) -> Result<NodeConfig, ConfigError> {
    let path = &current.source;
    let file = ConfigFile::parse(path, text)?;
    let timezone = match file.system.timezone.as_str() {
        "" => Ok(current.timezone.clone()),
        name => canonical_timezone(name)
            .ok_or_else(|| Problem::new("system.timezone", format!("{name:?} is not in the timezone database"))),
    };
    let node =
        timezone.and_then(|timezone| NodeConfig::resolve(&file, path, variables, current.owner.clone(), timezone));
    let mut node = node.map_err(|problem| ConfigError::invalid(path, text, problem))?;
    // What a person wrote is made the best of; what the panel sends must make sense.
    if let Some(problem) = node.adjusted.iter().find(|problem| !current.adjusted.contains(problem)) {
        return Err(ConfigError::invalid(path, text, problem.clone()));
    }
    node.directories.follow_data_link();
    Ok(node)
}

/// What the body says otherwise than the file does, by key.
fn changes(current: &NodeConfig, file: &ConfigFile, body: &Map<String, Value>) -> Vec<(&'static str, Value)> {
    let says = serde_json::to_value(file).unwrap_or_default();
    let keeps_certificate = keeps_certificate(file, body);
    let mut changes = Vec::new();
    for key in PUSHABLE.iter().copied() {
        let Some(pushed) = find(body, key).filter(|value| !value.is_null()) else {
            continue;
        };
        let same = match key {
            "token_id" => pushed.as_str() == Some(&current.token_id),
            "token" => {
                let in_force = current.api_token.as_ref().map(|token| token.expose());
                pushed.as_str().is_some() && pushed.as_str() == in_force
            }
            "api.ssl.cert" | "api.ssl.key" => keeps_certificate,
            _ => false,
        };
        let old = key.split('.').try_fold(&says, |value, part| value.get(part)).unwrap_or(&Value::Null);
        let new = match (old, pushed) {
            // Entries of a map that the body does not name stay.
            (Value::Object(old), Value::Object(pushed)) => {
                let mut new = old.clone();
                new.extend(pushed.iter().map(|(key, value)| (key.clone(), value.clone())));
                Value::Object(new)
            }
            _ => pushed.clone(),
        };
        if !same && new != *old {
            changes.push((key, new));
        }
    }
    changes
}

/// Whether the pushed certificate is only the panel's guess while the file names one.
fn keeps_certificate(file: &ConfigFile, body: &Map<String, Value>) -> bool {
    let guessed =
        find(body, "api.ssl.key").and_then(Value::as_str).is_some_and(|key| key.starts_with(GUESSED_CERTIFICATES));
    let named = !file.api.ssl.cert.is_empty() || !file.api.ssl.key.is_empty();
    guessed && named
}

/// The body's value for a key; as in Wings, upper and lower case are the same.
fn find<'a>(body: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    let (first, rest) = key.split_once('.').map_or((key, None), |(first, rest)| (first, Some(rest)));
    let like = || body.iter().find(|(name, _)| name.eq_ignore_ascii_case(first)).map(|(_, value)| value);
    let value = body.get(first).or_else(like)?;
    match rest {
        None => Some(value),
        Some(rest) => find(value.as_object()?, rest),
    }
}

fn set(document: &mut Value, key: &str, new: Value) {
    let mut value = document;
    for part in key.split('.') {
        if !value.is_object() {
            *value = Value::Object(Map::new());
        }
        value = &mut value[part];
    }
    *value = new;
}

/// Writes the file's text in one step, readable by its owner alone. A link is followed.
///
/// # Errors
/// The file cannot be written; it is then as it was.
pub fn save(path: &Path, text: &str) -> io::Result<()> {
    let path = path.canonicalize()?;
    match atomic::write_file(&path, text.as_bytes(), MODE).map_err(io::Error::from) {
        // A file that is mounted into a container by itself cannot be replaced, only written to.
        Err(error) if error.kind() == ErrorKind::ResourceBusy => write_in_place(&path, text),
        result => result,
    }
}

fn write_in_place(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).truncate(true).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Takes the file away from others than its owner, if they can read or write it. Says whether they could.
///
/// # Errors
/// The mode cannot be read or changed, as on a read-only file system. The daemon can go on without.
pub fn tighten(path: &Path) -> io::Result<bool> {
    let file = File::open(path)?;
    let mode = file.metadata()?.permissions().mode() & 0o7777;
    if mode & 0o077 == 0 {
        return Ok(false);
    }
    file.set_permissions(fs::Permissions::from_mode(MODE))?;
    Ok(true)
}

#[cfg(test)]
mod tests;
