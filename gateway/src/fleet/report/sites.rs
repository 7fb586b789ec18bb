//! Sites, online and offline.

use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::endpoints::{EndpointState, state_of};
use super::filter::Filter;
use super::{Counts, Moment, SessionEnd, fine_millis, millis, seconds, written};
use crate::admit::shown;
use crate::events::Site as SiteKey;
use crate::fleet;
use crate::gateway::{Agent, Gateway, State};
use crate::registry;

/// The fleet at one moment.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Sites {
    /// When it was looked.
    pub now: String,
    /// Since when this gateway has kept a record: its start.
    pub started: String,
    /// Whether the gateway is about to end.
    pub draining: bool,
    /// Ordered by account, credential and instance.
    pub sites: Vec<Site>,
    /// Sites that were offline and of which nothing is known any more.
    pub forgotten: u64,
}

/// One site: an instance of a credential, or a credential whose agents do not say which instance they are.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Site {
    /// The account.
    pub account: String,
    /// The credential.
    pub credential: String,
    /// The agent's instance.
    pub instance: Option<String>,
    /// Whether it is online.
    pub state: SiteState,
    /// Since when it has been so.
    pub since: String,
    /// Seconds since then.
    pub seconds: u64,
    /// Where it connects from, or did last.
    pub address: Option<String>,
    /// The program, in its own words.
    pub agent: String,
    /// Its version, in its own words.
    pub version: String,
    /// Operating system and processor, in its own words.
    pub target: String,
    /// What the agent says of itself.
    pub metadata: String,
    /// The numbers of its sessions.
    pub sessions: Vec<u64>,
    /// Sessions so far.
    pub sessions_total: u64,
    /// Milliseconds since something came from the agent; its heartbeat comes every ten seconds.
    pub last_heard_ms: Option<u64>,
    /// Round trip in milliseconds, by the last replies that the agent confirmed.
    pub round_trip_ms: Option<f64>,
    /// What it serves.
    pub endpoints: Vec<BoundEndpoint>,
    /// Streams and bytes, of earlier sessions too.
    #[serde(flatten)]
    pub counts: Counts,
    /// The session that ended last.
    pub last_end: Option<SessionEnd>,
}

/// Whether a site is online.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SiteState {
    /// It has a session.
    Online,
    /// It had one.
    Offline,
    /// Its credential is in the configuration, and nobody has logged in with it since the gateway started.
    Unseen,
}

/// An endpoint of a site.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct BoundEndpoint {
    /// Its address.
    pub url: String,
    /// Whether visitors get there.
    pub state: EndpointState,
    /// Why not, if they do not.
    pub why: Option<String>,
}

impl SiteState {
    /// The word for it, as in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Online => "online",
            Self::Offline => "offline",
            Self::Unseen => "unseen",
        }
    }
}

/// How the fleet is at this moment.
#[must_use]
pub fn sites(gateway: &Gateway, filter: &Filter) -> Sites {
    let now = Moment::now();
    let (seen, unseen, started, forgotten) = look(gateway, filter);
    let mut sites: Vec<Site> = seen.iter().map(|seen| seen.told(now.at)).collect();
    sites.extend(unseen.iter().map(|key| of_unseen(key, started, now.at)));
    sites.sort_by(|one, two| order(one).cmp(&order(two)));
    Sites { now: written(now), started: written(started), draining: gateway.is_draining(), sites, forgotten }
}

fn order(site: &Site) -> (&str, &str, Option<&str>) {
    (&site.account, &site.credential, site.instance.as_deref())
}

/// What is noted of a site while the lock is held.
struct Seen {
    key: SiteKey,
    site: fleet::Site,
    agents: Vec<Arc<Agent>>,
    endpoints: Vec<(Arc<registry::Endpoint>, Option<Instant>)>,
}

fn look(gateway: &Gateway, filter: &Filter) -> (Vec<Seen>, Vec<SiteKey>, Moment, u64) {
    let config = gateway.config();
    let state = gateway.state();
    let fits = |site: &fleet::Site| filter.session.is_none() || site.sessions().any(|id| filter.fits_session(id));
    let sites = state.fleet.sites().filter(|(key, site)| filter.fits(key) && fits(site));
    let seen = sites.map(|(key, site)| see(&state, key, site)).collect();
    let unseen = config.accounts.credentials().filter_map(|credential| {
        let key = SiteKey { account: credential.account.clone(), credential: credential.id.clone(), instance: None };
        let is_new = filter.fits(&key) && !state.fleet.has_seen(&key.account, &key.credential);
        is_new.then_some(key)
    });
    let unseen = if filter.names_a_session() { Vec::new() } else { unseen.collect() };
    (seen, unseen, state.fleet.started, state.fleet.forgotten())
}

fn see(state: &State, key: &SiteKey, site: &fleet::Site) -> Seen {
    let endpoints = site.sessions().flat_map(|session| state.registry.members(session));
    Seen {
        key: key.clone(),
        site: site.clone(),
        agents: site.sessions().filter_map(|session| state.session(session).cloned()).collect(),
        endpoints: endpoints.map(|(endpoint, at)| (Arc::clone(endpoint), at)).collect(),
    }
}

impl Seen {
    fn told(&self, now: Instant) -> Site {
        let Self { key, site, agents, endpoints } = self;
        let glances: Vec<_> = agents.iter().map(|agent| agent.link.glance()).collect();
        let traffic = glances.iter().fold(site.traffic, |sum, glance| sum.plus(glance.traffic));
        let endpoints = endpoints.iter().map(|(endpoint, routable_at)| {
            let (state, why) = state_of(endpoint, *routable_at, now);
            BoundEndpoint { url: endpoint.url.to_string(), state, why }
        });
        let last_heard = glances.iter().map(|glance| now.saturating_duration_since(glance.last_heard)).min();
        Site {
            account: key.account.to_string(),
            credential: key.credential.to_string(),
            instance: key.instance.as_deref().map(shown),
            state: if site.is_online() { SiteState::Online } else { SiteState::Offline },
            since: written(site.since),
            seconds: seconds(now.saturating_duration_since(site.since.at)),
            address: Some(site.address.to_string()),
            agent: site.about.user_agent.to_string(),
            version: site.about.version.to_string(),
            target: site.about.target.to_string(),
            metadata: site.metadata.to_string(),
            sessions: site.sessions().map(|session| session.0).collect(),
            sessions_total: site.sessions_total,
            last_heard_ms: last_heard.map(millis),
            round_trip_ms: glances.iter().filter_map(|glance| glance.round_trip).min().map(fine_millis),
            endpoints: endpoints.collect(),
            counts: Counts {
                streams: glances.iter().map(|glance| glance.streams).sum(),
                streams_total: traffic.streams,
                bytes_to_agent: traffic.to_agent,
                bytes_from_agent: traffic.from_agent,
            },
            last_end: site.last_end.as_ref().map(|end| SessionEnd::of(end, now)),
        }
    }
}

fn of_unseen(key: &SiteKey, started: Moment, now: Instant) -> Site {
    Site {
        account: key.account.to_string(),
        credential: key.credential.to_string(),
        instance: None,
        state: SiteState::Unseen,
        since: written(started),
        seconds: seconds(now.saturating_duration_since(started.at)),
        address: None,
        agent: String::new(),
        version: String::new(),
        target: String::new(),
        metadata: String::new(),
        sessions: Vec::new(),
        sessions_total: 0,
        last_heard_ms: None,
        round_trip_ms: None,
        endpoints: Vec::new(),
        counts: Counts::default(),
        last_end: None,
    }
}
