//! The bounds of the HTTP side.

use std::time::Duration;

use crate::config::limits::Limits as Configured;

/// The bounds that an operator may set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Time for the head of a request, from its first byte; for the first one from the beginning of the connection.
    pub head_time: Duration,
    /// Longest head of a request, in bytes; at least 8 KiB.
    pub head_bytes_max: usize,
    /// How long a connection, and on HTTP/2 also each response, may stand without a byte in either direction. Upgraded
    /// connections may for ever.
    pub idle_time: Duration,
    /// Time from the last byte of a request to the first byte of its response.
    pub first_byte_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // A head fits into a few packets; slower ones are the slow-loris kind.
            head_time: Duration::from_secs(30),
            // Browsers stop at some 64 KiB of cookies.
            head_bytes_max: 64 * 1024,
            // The limit of ngrok's edge.
            idle_time: Duration::from_secs(300),
            // Reports and exports may take minutes before they begin; nothing but this ends the wait for an application
            // that never accepts.
            first_byte_time: Duration::from_secs(300),
        }
    }
}

impl From<&Configured> for Limits {
    fn from(limits: &Configured) -> Self {
        Self {
            head_time: limits.http_header_timeout,
            head_bytes_max: limits.http_header_bytes_max,
            idle_time: limits.http_idle_timeout,
            // Waiting for a response is one way of standing still.
            first_byte_time: limits.http_idle_timeout,
        }
    }
}

/// Requests of one HTTP/2 connection at once. Browsers send a hundred; each takes one stream of the agent's session, which
/// has 500.
pub(super) const H2_STREAMS_MAX: u32 = 250;

/// Received bytes of one HTTP/2 stream, and of one connection, that wait for the agent: 1 MiB carries 160 Mbit/s over
/// 50 ms, and the connection's bound holds for all of its streams together.
pub(super) const H2_WINDOW_BYTES: u32 = 1024 * 1024;

/// Bytes of one HTTP/2 stream that wait for the visitor, so that a connection full of slow streams holds 16 MiB at most.
pub(super) const H2_SEND_BYTES_MAX: usize = 64 * 1024;

/// HTTP/2 connections are asked for a sign of life this often; a visitor that has vanished must not hold streams.
pub(super) const H2_PING_TIME: Duration = Duration::from_secs(60);

/// And have this long to give it.
pub(super) const H2_PONG_TIME: Duration = Duration::from_secs(20);

/// Buffer of an HTTP/1.1 connection in each direction; more would only hold what the window of the stream holds anyway.
pub(super) const H1_BUFFER_BYTES_MAX: usize = 64 * 1024;

/// Longest head of a response, in bytes.
pub(super) const RESPONSE_HEAD_BYTES_MAX: usize = 128 * 1024;

/// Idle proxy streams kept for one visitor's connection. A browser on HTTP/1.1 needs one, on HTTP/2 a handful; each holds
/// one of the session's streams.
pub(super) const IDLE_STREAMS_MAX: usize = 8;

/// How long an idle proxy stream is kept. Servers close idle connections after 5 s and more (Node has 5 s, Apache too), and
/// one that is reused just then costs a retry.
pub(super) const IDLE_STREAM_TIME: Duration = Duration::from_secs(4);

/// How long a proxy stream that is no longer needed may take to end cleanly.
pub(super) const CLOSE_TIME: Duration = Duration::from_secs(5);

/// How long the body of a request that says `Expect: 100-continue` waits for the upstream's word. Servers that do not know
/// the header never say it (the recommendation of RFC 9110, 10.1.1, and curl's own default).
pub(super) const CONTINUE_TIME: Duration = Duration::from_secs(1);

/// How long the end of a response waits for the end of its request, when nothing but the flag that says so is missing: it
/// is on its way, or never comes.
pub(super) const REMAINDER_TIME: Duration = Duration::from_secs(1);

/// How often a connection looks at its clocks. Limits of minutes need no more, and 10,000 connections then wake 2,000 times
/// a second.
pub(super) const TICK: Duration = Duration::from_secs(5);

/// Buffer for each direction of an upgraded connection.
pub(super) const TUNNEL_BUFFER_BYTES: usize = 16 * 1024;
