//! Settings for containers, images and the network of servers.
#![allow(missing_docs)]

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::file::{DockerFile, LogConfigFile, NetworkFile, PullPolicy};
use super::lenient::Lenient;
use super::{Overhead, Problem, Registries};

/// The node's settings for containers and images.
#[derive(Debug, Clone, PartialEq)]
pub struct DockerConfig {
    pub network: NetworkConfig,
    /// Domain name of containers; may be empty.
    pub domainname: String,
    pub registries: Registries,
    /// Size of `/tmp` in containers.
    pub tmpfs_mib: u64,
    /// Processes per container, in the format of Docker's `PidsLimit`: 0 and -1 are unlimited.
    pub pids_limit: i64,
    /// The minimum of an installer's limits.
    pub installer_limits: InstallerLimits,
    /// Memory beyond the server's limit.
    pub overhead: Overhead,
    /// User namespace mode of containers; empty for Docker's default.
    pub userns_mode: String,
    /// Docker's log of containers; `None` for Docker's default.
    pub log_config: Option<LogConfig>,
    pub pull_policy: PullPolicy,
}

/// The network of the servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkConfig {
    /// Name of the network, which is created if it is missing.
    pub name: String,
    /// `NetworkMode` of each container.
    pub network_mode: String,
    /// Driver of a created network.
    pub driver: String,
    /// Address that replaces 127.0.0.1 in allocations if the network has no gateway.
    pub interface: String,
    pub dns: Vec<String>,
    /// Whether allocations on 127.0.0.1 stay unbound.
    pub ispn: bool,
    /// Whether a created network has IPv6.
    pub ipv6: bool,
    /// Whether a created network has no external access.
    pub is_internal: bool,
    /// Whether containers on a created network reach each other.
    pub enable_icc: bool,
    pub mtu: i64,
    /// IPv4 range of a created network.
    pub v4: Subnet,
    /// IPv6 range of a created network.
    pub v6: Subnet,
}

/// An address range and its gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subnet {
    /// In CIDR notation.
    pub subnet: String,
    pub gateway: String,
}

/// The minimum of an installer's limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InstallerLimits {
    pub memory_mib: i64,
    /// Percent of one core; 0 is unlimited.
    pub cpu_percent: i64,
}

/// Docker's log of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogConfig {
    pub driver: String,
    pub options: BTreeMap<String, String>,
}

impl DockerConfig {
    pub(super) fn resolve(file: &DockerFile, pull_policy: PullPolicy, lenient: &mut Lenient) -> Result<Self, Problem> {
        let limits = &file.installer_limits;
        Ok(Self {
            network: NetworkConfig::resolve(&file.network, lenient),
            domainname: file.domainname.clone(),
            registries: Registries::resolve(&file.registries),
            tmpfs_mib: lenient.within("docker.tmpfs_size", file.tmpfs_size, 0..=1 << 30, "MiB", 100),
            pids_limit: lenient.within(
                "docker.container_pid_limit",
                file.container_pid_limit,
                -1..=1 << 30,
                "processes",
                -1,
            ),
            installer_limits: InstallerLimits {
                memory_mib: lenient.within("docker.installer_limits.memory", limits.memory, 0..=1 << 30, "MiB", 1024),
                cpu_percent: lenient.within(
                    "docker.installer_limits.cpu",
                    limits.cpu,
                    0..=1 << 20,
                    "percent of a core",
                    100,
                ),
            },
            overhead: Overhead::resolve(&file.overhead, lenient)?,
            userns_mode: file.userns_mode.clone(),
            log_config: LogConfig::resolve(&file.log_config),
            pull_policy,
        })
    }
}

impl NetworkConfig {
    fn resolve(file: &NetworkFile, lenient: &mut Lenient) -> Self {
        let (v4, v6) = (&file.interfaces.v4, &file.interfaces.v6);
        let default = NetworkFile::default();
        let mut named = |key: &str, name: &str, default: String| match name {
            "" => {
                lenient.note(key, format!("is empty: expected the name of a Docker network; {default} is used"));
                default
            }
            name => name.to_owned(),
        };
        Self {
            name: named("docker.network.name", &file.name, default.name),
            network_mode: named("docker.network.network_mode", &file.network_mode, default.network_mode),
            driver: file.driver.clone(),
            interface: file.interface.clone(),
            dns: file.dns.clone(),
            ispn: file.ispn,
            ipv6: file.ipv6,
            is_internal: file.is_internal,
            enable_icc: file.enable_icc,
            mtu: file.network_mtu,
            v4: Subnet { subnet: v4.subnet.clone(), gateway: v4.gateway.clone() },
            v6: Subnet { subnet: v6.subnet.clone(), gateway: v6.gateway.clone() },
        }
    }
}

impl LogConfig {
    /// The default options of Wings, for `local` and `json-file`. Other drivers do not know them.
    const DEFAULTS: [(&str, &str); 4] =
        [("max-size", "5m"), ("max-file", "1"), ("compress", "false"), ("mode", "non-blocking")];

    fn resolve(file: &LogConfigFile) -> Option<Self> {
        if file.driver.is_empty() {
            return None;
        }
        let mut options = BTreeMap::new();
        if matches!(file.driver.as_str(), "local" | "json-file") {
            options.extend(Self::DEFAULTS.map(|(key, value)| (key.to_owned(), value.to_owned())));
        }
        options.extend(file.options.clone());
        Some(Self { driver: file.driver.clone(), options })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_options() {
        let options = |driver: &str, typed: &[(&str, &str)]| {
            let options = typed.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
            LogConfig::resolve(&LogConfigFile { driver: driver.into(), options }).map(|log| log.options)
        };
        assert_eq!(options("", &[("max-size", "1m")]), None);
        assert_eq!(options("local", &[]).unwrap()["max-size"], "5m");
        let typed = options("local", &[("max-size", "1m")]).unwrap();
        assert_eq!((typed["max-size"].as_str(), typed["mode"].as_str()), ("1m", "non-blocking"));
        assert_eq!(options("journald", &[("tag", "game")]).unwrap().len(), 1);
    }
}
