//! `docker:`, containers and images.

use std::collections::BTreeMap;

use crate::config::Secret;
use crate::config::setting::section;

section! {
    /// `docker`: containers and images.
    struct DockerFile {
        /// The network of the servers.
        "network" network: NetworkFile = NetworkFile::default(),
        /// Domain name of containers.
        "domainname" domainname: String = String::new(),
        /// Credentials by registry.
        "registries" registries: BTreeMap<String, RegistryFile> = BTreeMap::new(),
        /// MiB of `/tmp` in containers.
        "tmpfs_size" tmpfs_size: i64 = 100,
        /// Processes per container; 0 and -1 are without limit.
        "container_pid_limit" container_pid_limit: i64 = 512,
        /// Least resources of an installer.
        "installer_limits" installer_limits: InstallerLimitsFile = InstallerLimitsFile::default(),
        /// Memory that a container gets beyond the server's limit.
        "overhead" overhead: OverheadFile = OverheadFile::default(),
        /// How Wings inspects; without effect here.
        "use_performant_inspect" use_performant_inspect: bool = true,
        /// User namespace mode of containers.
        "userns_mode" userns_mode: String = String::new(),
        /// Further addresses that the panel is told.
        "system_ips" system_ips: Vec<String> = Vec::new(),
        /// Docker's own log of containers.
        "log_config" log_config: LogConfigFile = LogConfigFile::default(),
    }
}

section! {
    /// `docker.network`: the network of the servers.
    struct NetworkFile {
        /// Address that stands for 127.0.0.1 in allocations.
        "interface" interface: String = "172.18.0.1".into(),
        /// DNS servers of containers.
        "dns" dns: Vec<String> = vec!["1.1.1.1".into(), "1.0.0.1".into()],
        /// Name of the network that is looked up or made.
        "name" name: String = "pelican_nw".into(),
        /// Inter-server private networking: allocations on 127.0.0.1 are not bound at all.
        "ispn" ispn: bool = false,
        /// Whether the network has IPv6.
        "IPv6" ipv6: bool = true,
        /// Driver of the network.
        "driver" driver: String = "bridge".into(),
        /// Network mode of containers.
        "network_mode" network_mode: String = "pelican_nw".into(),
        /// Whether the network has no way out.
        "is_internal" is_internal: bool = false,
        /// Whether containers reach each other.
        "enable_icc" enable_icc: bool = true,
        /// MTU in bytes.
        "network_mtu" network_mtu: i64 = 1500,
        /// Address ranges.
        "interfaces" interfaces: InterfacesFile = InterfacesFile::default(),
    }
}

section! {
    /// `docker.network.interfaces`: address ranges.
    struct InterfacesFile {
        /// IPv4.
        "v4" v4: SubnetV4File = SubnetV4File::default(),
        /// IPv6.
        "v6" v6: SubnetV6File = SubnetV6File::default(),
    }
}

section! {
    /// `docker.network.interfaces.v4`.
    struct SubnetV4File {
        /// Range in CIDR notation.
        "subnet" subnet: String = "172.18.0.0/16".into(),
        /// Gateway.
        "gateway" gateway: String = "172.18.0.1".into(),
    }
}

section! {
    /// `docker.network.interfaces.v6`.
    struct SubnetV6File {
        /// Range in CIDR notation.
        "subnet" subnet: String = "fdba:17c8:6c94::/64".into(),
        /// Gateway.
        "gateway" gateway: String = "fdba:17c8:6c94::1011".into(),
    }
}

section! {
    /// One entry of `docker.registries`.
    struct RegistryFile {
        /// Name of the account.
        "username" username: String = String::new(),
        /// Its password or token.
        "password" password: Secret = Secret::default(),
    }
}

section! {
    /// `docker.installer_limits`: an installer gets the larger of these and the server's own limits.
    struct InstallerLimitsFile {
        /// MiB.
        "memory" memory: i64 = 1024,
        /// Percent of one core; 0 is without limit.
        "cpu" cpu: i64 = 100,
    }
}

section! {
    /// `docker.overhead`: memory beyond the server's limit.
    struct OverheadFile {
        /// Use the multipliers below instead of the built-in ones.
        "override" enabled: bool = false,
        /// Multiplier above the largest key of `multipliers`.
        "default_multiplier" default_multiplier: f64 = 1.05,
        /// Multiplier by the memory limit, MiB, up to which it is used.
        "multipliers" multipliers: BTreeMap<i64, f64> = BTreeMap::new(),
    }
}

section! {
    /// `docker.log_config`: Docker's own log of containers.
    struct LogConfigFile {
        /// Driver; empty is Docker's default, without options.
        "type" driver: String = "local".into(),
        /// Options of the driver, laid over Wings' defaults.
        "config" options: BTreeMap<String, String> = BTreeMap::new(),
    }
}
