//! Streams: connections and requests of visitors that are open now.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::filter::Filter;
use super::{Moment, seconds, written};
use crate::admit::shown;
use crate::fleet::Traffic;
use crate::gateway::{Agent, Gateway};
use crate::session::link::StreamFacts;

/// Open streams at one moment.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Streams {
    /// When it was looked.
    pub now: String,
    /// At most [`STREAMS_SHOWN_MAX`], those that were opened first at the top.
    pub streams: Vec<Stream>,
    /// Whether there are more.
    pub is_cut: bool,
}

/// One stream.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Stream {
    /// The session that it is in.
    pub session: u64,
    /// Its number there, as in the agent's log; zero before its first frame is sent.
    pub stream: u32,
    /// The account.
    pub account: String,
    /// The credential of the agent.
    pub credential: String,
    /// The agent's instance.
    pub instance: Option<String>,
    /// The endpoint.
    pub endpoint: String,
    /// The visitor's address.
    pub visitor: String,
    /// Seconds since it was opened.
    pub seconds: u64,
    /// Bytes of the visitor that left for the agent.
    pub bytes_to_agent: u64,
    /// Bytes of the agent that were taken for the visitor.
    pub bytes_from_agent: u64,
}

/// What is open at this moment.
#[must_use]
pub fn streams(gateway: &Gateway, filter: &Filter) -> Streams {
    let now = Moment::now();
    let mut found = Vec::new();
    for agent in look(gateway, filter) {
        // One more than is shown says that there are more.
        let room = (STREAMS_SHOWN_MAX + 1).saturating_sub(found.len());
        let streams = agent.link.streams(room);
        found.extend(streams.into_iter().map(|stream| (Arc::clone(&agent), stream)));
    }
    let is_cut = found.len() > STREAMS_SHOWN_MAX;
    found.truncate(STREAMS_SHOWN_MAX);
    found.sort_by_key(|(agent, (id, facts, _))| (facts.opened, agent.session, *id));
    let streams = found.iter().map(|(agent, (id, facts, traffic))| of(agent, *id, facts, *traffic, now)).collect();
    Streams { now: written(now), streams, is_cut }
}

fn look(gateway: &Gateway, filter: &Filter) -> Vec<Arc<Agent>> {
    let state = gateway.state();
    let agents = state.all_sessions().filter(|agent| filter.fits_session(agent.session) && filter.fits(&agent.site()));
    agents.cloned().collect()
}

fn of(agent: &Agent, id: u32, facts: &StreamFacts, traffic: Traffic, now: Moment) -> Stream {
    Stream {
        session: agent.session.0,
        stream: id,
        account: agent.owner.account.to_string(),
        credential: agent.owner.credential.to_string(),
        instance: agent.instance.as_deref().map(shown),
        endpoint: facts.endpoint.url.to_string(),
        visitor: facts.visitor.to_string(),
        seconds: seconds(now.at.saturating_duration_since(facts.opened)),
        bytes_to_agent: traffic.to_agent,
        bytes_from_agent: traffic.from_agent,
    }
}

/// Streams in one answer: 3 MB of JSON. Who wants others asks for a site or a session.
pub const STREAMS_SHOWN_MAX: usize = 10_000;
