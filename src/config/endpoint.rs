//! The section `endpoints`: what the agent offers, and which upstream stands behind each of them.

use std::collections::HashMap;
use std::fmt;

use serde_json::Value;

use super::endpoint_tls::{TerminationConfig, read_termination, read_upstream_tls};
use super::reader::Object;
use super::upstream::Upstream;
use crate::endpoint_url::{EndpointUrl, RequestedUrl, Scheme};
use crate::proxy_protocol::ProxyProtocol;

/// One endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointConfig {
    /// Unique in the file; it appears in the log and at the gateway.
    pub name: String,
    /// The address asked for.
    pub url: RequestedUrl,
    /// Who can reach it.
    pub binding: Binding,
    /// The service behind it.
    pub upstream: Upstream,
    /// Set when the agent itself ends the visitors' TLS; only for `tls` addresses.
    pub termination: Option<TerminationConfig>,
    /// Whether other agents may offer the same address at the same time.
    pub pooling_enabled: bool,
    /// Free text for the gateway, at most `METADATA_BYTES_MAX`.
    pub metadata: String,
    /// Free text for people, at most [`DESCRIPTION_BYTES_MAX`].
    pub description: String,
    /// The policy that the gateway applies, as JSON or YAML text of at most [`TRAFFIC_POLICY_BYTES_MAX`]; the agent
    /// does not interpret it.
    pub traffic_policy: Option<String>,
}

/// Who can reach an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binding {
    /// Visitors of the gateway.
    Public,
    /// Only other endpoints of the account, through `forward-internal`.
    Internal,
}

impl Binding {
    /// The word of file and wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Internal => "internal",
        }
    }
}

impl fmt::Display for Binding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Reads all endpoints and compares them with each other.
pub(super) fn read_all(sections: Vec<Object<'_>>) -> Vec<EndpointConfig> {
    let mut endpoints = Vec::with_capacity(sections.len());
    let mut seen = Seen::default();
    for mut section in sections {
        let endpoint = read(&mut section, &mut seen);
        section.finish();
        endpoints.extend(endpoint);
    }
    endpoints
}

/// Where names and addresses occurred first.
#[derive(Default)]
struct Seen {
    names: HashMap<String, String>,
    urls: HashMap<EndpointUrl, (String, Pooling)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Pooling {
    Enabled,
    Off,
}

fn read(section: &mut Object<'_>, seen: &mut Seen) -> Option<EndpointConfig> {
    let name = read_name(section, seen);
    let url = read_url(section);
    let pooling_enabled = section.boolean("pooling_enabled").unwrap_or(false);
    if let Some(RequestedUrl::Exact(url)) = &url {
        let pooling = if pooling_enabled { Pooling::Enabled } else { Pooling::Off };
        compare_url(section, seen, url, pooling);
    }
    let binding = read_binding(section, url.as_ref());
    let scheme = url.as_ref().map_or(Scheme::Https, RequestedUrl::scheme);
    let upstream = read_upstream(section, scheme);
    let termination = read_termination(section, scheme == Scheme::Tls);
    let metadata = section.string_up_to("metadata", super::METADATA_BYTES_MAX).unwrap_or_default();
    let description = section.string_up_to("description", DESCRIPTION_BYTES_MAX).unwrap_or_default();
    let traffic_policy = read_policy(section);
    let ends_at_gateway = traffic_policy.as_ref().is_some_and(|policy| policy.contains(TERMINATE_TLS));
    if ends_at_gateway && termination.is_some() {
        let path = section.path_of("agent_tls_termination");
        let expected = "excludes terminate-tls in traffic_policy, which leaves no TLS to end here: remove one of them";
        section.reader().problem(&path, None, expected);
    }
    for (key, why) in REFUSED {
        section.refuse(key, why);
    }
    Some(EndpointConfig {
        name: name?,
        url: url?,
        binding: binding?,
        upstream: upstream?,
        termination,
        pooling_enabled,
        metadata,
        description,
        traffic_policy,
    })
}

fn read_name(section: &mut Object<'_>, seen: &mut Seen) -> Option<String> {
    let name = section.required_string("name")?;
    if name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
        section.problem("name", format!("must be at most {NAME_BYTES_MAX} bytes without control characters"));
        return None;
    }
    if let Some(first) = seen.names.insert(name.clone(), section.path().to_owned()) {
        section.problem("name", format!("is the name of {first} too: every endpoint needs its own"));
    }
    Some(name)
}

/// Absent: any `https` address, as for ngrok's agent.
fn read_url(section: &mut Object<'_>) -> Option<RequestedUrl> {
    if !section.has("url") {
        return Some(RequestedUrl::Assign { scheme: Scheme::Https });
    }
    section.parsed("url", RequestedUrl::parse)
}

fn compare_url(section: &Object<'_>, seen: &mut Seen, url: &EndpointUrl, pooling: Pooling) {
    let Some((first, other)) = seen.urls.get(url) else {
        seen.urls.insert(url.clone(), (section.path().to_owned(), pooling));
        return;
    };
    if pooling == Pooling::Off || *other == Pooling::Off {
        section.problem("url", format!("is the address of {first} too: change it, or set pooling_enabled on both"));
    }
}

/// At most one word. Absent: `internal` for names below `.internal`, else `public`.
fn read_binding(section: &mut Object<'_>, url: Option<&RequestedUrl>) -> Option<Binding> {
    let internal_name = match url {
        Some(RequestedUrl::Exact(url)) => Some(url.is_internal()),
        Some(RequestedUrl::Assign { .. }) => Some(false),
        None => None,
    };
    let words = section.strings("bindings", BINDINGS_MAX);
    let Some((_, word)) = words.first() else {
        return internal_name.map(|internal| if internal { Binding::Internal } else { Binding::Public });
    };
    match (word.as_str(), internal_name) {
        ("internal", Some(true) | None) => Some(Binding::Internal),
        ("public", Some(false) | None) => Some(Binding::Public),
        ("internal", Some(false)) => {
            section.problem("bindings", "\"internal\" needs a url whose host ends with .internal");
            None
        }
        ("public", Some(true)) => {
            section.problem("bindings", "\"public\" cannot have a url whose host ends with .internal");
            None
        }
        ("kubernetes", _) => {
            section.problem("bindings", "\"kubernetes\" is not supported: must be \"public\" or \"internal\"");
            None
        }
        _ => {
            section.problem("bindings", "must be \"public\" or \"internal\"");
            None
        }
    }
}

fn read_upstream(endpoint: &mut Object<'_>, scheme: Scheme) -> Option<Upstream> {
    let mut section = endpoint.required_object("upstream")?;
    let upstream = read_upstream_url(&mut section, scheme);
    let proxy_protocol = read_proxy_protocol(&mut section);
    let protocol = section.value("protocol");
    match protocol.map(Value::as_str) {
        None | Some(Some("http1")) => {}
        Some(Some("http2")) => section.problem("protocol", "HTTP/2 to upstreams is not supported: must be \"http1\""),
        Some(_) => section.problem("protocol", "must be \"http1\""),
    }
    if protocol.is_some() && !scheme.is_http() {
        section.problem("protocol", "is only for http and https endpoints: remove it");
    }
    // Without a usable url there is nothing to compare with.
    let tls = read_upstream_tls(&mut section, upstream.as_ref().is_none_or(Upstream::is_tls));
    section.finish();
    Some(Upstream { proxy_protocol, tls, ..upstream? })
}

fn read_upstream_url(section: &mut Object<'_>, scheme: Scheme) -> Option<Upstream> {
    // ngrok's files have bare ports, which YAML reads as numbers.
    if let Some(port) = section.value("url").and_then(Value::as_u64) {
        return match Upstream::parse(&port.to_string(), scheme) {
            Ok(upstream) => Some(upstream),
            Err(error) => {
                section.problem("url", error);
                None
            }
        };
    }
    section.required_parsed("url", |text| Upstream::parse(text, scheme))
}

fn read_proxy_protocol(section: &mut Object<'_>) -> ProxyProtocol {
    let Some(value) = section.value("proxy_protocol") else {
        return ProxyProtocol::None;
    };
    match (value.as_u64(), value.as_str()) {
        (Some(1), _) | (_, Some("1")) => ProxyProtocol::V1,
        (Some(2), _) | (_, Some("2")) => ProxyProtocol::V2,
        _ => {
            section.problem("proxy_protocol", "must be 1 or 2; leave it out for none");
            ProxyProtocol::None
        }
    }
}

fn read_policy(section: &mut Object<'_>) -> Option<String> {
    let text = match section.value("traffic_policy")? {
        Value::String(text) if text.trim().is_empty() => return None,
        Value::String(text) => text.clone(),
        policy @ Value::Object(_) => policy.to_string(),
        _ => {
            section.problem("traffic_policy", "must be an object, or a string that holds JSON or YAML");
            return None;
        }
    };
    if text.len() > TRAFFIC_POLICY_BYTES_MAX {
        let path = section.path_of("traffic_policy");
        section.reader().problem(&path, None, format!("must be at most {TRAFFIC_POLICY_BYTES_MAX} bytes long"));
        return None;
    }
    Some(text)
}

/// The action by which the gateway ends TLS. The agent does not read policies, but a text with this word in it has no other
/// use for it.
const TERMINATE_TLS: &str = "terminate-tls";

/// Keys of ngrok's agent that are not supported and whose silence would change who can read or reach the upstream.
const REFUSED: [(&str, &str); 1] =
    [("traffic_policy_file", "is not supported: write the policy here as traffic_policy")];

/// Each takes one request of its own after every reconnect, and a person has to oversee them.
pub const ENDPOINTS_MAX: usize = 500;

/// A bind request with it stays well below the 1 MiB that a message may have.
pub const TRAFFIC_POLICY_BYTES_MAX: usize = 256 * 1024;

/// ngrok's limit.
pub const DESCRIPTION_BYTES_MAX: usize = 255;

/// As long as a description; names are what log lines begin with.
const NAME_BYTES_MAX: usize = 255;

/// ngrok's rule: only one binding per endpoint.
const BINDINGS_MAX: usize = 1;
