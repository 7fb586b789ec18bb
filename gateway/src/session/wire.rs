//! The bytes of one link: reads whatever comes, writes what the session has, and never lets one wait for the other.

use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use adit::mux::LinkError;

use super::link::{Link, Notice, Push};
use super::outlet::{Outlet, Written};
use crate::scratch::with_scratch;

/// A link's transport and what is on its way between it and the session.
pub(super) struct Wire<IO> {
    outlet: Arc<Outlet<IO>>,
    link: Arc<Link>,
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

impl<IO: AsyncRead + AsyncWrite + Unpin + Send + 'static> Wire<IO> {
    pub(super) fn new(io: IO, link: Arc<Link>) -> Self {
        let outlet = Arc::new(Outlet::new(io, Arc::clone(&link)));
        let push: Weak<dyn Push> = Arc::downgrade(&outlet) as _;
        link.set_push(push);
        Self { outlet, link, end: None, timer: Box::pin(tokio::time::sleep(Duration::ZERO)) }
    }

    /// Moves bytes until there is something else to do, at the latest at `deadline`.
    pub(super) async fn run(&mut self, deadline: Option<Instant>, notices: &mut Vec<Notice>) -> Rest {
        std::future::poll_fn(|cx| self.poll(cx, deadline, notices)).await
    }

    /// Writes what is left, ends the connection and waits a little for the agent to do the same, so that it gets to read
    /// everything: what is still unread here would otherwise turn our end into a reset that overtakes it.
    pub(super) async fn close(mut self) {
        let mut closing = pin!(async {
            while let Written::Some = std::future::poll_fn(|cx| self.outlet.poll_write(cx)).await? {}
            std::future::poll_fn(|cx| self.outlet.poll_shutdown(cx)).await?;
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
            let written = match self.outlet.poll_write(cx) {
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
            match self.outlet.poll_read(cx, &mut buf) {
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

/// How long the end of a link may take: the agent's socket buffer is drained and answered within a round trip or two, or
/// it is not there any more.
const CLOSING_MAX: Duration = Duration::from_secs(1);
