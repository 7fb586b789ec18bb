//! Texts that only gateways with the same key can make and read: AES-256-GCM over a key of its own.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Salt};
use ring::rand::{SecureRandom, SystemRandom};

/// The keys of a gateway: the first one seals, all of them open.
pub struct Keys(Vec<LessSafeKey>);

/// The operating system gave no random bytes, or the text is far too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealError;

impl Keys {
    /// Derives keys from secrets, of which the first is the one in force. Each secret may serve other purposes as well:
    /// nothing about it can be learned from what is sealed.
    #[must_use]
    pub fn derive<'s>(secrets: impl IntoIterator<Item = &'s [u8]>) -> Self {
        Self(secrets.into_iter().filter_map(key).collect())
    }

    /// Seals bytes for a purpose. Opened for another one, the text is worth nothing.
    ///
    /// # Errors
    ///
    /// [`SealError`]
    pub fn seal(&self, purpose: &str, plain: &[u8]) -> Result<String, SealError> {
        let key = self.0.first().ok_or(SealError)?;
        let nonce: [u8; NONCE_LEN] = random()?;
        let mut sealed = nonce.to_vec();
        sealed.extend_from_slice(plain);
        let aad = Aad::from(purpose.as_bytes());
        let Some((_, body)) = sealed.split_at_mut_checked(NONCE_LEN) else { return Err(SealError) };
        let tag =
            key.seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), aad, body).map_err(|_| SealError)?;
        sealed.extend_from_slice(tag.as_ref());
        Ok(URL_SAFE_NO_PAD.encode(sealed))
    }

    /// Opens a text that was sealed for this purpose; `None` for everything else.
    #[must_use]
    pub fn open(&self, purpose: &str, text: &str) -> Option<Vec<u8>> {
        self.open_long(purpose, text, SEALED_BYTES_MAX)
    }

    /// As [`Keys::open`], for a text that may be longer than a cookie: up to so many bytes.
    #[must_use]
    pub fn open_long(&self, purpose: &str, text: &str, bytes_max: usize) -> Option<Vec<u8>> {
        if text.len() > bytes_max {
            return None;
        }
        let sealed = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (nonce, body) = sealed.split_first_chunk::<NONCE_LEN>()?;
        self.0.iter().find_map(|key| {
            let mut body = body.to_vec();
            let nonce = Nonce::assume_unique_for_key(*nonce);
            let plain = key.open_in_place(nonce, Aad::from(purpose.as_bytes()), &mut body).ok()?;
            Some(plain.to_vec())
        })
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys([{} secret])", self.0.len())
    }
}

/// Random bytes of the operating system.
///
/// # Errors
///
/// [`SealError`]
pub fn random<const LEN: usize>() -> Result<[u8; LEN], SealError> {
    let mut bytes = [0; LEN];
    SystemRandom::new().fill(&mut bytes).map_err(|_| SealError)?;
    Ok(bytes)
}

/// HKDF (RFC 5869) with a label, so that the key is none that anything else uses.
fn key(secret: &[u8]) -> Option<LessSafeKey> {
    let derived = Salt::new(HKDF_SHA256, b"adit log-in").extract(secret);
    let derived = derived.expand(&[b"cookies, version 1"], &AES_256_GCM).ok().map(UnboundKey::from)?;
    Some(LessSafeKey::new(derived))
}

/// Browsers keep no larger cookies.
const SEALED_BYTES_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(secrets: &[&str]) -> Keys {
        Keys::derive(secrets.iter().map(|secret| secret.as_bytes()))
    }

    #[test]
    fn opens_what_was_sealed_and_nothing_else() {
        let keys = keys(&["one"]);
        let sealed = keys.seal("session a.example.com", b"who it is").unwrap();
        assert_eq!(keys.open("session a.example.com", &sealed).unwrap(), b"who it is");
        assert_eq!(keys.open("session b.example.com", &sealed), None);
        assert_eq!(keys.open("session a.example.com", ""), None);
        assert_eq!(keys.open("session a.example.com", &sealed[..8]), None);
        assert_eq!(keys.open("session a.example.com", &"A".repeat(SEALED_BYTES_MAX + 1)), None);
        let bytes = URL_SAFE_NO_PAD.decode(&sealed).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(keys.open("session a.example.com", &URL_SAFE_NO_PAD.encode(flipped)), None, "bit {bit}");
        }
    }

    #[test]
    fn former_key_opens_and_another_gateways_does_not() {
        let old = keys(&["old"]).seal("p", b"x").unwrap();
        assert_eq!(keys(&["new", "old"]).open("p", &old).unwrap(), b"x");
        assert_eq!(keys(&["new"]).open("p", &old), None);
        let new = keys(&["new", "old"]).seal("p", b"x").unwrap();
        assert_eq!(keys(&["old"]).open("p", &new), None);
    }

    #[test]
    fn same_text_never_looks_the_same() {
        let keys = keys(&["one"]);
        assert_ne!(keys.seal("p", b"x").unwrap(), keys.seal("p", b"x").unwrap());
        assert_eq!(format!("{keys:?}"), "Keys([1 secret])");
    }
}
