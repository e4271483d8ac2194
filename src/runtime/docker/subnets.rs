//! Free address ranges.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use sha2::Digest;

/// Private ranges (RFC 1918): base, length of its prefix, and length of the prefix of a network. Engines prefer the first range,
/// companies the last one.
const PRIVATE: [(Ipv4Addr, u8, u8); 3] = [
    (Ipv4Addr::new(172, 16, 0, 0), 12, 16),
    (Ipv4Addr::new(192, 168, 0, 0), 16, 20),
    (Ipv4Addr::new(10, 0, 0, 0), 8, 16),
];

/// A private IPv4 range that overlaps none of those in use.
pub(super) fn free_v4(used: &[IpNet]) -> Option<Ipv4Net> {
    let mut candidates = PRIVATE.into_iter().flat_map(|(base, length, prefix)| {
        Ipv4Net::new(base, length).ok().and_then(|range| range.subnets(prefix).ok()).into_iter().flatten()
    });
    candidates.find(|candidate| !overlaps(IpNet::V4(*candidate), used))
}

/// Length of the prefix of a network for one server.
const SMALL: u8 = 28;

/// A small range within another one that overlaps none of those in use. The search begins at a position that follows from the name, so
/// that networks which are created at the same time get different ranges.
pub(super) fn free_small_v4(name: &str, within: Ipv4Net, used: &[IpNet]) -> Option<Ipv4Net> {
    let count = 1_u32.checked_shl(u32::from(SMALL.checked_sub(within.prefix_len())?))?;
    let hash = sha2::Sha256::digest(name);
    let first = u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]]) % count;
    let size = 1_u32 << (32 - SMALL);
    let candidate =
        |position: u32| Ipv4Net::new_assert(Ipv4Addr::from(u32::from(within.network()) + position * size), SMALL);
    // Most ranges in use are elsewhere, and a search compares with the others only.
    let near: Vec<IpNet> = used.iter().filter(|other| overlaps(IpNet::V4(within), &[**other])).copied().collect();
    (0..count).map(|step| candidate((first + step) % count)).find(|found| !overlaps(IpNet::V4(*found), &near))
}

/// A unique local IPv6 range (RFC 4193) for a network of this name that overlaps none of those in use.
pub(super) fn free_v6(name: &str, used: &[IpNet]) -> Option<Ipv6Net> {
    (0..64u8).map(|attempt| unique_local(name, attempt)).find(|candidate| !overlaps(IpNet::V6(*candidate), used))
}

fn unique_local(name: &str, attempt: u8) -> Ipv6Net {
    let mut hash = sha2::Sha256::new();
    hash.update([attempt]);
    hash.update(name);
    let hash = hash.finalize();
    let mut octets = [0; 16];
    octets[0] = 0xfd;
    octets[1..8].copy_from_slice(&hash[..7]);
    Ipv6Net::new_assert(Ipv6Addr::from(octets), 64)
}

/// The first address of a range, where engines put the gateway.
pub(super) fn gateway(range: IpNet) -> IpAddr {
    match range {
        IpNet::V4(range) => Ipv4Addr::from(u32::from(range.network()) | 1).into(),
        IpNet::V6(range) => Ipv6Addr::from(u128::from(range.network()) | 1).into(),
    }
}

/// Whether a range shares an address with one of the used ones.
pub(super) fn overlaps(range: IpNet, used: &[IpNet]) -> bool {
    used.iter().any(|other| range.contains(other) || other.contains(&range))
}

/// The IPv4 ranges that the host has routes to, from the text of `/proc/net/route`. The default route is none.
pub(super) fn routes(text: &str) -> Vec<IpNet> {
    let route = |line: &str| {
        let mut columns = line.split_ascii_whitespace();
        let destination = columns.nth(1)?;
        // Flags, RefCnt, Use and Metric are between them.
        let mask = columns.nth(5)?;
        // The kernel writes the address as a number in the byte order of the host.
        let address = |hex: &str| u32::from_str_radix(hex, 16).ok().map(|number| Ipv4Addr::from(number.to_ne_bytes()));
        let net = Ipv4Net::with_netmask(address(destination)?, address(mask)?).ok()?;
        (net.prefix_len() > 0).then_some(IpNet::V4(net))
    };
    text.lines().skip(1).filter_map(route).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(list: &[&str]) -> Vec<IpNet> {
        list.iter().map(|net| net.parse().unwrap()).collect()
    }

    #[test]
    fn a_free_range_overlaps_nothing() {
        for (used, expected) in [
            (&[][..], "172.16.0.0/16"),
            (&["172.16.0.0/16", "172.17.0.0/16"], "172.18.0.0/16"),
            (&["172.16.3.0/24", "172.17.0.1/32"], "172.18.0.0/16"),
            (&["172.16.0.0/12"], "192.168.0.0/20"),
            (&["172.16.0.0/12", "192.168.0.0/24", "192.168.16.0/20"], "192.168.32.0/20"),
            (&["172.0.0.0/8", "192.168.0.0/16", "10.0.0.0/9"], "10.128.0.0/16"),
            (&["fd00::/8"], "172.16.0.0/16"),
        ] {
            assert_eq!(free_v4(&nets(used)).unwrap().to_string(), expected, "{used:?}");
        }
        assert_eq!(free_v4(&nets(&["0.0.0.0/0"])), None);
        let chosen = free_v6("pelican_nw", &[]).unwrap();
        assert_eq!(chosen.addr().octets()[0], 0xfd);
        assert_eq!(free_v6("pelican_nw", &[]).unwrap(), chosen, "the same name gets the same range");
        assert_ne!(free_v6("pelican_nw", &[IpNet::V6(chosen)]).unwrap(), chosen);
        assert_eq!(free_v6("pelican_nw", &nets(&["fc00::/7"])), None);
    }

    #[test]
    fn a_small_range_is_within_the_given_one() {
        let within: Ipv4Net = "10.208.0.0/12".parse().unwrap();
        let chosen = free_small_v4("alula-1", within, &[]).unwrap();
        assert!(within.contains(&chosen) && chosen.prefix_len() == 28);
        assert_eq!(free_small_v4("alula-1", within, &[]), Some(chosen), "the same name gets the same range");
        assert_ne!(free_small_v4("alula-2", within, &[]), Some(chosen));
        let next = free_small_v4("alula-1", within, &[IpNet::V4(chosen)]).unwrap();
        assert!(within.contains(&next) && next != chosen);
        assert_eq!(free_small_v4("alula-1", within, &nets(&["10.0.0.0/8"])), None);
        let two: Ipv4Net = "10.208.0.0/27".parse().unwrap();
        let second = free_small_v4("a", two, &nets(&["10.208.0.0/28"])).unwrap();
        assert_eq!(second.to_string(), "10.208.0.16/28");
        assert_eq!(free_small_v4("a", "10.208.0.0/29".parse().unwrap(), &[]), None);
    }

    #[test]
    fn gateways() {
        assert_eq!(gateway("172.20.0.0/16".parse().unwrap()).to_string(), "172.20.0.1");
        assert_eq!(gateway("fd12:3456::/64".parse().unwrap()).to_string(), "fd12:3456::1");
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn routes_of_the_host() {
        let text = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
                    eth0\t00000000\t010011AC\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
                    eth0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n\
                    eth1\t0001A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n\
                    garbage\n";
        assert_eq!(routes(text), nets(&["172.17.0.0/16", "192.168.1.0/24"]));
        assert_eq!(routes(""), []);
    }
}
