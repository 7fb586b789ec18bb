//! Which public URLs agents may bind, as far as the gateway decides it; the credential's access rules come on top.

use std::fmt;

use adit::config::reader::Object;
use adit::endpoint_url::{EndpointUrl, EndpointUrlError, Scheme};

use super::Config;
use super::listeners::AgentPorts;
use crate::acl::HostPattern;

/// The names that agents may use in public. Without any, agents have internal endpoints only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublicNames {
    base_domain: Option<String>,
    domains: Vec<HostPattern>,
}

/// Why an agent may not have a public URL on this gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublicRefusal {
    /// There is no listener for the scheme.
    NoListener(Scheme),
    /// The name is not among those that are for agents.
    Name,
    /// The TCP port is not among those that are for agents.
    Port(AgentPorts),
    /// It is the name that agents connect to.
    ConnectName,
    /// It is the name at which providers hand log-ins over.
    CallbackHost,
    /// A cloud endpoint has the URL, or one that cannot be told from it.
    CloudEndpoint(EndpointUrl),
}

impl PublicNames {
    pub(super) fn read(file: &mut Object<'_>) -> Self {
        let base_domain = file.parsed("base_domain", parse_name);
        let domains = file.parsed_list("public_domains", DOMAINS_MAX, parse_public_pattern);
        Self { base_domain, domains }
    }

    /// The domain below which the gateway gives names to agents that leave it the choice.
    #[must_use]
    pub fn base_domain(&self) -> Option<&str> {
        self.base_domain.as_deref()
    }

    /// Tells whether agents may have this name in public: below the base domain, or in one of the public domains.
    #[must_use]
    pub fn allows(&self, host: &str) -> bool {
        let below_base = self.base_domain.as_ref().is_some_and(|base| is_below(host, base));
        below_base || self.domains.iter().any(|pattern| pattern.covers(host))
    }
}

impl Config {
    /// Checks whether agents may have a public URL here. Of internal URLs it knows nothing.
    ///
    /// # Errors
    ///
    /// See [`PublicRefusal`]; [`PublicRefusal::code`] is what the agent is told.
    pub fn check_public(&self, url: &EndpointUrl) -> Result<(), PublicRefusal> {
        let is_open = url.scheme() != Scheme::Tcp || self.listeners.tcp.agent_ports != AgentPorts::None;
        let has_listener = is_open && self.listeners.has(url.scheme());
        if !has_listener {
            return Err(PublicRefusal::NoListener(url.scheme()));
        }
        if url.scheme() == Scheme::Tcp {
            self.check_public_tcp(url)?;
        } else {
            if self.connect.names.iter().any(|name| url.host() == name) {
                return Err(PublicRefusal::ConnectName);
            }
            if self.is_callback_host(url.host()) {
                return Err(PublicRefusal::CallbackHost);
            }
            if !self.public_names.allows(url.host()) {
                return Err(PublicRefusal::Name);
            }
        }
        let cloud = self.cloud_endpoints.iter().find(|cloud| self.collide(&cloud.url, url));
        cloud.map_or(Ok(()), |cloud| Err(PublicRefusal::CloudEndpoint(cloud.url.clone())))
    }

    /// Tells whether nothing but log-ins on their way back is served at a name.
    #[must_use]
    pub fn is_callback_host(&self, host: &str) -> bool {
        self.log_ins.callback_host.as_ref().is_some_and(|callback| callback.host() == host)
    }

    /// Checks the same for agents of one account. A name that a cloud endpoint of another account has is not theirs with
    /// any scheme or port: to a browser, all of these are one site.
    ///
    /// # Errors
    ///
    /// See [`PublicRefusal`].
    pub fn check_public_for(&self, account: &str, url: &EndpointUrl) -> Result<(), PublicRefusal> {
        self.check_public(url)?;
        let is_foreign = |cloud: &EndpointUrl| cloud.host() == url.host() && cloud.scheme() != Scheme::Tcp;
        let foreign = self.cloud_endpoints.iter().find(|cloud| *cloud.account != *account && is_foreign(&cloud.url));
        match foreign.filter(|_| url.scheme() != Scheme::Tcp) {
            Some(cloud) => Err(PublicRefusal::CloudEndpoint(cloud.url.clone())),
            None => Ok(()),
        }
    }

    /// Tells whether two public URLs cannot both be served: the same one, the same TCP port whatever the names, or one
    /// name as both `https` and `tls` where these share a socket.
    #[must_use]
    pub fn collide(&self, one: &EndpointUrl, other: &EndpointUrl) -> bool {
        self.listeners.slot(one) == self.listeners.slot(other)
    }

    /// The name in the URLs of `tcp` endpoints that the gateway chooses an address for. A port has only one endpoint
    /// whatever the name, so any name of the gateway will do.
    #[must_use]
    pub fn tcp_host(&self) -> Option<&str> {
        self.public_names.base_domain().or(self.connect.names.first().map(String::as_str))
    }

    fn check_public_tcp(&self, url: &EndpointUrl) -> Result<(), PublicRefusal> {
        let ports = &self.listeners.tcp.agent_ports;
        if !ports.allows(url.port()) {
            return Err(PublicRefusal::Port(ports.clone()));
        }
        let is_ours = self.tcp_host() == Some(url.host());
        if is_ours || self.public_names.allows(url.host()) { Ok(()) } else { Err(PublicRefusal::Name) }
    }
}

impl PublicRefusal {
    /// The number of its `ERR_NGROK_` code.
    #[must_use]
    pub const fn code(&self) -> u32 {
        match self {
            Self::NoListener(Scheme::Tcp) | Self::Port(_) => 308,
            Self::NoListener(Scheme::Http | Scheme::Https | Scheme::Tls)
            | Self::Name
            | Self::ConnectName
            | Self::CallbackHost => 316,
            Self::CloudEndpoint(_) => 334,
        }
    }
}

impl fmt::Display for PublicRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoListener(scheme) => write!(f, "this gateway has no public {scheme} endpoints for agents"),
            Self::Name => f.write_str(
                "this gateway does not give this name to agents in public; its operator lists such names in public_domains",
            ),
            Self::Port(ports) => write!(f, "public tcp endpoints of agents have a port in {ports} on this gateway"),
            Self::ConnectName => f.write_str("this is the name that agents connect to"),
            Self::CallbackHost => f.write_str("this is the name at which providers hand log-ins over"),
            Self::CloudEndpoint(url) => write!(f, "the gateway itself has the endpoint {url}"),
        }
    }
}

impl std::error::Error for PublicRefusal {}

/// A plain public name: no wildcard, no port, no address, not internal.
pub(super) fn parse_name(text: &str) -> Result<String, String> {
    const EXPECTED: &str = "must be a plain name such as connect.example.com";
    let url = EndpointUrl::from_authority(Scheme::Https, text).map_err(|error| error.to_string())?;
    let is_plain = !url.is_wildcard() && !url.is_internal() && url.ip().is_none() && !text.contains(':');
    if is_plain { Ok(url.host().to_owned()) } else { Err(EXPECTED.to_owned()) }
}

fn parse_public_pattern(text: &str) -> Result<HostPattern, String> {
    let pattern: HostPattern = text.parse().map_err(|error: EndpointUrlError| error.to_string())?;
    if pattern.to_string().ends_with(".internal") {
        return Err("names below .internal are never public: agents may bind them without this".to_owned());
    }
    Ok(pattern)
}

fn is_below(host: &str, domain: &str) -> bool {
    host.strip_suffix(domain).is_some_and(|below| below.len() > 1 && below.ends_with('.'))
}

/// Each Bind of a public URL is checked against all of them.
const DOMAINS_MAX: usize = 1_000;
