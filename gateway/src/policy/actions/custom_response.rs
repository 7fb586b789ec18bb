//! `custom-response`: the gateway answers by itself; no agent sees the request.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, TE, TRAILER, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::super::document::Place;
use super::super::error::{CONFIG_VALUE, HEADER_NAME, HEADER_VALUE, HEADERS_TOO_MANY};
use super::super::fields::Fields;
use super::super::phase::{Phase, Step, Subject};
use super::super::{CustomResponse, Verdict};
use super::{Action, Kind};

pub(super) const KIND: Kind = Kind { name: "custom-response", phases: &[Phase::OnHttpRequest], compile };

#[derive(Debug)]
struct Respond {
    response: Arc<CustomResponse>,
}

impl Action for Respond {
    fn is_terminating(&self) -> bool {
        true
    }

    fn run(&self, _subject: &mut Subject<'_, '_>) -> Step {
        Step::End(Verdict::Respond(Arc::clone(&self.response)))
    }
}

fn compile(fields: &mut Fields<'_>, _phase: Phase, _place: Place) -> Option<Box<dyn Action>> {
    let status = fields.status("status_code", 200..=599, StatusCode::OK);
    let body = Bytes::copy_from_slice(fields.text("body").unwrap_or_default().as_bytes());
    if !body.is_empty()
        && matches!(status, StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::NOT_MODIFIED)
    {
        fields.wrong("body", CONFIG_VALUE, format!("must be empty: a response of status {} has none", status.as_u16()));
    }
    let mut headers = HeaderMap::new();
    for (name, value) in fields.texts("headers", HEADERS_MAX, HEADERS_TOO_MANY) {
        match header(name, value) {
            Ok((name, value)) => {
                headers.append(name, value);
            }
            Err((code, message)) => fields.wrong_entry("headers", name, code, message),
        }
    }
    if !body.is_empty() && !headers.contains_key(CONTENT_TYPE) {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type(&body)));
    }
    Some(Box::new(Respond { response: Arc::new(CustomResponse { status, headers, body }) }))
}

fn header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), (u32, &'static str)> {
    let name = HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| (HEADER_NAME, "is not the name of a header: letters, digits and - are possible"))?;
    if RESERVED.contains(&name) || crate::http::is_failure_header(&name) {
        return Err((HEADER_NAME, "is a header that only the gateway itself sets"));
    }
    let value = HeaderValue::from_str(value)
        .map_err(|_| (HEADER_VALUE, "is not the value of a header: visible characters and spaces are possible"))?;
    Ok((name, value))
}

/// The type of a body that has none given: JSON and markup are recognised, the rest is plain text.
fn content_type(body: &[u8]) -> &'static str {
    let text = body.trim_ascii_start();
    let is_json =
        matches!(text.first(), Some(b'{' | b'[')) && serde_json::from_slice::<serde_json::Value>(body).is_ok();
    if is_json {
        return "application/json";
    }
    let start = text.get(..MARKUP_PREFIX.min(text.len())).unwrap_or_default().to_ascii_lowercase();
    if [&b"<!doctype html"[..], b"<html", b"<head", b"<body", b"<h1", b"<p>", b"<div"]
        .iter()
        .any(|tag| start.starts_with(tag))
    {
        return "text/html; charset=utf-8";
    }
    if start.starts_with(b"<?xml") {
        return "text/xml; charset=utf-8";
    }
    "text/plain; charset=utf-8"
}

/// As in ngrok's reference.
const HEADERS_MAX: usize = 10;

/// The longest of the tags that are looked for.
const MARKUP_PREFIX: usize = b"<!doctype html".len();

/// Headers that frame the message or steer the connection: the server writes them.
const RESERVED: [HeaderName; 6] = [CONNECTION, CONTENT_LENGTH, TE, TRAILER, TRANSFER_ENCODING, UPGRADE];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_type_is_inferred_from_the_body() {
        for (body, expected) in [
            ("{\"a\": 1}", "application/json"),
            (" [1]", "application/json"),
            ("{not json", "text/plain; charset=utf-8"),
            ("<HTML><body>x", "text/html; charset=utf-8"),
            ("<!DOCTYPE html>", "text/html; charset=utf-8"),
            ("<?xml version='1.0'?><a/>", "text/xml; charset=utf-8"),
            ("closed today", "text/plain; charset=utf-8"),
        ] {
            assert_eq!(content_type(body.as_bytes()), expected, "{body}");
        }
    }
}
