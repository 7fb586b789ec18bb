//! Twilio's signature, which is of the address and the form's fields instead of the body's bytes.

use adit::endpoint_url::Scheme;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{CONTENT_TYPE, HOST};
use http::request::Parts;
use ring::digest::{SHA256, digest};
use subtle::ConstantTimeEq;

use super::super::super::expression::query_pairs;
use super::Flaw;
use super::signature::{Hash, sign, single, to_hex};

/// What a request says of its signature.
#[derive(Debug)]
pub(super) struct Signed {
    signature: Vec<u8>,
    /// The address as Twilio called it.
    url: String,
    is_form: bool,
    /// The hash that the address has of a body that is no form.
    body_hash: Option<String>,
}

impl Signed {
    pub(super) fn read(head: &Parts, scheme: Scheme) -> Result<Self, Flaw> {
        let line = single(&head.headers, HEADER)?;
        let signature =
            STANDARD.decode(line).map_err(|_| Flaw::new(format!("the header {HEADER} is not in base64")))?;
        let host = single(&head.headers, HOST.as_str())?;
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        let kind = head.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let is_form = kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case(FORM));
        let body_hash = query_pairs(head.uri.query().unwrap_or_default()).find(|(name, _)| name == "bodySHA256");
        let body_hash = body_hash.map(|(_, hash)| hash);
        Ok(Self { signature, url: format!("{scheme}://{host}{path}"), is_form, body_hash })
    }

    pub(super) fn holds(&self, secret: &[u8], body: &[u8]) -> bool {
        let mut message = self.url.clone();
        if self.is_form {
            let mut fields: Vec<_> = query_pairs(&String::from_utf8_lossy(body)).collect();
            fields.sort();
            fields.dedup();
            fields.iter().for_each(|(name, value)| message.extend([name.as_str(), value.as_str()]));
        } else if !body.is_empty() {
            // Without it the body would not be signed at all.
            let hash = to_hex(digest(&SHA256, body).as_ref());
            if !self.body_hash.as_ref().is_some_and(|named| named.eq_ignore_ascii_case(&hash)) {
                return false;
            }
        }
        let tag = sign(Hash::Sha1, secret, &[message.as_bytes()]);
        bool::from(self.signature.ct_eq(tag.as_ref()))
    }
}

pub(super) const HEADER: &str = "x-twilio-signature";
const FORM: &str = "application/x-www-form-urlencoded";
