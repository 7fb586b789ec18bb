//! What one run of a phase works with.

use std::sync::Arc;

use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue};
use time::OffsetDateTime;
use tokio::time::Instant;

use super::actions::Trial;
use super::errand::Errands;
use super::explain::Trace;
use super::expression::{Budget, Expression, Facts, Fault, RequestFacts, Value};
use super::mask::Mask;
use super::payload::{Bodyless, Payload};
use super::phase::{Position, Values};
use super::template::{Piece, Template};
use super::{Connection, Decided, Request, Response};
use crate::login::LogIns;
use crate::login::term::Passage;

/// What a policy remembers from phase to phase of one request.
#[derive(Debug)]
pub struct State {
    /// When the request came, or the connection where there are no requests.
    received: OffsetDateTime,
    pub(super) vars: Values,
    pub(super) results: Values,
    /// What is left for the run of a phase, also when that goes on behind an action that could not be done.
    budget: Budget,
    /// Notes for explaining; none when requests are real.
    pub(super) trace: Option<Box<Trace>>,
    /// What circuit breakers have let through and wait to hear of.
    pub(super) trials: Vec<Trial>,
    /// The body of the request, for actions that read it.
    pub(super) payload: Option<Arc<dyn Payload>>,
    /// The way to other endpoints, for actions that ask them.
    pub(super) errands: Option<Arc<dyn Errands>>,
    /// The account that the endpoint belongs to.
    pub(super) account: Arc<str>,
    /// What an action adds to the response, whoever makes it.
    pub(super) response_headers: Vec<(HeaderName, HeaderValue)>,
    log_ins: Option<Arc<LogIns>>,
    /// The rule that ended the last run.
    pub(super) decided: Option<Decided>,
    /// The cookies of our own sessions.
    pub(super) own_cookies: Arc<HeaderMap>,
    /// What a log-in has decided of the request, at this endpoint or at one before it.
    pub(super) passage: Arc<Passage>,
    /// The host that the visitor asked for, whatever policies make of `Host`.
    pub(super) host: Option<HeaderValue>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            received: OffsetDateTime::now_utc(),
            vars: Values::default(),
            results: Values::default(),
            budget: Budget::default(),
            trace: None,
            trials: Vec::new(),
            payload: None,
            errands: None,
            account: "".into(),
            response_headers: Vec::new(),
            log_ins: None,
            decided: None,
            own_cookies: Arc::default(),
            passage: Arc::default(),
            host: None,
        }
    }
}

/// What actions may use beyond the head that they judge. Without it they say that they cannot.
#[derive(Clone, Debug, Default)]
pub struct Tools {
    /// The body of the request.
    pub payload: Option<Arc<dyn Payload>>,
    /// The way to other endpoints.
    pub errands: Option<Arc<dyn Errands>>,
    /// Sessions of people who log in.
    pub log_ins: Option<Arc<LogIns>>,
    /// The cookies of such sessions that came with the request, which nobody else sees.
    pub own_cookies: Arc<HeaderMap>,
    /// What the first log-in on the request's way decides, however many endpoints that has.
    pub passage: Arc<Passage>,
    /// The host that the visitor asked for, with its port; `None`: what `Host` says.
    pub host: Option<HeaderValue>,
}

impl State {
    /// The state of a request to an endpoint of an account.
    #[must_use]
    pub fn new(account: Arc<str>, tools: Tools) -> Self {
        let Tools { payload, errands, log_ins, own_cookies, passage, host } = tools;
        Self { account, payload, errands, log_ins, own_cookies, passage, host, ..Self::default() }
    }

    /// Takes what the last run came to, if a rule decided it.
    pub fn take_decided(&mut self) -> Option<Decided> {
        self.decided.take()
    }

    /// Tells the actions that wait for it whether the service failed. A request that never got to it, or whose visitor
    /// went away, is not settled.
    pub fn settle(&mut self, has_failed: bool) {
        let now = Instant::now();
        self.trials.drain(..).for_each(|trial| trial.settle(has_failed, now));
    }

    /// Adds what actions have for the response.
    pub fn complete(&mut self, headers: &mut HeaderMap) {
        for (name, value) in &self.response_headers {
            headers.append(name.clone(), value.clone());
        }
    }

    /// Notes that the internal endpoint that an action named could not be reached.
    pub fn forward_failed(&mut self, url: &str, code: u32, message: &str) {
        let error = Value::map([("code", Value::text(&error_code(code))), ("message", Value::text(message))]);
        self.results.insert("forward_internal".into(), Value::map([("url", Value::text(url)), ("error", error)]));
    }
}

/// What the actions of a phase work on.
#[derive(Debug)]
pub(super) enum Subject<'a, 'b> {
    /// In `on_tcp_connect`.
    Connection(Connection<'a>),
    /// In `on_http_request`.
    Request(&'a mut Request<'b>),
    /// In `on_http_response`.
    Response(&'a mut Response<'b>),
}

/// One run of a phase.
#[derive(Debug)]
pub(super) struct Run<'r, 'a, 'b> {
    pub(super) subject: Subject<'a, 'b>,
    pub(super) state: &'r mut State,
    pub(super) now: OffsetDateTime,
    /// Where to go on when what the action that runs now decides cannot be done.
    pub(super) behind: Position,
    /// Keeps the policy's secrets out of what is logged.
    pub(super) mask: &'r Mask,
    /// What runs now will run once more, when more is known.
    pub(super) is_preview: bool,
}

impl<'r, 'a, 'b> Run<'r, 'a, 'b> {
    /// A run that begins, or that goes on at a later position with what is left of its budget.
    pub(super) fn new(
        subject: Subject<'a, 'b>,
        state: &'r mut State,
        mask: &'r Mask,
        now: OffsetDateTime,
        from: Position,
    ) -> Self {
        if from == Position::default() {
            state.budget = Budget::default();
        }
        Self { subject, state, mask, now, behind: Position::default(), is_preview: false }
    }

    pub(super) fn connection(&self) -> Connection<'_> {
        match &self.subject {
            Subject::Connection(connection) => *connection,
            Subject::Request(request) => request.connection,
            Subject::Response(response) => response.connection,
        }
    }

    /// The headers that actions change: of the request, or of the response.
    pub(super) fn headers(&mut self) -> Option<&mut http::HeaderMap> {
        match &mut self.subject {
            Subject::Connection(_) => None,
            Subject::Request(request) => Some(&mut request.head.headers),
            Subject::Response(response) => Some(&mut response.head.headers),
        }
    }

    pub(super) fn holds(&mut self, expression: &Expression) -> Result<bool, Fault> {
        let State { received, vars, results, budget, .. } = &mut *self.state;
        expression.holds(&facts(&self.subject, (vars, results), (self.now, *received)), budget)
    }

    /// As [`Run::holds`], of an expression with names of its own and their values.
    pub(super) fn holds_with(&mut self, expression: &Expression, values: Vec<Value>) -> Result<bool, Fault> {
        let State { received, vars, results, budget, .. } = &mut *self.state;
        expression.holds_with(&facts(&self.subject, (vars, results), (self.now, *received)), budget, values)
    }

    pub(super) fn value(&mut self, expression: &Expression) -> Result<Value, Fault> {
        let State { received, vars, results, budget, .. } = &mut *self.state;
        expression.evaluate(&facts(&self.subject, (vars, results), (self.now, *received)), budget)
    }

    /// The value of an expression as a text.
    pub(super) fn shown(&mut self, expression: &Expression) -> Result<String, Fault> {
        let State { received, vars, results, budget, .. } = &mut *self.state;
        expression.shown(&facts(&self.subject, (vars, results), (self.now, *received)), budget)
    }

    pub(super) fn render(&mut self, template: &Template) -> Result<String, Fault> {
        let State { received, vars, results, budget, .. } = &mut *self.state;
        template.render(&facts(&self.subject, (vars, results), (self.now, *received)), budget)
    }

    pub(super) fn pieces<'t>(&mut self, template: &'t Template) -> Result<Vec<Piece<'t>>, Fault> {
        let State { received, vars, results, budget, .. } = &mut *self.state;
        template.pieces(&facts(&self.subject, (vars, results), (self.now, *received)), budget)
    }

    /// What expressions can see now.
    pub(super) fn facts(&self) -> Facts<'_> {
        facts(&self.subject, (&self.state.vars, &self.state.results), (self.now, self.state.received))
    }

    /// The log-ins of the gateway, if it has any.
    pub(super) fn log_ins(&self) -> Option<Arc<LogIns>> {
        self.state.log_ins.clone()
    }

    /// What an action costs beyond its expressions and templates.
    pub(super) fn spend(&mut self, steps: usize) -> Result<(), Fault> {
        self.state.budget.spend(steps)
    }

    /// Keeps what an action found out as `actions.ngrok.NAME`. An `error` is always in it: conditions that look at its
    /// `code` must have a value also when nothing went wrong.
    pub(super) fn set_result(&mut self, name: &'static str, value: Value) {
        self.state.results.insert(name.into(), with_error(value));
    }
}

/// A result with an `error` of empty texts, if it has none.
fn with_error(result: Value) -> Value {
    match result {
        Value::Map(mut entries) if !entries.contains_key("error") => {
            let none = Value::map([("code", Value::text("")), ("message", Value::text(""))]);
            Arc::make_mut(&mut entries).insert("error".into(), none);
            Value::Map(entries)
        }
        other => other,
    }
}

fn facts<'f>(
    subject: &'f Subject<'_, '_>,
    (vars, results): (&'f Values, &'f Values),
    (now, received): (OffsetDateTime, OffsetDateTime),
) -> Facts<'f> {
    let (connection, request, response) = match subject {
        Subject::Connection(connection) => (*connection, None, None),
        Subject::Request(request) => (request.connection, Some(request_facts(request.head)), None),
        Subject::Response(response) => {
            let head = (response.head.status, &response.head.headers);
            (response.connection, Some(request_facts(response.request)), Some(head))
        }
    };
    Facts { connection, request, response, now, received, vars, results }
}

fn request_facts(head: &Parts) -> RequestFacts<'_> {
    let has_no_body = head.extensions.get::<Bodyless>().is_some();
    RequestFacts { method: &head.method, uri: &head.uri, version: head.version, headers: &head.headers, has_no_body }
}

/// A code as clients know it.
pub(super) fn error_code(code: u32) -> String {
    format!("ERR_NGROK_{code}")
}
