//! Valid values of `docker:`, as the other modules use them.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::Problem;
use super::file::{DockerFile, NetworkFile};
use super::lenient::Lenient;

/// The gateways of the default subnets in Wings.
const GATEWAY_V4: &str = "172.18.0.1";
const GATEWAY_V6: &str = "fdba:17c8:6c94::1011";

/// The least memory of a container, MiB.
const MIN_MEMORY_MIB: i64 = 6;

/// The default options of Wings for the drivers `local` and `json-file`. Other drivers do not know them.
const LOG_OPTIONS: [(&str, &str); 4] =
    [("max-size", "5m"), ("max-file", "1"), ("compress", "false"), ("mode", "non-blocking")];

impl DockerFile {
    /// Replaces invalid values, and adds the default options of the log's driver.
    pub(super) fn validate(&mut self, lenient: &mut Lenient) {
        let limits = &mut self.installer_limits;
        for (key, value, range, unit, default) in [
            ("docker.tmpfs_size", &mut self.tmpfs_mib, 0..=1 << 30, "MiB", 100),
            ("docker.container_pid_limit", &mut self.pids_limit, -1..=1 << 30, "processes", -1),
            ("docker.installer_limits.memory", &mut limits.memory_mib, 0..=1 << 30, "MiB", 1024),
            ("docker.network.network_mtu", &mut self.network.mtu, 0..=65_535, "bytes", 1500),
            ("docker.installer_limits.cpu", &mut limits.cpu_percent, 0..=1 << 20, "percent of a core", 100),
        ] {
            *value = lenient.within(key, *value, range, unit, default);
        }
        if (1..MIN_MEMORY_MIB).contains(&self.installer_limits.memory_mib) {
            let message = format!(
                "is {}: expected 0, or at least {MIN_MEMORY_MIB} MiB, which the engine requires; {MIN_MEMORY_MIB} is used",
                self.installer_limits.memory_mib
            );
            lenient.note("docker.installer_limits.memory", message);
            self.installer_limits.memory_mib = MIN_MEMORY_MIB;
        }
        if !["", "host"].contains(&self.userns_mode.as_str()) {
            let message = format!("is {:?}: expected host, or nothing; nothing is used", self.userns_mode);
            lenient.note("docker.userns_mode", message);
            self.userns_mode.clear();
        }
        self.network.validate(lenient);
        let log = &mut self.log_config;
        if matches!(log.driver.as_str(), "local" | "json-file") {
            for (key, value) in LOG_OPTIONS {
                log.options.entry(key.to_owned()).or_insert_with(|| value.to_owned());
            }
        }
    }
}

impl NetworkFile {
    /// Checks the address ranges, and sets the network that containers join.
    fn validate(&mut self, lenient: &mut Lenient) {
        let (default, ipv6, interfaces) = (Self::default().interfaces, self.ipv6, &mut self.interfaces);
        let (v4, v6) = (&mut interfaces.v4, &mut interfaces.v6);
        if v4.gateway.is_empty() && v4.subnet == default.v4.subnet {
            v4.gateway = GATEWAY_V4.into();
        }
        if v6.gateway.is_empty() && v6.subnet == default.v6.subnet {
            v6.gateway = GATEWAY_V6.into();
        }
        let v4 = check_range("v4", v4.subnet.parse::<Ipv4Net>().map(IpNet::V4), &v4.subnet, &v4.gateway);
        lenient.require(v4);
        if ipv6 {
            let v6 = check_range("v6", v6.subnet.parse::<Ipv6Net>().map(IpNet::V6), &v6.subnet, &v6.gateway);
            lenient.require(v6);
        }
        if self.name.trim().is_empty() {
            let default = Self::default().name;
            let message = format!("is empty: expected the name of a Docker network; {default} is used");
            lenient.note("docker.network.name", message);
            self.name = default;
        }
        self.dns.retain(|server| {
            let address = server.trim().parse::<IpAddr>().map_err(|_| format!("{server:?} is not an address"));
            lenient.keep("docker.network.dns", address).is_some()
        });
        // Only used until the gateway of the network is known.
        if self.interface.parse::<IpAddr>().is_err() {
            let message = format!("is {:?}: expected an address of this host; {GATEWAY_V4} is used", self.interface);
            lenient.note("docker.network.interface", message);
            self.interface = GATEWAY_V4.into();
        }
        let (key, mode) = match self.network_mode.is_empty() {
            true => ("docker.network.mode", std::mem::take(&mut self.mode)),
            false => ("docker.network.network_mode", std::mem::take(&mut self.network_mode)),
        };
        let other = !["", "host", "none", "bridge", "default", &self.name].contains(&mode.as_str());
        if other && !mode.starts_with("container:") {
            let message = format!(
                "is {mode:?}, and the daemon creates the network {:?}: containers join a network that must exist \
                 already; remove the key to use {:?}",
                self.name, self.name
            );
            lenient.note(key, message);
        }
        self.network_mode = if mode.is_empty() { self.name.clone() } else { mode };
    }
}

/// Checks a range of addresses, which the engine would reject, and its gateway.
fn check_range<E>(version: &str, parsed: Result<IpNet, E>, subnet: &str, gateway: &str) -> Result<(), Problem> {
    let problem = |key: &str, message| Err(Problem::new(format!("docker.network.interfaces.{version}.{key}"), message));
    let Ok(range) = parsed else {
        return problem(
            "subnet",
            format!("is {subnet:?}: expected a range of addresses such as 172.18.0.0/16 (v4) or fd00::/64 (v6)"),
        );
    };
    match gateway.parse::<IpAddr>() {
        _ if gateway.is_empty() => Ok(()),
        Ok(address) if range.contains(&address) => Ok(()),
        Ok(_) => {
            problem("gateway", format!("is {gateway}, which is not in the subnet {subnet}: expected an address of it"))
        }
        Err(_) => problem("gateway", format!("is {gateway:?}: expected an address of the subnet {subnet}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_options() {
        let options = |driver: &str, typed: &[(&str, &str)]| {
            let mut file = DockerFile::default();
            file.log_config.driver = driver.into();
            file.log_config.options = typed.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
            file.validate(&mut Lenient::default());
            file.log_config.options
        };
        assert_eq!(options("local", &[])["max-size"], "5m");
        let typed = options("local", &[("max-size", "1m")]);
        assert_eq!((typed["max-size"].as_str(), typed["mode"].as_str()), ("1m", "non-blocking"));
        assert_eq!(options("journald", &[("tag", "game")]).len(), 1);
    }

    #[test]
    fn ranges_that_the_engine_would_reject_are_errors() {
        for (text, wrong) in [
            ("{}", None),
            ("{v4: {subnet: 10.5.0.0/24}}", None),
            ("{v4: {subnet: 10.5.0.0/24, gateway: 10.5.0.1}}", None),
            ("{v4: {subnet: 10.5.0.0/33}}", Some("v4.subnet")),
            ("{v4: {subnet: 10.5.0.0}}", Some("v4.subnet")),
            ("{v4: {subnet: 'fd00::/64'}}", Some("v4.subnet")),
            ("{v4: {subnet: ''}}", Some("v4.subnet")),
            ("{v4: {gateway: 10.5.0.1}}", Some("v4.gateway")),
            ("{v4: {subnet: 172.20.0.0/16, gateway: 172.18.0.1}}", Some("v4.gateway")),
            ("{v4: {gateway: first}}", Some("v4.gateway")),
            ("{v6: {subnet: 'fd00::/129'}}", Some("v6.subnet")),
            ("{v6: {subnet: 'fd00::/64', gateway: 'fd01::1'}}", Some("v6.gateway")),
        ] {
            let text = format!("docker: {{network: {{interfaces: {text}}}}}");
            let mut file = super::super::ConfigFile::parse(std::path::Path::new("c"), &text).unwrap().docker;
            let mut lenient = Lenient::default();
            file.validate(&mut lenient);
            let keys: Vec<_> = lenient.1.iter().map(|problem| problem.key.as_str()).collect();
            let expected: Vec<_> = wrong.iter().map(|key| format!("docker.network.interfaces.{key}")).collect();
            assert_eq!(keys, expected, "{text}");
        }
    }

    #[test]
    fn containers_join_the_network_of_the_node() {
        for (text, joined, warnings) in [
            ("{}", "pelican_nw", 0),
            ("{name: games}", "games", 0),
            ("{name: games, network_mode: }", "games", 0),
            ("{name: games, network_mode: ''}", "games", 0),
            ("{name: games, network_mode: games}", "games", 0),
            ("{name: games, mode: games}", "games", 0),
            ("{name: games, mode: host}", "host", 0),
            ("{mode: none}", "none", 0),
            ("{network_mode: bridge, mode: host}", "bridge", 0),
            ("{network_mode: 'container:proxy'}", "container:proxy", 0),
            ("{name: games, network_mode: pelican_nw}", "pelican_nw", 1),
            ("{mode: brigde}", "brigde", 1),
            ("{name: ''}", "pelican_nw", 1),
        ] {
            let text = format!("docker: {{network: {text}}}");
            let mut file = super::super::ConfigFile::parse(std::path::Path::new("c"), &text).unwrap().docker;
            let mut lenient = Lenient::default();
            file.validate(&mut lenient);
            assert_eq!(file.network.network_mode, joined, "{text}");
            assert_eq!(lenient.0.len(), warnings, "{text}: {:?}", lenient.0);
        }
    }
}
