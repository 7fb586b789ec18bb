//! Proofs that are being asked for: what the gateway answers to an authority that looks whether a name is its own.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// The protocol by which an authority asks over TLS (RFC 8737).
pub const ACME_TLS: &[u8] = b"acme-tls/1";

/// The names that are being proved now, each with its answer.
#[derive(Debug, Default)]
pub struct Challenges {
    pending: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    answers: HashMap<String, (u64, Answer)>,
    last: u64,
}

/// What is answered.
enum Answer {
    /// A handshake with the certificate of RFC 8737.
    Tls(Arc<ServerConfig>),
    /// A text at a path that ends with the token (RFC 8555, 8.3).
    Http { token: String, text: String },
}

/// Why a name cannot be proved now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChallengeError {
    /// There are `PENDING_MAX` already.
    Full,
    /// The authority's token is not one.
    Token,
    /// The certificate cannot be made.
    Certificate(String),
}

/// Keeps an answer there. Dropping it takes the answer away.
#[derive(Debug)]
#[must_use]
pub struct Pending {
    challenges: Arc<Challenges>,
    name: String,
    number: u64,
}

impl Challenges {
    /// Answers TLS-ALPN-01 for a name until the value is dropped. `digest` is the SHA-256 of the key authorization.
    ///
    /// # Errors
    ///
    /// See [`ChallengeError`].
    pub fn answer_tls(self: &Arc<Self>, name: &str, digest: &[u8; 32]) -> Result<Pending, ChallengeError> {
        let config = proving_config(name, digest).map_err(ChallengeError::Certificate)?;
        self.answer(name, Answer::Tls(Arc::new(config)))
    }

    /// Answers HTTP-01 for a name and a token with `text`, the key authorization, until the value is dropped.
    ///
    /// # Errors
    ///
    /// See [`ChallengeError`].
    pub fn answer_http(self: &Arc<Self>, name: &str, token: &str, text: &str) -> Result<Pending, ChallengeError> {
        // The alphabet of RFC 8555, 8.3.
        let is_token = !token.is_empty()
            && token.len() <= TOKEN_LEN_MAX
            && token.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
        if !is_token {
            return Err(ChallengeError::Token);
        }
        self.answer(name, Answer::Http { token: token.to_owned(), text: text.to_owned() })
    }

    /// Tells whether a name is being proved over TLS now.
    #[must_use]
    pub fn is_proving(&self, name: &str) -> bool {
        matches!(self.table().answers.get(name), Some((_, Answer::Tls(_))))
    }

    /// The TLS of a handshake that proves a name, in lower case. `protocols` are those that the client offers: only
    /// `acme-tls/1` alone is a question of an authority, and nobody else ever sees that certificate.
    #[must_use]
    pub fn tls(&self, name: &str, protocols: &[Vec<u8>]) -> Option<Arc<ServerConfig>> {
        let [protocol] = protocols else { return None };
        if protocol != ACME_TLS {
            return None;
        }
        match self.table().answers.get(name)? {
            (_, Answer::Tls(config)) => Some(Arc::clone(config)),
            (_, Answer::Http { .. }) => None,
        }
    }

    /// The answer to a request without TLS for a name, in lower case, and a path; `None`: it is an ordinary request.
    #[must_use]
    pub fn http(&self, name: &str, path: &str) -> Option<String> {
        let asked = path.strip_prefix(HTTP_PATH)?;
        match self.table().answers.get(name)? {
            (_, Answer::Http { token, text }) if token == asked => Some(text.clone()),
            (_, Answer::Http { .. } | Answer::Tls(_)) => None,
        }
    }

    fn answer(self: &Arc<Self>, name: &str, answer: Answer) -> Result<Pending, ChallengeError> {
        let mut table = self.table();
        if table.answers.len() >= PENDING_MAX && !table.answers.contains_key(name) {
            return Err(ChallengeError::Full);
        }
        table.last += 1;
        let number = table.last;
        table.answers.insert(name.to_owned(), (number, answer));
        Ok(Pending { challenges: Arc::clone(self), name: name.to_owned(), number })
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // Nothing that holds the lock leaves half-done work behind when it panics.
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let mut table = self.challenges.table();
        // A later answer for the same name stays.
        if table.answers.get(&self.name).is_some_and(|(number, _)| *number == self.number) {
            table.answers.remove(&self.name);
        }
    }
}

/// The TLS that proves a name: nothing but `acme-tls/1`, with a certificate for this name alone that carries the digest.
fn proving_config(name: &str, digest: &[u8; 32]) -> Result<ServerConfig, String> {
    let text = |error: rcgen::Error| error.to_string();
    let mut params = CertificateParams::new(vec![name.to_owned()]).map_err(text)?;
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let key = KeyPair::generate().map_err(text)?;
    let certificate = params.self_signed(&key).map_err(text)?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let text = |error: rustls::Error| error.to_string();
    let provider = Arc::new(default_provider());
    // Not `from_der`, which reads the certificate as a client would: to clients its extension is unknown and critical.
    let key = provider.key_provider.load_private_key(key).map_err(text)?;
    let certified = CertifiedKey::new(vec![certificate.der().clone()], key);
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(text)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Always(Arc::new(certified))));
    config.alpn_protocols = vec![ACME_TLS.to_vec()];
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// Whoever gets this far has said the name.
#[derive(Debug)]
struct Always(Arc<CertifiedKey>);

impl ResolvesServerCert for Always {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tls(_) => "Tls",
            Self::Http { .. } => "Http",
        })
    }
}

impl fmt::Display for ChallengeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => write!(f, "{PENDING_MAX} names are being proved already"),
            Self::Token => f.write_str("the authority's token is not valid"),
            Self::Certificate(error) => write!(f, "the certificate of the proof cannot be made: {error}"),
        }
    }
}

impl std::error::Error for ChallengeError {}

/// Where authorities ask over HTTP (RFC 8555, 8.3).
const HTTP_PATH: &str = "/.well-known/acme-challenge/";
/// Far more than orders are under way at once.
const PENDING_MAX: usize = 64;
/// Authorities send 43 characters.
const TOKEN_LEN_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: [u8; 32] = [7; 32];

    fn offers(protocols: &[&[u8]]) -> Vec<Vec<u8>> {
        protocols.iter().map(|protocol| protocol.to_vec()).collect()
    }

    #[test]
    fn tls_is_answered_while_it_is_pending_for_that_name_and_protocol_alone() {
        let challenges = Arc::new(Challenges::default());
        let pending = challenges.answer_tls("a.example.com", &DIGEST).unwrap();
        assert!(challenges.is_proving("a.example.com") && !challenges.is_proving("b.example.com"));
        let config = challenges.tls("a.example.com", &offers(&[ACME_TLS])).unwrap();
        assert_eq!(config.alpn_protocols, [ACME_TLS]);
        assert!(challenges.tls("b.example.com", &offers(&[ACME_TLS])).is_none());
        let web: &[u8] = b"h2";
        for protocols in [&[][..], &[web], &[web, ACME_TLS], &[ACME_TLS, web], &[ACME_TLS, ACME_TLS]] {
            assert!(challenges.tls("a.example.com", &offers(protocols)).is_none(), "{protocols:?}");
        }
        drop(pending);
        assert!(challenges.tls("a.example.com", &offers(&[ACME_TLS])).is_none());
        assert!(!challenges.is_proving("a.example.com"));
    }

    #[test]
    fn http_is_answered_for_the_pending_token_of_that_name_alone() {
        let challenges = Arc::new(Challenges::default());
        let pending = challenges.answer_http("a.example.com", "tok_-1", "tok_-1.thumb").unwrap();
        let get = |name: &str, path: &str| challenges.http(name, path);
        assert_eq!(get("a.example.com", "/.well-known/acme-challenge/tok_-1").as_deref(), Some("tok_-1.thumb"));
        for path in ["", "/", "tok_-1", "/.well-known/acme-challenge/", "/.well-known/acme-challenge/tok_-2"] {
            assert_eq!(get("a.example.com", path), None, "{path}");
        }
        assert_eq!(get("a.example.com", "/.well-known/acme-challenge/tok_-1/"), None);
        assert_eq!(get("b.example.com", "/.well-known/acme-challenge/tok_-1"), None);
        assert!(!challenges.is_proving("a.example.com"));
        drop(pending);
        assert_eq!(get("a.example.com", "/.well-known/acme-challenge/tok_-1"), None);
    }

    #[test]
    fn later_answer_outlives_the_earlier_one() {
        let challenges = Arc::new(Challenges::default());
        let first = challenges.answer_http("a.example.com", "one", "1").unwrap();
        let second = challenges.answer_http("a.example.com", "two", "2").unwrap();
        drop(first);
        assert_eq!(challenges.http("a.example.com", "/.well-known/acme-challenge/two").as_deref(), Some("2"));
        drop(second);
        assert_eq!(challenges.http("a.example.com", "/.well-known/acme-challenge/two"), None);
    }

    #[test]
    fn table_holds_at_its_bound_and_not_beyond() {
        let challenges = Arc::new(Challenges::default());
        let answer = |number: usize| challenges.answer_http(&format!("n{number}.example.com"), "t", "t");
        let mut all: Vec<_> = (0..PENDING_MAX).map(|number| answer(number).unwrap()).collect();
        assert_eq!(answer(PENDING_MAX).unwrap_err(), ChallengeError::Full);
        all.pop();
        assert!(answer(PENDING_MAX).is_ok());
    }

    #[test]
    fn token_of_another_alphabet_or_length_is_refused() {
        let challenges = Arc::new(Challenges::default());
        let answer = |token: &str| challenges.answer_http("a.example.com", token, "x").map(|_| ());
        assert_eq!(answer(&"x".repeat(TOKEN_LEN_MAX)), Ok(()));
        for token in ["", "a/b", "../x", "a b", "ä", "a.b", &"x".repeat(TOKEN_LEN_MAX + 1)] {
            assert_eq!(answer(token), Err(ChallengeError::Token), "{token:?}");
        }
    }
}
