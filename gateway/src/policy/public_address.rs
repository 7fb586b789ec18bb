//! Which addresses are of the public internet.

use std::net::IpAddr;
use std::sync::LazyLock;

use super::networks::{NetworkSet, parse_network};

/// Whether an address belongs to some machine of the public internet, and not to the gateway's own surroundings or to
/// nobody. What policies make the gateway ask must be.
pub(super) fn is_public(address: IpAddr) -> bool {
    let address = address.to_canonical();
    if let IpAddr::V6(v6) = address {
        let octets = v6.octets();
        // The addresses that IPv6-only networks have for IPv4 ones (RFC 6052): what is inside counts.
        if let Some([a, b, c, d]) = octets.strip_prefix(&NAT64_PREFIX) {
            return is_public(IpAddr::from([*a, *b, *c, *d]));
        }
        if octets[0] >> 5 != GLOBAL_UNICAST {
            return false;
        }
    }
    !SPECIAL.contains(address)
}

/// The first three bits of all addresses that are given out (RFC 4291, 2.4).
const GLOBAL_UNICAST: u8 = 0b001;

/// `64:ff9b::/96`.
const NAT64_PREFIX: [u8; 12] = [0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0];

static SPECIAL: LazyLock<NetworkSet> =
    LazyLock::new(|| NETWORKS.iter().filter_map(|text| parse_network(text)).collect());

/// IANA's registries of special-purpose addresses, as far as nobody is to be found there from everywhere.
const NETWORKS: [&str; 21] = [
    // Azure's machines find their host's services there.
    "168.63.129.16/32",
    // This network.
    "0.0.0.0/8",
    // Private use.
    "10.0.0.0/8",
    // Shared by the customers of a carrier.
    "100.64.0.0/10",
    // This machine.
    "127.0.0.0/8",
    // Link-local.
    "169.254.0.0/16",
    // Private use.
    "172.16.0.0/12",
    // Protocol assignments.
    "192.0.0.0/24",
    // Documentation.
    "192.0.2.0/24",
    // Relays of 6to4.
    "192.88.99.0/24",
    // Private use.
    "192.168.0.0/16",
    // Benchmarks.
    "198.18.0.0/15",
    // Documentation.
    "198.51.100.0/24",
    "203.0.113.0/24",
    // Multicast.
    "224.0.0.0/4",
    // Reserved, and broadcast.
    "240.0.0.0/4",
    // Protocol assignments: Teredo, benchmarks, ORCHID.
    "2001::/23",
    // Documentation.
    "2001:db8::/32",
    // 6to4, which holds any IPv4 address.
    "2002::/16",
    // Documentation.
    "3fff::/20",
    // The first test network for IPv6, given back.
    "3ffe::/16",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_special_network_is_read() {
        assert!(NETWORKS.iter().all(|text| parse_network(text).is_some()));
    }

    #[test]
    fn addresses_of_the_internet_are_public_and_others_are_not() {
        for address in [
            "1.1.1.1",
            "9.255.255.255",
            "100.63.255.255",
            "100.128.0.0",
            "126.0.0.1",
            "172.32.0.0",
            "192.0.1.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "::ffff:1.1.1.1",
            "2606:4700::1111",
            "2001:200::1",
            "2a00:1450::1",
            "64:ff9b::101:101",
            "3ffd::1",
            "2003::1",
        ] {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
        for address in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.7",
            "203.0.113.9",
            "224.0.0.1",
            "239.1.1.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:10.0.0.1",
            "::ffff:127.0.0.1",
            "::7f00:1",
            "::10.0.0.1",
            "64:ff9b::a00:1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:0:4136:e378::1",
            "2001:2::1",
            "2001:10::1",
            "2001:20::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "2002:a00:1::1",
            "2002:101:101::",
            "3fff::1",
            "3ffe::1",
            "fc00::1",
            "fd12:3456::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "4000::1",
            "5f00::1",
            "8000::1",
        ] {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
    }
}
