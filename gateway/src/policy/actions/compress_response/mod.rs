//! `compress-response`: compresses what the service sends as it is, for visitors who can read that.
//!
//! The action decides and writes the head; whoever passes the body on finds a [`Compression`] among the extensions of the
//! head and does the work.

mod negotiate;

use std::sync::{Arc, LazyLock};

use http::header::{
    ACCEPT_ENCODING, ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG,
    VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::super::Coding;
use super::super::error::{CONFIG, CONFIG_VALUE};
use super::super::expression::Value;
use super::super::fields::Fields;
use super::super::phase::Phase;
use super::super::place::Place;
use super::super::run::{Run, Subject};
use super::{Action, Kind, Outcome};

pub(super) const KIND: Kind = Kind { name: "compress-response", phases: &[Phase::HttpResponse], compile };

/// The body of a response is to be compressed. It holds a place among those that are compressed at a time.
#[derive(Clone, Debug)]
pub struct Compression {
    /// How.
    pub coding: Coding,
    _place: Arc<OwnedSemaphorePermit>,
}

#[derive(Debug)]
struct CompressResponse {
    /// What may be chosen; of those that a visitor likes alike, the first one.
    codings: Vec<Coding>,
    places: Arc<Semaphore>,
}

impl Action for CompressResponse {
    fn run<'r>(&'r self, run: &'r mut Run<'_, '_, '_>) -> Outcome<'r> {
        let Subject::Response(response) = &mut run.subject else { return Outcome::NEXT };
        let is_compressed = is_compressed(&response.head.headers);
        let chosen = if is_compressed { None } else { self.apply(&response.request.headers, response.head) };
        let name = chosen.map_or("", Coding::as_str);
        let result = Value::map([
            ("already_compressed", Value::Bool(is_compressed)),
            ("negotiated_algorithm", Value::text(name)),
        ]);
        // The reference has the shorter name.
        run.set_result("compress", result.clone());
        run.set_result("compress_response", result);
        Outcome::NEXT
    }
}

impl CompressResponse {
    /// Makes the head one of a compressed response, if it is to be one.
    fn apply(&self, request: &HeaderMap, head: &mut http::response::Parts) -> Option<Coding> {
        if !is_compressible(head)
            || has_directive(&head.headers, "no-transform")
            || has_directive(request, "no-transform")
        {
            return None;
        }
        // Also when this visitor gets it as it is: a cache has to ask for the next one.
        vary(&mut head.headers);
        let coding = negotiate::choose(&lines(request, &ACCEPT_ENCODING), &self.codings)?;
        let place = Arc::clone(&self.places).try_acquire_owned();
        let Ok(place) = place else {
            tracing::debug!(max = COMPRESSIONS_MAX, "too many responses are compressed already: sent as it is");
            return None;
        };
        let headers = &mut head.headers;
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding.as_str()));
        headers.remove(CONTENT_LENGTH);
        // Ranges are of the bytes that the service has.
        headers.remove(ACCEPT_RANGES);
        weaken(headers);
        head.extensions.insert(Compression { coding, _place: Arc::new(place) });
        Some(coding)
    }
}

fn compile(fields: &mut Fields<'_>, _phase: Phase, _place: Place) -> Option<Box<dyn Action>> {
    let mut codings = Vec::new();
    if fields.value("algorithms").is_none() {
        codings = NAMES.iter().filter_map(|(_, coding)| *coding).collect();
    } else {
        let mut seen: Vec<&str> = Vec::new();
        for (index, name) in fields.list("algorithms", 1..=NAMES.len(), CONFIG) {
            let Some((known, coding)) = NAMES.iter().find(|(known, _)| *known == name) else {
                fields.wrong_item("algorithms", index, CONFIG_VALUE, "must be gzip, deflate, br or compress");
                continue;
            };
            if seen.contains(known) {
                fields.wrong_item("algorithms", index, CONFIG_VALUE, "is there twice");
            }
            seen.push(known);
            codings.extend(*coding);
        }
    }
    Some(Box::new(CompressResponse { codings, places: Arc::clone(&PLACES) }))
}

fn is_compressed(headers: &HeaderMap) -> bool {
    let codings = lines(headers, &CONTENT_ENCODING);
    codings.split(',').map(str::trim).any(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case("identity"))
}

/// Whether there is a body to compress, and nothing in the head that speaks of its bytes.
fn is_compressible(head: &http::response::Parts) -> bool {
    let headers = &head.headers;
    let has_body = !head.status.is_informational()
        && !matches!(
            head.status,
            StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::PARTIAL_CONTENT | StatusCode::NOT_MODIFIED
        )
        && headers.get(CONTENT_LENGTH).is_none_or(|length| length.as_bytes() != b"0");
    has_body
        && !headers.contains_key(CONTENT_RANGE)
        && !DIGESTS.iter().any(|name| headers.contains_key(name))
        && !is_dense(headers)
}

/// Whether its type says that it is compressed by nature.
fn is_dense(headers: &HeaderMap) -> bool {
    let kind = lines(headers, &CONTENT_TYPE);
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    DENSE.contains(&kind.as_str())
        || (DENSE_PREFIXES.iter().any(|prefix| kind.starts_with(prefix)) && !LOOSE.contains(&kind.as_str()))
}

fn has_directive(headers: &HeaderMap, directive: &str) -> bool {
    lines(headers, &CACHE_CONTROL).split(',').any(|found| found.trim().eq_ignore_ascii_case(directive))
}

fn vary(headers: &mut HeaderMap) {
    let named = lines(headers, &VARY);
    let covers = |name: &str| name == "*" || name.eq_ignore_ascii_case(ACCEPT_ENCODING.as_str());
    if !named.split(',').map(str::trim).any(covers) {
        headers.append(VARY, HeaderValue::from_static("Accept-Encoding"));
    }
}

/// A strong tag promises the same bytes; the weak one says only that the meaning is the same (RFC 9110, 8.8.1).
fn weaken(headers: &mut HeaderMap) {
    let Some(tag) = headers.get(ETAG).map(HeaderValue::as_bytes).filter(|tag| tag.starts_with(b"\"")) else { return };
    if let Ok(weak) = HeaderValue::from_bytes(&[b"W/", tag].concat()) {
        headers.insert(ETAG, weak);
    }
}

/// The lines of a list header as one.
fn lines(headers: &HeaderMap, name: &HeaderName) -> String {
    let lines: Vec<_> = headers.get_all(name).iter().filter_map(|line| line.to_str().ok()).collect();
    lines.join(",")
}

/// The algorithms of ngrok's reference in its order. `compress`, the LZW of 1984, may be listed and is never chosen: no
/// client in use asks for it alone, and each that names it can read one of the others.
const NAMES: [(&str, Option<Coding>); 4] = [
    ("gzip", Some(Coding::Gzip)),
    ("deflate", Some(Coding::Deflate)),
    ("br", Some(Coding::Brotli)),
    ("compress", None),
];

/// Responses that are compressed at a time, of all endpoints. Each takes up to 1 MB for its window and tables; those
/// beyond are sent as they are.
const COMPRESSIONS_MAX: usize = 512;

static PLACES: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(COMPRESSIONS_MAX)));

/// They are of the bytes that would be replaced: a response that has one in its head is left as it is, and one that has it
/// behind its body loses it.
pub(crate) const DIGESTS: [HeaderName; 4] = [
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("content-md5"),
];

const DENSE_PREFIXES: [&str; 4] = ["image/", "audio/", "video/", "application/grpc"];
/// Pictures that are text, or rows of pixels.
const LOOSE: [&str; 3] = ["image/svg+xml", "image/bmp", "image/x-icon"];
const DENSE: [&str; 10] = [
    "application/zip",
    "application/gzip",
    "application/x-gzip",
    "application/x-7z-compressed",
    "application/x-bzip2",
    "application/x-xz",
    "application/zstd",
    "application/vnd.rar",
    "font/woff",
    "font/woff2",
];

#[cfg(test)]
mod tests;
