//! The bytes of one link: reads whatever comes, writes what the session has, and never lets one wait for the other.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::coop::has_budget_remaining;
use tokio::time::Sleep;

use adit::mux::LinkError;
use adit::session::FirstRecords;

use super::link::{BATCH_MAX, FRAME_MAX, Link, Notice};
use crate::scratch::with_scratch;

/// A link's transport and what is on its way between it and the session.
pub(super) struct Wire<IO> {
    io: IO,
    link: Arc<Link>,
    /// Plaintext taken from the session and not yet taken by the transport.
    out: Vec<u8>,
    written: usize,
    /// How much is taken from the session at a time, see [`Wire::poll_write`].
    batch: usize,
    /// The transport was full since the batch was taken that is on its way.
    was_full: bool,
    /// The transport may still hold encrypted bytes.
    unflushed: bool,
    first_records: FirstRecords,
    /// How reading ended, until it is told.
    end: Option<Rest>,
    timer: Pin<Box<Sleep>>,
}

/// Why the wire came to rest.
#[derive(Debug)]
pub(super) enum Rest {
    /// There are notices, or the time given is over.
    Notices,
    /// The session is to end, and everything written before has gone.
    Ending,
    /// The agent has closed the connection.
    Closed,
    /// The connection broke.
    Broken(io::Error),
    /// The agent broke the protocol; a GOAWAY that says so is ready.
    Protocol(LinkError),
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Wire<IO> {
    pub(super) fn new(io: IO, link: Arc<Link>) -> Self {
        Self {
            io,
            link,
            out: Vec::new(),
            written: 0,
            batch: FRAME_MAX,
            was_full: false,
            unflushed: false,
            first_records: FirstRecords::default(),
            end: None,
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
        }
    }

    /// Moves bytes until there is something else to do, at the latest at `deadline`.
    pub(super) async fn run(&mut self, deadline: Option<Instant>, notices: &mut Vec<Notice>) -> Rest {
        std::future::poll_fn(|cx| self.poll(cx, deadline, notices)).await
    }

    /// Writes what is left, ends the connection and waits a little for the agent to do the same, so that it gets to read
    /// everything: what is still unread here would otherwise turn our end into a reset that overtakes it.
    pub(super) async fn close(mut self) {
        let mut closing = pin!(async {
            while let Written::Some = std::future::poll_fn(|cx| self.poll_write(cx)).await? {}
            std::future::poll_fn(|cx| Pin::new(&mut self.io).poll_shutdown(cx)).await?;
            while std::future::poll_fn(|cx| with_scratch(|scratch| self.poll_read(cx, scratch))).await > 0 {}
            io::Result::Ok(())
        });
        // Whether the agent noticed is no longer our concern.
        let _ = tokio::time::timeout(CLOSING_MAX, &mut closing).await;
    }

    fn poll(&mut self, cx: &mut Context<'_>, deadline: Option<Instant>, notices: &mut Vec<Notice>) -> Poll<Rest> {
        loop {
            // Before anything is looked at: what happens from here on wakes us.
            self.link.set_driver(cx.waker());
            // By the clock and not by the timer, which a peer that keeps us busy could starve.
            if self.is_late(deadline, notices) {
                return Poll::Ready(Rest::Notices);
            }
            let written = match self.poll_write(cx) {
                // A session that is told to end does not wait for an agent that does not read.
                Poll::Pending | Poll::Ready(Ok(Written::All)) if self.link.ending().is_some() => {
                    return Poll::Ready(Rest::Ending);
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Rest::Broken(error)),
                written => written,
            };
            match (self.poll_receive(cx, notices), written) {
                (Poll::Ready(Some(rest)), _) => return Poll::Ready(rest),
                (Poll::Ready(None), _) | (Poll::Pending, Poll::Ready(Ok(Written::Some))) => {}
                (Poll::Pending, _) => ready!(self.poll_timer(cx, deadline)),
            }
        }
    }

    /// Writes until neither the session nor the transport has anything left, or it is time to look at what comes in.
    /// The next batch is taken only when the one before has left the process, so that what is urgent never waits behind
    /// much: a frame where the transport was full, more where it takes everything.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Written>> {
        let written = self.poll_batch(cx);
        // Whose budget is used up is made to wait, too; that says nothing of the transport.
        if written.is_pending() && has_budget_remaining() {
            (self.batch, self.was_full) = (FRAME_MAX, true);
        }
        written
    }

    /// Writes the batch that is on its way, and takes the next one from the session. What came in is looked at between
    /// two: a fast line and busy visitors would have us write for ever, and a ping waits for one batch only.
    fn poll_batch(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Written>> {
        while self.written < self.out.len() {
            let record_max = self.first_records.record_max();
            if record_max.is_some() {
                // Each of the first records goes to the socket by itself.
                ready!(self.poll_flush(cx))?;
            }
            let rest = self.out.get(self.written..).unwrap_or_default();
            let piece = rest.get(..record_max.unwrap_or(rest.len())).unwrap_or(rest);
            let written = ready!(Pin::new(&mut self.io).poll_write(cx, piece))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += written;
            self.first_records.add(written);
            self.unflushed = true;
        }
        ready!(self.poll_flush(cx))?;
        if !std::mem::take(&mut self.was_full) && self.written >= self.batch {
            self.batch = (2 * self.batch).min(BATCH_MAX);
        }
        self.out.clear();
        self.written = 0;
        self.link.fill(&mut self.out, self.batch);
        if self.out.is_empty() {
            // An idle session holds no buffer.
            self.out = Vec::new();
            return Poll::Ready(Ok(Written::All));
        }
        Poll::Ready(Ok(Written::Some))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.unflushed {
            ready!(Pin::new(&mut self.io).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Takes what has come. `None`: something came, and there is nothing to do about it but go on.
    fn poll_receive(&mut self, cx: &mut Context<'_>, notices: &mut Vec<Notice>) -> Poll<Option<Rest>> {
        with_scratch(|scratch| {
            let len = ready!(self.poll_read(cx, scratch));
            let received = scratch.get(..len).unwrap_or_default();
            if received.is_empty() {
                return Poll::Ready(self.end.take());
            }
            let now = tokio::time::Instant::now().into_std();
            if let Err(error) = self.link.recv(received, now, notices) {
                return Poll::Ready(Some(Rest::Protocol(error)));
            }
            Poll::Ready((!notices.is_empty()).then_some(Rest::Notices))
        })
    }

    /// Reads until nothing more is there, at most what `buffer` has room for: what came in several records wakes their
    /// readers once. Zero bytes are the end, see `end`.
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<usize> {
        let mut buf = ReadBuf::new(buffer);
        while self.end.is_none() && buf.remaining() > 0 {
            let before = buf.filled().len();
            match Pin::new(&mut self.io).poll_read(cx, &mut buf) {
                Poll::Pending if before == 0 => return Poll::Pending,
                Poll::Pending => break,
                Poll::Ready(Err(error)) => self.end = Some(Rest::Broken(error)),
                Poll::Ready(Ok(())) if buf.filled().len() == before => self.end = Some(Rest::Closed),
                Poll::Ready(Ok(())) => {}
            }
        }
        Poll::Ready(buf.filled().len())
    }

    /// Does what is due by the clock; tells whether there is something to do about it, or the given time is over.
    fn is_late(&mut self, deadline: Option<Instant>, notices: &mut Vec<Notice>) -> bool {
        let now = tokio::time::Instant::now().into_std();
        if self.link.poll_timeout().is_some_and(|due| due <= now) {
            self.link.handle_timeout(now, notices);
        }
        !notices.is_empty() || deadline.is_some_and(|deadline| deadline <= now)
    }

    /// Waits for the session's next deadline or the given one.
    fn poll_timer(&mut self, cx: &mut Context<'_>, deadline: Option<Instant>) -> Poll<()> {
        let due = [deadline, self.link.poll_timeout()].into_iter().flatten().min();
        let Some(due) = due.map(tokio::time::Instant::from_std) else { return Poll::Pending };
        if self.timer.deadline() != due {
            self.timer.as_mut().reset(due);
        }
        self.timer.as_mut().poll(cx)
    }
}

/// How far a turn of writing got.
#[derive(Debug)]
enum Written {
    /// There is nothing left.
    All,
    /// There may be more.
    Some,
}

/// How long the end of a link may take: the agent's socket buffer is drained and answered within a round trip or two, or
/// it is not there any more.
const CLOSING_MAX: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use adit::mux::Limits;
    use adit::session::{FIRST_BYTES, FIRST_RECORD_MAX, GatewaySession};

    use super::*;

    /// A transport that takes everything and notes in which pieces, and what was flushed behind each.
    #[derive(Default)]
    struct Noting {
        pieces: Vec<(usize, bool)>,
    }

    impl AsyncWrite for Noting {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            self.pieces.push((bytes.len(), false));
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            if let Some((_, flushed)) = self.pieces.last_mut() {
                *flushed = true;
            }
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncRead for Noting {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    /// A transport that takes everything, or nothing.
    struct Door {
        is_open: bool,
    }

    impl AsyncWrite for Door {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            if self.is_open { Poll::Ready(Ok(bytes.len())) } else { Poll::Pending }
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncRead for Door {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    #[tokio::test]
    async fn batch_grows_while_everything_is_taken_and_is_a_frame_after_a_transport_that_was_full() {
        let now = Instant::now();
        let link = Arc::new(Link::new(GatewaySession::new(Limits::default(), now), now));
        let mut wire = Wire::new(Door { is_open: true }, link);
        for (is_open, len, batch) in [
            (true, FRAME_MAX, 2 * FRAME_MAX),
            (true, FRAME_MAX, 2 * FRAME_MAX),
            (true, 2 * FRAME_MAX, BATCH_MAX),
            (true, BATCH_MAX, BATCH_MAX),
            (false, BATCH_MAX, FRAME_MAX),
            (true, FRAME_MAX, 2 * FRAME_MAX),
        ] {
            (wire.io.is_open, wire.out, wire.written) = (is_open, vec![7; len], 0);
            let written = std::future::poll_fn(|cx| Poll::Ready(wire.poll_write(cx))).await;
            assert_eq!(written.is_ready(), is_open);
            // What was put together before the transport was full says nothing of it.
            wire.io.is_open = true;
            std::future::poll_fn(|cx| wire.poll_write(cx)).await.unwrap();
            assert_eq!(wire.batch, batch, "{is_open} {len}");
        }
    }

    #[tokio::test]
    async fn first_records_are_small_and_leave_one_by_one() {
        let now = Instant::now();
        let link = Arc::new(Link::new(GatewaySession::new(Limits::default(), now), now));
        let mut wire = Wire::new(Noting::default(), link);
        wire.out = vec![7; 3 * FIRST_BYTES];
        std::future::poll_fn(|cx| wire.poll_write(cx)).await.unwrap();
        let (mut sent, pieces) = (0, wire.io.pieces);
        for (len, flushed) in &pieces {
            let is_first = sent < FIRST_BYTES;
            sent += len;
            assert!(*len <= FIRST_RECORD_MAX || !is_first, "{pieces:?}");
            assert!(*flushed || sent >= FIRST_BYTES, "{pieces:?}");
        }
        assert_eq!(sent, 3 * FIRST_BYTES);
        assert!(pieces.last().is_some_and(|(len, _)| *len > FIRST_BYTES), "later ones are large: {pieces:?}");
    }
}
