//! Connections of `tls` and `tcp` endpoints, which pass unopened unless an endpoint asks for the end of TLS.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use std::{fmt, io};

use adit::endpoint_url::Scheme;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::server::TlsStream;

use super::client_hello::{self, Hello, Replayed};
use super::handshake::{self, Place};
use super::house::House;
use super::socket;
use crate::access_log::{Ending, Guest, Visit};
use crate::http;
use crate::http::reach::{OpenError, Reach, Target, Visitor};
use crate::policy::{Course, Tls};
use crate::route::{Asked, Decision, Journey, Refusal};
use crate::splice::{SharedSocket, SpliceEnd, SpliceOutcome, splice, splice_opened};
use crate::tls::{Session, Termination};

/// Serves a connection to its end; `read` is the ClientHello that was read of it, with all bytes. What cannot be served is
/// reset: these protocols have no place for an error, and a clean end could be taken for an empty answer.
pub(super) async fn serve(
    house: &House,
    tcp: TcpStream,
    read: Option<(Hello, Vec<u8>)>,
    visitor: Visitor,
    scheme: Scheme,
) {
    let Some(_pass) = house.admit_visitor() else { return socket::reset_on_close(&tcp) };
    let name = read.as_ref().and_then(|(hello, _)| hello.name.clone());
    let tls = if read.is_some() { Tls::Begun(name.as_deref()) } else { Tls::Unknown };
    let ledger = house.gateway.ledger();
    let _open = ledger.metrics().visitor(scheme.into());
    let (course, port) = (Arc::new(ledger.course(scheme)), visitor.local.port());
    let guest = Arc::new(Guest::new(Arc::clone(ledger), visitor, scheme));
    let visit = Visit::connection(&guest, &course);
    let host = name.as_deref().unwrap_or_default();
    let asked = Asked { scheme, host, port, visitor, tls, course: &course, visit: Some(&visit) };
    let mut client = Client::Unopened(tcp, read);
    let begin = Instant::now();
    let found = find(house, &mut client, asked).await;
    visit.judged(begin.elapsed());
    let opened = match found {
        Ok(target) => open(&*house.gateway, target, &visitor, client.is_opened(), &visit).await,
        Err(failure) => Err(failure),
    };
    let (target, stream) = match opened {
        Ok(opened) => opened,
        // The log and the client have been told.
        Err(Failure::Tls) => return visit.ended(Ending::Done),
        Err(failure) => {
            client.reset_on_close();
            visit.answered(None, failure.code());
            visit.ended(Ending::Done);
            let visitor = visitor.peer;
            tracing::debug!(%visitor, %scheme, host, port, "connection closed: {failure}");
            return;
        }
    };
    let session = target.location.session;
    tracing::debug!(%session, visitor = %visitor.peer, endpoint = %target.url, "connection begins");
    let idle_time = house.gateway.config().limits.tcp_idle_timeout;
    let watched =
        Watched { io: stream, moved: Arc::default(), course, visit: Arc::clone(&visit), begin: Some(Instant::now()) };
    match splice_unless_idle(client, watched, idle_time).await {
        Some(SpliceEnd { uploaded, downloaded, outcome }) => {
            note(&visit, &outcome);
            let visitor = visitor.peer;
            tracing::debug!(%session, %visitor, endpoint = %target.url, uploaded, downloaded, ?outcome, "connection ended");
        }
        None => {
            visit.ended(Ending::Idle);
            tracing::debug!(%session, visitor = %visitor.peer, endpoint = %target.url, "idle connection cut");
        }
    }
}

/// A visitor's connection.
enum Client {
    /// What was read of it comes first.
    Unopened(TcpStream, Option<(Hello, Vec<u8>)>),
    /// Its TLS has ended here.
    Opened(Box<TlsStream<Replayed<SharedSocket>>>, SharedSocket),
    /// Its TLS could not end here.
    Gone,
}

impl Client {
    fn is_opened(&self) -> bool {
        matches!(self, Self::Opened(..))
    }

    fn reset_on_close(&self) {
        match self {
            Self::Unopened(tcp, _) => socket::reset_on_close(tcp),
            Self::Opened(_, socket) => socket::reset_on_close(socket.get()),
            Self::Gone => {}
        }
    }

    /// Ends its TLS as an endpoint asks for it. The client has had its alert when that fails.
    async fn end_tls(&mut self, house: &House, termination: &Termination, place: Place<'_>) -> Option<Arc<Session>> {
        let Self::Unopened(mut tcp, read) = std::mem::replace(self, Self::Gone) else { return None };
        let Some(_pass) = house.admit_handshake() else {
            socket::reset_on_close(&tcp);
            return None;
        };
        let (hello, kept) = match read {
            Some(read) => read,
            None => read_hello(house, &mut tcp).await.map_err(|failure| failure.tell(house, place)).ok()?,
        };
        // What is inside is for the upstream to know, so a choice cannot be made for it; but some clients, PostgreSQL's
        // among them, offer the one protocol that it has to be and go no further without it.
        let protocols = if hello.protocols.len() == 1 { hello.protocols } else { Vec::new() };
        let socket = SharedSocket::new(tcp);
        let io = Replayed::new(kept, socket.clone());
        let (stream, session) = handshake::end_for_endpoint(house, io, termination, protocols, place).await?;
        *self = Self::Opened(Box::new(stream), socket);
        Some(session)
    }
}

async fn read_hello(house: &House, tcp: &mut TcpStream) -> Result<(Hello, Vec<u8>), handshake::Failure> {
    let time = house.gateway.config().limits.client_hello_timeout;
    let hello = timeout(time, client_hello::read(tcp)).await;
    hello.map_err(|_| handshake::Failure::HelloTime)?.map_err(handshake::Failure::Hello)
}

/// Finds the endpoint, and lets the visitor's TLS end on the way where one asks for it.
async fn find(house: &House, client: &mut Client, mut asked: Asked<'_>) -> Result<Target, Failure> {
    let reach = &*house.gateway;
    let mut journey = Journey::begin(reach, &asked).map_err(Failure::Refused)?;
    let Asked { scheme, host, port, visitor, .. } = asked;
    let place = Place { scheme, host, port, visitor: visitor.peer };
    let session;
    let mut decision = journey.decide(reach, &asked).map_err(Failure::Refused)?;
    if let Decision::TerminateTls(termination) = decision {
        session = client.end_tls(house, &termination, place).await.ok_or(Failure::Tls)?;
        asked.tls = Tls::Ended(&session);
        decision = journey.decide(reach, &asked).map_err(Failure::Refused)?;
    }
    match decision {
        Decision::Target(target) => Ok(*target),
        // TLS ends once: the action refuses what has ended in another way.
        Decision::Deny { .. }
        | Decision::Refuse(_)
        | Decision::Respond(_)
        | Decision::Close
        | Decision::TerminateTls(_) => Err(Failure::Denied),
    }
}

async fn open<R: Reach>(
    reach: &R,
    target: Target,
    visitor: &Visitor,
    is_opened: bool,
    visit: &Visit,
) -> Result<(Target, R::Stream), Failure> {
    visit.sent_to(&target, || reach.site(target.location.session));
    let begin = Instant::now();
    let opened = timeout(OPEN_TIME, reach.open(&target, visitor, is_opened)).await;
    let stream = opened.map_err(|_| Failure::Open(OpenError::Lost))?.map_err(Failure::Open)?;
    visit.opened(begin.elapsed());
    Ok((target, stream))
}

/// Gives nothing when the connection was cut for being idle. No time means that it may be idle for ever.
async fn splice_unless_idle<S>(client: Client, stream: Watched<S>, idle_time: Duration) -> Option<SpliceEnd>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    if idle_time.is_zero() {
        return splice_client(client, stream).await;
    }
    let moved = Arc::clone(&stream.moved);
    tokio::select! {
        end = splice_client(client, stream) => end,
        () = stands_still(&moved, idle_time) => None,
    }
}

async fn splice_client<S: AsyncRead + AsyncWrite + Unpin>(client: Client, stream: S) -> Option<SpliceEnd> {
    match client {
        Client::Unopened(tcp, read) => {
            let first = read.map(|(_, kept)| kept).unwrap_or_default();
            Some(splice(tcp, &first, stream).await)
        }
        Client::Opened(tls, socket) => Some(splice_opened(*tls, socket, stream).await),
        Client::Gone => None,
    }
}

/// Completes once nothing has moved for `time`, or up to a quarter more.
async fn stands_still(moved: &AtomicBool, time: Duration) {
    let mut quiet = 0;
    while quiet < LOOKS {
        tokio::time::sleep(time / LOOKS).await;
        quiet = if moved.swap(false, Ordering::Relaxed) { 0 } else { quiet + 1 };
    }
}

/// A stream that shows whether something moves on it, and counts that.
struct Watched<S> {
    io: S,
    moved: Arc<AtomicBool>,
    course: Arc<Course>,
    visit: Arc<Visit>,
    /// When it was opened, until something has come.
    begin: Option<Instant>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = ready!(Pin::new(&mut self.io).poll_read(cx, buf));
        self.moved.store(true, Ordering::Relaxed);
        self.course.went(buf.filled().len().saturating_sub(before));
        if let Some(begin) = self.begin.take() {
            self.visit.first_byte(begin.elapsed());
        }
        Poll::Ready(result)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = ready!(Pin::new(&mut self.io).poll_write(cx, bytes));
        self.moved.store(true, Ordering::Relaxed);
        if let Ok(taken) = &result {
            self.course.came(*taken);
        }
        Poll::Ready(result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// Why a connection was not passed on.
enum Failure {
    Refused(Refusal),
    Denied,
    Open(OpenError),
    /// The visitor's TLS could not end here.
    Tls,
}

impl Failure {
    /// The number of its ERR_NGROK code, as HTTP would have it.
    fn code(&self) -> Option<u32> {
        match self {
            Self::Refused(refusal) => http::refusal_code(refusal),
            Self::Open(error) => http::open_code(*error),
            Self::Denied | Self::Tls => None,
        }
    }
}

fn note(visit: &Visit, outcome: &SpliceOutcome) {
    let (ending, code) = match outcome {
        SpliceOutcome::Clean => (Ending::Done, None),
        SpliceOutcome::ClientLost(_) => (Ending::Aborted, None),
        SpliceOutcome::StreamLost(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            (Ending::Broken, Some(http::UPSTREAM_DOWN))
        }
        SpliceOutcome::StreamLost(_) => (Ending::Broken, None),
    };
    visit.answered(None, code);
    visit.ended(ending);
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refusal) => refusal.fmt(f),
            Self::Denied => f.write_str("the policy denies it"),
            Self::Open(error) => error.fmt(f),
            Self::Tls => f.write_str("its TLS could not end here"),
        }
    }
}

/// An agent that does not even take the head of a stream for so long is as good as gone.
const OPEN_TIME: Duration = Duration::from_secs(10);
/// How often within the idle time it is looked whether anything moves.
const LOOKS: u32 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn idle_time_begins_anew_with_every_movement() {
        let time = Duration::from_millis(40);
        let started = tokio::time::Instant::now();
        stands_still(&AtomicBool::new(false), time).await;
        assert!(started.elapsed() >= time);
        // Something has moved before the first look, so that look does not count.
        let started = tokio::time::Instant::now();
        stands_still(&AtomicBool::new(true), time).await;
        assert!(started.elapsed() >= time + time / LOOKS);
    }
}
