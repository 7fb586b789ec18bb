//! What the admin listener answers: JSON, text and errors.

use std::convert::Infallible;
use std::fmt::Display;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use serde::Serialize;

/// The body of an answer: a whole text, or lines that come one after the other.
pub(crate) type Body = UnsyncBoxBody<Bytes, Infallible>;

/// What is wrong, for scripts and people.
#[derive(Debug, Serialize)]
struct Problem {
    error: String,
}

/// A value as one JSON document and a line end.
pub(crate) fn json(status: StatusCode, value: &impl Serialize) -> Response<Body> {
    match serde_json::to_vec(value) {
        Ok(mut text) => {
            text.push(b'\n');
            with_type(status, text, "application/json")
        }
        Err(error) => problem(StatusCode::INTERNAL_SERVER_ERROR, error),
    }
}

/// A line of text.
pub(crate) fn text(status: StatusCode, text: impl Display) -> Response<Body> {
    with_type(status, format!("{text}\n"), "text/plain; charset=utf-8")
}

/// Something went wrong: `{"error": "…"}`.
pub(crate) fn problem(status: StatusCode, error: impl Display) -> Response<Body> {
    json(status, &Problem { error: error.to_string() })
}

/// A whole body of some type.
pub(crate) fn with_type(status: StatusCode, body: impl Into<Bytes>, content_type: &'static str) -> Response<Body> {
    let mut response = Response::new(Full::new(body.into()).boxed_unsync());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    // What is shown is of this moment.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
