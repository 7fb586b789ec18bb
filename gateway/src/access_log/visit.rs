//! What is noted of one request or connection of a visitor while it lasts, and written down when it is over.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use adit::endpoint_url::{EndpointUrl, Scheme};
use http::StatusCode;
use http::request::Parts;
use time::OffsetDateTime;
use tokio::time::Instant;

use super::line::{Line, Rule, Times};
use crate::http::reach::{PublicEndpoint, Target, Visitor};
use crate::ledger::Ledger;
use crate::metrics::{Status, observe};
use crate::policy::{Course, Decided};

/// A request or a connection of a visitor. Everybody who works for it notes what happens; when the last of them lets go of
/// it, it is counted, and written if there is an access log.
#[derive(Debug)]
pub struct Visit {
    ledger: Arc<Ledger>,
    visitor: Visitor,
    scheme: Scheme,
    began: OffsetDateTime,
    started: Instant,
    /// `None` for a connection, and where nothing is written.
    request: Option<RequestLine>,
    is_request: bool,
    received: Arc<AtomicU64>,
    sent: AtomicU64,
    notes: Mutex<Notes>,
}

/// The site that a visitor was sent to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// The credential that its agent logged in with.
    pub credential: Arc<str>,
    /// Which of the credential's agents it is, if it says so.
    pub instance: Option<Arc<str>>,
}

/// How a request or connection ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ending {
    /// Somebody went away before it was over: the visitor as a rule.
    #[default]
    Aborted,
    /// It was carried to its end.
    Done,
    /// The agent or the upstream broke off.
    Broken,
    /// Nothing moved for too long.
    Idle,
}

#[derive(Debug)]
struct RequestLine {
    method: String,
    host: String,
    path: String,
    query: Option<String>,
    version: &'static str,
}

#[derive(Debug, Default)]
struct Notes {
    account: Option<Arc<str>>,
    endpoint: Option<EndpointUrl>,
    to: Option<EndpointUrl>,
    session: Option<u64>,
    site: Option<Site>,
    rule: Option<(EndpointUrl, Decided)>,
    policy: Option<Duration>,
    open: Option<Duration>,
    first_byte: Option<Duration>,
    status: Option<StatusCode>,
    code: Option<u32>,
    ending: Ending,
    /// Of a connection that is no HTTP, or no longer: what had been carried when that began.
    course: Option<(Arc<Course>, u64, u64)>,
}

impl Visit {
    /// A request begins, whose head has been read.
    #[must_use]
    pub fn request(ledger: Arc<Ledger>, visitor: Visitor, scheme: Scheme, head: &Parts) -> Arc<Self> {
        let request = ledger.access().map(|access| RequestLine::of(head, access.has_query));
        Self::begin(ledger, visitor, scheme, request, true)
    }

    /// A connection of a `tls` or `tcp` endpoint begins; its bytes are those of `course`.
    #[must_use]
    pub fn connection(ledger: Arc<Ledger>, visitor: Visitor, scheme: Scheme, course: &Arc<Course>) -> Arc<Self> {
        let visit = Self::begin(ledger, visitor, scheme, None, false);
        visit.carries(course);
        visit
    }

    fn begin(
        ledger: Arc<Ledger>,
        visitor: Visitor,
        scheme: Scheme,
        request: Option<RequestLine>,
        is_request: bool,
    ) -> Arc<Self> {
        Arc::new(Self {
            ledger,
            visitor,
            scheme,
            began: OffsetDateTime::now_utc(),
            started: Instant::now(),
            request,
            is_request,
            received: Arc::default(),
            sent: AtomicU64::new(0),
            notes: Mutex::default(),
        })
    }

    /// From now on everything that is carried on its connection is its own.
    pub fn carries(&self, course: &Arc<Course>) {
        self.notes().course = Some((Arc::clone(course), course.bytes_in(), course.bytes_out()));
    }

    /// It came to this endpoint.
    pub fn came_to(&self, endpoint: &PublicEndpoint) {
        if self.ledger.access().is_none() {
            return;
        }
        let mut notes = self.notes();
        notes.account = Some(Arc::clone(endpoint.account()));
        notes.endpoint = Some(endpoint.url().clone());
    }

    /// A rule of this endpoint's policy decided something.
    pub fn decided(&self, endpoint: &PublicEndpoint, decided: Decided) {
        let is_own = matches!(endpoint, PublicEndpoint::Cloud(_));
        let (url, rule) = (endpoint.url().to_string(), decided.rule());
        self.ledger.metrics().verdicts.one(is_own, [&url, decided.phase, &rule, decided.verdict]);
        if self.ledger.access().is_some() {
            self.notes().rule = Some((endpoint.url().clone(), decided));
        }
    }

    /// So much time was taken by policies.
    pub fn judged(&self, time: Duration) {
        let mut notes = self.notes();
        notes.policy = Some(notes.policy.unwrap_or_default() + time);
    }

    /// It is sent to this agent, whose site `site` finds out.
    pub fn sent_to(&self, target: &Target, site: impl FnOnce() -> Option<Site>) {
        if self.ledger.access().is_none() {
            return;
        }
        let site = site();
        let mut notes = self.notes();
        notes.to = Some(target.url.clone());
        notes.session = Some(target.location.session.0);
        notes.site = site;
    }

    /// Opening a stream to the agent took so long.
    pub fn opened(&self, time: Duration) {
        self.notes().open = Some(time);
    }

    /// So long after the request was handed over, or the stream opened, the upstream's first byte came.
    pub fn first_byte(&self, time: Duration) {
        self.notes().first_byte = Some(time);
    }

    /// What the visitor is answered, with the ERR_NGROK code if the gateway answers because of one.
    pub fn answered(&self, status: Option<StatusCode>, code: Option<u32>) {
        let mut notes = self.notes();
        notes.status = status;
        notes.code = code;
    }

    /// Where bytes are counted that come from the visitor.
    #[must_use]
    pub fn received(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.received)
    }

    /// Counts bytes that go to the visitor.
    pub fn sent(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// It has ended like this.
    pub fn ended(&self, ending: Ending) {
        self.notes().ending = ending;
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, notes: &Notes, total: Duration) {
        let metrics = self.ledger.metrics();
        if self.is_request {
            metrics.requests.one(notes.status.map_or(Status::None, Status::from));
            observe(&metrics.request_time, total);
        }
        let legs = [
            (&metrics.policy_time, notes.policy),
            (&metrics.open_time, notes.open),
            (&metrics.first_byte_time, notes.first_byte),
        ];
        for (histogram, time) in legs {
            time.into_iter().for_each(|time| observe(histogram, time));
        }
        if let Some(code) = notes.code {
            metrics.failures.one([&code.to_string()]);
        }
    }

    fn write(&self, notes: &Notes, total: Duration) {
        let Some(access) = self.ledger.access() else { return };
        let (received, sent) = self.carried(notes);
        let times = Times { policy: notes.policy, open: notes.open, first_byte: notes.first_byte, total };
        let rule = notes.rule.as_ref();
        let request = self.request.as_ref();
        let line = Line {
            time: self.began,
            id: self.visitor.number,
            kind: if self.is_request { "request" } else { "connection" },
            scheme: self.scheme.as_str(),
            visitor: self.visitor.peer,
            method: request.map(|request| request.method.as_str()),
            host: request.map(|request| request.host.as_str()),
            path: request.map(|request| request.path.as_str()),
            query: request.and_then(|request| request.query.as_deref()),
            version: request.map(|request| request.version),
            account: notes.account.as_deref(),
            endpoint: notes.endpoint.as_ref(),
            to: notes.to.as_ref(),
            session: notes.session,
            credential: notes.site.as_ref().map(|site| &*site.credential),
            instance: notes.site.as_ref().and_then(|site| site.instance.as_deref()),
            verdict: rule.map_or("continue", |(_, decided)| decided.verdict),
            rule: rule.map(|(endpoint, decided)| Rule { endpoint, phase: decided.phase, rule: decided.rule() }),
            status: notes.status.map(|status| status.as_u16()),
            error: notes.code,
            received,
            sent,
            times,
            end: notes.ending.as_str(),
        };
        access.lines.push(&line.to_json());
    }

    fn carried(&self, notes: &Notes) -> (u64, u64) {
        match &notes.course {
            Some((course, came, went)) => {
                (course.bytes_in().saturating_sub(*came), course.bytes_out().saturating_sub(*went))
            }
            None => (self.received.load(Ordering::Relaxed), self.sent.load(Ordering::Relaxed)),
        }
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let total = self.started.elapsed();
        let notes = std::mem::take(self.notes.get_mut().unwrap_or_else(PoisonError::into_inner));
        self.count(&notes, total);
        self.write(&notes, total);
    }
}

impl Ending {
    fn as_str(self) -> &'static str {
        match self {
            Self::Aborted => "aborted",
            Self::Done => "done",
            Self::Broken => "broken",
            Self::Idle => "idle",
        }
    }
}

impl RequestLine {
    fn of(head: &Parts, has_query: bool) -> Self {
        let host = head.headers.get(http::header::HOST).and_then(|host| host.to_str().ok());
        let host = host.or_else(|| head.uri.host()).unwrap_or_default();
        let query = head.uri.query().filter(|_| has_query).map(|query| cut(query, TEXT_BYTES_MAX));
        let version = match head.version {
            http::Version::HTTP_10 => "1.0",
            http::Version::HTTP_11 => "1.1",
            _ => "2",
        };
        let (host, path) = (cut(host, HOST_BYTES_MAX), cut(head.uri.path(), TEXT_BYTES_MAX));
        let method = cut(head.method.as_str(), METHOD_BYTES_MAX);
        Self { method, host, path, query, version }
    }
}

/// The beginning of a text that a visitor sent, in whole characters.
fn cut(text: &str, bytes_max: usize) -> String {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().to_owned()
}

/// What is written of a path or a query: more than people type, less than a head may have.
const TEXT_BYTES_MAX: usize = 2048;
/// What is written of a method: twice the longest one that is registered.
const METHOD_BYTES_MAX: usize = 32;
/// What is written of a `Host`: a name and a port at their longest.
const HOST_BYTES_MAX: usize = 260;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_a_visitor_sends_is_cut() {
        let long = |len: usize| "X".repeat(len);
        let request = http::Request::builder()
            .method(&*long(60_000))
            .uri(format!("/{}?{}", long(5000), long(5000)))
            .header(http::header::HOST, long(5000));
        let (head, ()) = request.body(()).unwrap().into_parts();
        let line = RequestLine::of(&head, true);
        assert_eq!(line.method, long(METHOD_BYTES_MAX));
        assert_eq!((line.host.len(), line.path.len()), (HOST_BYTES_MAX, TEXT_BYTES_MAX));
        assert_eq!(line.query, Some(long(TEXT_BYTES_MAX)));
        let (head, ()) = http::Request::options("/").body(()).unwrap().into_parts();
        assert_eq!(RequestLine::of(&head, false).method, "OPTIONS");
    }
}
