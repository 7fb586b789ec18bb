//! The side of a proxy stream: what the task of its visitor does with it.

use std::io;
use std::sync::Weak;
use std::task::{Context, Poll};

use bytes::BytesMut;
use tokio::io::ReadBuf;

use adit::mux::Key;
use adit::mux::limits::FRAME_DATA_MAX;

use super::super::failure::Failure;
use super::{Brought, Close, Link, OUTGOING_MAX, Sign, State, Stream, set_waker};

impl Link {
    pub(crate) fn poll_read(&self, key: Key, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut state = self.lock();
        let State { session, streams, traffic, .. } = &mut *state;
        let Some(stream) = streams.get_mut(&key) else { return Poll::Ready(Err(Failure::SessionLost.into())) };
        if let Some(failure) = stream.failure {
            return Poll::Ready(if stream.takes_no_more() { Ok(()) } else { Err(failure.into()) });
        }
        let before = buf.filled().len();
        while buf.remaining() > 0 {
            let chunk = session.chunk(key);
            let Some(part) = chunk.get(..chunk.len().min(buf.remaining())).filter(|part| !part.is_empty()) else {
                break;
            };
            buf.put_slice(part);
            let len = part.len();
            session.consume(key, len);
        }
        let len = buf.filled().len().saturating_sub(before);
        if len > 0 {
            traffic.add_from_agent(len);
            stream.traffic.add_from_agent(len);
            // Also what the agent said behind its last bytes is told only now.
            if session.has_control() || session.has_events() {
                state.wake_driver();
            }
            return Poll::Ready(Ok(()));
        }
        if stream.ended || buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        set_waker(&mut stream.reader, cx.waker());
        Poll::Pending
    }

    /// Much is written to the link there and then, if nobody else is about it; the rest waits in the stream's queue.
    pub(crate) fn poll_write(&self, key: Key, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if bytes.len() >= PUSH_MIN
            && let Some(push) = self.push.get().and_then(Weak::upgrade)
            && let Some(taken @ 1..) = push.push(Brought { stream: Some(key), bytes })
        {
            return Poll::Ready(Ok(taken));
        }
        let filled = self.filled(key, bytes);
        let mut state = self.lock();
        let Some(stream) = state.streams.get_mut(&key) else { return Poll::Ready(Err(Failure::SessionLost.into())) };
        stream.may_write()?;
        let taken = stream.queue(bytes, filled);
        if taken == 0 && !bytes.is_empty() {
            set_waker(&mut stream.writer, cx.waker());
            return Poll::Pending;
        }
        state.session.want_send(key);
        state.wake_driver();
        Poll::Ready(Ok(taken))
    }

    /// Puts bytes into the stream's queue without waking anybody, for who writes the next batch. How many it takes: none,
    /// if the stream is not there to write to.
    pub(in crate::session) fn queue(&self, Brought { stream, bytes }: Brought<'_>) -> usize {
        let Some(key) = stream else { return 0 };
        let filled = self.filled(key, bytes);
        let mut state = self.lock();
        let Some(stream) = state.streams.get_mut(&key).filter(|stream| stream.may_write().is_ok()) else { return 0 };
        let taken = stream.queue(bytes, filled);
        state.session.want_send(key);
        taken
    }

    /// A queue with the first of these bytes, if they are many and those of the stream are none: to copy them while the link
    /// is locked would be most of what others wait for.
    fn filled(&self, key: Key, bytes: &[u8]) -> Option<BytesMut> {
        if bytes.len() < PUSH_MIN {
            return None;
        }
        let spare = {
            let mut state = self.lock();
            state.streams.get(&key).filter(|stream| stream.outgoing.is_empty())?;
            state.spares.take()
        };
        let mut queue = spare.unwrap_or_else(|| BytesMut::with_capacity(OUTGOING_MAX));
        queue.extend_from_slice(bytes.get(..OUTGOING_MAX).unwrap_or(bytes));
        Some(queue)
    }

    /// Completes when everything written has left for the link, or never will.
    pub(crate) fn poll_flush(&self, key: Key, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        match state.streams.get_mut(&key) {
            Some(stream) if !stream.outgoing.is_empty() => {
                set_waker(&mut stream.writer, cx.waker());
                Poll::Pending
            }
            _ => Poll::Ready(()),
        }
    }

    /// Completes when everything written has left for the link, and the end behind it unless it is withheld.
    pub(crate) fn poll_finish(&self, key: Key, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.lock();
        let Some(stream) = state.streams.get_mut(&key) else { return Poll::Ready(Err(Failure::SessionLost.into())) };
        if let Some(failure) = stream.failure {
            return Poll::Ready(Err(failure.into()));
        }
        if stream.close == Close::Open {
            stream.close = Close::Draining;
            state.close_if_drained(key);
        }
        let Some(stream) = state.streams.get_mut(&key) else { return Poll::Ready(Ok(())) };
        if stream.close == Close::Draining {
            set_waker(&mut stream.writer, cx.waker());
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    /// Waits for the first sign of the agent on a new stream.
    pub(crate) fn poll_sign(&self, key: Key, cx: &mut Context<'_>) -> Poll<Sign> {
        let mut state = self.lock();
        let Some(stream) = state.streams.get_mut(&key) else { return Poll::Ready(Sign::Alive) };
        if stream.answered || stream.failure.is_some() {
            return Poll::Ready(Sign::Alive);
        }
        if stream.ended {
            return Poll::Ready(Sign::EmptyEnd);
        }
        set_waker(&mut stream.reader, cx.waker());
        Poll::Pending
    }

    /// The user lets go of the stream. Unless both ends were seen, that is an abort.
    pub(crate) fn release(&self, key: Key) {
        let mut state = self.lock();
        let Some(stream) = state.streams.remove(&key) else { return };
        let is_over = stream.ended && state.session.is_finished(key) && stream.close == Close::Sent;
        if stream.failure.is_none() && !is_over {
            state.session.reset(key);
            state.wake_driver();
        }
    }
}

impl Stream {
    /// Takes what there is room for; `filled` is a queue that has the first of the bytes already.
    fn queue(&mut self, bytes: &[u8], filled: Option<BytesMut>) -> usize {
        if let Some(filled) = filled.filter(|_| self.outgoing.is_empty()) {
            self.outgoing = filled;
            return self.outgoing.len();
        }
        let room = OUTGOING_MAX.saturating_sub(self.outgoing.len());
        let taken = bytes.get(..bytes.len().min(room)).unwrap_or_default();
        let len = self.outgoing.len() + taken.len();
        if self.outgoing.capacity() < len && !self.outgoing.try_reclaim(taken.len()) {
            // By itself it would grow beyond what it may ever hold.
            let mut larger = BytesMut::with_capacity((2 * len).min(OUTGOING_MAX));
            larger.extend_from_slice(&self.outgoing);
            self.outgoing = larger;
        }
        self.outgoing.extend_from_slice(taken);
        taken.len()
    }
}

/// Bytes of a stream for which its own task writes to the link: a frame. Less is worth to be put together with what others
/// have.
const PUSH_MIN: usize = FRAME_DATA_MAX;
