//! Certificates of clients: asked for, judged, and remembered for policies and the log.

use std::fmt;
use std::sync::{Arc, OnceLock};

use ring::digest::{Context, SHA256};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{WebPkiSupportedAlgorithms, ring as provider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme};

/// What becomes of a client by its certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// It needs one from the endpoint's authorities.
    RequireAndVerify,
    /// It needs one, of which it has the key; whether it is verified is for the policy to judge.
    RequireAny,
    /// It may have one.
    Request,
}

/// How an endpoint judges clients by their certificates.
pub struct ClientCheck {
    strategy: Strategy,
    /// `None` without authorities: nothing is verified then.
    authorities: Option<Arc<dyn ClientCertVerifier>>,
    digest: [u8; 32],
}

/// Why no clients can be judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientCheckError {
    /// The certificate at this place cannot be an authority.
    Authority(usize, String),
    /// There are none, and [`Strategy::RequireAndVerify`] asks for verified certificates.
    NoAuthorities,
    /// TLS cannot be set up.
    Unusable(String),
}

/// The certificate that a client presented in one handshake, and what was found out about it.
#[derive(Debug, Default)]
pub struct Presented(OnceLock<(CertificateDer<'static>, Result<(), String>)>);

impl ClientCheck {
    /// Judges by these authorities.
    ///
    /// # Errors
    ///
    /// See [`ClientCheckError`].
    pub fn new(authorities: &[CertificateDer<'_>], strategy: Strategy) -> Result<Self, ClientCheckError> {
        if authorities.is_empty() && strategy == Strategy::RequireAndVerify {
            return Err(ClientCheckError::NoAuthorities);
        }
        let mut digest = Context::new(&SHA256);
        digest.update(&[strategy as u8]);
        let mut roots = RootCertStore::empty();
        for (index, authority) in authorities.iter().enumerate() {
            let added = roots.add(authority.clone().into_owned());
            added.map_err(|error| ClientCheckError::Authority(index, error.to_string()))?;
            digest.update(&(authority.len() as u64).to_be_bytes());
            digest.update(authority);
        }
        let verifier = |roots: RootCertStore| {
            let provider = Arc::new(provider::default_provider());
            let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            if strategy != Strategy::RequireAndVerify {
                // A client that is told whom to come from may not show what it has.
                builder = builder.clear_root_hint_subjects();
            }
            builder.build().map_err(|error| ClientCheckError::Unusable(error.to_string()))
        };
        let authorities = if roots.is_empty() { None } else { Some(verifier(roots)?) };
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest.finish().as_ref());
        Ok(Self { strategy, authorities, digest: bytes })
    }

    /// The same for checks that judge alike, also of different configurations.
    #[must_use]
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// Judges a client by its certificate and those between it and an authority, as a handshake does in which the client
    /// proves that it has the key.
    ///
    /// # Errors
    ///
    /// Why the handshake fails.
    pub fn judge(self: &Arc<Self>, chain: &[CertificateDer<'static>], now: UnixTime) -> Result<Arc<Presented>, String> {
        let presented = Arc::new(Presented::default());
        let verifier = self.verifier(&presented);
        match chain.split_first() {
            None if verifier.client_auth_mandatory() => Err("the client has no certificate".to_owned()),
            None => Ok(presented),
            Some((certificate, between)) => {
                let verified = verifier.verify_client_cert(certificate, between, now);
                verified.map(|_| presented).map_err(|error| reason(&error))
            }
        }
    }

    /// A verifier for one handshake, which notes in `presented` what comes.
    pub(super) fn verifier(self: &Arc<Self>, presented: &Arc<Presented>) -> Arc<dyn ClientCertVerifier> {
        let algorithms = provider::default_provider().signature_verification_algorithms;
        Arc::new(Noting { check: Arc::clone(self), presented: Arc::clone(presented), algorithms })
    }
}

impl Presented {
    /// The certificate, and why it is not verified if it is not.
    #[must_use]
    pub fn get(&self) -> Option<(&CertificateDer<'static>, Result<(), &str>)> {
        let (certificate, verified) = self.0.get()?;
        Some((certificate, verified.as_ref().map_err(String::as_str).copied()))
    }
}

impl fmt::Debug for ClientCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCheck").field("strategy", &self.strategy).finish_non_exhaustive()
    }
}

impl fmt::Display for ClientCheckError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Authority(index, error) => write!(f, "certificate {} cannot be an authority: {error}", index + 1),
            Self::NoAuthorities => f.write_str("certificates of clients cannot be verified without an authority"),
            Self::Unusable(error) => f.write_str(error),
        }
    }
}

impl std::error::Error for ClientCheckError {}

#[derive(Debug)]
struct Noting {
    check: Arc<ClientCheck>,
    presented: Arc<Presented>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Noting {
    fn verify(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        match &self.check.authorities {
            Some(authorities) => authorities.verify_client_cert(certificate, intermediates, now).map(drop),
            None => Err(CertificateError::UnknownIssuer.into()),
        }
    }
}

impl ClientCertVerifier for Noting {
    fn client_auth_mandatory(&self) -> bool {
        self.check.strategy != Strategy::Request
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.check.authorities.as_ref().map_or(&[], |authorities| authorities.root_hint_subjects())
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.verify(certificate, intermediates, now);
        let noted = verified.as_ref().copied().map_err(reason);
        // A handshake has one certificate of the client.
        let _ = self.presented.0.set((certificate.clone().into_owned(), noted));
        match verified {
            Err(error) if self.check.strategy == Strategy::RequireAndVerify => Err(error),
            Ok(()) | Err(_) => Ok(ClientCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Why a certificate is not verified, for people.
fn reason(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "it is from none of the endpoint's authorities".to_owned()
        }
        Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            "it has expired".to_owned()
        }
        Error::InvalidCertificate(CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. }) => {
            "it is not valid yet".to_owned()
        }
        Error::InvalidCertificate(
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. },
        ) => "it is not for clients: its extended key usage lacks client authentication".to_owned(),
        Error::InvalidCertificate(error) => error.to_string(),
        other => other.to_string(),
    }
}
