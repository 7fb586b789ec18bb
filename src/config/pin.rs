//! A pinned public key, as `agent.connect_pin` writes it.

use std::fmt;

/// The SHA-256 of a certificate's SubjectPublicKeyInfo in DER.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicKeyPin([u8; HASH_LEN]);

impl PublicKeyPin {
    /// The pin with this hash; `None` if it has another length than SHA-256 gives.
    #[must_use]
    pub fn from_hash(hash: &[u8]) -> Option<Self> {
        hash.try_into().ok().map(Self)
    }

    /// Reads `sha256/` and base64 (as in HTTP's and curl's pins) or `sha256:` and hexadecimal digits.
    ///
    /// # Errors
    /// What would be right.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let hash = if let Some(base64) = text.strip_prefix("sha256/") {
            from_base64(base64)
        } else if let Some(hex) = text.strip_prefix("sha256:") {
            from_hex(hex)
        } else {
            None
        };
        hash.map(Self).ok_or(EXPECTED)
    }
}

/// `sha256/` and base64.
impl fmt::Display for PublicKeyPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256/")?;
        for group in self.0.chunks(3) {
            let bits = group.iter().fold(0, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
            for place in 0..4 {
                let sextet = bits >> (18 - 6 * place) & 0x3f;
                let is_padding = place > group.len();
                write!(f, "{}", if is_padding { '=' } else { char::from(ALPHABET[sextet as usize]) })?;
            }
        }
        Ok(())
    }
}

/// Reads 43 characters and one `=`. The two bits that are left over have to be zero, or a mistyped end would pass.
fn from_base64(text: &str) -> Option<[u8; HASH_LEN]> {
    let text = text.strip_suffix('=')?.as_bytes();
    if text.len() != BASE64_CHARS {
        return None;
    }
    let mut hash = [0; HASH_LEN];
    let mut bytes = hash.iter_mut();
    let (mut bits, mut count) = (0u16, 0);
    for character in text {
        let sextet = ALPHABET.iter().position(|candidate| candidate == character)?;
        bits = (bits << 6 | u16::try_from(sextet).ok()?) & 0x3fff;
        count += 6;
        if count >= 8 {
            count -= 8;
            *bytes.next()? = u8::try_from(bits >> count & 0xff).ok()?;
        }
    }
    (bits & ((1 << count) - 1) == 0).then_some(hash)
}

fn from_hex(text: &str) -> Option<[u8; HASH_LEN]> {
    if text.len() != 2 * HASH_LEN {
        return None;
    }
    let mut hash = [0; HASH_LEN];
    for (byte, digits) in hash.iter_mut().zip(text.as_bytes().chunks(2)) {
        for digit in digits {
            *byte = *byte << 4 | u8::try_from(char::from(*digit).to_digit(16)?).ok()?;
        }
    }
    Some(hash)
}

const EXPECTED: &str = "must be the SHA-256 of the public key of the gateway's certificate: \"sha256/\" and 44 characters \
                        of base64, or \"sha256:\" and 64 hexadecimal digits";

const HASH_LEN: usize = 32;

/// What base64 makes of a hash, without its padding.
const BASE64_CHARS: usize = 43;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Of the empty string, by `openssl dgst -sha256 -binary </dev/null | base64` and without `| base64`.
    const EMPTY: [&str; 2] = [
        "sha256/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
        "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    ];

    #[test]
    fn both_forms_are_read_and_base64_is_written() {
        let pins = EMPTY.map(|text| PublicKeyPin::parse(text).unwrap());
        assert_eq!(pins[0], pins[1]);
        assert_eq!(pins[0].to_string(), EMPTY[0]);
        assert_eq!(PublicKeyPin::parse(&EMPTY[1].to_uppercase().replace("SHA", "sha")), Ok(pins[0]));
    }

    #[test]
    fn anything_else_is_refused() {
        let [base64, hex] = EMPTY;
        let wrong = [
            "",
            "sha256/",
            "sha256:",
            "sha1/47DEQpj8HBSa+/TImW+5JCeuQeQ=",
            "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
            &base64.replace("FU=", "FV="),
            &base64.replace("FU=", "FU"),
            &base64.replace("FU=", "FUU"),
            &base64.replace("FU=", "=="),
            &base64.replace('+', "-"),
            &base64.replace("sha256/", "sha256//"),
            &base64.replace("sha256/", "sha256:"),
            &hex.replace("sha256:", "sha256/"),
            &hex[..hex.len() - 1],
            &format!("{hex}0"),
            &hex.replace('b', "g"),
            &hex.replace("b855", "é55"),
        ];
        for text in wrong {
            assert_eq!(PublicKeyPin::parse(text), Err(EXPECTED), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(hash: [u8; HASH_LEN]) {
            let pin = PublicKeyPin(hash);
            prop_assert_eq!(PublicKeyPin::parse(&pin.to_string()), Ok(pin));
            let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
            prop_assert_eq!(PublicKeyPin::parse(&format!("sha256:{hex}")), Ok(pin));
        }

        #[test]
        fn no_text_panics(text in "(sha256[/:])?.{0,70}") {
            let _ = PublicKeyPin::parse(&text);
        }
    }
}
