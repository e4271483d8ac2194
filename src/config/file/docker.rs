//! `docker:`, containers and images.
#![allow(missing_docs)]

use std::collections::BTreeMap;

use crate::config::Secret;
use crate::config::setting::section;

section! {
    /// `docker`: containers and images.
    struct DockerFile {
        "network" network: NetworkFile = NetworkFile::default(),
        "domainname" domainname: String = String::new(),
        "registries" registries: BTreeMap<String, RegistryFile> = BTreeMap::new(),
        /// Size of `/tmp` in containers, in MiB.
        "tmpfs_size" tmpfs_mib: i64 = 100,
        /// Processes per container; 0 and -1 are unlimited.
        "container_pid_limit" pids_limit: i64 = 512,
        /// The minimum of an installer's limits.
        "installer_limits" installer_limits: InstallerLimitsFile = InstallerLimitsFile::default(),
        "overhead" overhead: OverheadFile = OverheadFile::default(),
        /// How Wings inspects containers.
        "use_performant_inspect" use_performant_inspect: bool = true,
        "userns_mode" userns_mode: String = String::new(),
        /// Additional addresses that are reported to the panel.
        "system_ips" system_ips: Vec<String> = Vec::new(),
        /// Docker's log of containers.
        "log_config" log_config: LogConfigFile = LogConfigFile::default(),
    }
}

section! {
    /// `docker.network`: the network of the servers.
    struct NetworkFile {
        /// Address that replaces 127.0.0.1 in allocations.
        "interface" interface: String = "172.18.0.1".into(),
        "dns" dns: Vec<String> = vec!["1.1.1.1".into(), "1.0.0.1".into()],
        /// Name of the network, which is created if it is missing.
        "name" name: String = "pelican_nw".into(),
        /// Inter-server private networking: allocations on 127.0.0.1 stay unbound.
        "ispn" ispn: bool = false,
        "IPv6" ipv6: bool = true,
        "driver" driver: String = "bridge".into(),
        /// The network that containers join; `name` if it is empty.
        "network_mode" network_mode: String = String::new(),
        /// What Calagopus' Wings calls `network_mode`.
        "mode" mode: String = String::new(),
        /// Whether the network has no external access.
        "is_internal" is_internal: bool = false,
        "enable_icc" enable_icc: bool = true,
        "network_mtu" mtu: i64 = 1500,
        "interfaces" interfaces: InterfacesFile = InterfacesFile::default(),
    }
}

section! {
    /// `docker.network.interfaces`: address ranges.
    struct InterfacesFile {
        "v4" v4: SubnetV4File = SubnetV4File::default(),
        "v6" v6: SubnetV6File = SubnetV6File::default(),
    }
}

section! {
    /// `docker.network.interfaces.v4`.
    struct SubnetV4File {
        /// In CIDR notation.
        "subnet" subnet: String = "172.18.0.0/16".into(),
        /// The first address of another subnet than the default, if it is empty.
        "gateway" gateway: String = String::new(),
    }
}

section! {
    /// `docker.network.interfaces.v6`.
    struct SubnetV6File {
        /// In CIDR notation.
        "subnet" subnet: String = "fdba:17c8:6c94::/64".into(),
        /// The first address of another subnet than the default, if it is empty.
        "gateway" gateway: String = String::new(),
    }
}

section! {
    /// One entry of `docker.registries`.
    struct RegistryFile {
        "username" username: String = String::new(),
        /// Password or token.
        "password" password: Secret = Secret::default(),
    }
}

section! {
    /// `docker.installer_limits`: an installer gets the larger of these and the server's own limits.
    struct InstallerLimitsFile {
        "memory" memory_mib: i64 = 1024,
        /// Percent of one core; 0 is unlimited.
        "cpu" cpu_percent: i64 = 100,
    }
}

section! {
    /// `docker.overhead`: memory beyond the server's limit.
    struct OverheadFile {
        /// Use the multipliers below instead of the built-in ones.
        "override" enabled: bool = false,
        /// Multiplier above the largest key of `multipliers`.
        "default_multiplier" default_multiplier: f64 = 1.05,
        /// Multiplier by the largest memory limit, in MiB, to which it applies.
        "multipliers" multipliers: BTreeMap<String, f64> = BTreeMap::new(),
    }
}

section! {
    /// `docker.log_config`: Docker's log of containers.
    struct LogConfigFile {
        "type" driver: String = "local".into(),
        /// Options of the driver, merged over the defaults of Wings.
        "config" options: BTreeMap<String, String> = BTreeMap::new(),
    }
}
