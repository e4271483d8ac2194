//! The addresses of this host's network interfaces.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nix::ifaddrs::getifaddrs;

/// All addresses of all interfaces, in the order of the kernel.
pub(super) fn of_host() -> io::Result<Vec<IpAddr>> {
    let address = |interface: nix::ifaddrs::InterfaceAddress| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
    };
    Ok(getifaddrs()?.filter_map(address).collect())
}

/// The addresses that others can reach, each once, and then the configured ones.
pub(super) fn listed(of_host: Vec<IpAddr>, configured: &[String]) -> Vec<String> {
    let reachable = of_host.into_iter().filter(|address| !is_local(*address)).map(|address| address.to_string());
    let mut listed: Vec<String> = Vec::new();
    for address in reachable.chain(configured.iter().cloned()) {
        if !listed.contains(&address) {
            listed.push(address);
        }
    }
    listed
}

fn is_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_loopback() || address.is_link_local() || address == Ipv4Addr::UNSPECIFIED,
        IpAddr::V6(address) => {
            address.is_loopback() || address.is_unicast_link_local() || address == Ipv6Addr::UNSPECIFIED
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reachable_addresses_are_listed_once_and_configured_ones_last() {
        let of_host = ["127.0.0.1", "192.0.2.2", "::1", "fe80::1", "169.254.3.4", "172.17.0.1", "192.0.2.2", "fd00::2"];
        let of_host = of_host.map(|text| text.parse().unwrap()).to_vec();
        let configured = ["172.17.0.1", "192.0.2.77"].map(String::from);
        assert_eq!(listed(of_host, &configured), ["192.0.2.2", "172.17.0.1", "fd00::2", "192.0.2.77"]);
    }

    #[test]
    fn this_host_has_a_loopback() {
        assert!(of_host().unwrap().contains(&IpAddr::V4(Ipv4Addr::LOCALHOST)));
    }
}
