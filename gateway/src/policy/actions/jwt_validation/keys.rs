//! The issuers' published keys, fetched when they are needed and kept for a while.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Uri;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, SubjectPublicKeyInfoDer};
use serde::Deserialize;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::super::fetched::{Fetched, Known, Times};
use super::fetch::{self, Reach};
use super::jws::{Algorithm, Jws};

/// One public key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::policy::actions) enum Key {
    Rsa { n: Vec<u8>, e: Vec<u8> },
    P256(Vec<u8>),
    P384(Vec<u8>),
    Ed25519(Vec<u8>),
}

/// What came of checking a token with keys; of several keys, the greatest counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::policy::actions) enum Trial {
    /// There is no key with the id that the token names.
    NoKey,
    /// The key is for another algorithm than the token names.
    OtherType,
    /// The key is the right one, and has not signed this.
    OtherSignature,
    /// The token is good.
    Signed,
}

/// The keys of one set that can verify signatures.
#[derive(Debug, Default)]
pub(in crate::policy::actions) struct Keys {
    list: Vec<(Option<String>, Option<Algorithm>, Key)>,
    /// They have no names, so that none of them is the one that a token names: any may be.
    is_nameless: bool,
}

/// A key set as RFC 7517 writes it.
#[derive(Debug, Deserialize)]
struct Jwks {
    keys: Vec<serde_json::Value>,
}

#[derive(Debug, Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl Keys {
    /// Reads a key set. Keys for other purposes and of other types are left out.
    pub(in crate::policy::actions) fn parse(text: &[u8]) -> Result<Self, &'static str> {
        let set: Jwks = serde_json::from_slice(text).map_err(|_| "the answer is not a key set")?;
        if set.keys.len() > KEYS_MAX {
            return Err("the key set has more than 100 keys");
        }
        let list = set.keys.into_iter().filter_map(|key| read(serde_json::from_value(key).ok()?)).collect();
        Ok(Self { list, is_nameless: false })
    }

    /// Reads a file with keys: a key set, or public keys and certificates in PEM. Every token may be checked with those of
    /// PEM, whatever key it names: they have no names.
    pub(in crate::policy::actions) fn read_file(text: &[u8]) -> Result<Self, &'static str> {
        let is_pem = text.windows(PEM_BEGIN.len()).any(|window| window == PEM_BEGIN);
        let keys = if is_pem { Self::from_pem(text)? } else { Self::parse(text).map_err(|_| NO_KEYS_FILE)? };
        if keys.list.is_empty() {
            return Err("has no key that a token can be checked with: RSA, P-256, P-384 and Ed25519 are possible");
        }
        Ok(keys)
    }

    fn from_pem(text: &[u8]) -> Result<Self, &'static str> {
        let mut keys = Vec::new();
        for info in SubjectPublicKeyInfoDer::pem_slice_iter(text) {
            let info = info.map_err(|_| NO_KEYS_FILE)?;
            keys.extend(SubjectPublicKeyInfo::from_der(&info).ok().and_then(|(_, info)| key_of(&info)));
        }
        for certificate in CertificateDer::pem_slice_iter(text) {
            let certificate = certificate.map_err(|_| NO_KEYS_FILE)?;
            let parsed = X509Certificate::from_der(&certificate).ok();
            keys.extend(parsed.and_then(|(_, certificate)| key_of(certificate.public_key())));
        }
        if keys.len() > KEYS_MAX {
            return Err("has more than 100 keys");
        }
        Ok(Self { list: keys.into_iter().map(|key| (None, None, key)).collect(), is_nameless: true })
    }

    /// Whether one of them has signed the token: the one that the token names, or any if it names none.
    pub(in crate::policy::actions) fn verify(
        &self,
        jws: &Jws<'_>,
        algorithm: Algorithm,
        key_id: Option<&str>,
    ) -> Trial {
        let mut best = Trial::NoKey;
        for (known, bound, key) in &self.list {
            if !self.is_nameless && key_id.is_some() && known.as_deref() != key_id {
                continue;
            }
            let is_for_it = bound.is_none_or(|bound| bound == algorithm);
            best = best.max(if is_for_it { key.verify(jws, algorithm) } else { Trial::OtherType });
            if best == Trial::Signed {
                break;
            }
        }
        best
    }

    fn has(&self, key_id: Option<&str>) -> bool {
        self.list.iter().any(|(known, ..)| key_id.is_none() || known.as_deref() == key_id)
    }
}

fn read(jwk: Jwk) -> Option<(Option<String>, Option<Algorithm>, Key)> {
    if jwk.purpose.is_some_and(|purpose| purpose != "sig") {
        return None;
    }
    let algorithm = match jwk.alg.as_deref() {
        None => None,
        Some(name) => Some(Algorithm::named(name)?),
    };
    let decode = |part: Option<String>| URL_SAFE_NO_PAD.decode(part?).ok();
    let point = |x: Option<String>, y: Option<String>, len: usize| {
        let (x, y) = (decode(x)?, decode(y)?);
        (x.len() == len && y.len() == len).then(|| [&[UNCOMPRESSED], &x[..], &y[..]].concat())
    };
    let key = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
        ("RSA", _) => Key::Rsa { n: decode(jwk.n)?, e: decode(jwk.e)? },
        ("EC", Some("P-256")) => Key::P256(point(jwk.x, jwk.y, 32)?),
        ("EC", Some("P-384")) => Key::P384(point(jwk.x, jwk.y, 48)?),
        ("OKP", Some("Ed25519")) => Key::Ed25519(decode(jwk.x)?),
        _ => return None,
    };
    Some((jwk.kid, algorithm, key))
}

fn key_of(info: &SubjectPublicKeyInfo<'_>) -> Option<Key> {
    let algorithm = info.algorithm.algorithm.to_id_string();
    let curve = info.algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
    let curve = curve.map(|curve| curve.to_id_string());
    match (info.parsed().ok()?, algorithm.as_str(), curve.as_deref()) {
        (PublicKey::RSA(rsa), ..) => {
            let bare = |number: &[u8]| number.iter().copied().skip_while(|byte| *byte == 0).collect();
            Some(Key::Rsa { n: bare(rsa.modulus), e: bare(rsa.exponent) })
        }
        (PublicKey::EC(point), _, Some(P256)) => Some(Key::P256(point.data().to_vec())),
        (PublicKey::EC(point), _, Some(P384)) => Some(Key::P384(point.data().to_vec())),
        (PublicKey::Unknown(bytes), ED25519, _) => Some(Key::Ed25519(bytes.to_vec())),
        _ => None,
    }
}

/// Where keys come from, and those that came.
#[derive(Debug)]
pub(in crate::policy::actions) struct Source {
    url: String,
    uri: Uri,
    reach: Reach,
    fetched: Fetched<Keys, String>,
}

impl Source {
    /// The source of this address that is in use already, or a new one: a policy that is read anew does not ask its issuer
    /// anew, and goes on when that cannot be reached.
    pub(in crate::policy::actions) fn shared(url: &str, reach: Reach) -> Result<Arc<Self>, &'static str> {
        let new = Arc::new(Self::new(url, reach)?);
        let mut sources = SOURCES.lock().unwrap_or_else(PoisonError::into_inner);
        let known = sources.entry((url.to_owned(), reach)).or_default();
        if let Some(source) = known.upgrade() {
            // The other one, when it is dropped, asks for the lock.
            drop(sources);
            return Ok(source);
        }
        *known = Arc::downgrade(&new);
        Ok(new)
    }

    pub(in crate::policy::actions) fn new(url: &str, reach: Reach) -> Result<Self, &'static str> {
        let uri = fetch::check(url, reach)?;
        Ok(Self { url: url.to_owned(), uri, reach, fetched: Fetched::new(TIMES) })
    }

    pub(in crate::policy::actions) fn url(&self) -> &str {
        &self.url
    }

    /// The keys, fetched if there are none, if they are old, or if the one that is asked for is not among them. While the
    /// issuer cannot be reached, those that were fetched last stay in use.
    pub(in crate::policy::actions) async fn keys(self: &Arc<Self>, key_id: Option<&str>) -> Result<Arc<Keys>, String> {
        let Known { found, is_fresh, may_try } = self.fetched.known();
        match found.filter(|keys| keys.has(key_id)) {
            Some(keys) if is_fresh || !may_try => return Ok(keys),
            Some(keys) => {
                // Good enough for this request; the next ones get newer keys.
                let source = Arc::clone(self);
                tokio::spawn(async move { source.refresh().await });
                return Ok(keys);
            }
            None => {
                // Apart from this request: a visitor who leaves must not take the fetch for all others along.
                let source = Arc::clone(self);
                let _ = tokio::spawn(async move { source.refresh().await }).await;
            }
        }
        self.fetched.outcome().map_err(|failure| failure.unwrap_or_else(|| "they were not fetched".to_owned()))
    }

    /// Fetches the keys, unless somebody else has just tried.
    async fn refresh(&self) {
        // Also when they are fresh: the one that is asked for is not among them.
        self.fetched.refresh(|_| true, self.fetch()).await;
    }

    async fn fetch(&self) -> Result<Keys, String> {
        let fetched = fetch::get(&self.uri, self.reach).await;
        let parsed = fetched.and_then(|body| Keys::parse(&body).map_err(str::to_owned));
        match &parsed {
            Ok(keys) => tracing::debug!(url = self.url, keys = keys.list.len(), "keys fetched"),
            Err(failure) => {
                let kept = self.fetched.known().found.is_some();
                tracing::warn!(url = self.url, kept, "keys cannot be fetched: {failure}");
            }
        }
        parsed
    }

    /// Keys as if they had just been fetched.
    #[cfg(test)]
    pub(in crate::policy::actions) fn put(&self, set: &str) {
        self.fetched.put(Keys::parse(set.as_bytes()).unwrap());
    }

    #[cfg(test)]
    pub(in crate::policy::actions) fn is_filled(&self) -> bool {
        self.fetched.known().found.is_some()
    }

    /// Makes the keys old.
    #[cfg(test)]
    pub(in crate::policy::actions) fn age(&self) {
        self.fetched.age();
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        let mut sources = SOURCES.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(known) = sources.entry((std::mem::take(&mut self.url), self.reach))
            // Not another one of the same address.
            && known.get().strong_count() == 0
        {
            known.remove();
        }
    }
}

/// Sources by address and reach.
type Sources = HashMap<(String, Reach), Weak<Source>>;

/// Those that policies in force refer to.
static SOURCES: LazyLock<Mutex<Sources>> = LazyLock::new(Mutex::default);

const PEM_BEGIN: &[u8] = b"-----BEGIN ";
const NO_KEYS_FILE: &str = "is neither a key set (JWKS) nor public keys or certificates in PEM";
/// Object identifiers: of the curves (RFC 5480, 2.1.1.1), and of Ed25519 (RFC 8410, 3).
const P256: &str = "1.2.840.10045.3.1.7";
const P384: &str = "1.3.132.0.34";
const ED25519: &str = "1.3.101.112";
/// As ngrok's service has it; and between two attempts, whoever asks for whatever key.
const TIMES: Times = Times { fresh: Duration::from_secs(15 * 60), retry: Duration::from_secs(10) };
/// Keys of one set; issuers have two or three.
const KEYS_MAX: usize = 100;
/// What stands before the coordinates of a point (SEC 1, 2.3.3).
const UNCOMPRESSED: u8 = 4;
