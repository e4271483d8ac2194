//! What the file says: every key of the node's `config.yml`, as it is typed there.
//!
//! Names, types and defaults are those of Wings, so that a file that its panel or Wings itself wrote is read as
//! it stands; `alula:` holds this daemon's own keys. Nothing is checked here beyond the type of each value:
//! what the values mean is [`NodeConfig`](super::NodeConfig)'s matter, and nothing but it reads these structs.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::setting::{Setting, section};
use super::{ConfigError, Secret};

mod alula;
mod docker;
mod system;

pub use alula::{AlulaFile, InstallFile, LogsFile, PullFile, PullPolicy, ReconcileFile};
pub use docker::{
    DockerFile, InstallerLimitsFile, InterfacesFile, LogConfigFile, NetworkFile, OverheadFile, RegistryFile,
    SubnetV4File, SubnetV6File,
};
pub use system::{
    BackupsFile, CrashDetectionFile, MachineIdFile, PasswdFile, QuotasFile, RootlessFile, SftpFile, StoragePoolFile,
    SystemFile, TransfersFile, UserFile,
};

section! {
    /// The whole file.
    struct ConfigFile {
        /// Debug logging.
        "debug" debug: bool = false,
        /// Log warnings and errors only; ignored with `debug`.
        "quiet" quiet: bool = false,
        /// Name in `[<app_name> Daemon]:` console lines.
        "app_name" app_name: String = "pelican".into(),
        /// The node's UUID on the panel; not checked.
        "uuid" uuid: String = String::new(),
        /// First half of `Bearer <id>.<token>` towards the panel. May be `${VAR}` or `file://PATH`.
        "token_id" token_id: Secret = Secret::default(),
        /// The secret shared with the panel. May be `${VAR}` or `file://PATH`.
        "token" token: Secret = Secret::default(),
        /// The HTTP API.
        "api" api: ApiFile = ApiFile::default(),
        /// Directories, the owner of files, per-node behaviour.
        "system" system: SystemFile = SystemFile::default(),
        /// Containers and images.
        "docker" docker: DockerFile = DockerFile::default(),
        /// Console throttling.
        "throttles" throttles: ThrottlesFile = ThrottlesFile::default(),
        /// Base URL of the panel.
        "remote" remote: String = String::new(),
        /// How the panel is asked.
        "remote_query" remote_query: RemoteQueryFile = RemoteQueryFile::default(),
        /// Host paths below which servers may mount.
        "allowed_mounts" allowed_mounts: Vec<String> = Vec::new(),
        /// File search.
        "Search" search: SearchFile = SearchFile::default(),
        /// Refuse mounts at or below `/home/container`.
        "BlockBaseDirMount" block_base_dir_mount: bool = true,
        /// Further origins that browsers may come from.
        "allowed_origins" allowed_origins: Vec<String> = Vec::new(),
        /// Answer private network preflights.
        "allow_cors_private_network" allow_cors_private_network: bool = false,
        /// Leave this file alone when the panel pushes a configuration.
        "ignore_panel_config_updates" ignore_panel_config_updates: bool = false,
        /// alula's own keys.
        "alula" alula: AlulaFile = AlulaFile::default(),
    }
}

section! {
    /// `api`: the HTTP API.
    struct ApiFile {
        /// Address to listen on.
        "host" host: String = "0.0.0.0".into(),
        /// Port to listen on.
        "port" port: i64 = 8080,
        /// TLS.
        "ssl" ssl: SslFile = SslFile::default(),
        /// Remove the remote download of files.
        "disable_remote_download" disable_remote_download: bool = false,
        /// Remote download of files.
        "remote_download" remote_download: RemoteDownloadFile = RemoteDownloadFile::default(),
        /// MiB per uploaded file.
        "upload_limit" upload_limit: i64 = 100,
        /// Addresses and CIDRs whose `X-Forwarded-For` is believed.
        "trusted_proxies" trusted_proxies: Vec<String> = Vec::new(),
    }
}

section! {
    /// `api.ssl`: TLS of the HTTP API.
    struct SslFile {
        /// Whether the API is served over TLS.
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
        /// Whether console output is throttled.
        "enabled" enabled: bool = true,
        /// Lines per interval.
        "lines" lines: i64 = 2000,
        /// Milliseconds.
        "line_reset_interval" line_reset_interval: i64 = 100,
    }
}

section! {
    /// `remote_query`: how the panel is asked.
    struct RemoteQueryFile {
        /// Seconds per request.
        "timeout" timeout: i64 = 30,
        /// Servers per page of the list.
        "boot_servers_per_page" boot_servers_per_page: i64 = 50,
        /// Headers added to each request.
        "custom_headers" custom_headers: BTreeMap<String, Secret> = BTreeMap::new(),
    }
}

section! {
    /// `Search`: file search.
    struct SearchFile {
        /// Directories that a search does not enter.
        "blacklisted_dirs" blacklisted_dirs: Vec<String> =
            ["node_modules", ".git", ".wine", "appcache", "depotcache", "vendor"].map(String::from).into(),
        /// Depth of a search.
        "max_recursion_depth" max_recursion_depth: i64 = 8,
    }
}

impl ConfigFile {
    /// Reads the text of a file. `path` is for the error alone.
    ///
    /// An empty text is a file in which nothing is set.
    ///
    /// # Errors
    /// The text is not YAML, or a value has the wrong type: with line, column, key and what was expected.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        crate::yaml::parse::<Option<Self>>(text)
            .map(Option::unwrap_or_default)
            .map_err(|source| ConfigError::Broken { path: path.to_owned(), source: Box::new(source) })
    }
}

impl<'de> Deserialize<'de> for ConfigFile {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Self::read(from)
    }
}

/// Writes every key, **the tokens' own text included**: for writing the file and comparing, not for showing.
impl Serialize for ConfigFile {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.write(to)
    }
}

#[cfg(test)]
mod tests;
