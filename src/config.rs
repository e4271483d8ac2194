//! The node's `config.yml`.
//!
//! [`ConfigFile`] has the keys of the file, with the names and defaults of Wings, and `alula:`. [`NodeConfig`] is the validated
//! configuration of this host, which the other modules use. [`load`] derives one from the other and changes nothing.
//! [`host::prepare`] then creates what the file requires: the system user, directories, files for containers.
//! [`write_push`] and [`write_configuration`] alone write the file, for the panel and for `alula configure`.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

mod backups;
mod configure;
mod directories;
mod docker;
mod environment;
mod error;
pub mod file;
mod files;
pub mod host;
mod ignored;
mod lenient;
mod live;
mod logrotate;
mod node;
mod overhead;
mod panel;
mod pushed;
mod registries;
mod schedules;
mod secret;
mod setting;
mod sftp;
mod socket;
mod timezone;
mod update;

pub use backups::{AllowedHosts, BackupsConfig, TransferLimits};
pub use configure::{ConfigureError, write_configuration};
pub use directories::Directories;
pub use environment::{Variables, process_variables};
pub use error::{ConfigError, Problem, located};
pub use file::{ConfigFile, DockerFile, PullPolicy, RegistryFile};
pub use files::{FilesConfig, RemoteDownload};
use host::HostError;
pub use ignored::changed_keys;
pub use live::{Live, LiveConfig};
pub use logrotate::rotate_daemon_log;
pub use node::{ConsoleLimit, ContainerUser, NodeConfig, Owner};
pub use overhead::Overhead;
pub use panel::{ApiConfig, PanelConfig, TlsFiles};
pub use registries::Registries;
pub use secret::Secret;
pub use sftp::SftpConfig;
pub use socket::{MAX_SOCKET_PATH, SocketAccess};
pub use update::{ConfigUpdates, NotApplied, Push, Pushed, write_push};

/// The default path of the file.
pub const DEFAULT_PATH: &str = "/etc/pelican/config.yml";

/// A loaded configuration.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct Loaded {
    pub file: ConfigFile,
    pub node: NodeConfig,
    /// Warnings about unknown keys and replaced values.
    pub notices: Vec<String>,
    /// The files that were read, also for tokens.
    pub sources: Vec<PathBuf>,
}

/// The sources of values that are not in the file.
#[derive(Clone, Copy)]
pub struct HostEnvironment<'a> {
    /// Environment variables.
    pub variables: Variables<'a>,
    /// `/etc`; another folder in tests.
    pub etc: &'a Path,
}

impl HostEnvironment<'_> {
    /// The environment of this process.
    pub fn of_this_process() -> HostEnvironment<'static> {
        HostEnvironment { variables: &process_variables, etc: Path::new("/etc") }
    }
}

/// Reads and validates the file at `path`. Changes nothing.
///
/// If the system user of the file does not exist yet, the owner is the current user until [`host::prepare`] creates it.
///
/// # Errors
/// The file is missing, unreadable or not YAML, it is not a node's file, or values are invalid: all of them are listed.
pub fn load(path: &Path, host_environment: HostEnvironment<'_>) -> Result<Loaded, ConfigError> {
    let path = std::path::absolute(path).map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
    let text = read_text(&path)?;
    interpret(path, &text, host_environment)
}

/// Validates `text` as the one of the file at `path`, which is absolute.
fn interpret(path: PathBuf, text: &str, host_environment: HostEnvironment<'_>) -> Result<Loaded, ConfigError> {
    let invalid = |faults| ConfigError::Invalid { path: path.clone(), faults };
    let (file, report) = ConfigFile::read(text).map_err(invalid)?;
    let mut faults = ignored::misplaced(text, &report);

    let HostEnvironment { variables, etc } = host_environment;
    let (timezone, notice) = timezone::find(&file.system.timezone, variables, etc);
    let owner = host::find_owner(&file, host_environment).unwrap_or_else(|message| {
        faults.push(Problem::new("system.username", message));
        None
    });
    let owner = owner.unwrap_or_else(host::current_user);
    let node = NodeConfig::resolve(&file, &path, variables, owner, timezone);
    let mut node = node.map_err(|problems| faults.extend(problems)).ok().filter(|_| faults.is_empty());
    let Some(mut node) = node.take() else {
        return Err(invalid(faults.into_iter().map(|problem| error::located(text, problem)).collect()));
    };
    node.directories.follow_data_link();
    if let Err(HostError::Foreign { uid, .. }) = host::check_tmp(&node.directories.tmp, &node.owner) {
        let foreign = node.directories.replace_tmp();
        let message = format!(
            "{} belongs to user {uid}, who could change what install containers run; {} is used",
            foreign.display(),
            node.directories.tmp.display()
        );
        node.adjusted.push(Problem::new("system.tmp_directory", message));
    }

    let missing = node.api.tls.iter().flat_map(TlsFiles::unreadable);
    let problems =
        ignored::unread(&report).into_iter().chain(notice).chain(node.adjusted.iter().cloned()).chain(missing);
    let mut notices: Vec<String> = problems.map(|problem| error::line(&path, &error::located(text, problem))).collect();
    let unsupported = ignored::unsupported_keys(&file);
    if !unsupported.is_empty() {
        notices.push(format!("{}: no effect in this version: {}", path.display(), unsupported.join(", ")));
    }
    let token_files = [&file.token_id, &file.token].map(|written| environment::token_file(written, variables));
    let sources = [path].into_iter().chain(token_files.into_iter().flatten()).collect();
    Ok(Loaded { file, node, notices, sources })
}

/// Reads the text of the file.
///
/// # Errors
/// The file is missing, unreadable, too long, or not UTF-8.
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
        let source = std::io::Error::new(ErrorKind::FileTooLarge, format!("the file is longer than {limit} bytes"));
        return Err(ConfigError::Unreadable { path: path.to_owned(), source });
    }
    Ok(text)
}

/// `text` as an absolute path. A relative path starts at the folder of the configuration file.
fn absolute(source: &Path, text: &str) -> PathBuf {
    let folder = source.parent().unwrap_or(Path::new("/"));
    folder.join(text).components().collect()
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
