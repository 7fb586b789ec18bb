//! Authtokens: how they are made, read and checked. The gateway keeps only their hashes.
//!
//! A token is `adit_<id>_<secret>`: the id of its credential, so that the right hash is found without trying all, and
//! 256 random bits in base32, which a double click selects whole. With that much randomness a plain SHA-256 is as good
//! as a slow password hash: there is nothing to guess.

use std::fmt;
use std::str::FromStr;

use ring::digest;
use ring::rand::{SecureRandom, SystemRandom};
use subtle::ConstantTimeEq;

/// A well-formed authtoken, as an agent presents it. Its secret part is in no output but [`Token::expose`].
#[derive(Clone)]
pub struct Token {
    text: String,
    id_len: usize,
}

/// What the gateway keeps of a token. Written as `sha256:` and 64 hexadecimal digits.
#[derive(Clone, Copy)]
pub struct TokenHash([u8; digest::SHA256_OUTPUT_LEN]);

/// The name of a credential: 1 to [`CREDENTIAL_ID_LEN_MAX`] of `a-z`, `0-9`, `-`, `_` and `.`, the first one a letter or
/// a digit. So it is fit for a file name, a log field and the inside of a token.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CredentialId(String);

/// The text is not a token of this gateway's making (ERR_NGROK_105). It says nothing about the text itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MalformedToken;

/// The text is not `sha256:` with 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MalformedHash;

/// The text cannot name a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MalformedCredentialId;

/// The operating system gave no random bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRandomness;

impl Token {
    /// Makes a new token for the credential `id`.
    ///
    /// # Errors
    ///
    /// [`NoRandomness`] when the operating system has none to give.
    pub fn generate(id: &CredentialId) -> Result<Self, NoRandomness> {
        let mut secret = [0; SECRET_LEN];
        SystemRandom::new().fill(&mut secret).map_err(|_| NoRandomness)?;
        let text = format!("{PREFIX}{}_{}", id.as_str(), base32(&secret));
        Ok(Self { text, id_len: id.as_str().len() })
    }

    /// Reads what an agent presents. Only its form is checked here: whether it is known, [`TokenHash::matches`] tells.
    ///
    /// # Errors
    ///
    /// [`MalformedToken`]: refuse with ERR_NGROK_105. A well-formed token that nobody has is ERR_NGROK_107.
    pub fn parse(text: &str) -> Result<Self, MalformedToken> {
        let (id, secret) = text.strip_prefix(PREFIX).and_then(|rest| rest.rsplit_once('_')).ok_or(MalformedToken)?;
        let is_secret = secret.len() == SECRET_TEXT_LEN && secret.bytes().all(|byte| ALPHABET.contains(&byte));
        if !is_secret || !is_credential_id(id) {
            return Err(MalformedToken);
        }
        Ok(Self { text: text.to_owned(), id_len: id.len() })
    }

    /// The id of the credential that it claims to belong to. No secret.
    #[must_use]
    pub fn credential_id(&self) -> &str {
        // Invariant: both constructors put an id of this length behind the prefix.
        self.text.get(PREFIX.len()..PREFIX.len() + self.id_len).unwrap_or_default()
    }

    /// The hash to keep, or to compare with the kept ones.
    #[must_use]
    pub fn hash(&self) -> TokenHash {
        TokenHash::of(&self.text)
    }

    /// The whole token with its secret: to print it once, or to hand it to an agent.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}_[secret]", self.credential_id())
    }
}

impl TokenHash {
    /// Hashes the text of a whole token.
    #[must_use]
    pub fn of(text: &str) -> Self {
        let digest = digest::digest(&digest::SHA256, text.as_bytes());
        let mut hash = [0; digest::SHA256_OUTPUT_LEN];
        for (to, from) in hash.iter_mut().zip(digest.as_ref()) {
            *to = *from;
        }
        Self(hash)
    }

    /// Tells whether both are the same, in a time that does not depend on where they differ.
    #[must_use]
    pub fn matches(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }

    /// Tells whether any of `kept` is this hash. Always looks at all of them.
    #[must_use]
    pub fn is_among(&self, kept: &[Self]) -> bool {
        kept.iter().fold(false, |found, hash| found | self.matches(hash))
    }
}

impl PartialEq for TokenHash {
    fn eq(&self, other: &Self) -> bool {
        self.matches(other)
    }
}

impl Eq for TokenHash {}

impl fmt::Display for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HASH_PREFIX)?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Eight digits tell two hashes apart; no log needs more.
        let [a, b, c, d, ..] = self.0;
        write!(f, "{HASH_PREFIX}{a:02x}{b:02x}{c:02x}{d:02x}…")
    }
}

impl FromStr for TokenHash {
    type Err = MalformedHash;

    fn from_str(text: &str) -> Result<Self, MalformedHash> {
        let digits = text.strip_prefix(HASH_PREFIX).ok_or(MalformedHash)?.as_bytes();
        if digits.len() != 2 * digest::SHA256_OUTPUT_LEN {
            return Err(MalformedHash);
        }
        let mut hash = [0; digest::SHA256_OUTPUT_LEN];
        for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
            *byte =
                pair.iter().try_fold(0, |value, digit| Some(value << 4 | hex_value(*digit)?)).ok_or(MalformedHash)?;
        }
        Ok(Self(hash))
    }
}

impl CredentialId {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for CredentialId {
    type Err = MalformedCredentialId;

    fn from_str(text: &str) -> Result<Self, MalformedCredentialId> {
        if !is_credential_id(text) {
            return Err(MalformedCredentialId);
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for CredentialId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for MalformedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the authtoken is malformed: it must be adit_<id>_<secret>, as `adit-gateway token new` prints it")
    }
}

impl std::error::Error for MalformedToken {}

impl fmt::Display for MalformedHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a hash is sha256: and 64 hexadecimal digits, as `adit-gateway token new` prints it")
    }
}

impl std::error::Error for MalformedHash {}

impl fmt::Display for MalformedCredentialId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "an id is 1 to {CREDENTIAL_ID_LEN_MAX} of a-z, 0-9, '-', '_' and '.', beginning with a letter or a digit"
        )
    }
}

impl std::error::Error for MalformedCredentialId {}

impl fmt::Display for NoRandomness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the operating system gave no random bytes; try again")
    }
}

impl std::error::Error for NoRandomness {}

fn is_credential_id(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte);
    text.len() <= CREDENTIAL_ID_LEN_MAX
        && text.bytes().all(allowed)
        && text.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric())
}

/// RFC 4648 base32 in lower case, without padding.
fn base32(bytes: &[u8]) -> String {
    let mut text = String::with_capacity((bytes.len() * 8).div_ceil(BASE32_BITS));
    let (mut held, mut held_bits) = (0_u32, 0);
    for byte in bytes {
        held = held << 8 | u32::from(*byte);
        held_bits += 8;
        while held_bits >= BASE32_BITS {
            held_bits -= BASE32_BITS;
            text.push(base32_digit(held >> held_bits));
        }
    }
    if held_bits > 0 {
        text.push(base32_digit(held << (BASE32_BITS - held_bits)));
    }
    text
}

fn base32_digit(value: u32) -> char {
    // The mask keeps the index within the 32 digits.
    char::from(ALPHABET[(value & 31) as usize])
}

fn hex_value(digit: u8) -> Option<u8> {
    let value = char::from(digit).to_digit(16)?;
    u8::try_from(value).ok()
}

/// Longest credential id, in bytes: a label in a DNS name has as many, and so may one in the names of its endpoints.
pub const CREDENTIAL_ID_LEN_MAX: usize = 63;
/// What every token begins with, so that secret scanners and people recognise one.
const PREFIX: &str = "adit_";
/// Names the algorithm, so that another can join it.
const HASH_PREFIX: &str = "sha256:";
/// 256 random bits.
const SECRET_LEN: usize = 32;
/// Bits that one digit of base32 carries.
const BASE32_BITS: usize = 5;
/// Digits of the secret: 52.
const SECRET_TEXT_LEN: usize = (SECRET_LEN * 8).div_ceil(BASE32_BITS);
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> CredentialId {
        text.parse().unwrap()
    }

    #[test]
    fn generated_token_is_read_back_with_its_id() {
        for name in ["site-1", "a", "under_scored_", "v1.2", &"x".repeat(CREDENTIAL_ID_LEN_MAX)] {
            let token = Token::generate(&id(name)).unwrap();
            let read = Token::parse(token.expose()).unwrap();
            assert_eq!(token.credential_id(), name);
            assert_eq!(read.credential_id(), name);
            assert!(read.hash().matches(&token.hash()));
        }
    }

    #[test]
    fn generated_tokens_differ() {
        let tokens: std::collections::HashSet<String> =
            (0..100).map(|_| Token::generate(&id("a")).unwrap().expose().to_owned()).collect();
        assert_eq!(tokens.len(), 100);
    }

    #[test]
    fn malformed_token_is_refused() {
        let secret = "a".repeat(SECRET_TEXT_LEN);
        assert!(Token::parse(&format!("adit_x_{secret}")).is_ok());
        let bad = [
            String::new(),
            "adit_".to_owned(),
            "2abcDEF_ngrokStyleToken".to_owned(),
            format!("adit_{secret}"),
            format!("adit__{secret}"),
            format!("adit_X_{secret}"),
            format!("adit_x_{secret}a"),
            format!("adit_x_{}", &secret[1..]),
            format!("adit_x_{}1", &secret[1..]),
            format!("adit_x_{}A", &secret[1..]),
            format!("ADIT_x_{secret}"),
            format!(" adit_x_{secret}"),
            format!("adit_x_{secret}\n"),
            format!("adit_{}_{secret}", "x".repeat(CREDENTIAL_ID_LEN_MAX + 1)),
            format!("adit_x_{}ü", &secret[2..]),
        ];
        for text in bad {
            assert_eq!(Token::parse(&text).map(|_| ()), Err(MalformedToken), "{text:?}");
        }
    }

    #[test]
    fn only_the_same_token_matches() {
        let (one, other) = (Token::generate(&id("a")).unwrap(), Token::generate(&id("a")).unwrap());
        assert!(one.hash().is_among(&[other.hash(), one.hash()]));
        assert!(one.hash().is_among(&[one.hash(), other.hash()]));
        assert!(!one.hash().is_among(&[other.hash()]));
        assert!(!one.hash().is_among(&[]));
    }

    #[test]
    fn hash_survives_its_text_form() {
        // echo -n abc | sha256sum
        let text = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(TokenHash::of("abc").to_string(), text);
        assert_eq!(text.parse(), Ok(TokenHash::of("abc")));
        assert_eq!(text.replace("ba78", "BA78").parse(), Ok(TokenHash::of("abc")));
        for bad in ["", "sha256:", &text[1..], &text[..text.len() - 1], &text.replace("ba", "bg"), &format!("{text}0")]
        {
            assert_eq!(bad.parse::<TokenHash>(), Err(MalformedHash), "{bad:?}");
        }
    }

    #[test]
    fn base32_is_that_of_the_rfc() {
        for (bytes, text) in
            [("", ""), ("f", "my"), ("fo", "mzxq"), ("foo", "mzxw6"), ("foob", "mzxw6yq"), ("fooba", "mzxw6ytb")]
        {
            assert_eq!(base32(bytes.as_bytes()), text);
        }
    }

    #[test]
    fn credential_id_has_a_narrow_alphabet() {
        for bad in ["", "-a", "_a", ".a", "A", "a b", "a/b", "ü", &"a".repeat(CREDENTIAL_ID_LEN_MAX + 1)] {
            assert_eq!(bad.parse::<CredentialId>(), Err(MalformedCredentialId), "{bad:?}");
        }
    }

    #[test]
    fn secret_is_not_printed() {
        let token = Token::generate(&id("site-1")).unwrap();
        assert_eq!(format!("{token:?}"), "adit_site-1_[secret]");
        assert!(format!("{:?}", token.hash()).len() < 20);
    }
}
