//! A certificate authority for one run: its key never leaves the process.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;

/// Issues certificates for `localhost` and the names below it, and for nothing else: whoever comes to trust it by
/// mistake trusts it with nothing that matters.
pub(super) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    /// One for all certificates. They stand for the same process.
    key: KeyPair,
    issued: Mutex<Issued>,
}

/// Certificates that were made, oldest first in `order`. Invariant: both hold the same names.
#[derive(Default)]
struct Issued {
    by_name: HashMap<String, Arc<CertifiedKey>>,
    order: VecDeque<String>,
}

/// Why there is no certificate.
#[derive(Debug)]
pub enum AuthorityError {
    /// It cannot be made.
    Issue(rcgen::Error),
    /// It was made and cannot be used.
    Use(rustls::Error),
    /// The name is none that the authority is for.
    Name,
}

/// A certificate as PEM, with its key.
pub(super) struct Pem {
    pub(super) certificate: String,
    pub(super) private_key: String,
}

impl Authority {
    pub(super) fn new() -> Result<Self, AuthorityError> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, "adit-gateway dev, a throw-away authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        Ok(Self { issuer, key: KeyPair::generate()?, issued: Mutex::default() })
    }

    /// The certificate to trust.
    pub(super) fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate for `localhost` and the loopback addresses, as files have it.
    pub(super) fn connect_pem(&self) -> Result<Pem, AuthorityError> {
        let certificate = self.sign(CONNECT_NAME)?.pem();
        Ok(Pem { certificate, private_key: self.key.serialize_pem() })
    }

    /// The certificate for one name, made when it is asked for the first time.
    pub(super) fn certificate(&self, name: &str) -> Result<Arc<CertifiedKey>, AuthorityError> {
        if !is_covered(name) {
            return Err(AuthorityError::Name);
        }
        let mut issued = self.issued.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(certificate) = issued.by_name.get(name) {
            return Ok(Arc::clone(certificate));
        }
        let chain = vec![self.sign(name)?.der().clone()];
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.serialize_der()));
        let certified = CertifiedKey::from_der(chain, key, &default_provider()).map_err(AuthorityError::Use)?;
        let certified = Arc::new(certified);
        issued.keep(name, &certified);
        Ok(certified)
    }

    fn sign(&self, name: &str) -> Result<rcgen::Certificate, AuthorityError> {
        let mut params = CertificateParams::new(vec![name.to_owned()])?;
        if name == CONNECT_NAME {
            let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
            params.subject_alt_names.extend(loopback.map(SanType::IpAddress));
        }
        // Another subject than the authority's, or OpenSSL takes the certificate for a self-signed one.
        params.distinguished_name.push(DnType::CommonName, "adit-gateway dev");
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        Ok(params.signed_by(&self.key, &self.issuer)?)
    }
}

impl Issued {
    fn keep(&mut self, name: &str, certificate: &Arc<CertifiedKey>) {
        if self.order.len() >= ISSUED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.by_name.remove(&oldest);
        }
        self.order.push_back(name.to_owned());
        self.by_name.insert(name.to_owned(), Arc::clone(certificate));
    }
}

impl From<rcgen::Error> for AuthorityError {
    fn from(error: rcgen::Error) -> Self {
        Self::Issue(error)
    }
}

impl fmt::Display for AuthorityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Issue(error) => write!(f, "the certificate cannot be made: {error}"),
            Self::Use(error) => write!(f, "the certificate cannot be used: {error}"),
            Self::Name => write!(f, "the name must be {CONNECT_NAME} or end in .{CONNECT_NAME}"),
        }
    }
}

impl std::error::Error for AuthorityError {}

fn is_covered(name: &str) -> bool {
    let below = name.strip_suffix(CONNECT_NAME).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'));
    name.len() <= NAME_LEN_MAX && (below || name == CONNECT_NAME)
}

/// The name that agents connect to, and below which everything else is (RFC 6761: it always means this machine).
pub(super) const CONNECT_NAME: &str = "localhost";
/// RFC 1035, in text form.
const NAME_LEN_MAX: usize = 253;
/// Anybody on the machine can ask for names. Each costs about 1 KiB, and 0.1 ms when it has to be made again.
const ISSUED_MAX: usize = 1000;

#[cfg(test)]
mod tests {
    use x509_parser::prelude::{FromDer, X509Certificate};

    use super::*;

    fn names(certificate: &CertifiedKey) -> Vec<String> {
        let (_, parsed) = X509Certificate::from_der(&certificate.cert[0]).unwrap();
        let names = parsed.subject_alternative_name().unwrap().unwrap();
        names.value.general_names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn each_name_has_a_certificate_of_its_own_that_is_no_authority() {
        let authority = Authority::new().unwrap();
        let web = authority.certificate("web.localhost").unwrap();
        assert_eq!(names(&web), ["DNSName(web.localhost)"]);
        assert!(Arc::ptr_eq(&web, &authority.certificate("web.localhost").unwrap()));
        let (_, parsed) = X509Certificate::from_der(&web.cert[0]).unwrap();
        assert!(!parsed.basic_constraints().unwrap().unwrap().value.ca);
        assert_ne!(parsed.subject(), parsed.issuer());
        assert_eq!(names(&authority.certificate("localhost").unwrap()).len(), 3);
    }

    #[test]
    fn names_elsewhere_get_none() {
        let authority = Authority::new().unwrap();
        let long = format!("{}.localhost", "a".repeat(NAME_LEN_MAX));
        for name in ["", "example.com", ".localhost", "notlocalhost", "localhost.example.com", &long] {
            assert!(matches!(authority.certificate(name), Err(AuthorityError::Name)), "{name:?}");
        }
    }

    #[test]
    fn kept_certificates_are_bounded_and_the_oldest_goes() {
        let certificate = Authority::new().unwrap().certificate("localhost").unwrap();
        let mut issued = Issued::default();
        for number in 0..=ISSUED_MAX {
            issued.keep(&format!("{number}.localhost"), &certificate);
        }
        assert_eq!((issued.order.len(), issued.by_name.len()), (ISSUED_MAX, ISSUED_MAX));
        assert!(!issued.by_name.contains_key("0.localhost") && issued.by_name.contains_key("1.localhost"));
    }
}
