//! What the admin listener says of sites, sessions, endpoints and streams.
//!
//! These are the documents of the JSON interface: members are only ever added. What is looked at is noted while the
//! gateway's lock is held, and put into words afterwards, so that traffic does not wait for it.

mod endpoints;
mod filter;
mod sessions;
mod sites;
mod streams;

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{Ending, LastEnd};
use crate::events::{Moment, rfc3339};

pub use endpoints::{Endpoint, EndpointKind, EndpointState, Endpoints};
pub use filter::Filter;
pub use sessions::{Session, Sessions};
pub use sites::{BoundEndpoint, Site, SiteState, Sites};
pub use streams::{STREAMS_SHOWN_MAX, Stream, Streams};

pub use endpoints::endpoints;
pub use sessions::sessions;
pub use sites::sites;
pub use streams::streams;

/// How a session ended.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct SessionEnd {
    /// Which one.
    pub session: u64,
    /// When.
    pub at: String,
    /// Seconds since then.
    pub seconds: u64,
    /// `gateway`, `agent`, `silent`, `closed`, `broken` or `protocol`.
    pub cause: String,
    /// In words.
    pub reason: String,
}

/// Who or what bytes and streams are counted for.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub struct Counts {
    /// Streams of visitors that are open.
    pub streams: usize,
    /// Streams of visitors so far.
    pub streams_total: u64,
    /// Bytes of visitors that left for the agent.
    pub bytes_to_agent: u64,
    /// Bytes of the agent that were taken for visitors.
    pub bytes_from_agent: u64,
}

impl SessionEnd {
    fn of(end: &LastEnd, now: Instant) -> Self {
        let Ending { cause, text } = &end.why;
        Self {
            session: end.session.0,
            at: written(end.at),
            seconds: seconds(now.saturating_duration_since(end.at.at)),
            cause: cause.as_str().to_owned(),
            reason: text.to_string(),
        }
    }
}

/// A time as RFC 3339 has it, in UTC and whole seconds.
fn written(moment: Moment) -> String {
    rfc3339(moment.unix_ms.div_euclid(1000).saturating_mul(1000))
}

fn seconds(time: Duration) -> u64 {
    time.as_secs()
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Milliseconds with three digits behind the point.
fn fine_millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}
