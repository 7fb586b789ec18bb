//! Sets of networks that answer fast however many they are.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use prefix_trie::PrefixSet;

/// Networks of both families in prefix tries: a look-up takes as many steps as an address has bits, at most. An IPv4
/// address is the same whether it comes plain or mapped into IPv6, and so is a network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkSet {
    v4: PrefixSet<Ipv4Net>,
    v6: PrefixSet<Ipv6Net>,
}

impl NetworkSet {
    /// Adds a network; bits behind its prefix do not count.
    pub fn insert(&mut self, network: IpNet) {
        match unmapped(network.trunc()) {
            IpNet::V4(network) => self.v4.insert(network),
            IpNet::V6(network) => self.v6.insert(network),
        };
    }

    /// Tells whether there is none in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// Tells whether any of the networks contains the address.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.find(address).is_some()
    }

    /// The smallest of the networks that the address is in.
    #[must_use]
    pub fn find(&self, address: IpAddr) -> Option<IpNet> {
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

/// `::ffff:10.0.0.0/104` is `10.0.0.0/8`.
#[must_use]
pub fn unmapped(network: IpNet) -> IpNet {
    let IpNet::V6(v6) = network else { return network };
    let mapped = v6.addr().to_ipv4_mapped().zip(v6.prefix_len().checked_sub(MAPPED_PREFIX_LEN));
    mapped.and_then(|(address, len)| Ipv4Net::new(address, len).ok()).map_or(network, IpNet::V4)
}

/// Networks of one list, wherever one can be written: public lists of countries and clouds have some thousands.
pub const NETWORKS_MAX: usize = 10_000;
/// Bits in front of the IPv4 address in a mapped one (RFC 4291, 2.5.5.2).
const MAPPED_PREFIX_LEN: u8 = 96;

#[cfg(test)]
mod tests {
    use adit::session::Random;

    use super::*;

    fn network(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn found(networks: &[&str], address: &str) -> Option<String> {
        let set: NetworkSet = networks.iter().map(|text| network(text)).collect();
        set.find(address.parse().unwrap()).map(|network| network.to_string())
    }

    #[test]
    fn smallest_network_around_an_address_is_found() {
        let networks = ["10.0.0.0/8", "10.1.0.0/16", "192.0.2.7/32", "2001:db8::/32", "::ffff:198.51.100.0/120"];
        for (address, network) in [
            ("10.1.2.3", Some("10.1.0.0/16")),
            ("10.2.2.3", Some("10.0.0.0/8")),
            ("::ffff:10.1.2.3", Some("10.1.0.0/16")),
            ("192.0.2.7", Some("192.0.2.7/32")),
            ("192.0.2.8", None),
            ("2001:db8:1::1", Some("2001:db8::/32")),
            ("2001:db9::1", None),
            ("198.51.100.9", Some("198.51.100.0/24")),
            ("::a00:1", None),
        ] {
            assert_eq!(found(&networks, address).as_deref(), network, "{address}");
        }
        assert_eq!(found(&["0.0.0.0/0"], "::1"), None);
        assert_eq!(found(&["::/0"], "10.0.0.1"), None);
        assert_eq!(found(&[], "10.0.0.1"), None);
    }

    /// As many networks as a list may have, of both families, nested in each other.
    #[test]
    fn full_set_answers_as_looking_at_all_networks_does() {
        let mut random = Random::new(6);
        let networks: Vec<IpNet> = (0..NETWORKS_MAX)
            .map(|index| {
                let (high, low) = (random.next(), random.next());
                let [a, b, c, d, len, ..] = high.to_be_bytes();
                let v4 = Ipv4Net::new([a % 4, b, c, d].into(), len % 33).unwrap();
                let v6 = Ipv6Net::new((u128::from(high % 4) << 125 | u128::from(low)).into(), len % 129).unwrap();
                // Few wide ones: they would hold every address.
                if index % 2 == 0 && v4.prefix_len() > 6 { IpNet::V4(v4.trunc()) } else { IpNet::V6(v6.trunc()) }
            })
            .collect();
        let set: NetworkSet = networks.iter().copied().collect();
        let (mut inside, mut outside) = (0, 0);
        for index in 0..2_000_u64 {
            let [a, b, c, d, ..] = random.next().to_be_bytes();
            let address: IpAddr = match index % 3 {
                0 => [a % 8, b, c, d].into(),
                1 => std::net::Ipv4Addr::from([a % 8, b, c, d]).to_ipv6_mapped().into(),
                _ => std::net::Ipv6Addr::from(u128::from(random.next() % 8) << 125 | u128::from(random.next())).into(),
            };
            let around = networks.iter().filter(|network| network.contains(&address.to_canonical()));
            let smallest = around.max_by_key(|network| network.prefix_len()).copied();
            assert_eq!(set.find(address), smallest, "{address}");
            if smallest.is_some() { inside += 1 } else { outside += 1 }
        }
        assert!(inside > 100 && outside > 100, "{inside} {outside}");
    }
}
