//! Tokens in the body of a request.

use std::sync::Arc;

use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderMap, Method};
use serde_json::{Map, Value as Json};

use super::super::super::error::{
    BODY_UNREAD, JWT_BODY_FORM, JWT_BODY_JSON, JWT_BODY_METHOD, JWT_BODY_TYPE, JWT_INVALID, JWT_MISSING, JWT_PREFIX,
};
use super::super::super::expression::query_pairs;
use super::super::super::payload::Payload;
use super::Flaw;
use super::strict_json;

/// The fields of a body, in which no name is there twice. With the body comes the account that it is read for.
pub(super) async fn fields(
    head: &Parts,
    payload: Option<(&dyn Payload, &Arc<str>)>,
) -> Result<Map<String, Json>, Flaw> {
    if !matches!(head.method, Method::POST | Method::PUT | Method::PATCH) {
        return Err(Flaw::new(JWT_BODY_METHOD, "only POST, PUT and PATCH have a body with a token"));
    }
    let kind = media_type(&head.headers);
    let is_json = kind == "application/json";
    if !is_json && kind != "application/x-www-form-urlencoded" {
        let reason =
            "the body that has to hold a token is neither application/json nor application/x-www-form-urlencoded";
        return Err(Flaw::new(JWT_BODY_TYPE, reason));
    }
    let Some((payload, account)) = payload else { return Err(Flaw::new(BODY_UNREAD, "the body cannot be read here")) };
    let body = payload.read(account).await.map_err(|fault| Flaw::new(BODY_UNREAD, fault.to_string()))?;
    if is_json {
        let reason = "the body is no JSON object in which every name is there once";
        return strict_json::object(&body).map_err(|_| Flaw::new(JWT_BODY_JSON, reason));
    }
    let text = std::str::from_utf8(&body).map_err(|_| Flaw::new(JWT_BODY_FORM, "the form is not ASCII"))?;
    let mut fields = Map::new();
    for (name, value) in query_pairs(text) {
        if fields.insert(name, value.into()).is_some() {
            return Err(Flaw::new(JWT_BODY_FORM, "a name is twice in the form"));
        }
    }
    Ok(fields)
}

/// The token in one of the fields.
pub(super) fn token_in(fields: &Map<String, Json>, name: &str, prefix: &str) -> Result<String, Flaw> {
    let value = match fields.get(name) {
        None => return Err(Flaw::new(JWT_MISSING, format!("the body has no {name}"))),
        Some(Json::String(text)) => text,
        Some(_) => return Err(Flaw::new(JWT_INVALID, format!("{name} in the body is not a text"))),
    };
    let head = value.get(..prefix.len()).unwrap_or_default();
    if !head.eq_ignore_ascii_case(prefix) {
        return Err(Flaw::new(JWT_PREFIX, format!("{name} in the body does not begin with {prefix:?}")));
    }
    match value.get(prefix.len()..).unwrap_or_default().trim() {
        "" => Err(Flaw::new(JWT_MISSING, format!("{name} in the body is empty"))),
        token => Ok(token.to_owned()),
    }
}

fn media_type(headers: &HeaderMap) -> String {
    let mut lines = headers.get_all(CONTENT_TYPE).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else { return String::new() };
    let kind = line.to_str().unwrap_or_default().split(';').next().unwrap_or_default();
    kind.trim().to_ascii_lowercase()
}
