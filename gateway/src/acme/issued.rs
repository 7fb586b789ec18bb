//! A certificate that an authority has issued: read, checked, and written as one PEM text with its key.

use std::fmt;
use std::sync::Arc;

use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::renewal::Life;

/// A chain with its key, ready for use.
#[derive(Clone)]
pub(crate) struct Issued {
    /// The key, then the chain: one file, so that the two can never be of different certificates.
    pem: String,
    pub(crate) certified: Arc<CertifiedKey>,
    pub(crate) life: Life,
}

/// Why a text is no certificate for a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum IssuedError {
    /// There is no key in it that can be read.
    Key,
    /// There is no certificate in it, or one that cannot be read.
    Chain,
    /// There are more certificates in it than [`CHAIN_MAX`].
    Long,
    /// The certificate is for other names: these.
    Name(Vec<String>),
    /// The key is not that of the certificate.
    Mismatch,
}

impl Issued {
    /// Puts a chain and its key together.
    ///
    /// # Errors
    ///
    /// See [`IssuedError`].
    pub(crate) fn new(name: &str, key_pem: &str, chain_pem: &str) -> Result<Self, IssuedError> {
        Self::parse(name, format!("{}\n{}\n", key_pem.trim_end(), chain_pem.trim_end()))
    }

    /// Reads what [`Issued::pem`] gave.
    ///
    /// # Errors
    ///
    /// See [`IssuedError`].
    pub(crate) fn parse(name: &str, pem: String) -> Result<Self, IssuedError> {
        // The parser's own words are left out: they may quote the key.
        let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| IssuedError::Key)?;
        let chain: Result<Vec<_>, _> =
            CertificateDer::pem_slice_iter(pem.as_bytes()).take(CHAIN_MAX.saturating_add(1)).collect();
        let chain = chain.map_err(|_| IssuedError::Chain)?;
        if chain.len() > CHAIN_MAX {
            return Err(IssuedError::Long);
        }
        let (names, life) = chain.first().and_then(facts).ok_or(IssuedError::Chain)?;
        if !names.iter().any(|other| other == name) {
            return Err(IssuedError::Name(names));
        }
        let certified = CertifiedKey::from_der(chain, key, &default_provider()).map_err(|_| IssuedError::Mismatch)?;
        Ok(Self { pem, certified: Arc::new(certified), life })
    }

    /// Key and chain as one text. It is a secret.
    pub(crate) fn pem(&self) -> &str {
        &self.pem
    }
}

/// The names of a certificate in lower case, and its life.
fn facts(leaf: &CertificateDer<'_>) -> Option<(Vec<String>, Life)> {
    let (_, parsed) = X509Certificate::from_der(leaf).ok()?;
    let extension = parsed.subject_alternative_name().ok()?;
    let names = extension.iter().flat_map(|extension| &extension.value.general_names);
    let names = names.filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        _ => None,
    });
    let unix = |seconds: i64| u64::try_from(seconds).unwrap_or_default();
    let validity = parsed.validity();
    let life = Life { begins: unix(validity.not_before.timestamp()), ends: unix(validity.not_after.timestamp()) };
    Some((names.collect(), life))
}

impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issued").field("life", &self.life).finish_non_exhaustive()
    }
}

impl fmt::Display for IssuedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key => f.write_str("there is no private key that can be read"),
            Self::Chain => f.write_str("there is no certificate that can be read"),
            Self::Long => write!(f, "the chain has more than {CHAIN_MAX} certificates"),
            Self::Name(names) => write!(f, "the certificate is for other names: {}", names.join(", ")),
            Self::Mismatch => f.write_str("the key is not that of the certificate"),
        }
    }
}

impl std::error::Error for IssuedError {}

/// Public authorities send two or three.
const CHAIN_MAX: usize = 10;

#[cfg(test)]
pub(crate) mod tests {
    use rcgen::{CertificateParams, KeyPair};
    use time::OffsetDateTime;

    use super::*;

    /// What an authority would issue for `name`.
    pub(crate) fn issued(name: &str, life: Life) -> Issued {
        let (key, chain) = pair(name, life);
        Issued::new(name, &key, &chain).unwrap()
    }

    fn pair(name: &str, life: Life) -> (String, String) {
        let at = |unix: u64| OffsetDateTime::from_unix_timestamp(i64::try_from(unix).unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.not_before, params.not_after) = (at(life.begins), at(life.ends));
        (key.serialize_pem(), params.self_signed(&key).unwrap().pem())
    }

    const LIFE: Life = Life { begins: 1_700_000_000, ends: 1_700_086_400 };

    #[test]
    fn life_and_key_survive_being_written_and_read() {
        let first = issued("a.example.com", LIFE);
        assert_eq!(first.life, LIFE);
        let again = Issued::parse("a.example.com", first.pem().to_owned()).unwrap();
        assert_eq!((again.life, &again.certified.cert), (LIFE, &first.certified.cert));
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let (key, chain) = pair("a.example.com", LIFE);
        let (other_key, _) = pair("a.example.com", LIFE);
        let of = |name: &str, key: &str, chain: &str| Issued::new(name, key, chain).map(|_| ()).unwrap_err();
        let named = IssuedError::Name(vec!["a.example.com".to_owned()]);
        assert_eq!(of("b.example.com", &key, &chain), named);
        assert_eq!(of("a.example.com", &other_key, &chain), IssuedError::Mismatch);
        assert_eq!(of("a.example.com", &key, ""), IssuedError::Chain);
        assert_eq!(of("a.example.com", &key, &chain[..chain.len() / 2]), IssuedError::Chain);
        assert_eq!(of("a.example.com", &key, "<html>busy</html>"), IssuedError::Chain);
        assert_eq!(of("a.example.com", "", &chain), IssuedError::Key);
        let nonsense = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert_eq!(of("a.example.com", &key, nonsense), IssuedError::Chain);
    }

    #[test]
    fn chain_holds_at_its_bound_and_not_beyond() {
        let (key, chain) = pair("a.example.com", LIFE);
        assert!(Issued::new("a.example.com", &key, &chain.repeat(CHAIN_MAX)).is_ok());
        let error = Issued::new("a.example.com", &key, &chain.repeat(CHAIN_MAX + 1)).map(|_| ()).unwrap_err();
        assert_eq!(error, IssuedError::Long);
    }

    #[test]
    fn key_is_in_no_debug_output() {
        let issued = issued("a.example.com", LIFE);
        let shown = format!("{issued:?}");
        assert!(shown.contains("life") && !shown.contains("PRIVATE") && !shown.contains("pem"), "{shown}");
    }
}
