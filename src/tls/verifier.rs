//! Whether a server's certificate is accepted. webpki judges the chain to an authority, the name and the signatures,
//! always; what is added here is more precise about time, and stricter where keys are pinned.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme};

use super::clock::unix;
use crate::config::PublicKeyPin;
use crate::wall_time::WallTime;

/// A verifier for one purpose: the gateway, or upstreams.
///
/// - A certificate that is not valid at this time is refused for its time only if nothing else is wrong with it: the
///   chain and the name are judged as of a time when it is valid. So the certificate of a captive portal is not taken
///   for a matter of the clock.
/// - With pins, the server's own certificate (the leaf) has to have one of these keys, and the system's clock is not
///   asked: there has to be a moment, not before `build`, at which the whole chain is valid. A certificate made after
///   the build passes thereby; one that had expired before it does not.
///
/// It calls webpki as rustls's own verifier does when that has no revocation lists, and spares the code for those.
pub(super) struct Verifier {
    roots: RootCertStore,
    algorithms: WebPkiSupportedAlgorithms,
    pins: Vec<PublicKeyPin>,
    build: WallTime,
}

// What is derived would be in the binary for nobody to call.
impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verifier")
    }
}

impl Verifier {
    pub(super) fn new(
        roots: RootCertStore,
        algorithms: WebPkiSupportedAlgorithms,
        pins: Vec<PublicKeyPin>,
        build: WallTime,
    ) -> Self {
        Self { roots, algorithms, pins, build }
    }

    fn check_pin(&self, leaf: &CertificateDer<'_>) -> Result<(), Error> {
        let shown = pin_of(leaf)?;
        if self.pins.contains(&shown) {
            return Ok(());
        }
        Err(Refusal::Pin(shown).into())
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let leaf = ParsedCertificate::try_from(end_entity)?;
        let verify = |time| {
            let algorithms = self.algorithms.all;
            verify_server_cert_signed_by_trust_anchor(&leaf, &self.roots, intermediates, time, algorithms)?;
            verify_server_name(&leaf, server_name).map(|()| ServerCertVerified::assertion())
        };
        if self.pins.is_empty() {
            return verify(now).map_err(|error| without_time(error, verify));
        }
        let verified = verify_since(unix(self.build), verify)?;
        self.check_pin(end_entity)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// What only a gateway with pins can be refused for.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The chain and the name are right, and the key is not one of the pinned ones.
    Pin(PublicKeyPin),
    /// One certificate of the chain ends before another begins.
    NeverValid,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pin(shown) => write!(
                f,
                "the gateway's certificate has the public key {shown}, which agent.connect_pin does not name (if the \
                 gateway was given another key on purpose, add it there)"
            ),
            Self::NeverValid => f.write_str("the certificates of the gateway's chain are at no time valid together"),
        }
    }
}

impl std::error::Error for Refusal {}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        CertificateError::Other(OtherError(Arc::new(refusal))).into()
    }
}

/// The pin that a certificate's key would have.
pub(super) fn pin_of(certificate: &CertificateDer<'_>) -> Result<PublicKeyPin, Error> {
    let key = ParsedCertificate::try_from(certificate)?.subject_public_key_info();
    let hash = super::sha256(key.as_ref());
    hash.and_then(|hash| PublicKeyPin::from_hash(&hash)).ok_or(Error::General("no SHA-256".to_owned()))
}

/// Verifies as of the first moment from `start` on at which nothing of the chain is yet to become valid.
fn verify_since(
    start: UnixTime,
    verify: impl Fn(UnixTime) -> Result<ServerCertVerified, Error>,
) -> Result<ServerCertVerified, Error> {
    let mut verified = verify(start);
    for _ in 0..CHAIN_MAX {
        let Err(Error::InvalidCertificate(CertificateError::NotValidYetContext { not_before, .. })) = verified else {
            break;
        };
        verified = verify(not_before);
    }
    let error = match verified.map_err(|error| without_time(error, verify)) {
        Err(Error::InvalidCertificate(CertificateError::ExpiredContext { time, .. })) if time != start => {
            Refusal::NeverValid.into()
        }
        other => return other,
    };
    Err(error)
}

/// What is wrong with a certificate besides its time; `error` itself if that is all.
fn without_time(error: Error, verify: impl Fn(UnixTime) -> Result<ServerCertVerified, Error>) -> Error {
    let mut found = error.clone();
    for _ in 0..CHAIN_MAX {
        let Some(bound) = validity_bound(&found) else { return found };
        match verify(bound) {
            Ok(_) => break,
            Err(next) => found = next,
        }
    }
    error
}

/// The moment, nearest to the one that was asked about, at which the certificate in question is valid.
fn validity_bound(error: &Error) -> Option<UnixTime> {
    match error {
        Error::InvalidCertificate(CertificateError::NotValidYetContext { not_before, .. }) => Some(*not_before),
        Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. }) => Some(*not_after),
        _ => None,
    }
}

/// A leaf and three authorities between it and the root can each begin or end at another time; more is no chain of a
/// gateway, and each look costs a stranger's chain up to webpki's own limit of a hundred signatures.
const CHAIN_MAX: usize = 4;
