//! A verdict in words.

use std::collections::BTreeMap;

use http::{HeaderMap, StatusCode};
use serde::Serialize;

use super::super::mask::{HIDDEN, Mask};
use super::super::{Refused, Verdict};
use super::trace::is_secret;

/// What a policy decided.
#[derive(Clone, Debug, Serialize)]
pub struct Decision {
    /// `continue`, `forward`, `deny`, `refuse`, `respond`, `terminate-tls` or `close`.
    pub verdict: &'static str,
    /// In words.
    pub text: String,
    /// The status for HTTP.
    pub status: Option<u16>,
    /// The code that the visitor is told.
    pub code: Option<String>,
    /// What only the log is told.
    pub reason: Option<String>,
    /// The internal endpoint that the traffic goes to.
    pub target: Option<String>,
    /// Headers of the answer.
    pub headers: BTreeMap<String, String>,
    /// The beginning of the answer's body.
    pub body: Option<String>,
}

impl Decision {
    pub(super) fn of(verdict: &Verdict, mask: &Mask) -> Self {
        match verdict {
            Verdict::Continue => Self::new("continue", "the endpoint's own agent gets it"),
            Verdict::Forward { url, on_error } => {
                let then = if on_error.is_some() { ", or the policy goes on when nobody has it online" } else { "" };
                let target = mask.hide(&url.to_string());
                let text = format!("forwarded to {target}{then}");
                Self { target: Some(target), ..Self::new("forward", &text) }
            }
            Verdict::Deny { status } => {
                Self { status: Some(status.as_u16()), ..Self::new("deny", &format!("denied with {}", named(*status))) }
            }
            Verdict::Refuse(refused) => Self::refused(refused, mask),
            Verdict::Respond(response) => {
                let text = format!("answered with {}", named(response.status));
                let body: String = String::from_utf8_lossy(&response.body).chars().take(BODY_CHARS_MAX).collect();
                Self {
                    status: Some(response.status.as_u16()),
                    headers: shown(&response.headers, mask),
                    body: (!body.is_empty()).then(|| mask.hide(&body)),
                    ..Self::new("respond", &text)
                }
            }
            Verdict::TerminateTls { .. } => Self::new("terminate-tls", "the visitor's TLS ends here"),
            Verdict::Close => Self::new("close", "the connection is closed without an answer"),
        }
    }

    fn refused(refused: &Refused, mask: &Mask) -> Self {
        let text = format!("refused with {} (ERR_NGROK_{})", named(refused.status), refused.code);
        Self {
            status: Some(refused.status.as_u16()),
            code: Some(format!("ERR_NGROK_{}", refused.code)),
            reason: refused.reason.as_deref().map(|reason| mask.hide(reason)),
            headers: shown(&refused.headers, mask),
            ..Self::new("refuse", &text)
        }
    }

    fn new(verdict: &'static str, text: &str) -> Self {
        let text = text.to_owned();
        Self {
            verdict,
            text,
            status: None,
            code: None,
            reason: None,
            target: None,
            headers: BTreeMap::new(),
            body: None,
        }
    }
}

fn named(status: StatusCode) -> String {
    status.canonical_reason().map_or_else(|| status.as_u16().to_string(), |name| format!("{} {name}", status.as_u16()))
}

/// Headers as they may be shown.
pub(super) fn shown(headers: &HeaderMap, mask: &Mask) -> BTreeMap<String, String> {
    let lines = headers.keys().map(|name| {
        if is_secret(name) {
            return (name.to_string(), HIDDEN.to_owned());
        }
        let lines = headers.get_all(name).iter().map(|line| String::from_utf8_lossy(line.as_bytes()).into_owned());
        (name.to_string(), mask.hide(&lines.collect::<Vec<_>>().join(", ")))
    });
    lines.collect()
}

/// Enough to recognise an answer.
const BODY_CHARS_MAX: usize = 400;
