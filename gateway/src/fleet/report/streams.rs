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
    let agents = look(gateway, filter);
    let found = agents.iter().flat_map(|agent| agent.link.streams().into_iter().map(move |stream| (agent, stream)));
    let (found, is_cut) = first(found, STREAMS_SHOWN_MAX, |(agent, (id, facts, _))| (facts.opened, agent.session, *id));
    let streams = found.iter().map(|(agent, (id, facts, traffic))| of(agent, *id, facts, *traffic, now)).collect();
    Streams { now: written(now), streams, is_cut }
}

/// The `max` first ones in the order of their keys, and whether there are more; so many again are kept meanwhile.
fn first<T, K: Ord>(all: impl Iterator<Item = T>, max: usize, key: impl Fn(&T) -> K) -> (Vec<T>, bool) {
    let (mut found, mut is_cut) = (Vec::new(), false);
    let mut cut = |found: &mut Vec<T>| {
        found.sort_by_key(&key);
        is_cut |= found.len() > max;
        found.truncate(max);
    };
    for one in all {
        found.push(one);
        if found.len() >= max.saturating_mul(2) {
            cut(&mut found);
        }
    }
    cut(&mut found);
    (found, is_cut)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_ones_are_shown_wherever_they_are_found() {
        let first = |all: &[u32], max| first(all.iter().copied(), max, |number| *number);
        assert_eq!(first(&[5, 4, 3, 2, 1, 0], 2), (vec![0, 1], true));
        assert_eq!(first(&[3, 1, 2], 3), (vec![1, 2, 3], false));
        assert_eq!(first(&[3, 1, 2, 0], 3), (vec![0, 1, 2], true));
        assert_eq!(first(&[], 3), (vec![], false));
        let many: Vec<u32> = (0..1000).rev().collect();
        assert_eq!(first(&many, 10), ((0..10).collect(), true));
    }
}
