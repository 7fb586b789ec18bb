//! The state of one stream.

use super::limits::OUTBOX_MAX;
use super::window::{RecvWindow, SendWindow};
use crate::frame::ErrorCode;
use crate::pool::BlockQueue;

/// One stream. Gone from the store when both directions ended and everything received was consumed, or by a reset.
#[derive(Debug, Default)]
pub(super) struct Stream {
    /// Zero until the first frame is written: ids must rise in the order in which they reach the wire.
    pub(super) id: u32,
    pub(super) local: bool,

    pub(super) send: SendWindow,
    pub(super) outbox: Outbox,
    pub(super) outbox_sent: usize,
    /// Bytes of the outbox that travel in the SYN frame.
    pub(super) first_len: usize,
    pub(super) wants_send: bool,
    /// Its last turn carried a full frame, see [`super::turns`].
    pub(super) is_heavy: bool,
    /// A grant is out: there is no second one until it comes back.
    pub(super) granted: bool,
    pub(super) fin_due: bool,
    pub(super) fin_sent: bool,
    /// The peer had ended its direction and then said that it takes no more of ours. The user learns it after
    /// everything received: an answer that ended before the request did is not lost.
    pub(super) refused: Option<ErrorCode>,

    pub(super) recv: RecvWindow,
    pub(super) queue: BlockQueue,
    pub(super) fin_received: bool,
    /// Turn of the link in which the queue last became non-empty or shrank: the least is the stalest.
    pub(super) drained_at: u64,
    /// The user takes payload while it is being parsed, see [`super::Sink`].
    pub(super) direct: bool,

    pub(super) pending: Pending,
    pub(super) queued: Queued,
}

/// Bytes of our own that wait; calls with tokens are among them, so it prints as its length.
#[derive(Default)]
pub(super) struct Outbox(Vec<u8>);

impl std::ops::Deref for Outbox {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.0
    }
}

impl std::ops::DerefMut for Outbox {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }
}

impl std::fmt::Debug for Outbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// Events that wait to be polled.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Pending {
    pub(super) opened: bool,
    pub(super) readable: bool,
    pub(super) finished: bool,
    pub(super) reset: Option<ErrorCode>,
}

/// In which queues of the multiplexer the stream stands, so that it stands in each at most once.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Queued {
    pub(super) event: bool,
    pub(super) urgent: bool,
    pub(super) turn: bool,
    pub(super) credit: bool,
}

impl Stream {
    pub(super) fn new(id: u32, local: bool, (send, recv): (SendWindow, RecvWindow)) -> Self {
        Self { id, local, send, recv, ..Self::default() }
    }

    /// Whether the first frame was written (always true for the peer's streams).
    pub(super) fn is_announced(&self) -> bool {
        self.id != 0
    }

    pub(super) fn outbox_left(&self) -> usize {
        self.outbox.len() - self.outbox_sent
    }

    /// Queues bytes of our own; false when they do not fit or the direction is over.
    pub(super) fn fill_outbox(&mut self, bytes: &[u8]) -> bool {
        if self.fin_due || !self.may_send() {
            return false;
        }
        if self.outbox_left().saturating_add(bytes.len()) > OUTBOX_MAX {
            return false;
        }
        if self.outbox_sent > 0 {
            self.outbox.drain(..self.outbox_sent);
            self.outbox_sent = 0;
        }
        self.outbox.extend_from_slice(bytes);
        true
    }

    /// Whether our direction is still open.
    pub(super) fn may_send(&self) -> bool {
        !self.fin_sent && self.pending.reset.is_none() && self.refused.is_none()
    }

    /// Whether a grant would be right now.
    pub(super) fn can_take_turn(&self) -> bool {
        self.wants_send
            && !self.granted
            && self.is_announced()
            && !self.fin_due
            && self.may_send()
            && self.outbox_left() == 0
            && self.send.credit() > 0
    }

    /// Whether [`super::Mux::poll_transmit`] could write something of this stream.
    pub(super) fn can_send_own(&self) -> bool {
        if !self.may_send() {
            return false;
        }
        if self.outbox_left() > 0 {
            return self.send.credit() > 0;
        }
        self.fin_due && self.is_announced()
    }

    /// The peer ended its direction and everything it sent was consumed.
    pub(super) fn is_finished(&self) -> bool {
        let aborted = self.pending.reset.is_some() && self.refused.is_none();
        self.fin_received && self.queue.is_empty() && !aborted
    }

    /// Both directions ended and nothing is left to deliver.
    pub(super) fn is_over(&self) -> bool {
        self.fin_sent && self.fin_received && self.queue.is_empty()
    }
}
