//! What is noted of one request or connection of a visitor while it lasts, and written down when it is over.

use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use adit::endpoint_url::Scheme;
use http::StatusCode;
use http::request::Parts;
use tokio::time::Instant;

use super::line::{self, End, Line, RequestLine, Times};
use super::spot::Spot;
use crate::http::reach::{PublicEndpoint, Target, Visitor};
use crate::ledger::Ledger;
use crate::metrics::{Status, Tally};
use crate::policy::{Course, Decided};

/// A visitor's connection, as what is noted of its requests has it.
#[derive(Debug)]
pub struct Guest {
    ledger: Arc<Ledger>,
    visitor: Visitor,
    scheme: Scheme,
    /// What its lines have in common.
    opening: OnceLock<Box<[u8]>>,
    /// The last line, for the next one.
    earlier: Mutex<Option<Box<Line>>>,
    /// What was decided last, and where it is counted.
    verdict: Mutex<Option<(Spot, Decided, Tally)>>,
}

/// A request or a connection of a visitor. Everybody who works for it notes what happens; when the last of them lets go of
/// it, it is counted, and written if there is an access log.
#[derive(Debug)]
pub struct Visit {
    guest: Arc<Guest>,
    started: Instant,
    is_request: bool,
    received: AtomicU64,
    sent: AtomicU64,
    policy: Leg,
    open: Leg,
    first_byte: Leg,
    /// 0: none.
    status: AtomicU16,
    /// The number of an ERR_NGROK code, or 0.
    code: AtomicU32,
    /// One of [`Ending::ALL`].
    ending: AtomicU8,
    /// Of a connection that is no HTTP, or no longer: what had been carried when that began.
    course: OnceLock<(Arc<Course>, u64, u64)>,
    /// Where there is an access log.
    line: Option<Mutex<Box<Line>>>,
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

impl Visit {
    /// A request begins, whose head has been read.
    #[must_use]
    pub fn request(guest: &Arc<Guest>, head: &Parts) -> Arc<Self> {
        let line = guest.ledger.access().map(|access| guest.line(Some(&asked(head, access.has_query))));
        Self::begin(guest, line, true)
    }

    /// A connection of a `tls` or `tcp` endpoint begins; its bytes are those of `course`.
    #[must_use]
    pub fn connection(guest: &Arc<Guest>, course: &Arc<Course>) -> Arc<Self> {
        let line = guest.ledger.access().map(|_| guest.line(None));
        let visit = Self::begin(guest, line, false);
        visit.carries(course);
        visit
    }

    fn begin(guest: &Arc<Guest>, line: Option<Box<Line>>, is_request: bool) -> Arc<Self> {
        Arc::new(Self {
            guest: Arc::clone(guest),
            started: Instant::now(),
            is_request,
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            policy: Leg::default(),
            open: Leg::default(),
            first_byte: Leg::default(),
            status: AtomicU16::new(0),
            code: AtomicU32::new(0),
            ending: AtomicU8::new(Ending::default() as u8),
            course: OnceLock::new(),
            line: line.map(Mutex::new),
        })
    }

    /// From now on everything that is carried on its connection is its own.
    pub fn carries(&self, course: &Arc<Course>) {
        // There is only one change of protocol.
        let _ = self.course.set((Arc::clone(course), course.bytes_in(), course.bytes_out()));
    }

    /// It came to this endpoint.
    pub fn came_to(&self, endpoint: &PublicEndpoint) {
        if let Some(mut line) = self.line() {
            line.came_to(endpoint);
        }
    }

    /// A rule of this endpoint's policy decided something.
    pub fn decided(&self, endpoint: &PublicEndpoint, decided: &Decided) {
        self.guest.count(endpoint, decided);
        if let Some(mut line) = self.line() {
            line.decided(endpoint, decided);
        }
    }

    /// So much time was taken by policies.
    pub fn judged(&self, time: Duration) {
        self.policy.add(time);
    }

    /// It is sent to this agent, whose site `site` finds out.
    pub fn sent_to(&self, target: &Target, site: impl FnOnce() -> Option<Site>) {
        if self.line().is_none_or(|mut line| line.sent_again(target)) {
            return;
        }
        // Without the line in hand: whoever knows may have to be waited for.
        let site = site();
        if let Some(mut line) = self.line() {
            line.sent_to(target, site.as_ref());
        }
    }

    /// Opening a stream to the agent took so long.
    pub fn opened(&self, time: Duration) {
        self.open.set(time);
    }

    /// So long after the request was handed over, or the stream opened, the upstream's first byte came.
    pub fn first_byte(&self, time: Duration) {
        self.first_byte.set(time);
    }

    /// What the visitor is answered, with the ERR_NGROK code if the gateway answers because of one.
    pub fn answered(&self, status: Option<StatusCode>, code: Option<u32>) {
        self.status.store(status.map_or(0, |status| status.as_u16()), Ordering::Relaxed);
        self.code.store(code.unwrap_or(0), Ordering::Relaxed);
    }

    /// Counts bytes that come from the visitor.
    pub fn received(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Counts bytes that go to the visitor.
    pub fn sent(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// It has ended like this.
    pub fn ended(&self, ending: Ending) {
        self.ending.store(ending as u8, Ordering::Relaxed);
    }

    fn line(&self) -> Option<MutexGuard<'_, Box<Line>>> {
        self.line.as_ref().map(|line| line.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn count(&self, end: &End) {
        let metrics = self.guest.ledger.metrics();
        if self.is_request {
            metrics.requests.one(self.status().map_or(Status::None, Status::from));
            metrics.request_time.note(end.times.total);
        }
        let legs = [
            (&metrics.policy_time, end.times.policy),
            (&metrics.open_time, end.times.open),
            (&metrics.first_byte_time, end.times.first_byte),
        ];
        for (durations, time) in legs {
            time.into_iter().for_each(|time| durations.note(time));
        }
        if let Some(code) = end.error {
            metrics.failures.one([&code.to_string()]);
        }
    }

    fn end(&self) -> End {
        let (received, sent) = self.carried();
        let times = Times {
            policy: self.policy.time(),
            open: self.open.time(),
            first_byte: self.first_byte.time(),
            total: self.started.elapsed(),
        };
        let ending = Ending::ALL.get(usize::from(self.ending.load(Ordering::Relaxed))).copied().unwrap_or_default();
        let status = self.status().map(|status| status.as_u16());
        let error = Some(self.code.load(Ordering::Relaxed)).filter(|code| *code > 0);
        End { status, error, received, sent, times, end: ending.as_str() }
    }

    fn status(&self) -> Option<StatusCode> {
        StatusCode::from_u16(self.status.load(Ordering::Relaxed)).ok()
    }

    fn carried(&self) -> (u64, u64) {
        match self.course.get() {
            Some((course, came, went)) => {
                (course.bytes_in().saturating_sub(*came), course.bytes_out().saturating_sub(*went))
            }
            None => (self.received.load(Ordering::Relaxed), self.sent.load(Ordering::Relaxed)),
        }
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let end = self.end();
        self.count(&end);
        if let (Some(line), Some(access)) = (self.line.take(), self.guest.ledger.access()) {
            let mut line = line.into_inner().unwrap_or_else(PoisonError::into_inner);
            access.lines.push(line.end(&end));
            line.rest();
            *self.guest.earlier() = Some(line);
        }
    }
}

impl Guest {
    /// Somebody who came; what is noted of it is counted and written there.
    #[must_use]
    pub fn new(ledger: Arc<Ledger>, visitor: Visitor, scheme: Scheme) -> Self {
        Self { ledger, visitor, scheme, opening: OnceLock::new(), earlier: Mutex::default(), verdict: Mutex::default() }
    }

    /// How its connection goes, whose bytes count in the metrics.
    #[must_use]
    pub fn course(&self) -> Course {
        self.ledger.course(self.scheme)
    }

    fn line(&self, request: Option<&RequestLine<'_>>) -> Box<Line> {
        let opening = self.opening.get_or_init(|| {
            let kind = if self.scheme.is_http() { "request" } else { "connection" };
            line::opening(self.visitor.number, kind, self.scheme.as_str(), self.visitor.peer)
        });
        let earlier = self.earlier().take();
        Line::begin(earlier, SystemTime::now(), opening, request)
    }

    /// Counts what a rule decided. As a rule it is what was decided last, whose counter need not be looked up.
    fn count(&self, endpoint: &PublicEndpoint, decided: &Decided) {
        let mut verdict = self.verdict.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((spot, known, tally)) = &*verdict
            && spot.is(endpoint)
            && known == decided
        {
            return tally.add(1);
        }
        let is_own = matches!(endpoint, PublicEndpoint::Cloud(_));
        let tally = self.ledger.metrics().verdicts.counter(is_own, endpoint.url(), decided);
        tally.add(1);
        *verdict = Some((Spot::of(endpoint), decided.clone(), tally));
    }

    fn earlier(&self) -> MutexGuard<'_, Option<Box<Line>>> {
        self.earlier.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one leg of the way took: nanoseconds, the highest number for a leg that was not taken.
#[derive(Debug)]
struct Leg(AtomicU64);

impl Leg {
    fn set(&self, time: Duration) {
        let nanos = time.as_secs().saturating_mul(1_000_000_000).saturating_add(time.subsec_nanos().into());
        self.0.store(nanos.min(NOT_TAKEN - 1), Ordering::Relaxed);
    }

    /// Not for two at the same time.
    fn add(&self, time: Duration) {
        self.set(self.time().unwrap_or_default().saturating_add(time));
    }

    fn time(&self) -> Option<Duration> {
        match self.0.load(Ordering::Relaxed) {
            NOT_TAKEN => None,
            nanos => Some(Duration::from_nanos(nanos)),
        }
    }
}

impl Default for Leg {
    fn default() -> Self {
        Self(AtomicU64::new(NOT_TAKEN))
    }
}

impl Ending {
    /// In the order of their declaration.
    const ALL: [Self; 4] = [Self::Aborted, Self::Done, Self::Broken, Self::Idle];

    fn as_str(self) -> &'static str {
        match self {
            Self::Aborted => "aborted",
            Self::Done => "done",
            Self::Broken => "broken",
            Self::Idle => "idle",
        }
    }
}

fn asked(head: &Parts, has_query: bool) -> RequestLine<'_> {
    let host = head.headers.get(http::header::HOST).and_then(|host| host.to_str().ok());
    let host = host.or_else(|| head.uri.host()).unwrap_or_default();
    let version = match head.version {
        http::Version::HTTP_10 => "1.0",
        http::Version::HTTP_11 => "1.1",
        _ => "2",
    };
    RequestLine {
        method: cut(head.method.as_str(), METHOD_BYTES_MAX),
        host: cut(host, HOST_BYTES_MAX),
        path: cut(head.uri.path(), TEXT_BYTES_MAX),
        query: head.uri.query().filter(|_| has_query).map(|query| cut(query, TEXT_BYTES_MAX)),
        version,
    }
}

/// The beginning of a text that a visitor sent, in whole characters.
fn cut(text: &str, bytes_max: usize) -> &str {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

/// A leg that was not taken.
const NOT_TAKEN: u64 = u64::MAX;
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
        let line = asked(&head, true);
        assert_eq!(line.method, long(METHOD_BYTES_MAX));
        assert_eq!((line.host.len(), line.path.len()), (HOST_BYTES_MAX, TEXT_BYTES_MAX));
        assert_eq!(line.query, Some(&*long(TEXT_BYTES_MAX)));
        let (head, ()) = http::Request::options("/").body(()).unwrap().into_parts();
        assert_eq!(asked(&head, false).method, "OPTIONS");
    }

    #[test]
    fn endings_are_found_by_their_numbers() {
        assert!(Ending::ALL.iter().enumerate().all(|(number, ending)| *ending as usize == number));
    }

    #[test]
    fn legs_add_up_and_those_not_taken_have_no_time() {
        let leg = Leg::default();
        assert_eq!(leg.time(), None);
        leg.add(Duration::ZERO);
        assert_eq!(leg.time(), Some(Duration::ZERO));
        leg.add(Duration::from_nanos(3));
        leg.add(Duration::from_nanos(4));
        assert_eq!(leg.time(), Some(Duration::from_nanos(7)));
        leg.add(Duration::MAX);
        assert_eq!(leg.time(), Some(Duration::from_nanos(NOT_TAKEN - 1)));
    }
}
