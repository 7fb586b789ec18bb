//! A line of the access log.

use std::net::SocketAddr;
use std::time::Duration;

use adit::endpoint_url::EndpointUrl;
use serde::{Serialize, Serializer};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// One request or connection. What is not there is left out.
#[derive(Debug, Serialize)]
pub(super) struct Line<'a> {
    #[serde(serialize_with = "moment")]
    pub(super) time: OffsetDateTime,
    pub(super) id: u64,
    pub(super) kind: &'static str,
    pub(super) scheme: &'static str,
    pub(super) visitor: SocketAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) method: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) host: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) path: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) query: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) version: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) account: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "shown")]
    pub(super) endpoint: Option<&'a EndpointUrl>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "shown")]
    pub(super) to: Option<&'a EndpointUrl>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) session: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) credential: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) instance: Option<&'a str>,
    pub(super) verdict: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) rule: Option<Rule<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
    pub(super) received: u64,
    pub(super) sent: u64,
    pub(super) ms: Milliseconds,
    pub(super) end: &'static str,
}

/// The rule that decided last.
#[derive(Debug, Serialize)]
pub(super) struct Rule<'a> {
    /// Whose policy it is in.
    #[serde(serialize_with = "text")]
    pub(super) endpoint: &'a EndpointUrl,
    pub(super) phase: &'static str,
    /// Its name, or its place in the phase.
    pub(super) rule: String,
}

/// What each leg took.
#[derive(Debug, Serialize)]
pub(super) struct Milliseconds {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) policy: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) open: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) first_byte: Option<Span>,
    pub(super) total: Span,
}

/// Milliseconds with three digits behind the point.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(transparent)]
pub(super) struct Span(f64);

impl From<Duration> for Span {
    fn from(time: Duration) -> Self {
        // Microseconds of a century are exact.
        Self(time.as_micros() as f64 / 1000.0)
    }
}

fn moment<S: Serializer>(time: &OffsetDateTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&time.format(&Rfc3339).unwrap_or_default())
}

fn text<S: Serializer>(url: &EndpointUrl, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(url)
}

fn shown<S: Serializer>(url: &Option<&EndpointUrl>, serializer: S) -> Result<S::Ok, S::Error> {
    match url {
        Some(url) => serializer.collect_str(url),
        None => serializer.serialize_none(),
    }
}
