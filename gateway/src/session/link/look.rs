//! What can be seen of a link from outside while it is in use.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Link;
use crate::fleet::Traffic;
use crate::registry::Endpoint;

/// A link at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Glance {
    pub(crate) last_heard: Instant,
    /// As it was when the agent last confirmed a reply.
    pub(crate) round_trip: Option<Duration>,
    pub(crate) streams: usize,
    pub(crate) traffic: Traffic,
}

/// What a stream is for.
#[derive(Clone, Debug)]
pub(crate) struct StreamFacts {
    /// The endpoint that the visitor came to.
    pub(crate) endpoint: Arc<Endpoint>,
    /// The visitor's address.
    pub(crate) visitor: SocketAddr,
    pub(crate) opened: Instant,
}

impl Link {
    /// Whether the agent has been silent for longer than it may.
    pub(crate) fn is_dead(&self, now: Instant) -> bool {
        let state = self.lock();
        let silence = now.saturating_duration_since(state.last_heard);
        state.liveness.is_some_and(|liveness| silence >= liveness)
    }

    /// Whether the link has ended or is about to.
    pub(crate) fn is_over(&self) -> bool {
        let state = self.lock();
        state.closed || state.ending.is_some()
    }

    /// Whether visitors use the session.
    pub(crate) fn has_streams(&self) -> bool {
        !self.lock().streams.is_empty()
    }

    /// How many visitors use the session.
    pub(crate) fn stream_count(&self) -> usize {
        self.lock().streams.len()
    }

    /// What has passed over it so far.
    pub(crate) fn traffic(&self) -> Traffic {
        self.lock().traffic
    }

    /// How it is at this moment.
    pub(crate) fn glance(&self) -> Glance {
        let state = self.lock();
        Glance {
            last_heard: state.last_heard,
            round_trip: state.session.round_trip(),
            streams: state.streams.len(),
            traffic: state.traffic,
        }
    }

    /// The streams of this moment: as many as the session may have.
    pub(crate) fn streams(&self) -> Vec<(u32, StreamFacts, Traffic)> {
        let state = self.lock();
        let streams = state.streams.iter().filter_map(|(key, stream)| {
            let facts = stream.facts.clone()?;
            Some((state.session.stream_id(*key), facts, stream.traffic))
        });
        streams.collect()
    }
}
