//! TLS that ends in the agent: its certificate, and whose certificates visitors must have. And certificates and keys
//! from the configuration, also those that the agent shows to upstreams.

use std::fmt;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ServerSessionMemoryCache, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig, SignatureAlgorithm};

use super::clock::Clock;
use super::{cipher_order, roots};
use crate::config::{ClientIdentity, PemSource, TerminationConfig, TlsCiphers};

/// What an endpoint needs that ends its visitors' TLS itself.
#[derive(Clone, Debug)]
pub struct Termination {
    /// The configuration of one connection.
    pub config: Arc<ServerConfig>,
    /// Whether the key is an RSA key: each handshake then costs a small CPU many times what an ECDSA key does.
    pub has_rsa_key: bool,
}

/// Which PEM text of an endpoint cannot be used, and why. Nothing of a key is in it.
#[derive(Debug, PartialEq, Eq)]
pub enum PemError {
    /// A certificate.
    Certificate(String),
    /// A private key.
    PrivateKey(String),
    /// A certificate authority.
    Authority(String),
}

impl fmt::Display for PemError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Certificate(text) | Self::PrivateKey(text) | Self::Authority(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for PemError {}

/// Reads certificate, key and authorities. The agent's order of ciphers counts and not the visitor's: its CPU is the
/// weaker one.
///
/// Reads files; call it before the event loop or rarely.
///
/// # Errors
/// What cannot be used, and why.
pub fn termination(termination: &TerminationConfig, ciphers: TlsCiphers) -> Result<Termination, PemError> {
    // A condition here and not a call: only thus does the compiler know, and leave out what would follow.
    if !cfg!(feature = "own-certificates") {
        return Err(not_built());
    }
    let provider = Arc::new(cipher_order::provider(ciphers));
    let certified = certified_key(&termination.certificate, &termination.private_key, &provider)?;
    let has_rsa_key = certified.key.algorithm() == SignatureAlgorithm::RSA;
    let builder = ServerConfig::builder_with_details(Arc::clone(&provider), Arc::new(Clock::REAL))
        .with_protocol_versions(rustls::ALL_VERSIONS)
        .map_err(|error| PemError::Certificate(error.to_string()))?;
    let builder = if termination.client_cas.is_empty() {
        builder.with_no_client_auth()
    } else {
        let authorities = Arc::new(authorities(&termination.client_cas)?);
        let verifier = WebPkiClientVerifier::builder_with_provider(authorities, provider)
            .build()
            .map_err(|error| PemError::Authority(error.to_string()))?;
        builder.with_client_cert_verifier(verifier)
    };
    let mut config = builder.with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(certified)));
    config.ignore_client_order = true;
    config.alpn_protocols = termination.alpn.iter().map(|name| name.clone().into_bytes()).collect();
    config.session_storage = ServerSessionMemoryCache::new(RESUMED_VISITORS_MAX);
    Ok(Termination { config: Arc::new(config), has_rsa_key })
}

/// The certificate and key that the agent shows to an upstream.
pub(super) fn client_identity(identity: &ClientIdentity, provider: &CryptoProvider) -> Result<CertifiedKey, PemError> {
    certified_key(&identity.certificate, &identity.private_key, provider)
}

fn not_built() -> PemError {
    PemError::Certificate("this adit is built without certificates of its own".to_owned())
}

fn certified_key(
    certificate: &PemSource,
    key: &PemSource,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, PemError> {
    if !cfg!(feature = "own-certificates") {
        return Err(not_built());
    }
    let chain = certificates(certificate).map_err(PemError::Certificate)?;
    let signing_key = private_key(key)
        .and_then(|der| {
            let loaded = provider.key_provider.load_private_key(der);
            loaded.map_err(|error| format!("{key} cannot be used as a private key: {error}"))
        })
        .map_err(PemError::PrivateKey)?;
    let certified = CertifiedKey::new(chain, signing_key);
    match certified.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => Ok(certified),
        Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::KeyMismatch)) => {
            Err(PemError::PrivateKey(format!("{key} is not the key of the certificate in {certificate}")))
        }
        Err(error) => Err(PemError::Certificate(format!("{certificate} cannot be used as a certificate: {error}"))),
    }
}

pub(super) fn authorities<'a>(sources: impl IntoIterator<Item = &'a PemSource>) -> Result<RootCertStore, PemError> {
    let mut store = RootCertStore::empty();
    for source in sources {
        for certificate in certificates(source).map_err(PemError::Authority)? {
            store.add(certificate).map_err(|error| {
                PemError::Authority(format!("{source} holds what cannot be used as an authority: {error}"))
            })?;
        }
    }
    Ok(store)
}

/// The certificates of a PEM text, at least one; other sections are passed over.
fn certificates(source: &PemSource) -> Result<Vec<CertificateDer<'static>>, String> {
    let pem = read(source)?;
    let sections: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).take(CERTIFICATES_MAX).collect();
    let certificates = sections.map_err(|error| format!("{source} is not PEM: {error}"))?;
    if certificates.is_empty() {
        return Err(format!("{source} holds no certificate in PEM form"));
    }
    Ok(certificates)
}

fn private_key(source: &PemSource) -> Result<PrivateKeyDer<'static>, String> {
    let pem = read(source)?;
    // The parser's own words could quote the text.
    PrivateKeyDer::from_pem_slice(&pem).map_err(|_| {
        format!("{source} holds no private key in PEM form (PKCS #8, PKCS #1 or SEC 1, without a password)")
    })
}

fn read(source: &PemSource) -> Result<Vec<u8>, String> {
    match source {
        PemSource::Inline(text) => Ok(text.expose().as_bytes().to_vec()),
        PemSource::File(path) => {
            roots::read_bounded(path).map_err(|error| format!("{} cannot be read: {error}", path.display()))
        }
    }
}

/// A chain has three or four, a list of authorities rarely more than ten.
const CERTIFICATES_MAX: usize = 64;

/// Visitors whose session may be resumed, some KiB each. A resumed handshake needs no signature, which is what is dear.
const RESUMED_VISITORS_MAX: usize = 64;
