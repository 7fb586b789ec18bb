//! TLS of an endpoint's two sides: what visitors meet when the agent itself ends TLS (`agent_tls_termination`), and what
//! a `tls://` or `https://` upstream has to show (`upstream.tls`).

use super::pem::PemSource;
use super::problem::{SECRET_SHOWN, shown_text};
use super::reader::Object;

/// The agent ends the visitor's TLS: the gateway passes ciphertext and cannot read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TerminationConfig {
    /// The certificate that visitors see, then the authorities between it and a root.
    pub certificate: PemSource,
    /// Its private key.
    pub private_key: PemSource,
    /// Whose certificates visitors must have. Empty: none is asked for. At most [`CLIENT_CAS_MAX`] sources.
    pub client_cas: Vec<PemSource>,
    /// What is offered through ALPN, the most wanted first, at most [`ALPN_MAX`]. Empty: the visitor's list is ignored.
    pub alpn: Vec<String>,
}

/// How the agent speaks TLS to an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamTlsConfig {
    /// Whether the upstream's certificate is verified. On unless the file says otherwise.
    pub verify: bool,
    /// Whose certificates the upstream may have, and no others. Absent: the bundled and the system's authorities.
    pub ca_file: Option<PemSource>,
    /// The name that the certificate must have and that is sent as SNI. Absent: the host of the upstream's url.
    pub server_name: Option<String>,
    /// What the agent shows when the upstream asks for a certificate.
    pub client: Option<ClientIdentity>,
}

impl Default for UpstreamTlsConfig {
    fn default() -> Self {
        Self { verify: true, ca_file: None, server_name: None, client: None }
    }
}

/// A certificate of the agent's own and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientIdentity {
    /// The certificate, then the authorities between it and a root.
    pub certificate: PemSource,
    /// Its private key.
    pub private_key: PemSource,
}

/// Reads `agent_tls_termination` of an endpoint; `None` when absent or after a problem was recorded.
pub(super) fn read_termination(endpoint: &mut Object<'_>, is_tls: bool) -> Option<TerminationConfig> {
    let mut section = endpoint.object("agent_tls_termination")?;
    if !is_tls {
        endpoint.problem("agent_tls_termination", "is only for tls:// endpoints: change the url, or remove it");
    }
    let certificate = read_pem(&mut section, "server_certificate", Presence::Required);
    let private_key = read_pem(&mut section, "server_private_key", Presence::Required);
    let client_cas = read_client_cas(&mut section);
    let alpn = section.parsed_list("alpn_protocols", ALPN_MAX, parse_alpn);
    section.finish();
    Some(TerminationConfig { certificate: certificate?, private_key: private_key?, client_cas, alpn })
}

/// Reads `tls` of an upstream; the default when absent.
pub(super) fn read_upstream_tls(upstream: &mut Object<'_>, is_tls: bool) -> UpstreamTlsConfig {
    let Some(mut section) = upstream.object("tls") else { return UpstreamTlsConfig::default() };
    if !is_tls {
        upstream.problem("tls", "is only for tls:// and https:// upstreams: change the url, or remove it");
    }
    let verify = section.boolean("verify").unwrap_or(true);
    if !verify {
        section.warn("verify", "is off: anybody on the way to this upstream can read and change what passes");
    }
    let ca_file = read_pem(&mut section, "ca_file", Presence::Optional);
    let server_name = section.parsed("server_name", parse_server_name);
    if !verify && ca_file.is_some() {
        section.problem("ca_file", "has no effect while verify is false: remove one of them");
    }
    let certificate = read_pem(&mut section, "client_certificate", Presence::Optional);
    let private_key = read_pem(&mut section, "client_key", Presence::Optional);
    let client = match (certificate, private_key) {
        (Some(certificate), Some(private_key)) => Some(ClientIdentity { certificate, private_key }),
        (None, None) => None,
        (Some(_), None) => {
            section.missing("client_key", "client_certificate needs its private key");
            None
        }
        (None, Some(_)) => {
            section.missing("client_certificate", "client_key needs its certificate");
            None
        }
    };
    section.finish();
    UpstreamTlsConfig { verify, ca_file, server_name, client }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Presence {
    Required,
    Optional,
}

/// A source that no message shows whole: it may be a key.
fn read_pem(section: &mut Object<'_>, key: &'static str, presence: Presence) -> Option<PemSource> {
    if !section.has(key) {
        if presence == Presence::Required {
            section.missing(key, "the path of a PEM file, or the PEM text itself, is needed");
        }
        return None;
    }
    let text = section.secret(key)?;
    match PemSource::parse(&text) {
        Ok(source) => Some(source),
        Err(error) => {
            section.secret_problem(key, error);
            None
        }
    }
}

fn read_client_cas(section: &mut Object<'_>) -> Vec<PemSource> {
    let mut sources = Vec::new();
    for (path, text) in section.strings("mutual_tls_certificate_authorities", CLIENT_CAS_MAX) {
        match PemSource::parse(&text) {
            Ok(source) => sources.push(source),
            Err(error) => {
                let value = if text.contains('\n') { SECRET_SHOWN.to_owned() } else { shown_text(&text) };
                section.reader().problem(&path, Some(value), error);
            }
        }
    }
    if sources.is_empty() && section.has("mutual_tls_certificate_authorities") {
        section.problem("mutual_tls_certificate_authorities", "must name an authority; leave it out to ask for none");
    }
    sources
}

/// RFC 7301, section 3.1: 1 to 255 bytes.
fn parse_alpn(text: &str) -> Result<String, &'static str> {
    if text.is_empty() || text.len() > 255 {
        return Err("must be the name of a protocol, such as \"h2\", \"http/1.1\" or \"postgresql\"");
    }
    Ok(text.to_owned())
}

fn parse_server_name(text: &str) -> Result<String, &'static str> {
    match crate::tls::server_name(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err("must be a DNS name or an IP address"),
    }
}

/// One for each team that issues certificates for visitors; each file may hold several.
pub const CLIENT_CAS_MAX: usize = 16;

/// A service speaks one or two protocols.
pub const ALPN_MAX: usize = 16;
