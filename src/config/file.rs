//! The keys of the node's `config.yml`, with the types and defaults of Wings.
//!
//! So a file that the panel or Wings wrote is accepted. `alula:` holds the keys that Wings does not have. Only the type of
//! each value is checked here: [`NodeConfig`](super::NodeConfig) validates and interprets the values.
#![allow(missing_docs)]

use std::collections::BTreeMap;
use std::path::Path;

use super::setting::{Report, Update, section};
use super::{ConfigError, Secret};
use crate::yaml::{self, YamlError};

mod alula;
mod docker;
mod system;

pub use alula::{AlulaFile, BackupScheduleFile, KeepFile, PullPolicy};
pub use docker::{DockerFile, LogConfigFile, NetworkFile, OverheadFile, RegistryFile};
pub use system::{BackupsFile, SftpFile, SystemFile, TransfersFile};

section! {
    /// The whole file.
    struct ConfigFile {
        "debug" debug: bool = false,
        /// Log warnings and errors only; ignored with `debug`.
        "quiet" quiet: bool = false,
        /// Name in `[<app_name> Daemon]:` console lines.
        "app_name" app_name: String = "pelican".into(),
        /// The node's UUID on the panel; not validated.
        "uuid" uuid: String = String::new(),
        /// First half of `Bearer <id>.<token>` towards the panel. May be `${VAR}` or `file://PATH`.
        "token_id" token_id: Secret = Secret::default(),
        /// Second half of the bearer token. May be `${VAR}` or `file://PATH`.
        "token" token: Secret = Secret::default(),
        "api" api: ApiFile = ApiFile::default(),
        "system" system: SystemFile = SystemFile::default(),
        "docker" docker: DockerFile = DockerFile::default(),
        "throttles" throttles: ThrottlesFile = ThrottlesFile::default(),
        /// Base URL of the panel.
        "remote" remote: String = String::new(),
        "remote_query" remote_query: RemoteQueryFile = RemoteQueryFile::default(),
        /// Host paths below which servers may mount.
        "allowed_mounts" allowed_mounts: Vec<String> = Vec::new(),
        "Search" search: SearchFile = SearchFile::default(),
        /// Reject mounts at or below `/home/container`.
        "BlockBaseDirMount" block_base_dir_mount: bool = true,
        /// Origins of browsers, in addition to the panel's.
        "allowed_origins" allowed_origins: Vec<String> = Vec::new(),
        /// Answer CORS preflights for private networks.
        "allow_cors_private_network" allow_cors_private_network: bool = false,
        /// Ignore a configuration that the panel pushes.
        "ignore_panel_config_updates" ignore_panel_config_updates: bool = false,
        "alula" alula: AlulaFile = AlulaFile::default(),
    }
}

section! {
    /// `api`: the HTTP API.
    struct ApiFile {
        "host" host: String = "0.0.0.0".into(),
        "port" port: i64 = 8080,
        "ssl" ssl: SslFile = SslFile::default(),
        /// Disable the remote download of files.
        "disable_remote_download" disable_remote_download: bool = false,
        "remote_download" remote_download: RemoteDownloadFile = RemoteDownloadFile::default(),
        /// MiB per uploaded file.
        "upload_limit" upload_limit: i64 = 100,
        /// Addresses and CIDRs whose `X-Forwarded-For` is trusted.
        "trusted_proxies" trusted_proxies: Vec<String> = Vec::new(),
    }
}

section! {
    /// `api.ssl`: TLS of the HTTP API.
    struct SslFile {
        "enabled" enabled: bool = false,
        /// Path of the certificate chain, PEM.
        "cert" cert: String = String::new(),
        /// Path of the private key, PEM.
        "key" key: String = String::new(),
    }
}

section! {
    /// `api.remote_download`.
    struct RemoteDownloadFile {
        /// Redirects followed; below 1 means 10.
        "max_redirects" max_redirects: i64 = 10,
    }
}

section! {
    /// `throttles`: console throttling.
    struct ThrottlesFile {
        "enabled" enabled: bool = true,
        "lines" lines: i64 = 2000,
        /// Milliseconds.
        "line_reset_interval" line_reset_interval: i64 = 100,
    }
}

section! {
    /// `remote_query`: requests to the panel.
    struct RemoteQueryFile {
        /// Seconds per request.
        "timeout" timeout: i64 = 30,
        "boot_servers_per_page" boot_servers_per_page: i64 = 50,
        /// Additional headers of each request.
        "custom_headers" custom_headers: BTreeMap<String, Secret> = BTreeMap::new(),
    }
}

section! {
    /// `Search`: file search.
    struct SearchFile {
        /// Directories that a search skips.
        "blacklisted_dirs" blacklisted_dirs: Vec<String> =
            ["node_modules", ".git", ".wine", "appcache", "depotcache", "vendor"].map(String::from).into(),
        "max_recursion_depth" max_recursion_depth: i64 = 8,
    }
}

impl ConfigFile {
    /// Parses the text of a file; `path` is for the error. An empty text gives the defaults.
    ///
    /// # Errors
    /// The text is not YAML, or values have the wrong type.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let parsed = Self::read(text).map(|(file, _)| file);
        parsed.map_err(|faults| ConfigError::Invalid { path: path.to_owned(), faults })
    }

    /// As [`parse`](Self::parse), with a report of what is in the text besides values. Lists all values with a wrong type.
    pub(super) fn read(text: &str) -> Result<(Self, Report), Vec<YamlError>> {
        let (mut faults, mut skipped) = (Vec::new(), std::collections::BTreeSet::new());
        loop {
            let (mut file, mut report) = (Self::default(), Report { skipped, ..Report::default() });
            match yaml::read_first(text, Update(&mut file, &mut report)) {
                Ok(more) if faults.is_empty() => {
                    report.more_documents = more;
                    return Ok((file, report));
                }
                Ok(_) => return Err(faults),
                Err(fault) => {
                    faults.push(fault);
                    // Without the invalid value, the next mistake is found.
                    let key = report.key();
                    skipped = report.skipped;
                    if key.is_empty() || faults.len() == yaml::MAX_MISTAKES || !skipped.insert(key) {
                        return Err(faults);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
