//! Networks as the file writes them.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

use crate::networks::unmapped;

/// Why a text is not a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetworkError {
    /// Neither an address nor an address with a prefix length.
    Form,
    /// Bits beyond the prefix are set; this is the network around it.
    HostBits(IpNet),
}

/// Reads `10.0.0.0/8`, `2001:db8::/32` or a single address.
///
/// # Errors
///
/// A network whose address has bits beyond the prefix is refused: either the address or the prefix is not what its
/// author meant.
pub(super) fn parse_network(text: &str) -> Result<IpNet, NetworkError> {
    if let Ok(address) = IpAddr::from_str(text) {
        return Ok(IpNet::from(address.to_canonical()));
    }
    let network = IpNet::from_str(text).map_err(|_| NetworkError::Form)?;
    if network.trunc() != network {
        return Err(NetworkError::HostBits(network.trunc()));
    }
    Ok(unmapped(network))
}

impl fmt::Display for NetworkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Form => f.write_str("must be an address or a network such as 192.0.2.7, 10.0.0.0/8 or 2001:db8::/32"),
            Self::HostBits(network) => write!(f, "has bits beyond its prefix: {network} is the network around it"),
        }
    }
}

impl std::error::Error for NetworkError {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::networks::NetworkSet;

    fn contains(list: &[&str], address: &str) -> bool {
        let set: NetworkSet = list.iter().map(|text| parse_network(text).unwrap()).collect();
        set.contains(address.parse().unwrap())
    }

    #[test]
    fn address_is_found_in_any_network_of_its_family() {
        let list = ["10.0.0.0/8", "192.0.2.7", "2001:db8::/32"];
        for inside in ["10.0.0.0", "10.255.255.255", "192.0.2.7", "2001:db8:ffff::1"] {
            assert!(contains(&list, inside), "{inside}");
        }
        for outside in ["11.0.0.0", "9.255.255.255", "192.0.2.8", "2001:db9::", "::1", "::a00:1"] {
            assert!(!contains(&list, outside), "{outside}");
        }
        assert!(!contains(&[], "10.0.0.1"));
    }

    #[test]
    fn mapped_addresses_are_plain_ones_on_both_sides() {
        assert!(contains(&["10.0.0.0/8"], "::ffff:10.1.2.3"));
        assert!(contains(&["::ffff:10.0.0.0/104"], "10.1.2.3"));
        assert!(contains(&["::ffff:10.1.2.3"], "10.1.2.3"));
        assert!(!contains(&["::ffff:10.0.0.0/104"], "11.1.2.3"));
        assert!(contains(&["0.0.0.0/0"], "192.0.2.1"));
        assert!(!contains(&["0.0.0.0/0"], "2001:db8::1"));
    }

    #[test]
    fn odd_network_is_refused_with_advice() {
        for text in ["", "10.0.0", "10.0.0.0/33", "10.0.0.0/", "a.example.com", "10.0.0.0-10.0.0.9", "::/129"] {
            assert_eq!(parse_network(text), Err(NetworkError::Form), "{text}");
        }
        assert!(parse_network("10.0.0.1/8").unwrap_err().to_string().contains("10.0.0.0/8"));
        assert!(parse_network("2001:db8::1/32").unwrap_err().to_string().contains("2001:db8::/32"));
    }
}
