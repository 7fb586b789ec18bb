//! `redirect`: sends the visitor to another URL.

use std::sync::Arc;

use bytes::Bytes;
use http::header::LOCATION;
use http::{HeaderMap, StatusCode};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use super::super::error::{CONFIG_VALUE, RANGE};
use super::super::expression::Fault;
use super::super::fields::Fields;
use super::super::phase::Phase;
use super::super::place::Place;
use super::super::run::Run;
use super::super::{CustomResponse, Verdict};
use super::header::{self, Headers};
use super::url_rewrite::{self, Rewriting, URL_BYTES_MAX};
use super::{Action, Kind, Outcome};

pub(super) const KIND: Kind = Kind { name: "redirect", phases: &[Phase::HttpRequest], compile };

#[derive(Debug)]
struct Redirect {
    rewriting: Rewriting,
    status: StatusCode,
    headers: Headers,
}

impl Action for Redirect {
    fn protects(&self) -> bool {
        true
    }

    fn run<'r>(&'r self, run: &'r mut Run<'_, '_, '_>) -> Outcome<'r> {
        match self.response(run) {
            Ok(Some(response)) => Outcome::end(Verdict::Respond(Arc::new(response))),
            Ok(None) => Outcome::NEXT,
            Err(fault) => Outcome::failed("to or headers", &fault),
        }
    }
}

impl Redirect {
    /// The answer; none when the URL would be the same.
    fn response(&self, run: &mut Run<'_, '_, '_>) -> Result<Option<CustomResponse>, Fault> {
        let Some(url) = url_rewrite::url_of(run) else { return Ok(None) };
        let Some(mut new) = self.rewriting.apply(&url, run)? else { return Ok(None) };
        // After a / of the policy's a visitor may have written another: it must not become the name of a host.
        if new.url.starts_with('/') && !self.rewriting.names_host() {
            new.url.insert_str(0, &url_rewrite::origin_of(run).unwrap_or_default());
        }
        if new.url == url {
            return Ok(None);
        }
        let location = escaped(&new.url);
        if location.len() > URL_BYTES_MAX {
            return Err(Fault::Invalid(format!("the new URL is longer than {URL_BYTES_MAX} bytes")));
        }
        let mut headers: HeaderMap = header::render(&self.headers, run)?.into_iter().collect();
        headers.insert(LOCATION, header::header_value(&location)?);
        run.set_result("redirect", url_rewrite::result(&url, &location, new.matches));
        Ok(Some(CustomResponse { status: self.status, headers, body: Bytes::new() }))
    }
}

/// A URL with everything escaped that no URI can have (RFC 3986, section 2). What is escaped already stays as it is.
fn escaped(url: &str) -> String {
    let is_escape = |text: &str| text.as_bytes().get(..2).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit));
    let mut text = String::with_capacity(url.len());
    for (at, part) in url.split('%').enumerate() {
        if at > 0 {
            text.push_str(if is_escape(part) { "%" } else { "%25" });
        }
        text.extend(utf8_percent_encode(part, IN_NO_URI));
    }
    text
}

fn compile(fields: &mut Fields<'_>, _phase: Phase, _place: Place) -> Option<Box<dyn Action>> {
    let rewriting = Rewriting::read(fields);
    let status = fields.status("status_code", 300..=399, StatusCode::FOUND);
    if !STATUSES.contains(&status.as_u16()) {
        fields.wrong("status_code", RANGE, "must be 301, 302, 303, 307 or 308");
    }
    let headers = header::read(fields, "headers", 0);
    if headers.iter().any(|(name, _)| *name == LOCATION) {
        fields.wrong_entry("headers", "location", CONFIG_VALUE, "is set by the action itself: see to");
    }
    Some(Box::new(Redirect { rewriting: rewriting?, status, headers }))
}

/// With all that is not ASCII, the characters that are neither reserved nor unreserved.
const IN_NO_URI: &AsciiSet =
    &CONTROLS.add(b' ').add(b'"').add(b'<').add(b'>').add(b'\\').add(b'^').add(b'`').add(b'{').add(b'|').add(b'}');

const STATUSES: [u16; 5] = [301, 302, 303, 307, 308];
