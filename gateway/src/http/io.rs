//! Wrappers around connections: one that comes back, one that begins with bytes already read, and one that remembers what
//! the agent said.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::policy::Course;

/// When bytes last moved on a visitor's connection, and how many of its requests are under way.
#[derive(Debug)]
pub(super) struct Activity {
    start: Instant,
    course: Arc<Course>,
    /// Milliseconds from `start` to the last byte in either direction.
    last_byte_ms: AtomicU64,
    /// The same for what people or upstreams have sent: pings of HTTP/2 keep a connection, but use nothing.
    last_payload_ms: AtomicU64,
    /// Whether bytes are payload: the connection has been upgraded.
    is_switched: AtomicBool,
    requests: AtomicUsize,
    /// Requests whose response has not begun; their own deadline runs.
    waiting: AtomicUsize,
    has_seen_request: AtomicBool,
}

impl Activity {
    pub(super) fn new(course: Course) -> Self {
        Self {
            start: Instant::now(),
            course: Arc::new(course),
            last_byte_ms: AtomicU64::new(0),
            last_payload_ms: AtomicU64::new(0),
            is_switched: AtomicBool::new(false),
            requests: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            has_seen_request: AtomicBool::new(false),
        }
    }

    /// When the connection began, and what has been carried on it.
    pub(super) fn course(&self) -> &Arc<Course> {
        &self.course
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn touch(&self) {
        self.last_byte_ms.store(self.elapsed_ms(), Ordering::Relaxed);
        if self.is_switched.load(Ordering::Relaxed) {
            self.carry();
        }
    }

    /// Notes bytes that were sent to the visitor.
    fn went(&self, bytes: usize) {
        self.course.went(bytes);
        self.touch();
        if bytes > CONTROL_BYTES_MAX {
            self.carry();
        }
    }

    /// Notes that a part of a request or of a response has moved.
    pub(super) fn carry(&self) {
        self.last_payload_ms.store(self.elapsed_ms(), Ordering::Relaxed);
    }

    /// Counts every byte as payload from now on.
    pub(super) fn switch(&self) {
        self.carry();
        self.is_switched.store(true, Ordering::Relaxed);
    }

    /// How long no byte has moved.
    pub(super) fn idle(&self) -> Duration {
        self.since(&self.last_byte_ms)
    }

    /// How long no request has come, and no part of one or of a response has moved.
    pub(super) fn without_payload(&self) -> Duration {
        self.since(&self.last_payload_ms)
    }

    fn since(&self, ms: &AtomicU64) -> Duration {
        self.start.elapsed().saturating_sub(Duration::from_millis(ms.load(Ordering::Relaxed)))
    }

    /// How long the connection has existed without a single request.
    pub(super) fn without_request(&self) -> Option<Duration> {
        (!self.has_seen_request.load(Ordering::Relaxed)).then(|| self.start.elapsed())
    }

    pub(super) fn has_requests(&self) -> bool {
        self.requests.load(Ordering::Relaxed) > 0
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// Counts a request until the returned mark is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> UnderWay {
        self.has_seen_request.store(true, Ordering::Relaxed);
        self.carry();
        self.requests.fetch_add(1, Ordering::Relaxed);
        UnderWay(Arc::clone(self))
    }

    /// Counts a request as waiting for its response until the returned mark is dropped.
    pub(super) fn wait(self: &Arc<Self>) -> Waiting {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        Waiting(Arc::clone(self))
    }
}

/// A request is under way while this exists.
#[derive(Debug)]
pub(super) struct UnderWay(Arc<Activity>);

impl UnderWay {
    /// Notes that a part of its response moves.
    pub(super) fn carry(&self) {
        self.0.carry();
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.touch();
        self.0.carry();
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A request waits for its response while this exists.
#[derive(Debug)]
pub(super) struct Waiting(Arc<Activity>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.touch();
        self.0.carry();
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A visitor's connection that is given to hyper and comes back when hyper drops it, wherever that happens: only its owner
/// knows how to reset it.
#[derive(Debug)]
pub(super) struct Lent<IO> {
    /// Invariant: `Some` until it is dropped.
    io: Option<IO>,
    back: Option<oneshot::Sender<IO>>,
    activity: Arc<Activity>,
}

impl<IO> Lent<IO> {
    pub(super) fn new(io: IO, activity: Arc<Activity>) -> (Self, oneshot::Receiver<IO>) {
        let (back, returned) = oneshot::channel();
        (Self { io: Some(io), back: Some(back), activity }, returned)
    }

    fn io(&mut self) -> io::Result<&mut IO> {
        self.io.as_mut().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl<IO> Drop for Lent<IO> {
    fn drop(&mut self) {
        if let (Some(io), Some(back)) = (self.io.take(), self.back.take()) {
            // Nobody waits any more when the task that serves the connection was ended: then it is just dropped.
            drop(back.send(io));
        }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Lent<IO> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(self.io()?).poll_read(cx, buf))?;
        if buf.filled().len() > before {
            self.activity.course.came(buf.filled().len() - before);
            self.activity.touch();
        }
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Lent<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(self.io()?).poll_write(cx, bytes))?;
        self.activity.went(written);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.io()?).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.io()?).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(self.io()?).poll_write_vectored(cx, slices))?;
        self.activity.went(written);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }
}

/// A connection that begins with bytes that were already read from it.
#[derive(Debug)]
pub(super) struct Rewound<IO> {
    prefix: Bytes,
    io: IO,
}

impl<IO: AsyncRead + Unpin> Rewound<IO> {
    /// Leaves the connection as it is.
    pub(super) fn unread(io: IO) -> Self {
        Self { prefix: Bytes::new(), io }
    }

    /// Reads until it is clear whether the connection begins with the preface of HTTP/2.
    ///
    /// # Errors
    ///
    /// As the connection's own reads.
    pub(super) async fn sniff(mut io: IO) -> io::Result<(Self, bool)> {
        let mut prefix = Vec::with_capacity(H2_PREFACE.len());
        let mut is_h2 = false;
        while H2_PREFACE.starts_with(&prefix) {
            is_h2 = prefix.len() == H2_PREFACE.len();
            if is_h2 {
                break;
            }
            let mut rest = (&mut io).take((H2_PREFACE.len() - prefix.len()) as u64);
            if rest.read_buf(&mut prefix).await? == 0 {
                break;
            }
        }
        Ok((Self { prefix: prefix.into(), io }, is_h2))
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Rewound<IO> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.prefix.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, buf);
        }
        let len = self.prefix.len().min(buf.remaining());
        let part = self.prefix.slice(..len);
        buf.put_slice(&part);
        self.prefix.advance(len);
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Rewound<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

/// What has come through a proxy stream since the last request was sent.
#[derive(Debug, Default)]
pub(super) struct Tap {
    has_answered: AtomicBool,
    is_upgraded: AtomicBool,
    failure: Mutex<Option<io::ErrorKind>>,
}

impl Tap {
    /// Forgets what came before, because a new request begins.
    pub(super) fn begin(&self) {
        self.has_answered.store(false, Ordering::Relaxed);
    }

    /// True when at least one byte of a response has come.
    pub(super) fn has_answered(&self) -> bool {
        self.has_answered.load(Ordering::Relaxed)
    }

    /// Notes that the stream no longer speaks HTTP: what is read from now on is somebody's.
    pub(super) fn upgrade(&self) {
        self.is_upgraded.store(true, Ordering::Relaxed);
    }

    /// How reading ended, if it failed.
    pub(super) fn failure(&self) -> Option<io::ErrorKind> {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A proxy stream with its [`Tap`].
///
/// A failed write does not end it: an upstream that refuses a large upload answers and closes while the upload still goes
/// on, and its answer is waiting to be read. Writing then simply stops; reading finds out how it ends.
///
/// Shutting it down after HTTP waits for the other side's end too, because dropping a stream before that aborts it.
#[derive(Debug)]
pub(super) struct Tapped<S> {
    stream: S,
    tap: Arc<Tap>,
    is_write_over: bool,
    is_shut: bool,
}

impl<S> Tapped<S> {
    pub(super) fn new(stream: S) -> (Self, Arc<Tap>) {
        let tap = Arc::new(Tap::default());
        (Self { stream, tap: Arc::clone(&tap), is_write_over: false, is_shut: false }, tap)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Tapped<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = ready!(Pin::new(&mut self.stream).poll_read(cx, buf));
        if buf.filled().len() > before {
            self.tap.has_answered.store(true, Ordering::Relaxed);
        }
        if let Err(error) = &result {
            *self.tap.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.kind());
        }
        Poll::Ready(result)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Tapped<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_write_over {
            return Poll::Pending;
        }
        match ready!(Pin::new(&mut self.stream).poll_write(cx, bytes)) {
            Ok(written) => Poll::Ready(Ok(written)),
            Err(_) => {
                self.is_write_over = true;
                // The reader has to look, even if it was already waiting.
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_write_over {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.is_shut {
            ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
            self.is_shut = true;
        }
        if self.tap.is_upgraded.load(Ordering::Relaxed) {
            return Poll::Ready(Ok(()));
        }
        let mut scratch = [0; SCRATCH_BYTES];
        loop {
            let mut rest = ReadBuf::new(&mut scratch);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut rest))?;
            if rest.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

/// For bytes behind the last response, which nobody wants. There are hardly ever any.
const SCRATCH_BYTES: usize = 512;

/// What HTTP/2 writes of its own at a time while it carries nothing: a ping or the answer to one has 17 bytes, and some may
/// meet. More is taken for a part of a response that was waiting to be written.
const CONTROL_BYTES_MAX: usize = 64;

/// What an HTTP/2 client sends first.
const H2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[tokio::test]
    async fn lent_connection_comes_back_when_it_is_dropped() {
        let (io, mut far) = tokio::io::duplex(64);
        let (mut lent, returned) = Lent::new(io, Arc::new(Activity::new(Course::begin())));
        lent.write_all(b"one").await.unwrap();
        drop(lent);
        returned.await.unwrap().write_all(b"two").await.unwrap();
        let mut bytes = [0; 6];
        far.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes, b"onetwo");
    }

    #[tokio::test(start_paused = true)]
    async fn pings_are_no_payload_and_every_byte_of_an_upgraded_connection_is() {
        let (io, mut far) = tokio::io::duplex(1024);
        let activity = Arc::new(Activity::new(Course::begin()));
        let (mut lent, _returned) = Lent::new(io, Arc::clone(&activity));
        let minute = Duration::from_secs(60);
        let mut ping = [0; 17];
        for count in 1..=3 {
            tokio::time::advance(minute).await;
            lent.write_all(&ping).await.unwrap();
            far.read_exact(&mut ping).await.unwrap();
            far.write_all(&ping).await.unwrap();
            lent.read_exact(&mut ping).await.unwrap();
            assert_eq!((activity.idle(), activity.without_payload()), (Duration::ZERO, count * minute));
        }
        let begin = activity.begin();
        assert_eq!(activity.without_payload(), Duration::ZERO, "a request");
        tokio::time::advance(minute).await;
        assert_eq!(activity.without_payload(), minute);
        begin.carry();
        assert_eq!(activity.without_payload(), Duration::ZERO, "a part of a response");
        tokio::time::advance(minute).await;
        lent.write_all(&[0; CONTROL_BYTES_MAX + 1]).await.unwrap();
        assert_eq!(activity.without_payload(), Duration::ZERO, "what was waiting to be written");
        tokio::time::advance(minute).await;
        drop(begin);
        assert_eq!(activity.without_payload(), Duration::ZERO, "the end of a response");
        activity.switch();
        tokio::time::advance(minute).await;
        lent.write_all(b"x").await.unwrap();
        assert_eq!(activity.without_payload(), Duration::ZERO, "a byte of another protocol");
    }

    #[tokio::test]
    async fn preface_is_recognised_in_pieces_and_nothing_is_lost() {
        for (input, expected) in [
            (H2_PREFACE, true),
            (b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n".as_slice(), false),
            (b"GET /", false),
            (b"PR", false),
        ] {
            let (near, mut far) = tokio::io::duplex(1);
            let writer = tokio::spawn(async move { far.write_all(input).await });
            let (mut rewound, is_h2) = Rewound::sniff(near).await.unwrap();
            let mut read = Vec::new();
            rewound.read_to_end(&mut read).await.unwrap();
            writer.await.unwrap().unwrap();
            assert_eq!((is_h2, read.as_slice()), (expected, input));
        }
    }

    #[tokio::test]
    async fn failed_write_leaves_the_answer_readable() {
        let (near, far) = tokio::io::duplex(64);
        let (mut tapped, tap) = Tapped::new(near);
        let (mut far_read, mut far_write) = tokio::io::split(far);
        far_write.write_all(b"413").await.unwrap();
        let mut one = [0; 1];
        tapped.write_all(b"x").await.unwrap();
        far_read.read_exact(&mut one).await.unwrap();
        drop((far_read, far_write));
        let mut upload = tokio::spawn({
            let (mut read, mut write) = tokio::io::split(tapped);
            async move {
                let mut answer = Vec::new();
                tokio::select! {
                    result = write.write_all(&[0; 1000]) => panic!("the write ended: {result:?}"),
                    result = read.read_to_end(&mut answer) => result.unwrap(),
                };
                answer
            }
        });
        assert_eq!((&mut upload).await.unwrap(), b"413");
        assert!(tap.has_answered());
    }
}
