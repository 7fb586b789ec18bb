//! The questions by which some providers find out, before they send anything, whether an endpoint knows the secret.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderValue, Method, StatusCode};
use serde_json::{Value, json};

use super::super::super::CustomResponse;
use super::super::super::expression::query_pairs;
use super::provider::Provider;
use super::signature::{Hash, sign, to_hex};

/// Answers a question that is in the head alone.
pub(super) fn before_body(provider: &Provider, head: &Parts, secret: &[u8]) -> Option<CustomResponse> {
    if head.method != Method::GET {
        return None;
    }
    match provider.name() {
        "twitter" => {
            let mut pairs = query_pairs(head.uri.query().unwrap_or_default());
            let (_, token) = pairs.find(|(name, _)| name == "crc_token")?;
            // Its messages are signed in the same way: whoever could choose what is answered could sign them.
            if token.is_empty() || token.len() > TOKEN_BYTES_MAX || !token.bytes().all(is_of_token) {
                return None;
            }
            let hash = STANDARD.encode(sign(Hash::Sha256, secret, &[token.as_bytes()]));
            Some(answer_json(&json!({"response_token": format!("sha256={hash}")})))
        }
        "worldline" => {
            let token = head.headers.get("x-gcs-webhooks-endpoint-verification")?;
            let is_plain = token.len() <= TOKEN_BYTES_MAX && token.as_bytes().iter().copied().all(is_of_token);
            is_plain.then(|| answer("text/plain", Bytes::copy_from_slice(token.as_bytes())))
        }
        _ => None,
    }
}

/// Answers a question that is a signed body.
pub(super) fn of_body(provider: &Provider, body: &[u8], secret: &[u8]) -> Option<CustomResponse> {
    match provider.name() {
        "zoom" => {
            let message: Value = serde_json::from_slice(body).ok()?;
            if message.get("event")?.as_str()? != "endpoint.url_validation" {
                return None;
            }
            let token = message.get("payload")?.get("plainToken")?.as_str()?;
            let hash = to_hex(sign(Hash::Sha256, secret, &[token.as_bytes()]).as_ref());
            Some(answer_json(&json!({"plainToken": token, "encryptedToken": hash})))
        }
        "xero" => {
            let message: Value = serde_json::from_slice(body).ok()?;
            let is_question = message.get("events")?.as_array()?.is_empty();
            is_question.then(|| CustomResponse::empty(StatusCode::OK))
        }
        _ => None,
    }
}

fn answer_json(value: &Value) -> CustomResponse {
    answer("application/json", value.to_string().into())
}

fn answer(kind: &'static str, body: Bytes) -> CustomResponse {
    let mut response = CustomResponse::empty(StatusCode::OK);
    response.headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response.body = body;
    response
}

/// Questions are identifiers or random bytes in base64; no JSON is written with these characters alone.
fn is_of_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"+/=-_.".contains(&byte)
}

const TOKEN_BYTES_MAX: usize = 256;
