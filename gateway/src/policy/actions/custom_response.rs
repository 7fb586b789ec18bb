//! `custom-response`: the gateway answers by itself; no agent sees the request, or no visitor the agent's response.

use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, StatusCode};

use super::super::error::CONFIG_VALUE;
use super::super::expression::Fault;
use super::super::fields::Fields;
use super::super::phase::Phase;
use super::super::place::Place;
use super::super::run::Run;
use super::super::template::Template;
use super::super::{CustomResponse, Verdict};
use super::header::{self, Headers};
use super::{Action, HTTP, Kind, Outcome};

pub(super) const KIND: Kind = Kind { name: "custom-response", phases: HTTP, compile };

#[derive(Debug)]
struct Respond {
    status: StatusCode,
    body: Option<Template>,
    headers: Headers,
}

impl Action for Respond {
    fn is_terminating(&self) -> bool {
        true
    }

    fn protects(&self) -> bool {
        true
    }

    fn run<'r>(&'r self, run: &'r mut Run<'_, '_, '_>) -> Outcome<'r> {
        match self.response(run) {
            Ok(response) => Outcome::end(Verdict::Respond(Arc::new(response))),
            Err((field, fault)) => Outcome::failed(field, &fault),
        }
    }
}

impl Respond {
    fn response(&self, run: &mut Run<'_, '_, '_>) -> Result<CustomResponse, (&'static str, Fault)> {
        let body = self.body.as_ref().map(|body| run.render(body)).transpose().map_err(|fault| ("body", fault))?;
        let body = Bytes::from(body.unwrap_or_default());
        let rendered = header::render(&self.headers, run).map_err(|fault| ("headers", fault))?;
        let mut headers: HeaderMap = rendered.into_iter().collect();
        if !body.is_empty() && !headers.contains_key(CONTENT_TYPE) {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type(&body)));
        }
        Ok(CustomResponse { status: self.status, headers, body })
    }
}

fn compile(fields: &mut Fields<'_>, _phase: Phase, _place: Place) -> Option<Box<dyn Action>> {
    let status = fields.status("status_code", 200..=599, StatusCode::OK);
    // The former name of `body`.
    let body = fields.template("body").or_else(|| fields.template("content"));
    let body = body.filter(|body| body.fixed() != Some(""));
    if body.is_some() && matches!(status, StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::NOT_MODIFIED)
    {
        fields.wrong("body", CONFIG_VALUE, format!("must be empty: a response of status {} has none", status.as_u16()));
    }
    let headers = header::read(fields, "headers", 0);
    Some(Box::new(Respond { status, body, headers }))
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

/// The longest of the tags that are looked for.
const MARKUP_PREFIX: usize = b"<!doctype html".len();

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
