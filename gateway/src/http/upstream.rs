//! HTTP/1.1 over proxy streams: sending one request, and keeping idle streams for the next one.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::request::Parts;
use http::{Method, Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::body::{Progress, RequestBody, Stage};
use super::failure::Failure;
use super::io::{Tap, Tapped};
use super::limits::{CLOSE_TIME, H1_BUFFER_BYTES_MAX, IDLE_STREAM_TIME, IDLE_STREAMS_MAX, RESPONSE_HEAD_BYTES_MAX};
use super::reach::{Location, Reach, Target, Visitor};
use crate::access_log::Visit;

/// What an idle proxy stream may be reused for: the same public name, and the same endpoint of the same agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    /// What the visitor asked for.
    pub(super) host: Arc<str>,
    /// Where the policies sent it.
    pub(super) location: Location,
}

/// A request that is ready to be sent.
#[derive(Debug)]
pub(super) struct Outgoing {
    /// Its head, as the agent shall see it.
    pub(super) head: Parts,
    /// Its body.
    pub(super) body: RequestBody,
    /// Time from the end of the request to the beginning of the response.
    pub(super) first_byte_time: Duration,
}

/// The proxy streams of one visitor's connection: those that are idle, and those that carry a response.
#[derive(Debug, Default)]
pub(super) struct Streams {
    idle: Mutex<Vec<Idle>>,
    busy: Mutex<HashMap<u64, Arc<Pace>>>,
    last_number: AtomicU64,
}

#[derive(Debug)]
struct Idle {
    key: Key,
    carrier: Carrier,
    since: Instant,
}

impl Streams {
    /// Sends a request through an idle stream, or through a new one, and waits for the head of the response.
    ///
    /// An idle stream may turn out to be dead. The request is then sent once more through a new one, if nothing of it
    /// can have been acted upon: hyper did not write it, or it is idempotent, has no body and no byte of a response came.
    ///
    /// # Errors
    ///
    /// What the visitor is to be told.
    pub(super) async fn send<R: Reach>(
        self: &Arc<Self>,
        reach: &R,
        visitor: &Visitor,
        target: &Target,
        key: Key,
        outgoing: Outgoing,
    ) -> Result<(Response<Incoming>, Lease), Failure> {
        let Outgoing { mut head, mut body, first_byte_time } = outgoing;
        let visit = head.extensions.remove::<Arc<Visit>>();
        if let Some(visit) = &visit {
            visit.sent_to(target, || reach.site(target.location.session));
            body.count_in(Arc::clone(visit));
        }
        let progress = body.progress();
        let wait = Wait { progress: Arc::clone(&progress), first_byte_time, visit: visit.clone() };
        let noted = visit.clone();
        let lease =
            |carrier: Carrier| Lease { busy: self.begin(&carrier, progress), carrier, key: key.clone(), visit: noted };
        let spare = is_replayable(&head, &body).then(|| head.clone());
        let mut request = Request::from_parts(head, body);
        if let Some(mut carrier) = self.take(&key) {
            match (carrier.send(request, &wait).await, spare) {
                (Ok(response), _) => return Ok((response, lease(carrier))),
                (Err(Unsent { returned: Some(returned), .. }), _) => request = *returned,
                (Err(Unsent { is_unanswered: true, .. }), Some(head)) => {
                    request = Request::from_parts(head, RequestBody::none());
                }
                (Err(unsent), _) => return Err(unsent.failure),
            }
            tracing::debug!("an idle stream was dead: sending the request again");
        }
        let begin = Instant::now();
        let stream = reach.open(target, visitor, false).await?;
        if let Some(visit) = &visit {
            visit.opened(begin.elapsed());
        }
        let mut carrier = Carrier::start(stream).await?;
        let response = carrier.send(request, &wait).await.map_err(|unsent| unsent.failure)?;
        Ok((response, lease(carrier)))
    }

    /// Ends the streams that have been idle for too long, and aborts those whose response has stood still for
    /// `stall_time`, whichever side does not go on. A visitor with HTTP/2 could else hold all streams of an agent by not
    /// reading, on a connection that is otherwise busy.
    pub(super) fn sweep(&self, stall_time: Duration) {
        self.list().retain(Idle::is_fresh);
        for pace in self.busy().values().filter(|pace| pace.stalled() >= stall_time) {
            tracing::debug!("a response stood still for too long");
            pace.task.abort();
        }
    }

    fn begin(self: &Arc<Self>, carrier: &Carrier, progress: Arc<Progress>) -> Busy {
        let number = self.last_number.fetch_add(1, Ordering::Relaxed);
        let pace = Pace { task: carrier.driver.task.clone(), progress, moved: Mutex::new(Instant::now()) };
        let pace = Arc::new(pace);
        self.busy().insert(number, Arc::clone(&pace));
        Busy { number, pace, streams: Arc::clone(self) }
    }

    fn take(&self, key: &Key) -> Option<Carrier> {
        let mut list = self.list();
        list.retain(Idle::is_fresh);
        let index = list.iter().rposition(|idle| idle.key == *key && idle.carrier.sender.is_ready())?;
        Some(list.swap_remove(index).carrier)
    }

    fn put(&self, key: Key, mut carrier: Carrier) {
        carrier.driver.is_resting = true;
        let mut list = self.list();
        list.retain(Idle::is_fresh);
        if list.len() >= IDLE_STREAMS_MAX {
            list.remove(0);
        }
        list.push(Idle { key, carrier, since: Instant::now() });
    }

    fn list(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn busy(&self) -> MutexGuard<'_, HashMap<u64, Arc<Pace>>> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Idle {
    fn is_fresh(&self) -> bool {
        self.since.elapsed() < IDLE_STREAM_TIME && !self.carrier.sender.is_closed()
    }
}

/// The proxy stream of one request, until its response has ended. Dropping it before aborts the stream.
#[derive(Debug)]
pub(super) struct Lease {
    busy: Busy,
    carrier: Carrier,
    key: Key,
    /// Of the request that has it.
    visit: Option<Arc<Visit>>,
}

impl Lease {
    /// Notes that a part of the response has been passed on.
    pub(super) fn touch(&self) {
        *self.busy.pace.moved.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Where it is noted what happens to its request.
    pub(super) fn visit(&self) -> Option<Arc<Visit>> {
        self.visit.clone()
    }

    /// The stream changes its protocol and is never to be used for HTTP again.
    pub(super) fn upgrade(&self) {
        self.carrier.tap.upgrade();
    }

    /// The response has ended: the stream is kept for the next request if this one has been sent whole.
    pub(super) fn finish(self) {
        // A response that came before the end of its request leaves a stream that nobody can use any more.
        if self.busy.pace.progress.read().0 == Stage::Complete {
            self.busy.streams.put(self.key, self.carrier);
        }
    }
}

/// A stream counts as carrying a response while this exists.
#[derive(Debug)]
struct Busy {
    number: u64,
    pace: Arc<Pace>,
    streams: Arc<Streams>,
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.streams.busy().remove(&self.number);
    }
}

/// When something of a request or its response last moved.
#[derive(Debug)]
struct Pace {
    task: AbortHandle,
    progress: Arc<Progress>,
    moved: Mutex<Instant>,
}

impl Pace {
    fn stalled(&self) -> Duration {
        let moved = *self.moved.lock().unwrap_or_else(PoisonError::into_inner);
        moved.max(self.progress.read().1).elapsed()
    }
}

/// One proxy stream that speaks HTTP/1.1.
#[derive(Debug)]
struct Carrier {
    sender: SendRequest<RequestBody>,
    tap: Arc<Tap>,
    driver: Driver,
}

impl Carrier {
    async fn start<S>(stream: S) -> Result<Self, Failure>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (stream, tap) = Tapped::new(stream);
        let handshake = http1::Builder::new()
            .max_buf_size(H1_BUFFER_BYTES_MAX.max(RESPONSE_HEAD_BYTES_MAX))
            .max_header_size(RESPONSE_HEAD_BYTES_MAX)
            // Small devices have servers that know `Host` but not `host`.
            .title_case_headers(true)
            .preserve_header_case(true)
            .handshake(TokioIo::new(stream));
        let (sender, connection) = handshake.await.map_err(|_| Failure::Lost)?;
        let driver = Driver::spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "a proxy stream ended");
            }
        });
        Ok(Self { sender, tap, driver })
    }

    /// Sends a request and waits for the head of its response.
    async fn send(&mut self, request: Request<RequestBody>, wait: &Wait) -> Result<Response<Incoming>, Unsent> {
        self.tap.begin();
        self.driver.is_resting = false;
        let begin = Instant::now();
        let mut sending = std::pin::pin!(self.sender.try_send_request(request));
        loop {
            let deadline = wait.deadline();
            tokio::select! {
                result = &mut sending => {
                    wait.over(begin);
                    return result.map_err(|error| unsent(error, &self.tap, wait));
                }
                () = tokio::time::sleep_until(deadline) => {}
            }
            if wait.deadline() <= Instant::now() {
                let failure = match wait.progress.read().0 {
                    Stage::Visitor => Failure::RequestLate,
                    Stage::Agent | Stage::Complete | Stage::Broken => Failure::ResponseLate,
                };
                return Err(Unsent { failure, returned: None, is_unanswered: false });
            }
        }
    }
}

/// How long to wait for a response.
#[derive(Debug)]
struct Wait {
    progress: Arc<Progress>,
    first_byte_time: Duration,
    visit: Option<Arc<Visit>>,
}

impl Wait {
    fn over(&self, begin: Instant) {
        if let Some(visit) = &self.visit {
            visit.first_byte(begin.elapsed());
        }
    }

    /// A body that moves pushes it ahead.
    fn deadline(&self) -> Instant {
        let since = self.progress.read().1;
        since.checked_add(self.first_byte_time).unwrap_or(since)
    }
}

/// A request that got no response.
#[derive(Debug)]
struct Unsent {
    failure: Failure,
    /// The request itself, if nothing of it was written.
    returned: Option<Box<Request<RequestBody>>>,
    /// No byte of a response came.
    is_unanswered: bool,
}

fn unsent(mut error: TrySendError<Request<RequestBody>>, tap: &Tap, wait: &Wait) -> Unsent {
    let returned = error.take_message().map(Box::new);
    let is_broken = wait.progress.read().0 == Stage::Broken;
    let failure = match tap.failure() {
        _ if is_broken => Failure::RequestInvalid("The body of the request broke off or is malformed."),
        Some(io::ErrorKind::ConnectionRefused) => Failure::UpstreamDown,
        _ if tap.has_answered() => Failure::ResponseInvalid,
        // An agent that cannot reach its upstream ends the stream without a byte.
        None => Failure::UpstreamDown,
        Some(_) => Failure::Lost,
    };
    tracing::debug!(error = %error.error(), ?failure, "a request got no response");
    Unsent { failure, returned, is_unanswered: !tap.has_answered() && !is_broken }
}

/// The same request a second time does no harm (RFC 9110, 9.2.2), and there is nothing to send but its head.
fn is_replayable(head: &Parts, body: &RequestBody) -> bool {
    let is_idempotent =
        [Method::GET, Method::HEAD, Method::OPTIONS, Method::PUT, Method::DELETE].contains(&head.method);
    is_idempotent && body.is_end_stream() && !head.headers.contains_key(http::header::UPGRADE)
}

/// The task that moves the bytes of one proxy stream.
///
/// When it is dropped while the stream rests, hyper notices that nobody can send any more and ends the stream cleanly, for
/// which it has [`CLOSE_TIME`]. A stream in the middle of something is aborted.
#[derive(Debug)]
struct Driver {
    task: AbortHandle,
    released: Arc<Notify>,
    is_resting: bool,
}

impl Driver {
    fn spawn(connection: impl Future<Output = ()> + Send + 'static) -> Self {
        let released = Arc::new(Notify::new());
        let release = Arc::clone(&released);
        let task = tokio::spawn(async move {
            let overdue = async {
                release.notified().await;
                tokio::time::sleep(CLOSE_TIME).await;
            };
            tokio::select! {
                () = connection => {}
                () = overdue => {}
            }
        });
        Self { task: task.abort_handle(), released, is_resting: false }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        if self.is_resting {
            self.released.notify_one();
        } else {
            self.task.abort();
        }
    }
}
