//! `verify-webhook`: lets through only what a provider of webhooks has signed with the secret that it shares with the
//! endpoint.
//!
//! The body is read ahead for it and passed on unchanged. A signature that is good once is good until its time is over:
//! whoever has seen a message can send it again within [`signature::TOLERANCE`], and for ever where the provider signs no
//! time.

mod challenge;
mod provider;
mod signature;
mod twilio;

use std::fmt;
use std::sync::Arc;

use http::StatusCode;

use super::super::error::{BODY_UNREAD, CONFIG_VALUE, WEBHOOK_REFUSED};
use super::super::expression::Value;
use super::super::fields::Fields;
use super::super::payload::PayloadFault;
use super::super::phase::{Phase, Step};
use super::super::place::Place;
use super::super::run::{Run, Subject, error_code};
use super::super::template::Template;
use super::super::{CustomResponse, Refused, Verdict};
use super::{Action, Kind, Outcome};
use provider::Provider;

pub(super) const KIND: Kind = Kind { name: "verify-webhook", phases: &[Phase::HttpRequest], compile };

struct VerifyWebhook {
    provider: Provider,
    secret: Template,
    enforce: bool,
}

/// Why a request does not pass: the status and code that it gets, and for the log why. Never a secret nor a signature.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Flaw {
    status: StatusCode,
    code: u32,
    reason: String,
}

impl Flaw {
    fn new(reason: impl Into<String>) -> Self {
        Self { status: StatusCode::FORBIDDEN, code: WEBHOOK_REFUSED, reason: reason.into() }
    }
}

impl From<PayloadFault> for Flaw {
    fn from(fault: PayloadFault) -> Self {
        let status = match fault {
            PayloadFault::TooLong => StatusCode::PAYLOAD_TOO_LARGE,
            PayloadFault::Late => StatusCode::REQUEST_TIMEOUT,
            PayloadFault::Broken => StatusCode::BAD_REQUEST,
            PayloadFault::Busy => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self { status, code: BODY_UNREAD, reason: fault.to_string() }
    }
}

impl Action for VerifyWebhook {
    fn protects(&self) -> bool {
        self.enforce
    }

    fn run<'r>(&'r self, run: &'r mut Run<'_, '_, '_>) -> Outcome<'r> {
        Outcome::Later(Box::pin(async move {
            let secret = match run.render(&self.secret) {
                Ok(secret) => secret,
                Err(fault) => return Step::End(Outcome::failure("secret", &fault)),
            };
            let found = self.check(run, secret.as_bytes()).await;
            let mut result = vec![("verified", Value::Bool(found.is_ok()))];
            if let Err(flaw) = &found {
                let code = Value::text(&error_code(flaw.code));
                result.push(("error", Value::map([("code", code), ("message", Value::text(&flaw.reason))])));
            }
            run.set_result("verify_webhook", Value::map(result));
            match found {
                Ok(None) => Step::Next,
                Ok(Some(response)) => Step::End(Verdict::Respond(Arc::new(response))),
                // A body that is broken cannot be passed on either.
                Err(flaw) if !self.enforce && flaw.status != StatusCode::BAD_REQUEST => Step::Next,
                Err(flaw) => {
                    let message = if flaw.code == BODY_UNREAD { UNREAD } else { MESSAGE };
                    let mut refused = Refused::new(flaw.status, flaw.code, message);
                    refused.reason = Some(format!("{}: {}", self.provider.name(), flaw.reason));
                    Step::End(Verdict::Refuse(Box::new(refused)))
                }
            }
        }))
    }
}

impl VerifyWebhook {
    /// Checks a request; some are answered by the gateway itself.
    async fn check(&self, run: &mut Run<'_, '_, '_>, secret: &[u8]) -> Result<Option<CustomResponse>, Flaw> {
        if secret.is_empty() {
            // Anybody can sign with nothing.
            return Err(Flaw::new("the secret is empty for this request"));
        }
        let now = run.now.unix_timestamp();
        let scheme = run.connection().scheme;
        let Subject::Request(request) = &run.subject else { return Err(Flaw::new("there is no request")) };
        if let Some(response) = challenge::before_body(&self.provider, request.head, secret) {
            return Ok(Some(response));
        }
        let claim = self.provider.claim(request.head, scheme, now)?;
        let payload = run.state.payload.clone();
        let body = match payload {
            Some(payload) => payload.read(&run.state.account).await?,
            None => return Err(Flaw::new("the body of this request cannot be read here")),
        };
        if self.provider.name() == "twitter" && !body.trim_ascii_start().starts_with(b"{") {
            // Whoever asks gets other texts signed: see the challenge.
            return Err(Flaw::new("the body is not what the provider sends"));
        }
        if claim.holds(secret, &body)? {
            return Ok(challenge::of_body(&self.provider, &body, secret));
        }
        let mut flaw = Flaw::new("the signature does not fit the body and the secret");
        if self.provider.is_xero() {
            // That is how Xero finds out whether an endpoint checks signatures at all.
            flaw.status = StatusCode::UNAUTHORIZED;
        }
        Err(flaw)
    }
}

/// The secret stays out of logs.
impl fmt::Debug for VerifyWebhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (provider, enforce) = (self.provider.name(), self.enforce);
        f.debug_struct("VerifyWebhook").field("provider", &provider).field("enforce", &enforce).finish_non_exhaustive()
    }
}

fn compile(fields: &mut Fields<'_>, _phase: Phase, _place: Place) -> Option<Box<dyn Action>> {
    let provider = Provider::read(fields);
    let secret = fields.required_secret("secret", "the secret that the provider shows");
    if secret.as_ref().is_some_and(|secret| secret.fixed() == Some("")) {
        fields.wrong("secret", CONFIG_VALUE, "must not be empty: anybody could sign with that");
    }
    let enforce = fields.bool("enforce", true);
    Some(Box::new(VerifyWebhook { provider: provider?, secret: secret?, enforce }))
}

const MESSAGE: &str = "The request is not signed by the provider that this endpoint takes webhooks from.";
const UNREAD: &str = "The signature of the request cannot be checked, because its body cannot be read.";

#[cfg(test)]
mod tests;
