//! The actions, and the one mechanism that all of them use: a [`Kind`] that reads the configuration, and an [`Action`]
//! that runs.

mod add_headers;
mod basic_auth;
mod circuit_breaker;
mod close_connection;
mod compress_response;
mod custom_response;
mod deny;
mod fetched;
mod forward_internal;
mod header;
mod http_request;
mod jwt_validation;
mod log;
mod log_in;
mod rate_limit;
mod redirect;
mod remove_headers;
mod restrict_ips;
mod set_vars;
mod terminate_tls;
mod url_rewrite;
mod verify_webhook;

use std::fmt;
use std::pin::Pin;

use adit::endpoint_url::EndpointUrl;
use http::{HeaderName, StatusCode};

use super::error::EVALUATION_FAILED;
use super::expression::Fault;
use super::fields::Fields;
use super::phase::{Phase, Step};
use super::place::Place;
use super::run::Run;
use super::{Refused, Verdict};

pub(super) use circuit_breaker::Trial;
pub use compress_response::Compression;
pub(crate) use compress_response::DIGESTS;

/// One action of a compiled policy.
pub(super) trait Action: fmt::Debug + Send + Sync {
    /// True when whatever comes behind it can never run.
    fn is_terminating(&self) -> bool {
        false
    }

    /// True when it keeps traffic or headers away from the upstream or the visitor, so that its rule must not be skipped
    /// for want of a value.
    fn protects(&self) -> bool {
        false
    }

    /// True when it sends people to a provider: a policy can have one such action.
    fn logs_in(&self) -> bool {
        false
    }

    /// The headers in which the upstream is told who the visitor is: a visitor's own are taken out of every request.
    fn tells_upstream_in(&self) -> Vec<HeaderName> {
        Vec::new()
    }

    /// The internal endpoint that it may hand traffic to, or ask something.
    fn forwards_to(&self) -> Option<&EndpointUrl> {
        None
    }

    /// True when it may end the visitor's TLS.
    fn terminates_tls(&self) -> bool {
        false
    }

    /// What it asks others for over the network, if it does.
    fn asks(&self) -> Option<String> {
        None
    }

    /// Does its work. It is called only in the phases that its [`Kind`] names.
    fn run<'r>(&'r self, run: &'r mut Run<'_, '_, '_>) -> Outcome<'r>;
}

/// What became of an action.
#[must_use]
pub(super) enum Outcome<'r> {
    /// It is done.
    Done(Step),
    /// It has to ask others first; not in `on_tcp_connect`.
    Later(Pin<Box<dyn Future<Output = Step> + Send + 'r>>),
}

impl Outcome<'_> {
    /// The next action follows.
    const NEXT: Self = Self::Done(Step::Next);

    /// The run ends.
    fn end(verdict: Verdict) -> Self {
        Self::Done(Step::End(verdict))
    }

    /// The traffic is refused.
    pub(super) fn refuse(refused: Refused) -> Self {
        Self::end(Verdict::Refuse(Box::new(refused)))
    }

    /// A template or an expression of the action has no value: the request cannot go on as its policy wants it to.
    fn failed(field: &str, fault: &Fault) -> Self {
        Self::end(Self::failure(field, fault))
    }

    /// As [`Outcome::failed`], for an action that has begun to wait.
    fn failure(field: &str, fault: &Fault) -> Verdict {
        let message = "A value in this endpoint's Traffic Policy cannot be worked out for this request.";
        let mut refused = Refused::new(StatusCode::INTERNAL_SERVER_ERROR, EVALUATION_FAILED, message);
        refused.reason = Some(format!("{field}: {fault}"));
        Verdict::Refuse(Box::new(refused))
    }
}

/// One type of action.
#[derive(Debug)]
pub(super) struct Kind {
    /// Its name in documents.
    pub(super) name: &'static str,
    /// The phases that it works in.
    pub(super) phases: &'static [Phase],
    /// Reads its configuration, noting what is wrong; `None` only if something was noted.
    pub(super) compile: fn(&mut Fields<'_>, Phase, Place) -> Option<Box<dyn Action>>,
}

/// Finds a type of action by its name in documents.
pub(super) fn kind(name: &str) -> Option<&'static Kind> {
    KINDS.iter().copied().find(|kind| kind.name == name)
}

/// The names of all actions that work in a phase, for an error message.
pub(super) fn names(phase: Phase) -> String {
    let names: Vec<&str> = KINDS.iter().filter(|kind| kind.phases.contains(&phase)).map(|kind| kind.name).collect();
    names.join(", ")
}

/// Every action there is.
const KINDS: &[&Kind] = &[
    &add_headers::KIND,
    &basic_auth::KIND,
    &circuit_breaker::KIND,
    &close_connection::KIND,
    &compress_response::KIND,
    &custom_response::KIND,
    &deny::KIND,
    &forward_internal::KIND,
    &http_request::KIND,
    &jwt_validation::KIND,
    &log::KIND,
    &log_in::oauth::KIND,
    &log_in::openid_connect::KIND,
    &log_in::openid_connect::OIDC,
    &rate_limit::KIND,
    &redirect::KIND,
    &remove_headers::KIND,
    &restrict_ips::KIND,
    &log_in::saml::KIND,
    &set_vars::KIND,
    &terminate_tls::KIND,
    &url_rewrite::KIND,
    &verify_webhook::KIND,
];

/// The phases of requests and responses.
const HTTP: &[Phase] = &[Phase::HttpRequest, Phase::HttpResponse];
const EVERYWHERE: &[Phase] = &[Phase::TcpConnect, Phase::HttpRequest, Phase::HttpResponse];

#[cfg(test)]
mod faulty;
#[cfg(test)]
mod tests;
