//! Which hosts the environment's proxy is not for: `NO_PROXY`, as curl and most programs read it.

use std::net::IpAddr;

use super::address::HostPort;

/// Whether `list` excepts this place: `*`, a name with or without a dot in front (with all names below it), an address,
/// a network `192.0.2.0/24`, each possibly with a port. This machine itself is always excepted.
pub(super) fn is_excepted(place: &HostPort, list: &str) -> bool {
    is_this_machine(place) || list.split([',', ' ']).any(|entry| matches(entry.trim(), place))
}

/// Whether no proxy could mean what is meant: the proxy's own loopback is another one.
pub(super) fn is_this_machine(place: &HostPort) -> bool {
    place.host() == "localhost" || place.host().parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn matches(entry: &str, place: &HostPort) -> bool {
    if entry == "*" {
        return true;
    }
    if let Some((network, bits)) = entry.split_once('/') {
        return in_network(place, network, bits).unwrap_or(false);
    }
    let (host, port) = with_port(entry);
    if port.is_some_and(|port| port != place.port()) {
        return false;
    }
    let host = host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
    if let (Ok(entry), Ok(address)) = (host.parse::<IpAddr>(), place.host().parse::<IpAddr>()) {
        return entry == address;
    }
    let suffix = host.trim_start_matches('.');
    let below = place.host().strip_suffix(suffix);
    !suffix.is_empty() && below.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// An entry's port, if it ends in one. A bare IPv6 address has colons and no port.
fn with_port(entry: &str) -> (&str, Option<u16>) {
    if entry.parse::<IpAddr>().is_ok() {
        return (entry, None);
    }
    match entry.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().ok().or(Some(0))),
        None => (entry, None),
    }
}

fn in_network(place: &HostPort, network: &str, bits: &str) -> Option<bool> {
    let bits: u32 = bits.parse().ok()?;
    match (place.host().parse().ok()?, network.parse().ok()?) {
        (IpAddr::V4(address), IpAddr::V4(network)) => {
            let differ = (address.to_bits() ^ network.to_bits()).leading_zeros();
            Some(bits <= u32::BITS && differ >= bits)
        }
        (IpAddr::V6(address), IpAddr::V6(network)) => {
            let differ = (address.to_bits() ^ network.to_bits()).leading_zeros();
            Some(bits <= u128::BITS && differ >= bits)
        }
        _ => Some(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn excepted(place: &str, list: &str) -> bool {
        is_excepted(&HostPort::parse_connect_url(place).unwrap(), list)
    }

    #[test]
    fn list_excepts_what_it_names_and_nothing_else() {
        for (place, list, expected) in [
            ("connect.example.com", "", false),
            ("connect.example.com", "*", true),
            ("connect.example.com", "example.com", true),
            ("connect.example.com", "other.org, .Example.com", true),
            ("connect.example.com", "connect.example.com:443", true),
            ("connect.example.com", "connect.example.com:8443", false),
            ("connect.example.com", "connect.example.com:x", false),
            ("connect.example.com", "ample.com", false),
            ("connect.example.com", ".", false),
            ("example.com", "connect.example.com", false),
            ("192.0.2.7", "192.0.2.7", true),
            ("192.0.2.7", "192.0.2.0/24", true),
            ("192.0.2.7", "192.0.3.0/24", false),
            ("192.0.2.7", "192.0.3.0/0", true),
            ("192.0.2.7", "192.0.2.0/40", false),
            ("connect.example.com", "192.0.2.0/0", false),
            ("[2001:db8::1]:8443", "2001:db8::1", true),
            ("[2001:db8::1]:8443", "[2001:db8::1]:8443", true),
            ("[2001:db8::1]:8443", "2001:db8::/32", true),
            ("[2001:db8::1]:8443", "192.0.2.0/1", false),
        ] {
            assert_eq!(excepted(place, list), expected, "{place} {list}");
        }
    }

    #[test]
    fn this_machine_is_reached_without_a_proxy() {
        for place in ["localhost:1", "127.0.0.1", "[::1]:443"] {
            assert!(excepted(place, ""), "{place}");
        }
    }
}
