//! A signed token in compact form: its parts, and whether a key has signed them. ring does the cryptography.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384,
    RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512,
    RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey,
};
use serde_json::{Map, Value as Json};

use super::super::super::error::{JWT_INVALID, JWT_UNPARSABLE};
use super::Flaw;
use super::keys::{Key, Source, Trial};
use super::strict_json::{self, JsonError};

/// The parts of a token. Nothing in it is trusted before [`Key::verify`].
pub(in crate::policy::actions) struct Jws<'t> {
    pub(in crate::policy::actions) header: Map<String, Json>,
    pub(in crate::policy::actions) payload: Map<String, Json>,
    pub(in crate::policy::actions) signature_text: &'t str,
    signed: &'t str,
    signature: Vec<u8>,
}

impl<'t> Jws<'t> {
    pub(in crate::policy::actions) fn parse(text: &'t str) -> Result<Self, Flaw> {
        let flaw = |reason: &str| Flaw::new(JWT_UNPARSABLE, reason);
        if text.len() > TOKEN_BYTES_MAX {
            return Err(flaw("the token is longer than 16 KiB"));
        }
        let (signed, signature_text) = text.rsplit_once('.').ok_or_else(|| flaw("the token has no signature"))?;
        let (header, payload) = signed.split_once('.').ok_or_else(|| flaw("the token does not have three parts"))?;
        let decode =
            |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| flaw("a part of the token is not base64url"));
        let object = |part: &str| {
            strict_json::object(&decode(part)?).map_err(|error| match error {
                JsonError::Form => flaw("a part of the token is not JSON, or nested too deep"),
                JsonError::Twice => flaw("a part of the token has a name twice in one object"),
                JsonError::NoObject => flaw("a part of the token is JSON, but no object"),
            })
        };
        Ok(Self {
            header: object(header)?,
            payload: object(payload)?,
            signature_text,
            signed,
            signature: decode(signature_text)?,
        })
    }

    /// A text of the header.
    pub(in crate::policy::actions) fn text(&self, name: &str) -> Option<&str> {
        self.header.get(name)?.as_str()
    }

    /// The algorithm that it says it is signed with, if that is among the allowed ones.
    pub(in crate::policy::actions) fn algorithm(&self, allowed: &[Algorithm]) -> Result<Algorithm, Flaw> {
        let reason = match self.header.get("alg") {
            Some(Json::String(name)) => match Algorithm::named(name) {
                Some(algorithm) if allowed.contains(&algorithm) => return Ok(algorithm),
                Some(_) => "the token's algorithm is not among the allowed ones",
                None if name.eq_ignore_ascii_case("none") => "the token's algorithm is none: nobody has signed it",
                None if name.starts_with("HS") => {
                    "the token's algorithm is for a shared secret (HS…): a published key is none"
                }
                None => "the token's algorithm is not known here",
            },
            Some(_) => return Err(Flaw::new(JWT_UNPARSABLE, "the token's alg is not a text")),
            None => "the token names no algorithm (alg)",
        };
        Err(Flaw::new(JWT_INVALID, reason))
    }

    /// Refuses what would change how the token is to be read, or whose keys it is to be checked with.
    pub(in crate::policy::actions) fn check_header(&self, sources: &[Arc<Source>]) -> Result<(), Flaw> {
        if self.header.contains_key("crit") {
            return Err(Flaw::new(JWT_INVALID, "the token has critical extensions, and none are known here"));
        }
        if let Some(url) = self.header.get("jku")
            && !sources.iter().any(|source| url == source.url())
        {
            return Err(Flaw::new(JWT_INVALID, "the token's jku names keys of somebody else"));
        }
        for name in ["x5u", "jwk", "x5c"] {
            if self.header.contains_key(name) {
                return Err(Flaw::new(JWT_INVALID, format!("the token brings its own key in {name}")));
            }
        }
        for name in ["kid", "typ"] {
            if self.header.get(name).is_some_and(|value| !value.is_string()) {
                return Err(Flaw::new(JWT_UNPARSABLE, format!("the token's {name} is not a text")));
            }
        }
        Ok(())
    }
}

/// How a token is signed. There is no `none`, and nothing symmetric: a secret is not what key sets publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::policy::actions) enum Algorithm {
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    EdDsa,
}

impl Algorithm {
    pub(in crate::policy::actions) const ALL: &[Self] = &[
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::Es256,
        Self::Es384,
        Self::EdDsa,
    ];
    pub(in crate::policy::actions) const NAMES: &str = "RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA";

    pub(in crate::policy::actions) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "RS256" => Self::Rs256,
            "RS384" => Self::Rs384,
            "RS512" => Self::Rs512,
            "PS256" => Self::Ps256,
            "PS384" => Self::Ps384,
            "PS512" => Self::Ps512,
            "ES256" => Self::Es256,
            "ES384" => Self::Es384,
            "EdDSA" => Self::EdDsa,
            _ => return None,
        })
    }

    fn rsa(self) -> Option<&'static RsaParameters> {
        match self {
            Self::Rs256 => Some(&RSA_PKCS1_2048_8192_SHA256),
            Self::Rs384 => Some(&RSA_PKCS1_2048_8192_SHA384),
            Self::Rs512 => Some(&RSA_PKCS1_2048_8192_SHA512),
            Self::Ps256 => Some(&RSA_PSS_2048_8192_SHA256),
            Self::Ps384 => Some(&RSA_PSS_2048_8192_SHA384),
            Self::Ps512 => Some(&RSA_PSS_2048_8192_SHA512),
            Self::Es256 | Self::Es384 | Self::EdDsa => None,
        }
    }
}

impl Key {
    /// Whether this key has signed the token. The key's type must be the algorithm's.
    pub(in crate::policy::actions) fn verify(&self, jws: &Jws<'_>, algorithm: Algorithm) -> Trial {
        let (message, signature) = (jws.signed.as_bytes(), jws.signature.as_slice());
        let verified = match (self, algorithm) {
            (Self::Rsa { n, e }, algorithm) => match algorithm.rsa() {
                Some(parameters) => RsaPublicKeyComponents { n, e }.verify(parameters, message, signature),
                None => return Trial::OtherType,
            },
            (Self::P256(point), Algorithm::Es256) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signature)
            }
            (Self::P384(point), Algorithm::Es384) => {
                UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point).verify(message, signature)
            }
            (Self::Ed25519(point), Algorithm::EdDsa) => {
                UnparsedPublicKey::new(&ED25519, point).verify(message, signature)
            }
            (Self::P256(_) | Self::P384(_) | Self::Ed25519(_), _) => return Trial::OtherType,
        };
        if verified.is_ok() { Trial::Signed } else { Trial::OtherSignature }
    }
}

/// Tokens with many groups in them have some 8 KiB; more does not fit into most servers' headers.
const TOKEN_BYTES_MAX: usize = 16 * 1024;
