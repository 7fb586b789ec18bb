//! The phases of a policy, and running them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use adit::endpoint_url::{EndpointUrl, Scheme};
use http::StatusCode;
use time::OffsetDateTime;

use super::actions::{Action, Outcome};
use super::error::{EVALUATION_FAILED, TLS_UNFIT};
use super::expression::{Expression, Value};
use super::mask::Mask;
use super::run::{Run, Subject};
use super::withheld::Withheld;
use super::{Connection, Decided, Refused, Request, Response, State, Verdict};
use crate::tls::Termination;

/// When rules run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Once a connection has come, before anything of it is read.
    TcpConnect,
    /// Once the head of an HTTP request has been read.
    HttpRequest,
    /// Once the head of the response has been read.
    HttpResponse,
}

impl Phase {
    /// Its key in a document.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::TcpConnect => "on_tcp_connect",
            Self::HttpRequest => "on_http_request",
            Self::HttpResponse => "on_http_response",
        }
    }

    /// The phase in which an endpoint of this scheme has to make up its mind at the latest.
    pub(super) const fn last_of(scheme: Scheme) -> Self {
        match scheme {
            Scheme::Http | Scheme::Https => Self::HttpRequest,
            Scheme::Tls | Scheme::Tcp => Self::TcpConnect,
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What an action did to the run.
#[derive(Debug)]
#[must_use]
pub(super) enum Step {
    /// The next action follows.
    Next,
    /// The run ends here.
    End(Verdict),
}

/// The place behind an action.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    rule: usize,
    action: usize,
}

/// A checked and compiled policy. It is immutable but for what its actions count, and shared by everything that runs it.
#[derive(Debug, Default)]
pub struct Policy {
    pub(super) on_tcp_connect: Vec<Rule>,
    pub(super) on_http_request: Vec<Rule>,
    pub(super) on_http_response: Vec<Rule>,
    /// Some of it is not from the policy's text, and must not be lost when that is changed.
    pub(super) holds_more: bool,
    /// Why it refuses everything: what its endpoint asked for cannot be honoured.
    pub(super) held: Option<Arc<str>>,
    /// What of it no log and no explanation may show.
    pub(super) mask: Mask,
    /// Headers in which its actions tell the upstream who a visitor is.
    pub(super) withheld: Withheld,
}

/// Actions that run together.
#[derive(Debug)]
pub(super) struct Rule {
    /// The label that the document gives it.
    pub(super) name: Option<Arc<str>>,
    /// All of them have to be true.
    pub(super) expressions: Vec<Expression>,
    /// In order; at least one.
    pub(super) actions: Vec<Placed>,
}

/// An action in its place.
#[derive(Debug)]
pub(super) struct Placed {
    /// Its type, as documents have it.
    pub(super) name: &'static str,
    /// What it does.
    pub(super) action: Box<dyn Action>,
}

/// What an `https` endpoint asks for before the visitor's TLS ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BeforeTls {
    /// Nothing: it ends as it does by default.
    Default,
    /// It ends in this way.
    Terminate(Arc<Termination>),
    /// The connection is closed.
    Close,
}

impl Policy {
    /// Finds out how the TLS of a visitor of an `https` endpoint has to end. The rules are run once more for every request,
    /// when more is known; here, those that cannot be judged yet are passed over, and nothing is logged.
    pub fn before_tls(&self, connection: Connection<'_>) -> BeforeTls {
        if !self.terminates_tls() {
            return BeforeTls::Default;
        }
        let (from, mut state) = (Position::default(), State::default());
        let mut run =
            Run::new(Subject::Connection(connection), &mut state, &self.mask, OffsetDateTime::now_utc(), from);
        run.is_preview = true;
        let rules = &self.on_tcp_connect;
        let mut walk = Walk { phase: Phase::TcpConnect, rules, mask: &self.mask, at: from };
        loop {
            let Ok(Found::Action(placed)) = walk.next(&mut run) else { return BeforeTls::Default };
            let step = match placed.action.run(&mut run) {
                Outcome::Done(step) => step,
                Outcome::Later(_) => return BeforeTls::Close,
            };
            match step {
                Step::Next => {}
                Step::End(Verdict::TerminateTls { termination, .. }) => return BeforeTls::Terminate(termination),
                // The requests on the connection would all be refused.
                Step::End(verdict) => {
                    let _ = walk.end(verdict, &mut run);
                    return BeforeTls::Close;
                }
            }
        }
    }

    /// Why a request must not be judged on this connection: the terms of its TLS hang on conditions, which were those of
    /// the name that the visitor gave when the connection began, and this request is for another one.
    pub fn misdirected(&self, tls: super::Tls<'_>, host: &str) -> Option<Refused> {
        let super::Tls::Ended(session) = tls else { return None };
        let hangs_on = |rule: &Rule| {
            !rule.expressions.is_empty() && rule.actions.iter().any(|placed| placed.action.terminates_tls())
        };
        let is_same = session.name().is_some_and(|name| name.eq_ignore_ascii_case(host));
        let is_wrong = !is_same && self.on_tcp_connect.iter().any(hangs_on);
        is_wrong.then(|| Refused::new(StatusCode::MISDIRECTED_REQUEST, TLS_UNFIT, OTHER_NAME))
    }

    fn terminates_tls(&self) -> bool {
        self.on_tcp_connect.iter().flat_map(|rule| &rule.actions).any(|placed| placed.action.terminates_tls())
    }

    /// Decides about a connection before anything of it is read.
    ///
    /// For `tls` and `tcp` endpoints [`Verdict::Continue`] means the endpoint's own agent; for HTTP it means that
    /// [`Policy::on_http_request`] comes next. [`Verdict::Respond`] is not possible here.
    pub fn on_tcp_connect(&self, connection: Connection<'_>, state: &mut State, from: Position) -> Verdict {
        if self.on_tcp_connect.is_empty() {
            return Verdict::Continue;
        }
        let mut run = Run::new(Subject::Connection(connection), state, &self.mask, OffsetDateTime::now_utc(), from);
        let rules = &self.on_tcp_connect;
        let mut walk = Walk { phase: Phase::TcpConnect, rules, mask: &self.mask, at: from };
        loop {
            match walk.next(&mut run) {
                Ok(Found::Action(placed)) => {
                    let before = run.trace_before();
                    let step = match placed.action.run(&mut run) {
                        Outcome::Done(step) => step,
                        // No action that asks others is possible in this phase.
                        Outcome::Later(_) => Step::End(Verdict::Close),
                    };
                    run.trace_action(placed.name, before, &step);
                    if let Step::End(verdict) = step {
                        return walk.end(verdict, &mut run);
                    }
                }
                Ok(Found::Nothing) => return Verdict::Continue,
                Err(refused) => return walk.end(Verdict::Refuse(refused), &mut run),
            }
        }
    }

    /// Decides about an HTTP request, whose head the actions may change.
    pub async fn on_http_request(&self, request: &mut Request<'_>, state: &mut State, from: Position) -> Verdict {
        if from == Position::default() {
            self.withheld.strip(&mut request.head.headers);
        }
        let subject = Subject::Request(request);
        self.run_http(Phase::HttpRequest, &self.on_http_request, subject, state, from).await
    }

    /// Runs over a response, whose head the actions may change. [`Verdict::Continue`] lets it through.
    pub async fn on_http_response(&self, response: &mut Response<'_>, state: &mut State) -> Verdict {
        let subject = Subject::Response(response);
        self.run_http(Phase::HttpResponse, &self.on_http_response, subject, state, Position::default()).await
    }

    async fn run_http(
        &self,
        phase: Phase,
        rules: &[Rule],
        subject: Subject<'_, '_>,
        state: &mut State,
        from: Position,
    ) -> Verdict {
        if rules.is_empty() {
            return Verdict::Continue;
        }
        let mut run = Run::new(subject, state, &self.mask, OffsetDateTime::now_utc(), from);
        let mut walk = Walk { phase, rules, mask: &self.mask, at: from };
        loop {
            let placed = match walk.next(&mut run) {
                Ok(Found::Action(placed)) => placed,
                Ok(Found::Nothing) => return Verdict::Continue,
                Err(refused) => return walk.end(Verdict::Refuse(refused), &mut run),
            };
            if run.trace_left_out(placed.name, || placed.action.asks()) {
                continue;
            }
            let before = run.trace_before();
            let step = match placed.action.run(&mut run) {
                Outcome::Done(step) => step,
                Outcome::Later(waiting) => waiting.await,
            };
            run.trace_action(placed.name, before, &step);
            if let Step::End(verdict) = step {
                return walk.end(verdict, &mut run);
            }
        }
    }

    /// Notes the headers that no visitor may bring.
    pub(super) fn withhold_identity_headers(&mut self) {
        let actions = self.on_http_request.iter().flat_map(|rule| &rule.actions);
        self.withheld = Withheld::of(actions.flat_map(|placed| placed.action.tells_upstream_in()));
    }

    /// The headers that no visitor may bring.
    pub fn withheld(&self) -> &Withheld {
        &self.withheld
    }

    /// True when one of its actions sends people to a provider.
    pub fn logs_in(&self) -> bool {
        self.on_http_request.iter().flat_map(|rule| &rule.actions).any(|placed| placed.action.logs_in())
    }

    /// True when another text must not take its place, because not all of it came from a text.
    pub fn holds_more(&self) -> bool {
        self.holds_more
    }

    /// True for the policy of an endpoint that is held back, see [`Policy::held`].
    pub fn is_held(&self) -> bool {
        self.held.is_some()
    }

    /// Why it is held back, for whoever runs the gateway.
    #[must_use]
    pub fn held_reason(&self) -> Option<&str> {
        self.held.as_deref()
    }

    /// True when responses have to pass [`Policy::on_http_response`].
    pub fn has_response_rules(&self) -> bool {
        !self.on_http_response.is_empty()
    }

    /// The internal endpoints that it may hand traffic to, or ask something.
    pub fn forwards_to(&self) -> impl Iterator<Item = &EndpointUrl> {
        let rules = self.on_tcp_connect.iter().chain(&self.on_http_request).chain(&self.on_http_response);
        rules.flat_map(|rule| &rule.actions).filter_map(|placed| placed.action.forwards_to())
    }

    /// Lets the rules of the endpoint's policy follow those of its modules.
    #[must_use]
    pub fn followed_by(mut self, other: Self) -> Self {
        self.holds_more = true;
        self.mask = self.mask.with(&other.mask);
        self.on_tcp_connect.extend(other.on_tcp_connect);
        self.on_http_request.extend(other.on_http_request);
        self.on_http_response.extend(other.on_http_response);
        self.withhold_identity_headers();
        self
    }

    /// True when no traffic gets past the rules of this phase.
    pub(super) fn surely_ends(&self, phase: Phase) -> bool {
        let rules = match phase {
            Phase::TcpConnect => &self.on_tcp_connect,
            Phase::HttpRequest => &self.on_http_request,
            Phase::HttpResponse => &self.on_http_response,
        };
        rules.iter().any(Rule::surely_ends)
    }
}

impl Rule {
    /// True when no traffic gets past this rule.
    pub(super) fn surely_ends(&self) -> bool {
        self.expressions.is_empty() && self.actions.iter().any(|placed| placed.action.is_terminating())
    }

    /// A rule that protects must not be skipped because its condition has no value: that would let through what it was
    /// written to stop.
    fn protects(&self) -> bool {
        self.actions.iter().any(|placed| placed.action.protects())
    }

    fn applies(&self, run: &mut Run<'_, '_, '_>) -> Result<bool, (usize, super::expression::Fault)> {
        for (index, expression) in self.expressions.iter().enumerate() {
            let held = run.holds(expression);
            run.trace_expression(expression, &held);
            if !held.map_err(|fault| (index, fault))? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// A walk over the rules of a phase.
struct Walk<'p> {
    phase: Phase,
    rules: &'p [Rule],
    mask: &'p Mask,
    /// What comes next.
    at: Position,
}

/// What a walk came to.
enum Found<'p> {
    Action(&'p Placed),
    Nothing,
}

impl<'p> Walk<'p> {
    /// The next action that is to run.
    fn next(&mut self, run: &mut Run<'_, '_, '_>) -> Result<Found<'p>, Box<Refused>> {
        while let Some(rule) = self.rules.get(self.at.rule) {
            let is_skipped = self.at.action == 0 && !self.enters(rule, run)?;
            match rule.actions.get(self.at.action).filter(|_| !is_skipped) {
                Some(placed) => {
                    self.at.action += 1;
                    run.behind = self.at;
                    return Ok(Found::Action(placed));
                }
                None => self.at = Position { rule: self.at.rule + 1, action: 0 },
            }
        }
        Ok(Found::Nothing)
    }

    fn enters(&self, rule: &Rule, run: &mut Run<'_, '_, '_>) -> Result<bool, Box<Refused>> {
        run.trace_rule(self.at.rule, rule.name.as_deref(), rule.expressions.len());
        let (index, fault) = match rule.applies(run) {
            Ok(applies) => {
                run.trace_entry(applies);
                return Ok(applies);
            }
            Err(failed) => failed,
        };
        let (phase, name) = (self.phase, rule.name.as_deref().unwrap_or_default());
        if run.is_preview && fault != super::expression::Fault::Cost {
            return Ok(false);
        }
        if !rule.protects() && fault != super::expression::Fault::Cost {
            let fault = self.mask.hide(&fault.to_string());
            tracing::debug!(%phase, rule = self.at.rule, name, expression = index, fault, "rule skipped: no value");
            return Ok(false);
        }
        let message = "A condition of this endpoint's Traffic Policy has no value for this request, and the rule that it \
                       belongs to must not be skipped.";
        let mut refused = Refused::new(StatusCode::INTERNAL_SERVER_ERROR, EVALUATION_FAILED, message);
        refused.reason = Some(format!("expressions[{index}]: {fault}"));
        Err(Box::new(refused))
    }

    /// Whatever ends a request without its upstream leaves one line.
    fn end(&self, verdict: Verdict, run: &mut Run<'_, '_, '_>) -> Verdict {
        let (rule, phase) = (self.at.rule, self.phase);
        let found = self.rules.get(rule);
        let (place, label) = (rule, found.and_then(|rule| rule.name.clone()));
        run.state.decided = Some(Decided { phase: phase.as_str(), place, name: label, verdict: verdict.word() });
        let name = found.and_then(|rule| rule.name.as_deref()).unwrap_or_default();
        let placed = found.zip(self.at.action.checked_sub(1)).and_then(|(rule, at)| rule.actions.get(at));
        let action = placed.map_or("", |placed| placed.name);
        let connection = run.connection();
        let (visitor, endpoint) = (connection.peer, connection.endpoint);
        match &verdict {
            Verdict::Refuse(refused) => {
                let (status, code) = (refused.status.as_u16(), refused.code);
                let reason = self.mask.hide(refused.reason.as_deref().unwrap_or_default());
                tracing::info!(%endpoint, %visitor, %phase, rule, name, action, status, code, reason, "refused by policy");
            }
            Verdict::Deny { status } => {
                let status = status.as_u16();
                tracing::info!(%endpoint, %visitor, %phase, rule, name, action, status, "refused by policy");
            }
            Verdict::Close => tracing::info!(%endpoint, %visitor, %phase, rule, name, action, "closed by policy"),
            Verdict::Respond(response) if response.status.is_client_error() || response.status.is_server_error() => {
                let status = response.status.as_u16();
                tracing::info!(%endpoint, %visitor, %phase, rule, name, action, status, "answered by policy");
            }
            Verdict::Continue | Verdict::Forward { .. } | Verdict::Respond(_) | Verdict::TerminateTls { .. } => {
                let verdict = Short(&verdict);
                tracing::debug!(%endpoint, %visitor, %phase, rule, name, action, %verdict, "policy ended");
            }
        }
        verdict
    }
}

/// A verdict for the log: without bodies and headers.
struct Short<'a>(&'a Verdict);

impl fmt::Display for Short<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Verdict::Continue => f.write_str("continue"),
            Verdict::Forward { url, .. } => write!(f, "forward to {url}"),
            Verdict::Deny { status } => write!(f, "deny with {}", status.as_u16()),
            Verdict::Refuse(refused) => write!(f, "refuse with {}", refused.status.as_u16()),
            Verdict::Respond(response) => write!(f, "respond with {}", response.status.as_u16()),
            Verdict::Close => f.write_str("close"),
            Verdict::TerminateTls { .. } => f.write_str("end TLS"),
        }
    }
}

/// The results of actions and the values of `set-vars`, by name.
pub(super) type Values = BTreeMap<Arc<str>, Value>;

const OTHER_NAME: &str = "This request came on a connection that was made for another name. Make a new one for it.";
