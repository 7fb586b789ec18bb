//! The service behind an endpoint: where the agent connects to for each visitor.

use std::fmt;

use super::address::{AddressError, HostPort, without_trailing_slash};
use super::endpoint_tls::UpstreamTlsConfig;
use crate::endpoint_url::Scheme;
use crate::proxy_protocol::ProxyProtocol;

/// One upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// `tcp` and `http` are plain connections, `tls` and `https` TLS.
    pub scheme: Scheme,
    /// Where it listens.
    pub address: HostPort,
    /// The header that tells the upstream who the visitor is.
    pub proxy_protocol: ProxyProtocol,
    /// How `tls` and `https` are spoken to it.
    pub tls: UpstreamTlsConfig,
}

impl Upstream {
    /// Reads the forms of ngrok's file for an endpoint of `endpoint` scheme: `scheme://host:port`, `https://` alone,
    /// `host:port`, `host`, or a bare port, which means this machine. Without a scheme it is `http` for HTTP
    /// endpoints and `tcp` for others. The result has no PROXY header.
    ///
    /// # Errors
    /// What is missing or not supported.
    pub fn parse(text: &str, endpoint: Scheme) -> Result<Self, UpstreamError> {
        if text.is_empty() {
            return Err(UpstreamError::Empty);
        }
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) => (parse_scheme(scheme)?, without_trailing_slash(rest)),
            None => (if endpoint.is_http() { Scheme::Http } else { Scheme::Tcp }, text),
        };
        let address = if rest.is_empty() {
            local(scheme.default_port().filter(|_| scheme.is_http()))?
        } else if rest.bytes().all(|byte| byte.is_ascii_digit()) {
            HostPort::parse(&format!("{LOCAL_HOST}:{rest}"), None)?
        } else {
            HostPort::parse(rest, scheme.default_port().filter(|_| scheme.is_http()))?
        };
        Ok(Self { scheme, address, proxy_protocol: ProxyProtocol::None, tls: UpstreamTlsConfig::default() })
    }

    /// Whether the agent speaks TLS to it.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        match self.scheme {
            Scheme::Https | Scheme::Tls => true,
            Scheme::Http | Scheme::Tcp => false,
        }
    }
}

impl fmt::Display for Upstream {
    /// `scheme://host:port`, the port always written.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.as_str(), self.address)
    }
}

/// Why a text is not an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamError {
    /// Nothing there.
    Empty,
    /// The scheme is none that the agent can connect with.
    Scheme,
    /// `file://`, which ngrok's agent serves itself.
    FileServer,
    /// Host or port is missing or wrong.
    Address(AddressError),
}

impl From<AddressError> for UpstreamError {
    fn from(error: AddressError) -> Self {
        Self::Address(error)
    }
}

impl fmt::Display for UpstreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("must be a port, host:port or scheme://host:port"),
            Self::Scheme => f.write_str("the scheme must be http, https, tcp or tls"),
            Self::FileServer => f.write_str("serving files is not supported: run a web server and give its address"),
            Self::Address(AddressError::Path) => {
                f.write_str("a path is not allowed: visitors choose the path, write only scheme://host:port")
            }
            Self::Address(AddressError::PortMissing) => {
                f.write_str("tcp and tls upstreams need a port: write host:port")
            }
            Self::Address(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for UpstreamError {}

fn parse_scheme(scheme: &str) -> Result<Scheme, UpstreamError> {
    if scheme.eq_ignore_ascii_case("file") {
        return Err(UpstreamError::FileServer);
    }
    let known = [Scheme::Http, Scheme::Https, Scheme::Tls, Scheme::Tcp];
    known.into_iter().find(|known| known.as_str().eq_ignore_ascii_case(scheme)).ok_or(UpstreamError::Scheme)
}

/// This machine on a port that follows from the scheme.
fn local(port: Option<u16>) -> Result<HostPort, UpstreamError> {
    Ok(HostPort::parse(LOCAL_HOST, port)?)
}

/// What a bare port means in ngrok's file.
const LOCAL_HOST: &str = "localhost";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upstream_in_every_form_of_ngroks_file_is_read() {
        let table = [
            (Scheme::Https, "8080", "http://localhost:8080"),
            (Scheme::Http, "web", "http://web:80"),
            (Scheme::Https, "web:8080", "http://web:8080"),
            (Scheme::Https, "https://", "https://localhost:443"),
            (Scheme::Https, "http://", "http://localhost:80"),
            (Scheme::Https, "https://web", "https://web:443"),
            (Scheme::Https, "HTTPS://Web:8443/", "https://web:8443"),
            (Scheme::Https, "tcp://web:80", "tcp://web:80"),
            (Scheme::Https, "http://8080", "http://localhost:8080"),
            (Scheme::Tcp, "5432", "tcp://localhost:5432"),
            (Scheme::Tcp, "db:5432", "tcp://db:5432"),
            (Scheme::Tcp, "http://web:80", "http://web:80"),
            (Scheme::Tls, "8081", "tcp://localhost:8081"),
            (Scheme::Tls, "tls://db:8443", "tls://db:8443"),
            (Scheme::Tls, "tcp://[::1]:1", "tcp://[::1]:1"),
            (Scheme::Tls, "tls://8443", "tls://localhost:8443"),
            (Scheme::Tcp, "192.0.2.1:22", "tcp://192.0.2.1:22"),
        ];
        for (endpoint, text, expected) in table {
            let upstream = Upstream::parse(text, endpoint).map(|upstream| upstream.to_string());
            assert_eq!(upstream, Ok(expected.to_owned()), "{endpoint:?} {text}");
        }
    }

    #[test]
    fn wrong_upstream_names_its_fault() {
        let table = [
            (Scheme::Https, "", UpstreamError::Empty),
            (Scheme::Https, "file:///srv", UpstreamError::FileServer),
            (Scheme::Https, "ftp://x", UpstreamError::Scheme),
            (Scheme::Https, "http://web/path", UpstreamError::Address(AddressError::Path)),
            (Scheme::Https, "http://u:p@web", UpstreamError::Address(AddressError::UserInfo)),
            (Scheme::Https, "0", UpstreamError::Address(AddressError::Port)),
            (Scheme::Https, "70000", UpstreamError::Address(AddressError::Port)),
            (Scheme::Tcp, "tcp://", UpstreamError::Address(AddressError::PortMissing)),
            (Scheme::Tcp, "db", UpstreamError::Address(AddressError::PortMissing)),
            (Scheme::Tls, "tls://db", UpstreamError::Address(AddressError::PortMissing)),
        ];
        for (endpoint, text, expected) in table {
            assert_eq!(Upstream::parse(text, endpoint), Err(expected), "{endpoint:?} {text}");
        }
    }
}
