//! Networks as policies write them.

use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

use crate::networks::unmapped;

pub(super) use crate::networks::{NETWORKS_MAX, NetworkSet};

/// Reads `10.0.0.0/8`, `2001:db8::/32` or a single address. Bits behind the prefix do not count, and IPv4 networks that
/// are written as mapped into IPv6 are IPv4 networks.
pub(super) fn parse_network(text: &str) -> Option<IpNet> {
    if let Ok(address) = IpAddr::from_str(text) {
        return Some(address.to_canonical().into());
    }
    Some(unmapped(IpNet::from_str(text).ok()?.trunc()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_read_leniently_and_nonsense_is_not() {
        for (text, network) in [
            ("10.1.2.3/8", "10.0.0.0/8"),
            ("2001:DB8:0::1/32", "2001:db8::/32"),
            ("::1", "::1/128"),
            ("::ffff:198.51.100.7/120", "198.51.100.0/24"),
            ("::ffff:198.51.100.7", "198.51.100.7/32"),
        ] {
            assert_eq!(parse_network(text).unwrap().to_string(), network);
        }
        for text in ["", "10.0.0", "10.0.0.0/33", "10.0.0.0/-1", "2001:db8::/129", "example.com", "10.0.0.0/8 ", "1"] {
            assert_eq!(parse_network(text), None, "{text:?}");
        }
    }
}
