//! Sessions of agents.

use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::filter::Filter;
use super::{Counts, Moment, fine_millis, millis, seconds, written};
use crate::admit::shown;
use crate::gateway::{Agent, Gateway};

/// All sessions at one moment.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Sessions {
    /// When it was looked.
    pub now: String,
    /// Oldest first.
    pub sessions: Vec<Session>,
}

/// One session of an agent.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Session {
    /// Its number, as in the logs of both programs.
    pub session: u64,
    /// The account.
    pub account: String,
    /// The credential.
    pub credential: String,
    /// The agent's instance.
    pub instance: Option<String>,
    /// Where it connects from.
    pub address: String,
    /// The program, in its own words.
    pub agent: String,
    /// Its version, in its own words.
    pub version: String,
    /// Operating system and processor, in its own words.
    pub target: String,
    /// What the agent says of itself.
    pub metadata: String,
    /// Which of the agent's parallel connections it is.
    pub leg: u32,
    /// When it logged in.
    pub since: String,
    /// Seconds since then.
    pub seconds: u64,
    /// Milliseconds since something came from the agent; its heartbeat comes every ten seconds.
    pub last_heard_ms: u64,
    /// Round trip in milliseconds, by the last replies that the agent confirmed.
    pub round_trip_ms: Option<f64>,
    /// Endpoints that are bound on it.
    pub endpoints: usize,
    /// Streams and bytes.
    #[serde(flatten)]
    pub counts: Counts,
}

/// Who is logged in at this moment.
#[must_use]
pub fn sessions(gateway: &Gateway, filter: &Filter) -> Sessions {
    let now = Moment::now();
    let mut agents = look(gateway, filter);
    agents.sort_unstable_by_key(|(agent, _)| agent.session);
    let sessions = agents.iter().map(|(agent, endpoints)| of(agent, *endpoints, now.at)).collect();
    Sessions { now: written(now), sessions }
}

fn look(gateway: &Gateway, filter: &Filter) -> Vec<(Arc<Agent>, usize)> {
    let state = gateway.state();
    let agents = state.all_sessions().filter(|agent| filter.fits_session(agent.session) && filter.fits(&agent.site()));
    agents.map(|agent| (Arc::clone(agent), state.registry.count(agent.session))).collect()
}

fn of(agent: &Agent, endpoints: usize, now: Instant) -> Session {
    let glance = agent.link.glance();
    Session {
        session: agent.session.0,
        account: agent.owner.account.to_string(),
        credential: agent.owner.credential.to_string(),
        instance: agent.instance.as_deref().map(shown),
        address: agent.address.to_string(),
        agent: agent.about.user_agent.to_string(),
        version: agent.about.version.to_string(),
        target: agent.about.target.to_string(),
        metadata: shown(&agent.metadata),
        leg: agent.leg,
        since: written(agent.since),
        seconds: seconds(now.saturating_duration_since(agent.since.at)),
        last_heard_ms: millis(now.saturating_duration_since(glance.last_heard)),
        round_trip_ms: glance.round_trip.map(fine_millis),
        endpoints,
        counts: Counts {
            streams: glance.streams,
            streams_total: glance.traffic.streams,
            bytes_to_agent: glance.traffic.to_agent,
            bytes_from_agent: glance.traffic.from_agent,
        },
    }
}
