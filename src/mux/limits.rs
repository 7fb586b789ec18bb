//! Every bound of the multiplexer and its reason.

/// Credit that each direction of a stream starts with, in bytes. Fixed by the protocol, not negotiated.
pub const WINDOW: u32 = 262_144;

/// Most payload bytes of one DATA frame that we send. Header and payload together fill one TLS record of 16 KiB, so a
/// frame never costs two, and a control frame never waits behind more than one record of another stream.
pub const FRAME_DATA_MAX: usize = 16 * 1024 - crate::frame::HEADER_LEN;

/// Bytes of one stream that the multiplexer itself queues for sending: a remote procedure call and its reply. Proxied
/// bytes are never queued here, they are read under a grant.
pub const OUTBOX_MAX: usize = 1024 * 1024 + 64 * 1024;

/// Bytes that the outboxes of all streams hold together: eight of the longest messages. A peer that calls and calls and
/// reads no reply would fill one for every stream.
pub const OUTBOXES_MAX: usize = 8 * OUTBOX_MAX;

/// Messages up to this length do not count against [`OUTBOXES_MAX`]: beats and ordinary replies, one for a stream.
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
    /// Received bytes held for all streams together.
    pub memory_max: usize,
    /// Consumed bytes of a stream that are owed back before a WNDINC is written. At most half of [`WINDOW`], so that
    /// a sender never sits at zero credit while our buffer is empty.
    pub credit_min: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { streams_max: 512, open_max: 500, memory_max: 8 * 1024 * 1024, credit_min: 32 * 1024 }
    }
}

/// Share of the memory budget, in percent, from which no credit is returned.
pub(super) const WITHHOLD_PERCENT: usize = 75;

/// Share of the memory budget, in percent, from which new streams of the peer are refused.
pub(super) const REFUSE_PERCENT: usize = 90;

const _: () = assert!(WITHHOLD_PERCENT < REFUSE_PERCENT && REFUSE_PERCENT < 100);
const _: () = assert!(FRAME_DATA_MAX + crate::frame::HEADER_LEN == 16_384);
