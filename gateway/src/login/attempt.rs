//! A log-in that is under way: what the browser keeps while its user is at the provider.
//!
//! The provider hands `state` back through the browser. It counts only together with the cookie that the same browser got
//! when it was sent away, so that nobody can make others finish a log-in that he began (RFC 9700, 4.7).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use super::seal::{Keys, SealError, random};

/// A log-in that is under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// Random; what `state` has to say.
    pub id: String,
    /// What the ID token has to hold.
    pub nonce: String,
    /// What only this gateway can tell the provider (RFC 7636).
    verifier: String,
    /// Where the visitor wanted to go: a path of the same host.
    pub path: String,
    /// When it began, in seconds since 1970.
    pub begun: i64,
}

impl Attempt {
    /// A log-in that begins now.
    ///
    /// # Errors
    ///
    /// [`SealError`]
    pub fn begin(path: &str, now: i64) -> Result<Self, SealError> {
        let text = || random::<SECRET_LEN>().map(|bytes| URL_SAFE_NO_PAD.encode(bytes));
        Ok(Self { id: text()?, nonce: text()?, verifier: text()?, path: path.to_owned(), begun: now })
    }

    /// Seals it for a purpose.
    ///
    /// # Errors
    ///
    /// [`SealError`]
    pub fn seal(&self, keys: &Keys, purpose: &str) -> Result<String, SealError> {
        keys.seal(purpose, &serde_json::to_vec(self).map_err(|_| SealError)?)
    }

    /// Opens one that was sealed for this purpose.
    #[must_use]
    pub fn open(keys: &Keys, purpose: &str, text: &str) -> Option<Self> {
        serde_json::from_slice(&keys.open(purpose, text)?).ok()
    }

    /// True while the visitor may still come back.
    #[must_use]
    pub fn is_open(&self, now: i64) -> bool {
        let passed = now.saturating_sub(self.begun);
        (-LEEWAY_SECS..=TIME_SECS).contains(&passed)
    }

    /// When it is of no use any more.
    #[must_use]
    pub fn ends(&self) -> i64 {
        self.begun.saturating_add(TIME_SECS + LEEWAY_SECS)
    }

    /// What tells the cookies of several tabs apart.
    #[must_use]
    pub fn label(&self) -> &str {
        label(&self.id)
    }

    /// The `code_verifier`.
    #[must_use]
    pub fn verifier(&self) -> &str {
        &self.verifier
    }

    /// The `code_challenge` of the method `S256` (RFC 7636, 4.2).
    #[must_use]
    pub fn challenge(&self) -> String {
        URL_SAFE_NO_PAD.encode(digest(&SHA256, self.verifier.as_bytes()))
    }
}

/// The part of a `state` that cookies are named after.
#[must_use]
pub fn label(state: &str) -> &str {
    state.get(..LABEL_LEN).unwrap_or_default()
}

/// How long a log-in may take, as at ngrok (ERR_NGROK_3119).
pub const TIME_SECS: i64 = 15 * 60;
/// How far the clocks of two gateways may be apart.
const LEEWAY_SECS: i64 = 60;
const SECRET_LEN: usize = 32;
/// Of the part of a `state` that a cookie is named after.
pub const LABEL_LEN: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempt_is_open_for_a_quarter_of_an_hour() {
        let attempt = Attempt::begin("/", 1_000_000).unwrap();
        assert!(attempt.is_open(1_000_000 + TIME_SECS));
        assert!(!attempt.is_open(1_000_000 + TIME_SECS + 1));
        assert!(!attempt.is_open(1_000_000 - LEEWAY_SECS - 1));
    }

    #[test]
    fn challenge_is_the_hash_of_the_verifier() {
        // RFC 7636, appendix B.
        let mut attempt = Attempt::begin("/", 0).unwrap();
        attempt.verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk".into();
        assert_eq!(attempt.challenge(), "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
    }

    #[test]
    fn attempts_have_nothing_in_common() {
        let (a, b) = (Attempt::begin("/", 0).unwrap(), Attempt::begin("/", 0).unwrap());
        assert!(a.id != b.id && a.nonce != b.nonce && a.verifier != b.verifier && a.label() != b.label());
        assert!(a.verifier().len() >= 43);
    }
}
