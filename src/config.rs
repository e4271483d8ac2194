//! The node's `config.yml`: what the file says, and what it means.
//!
//! Two stages. [`ConfigFile`] is what somebody typed: every key that Wings knows, under Wings' names and with Wings'
//! defaults, plus `alula:`. [`NodeConfig`] is what it means on this host, checked, and the only thing that other
//! modules see; it is shared as `Arc<NodeConfig>`. [`load`] goes from the one to the other and changes nothing;
//! [`host::prepare`] then makes what the file asks of the host: the system user, directories, files for containers.
//! Nothing here writes the file.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

mod directories;
mod docker;
mod environment;
mod error;
pub mod file;
pub mod host;
mod inert;
mod lenient;
mod logrotate;
mod node;
mod overhead;
mod panel;
mod registries;
mod secret;
mod setting;
mod timezone;
mod unknown;

pub use directories::Directories;
pub use docker::{DockerConfig, InstallerLimits, LogConfig, NetworkConfig, Subnet};
pub use environment::{Variables, process_variables};
pub use error::{ConfigError, Problem};
pub use file::{ConfigFile, PullPolicy};
pub use inert::inert_keys;
pub use logrotate::rotate_daemon_log;
pub use node::{ContainerUser, CrashDetection, InstallConfig, LogRotation, NodeConfig, Owner, ReconcileConfig};
pub use overhead::Overhead;
pub use panel::{ApiConfig, PanelConfig, TlsFiles};
pub use registries::{Credentials, Registries};
pub use secret::Secret;
pub use timezone::{Timezone, canonical as canonical_timezone};

/// Where the file is looked for when nothing else is said.
pub const DEFAULT_PATH: &str = "/etc/pelican/config.yml";

/// A configuration as it was loaded.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// What the file says.
    pub file: ConfigFile,
    /// What it means.
    pub node: NodeConfig,
    /// What should be said about it once, as warnings.
    pub notices: Vec<String>,
}

/// Where facts come from that are not in the file.
#[derive(Clone, Copy)]
pub struct HostEnvironment<'a> {
    /// The environment's variables.
    pub variables: Variables<'a>,
    /// The folder that stands for `/etc`.
    pub etc: &'a Path,
}

impl HostEnvironment<'_> {
    /// Those of this process on this host.
    pub fn of_this_process() -> HostEnvironment<'static> {
        HostEnvironment { variables: &process_variables, etc: Path::new("/etc") }
    }
}

/// Reads the file at `path` and finds out what it means on this host. Changes nothing.
///
/// Where the file's system user does not exist (yet), the current user stands in for it: see [`host::prepare`].
///
/// # Errors
/// The file is missing, unreadable, not YAML, or holds a value of a wrong type or without sense; the timezone is
/// unknown; a token leads to nothing.
pub fn load(path: &Path, host_environment: HostEnvironment<'_>) -> Result<Loaded, ConfigError> {
    let path = std::path::absolute(path).map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
    let text = read_text(&path)?;
    let file = ConfigFile::parse(&path, &text)?;
    let invalid = |problem| ConfigError::invalid(&path, &text, problem);

    let timezone =
        Timezone::find(&file.system.timezone, host_environment.variables, host_environment.etc).map_err(invalid)?;
    let mut notices: Vec<String> = timezone.notice.iter().cloned().collect();
    let owner =
        host::find_owner(&file, host_environment).map_err(|why| invalid(Problem::new("system.username", why)))?;
    let owner = owner.unwrap_or_else(host::current_user);
    let mut node =
        NodeConfig::resolve(&file, &path, host_environment.variables, owner, timezone.name).map_err(invalid)?;
    node.directories.follow_data_link();

    notices.extend(unknown::unknown_keys(&text).into_iter().map(|key| {
        let keys: Vec<&str> = key.path.iter().map(String::as_str).collect();
        format!("{}: {}", error::place(&path, crate::yaml::locate(&text, &keys)), key.message())
    }));
    notices.extend(node.adjusted.iter().map(|problem| ConfigError::invalid(&path, &text, problem.clone()).to_string()));
    let inert = inert_keys(&file);
    if !inert.is_empty() {
        notices.push(format!("{}: no effect in this version: {}", path.display(), inert.join(", ")));
    }
    Ok(Loaded { file, node, notices })
}

/// Reads the file's text.
///
/// # Errors
/// It is missing, unreadable, longer than any configuration, or not UTF-8.
pub fn read_text(path: &Path) -> Result<String, ConfigError> {
    let unreadable = |source: std::io::Error| match source.kind() {
        ErrorKind::NotFound => ConfigError::Missing { path: path.to_owned() },
        _ => ConfigError::Unreadable { path: path.to_owned(), source },
    };
    let mut text = String::new();
    let file = File::open(path).map_err(unreadable)?;
    let limit = crate::yaml::MAX_BYTES as u64;
    let read = file.take(limit + 1).read_to_string(&mut text).map_err(unreadable)?;
    if read as u64 > limit {
        let source = std::io::Error::new(ErrorKind::FileTooLarge, format!("it is longer than {limit} bytes"));
        return Err(ConfigError::Unreadable { path: path.to_owned(), source });
    }
    Ok(text)
}

/// `text` as an absolute path; a relative one is taken from the folder of the configuration file.
fn absolute(source: &Path, text: &str) -> PathBuf {
    let folder = source.parent().unwrap_or(Path::new("/"));
    folder.join(text).components().collect()
}

#[cfg(test)]
mod tests;
