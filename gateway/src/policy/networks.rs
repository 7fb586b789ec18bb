//! Sets of networks that answer fast however many they are.

use std::net::IpAddr;
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use prefix_trie::PrefixSet;

/// Networks of both families in prefix tries: a look-up takes as many steps as an address has bits, at most.
#[derive(Clone, Debug, Default)]
pub(super) struct NetworkSet {
    v4: PrefixSet<Ipv4Net>,
    v6: PrefixSet<Ipv6Net>,
}

impl NetworkSet {
    pub(super) fn insert(&mut self, network: IpNet) {
        match network {
            IpNet::V4(network) => self.v4.insert(network.trunc()),
            IpNet::V6(network) => self.v6.insert(network.trunc()),
        };
    }

    pub(super) fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    pub(super) fn contains(&self, address: IpAddr) -> bool {
        self.find(address).is_some()
    }

    /// The smallest of the networks that the address is in.
    pub(super) fn find(&self, address: IpAddr) -> Option<IpNet> {
        match address.to_canonical() {
            IpAddr::V4(address) => self.v4.get_lpm(&Ipv4Net::from(address)).map(IpNet::V4),
            IpAddr::V6(address) => self.v6.get_lpm(&Ipv6Net::from(address)).map(IpNet::V6),
        }
    }
}

impl FromIterator<IpNet> for NetworkSet {
    fn from_iter<I: IntoIterator<Item = IpNet>>(networks: I) -> Self {
        let mut set = Self::default();
        networks.into_iter().for_each(|network| set.insert(network));
        set
    }
}

/// Reads `10.0.0.0/8`, `2001:db8::/32` or a single address. Bits behind the prefix do not count, and IPv4 networks that
/// are written as mapped into IPv6 are IPv4 networks.
pub(super) fn parse_network(text: &str) -> Option<IpNet> {
    if let Ok(address) = IpAddr::from_str(text) {
        return Some(address.to_canonical().into());
    }
    let network = IpNet::from_str(text).ok()?.trunc();
    let IpNet::V6(v6) = network else { return Some(network) };
    let mapped = v6.addr().to_ipv4_mapped().zip(v6.prefix_len().checked_sub(MAPPED_PREFIX_LEN));
    Some(mapped.and_then(|(address, len)| Ipv4Net::new(address, len).ok()).map_or(network, IpNet::V4))
}

/// `::ffff:0:0/96` holds all of IPv4.
const MAPPED_PREFIX_LEN: u8 = 96;

#[cfg(test)]
mod tests {
    use super::*;

    fn found(networks: &[&str], address: &str) -> Option<String> {
        let set: NetworkSet = networks.iter().map(|text| parse_network(text).unwrap()).collect();
        set.find(address.parse().unwrap()).map(|network| network.to_string())
    }

    #[test]
    fn smallest_network_around_an_address_is_found() {
        let networks = ["10.0.0.0/8", "10.1.0.0/16", "192.0.2.7", "2001:db8::/32", "::ffff:198.51.100.0/120"];
        for (address, network) in [
            ("10.1.2.3", Some("10.1.0.0/16")),
            ("10.2.2.3", Some("10.0.0.0/8")),
            ("::ffff:10.1.2.3", Some("10.1.0.0/16")),
            ("192.0.2.7", Some("192.0.2.7/32")),
            ("192.0.2.8", None),
            ("2001:db8:1::1", Some("2001:db8::/32")),
            ("2001:db9::1", None),
            ("198.51.100.9", Some("198.51.100.0/24")),
        ] {
            assert_eq!(found(&networks, address).as_deref(), network, "{address}");
        }
        assert_eq!(found(&["0.0.0.0/0"], "::1"), None);
        assert_eq!(found(&["::/0"], "10.0.0.1"), None);
    }

    #[test]
    fn networks_are_read_leniently_and_nonsense_is_not() {
        for (text, network) in [("10.1.2.3/8", "10.0.0.0/8"), ("2001:DB8:0::1/32", "2001:db8::/32"), ("::1", "::1/128")]
        {
            assert_eq!(parse_network(text).unwrap().to_string(), network);
        }
        for text in ["", "10.0.0", "10.0.0.0/33", "10.0.0.0/-1", "2001:db8::/129", "example.com", "10.0.0.0/8 ", "1"] {
            assert_eq!(parse_network(text), None, "{text:?}");
        }
    }
}
