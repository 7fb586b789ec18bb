//! What a log-in has to know of one request.

use http::header::{ACCESS_CONTROL_REQUEST_METHOD, HOST, ORIGIN};
use http::{HeaderMap, Method};

use adit::endpoint_url::Scheme;

use super::super::super::run::{Run, Subject};
use crate::login::query;

/// What a log-in has to know of one request.
#[derive(Debug)]
pub(super) struct Visit {
    /// The name that the visitor asked for, in lower case.
    pub(super) host: String,
    /// The same with its port, as it stands in the visitor's address bar.
    pub(super) authority: String,
    pub(super) path: String,
    query: String,
    pub(super) is_encrypted: bool,
    /// Asks whether a page of another site may ask.
    pub(super) is_preflight: bool,
    /// A page that the visitor sees, so that it can be sent elsewhere.
    pub(super) is_page: bool,
    /// Can be asked for again after the log-in.
    is_repeatable: bool,
}

impl Visit {
    /// `None`: it is no request, or has no host.
    pub(super) fn of(run: &Run<'_, '_, '_>) -> Option<Self> {
        let Subject::Request(request) = &run.subject else { return None };
        let (head, headers) = (&request.head, &request.head.headers);
        // A policy may have changed `Host` for the upstream; the browser is where it was.
        let line = run.state.host.as_ref().or_else(|| headers.get(HOST))?;
        let authority = line.to_str().ok()?.to_ascii_lowercase();
        let host = match authority.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
            _ => authority.as_str(),
        };
        let is_plain =
            |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':' | b'[' | b']');
        if host.is_empty() || !authority.bytes().all(is_plain) {
            return None;
        }
        let is_repeatable = matches!(head.method, Method::GET | Method::HEAD);
        Some(Self {
            host: host.trim_end_matches('.').to_owned(),
            path: head.uri.path().to_owned(),
            query: head.uri.query().unwrap_or_default().to_owned(),
            is_encrypted: request.connection.scheme == Scheme::Https,
            is_preflight: is_preflight(&head.method, headers),
            is_page: is_page(headers, is_repeatable),
            is_repeatable,
            authority,
        })
    }

    /// The value of a parameter. `Err`: it is there more than once or cannot be read.
    pub(super) fn parameter(&self, name: &str) -> Result<Option<String>, &'static str> {
        query::parameter(&self.query, name)
    }

    /// The query as it came.
    pub(super) fn query(&self) -> &str {
        &self.query
    }

    /// The path with its query, if the visitor can come back to it.
    pub(super) fn way_back(&self) -> String {
        match (self.is_repeatable, self.query.is_empty()) {
            (false, _) => "/".into(),
            (true, true) => self.path.clone(),
            (true, false) => format!("{}?{}", self.path, self.query),
        }
    }
}

fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    method == Method::OPTIONS && headers.contains_key(ORIGIN) && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// Browsers say what they ask for (Fetch Metadata). Who says nothing is an old browser or none, and is sent as well.
fn is_page(headers: &HeaderMap, is_repeatable: bool) -> bool {
    match headers.get("sec-fetch-mode") {
        Some(mode) => mode == "navigate",
        None => is_repeatable && !headers.contains_key("upgrade"),
    }
}
