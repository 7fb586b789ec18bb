//! Every bound of the multiplexer and its reason.

use std::time::Duration;

use crate::frame::HEADER_LEN;

/// Credit that each direction of a stream starts with, in bytes. Fixed by the protocol; only two ends of ours agree on
/// less, see [`super::Mux::agree_windows`].
pub const WINDOW: u32 = 262_144;

/// Least window that two ends of ours can agree on: a stream's first frame, which travels whole, fits.
pub const WINDOW_MIN: u32 = 16 * 1024;

/// Largest window that a stream grows to, in bytes, memory allowing: 600 Mbit/s over 200 ms.
pub const WINDOW_GROWN_MAX: u32 = 16 * 1024 * 1024;

/// Whether two ends can agree on a window of so many bytes to begin with.
pub fn is_usable_window(bytes: u32) -> bool {
    (WINDOW_MIN..=WINDOW).contains(&bytes)
}

/// Most payload bytes of one DATA frame that we send. Header and payload together fill one TLS record of 16 KiB, so a
/// frame never costs two, and a control frame never waits behind more than one record of another stream.
pub const FRAME_DATA_MAX: usize = 16 * 1024 - HEADER_LEN;

/// Bytes that one stream may send in one turn, a burst: the reason is that of [`BATCH_MAX`].
pub const BURST_MAX: usize = BURST_FRAMES * FRAME_DATA_MAX - 256;

/// Frames that carry [`BURST_MAX`].
pub const BURST_FRAMES: usize = 4;

/// Bytes, headers of frames included, that go to the link in one system call, a batch. With what TLS adds to four records they
/// stay below what the kernel passes on as one packet, 64 KiB with its own headers: a few bytes more would be a second
/// packet each time. What is urgent waits for no more than that.
pub const BATCH_MAX: usize = BURST_MAX + BURST_FRAMES * HEADER_LEN;

/// A batch with less room than that is full: the rest would be a frame of a few bytes.
pub const BATCH_REST: usize = 1024;

/// Bytes of one stream that fit into `room` bytes of a batch, with the headers of their frames.
pub fn payload_in(room: usize) -> usize {
    let frames = room.div_ceil(HEADER_LEN + FRAME_DATA_MAX).min(BURST_FRAMES);
    room.saturating_sub(frames * HEADER_LEN).min(BURST_MAX)
}

/// Pieces of one stream's payload that a [`super::Sink`] is offered at once: what the frames of one read of the link
/// carry, 64 KiB and a frame that had begun before.
pub const RUN_MAX: usize = 8;

/// Bytes of one stream that the multiplexer itself queues for sending: a remote procedure call and its reply. Proxied
/// bytes are never queued here, they are read under a grant.
pub const OUTBOX_MAX: usize = 1024 * 1024 + 64 * 1024;

/// Bytes that the outboxes of all streams hold together: eight of the longest messages, or a quarter of the memory
/// budget if that is less. A peer that calls and calls and reads no reply would fill one for every stream.
pub const OUTBOXES_MAX: usize = 8 * OUTBOX_MAX;

/// See [`OUTBOXES_MAX`].
pub(super) fn outboxes_max(memory_max: usize) -> usize {
    OUTBOXES_MAX.min(memory_max / 4)
}

/// Messages up to this length, beats and ordinary replies, may fill as much again.
pub const OUTBOX_FREE: usize = 4096;

/// RST frames waiting to be written, beyond one for each stream that may live (all may be aborted at once). A peer that
/// makes us owe more without reading any is flooding.
pub const RESETS_MAX: usize = 1024;

/// Ids of streams that we reset lately: what the peer sent before it knew is dropped without an answer. As many as the
/// largest number of streams in use, the agent's: if all are aborted at once, none of what is on its way needs one.
pub const RECENT_MAX: usize = 2048;

/// Longest text kept of a received GOAWAY, in bytes: one line of a log.
pub const GO_AWAY_TEXT_KEPT: usize = 256;

/// What a user of [`super::Mux`] can set.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Streams that live at one time, both sides' together. A stream of the peer beyond it gets RST 5.
    pub streams_max: usize,
    /// Live streams, both sides' together, at which we open no more. Below `streams_max`, so that heartbeats and calls
    /// of the peer find room: the official Rust family dies of the 512th stream, hence 500.
    pub open_max: usize,
    /// Bytes held for all streams together: what was received, what waits to be sent, and what the user says it holds.
    pub memory_max: usize,
    /// Consumed bytes of a stream that are owed back before a WNDINC is written. At most half of [`WINDOW`], so that
    /// a sender never sits at zero credit while our buffer is empty.
    pub credit_min: u32,
    /// Credit that the peer's direction of a stream which the gateway opens begins with, once both ends have said that
    /// they agree on such: see [`super::Mux::agree_windows`]. From [`WINDOW_MIN`] to [`WINDOW`].
    pub window: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { streams_max: 512, open_max: 500, memory_max: 8 * 1024 * 1024, credit_min: 32 * 1024, window: WINDOW }
    }
}

/// Share of the memory budget, in percent, from which no window grows.
pub(super) const GROW_PERCENT: usize = 50;

/// Part of the memory budget that all windows together may grow by. Each takes half of what the others have left, so
/// that a second stream never finds nothing.
pub(super) const GROWTH_SHARE: usize = 2;

/// A window that not even one window was consumed of for so long, and for so many round trips, shrinks.
pub(super) const IDLE: Duration = Duration::from_secs(10);

/// See [`IDLE`].
pub(super) const IDLE_ROUND_TRIPS: u32 = 16;

/// How often grown windows are looked through for idle ones, and spare memory is given back.
pub(super) const SWEEP: Duration = Duration::from_secs(1);

/// Share of the memory budget, in percent, from which no credit is returned and windows shrink.
pub(super) const WITHHOLD_PERCENT: usize = 75;

/// Share of the memory budget, in percent, from which new streams of the peer are refused.
pub(super) const REFUSE_PERCENT: usize = 90;

const _: () = assert!(GROW_PERCENT < WITHHOLD_PERCENT);
const _: () = assert!(WITHHOLD_PERCENT < REFUSE_PERCENT && REFUSE_PERCENT < 100);
const _: () = assert!(FRAME_DATA_MAX <= WINDOW_MIN as usize);
const _: () = assert!(FRAME_DATA_MAX + HEADER_LEN == 16_384);
// What TLS 1.3 adds to a record is 22 bytes (RFC 8446, section 5.2), a header of TCP with its options and of IPv6 at most 100.
const _: () = assert!(BATCH_MAX + BURST_FRAMES * 22 + 100 <= 65_535);
