//! Signatures as Standard Webhooks has them: HMAC-SHA256 of id, time and body, in base64.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::hmac::{HMAC_SHA256, Key, sign};

/// The keys that sign, the first one and those that are being replaced; never shown.
#[derive(Clone)]
pub struct SigningKeys(Vec<Key>);

impl SigningKeys {
    /// Reads one key a line, each `whsec_` and base64 of 24 to 64 bytes. With several, each signs, so that a receiver can
    /// change from one to the other.
    ///
    /// # Errors
    ///
    /// What would be right, in words that continue the file's name.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        const EXPECTED: &str = "must have one to three lines, each `whsec_` and 24 to 64 random bytes in base64; \
             `echo whsec_$(openssl rand -base64 32)` makes one";
        let lines: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        if lines.is_empty() || lines.len() > KEYS_MAX {
            return Err(EXPECTED);
        }
        let key = |line: &str| {
            let bytes = STANDARD.decode(line.strip_prefix("whsec_")?).ok()?;
            (24..=64).contains(&bytes.len()).then(|| Key::new(HMAC_SHA256, &bytes))
        };
        let keys: Option<Vec<_>> = lines.into_iter().map(key).collect();
        keys.map(Self).ok_or(EXPECTED)
    }

    /// The value of `webhook-signature`: one for each key.
    #[must_use]
    pub fn sign(&self, id: &str, unix: i64, body: &str) -> String {
        let message = format!("{id}.{unix}.{body}");
        let one = |key| format!("v1,{}", STANDARD.encode(sign(key, message.as_bytes())));
        self.0.iter().map(one).collect::<Vec<_>>().join(" ")
    }
}

impl fmt::Debug for SigningKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKeys({})", self.0.len())
    }
}

/// One in force, one before it, one to come.
const KEYS_MAX: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the Standard Webhooks specification.
    #[test]
    fn signature_is_that_of_the_specification() {
        let keys = SigningKeys::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n").unwrap();
        let signature = keys.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, r#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn every_key_signs_and_none_is_shown() {
        let line = |byte: u8, len: usize| format!("whsec_{}\n", STANDARD.encode(vec![byte; len]));
        let keys = SigningKeys::parse(&(line(1, 24) + &line(2, 64))).unwrap();
        let both = keys.sign("a", 1, "b");
        assert_eq!(both.split(' ').collect::<std::collections::BTreeSet<_>>().len(), 2);
        assert_eq!(format!("{keys:?}"), "SigningKeys(2)");
        for text in ["", "\n", &line(1, 23), &line(1, 65), "secret", "whsec_%", &line(1, 24).repeat(4)] {
            assert!(SigningKeys::parse(text).is_err(), "{text}");
        }
    }
}
