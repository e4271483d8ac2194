//! Which addresses files are downloaded from: those of the internet, and none of the node's networks.
//!
//! IPv6 has several ways to write an IPv4 address; each is checked as the IPv4 address that it leads to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Networks that no download may reach.
const REFUSED_V4: &[(Ipv4Addr, u32)] = &[
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    // Networks of providers (RFC 6598).
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    // Also the metadata services of clouds.
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    // Relays of 6to4.
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];

/// Networks that no download may reach, by their first 16 bits and the mask of these.
const REFUSED_V6: &[(u16, u16)] = &[
    // Unique local, link-local, site-local, multicast.
    (0xfc00, 0xfe00),
    (0xfe80, 0xffc0),
    (0xfec0, 0xffc0),
    (0xff00, 0xff00),
    // Discard-only.
    (0x0100, 0xffff),
];

/// Whether a file may be downloaded from this address.
pub fn is_allowed(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_allowed_v4(address),
        IpAddr::V6(address) => is_allowed_v6(address),
    }
}

fn is_allowed_v4(address: Ipv4Addr) -> bool {
    let within = |(network, length): &(Ipv4Addr, u32)| {
        let mask = u32::MAX << (32 - length);
        address.to_bits() & mask == network.to_bits()
    };
    !REFUSED_V4.iter().any(within)
}

fn is_allowed_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    if REFUSED_V6.iter().any(|(network, mask)| segments[0] & mask == *network) {
        return false;
    }
    let embedded = |at: usize| {
        let bits = u32::from(segments[at]) << 16 | u32::from(segments[at + 1]);
        is_allowed_v4(Ipv4Addr::from_bits(bits))
    };
    match segments {
        // Unspecified, loopback and IPv4-compatible; IPv4-mapped; IPv4-translated.
        [0, 0, 0, 0, 0, 0 | 0xffff, ..] | [0, 0, 0, 0, 0xffff, 0, ..] => embedded(6),
        // NAT64 with the well-known prefix, and with one of the provider's own.
        [0x64, 0xff9b, 0, 0, 0, 0, ..] => embedded(6),
        [0x64, 0xff9b, ..] => false,
        // Teredo: the address of a relay and that of a host behind a NAT.
        [0x2001, 0, ..] => false,
        // 6to4.
        [0x2002, ..] => embedded(1),
        // ISATAP, in any network.
        [_, _, _, _, 0 | 0x0200, 0x5efe, ..] => embedded(6),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_internet_is_reached() {
        for refused in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.255",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.170",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fc00::1",
            "fd12:3456::1",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "ff02::1",
            "100::1",
            "::ffff:127.0.0.1",
            "::ffff:10.1.2.3",
            "::ffff:169.254.169.254",
            "::127.0.0.1",
            "::ffff:0:127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b::10.0.0.1",
            "64:ff9b:1::8.8.8.8",
            "2002:7f00:1::1",
            "2002:a00:1::",
            "2002:c0a8:101::5",
            "2001::1",
            "2001:0:4136:e378:8000:63bf:3fff:fdd2",
            "2a00:1450::5efe:192.168.0.1",
            "2a00:1450::200:5efe:10.0.0.1",
        ] {
            assert!(!is_allowed(refused.parse().unwrap()), "{refused}");
        }
        for allowed in [
            "1.1.1.1",
            "8.8.8.8",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.0.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.167.1.1",
            "198.17.0.1",
            "198.20.0.1",
            "203.0.113.7",
            "223.255.255.255",
            "2606:4700::1111",
            "2001:4860:4860::8888",
            "::ffff:1.1.1.1",
            "64:ff9b::1.1.1.1",
            "2002:101:101::1",
            "2a00:1450::5efe:1.1.1.1",
        ] {
            assert!(is_allowed(allowed.parse().unwrap()), "{allowed}");
        }
    }
}
