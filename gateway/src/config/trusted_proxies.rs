//! Load balancers in front of the gateway, which say whom their connections are from.

use std::net::IpAddr;

use adit::config::problem::shown;
use adit::config::reader::Object;
use serde_json::Value;

use super::networks::parse_network;
use crate::networks::{NETWORKS_MAX, NetworkSet};

/// Who begins its connections with a PROXY header that counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies {
    /// Their addresses.
    pub networks: NetworkSet,
    /// The gateway's ports that they do it on; none: on all.
    pub ports: Vec<u16>,
}

impl TrustedProxies {
    /// Tells whether a connection from this address to this port of ours has to begin with a header.
    #[must_use]
    pub fn announces(&self, peer: IpAddr, port: u16) -> bool {
        (self.ports.is_empty() || self.ports.contains(&port)) && self.networks.contains(peer)
    }

    pub(super) fn read(mut section: Object<'_>) -> Self {
        let networks: NetworkSet = section.parsed_list("networks", NETWORKS_MAX, parse_network).into_iter().collect();
        let ports = read_ports(&mut section);
        let has_none = section.value("networks").is_none_or(|value| value.as_array().is_some_and(Vec::is_empty));
        if has_none {
            section.missing("networks", "the addresses of the proxies, such as 10.0.0.5 or 10.0.0.0/24");
        }
        let everywhere = [IpAddr::from([0; 4]), IpAddr::from([0; 16])];
        if everywhere.iter().any(|address| networks.find(*address).is_some_and(|network| network.prefix_len() == 0)) {
            section.warn("networks", "holds all addresses, so anybody can say to be anybody");
        }
        section.finish();
        Self { networks, ports }
    }
}

fn read_ports(section: &mut Object<'_>) -> Vec<u16> {
    let path = section.path_of("ports");
    let Some(value) = section.value("ports") else { return Vec::new() };
    let alone = std::slice::from_ref(value);
    let items = value.as_array().map_or(alone, Vec::as_slice);
    if items.is_empty() || items.len() > PORTS_MAX {
        section.problem("ports", format_args!("must have 1 to {PORTS_MAX} ports; leave the key out for all"));
        return Vec::new();
    }
    let mut ports = Vec::new();
    for (index, item) in items.iter().enumerate() {
        match port(item) {
            Some(port) => ports.push(port),
            None => {
                let path = if value.is_array() { format!("{path}[{index}]") } else { path.clone() };
                section.reader().problem(&path, Some(shown(item)), "must be a port of the gateway, such as 443");
            }
        }
    }
    ports
}

fn port(item: &Value) -> Option<u16> {
    item.as_u64().and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0)
}

/// More than that are all.
const PORTS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use adit::config::reader::Reader;
    use serde_json::json;

    use super::*;

    fn read(section: &Value) -> Result<(TrustedProxies, usize), String> {
        let reader = Reader::new("gateway.yml");
        let proxies = TrustedProxies::read(reader.object(section, "listeners.trusted_proxies").unwrap());
        reader.finish().map(|warnings| (proxies, warnings.len())).map_err(|errors| errors.to_string())
    }

    #[test]
    fn header_is_due_from_their_addresses_at_their_ports() {
        let announces =
            |section: Value, peer: &str, port| read(&section).unwrap().0.announces(peer.parse().unwrap(), port);
        let some = || json!({"networks": ["10.0.0.0/24", "2001:db8::5"], "ports": [443, 80]});
        for (peer, port, expected) in [
            ("10.0.0.5", 443, true),
            ("::ffff:10.0.0.5", 80, true),
            ("2001:db8::5", 443, true),
            ("10.0.0.5", 8443, false),
            ("10.0.1.5", 443, false),
            ("2001:db8::6", 443, false),
        ] {
            assert_eq!(announces(some(), peer, port), expected, "{peer} {port}");
        }
        assert!(announces(json!({"networks": "10.0.0.5"}), "10.0.0.5", 1));
        assert!(announces(json!({"networks": "10.0.0.5", "ports": 7}), "10.0.0.5", 7));
        assert!(!TrustedProxies::default().announces([127, 0, 0, 1].into(), 443));
    }

    #[test]
    fn everybody_as_a_proxy_is_worth_a_warning() {
        assert_eq!(read(&json!({"networks": ["0.0.0.0/0"]})).unwrap().1, 1);
        assert_eq!(read(&json!({"networks": ["::/0"]})).unwrap().1, 1);
        assert_eq!(read(&json!({"networks": ["0.0.0.0/1", "10.0.0.0/8"]})).unwrap().1, 0);
    }

    #[test]
    fn wrong_values_are_reported_with_what_would_be_right() {
        let section = |path: &str| format!("listeners.trusted_proxies.{path}");
        for (value, says) in [
            (json!({}), section("networks: is missing")),
            (json!({"networks": []}), section("networks: is missing")),
            (json!({"networks": ["lb.example.com"]}), section("networks[0]: \"lb.example.com\": must be an address")),
            (json!({"networks": ["10.0.0.1/8"]}), section("networks[0]: \"10.0.0.1/8\": has bits beyond its prefix")),
            (json!({"networks": ["10.0.0.1"], "ports": []}), section("ports: a list: must have 1 to 64 ports")),
            (json!({"networks": ["10.0.0.1"], "ports": [443, "80"]}), section("ports[1]: \"80\": must be a port")),
            (json!({"networks": ["10.0.0.1"], "ports": [0]}), section("ports[0]: 0: must be a port")),
            (json!({"networks": ["10.0.0.1"], "ports": 65536}), section("ports: 65536: must be a port")),
            (json!({"networks": ["10.0.0.1"], "addresses": 1}), section("addresses: unknown key")),
        ] {
            let error = read(&value).unwrap_err();
            assert!(error.contains(&says), "{says}\nis not in\n{error}");
        }
        let many: Vec<Value> = vec![443.into(); PORTS_MAX + 1];
        assert!(read(&json!({"networks": ["10.0.0.1"], "ports": many})).unwrap_err().contains("1 to 64 ports"));
    }
}
