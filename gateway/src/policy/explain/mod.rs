//! Runs a policy on a made-up request and says what it did: which rules were looked at, what their expressions came to and
//! with which values, which actions ran and what they changed.
//!
//! It is the same walk that decides about real requests, with somebody who takes notes; nothing is decided anew here.

mod decision;
mod text;
mod trace;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use adit::endpoint_url::{EndpointUrl, Scheme};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::HeaderMap;
use rustls::pki_types::{CertificateDer, UnixTime};
use serde::Serialize;

use super::mask::Mask;
use super::phase::{Phase, Rule};
use super::{
    BeforeTls, Bodyless, Connection, Course, Policy, Position, Request, Response, State, Tls, Tools, Verdict, Whole,
};
use crate::tls::{Presented, Session, Termination};

pub use decision::Decision;
pub(super) use trace::Trace;
pub use trace::{ActionTrace, Change, ExpressionTrace, LookedUp, RuleTrace};

/// The traffic that a policy is to be explained for.
#[derive(Debug)]
pub struct Question {
    /// The endpoint that it comes to.
    pub endpoint: EndpointUrl,
    /// Who comes.
    pub peer: SocketAddr,
    /// The address of the gateway that it came to.
    pub local: SocketAddr,
    /// How its connection has gone so far.
    pub course: Course,
    /// The head of the request, its `host` among the headers; for `tls` and `tcp` it does not count.
    pub request: http::request::Parts,
    /// The body of the request; empty when it has none.
    pub body: Bytes,
    /// What the visitor can show in TLS: its certificate, and those between it and an authority. Without it nothing is
    /// known of TLS where one is asked for.
    pub client_certificates: Option<Vec<CertificateDer<'static>>>,
    /// The head of what the agent answers.
    pub response: Option<http::response::Parts>,
    /// Actions may ask others over the network; without it they are left out, and taken to let the traffic pass.
    pub is_online: bool,
    /// Internal endpoints with `on_error: continue` are taken to be offline.
    pub is_offline: bool,
}

/// What a policy did.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    /// The endpoint.
    pub endpoint: String,
    /// Who came.
    pub peer: String,
    /// The request as it came; not for `tls` and `tcp`.
    pub request: Option<RequestShown>,
    /// What became of the visitor's certificate in TLS, if it has one.
    pub client_certificate: Option<String>,
    /// The phases that there are, in their order.
    pub phases: Vec<PhaseTrace>,
    /// What becomes of the traffic.
    pub decision: Decision,
}

/// A request as it may be shown.
#[derive(Clone, Debug, Serialize)]
pub struct RequestShown {
    /// Its method.
    pub method: String,
    /// Path and query.
    pub uri: String,
    /// Its headers.
    pub headers: BTreeMap<String, String>,
}

/// One phase of a policy.
#[derive(Clone, Debug, Serialize)]
pub struct PhaseTrace {
    /// Its name in documents.
    pub phase: &'static str,
    /// Why it did not run at all.
    pub not_run: Option<&'static str>,
    /// The rules that were looked at.
    pub rules: Vec<RuleTrace>,
    /// How many rules follow that were not come to.
    pub rules_not_reached: usize,
}

/// Runs a policy and takes notes.
pub async fn explain(policy: &Policy, mut question: Question) -> Explanation {
    let mask = policy.mask.with(&hidden_in(&question));
    let scheme = question.endpoint.scheme();
    let request = scheme.is_http().then(|| RequestShown {
        method: question.request.method.to_string(),
        uri: mask.hide(&question.request.uri.to_string()),
        headers: decision::shown(&question.request.headers, &mask),
    });
    let mut walk = Explaining { policy, phases: Vec::new(), mask, session: None, certificate: None };
    if question.body.is_empty() {
        question.request.extensions.insert(Bodyless);
    }
    let payload = Arc::new(Whole(question.body.clone()));
    let mut state = State::new("".into(), Tools { payload: Some(payload), ..Tools::default() });
    let mut verdict = walk.connect(&question, &mut state);
    if scheme.is_http() {
        if verdict == Verdict::Continue {
            verdict = walk.request(&mut question, &mut state).await;
        } else {
            walk.skip(Phase::HttpRequest, ENDED);
        }
        verdict = walk.response(&mut question, &mut state, verdict).await;
    }
    let decision = Decision::of(&verdict, &walk.mask);
    let Explaining { phases, certificate, .. } = walk;
    Explanation {
        endpoint: question.endpoint.to_string(),
        peer: question.peer.ip().to_string(),
        request,
        client_certificate: certificate,
        phases,
        decision,
    }
}

struct Explaining<'p> {
    policy: &'p Policy,
    phases: Vec<PhaseTrace>,
    mask: Mask,
    /// What is known of the visitor's TLS.
    session: Option<Session>,
    /// What became of its certificate.
    certificate: Option<String>,
}

impl Explaining<'_> {
    /// Lets the visitor's TLS end, and says whether it comes to that.
    fn shake_hands(&mut self, question: &Question, termination: Option<&Termination>) -> bool {
        let check = termination.and_then(Termination::clients);
        let chain = match (&question.client_certificates, check) {
            (Some(chain), _) => chain.as_slice(),
            // Whom it is about is not said, so what becomes of it is not known.
            (None, Some(_)) => return true,
            (None, None) => &[],
        };
        let presented = match check.map(|check| check.judge(chain, UnixTime::now())).transpose() {
            Ok(presented) => presented,
            Err(reason) => {
                self.certificate = Some(format!("the handshake fails: {reason}"));
                return false;
            }
        };
        let presented = presented.as_deref();
        if question.client_certificates.is_some() {
            self.certificate = Some(match presented.and_then(Presented::get) {
                None => "not asked for".to_owned(),
                Some((_, Ok(()))) => "verified".to_owned(),
                Some((_, Err(reason))) => format!("not verified: {reason}"),
            });
        }
        self.session = Some(Session::assumed(question.endpoint.host(), termination, presented));
        true
    }

    fn connection<'q>(&'q self, question: &'q Question) -> Connection<'q> {
        let Question { endpoint, peer, local, .. } = question;
        let course = Some(&question.course);
        let tls = self.session.as_ref().map_or(Tls::Unknown, Tls::Ended);
        Connection { peer: *peer, local: *local, scheme: endpoint.scheme(), endpoint, bind: None, course, tls }
    }

    fn connect(&mut self, question: &Question, state: &mut State) -> Verdict {
        if question.endpoint.scheme().is_http() && question.endpoint.is_internal() {
            return Verdict::Continue;
        }
        // For https the gateway runs the rules once more when TLS has ended, with all that is known then.
        if question.endpoint.scheme() == Scheme::Https {
            let begun = Tls::Begun(Some(question.endpoint.host()));
            let is_closed = match self.policy.before_tls(Connection { tls: begun, ..self.connection(question) }) {
                BeforeTls::Default => !self.shake_hands(question, None),
                BeforeTls::Terminate(termination) => !self.shake_hands(question, Some(&termination)),
                // The rules say why.
                BeforeTls::Close => false,
            };
            if is_closed {
                self.skip(Phase::TcpConnect, ENDED);
                return Verdict::Close;
            }
        }
        self.begin(question, state);
        let mut from = Position::default();
        let verdict = loop {
            let verdict = self.policy.on_tcp_connect(self.connection(question), state, from);
            if let Verdict::TerminateTls { termination, .. } = &verdict
                && !self.shake_hands(question, Some(termination))
            {
                break Verdict::Close;
            }
            match behind(question, state, &verdict) {
                Some(position) => from = position,
                None => break verdict,
            }
        };
        self.end(Phase::TcpConnect, &self.policy.on_tcp_connect, state);
        verdict
    }

    async fn request(&mut self, question: &mut Question, state: &mut State) -> Verdict {
        self.begin(question, state);
        let mut head = question.request.clone();
        let mut from = Position::default();
        let verdict = loop {
            let mut request = Request { connection: self.connection(question), head: &mut head };
            let verdict = self.policy.on_http_request(&mut request, state, from).await;
            match behind(question, state, &verdict) {
                Some(position) => from = position,
                None => break verdict,
            }
        };
        question.request = head;
        self.end(Phase::HttpRequest, &self.policy.on_http_request, state);
        verdict
    }

    /// As the gateway does, it is run over answers of agents and of the policy itself, and not over refusals.
    async fn response(&mut self, question: &mut Question, state: &mut State, before: Verdict) -> Verdict {
        let head = match &before {
            Verdict::Continue | Verdict::Forward { .. } => match question.response.take() {
                Some(head) => head,
                None => {
                    self.skip(Phase::HttpResponse, NO_RESPONSE);
                    return before;
                }
            },
            Verdict::Respond(response) => {
                let (mut head, ()) = http::Response::new(()).into_parts();
                head.status = response.status;
                head.headers = response.headers.clone();
                head
            }
            Verdict::Deny { .. } | Verdict::Refuse(_) | Verdict::Close | Verdict::TerminateTls { .. } => {
                self.skip(Phase::HttpResponse, ENDED);
                return before;
            }
        };
        self.begin(question, state);
        let mut head = head;
        let mut response =
            Response { connection: self.connection(question), request: &question.request, head: &mut head };
        let verdict = self.policy.on_http_response(&mut response, state).await;
        self.end(Phase::HttpResponse, &self.policy.on_http_response, state);
        if verdict == Verdict::Continue { before } else { verdict }
    }

    fn begin(&self, question: &Question, state: &mut State) {
        state.trace = Some(Box::new(Trace::new(self.mask.clone(), question.is_online)));
    }

    fn end(&mut self, phase: Phase, rules: &[Rule], state: &mut State) {
        let traced = state.trace.take().map(|trace| trace.rules).unwrap_or_default();
        let reached = traced.last().map_or(0, |last| last.rule + 1);
        let rules_not_reached = rules.len().saturating_sub(reached);
        self.phases.push(PhaseTrace { phase: phase.as_str(), not_run: None, rules: traced, rules_not_reached });
    }

    fn skip(&mut self, phase: Phase, why: &'static str) {
        let rules = match phase {
            Phase::TcpConnect => &self.policy.on_tcp_connect,
            Phase::HttpRequest => &self.policy.on_http_request,
            Phase::HttpResponse => &self.policy.on_http_response,
        };
        let rules_not_reached = rules.len();
        self.phases.push(PhaseTrace {
            phase: phase.as_str(),
            not_run: Some(why),
            rules: Vec::new(),
            rules_not_reached,
        });
    }
}

/// Where the policy goes on: behind the end of TLS, or when the endpoint that it forwards to is taken to be offline.
fn behind(question: &Question, state: &mut State, verdict: &Verdict) -> Option<Position> {
    let (url, position) = match verdict {
        // Where a certificate is asked for, nothing is known of the handshake without --client-cert.
        Verdict::TerminateTls { then, .. } => return Some(*then),
        Verdict::Forward { url, on_error: Some(position) } => (url, position),
        _ => return None,
    };
    if !question.is_offline {
        return None;
    }
    state.forward_failed(&url.to_string(), OFFLINE, "no agent has this endpoint online");
    Some(*position)
}

/// What the request brings that proves who somebody is, in every form in which it may come up.
fn hidden_in(question: &Question) -> Mask {
    let mut hidden = Vec::new();
    let response = question.response.as_ref().map(|head| &head.headers);
    for headers in std::iter::once(&question.request.headers).chain(response) {
        collect_hidden(headers, &mut hidden);
    }
    let query = question.request.uri.query().unwrap_or_default();
    hidden.extend(query.split(['&', '=']).filter(|part| is_token(part)).map(str::to_owned));
    let body = String::from_utf8_lossy(&question.body);
    let words = body.split(|part: char| !(part.is_ascii_alphanumeric() || "-_.".contains(part)));
    hidden.extend(words.filter(|word| is_token(word)).flat_map(forms_of_token));
    hidden.retain(|text| text.len() >= HIDDEN_BYTES_MIN);
    Mask::new(hidden)
}

fn collect_hidden(headers: &HeaderMap, hidden: &mut Vec<String>) {
    for (name, line) in headers {
        let line = String::from_utf8_lossy(line.as_bytes());
        let words: Vec<&str> = line.split([' ', ';', ',']).map(str::trim).filter(|word| !word.is_empty()).collect();
        if !trace::is_secret(name) {
            hidden.extend(words.into_iter().filter(|word| is_token(word)).flat_map(forms_of_token));
            continue;
        }
        let is_cookie = name.as_str().ends_with("cookie");
        let proof =
            if is_cookie { line.as_ref() } else { line.split_once(' ').map_or(line.as_ref(), |(_, rest)| rest) };
        hidden.extend([line.clone().into_owned(), proof.trim().to_owned()]);
        for word in words {
            let value = if is_cookie { word.split_once('=').map_or(word, |(_, value)| value) } else { word };
            // The scheme in front of the proof is no secret.
            if is_cookie || proof.contains(word) {
                hidden.extend([value.to_owned(), value.trim_matches('"').to_owned()]);
                hidden.extend(forms_of_token(value));
            }
            let decoded = STANDARD.decode(value).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            if let Some(decoded) = decoded {
                hidden.extend(decoded.split_once(':').map(|(_, password)| password.to_owned()));
                hidden.push(decoded);
            }
        }
    }
}

/// The parts of a token: what is before the last one is what is signed, and the last one the signature.
fn forms_of_token(token: &str) -> Vec<String> {
    if !is_token(token) {
        return Vec::new();
    }
    let parts = token.split('.').map(str::to_owned);
    std::iter::once(token.to_owned()).chain(parts).collect()
}

/// True for what looks like a JSON Web Token: an object in base64url, and more of that.
fn is_token(text: &str) -> bool {
    text.starts_with("eyJ") && text.matches('.').count() == 2
}

const ENDED: &str = "the traffic has ended before";
const NO_RESPONSE: &str = "what the agent answers is not said: use --status";
/// ERR_NGROK_3200: nobody has the endpoint online.
const OFFLINE: u32 = 3200;
/// Shorter texts would hide what only happens to have them in it.
const HIDDEN_BYTES_MIN: usize = 4;
