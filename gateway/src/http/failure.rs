//! The gateway's own answers: what it says when there is nothing to pass on.

use bytes::Bytes;
use http::header::{ACCEPT, ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Response, StatusCode};

use super::headers::{ADIT_ERROR_CODE, NGROK_ERROR_CODE};
use super::reach::{OpenError, Unreachable};
use crate::policy::Refused;
use crate::route::Refusal;

/// Why the gateway answers by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// No agent has the endpoint online.
    Offline,
    /// The endpoint is held back.
    Held { code: u32, reason: String },
    /// The session has no free streams.
    Busy,
    /// The session broke before an answer came.
    Lost,
    /// The agent could not reach its upstream.
    UpstreamDown,
    /// The upstream's answer is not HTTP, or broke off within its head.
    ResponseInvalid,
    /// The upstream took too long to begin its answer.
    ResponseLate,
    /// Policies forward in a circle.
    TooManyHops,
    /// A cloud endpoint's policy had no answer.
    NotHandled,
    /// The visitor's request is not one that can be passed on.
    RequestInvalid(&'static str),
    /// The visitor stopped in the middle of its request.
    RequestLate,
    /// TRACE and CONNECT.
    Method,
    /// A policy refuses it.
    Policy(Box<Refused>),
}

impl Failure {
    /// The answer, as HTML for browsers and as plain text for everybody else.
    pub(super) fn response(&self, format: Format) -> Response<Bytes> {
        let status = self.status();
        let title = match self.code() {
            Some(code) => format!("{status}: {} (ERR_NGROK_{code})", self.summary()),
            None => format!("{status}: {}", self.summary()),
        };
        let body = match format {
            Format::Text => format!("{title}\n\n{}\n", self.advice()),
            Format::Html => format!(
                "<!doctype html>\n<meta charset=\"utf-8\">\n<title>{title}</title>\n<h1>{title}</h1>\n<p>{}</p>\n{}",
                escape(self.advice()),
                self.way_on(),
                title = escape(&title),
            ),
        };
        let mut response = Response::new(Bytes::from(body));
        *response.status_mut() = status;
        let content_type = match format {
            Format::Text => "text/plain; charset=utf-8",
            Format::Html => "text/html; charset=utf-8",
        };
        let length = response.body().len();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        self.mark(headers);
        if let Some(code) = self.code() {
            response.extensions_mut().insert(Code(code));
        }
        response
    }

    /// A link to where the visitor may try again.
    fn way_on(&self) -> String {
        match self {
            Self::Policy(refused) => refused.retry.as_deref(),
            _ => None,
        }
        .map(|path| format!("<p><a href=\"{}\">Log in</a></p>\n", escape(path)))
        .unwrap_or_default()
    }

    fn mark(&self, headers: &mut HeaderMap) {
        let code = self.code().and_then(|code| HeaderValue::from_str(&format!("ERR_NGROK_{code}")).ok());
        if let Some(code) = code {
            headers.insert(ADIT_ERROR_CODE, code.clone());
            headers.insert(NGROK_ERROR_CODE, code);
        }
        if matches!(self, Self::RequestInvalid(_)) {
            // Whoever sends this has lost count or hopes that others do: nothing behind it is read.
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if let Self::Policy(refused) = self {
            headers.extend(refused.headers.clone());
        }
        if *self == Self::Busy {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if *self == Self::Method {
            headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"));
        }
    }

    /// ngrok answers some of these with 404 or 400. Health checks then take a dead endpoint for an application that says
    /// "not found", and senders of webhooks give up instead of trying again: ours are all 5xx.
    fn status(&self) -> StatusCode {
        match self {
            Self::Offline | Self::Held { .. } | Self::Busy | Self::NotHandled => StatusCode::SERVICE_UNAVAILABLE,
            Self::Lost | Self::UpstreamDown | Self::ResponseInvalid | Self::TooManyHops => StatusCode::BAD_GATEWAY,
            Self::ResponseLate => StatusCode::GATEWAY_TIMEOUT,
            Self::RequestInvalid(_) => StatusCode::BAD_REQUEST,
            Self::RequestLate => StatusCode::REQUEST_TIMEOUT,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Policy(refused) => refused.status,
        }
    }

    /// True when it is the service, its agent or the way to it that failed, and not the visitor.
    pub(super) fn is_of_service(&self) -> bool {
        match self {
            Self::RequestInvalid(_) | Self::RequestLate | Self::Method | Self::Policy(_) => false,
            Self::Offline
            | Self::Held { .. }
            | Self::Busy
            | Self::Lost
            | Self::UpstreamDown
            | Self::ResponseInvalid
            | Self::ResponseLate
            | Self::TooManyHops
            | Self::NotHandled => true,
        }
    }

    pub(super) fn code(&self) -> Option<u32> {
        match self {
            Self::Offline => Some(3200),
            Self::Held { code, .. } => Some(*code),
            Self::Busy => Some(703),
            Self::Lost => Some(3210),
            Self::UpstreamDown => Some(super::UPSTREAM_DOWN),
            Self::ResponseInvalid => Some(3004),
            Self::ResponseLate => Some(3005),
            Self::TooManyHops => Some(3501),
            Self::NotHandled => Some(6029),
            Self::Policy(refused) => Some(refused.code),
            // The visitor's mistakes are no failures of the gateway.
            Self::RequestInvalid(_) | Self::RequestLate | Self::Method => None,
        }
    }

    pub(super) fn summary(&self) -> &'static str {
        match self {
            Self::Offline => "the endpoint is offline",
            Self::Held { .. } => "the endpoint is held back",
            Self::Busy => "the endpoint is busy",
            Self::Lost => "the connection to the agent broke",
            Self::UpstreamDown => "the service behind the agent is down",
            Self::ResponseInvalid => "the service behind the agent gave no valid answer",
            Self::ResponseLate => "the service behind the agent took too long",
            Self::TooManyHops => "the endpoint forwards in a circle",
            Self::NotHandled => "the endpoint has no answer",
            Self::RequestInvalid(_) => "the request cannot be passed on",
            Self::RequestLate => "the request stopped halfway",
            Self::Method => "the method is not possible here",
            Self::Policy(_) => "refused by the policy of the endpoint",
        }
    }

    /// What is wrong in words, and who can mend it. Names of internal endpoints and of upstreams stay out: whoever
    /// asks from outside must not learn them.
    fn advice(&self) -> &str {
        match self {
            Self::Offline => {
                "The gateway works, but no agent has this endpoint online. Whoever runs the service has to start its \
                 agent or look into the agent's log; if the address is wrong, whoever gave it to you has to correct it."
            }
            Self::Held { reason, .. } => reason,
            Self::Busy => {
                "All connections that the agent takes at once are in use, or begin too fast. Try again in a moment; if \
                 it stays like this, whoever runs the service has to add a second agent to the endpoint, or to ask for \
                 wider limits."
            }
            Self::Lost => {
                "The agent's connection to the gateway ended before the answer came. It comes back by itself: try again \
                 in a moment. If it stays like this, whoever runs the agent has to look into its log."
            }
            Self::UpstreamDown => {
                "The gateway reached the agent, but the agent did not reach the service behind it. Whoever runs the \
                 service has to start it, or to correct the upstream in the agent's configuration."
            }
            Self::ResponseInvalid => {
                "The service behind the agent answered with something that is not HTTP, or broke off. Whoever runs \
                 it has to look into its log, and to check that the upstream in the agent's configuration has the right \
                 scheme and port."
            }
            Self::ResponseLate => {
                "The request was delivered, but the service behind the agent did not begin to answer in time. \
                 Whoever runs it has to find out what keeps it busy."
            }
            Self::TooManyHops => {
                "The Traffic Policies send the request from one internal endpoint to the next without end. Whoever \
                 wrote them has to correct their forward-internal actions."
            }
            Self::NotHandled => {
                "The Traffic Policy of this endpoint does not say what to do with the request. Whoever wrote it has to \
                 end it with an action such as forward-internal or deny."
            }
            Self::RequestInvalid(reason) => reason,
            Self::RequestLate => "The gateway waited for the rest of the request, but it did not come. Send it again.",
            Self::Policy(refused) => refused.message,
            Self::Method => "TRACE and CONNECT are not passed on to services behind this gateway.",
        }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Unreachable(Unreachable::Offline) => Self::Offline,
            Refusal::Unreachable(Unreachable::Held { code, reason }) => Self::Held { code, reason },
            Refusal::TooManyHops => Self::TooManyHops,
            Refusal::NotHandled => Self::NotHandled,
        }
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Offline => Self::Offline,
            OpenError::Busy | OpenError::Limited => Self::Busy,
            OpenError::Lost => Self::Lost,
        }
    }
}

/// The number of the ERR_NGROK code of an answer, for those who note it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Code(pub(super) u32);

/// How a failure is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// For programs.
    Text,
    /// For browsers.
    Html,
}

impl Format {
    /// Browsers name `text/html` first; programs name it late, or send `*/*` or nothing.
    pub(super) fn preferred(headers: &HeaderMap) -> Self {
        let first =
            headers.get(ACCEPT).and_then(|value| value.to_str().ok()).and_then(|value| value.split([',', ';']).next());
        match first.map(str::trim) {
            Some(kind) if kind.eq_ignore_ascii_case("text/html") => Self::Html,
            _ => Self::Text,
        }
    }
}

/// The reason of a held endpoint quotes the configuration.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '"' => escaped.push_str("&quot;"),
            _ => escaped.push(character),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<Failure> {
        vec![
            Failure::Offline,
            Failure::Held { code: 2201, reason: "no <such> action".into() },
            Failure::Busy,
            Failure::Lost,
            Failure::UpstreamDown,
            Failure::ResponseInvalid,
            Failure::ResponseLate,
            Failure::TooManyHops,
            Failure::NotHandled,
        ]
    }

    #[test]
    fn own_failure_is_5xx_with_the_code_in_both_headers_and_in_the_body() {
        for failure in all() {
            let response = failure.response(Format::Text);
            assert!(response.status().is_server_error(), "{failure:?}");
            let code = format!("ERR_NGROK_{}", failure.code().unwrap());
            assert_eq!(response.headers()["adit-error-code"], code.as_str());
            assert_eq!(response.headers()["ngrok-error-code"], code.as_str());
            assert!(String::from_utf8_lossy(response.body()).contains(&code));
        }
    }

    #[test]
    fn visitors_mistake_has_no_code() {
        for failure in [Failure::RequestInvalid("x"), Failure::RequestLate, Failure::Method] {
            let response = failure.response(Format::Text);
            assert!(response.status().is_client_error());
            assert!(!response.headers().contains_key("adit-error-code"));
        }
    }

    #[test]
    fn html_is_escaped_and_only_for_browsers() {
        let held = Failure::Held { code: 2201, reason: "no <such> action".into() };
        let response = held.response(Format::Html);
        assert!(String::from_utf8_lossy(response.body()).contains("no &lt;such&gt; action"));

        let format = |accept: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, HeaderValue::from_static(accept));
            Format::preferred(&headers)
        };
        assert_eq!(format("text/html,application/xhtml+xml,*/*;q=0.8"), Format::Html);
        assert_eq!(format("*/*"), Format::Text);
        assert_eq!(format("application/json, text/html"), Format::Text);
        assert_eq!(Format::preferred(&HeaderMap::new()), Format::Text);
    }
}
