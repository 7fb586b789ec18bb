//! Signatures that are a keyed hash (HMAC) of the body and of what stands around it.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use http::HeaderMap;
use ring::hmac::{self, Key};
use subtle::ConstantTimeEq;

use super::Flaw;

/// How a provider signs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Form {
    /// The header that has the signatures.
    pub(super) header: Box<str>,
    pub(super) layout: Layout,
    pub(super) hash: Hash,
    pub(super) encoding: Encoding,
    /// What is signed, piece by piece.
    pub(super) message: &'static [Piece],
    /// Where the time of signing stands, if it is signed.
    pub(super) time: Time,
    pub(super) key: KeyForm,
}

/// How the header holds its signatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// One signature behind this prefix.
    Prefixed(Box<str>),
    /// `key=value` pairs with commas between them; each with this key is a signature.
    Pairs(&'static str),
    /// `v1,…` entries with spaces between them.
    Versions(&'static str),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hash {
    Sha1,
    Sha256,
    Sha512,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Hex,
    Base64,
}

/// A piece of what is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    Body,
    Text(&'static str),
    /// The time of signing as it stands in the request.
    Time,
    /// The value of a header.
    Header(&'static str),
}

/// Where the time of signing stands: seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Time {
    Unsigned,
    Header(&'static str),
    /// In the pair with this key.
    Pair(&'static str),
}

/// How the secret becomes a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyForm {
    /// Its bytes are the key.
    Text,
    /// `whsec_` and the key in base64.
    Whsec,
}

/// What a request says of its signature.
#[derive(Debug)]
pub(super) struct Signed {
    signatures: Vec<Vec<u8>>,
    /// The message in front of the body and behind it.
    before: Vec<u8>,
    after: Vec<u8>,
    hash: Hash,
    key: KeyForm,
}

impl Form {
    /// Reads what a request says, and refuses it when it was signed too long ago.
    pub(super) fn read(&self, headers: &HeaderMap, now: i64) -> Result<Signed, Flaw> {
        let line = single(headers, &self.header)?;
        let time = match self.time {
            Time::Unsigned => None,
            Time::Header(name) => Some(single(headers, name)?),
            Time::Pair(key) => Some(
                pairs(line)
                    .find(|(name, _)| *name == key)
                    .map(|(_, value)| value)
                    .ok_or_else(|| Flaw::new(format!("the header {} has no time of signing", self.header)))?,
            ),
        };
        if let Some(time) = time {
            check_time(time, now)?;
        }
        let signatures = self.signatures(line);
        if signatures.is_empty() {
            return Err(Flaw::new(format!("the header {} has no signature that can be read", self.header)));
        }
        let (mut before, mut after, mut is_behind) = (Vec::new(), Vec::new(), false);
        for piece in self.message {
            let part = if is_behind { &mut after } else { &mut before };
            match piece {
                Piece::Body => is_behind = true,
                Piece::Text(text) => part.extend_from_slice(text.as_bytes()),
                Piece::Time => part.extend_from_slice(time.unwrap_or_default().as_bytes()),
                Piece::Header(name) => part.extend_from_slice(single(headers, name)?.as_bytes()),
            }
        }
        Ok(Signed { signatures, before, after, hash: self.hash, key: self.key })
    }

    fn signatures(&self, line: &str) -> Vec<Vec<u8>> {
        let decode = |text: &str| self.encoding.decode(text, self.hash);
        match &self.layout {
            Layout::Prefixed(prefix) => line.strip_prefix(&**prefix).and_then(decode).into_iter().collect(),
            Layout::Pairs(key) => {
                let found = pairs(line).filter(|(name, _)| name == key);
                found.filter_map(|(_, value)| decode(value)).take(SIGNATURES_MAX).collect()
            }
            Layout::Versions(version) => {
                let entries = line.split(' ').filter_map(|entry| entry.split_once(','));
                let found = entries.filter(|(name, _)| name == version);
                found.filter_map(|(_, value)| decode(value)).take(SIGNATURES_MAX).collect()
            }
        }
    }
}

impl Signed {
    /// Whether one of the signatures is that of the body. Each is compared in a time that does not depend on it.
    pub(super) fn holds(&self, secret: &[u8], body: &[u8]) -> Result<bool, Flaw> {
        let key = self.key.of(secret).ok_or_else(|| Flaw::new("the secret is not one of this provider"))?;
        let tag = sign(self.hash, &key, &[&self.before, body, &self.after]);
        Ok(self.signatures.iter().fold(false, |found, signature| found | bool::from(signature.ct_eq(tag.as_ref()))))
    }
}

/// The keyed hash of pieces, as if they were one text.
pub(super) fn sign(hash: Hash, key: &[u8], pieces: &[&[u8]]) -> hmac::Tag {
    let algorithm = match hash {
        Hash::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
        Hash::Sha256 => hmac::HMAC_SHA256,
        Hash::Sha512 => hmac::HMAC_SHA512,
    };
    let mut context = hmac::Context::with_key(&Key::new(algorithm, key));
    pieces.iter().for_each(|piece| context.update(piece));
    context.sign()
}

impl KeyForm {
    fn of(self, secret: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::Text => Some(secret.to_vec()),
            Self::Whsec => {
                let text = secret.strip_prefix(b"whsec_").unwrap_or(secret);
                STANDARD.decode(text).ok().filter(|key| !key.is_empty())
            }
        }
    }
}

impl Encoding {
    /// The bytes of a signature, if they are as many as the hash has.
    fn decode(self, text: &str, hash: Hash) -> Option<Vec<u8>> {
        let text = text.trim();
        let bytes = match self {
            Self::Hex => hex(text)?,
            Self::Base64 => STANDARD_NO_PAD.decode(text.trim_end_matches('=')).ok()?,
        };
        (bytes.len() == hash.len()).then_some(bytes)
    }
}

impl Hash {
    const fn len(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }
}

/// The one line of a header.
pub(super) fn single<'h>(headers: &'h HeaderMap, name: &str) -> Result<&'h str, Flaw> {
    let mut lines = headers.get_all(name).iter();
    match (lines.next(), lines.next()) {
        (Some(line), None) => line.to_str().map_err(|_| Flaw::new(format!("the header {name} is not ASCII"))),
        (None, _) => Err(Flaw::new(format!("the request has no header {name}"))),
        (Some(_), Some(_)) => Err(Flaw::new(format!("the request has more than one header {name}"))),
    }
}

fn pairs(line: &str) -> impl Iterator<Item = (&str, &str)> {
    line.split(',').filter_map(|pair| pair.trim().split_once('='))
}

fn check_time(text: &str, now: i64) -> Result<(), Flaw> {
    let time: i64 = text.parse().map_err(|_| Flaw::new("the time of signing is not a number of seconds"))?;
    if now.abs_diff(time) > TOLERANCE {
        return Err(Flaw::new(format!("it was signed more than {TOLERANCE} s ago, or in the future")));
    }
    Ok(())
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect()
}

/// A hash as providers write it.
pub(super) fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Seconds by which the time of signing may differ from the gateway's: what Stripe and Slack recommend.
pub(super) const TOLERANCE: u64 = 300;
/// Signatures of one request that are looked at: providers send two while a secret changes.
const SIGNATURES_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_decoded_strictly() {
        assert_eq!(hex("00fFa1"), Some(vec![0, 255, 161]));
        for text in ["0", "0g", "+1", "é"] {
            assert_eq!(hex(text), None, "{text}");
        }
        assert_eq!(to_hex(&[0, 255, 161]), "00ffa1");
        assert_eq!(Encoding::Hex.decode("00", Hash::Sha1), None);
        assert_eq!(Encoding::Hex.decode(&"00".repeat(20), Hash::Sha1), Some(vec![0; 20]));
        assert_eq!(Encoding::Base64.decode(&STANDARD.encode([7; 32]), Hash::Sha256), Some(vec![7; 32]));
    }

    #[test]
    fn time_may_differ_by_the_tolerance_and_no_second_more() {
        for (time, is_fine) in [("1000", true), ("700", true), ("1300", true), ("699", false), ("1301", false)] {
            assert_eq!(check_time(time, 1000).is_ok(), is_fine, "{time}");
        }
        for time in ["", "x", "1000.0", "99999999999999999999"] {
            assert!(check_time(time, 1000).is_err(), "{time}");
        }
    }

    #[test]
    fn only_so_many_signatures_are_looked_at() {
        let form = Form {
            header: "x".into(),
            layout: Layout::Pairs("v1"),
            hash: Hash::Sha1,
            encoding: Encoding::Hex,
            message: &[Piece::Body],
            time: Time::Unsigned,
            key: KeyForm::Text,
        };
        let line = vec![format!("v1={}", "00".repeat(20)); SIGNATURES_MAX + 1].join(",");
        assert_eq!(form.signatures(&line).len(), SIGNATURES_MAX);
    }
}
