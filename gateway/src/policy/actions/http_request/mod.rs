//! `http-request`: asks another service before the policy goes on, and keeps its reply for the rules that follow.

mod compile;
mod follow;
mod target;

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::time::{Instant, timeout};

use super::super::errand::{ERRAND_LOOP, ErrandFault, REPLY_LATE};
use super::super::error::EVALUATION_FAILED;
use super::super::expression::{Expression, Fault, Value};
use super::super::mask::Mask;
use super::super::phase::Step;
use super::super::run::{Run, error_code};
use super::super::template::Template;
use super::super::{Refused, Verdict};
use super::header::{self, Headers};
use super::{Action, HTTP, Kind, Outcome};
use adit::endpoint_url::EndpointUrl;
use follow::{Courier, Message, Reply};
use target::Target;

pub(super) const KIND: Kind = Kind { name: "http-request", phases: HTTP, compile: compile::compile };

#[derive(Debug)]
struct HttpRequest {
    url: Template,
    /// What the document says of the server, for people.
    server: Box<str>,
    /// The server that the URL names whatever its `${…}` become, if it is an internal endpoint.
    endpoint: Option<EndpointUrl>,
    method: Method,
    query: Vec<(Box<str>, Template)>,
    headers: Headers,
    body: Option<Template>,
    redirects_max: usize,
    time: Duration,
    retry: Option<Expression>,
    halts: bool,
    /// Whether requests may go to other servers than the one that the document names: not in the policy of an agent,
    /// which would get round the rules of its credential.
    is_bound: bool,
    may_go_outside: bool,
}

impl Action for HttpRequest {
    /// What decides may be what it brings: its rule must not be skipped for want of a value.
    fn protects(&self) -> bool {
        self.halts
    }

    fn forwards_to(&self) -> Option<&EndpointUrl> {
        self.endpoint.as_ref()
    }

    fn asks(&self) -> Option<String> {
        Some(format!("what {} answers", self.server))
    }

    fn run<'r>(&'r self, run: &'r mut Run<'_, '_, '_>) -> Outcome<'r> {
        Outcome::Later(Box::pin(async move {
            let (message, target) = match self.compose(run) {
                Ok(composed) => composed,
                // Nobody may go on as if there were no bound.
                Err((field, Fault::Cost)) => return Step::End(Outcome::failure(field, &Fault::Cost)),
                Err((field, fault)) => {
                    let fault = ErrandFault::new(EVALUATION_FAILED, format!("{field}: {fault}"));
                    run.set_result("http_request", Value::map([("error", error_value(&fault))]));
                    return self.end(&fault, run.mask);
                }
            };
            let mut result = vec![("req", request_value(&message, &target))];
            let mut attempts = Vec::new();
            let asked = timeout(self.time, self.attempt(run, &message, &target, &mut attempts)).await;
            let asked = asked.unwrap_or_else(|_| {
                Err(ErrandFault::new(REPLY_LATE, format!("there was no reply within {} s", self.time.as_secs_f32())))
            });
            result.push(("attempts", Value::list(attempts)));
            match &asked {
                Ok((reply, took)) => result.push(("res", reply_value(reply, *took))),
                Err(fault) => result.push(("error", error_value(fault))),
            }
            run.set_result("http_request", Value::map(result));
            match asked {
                Ok(_) => Step::Next,
                Err(fault) => self.end(&fault, run.mask),
            }
        }))
    }
}

impl HttpRequest {
    /// Asks until there is nothing to try again for. What each attempt came to is noted as it ends.
    async fn attempt(
        &self,
        run: &mut Run<'_, '_, '_>,
        message: &Message,
        target: &Target,
        attempts: &mut Vec<Value>,
    ) -> Result<(Reply, Duration), ErrandFault> {
        let account = run.state.account.clone();
        let errands = run.state.errands.clone();
        let courier = Courier {
            errands: errands.as_deref(),
            account: &account,
            redirects_max: self.redirects_max,
            is_bound: self.is_bound,
            may_go_outside: self.may_go_outside,
        };
        loop {
            let begun = Instant::now();
            let asked = courier.follow(message, target).await;
            let took = begun.elapsed();
            attempts.push(attempt_value(&asked, took));
            let Some(retry) = self.retry.as_ref().filter(|_| attempts.len() < TRIES_MAX) else {
                return asked.map(|reply| (reply, took));
            };
            let count = i64::try_from(attempts.len()).unwrap_or(i64::MAX);
            let last = Value::map([
                ("req", request_value(message, target)),
                ("res", asked.as_ref().map_or(Value::Null, |reply| reply_value(reply, took))),
                ("error", asked.as_ref().err().map_or_else(|| Value::text(""), |fault| Value::text(&fault.reason))),
            ]);
            match run.holds_with(retry, vec![Value::Int(count), last]) {
                Ok(true) => {}
                Ok(false) => return asked.map(|reply| (reply, took)),
                Err(fault) => {
                    let fault = run.mask.hide(&fault.to_string());
                    tracing::debug!(fault, "a retry_condition has no value: not tried again");
                    return asked.map(|reply| (reply, took));
                }
            }
        }
    }

    /// The request with the values of its templates.
    fn compose(&self, run: &mut Run<'_, '_, '_>) -> Result<(Message, Target), (&'static str, Fault)> {
        let mut url = run.render(&self.url).map_err(|fault| ("url", fault))?;
        url.truncate(url.find('#').unwrap_or(url.len()));
        for (key, value) in &self.query {
            let value = run.render(value).map_err(|fault| ("query_params", fault))?;
            if value.chars().nth(QUERY_VALUE_CHARS_MAX).is_some() {
                let message = format!("the value has more than {QUERY_VALUE_CHARS_MAX} characters");
                return Err(("query_params", Fault::Invalid(message)));
            }
            url.push(if url.contains('?') { '&' } else { '?' });
            url.extend(utf8_percent_encode(key, QUERY).chain(["="]).chain(utf8_percent_encode(&value, QUERY)));
        }
        let target = Target::parse(&url).map_err(|message| ("url", Fault::Invalid(message.into())))?;
        let mut headers = HeaderMap::new();
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("adit-gateway/", env!("CARGO_PKG_VERSION"))));
        // The reply is kept as a text.
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        headers.insert("ngrok-req-type", HeaderValue::from_static("http-request"));
        let own = header::render(&self.headers, run).map_err(|fault| ("headers", fault))?;
        for (name, value) in own {
            headers.insert(name, value);
        }
        let body = self.body.as_ref().map(|body| run.render(body)).transpose().map_err(|fault| ("body", fault))?;
        let body = Bytes::from(body.unwrap_or_default());
        Ok((Message { method: self.method.clone(), headers, body }, target))
    }

    fn end(&self, fault: &ErrandFault, mask: &Mask) -> Step {
        // Whoever claims to come of many requests of policies must not get past what one more would say.
        if !self.halts && fault.code != ERRAND_LOOP {
            let reason = mask.hide(&fault.reason);
            tracing::debug!(code = fault.code, reason, "a request of a policy has failed");
            return Step::Next;
        }
        let status = match fault.code {
            REPLY_LATE => StatusCode::GATEWAY_TIMEOUT,
            ERRAND_LOOP => StatusCode::LOOP_DETECTED,
            EVALUATION_FAILED => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::BAD_GATEWAY,
        };
        let mut refused = Refused::new(status, fault.code, MESSAGE);
        refused.reason = Some(format!("http-request: {}", fault.reason));
        Step::End(Verdict::Refuse(Box::new(refused)))
    }
}

fn error_value(fault: &ErrandFault) -> Value {
    Value::map([("code", Value::text(&error_code(fault.code))), ("message", Value::text(&fault.reason))])
}

fn request_value(message: &Message, target: &Target) -> Value {
    let headers = header_value(&message.headers);
    Value::map([
        ("method", Value::text(message.method.as_str())),
        ("url", Value::text(&target.to_string())),
        ("header", headers.clone()),
        ("headers", headers),
        ("body", Value::text(&String::from_utf8_lossy(&message.body))),
    ])
}

fn reply_value(reply: &Reply, took: Duration) -> Value {
    let headers = header_value(reply.response.headers());
    let status = Value::Int(reply.response.status().as_u16().into());
    Value::map([
        // An example of the reference spells it so.
        ("statusCode", status.clone()),
        ("status_code", status),
        ("header", headers.clone()),
        ("headers", headers),
        ("resolved_ip", Value::text(&reply.server())),
        ("time_ms", Value::text(&took.as_millis().to_string())),
        ("body", Value::text(&String::from_utf8_lossy(reply.response.body()))),
    ])
}

fn attempt_value(asked: &Result<Reply, ErrandFault>, took: Duration) -> Value {
    let took = Value::text(&took.as_millis().to_string());
    match asked {
        Ok(reply) => Value::map([
            ("resolved_ip", Value::text(&reply.server())),
            ("response_header", header_value(reply.response.headers())),
            ("response_status_code", Value::Int(reply.response.status().as_u16().into())),
            ("response_time_ms", took),
        ]),
        Err(fault) => Value::map([("error", error_value(fault)), ("response_time_ms", took)]),
    }
}

/// From each name in lower case to the list of its values, as in `req.headers`.
fn header_value(headers: &HeaderMap) -> Value {
    Value::map(headers.keys().map(|name| {
        let values = headers.get_all(name).iter();
        (name.as_str(), Value::list(values.map(|value| Value::text(&String::from_utf8_lossy(value.as_bytes())))))
    }))
}

const MESSAGE: &str =
    "A service that this endpoint's Traffic Policy asks about requests gave no answer. Try again later.";

/// What a query has as it is (RFC 3986, 2.3).
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// As in ngrok's reference, all of them.
const TRIES_MAX: usize = 3;
const QUERY_MAX: usize = 32;
const QUERY_KEY_CHARS_MAX: usize = 128;
const QUERY_VALUE_CHARS_MAX: usize = 8192;
/// The table of the reference says 0 to 100 with 10 as the default, its text 0 to 5 with 0: the wider one accepts both.
const REDIRECTS_MAX: u64 = 100;
const REDIRECTS: u64 = 10;
const TIME: Duration = Duration::from_secs(3);
const TIME_MIN: Duration = Duration::from_secs(1);
const TIME_MAX: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests;
