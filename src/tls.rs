//! The agent's TLS: whom it trusts, by which time, and which ciphers it prefers. No other file of the agent configures
//! rustls.
//!
//! Every configuration names its provider (ring), speaks TLS 1.3 and, unless it is built without, 1.2, and logs no keys.
//! The gateway's certificate is verified, always; those of upstreams unless the file says otherwise of one.

mod cipher_order;
mod clock;
mod endpoint;
mod presented;
mod reason;
mod roots;
mod termination;
mod unverified;
mod verifier;

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::ServerName;
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, RootCertStore};

use self::clock::Clock;
use self::presented::Noting;
use self::verifier::Verifier;
use crate::config::{AgentConfig, ConnectCas, PublicKeyPin, TlsCiphers, UpstreamTlsConfig};

pub use self::cipher_order::describe_order;
pub(crate) use self::cipher_order::facts;
pub use self::clock::clock_warning;
pub use self::endpoint::{EndpointTls, EndpointTlsError, endpoints_tls};
pub(crate) use self::presented::Presented;
pub(crate) use self::reason::{in_words, is_about_time, of_visitor};
pub use self::termination::{PemError, Termination, termination};

/// TLS to the gateway: the authorities of `connect_cas`, the keys of `connect_pins`, the ciphers of `tls_ciphers`; no
/// ALPN, by which a shared port 443 knows agents. `ssl_cert_file` replaces the usual paths of the system's bundle for
/// [`ConnectCas::Host`].
///
/// Reads files; call it before the event loop or rarely.
///
/// # Errors
/// The certificates cannot be read or there are none.
pub fn connect_config(agent: &AgentConfig) -> Result<Arc<ClientConfig>, TlsError> {
    let roots = connect_roots(&agent.connect_cas, agent.ssl_cert_file.as_deref())?;
    client_config(roots, agent.connect_pins.clone(), agent.tls_ciphers, Clock::REAL)
}

/// As [`connect_config`]; what the gateway presents is noted in `presented`, also when it is not accepted.
///
/// # Errors
/// As [`connect_config`].
pub(crate) fn connect_config_noting(agent: &AgentConfig, presented: &Presented) -> Result<Arc<ClientConfig>, TlsError> {
    let roots = connect_roots(&agent.connect_cas, agent.ssl_cert_file.as_deref())?;
    let provider = Arc::new(cipher_order::provider(agent.tls_ciphers));
    let verifier = verifier(roots, agent.connect_pins.clone(), &provider, Clock::REAL);
    client_config_of(provider, Arc::new(Noting::new(verifier, presented.clone())), None, Clock::REAL)
}

/// TLS to `tls://` and `https://` upstreams: the bundled authorities and those of the system, where it has any, so
/// that a private authority is trusted by adding it to the system's bundle. No ALPN: upstreams speak HTTP/1.1 or
/// whatever the visitor speaks.
///
/// Reads files; call it before the event loop or rarely, and only if an upstream needs it.
///
/// # Errors
/// `ssl_cert_file` is given and cannot be used; or there are neither bundled authorities nor a bundle of the system.
pub fn upstream_config(agent: &AgentConfig, tls: &UpstreamTlsConfig) -> Result<Arc<ClientConfig>, TlsError> {
    let provider = Arc::new(cipher_order::provider(agent.tls_ciphers));
    let verifier: Arc<dyn ServerCertVerifier> = match (tls.verify, &tls.ca_file) {
        (false, _) => Arc::new(unverified::Unverified(Arc::clone(&provider))),
        (true, Some(source)) => {
            verifier(termination::authorities([source]).map_err(TlsError::Pem)?, Vec::new(), &provider, Clock::REAL)
        }
        (true, None) => verifier(upstream_roots(agent.ssl_cert_file.as_deref())?, Vec::new(), &provider, Clock::REAL),
    };
    let identity = tls.client.as_ref().map(|client| termination::client_identity(client, &provider));
    let identity = identity.transpose().map_err(TlsError::Pem)?.map(SingleCertAndKey::from);
    client_config_of(provider, verifier, identity, Clock::REAL)
}

fn connect_roots(cas: &ConnectCas, ssl_cert_file: Option<&Path>) -> Result<RootCertStore, TlsError> {
    match cas {
        ConnectCas::Trusted => roots::bundled().ok_or(TlsError::NotBundled),
        ConnectCas::Host => roots::system(ssl_cert_file),
        ConnectCas::File(path) => roots::from_file(path),
    }
}

fn upstream_roots(ssl_cert_file: Option<&Path>) -> Result<RootCertStore, TlsError> {
    match (roots::bundled(), roots::system(ssl_cert_file)) {
        (Some(mut bundled), Ok(system)) => {
            bundled.extend(system.roots);
            Ok(bundled)
        }
        (Some(bundled), Err(TlsError::NoSystemBundle)) => Ok(bundled),
        (_, system) => system,
    }
}

/// The name that the peer's certificate must have: a DNS name, which is also sent as SNI, or an IP address, for which
/// there is no SNI. A zone (`fe80::1%eth0`) is no part of it.
///
/// # Errors
/// The host is neither.
pub fn server_name(host: &str) -> Result<ServerName<'static>, TlsError> {
    let address = host.split_once('%').map_or(host, |(address, _)| address);
    if let Ok(address) = address.parse::<IpAddr>() {
        return Ok(ServerName::IpAddress(address.into()));
    }
    ServerName::try_from(host.to_owned()).map_err(|_| TlsError::Name(host.to_owned()))
}

/// SHA-256. `None` only with a provider that has none.
pub(crate) fn sha256(bytes: &[u8]) -> Option<Vec<u8>> {
    // The provider's has no name of its own outside its cipher suites.
    let suite = rustls::crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256.tls13()?;
    Some(suite.common.hash_provider.hash(bytes).as_ref().to_vec())
}

/// Why there is no TLS configuration.
#[derive(Debug)]
pub enum TlsError {
    /// A certificate file cannot be read; the text says why.
    Read(PathBuf, String),
    /// A certificate file holds no certificate.
    Empty(PathBuf),
    /// The certificate with this number, counted from 1, is not usable as an authority.
    Certificate(PathBuf, usize, String),
    /// The program is built without the bundled authorities.
    NotBundled,
    /// None of the usual places has the system's bundle.
    NoSystemBundle,
    /// The host can be no name of a certificate.
    Name(String),
    /// A certificate, a key or an authority of an endpoint cannot be used.
    Pem(PemError),
    /// The provider and the protocol versions do not fit together.
    Provider(rustls::Error),
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(path, error) => write!(f, "{} cannot be read: {error}", path.display()),
            Self::Empty(path) => write!(f, "{} holds no certificate in PEM form", path.display()),
            Self::Certificate(path, number, error) => {
                write!(f, "certificate {number} of {} cannot be used as an authority: {error}", path.display())
            }
            Self::NotBundled => write!(
                f,
                "a PEM file or \"host\": this adit is built without the bundled authorities that \"trusted\" (the default) means"
            ),
            Self::NoSystemBundle => {
                write!(
                    f,
                    "the system has no certificate bundle at {} (install ca-certificates or set SSL_CERT_FILE)",
                    roots::SYSTEM_BUNDLES.join(", ")
                )
            }
            Self::Name(host) => write!(f, "{host:?} cannot be the name of a certificate"),
            Self::Pem(error) => error.fmt(f),
            Self::Provider(error) => write!(f, "TLS cannot be set up: {error}"),
        }
    }
}

impl std::error::Error for TlsError {}

fn client_config(
    roots: RootCertStore,
    pins: Vec<PublicKeyPin>,
    ciphers: TlsCiphers,
    clock: Clock,
) -> Result<Arc<ClientConfig>, TlsError> {
    let provider = Arc::new(cipher_order::provider(ciphers));
    let verifier = verifier(roots, pins, &provider, clock);
    client_config_of(provider, verifier, None, clock)
}

fn verifier(roots: RootCertStore, pins: Vec<PublicKeyPin>, provider: &CryptoProvider, clock: Clock) -> Arc<Verifier> {
    Arc::new(Verifier::new(roots, provider.signature_verification_algorithms, pins, clock.build))
}

fn client_config_of(
    provider: Arc<CryptoProvider>,
    verifier: Arc<dyn ServerCertVerifier>,
    identity: Option<SingleCertAndKey>,
    clock: Clock,
) -> Result<Arc<ClientConfig>, TlsError> {
    let builder = ClientConfig::builder_with_details(provider, Arc::new(clock))
        .with_protocol_versions(rustls::ALL_VERSIONS)
        .map_err(TlsError::Provider)?
        // "Dangerous" is the builder's word for every verifier that is not its own.
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match identity {
        Some(identity) => builder.with_client_cert_resolver(Arc::new(identity)),
        None => builder.with_no_client_auth(),
    };
    config.resumption = Resumption::in_memory_sessions(RESUMED_PEERS_MAX);
    Ok(Arc::new(config))
}

/// Peers whose session may be resumed, some KiB each. The gateway is one; the rest is for TLS upstreams.
const RESUMED_PEERS_MAX: usize = 8;

#[cfg(test)]
mod tests;
