//! What the agent may take of its box: memory and connections.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::endpoint::EndpointConfig;
use super::reader::{Object, Reader};
use super::size::format_size;

/// The agent's share of the box.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resources {
    /// Bytes that all buffers together may hold; see the architecture's chapter on memory for what counts.
    pub memory_max: usize,
    /// Visitors' connections at one time; fewer where the limit of descriptors does not allow as many.
    pub streams_max: usize,
    /// A connection on which nothing moved for this long is ended. `None`: never, a database stays open for hours.
    pub idle_timeout: Option<Duration>,
}

impl Default for Resources {
    fn default() -> Self {
        Self { memory_max: MEMORY_DEFAULT, streams_max: STREAMS_MAX, idle_timeout: None }
    }
}

impl Resources {
    pub(super) fn read(agent: &mut Object<'_>) -> Self {
        let default = Self::default();
        let number = |bytes: Option<u64>| bytes.and_then(|bytes| usize::try_from(bytes).ok());
        let memory_max = number(agent.size("memory_max", MEMORY_RANGE)).unwrap_or(default.memory_max);
        let streams_max = number(agent.integer("streams_max", 1..=STREAMS_MAX as u64)).unwrap_or(default.streams_max);
        let idle_timeout = agent.duration("idle_timeout", Duration::ZERO..=IDLE_TIMEOUT_MAX);
        Self { memory_max, streams_max, idle_timeout: idle_timeout.filter(|time| !time.is_zero()) }
    }

    /// Checks that what the agent itself has to say fits: a policy waits here until it is sent, and comes back in the
    /// gateway's answer.
    pub(super) fn check(&self, reader: &Reader, endpoints: &[EndpointConfig]) {
        let policies: usize = endpoints.iter().flat_map(|endpoint| &endpoint.traffic_policy).map(String::len).sum();
        let least = policies.saturating_mul(POLICIES_SHARE);
        if self.memory_max < least {
            let (value, least) = (format_size(self.memory_max as u64), format_size(least as u64));
            let expected = format!("must be at least {least}, eight times the traffic policies of the file");
            reader.problem("agent.memory_max", Some(value), expected);
        }
    }
}

/// Part of the budget that the file's policies may be. They are sent and come back as text inside JSON, which can double
/// them, and a quarter of the budget is for either.
const POLICIES_SHARE: usize = 8;

/// 128 streams that stand still with the window of 64 KiB that the agent grants a gateway of ours, or 32 with the fixed
/// one of others. A box with 64 MiB of memory can give it.
pub const MEMORY_DEFAULT: usize = 8 * 1024 * 1024;

/// Below it hardly a few visitors could be served. More than a gigabyte no router has to give.
const MEMORY_RANGE: RangeInclusive<u64> = 1 << 20..=1 << 30;

/// Most connections at one time: with the agent's own streams it makes 2048. An idle one costs a socket and less than a
/// kilobyte; the tables of the multiplexer and of the resolver are sized for it.
pub const STREAMS_MAX: usize = 2048 - crate::session::agent::OWN_STREAMS;

/// Longer ones are meant to be "never".
const IDLE_TIMEOUT_MAX: Duration = Duration::from_secs(30 * 24 * 3600);
