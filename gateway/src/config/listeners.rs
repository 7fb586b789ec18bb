//! Where the gateway listens.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

use adit::config::reader::{Object, Reader};
use adit::endpoint_url::{EndpointUrl, Scheme};

use super::trusted_proxies::TrustedProxies;

/// The addresses that the gateway listens on. The same address under `agents`, `https` and `tls` is one shared socket,
/// and what comes is told apart by its ClientHello.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listeners {
    /// Where agents connect; TLS. At least one.
    pub agents: Vec<SocketAddr>,
    /// HTTP without TLS.
    pub http: Vec<SocketAddr>,
    /// HTTP over TLS.
    pub https: Vec<SocketAddr>,
    /// TLS that the gateway does not open.
    pub tls: Vec<SocketAddr>,
    /// The ports of `tcp` endpoints.
    pub tcp: TcpListeners,
    /// Load balancers in front of them.
    pub trusted_proxies: TrustedProxies,
}

/// Where `tcp` endpoints listen: each on its own port, on all of these addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TcpListeners {
    /// The addresses. None: there are no public `tcp` endpoints.
    pub addresses: Vec<IpAddr>,
    /// The ports that agents may bind.
    pub agent_ports: AgentPorts,
}

/// The ports on which agents may bind public `tcp` endpoints, and of which the gateway chooses when they leave it the
/// choice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AgentPorts {
    /// None: only the configuration's own `tcp` endpoints are public.
    #[default]
    None,
    /// These.
    Between(RangeInclusive<u16>),
    /// Whatever the operating system has free; for trials.
    Any,
}

/// Why a text is not a set of ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortsError {
    /// Not `FIRST-LAST`.
    Form,
    /// The last port is below the first.
    Backwards,
}

impl Listeners {
    pub(super) fn read(section: Option<Object<'_>>) -> Self {
        let Some(mut section) = section else { return Self::default() };
        let listeners = Self {
            agents: addresses(&mut section, "agents"),
            http: addresses(&mut section, "http"),
            https: addresses(&mut section, "https"),
            tls: addresses(&mut section, "tls"),
            tcp: section.object("tcp").map(TcpListeners::read).unwrap_or_default(),
            trusted_proxies: section.object("trusted_proxies").map(TrustedProxies::read).unwrap_or_default(),
        };
        if !section.has("agents") {
            section.missing("agents", "where agents connect, such as 0.0.0.0:443");
        }
        listeners.check(section.reader());
        section.finish();
        listeners
    }

    /// Tells whether agents share a socket with visitors, so that their ClientHello has to tell them apart.
    #[must_use]
    pub fn agents_share(&self) -> bool {
        self.agents.iter().any(|address| self.https.contains(address) || self.tls.contains(address))
    }

    /// Tells whether `https` and `tls` endpoints share a socket, so that no two of them may have the same name.
    #[must_use]
    pub fn https_shares_with_tls(&self) -> bool {
        self.https.iter().any(|address| self.tls.contains(address))
    }

    /// What makes a public URL distinct on these listeners: of `tcp` the port alone, and a name is the same for `https`
    /// and `tls` where these share a socket. URLs of the same slot cannot both be served.
    #[must_use]
    pub fn slot<'a>(&self, url: &'a EndpointUrl) -> (Scheme, &'a str, u16) {
        match url.scheme() {
            Scheme::Tcp => (Scheme::Tcp, "", url.port()),
            Scheme::Tls if self.https_shares_with_tls() => (Scheme::Https, url.host(), url.port()),
            scheme @ (Scheme::Http | Scheme::Https | Scheme::Tls) => (scheme, url.host(), url.port()),
        }
    }

    /// Tells whether endpoints of this scheme have a listener.
    #[must_use]
    pub fn has(&self, scheme: Scheme) -> bool {
        match scheme {
            Scheme::Http => !self.http.is_empty(),
            Scheme::Https => !self.https.is_empty(),
            Scheme::Tls => !self.tls.is_empty(),
            Scheme::Tcp => !self.tcp.addresses.is_empty(),
        }
    }

    /// The listener that already has this port on an address of `tcp` endpoints.
    pub(super) fn holder_of_tcp_port(&self, port: u16) -> Option<(&'static str, SocketAddr)> {
        self.fixed().find(|(_, taken)| {
            self.tcp.addresses.iter().any(|address| overlap(*taken, SocketAddr::new(*address, port)))
        })
    }

    fn fixed(&self) -> impl Iterator<Item = (&'static str, SocketAddr)> {
        let lists = [("agents", &self.agents), ("http", &self.http), ("https", &self.https), ("tls", &self.tls)];
        lists.into_iter().flat_map(|(key, list)| list.iter().map(move |address| (key, *address)))
    }

    fn check(&self, reader: &Reader) {
        let all: Vec<_> = self.fixed().collect();
        for (index, (key, address)) in all.iter().enumerate() {
            let Some((other_key, other)) = all.iter().take(index).find(|other| clash(**other, (*key, *address))) else {
                continue;
            };
            let expected = if address != other {
                format!(
                    "cannot be opened beside {other}, which listeners.{other_key} has: write the same address in both, or another port"
                )
            } else if key == other_key {
                "is there twice: keep one of them".to_owned()
            } else {
                format!("is taken by listeners.{other_key}: http needs an address of its own")
            };
            reader.problem(&format!("listeners.{key}"), Some(address.to_string()), expected);
        }
        let AgentPorts::Between(ports) = &self.tcp.agent_ports else { return };
        let within = all.iter().find(|(_, taken)| {
            ports.contains(&taken.port())
                && self.tcp.addresses.iter().any(|ip| overlap(*taken, SocketAddr::new(*ip, taken.port())))
        });
        if let Some((key, taken)) = within {
            let expected = format!("must not contain port {}, which listeners.{key} has", taken.port());
            reader.problem("listeners.tcp.agent_ports", Some(self.tcp.agent_ports.to_string()), expected);
        }
    }
}

impl TcpListeners {
    fn read(mut section: Object<'_>) -> Self {
        let addresses = section.parsed_list("addresses", ADDRESSES_MAX, |text| {
            text.parse::<IpAddr>().map_err(|_| "must be an IP address without a port, such as 0.0.0.0 or ::")
        });
        let agent_ports = section.parsed("agent_ports", parse_ports).unwrap_or_default();
        if addresses.is_empty() && !section.has("addresses") {
            section.missing("addresses", "the addresses that tcp endpoints listen on, such as 0.0.0.0");
        }
        section.finish();
        Self { addresses, agent_ports }
    }
}

impl AgentPorts {
    /// Tells whether an agent may ask for this port.
    #[must_use]
    pub fn allows(&self, port: u16) -> bool {
        match self {
            Self::None => false,
            Self::Between(ports) => ports.contains(&port),
            Self::Any => true,
        }
    }
}

impl fmt::Display for AgentPorts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Between(ports) => write!(f, "{}-{}", ports.start(), ports.end()),
            Self::Any => f.write_str("any"),
        }
    }
}

impl fmt::Display for PortsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Form => "must be the first and the last port, such as \"20000-20999\", or \"any\"",
            Self::Backwards => "the last port must not be below the first",
        })
    }
}

impl std::error::Error for PortsError {}

fn addresses(section: &mut Object<'_>, key: &'static str) -> Vec<SocketAddr> {
    section.parsed_list(key, ADDRESSES_MAX, |text| {
        text.parse::<SocketAddr>().map_err(|_| "must be an IP address and a port, such as 0.0.0.0:443 or [::]:443")
    })
}

fn parse_ports(text: &str) -> Result<AgentPorts, PortsError> {
    if text == "any" {
        return Ok(AgentPorts::Any);
    }
    let port = |text: &str| text.trim().parse::<u16>().ok().filter(|port| *port > 0).ok_or(PortsError::Form);
    let (first, last) = text.split_once('-').ok_or(PortsError::Form)?;
    let (first, last) = (port(first)?, port(last)?);
    if last < first {
        return Err(PortsError::Backwards);
    }
    Ok(AgentPorts::Between(first..=last))
}

/// Two entries that cannot both be opened. The same address in two lists is one socket, unless one of them is HTTP.
fn clash(one: (&str, SocketAddr), other: (&str, SocketAddr)) -> bool {
    if one.1 != other.1 {
        return overlap(one.1, other.1);
    }
    // Port 0 is another port each time.
    one.0 == other.0 || (one.1.port() != 0 && (one.0 == "http" || other.0 == "http"))
}

/// The operating system refuses the second of two such sockets. IPv6 sockets do not take IPv4 connections here.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    one.port() == other.port()
        && one.port() != 0
        && one.is_ipv4() == other.is_ipv4()
        && (one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified())
}

/// Addresses of one kind. A host has a handful; each is a socket.
const ADDRESSES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(section: &Value) -> Result<Listeners, String> {
        let reader = Reader::new("gateway.yml");
        let listeners = Listeners::read(reader.object(section, "listeners"));
        reader.finish().map(|_| listeners).map_err(|errors| errors.to_string())
    }

    #[test]
    fn one_address_is_shared_and_a_lone_string_is_a_list() {
        let listeners = read(&json!({
            "agents": "0.0.0.0:443", "https": ["0.0.0.0:443", "[::]:443"], "tls": ["0.0.0.0:443"], "http": "0.0.0.0:80",
            "tcp": {"addresses": ["0.0.0.0", "::"], "agent_ports": "20000-20999"},
        }))
        .unwrap();
        assert!(listeners.agents_share());
        assert!(listeners.https_shares_with_tls());
        assert_eq!(listeners.https.len(), 2);
        assert_eq!(listeners.tcp.agent_ports, AgentPorts::Between(20000..=20999));
        assert_eq!(listeners.holder_of_tcp_port(80).map(|(key, _)| key), Some("http"));
        assert_eq!(listeners.holder_of_tcp_port(5432), None);
    }

    #[test]
    fn separate_addresses_are_not_shared() {
        let listeners =
            read(&json!({"agents": "0.0.0.0:4443", "https": "0.0.0.0:443", "tls": "0.0.0.0:8443"})).unwrap();
        assert!(!listeners.agents_share());
        assert!(!listeners.https_shares_with_tls());
        assert_eq!(listeners.tcp.agent_ports, AgentPorts::None);
    }

    #[test]
    fn agents_may_bind_only_the_ports_given() {
        assert!(!AgentPorts::None.allows(20000));
        assert!(AgentPorts::Any.allows(1));
        let ports = parse_ports("20000-20001").unwrap();
        assert!(ports.allows(20000) && ports.allows(20001));
        assert!(!ports.allows(19999) && !ports.allows(20002));
        assert!(parse_ports("1-65535").is_ok() && parse_ports("5-5").is_ok());
    }

    #[test]
    fn sockets_that_cannot_be_opened_together_are_refused() {
        let table = [
            (json!({"agents": "0.0.0.0:443", "http": "0.0.0.0:443"}), "listeners.http: 0.0.0.0:443: is taken"),
            (json!({"agents": "0.0.0.0:443", "https": "127.0.0.1:443"}), "listeners.https: 127.0.0.1:443: cannot"),
            (json!({"agents": ["0.0.0.0:443", "0.0.0.0:443"]}), "listeners.agents: 0.0.0.0:443: is there twice"),
            (
                json!({"agents": "0.0.0.0:443", "tcp": {"addresses": "127.0.0.1", "agent_ports": "400-500"}}),
                "listeners.tcp.agent_ports: 400-500: must not contain port 443",
            ),
        ];
        for (section, says) in table {
            let error = read(&section).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
        for section in [
            json!({"agents": "0.0.0.0:443", "https": "[::]:443"}),
            json!({"agents": "127.0.0.1:443", "https": "127.0.0.2:443"}),
            json!({"agents": "127.0.0.1:0", "http": "127.0.0.1:0", "https": "127.0.0.1:0"}),
            json!({"agents": "127.0.0.1:443", "tcp": {"addresses": "127.0.0.2", "agent_ports": "400-500"}}),
        ] {
            assert!(read(&section).is_ok(), "{section}");
        }
    }

    #[test]
    fn wrong_values_are_all_reported_with_what_would_be_right() {
        let error = read(&json!({
            "agents": ["443", ":443", "localhost:443"], "https": 443, "ttp": [],
            "tcp": {"addresses": ["0.0.0.0:22"], "agent_ports": "9-1"},
        }))
        .unwrap_err();
        for says in [
            "listeners.agents[0]: \"443\": must be an IP address and a port",
            "listeners.agents[1]: \":443\"",
            "listeners.agents[2]: \"localhost:443\"",
            "listeners.https: 443: must be a list of strings",
            "listeners.ttp: unknown key: did you mean \"http\"",
            "listeners.tcp.addresses[0]: \"0.0.0.0:22\": must be an IP address without a port",
            "listeners.tcp.agent_ports: \"9-1\": the last port must not be below the first",
        ] {
            assert!(error.contains(says), "{says}\nis not in\n{error}");
        }
        assert!(read(&json!({})).unwrap_err().contains("listeners.agents: is missing"));
        let error = read(&json!({"agents": "0.0.0.0:443", "tcp": {"agent_ports": "any"}})).unwrap_err();
        assert!(error.contains("listeners.tcp.addresses: is missing"), "{error}");
        for text in ["", "x", "1", "1-", "-1", "0-5", "1-65536", "1-2-3"] {
            assert_eq!(parse_ports(text), Err(PortsError::Form), "{text:?}");
        }
    }
}
