//! Windows that fit the path: agreed on with a peer of ours, grown while they hold a stream back, shrunk when idle.
//!
//! The receiving end decides. A stream that consumes a whole window within four round trips is held back by it and gets
//! up to twice as much, as far as the memory budget allows. One that does not move a window in a while, and every one
//! when memory is short, goes back to what it began with.

use std::time::{Duration, Instant};

use super::limits::{
    GROW_PERCENT, GROWTH_SHARE, IDLE, IDLE_ROUND_TRIPS, SWEEP, WINDOW, WINDOW_GROWN_MAX, WITHHOLD_PERCENT,
    is_usable_window,
};
use super::window::{RecvWindow, SendWindow};
use super::{Key, Mux};

/// What is known of the path and of the peer.
#[derive(Debug, Default)]
pub(super) struct Growth {
    /// The latest time that a caller gave.
    now: Option<Instant>,
    round_trip: Option<Duration>,
    /// The credit that our direction of a stream which the gateway opens begins with. `None`: the peer knows nothing
    /// but the protocol's window, which then holds in both directions and never changes.
    peer_window: Option<u32>,
    /// What all windows of live streams have grown by, in bytes.
    grown: usize,
    swept_at: Option<Instant>,
}

impl Mux {
    /// The peer has said the window that it grants, and heard ours ([`super::Limits::window`]): both hold for the
    /// streams that the gateway opens from now on, each in its direction, and every window may grow. Streams that the
    /// agent opens begin with the protocol's window. False, and nothing changes, when the peer's is none that can be
    /// agreed on ([`is_usable_window`]).
    pub fn agree_windows(&mut self, peer_window: u32) -> bool {
        let usable = is_usable_window(peer_window) && is_usable_window(self.limits.window);
        if usable {
            self.growth.peer_window = Some(peer_window);
        }
        usable
    }

    /// Says what time it is: before bytes are given to [`Mux::recv`], and whenever time has passed.
    pub fn set_now(&mut self, now: Instant) {
        self.growth.now = Some(now);
        if self.growth.swept_at.is_some_and(|at| now.saturating_duration_since(at) < SWEEP) {
            return;
        }
        self.growth.swept_at = Some(now);
        self.pool.trim();
        if self.growth.grown > 0 {
            let round_trips = self.growth.round_trip.unwrap_or_default().saturating_mul(IDLE_ROUND_TRIPS);
            let time = IDLE.max(round_trips);
            self.shrink(|window| window.is_idle(now, time));
        }
    }

    /// When [`Self::set_now`] is due because there is memory to give back; `None`: whenever.
    pub fn sweep_due(&self) -> Option<Instant> {
        self.growth.swept_at.filter(|_| self.pool.may_trim()).map(|at| at + SWEEP)
    }

    /// Gives back what memory is spare, as [`Self::set_now`] does once a second: nothing will move here soon.
    pub fn trim(&mut self) {
        self.pool.trim();
    }

    /// Says how long a round trip on the link takes. Until it is known no window grows.
    pub fn set_round_trip(&mut self, round_trip: Duration) {
        self.growth.round_trip = Some(round_trip);
    }

    /// What all windows together have grown by, in bytes.
    pub fn windows_grown(&self) -> usize {
        self.growth.grown
    }

    /// The two windows of a new stream.
    pub(super) fn windows(&self, opened_by_gateway: bool) -> (SendWindow, RecvWindow) {
        let agreed = self.growth.peer_window.filter(|_| opened_by_gateway);
        let (send, recv) = agreed.map_or((WINDOW, WINDOW), |peer_window| (peer_window, self.limits.window));
        (SendWindow::new(send), RecvWindow::new(recv, self.growth.now))
    }

    /// Bytes have arrived on the stream: gives it a larger window if that is what it needs.
    pub(super) fn grow_window(&mut self, key: Key) {
        let Growth { now: Some(now), round_trip: Some(round_trip), peer_window: Some(_), grown, .. } = self.growth
        else {
            return;
        };
        let Some(stream) = self.store.at(key) else { return };
        if !stream.recv.is_too_small(now, round_trip) || self.pool.used_percent() >= GROW_PERCENT {
            return;
        }
        let window = stream.recv.window();
        let left = (self.limits.memory_max / GROWTH_SHARE).saturating_sub(grown) / 2;
        let most = WINDOW_GROWN_MAX.saturating_sub(window);
        let by = u32::try_from(left).unwrap_or(u32::MAX).min(most).min(window);
        if by < window / 4 {
            return;
        }
        stream.recv.grow(by);
        self.growth.grown = grown.saturating_add(bytes(by));
        self.queue_credit(key);
    }

    /// While memory is short no stream keeps more than it began with.
    pub(super) fn shrink_if_short(&mut self) {
        if self.growth.grown > 0 && self.pool.used_percent() >= WITHHOLD_PERCENT {
            self.shrink(|_| true);
        }
    }

    /// The stream is gone.
    pub(super) fn forget_growth(&mut self, window: &RecvWindow) {
        self.growth.grown = self.growth.grown.saturating_sub(bytes(window.growth()));
    }

    fn shrink(&mut self, shrinks: impl Fn(&RecvWindow) -> bool) {
        let now = self.growth.now;
        for stream in self.store.iter_mut() {
            let growth = stream.recv.growth();
            if growth > 0 && shrinks(&stream.recv) {
                stream.recv.shrink(now);
                self.growth.grown = self.growth.grown.saturating_sub(bytes(growth));
            }
        }
    }
}

fn bytes(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
