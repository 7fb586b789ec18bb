//! Endpoints, and in which state they are.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::filter::Filter;
use super::{Moment, seconds, written};
use crate::admit::shown;
use crate::deceptive::is_deceptive;
use crate::events::Site as SiteKey;
use crate::gateway::{Agent, Gateway};
use crate::identity::Owner;
use crate::registry;

/// All endpoints at one moment.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Endpoints {
    /// When it was looked.
    pub now: String,
    /// Ordered by url.
    pub endpoints: Vec<Endpoint>,
}

/// One endpoint, as one agent has bound it or as it stands in the gateway's file.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Endpoint {
    /// Its address.
    pub url: String,
    /// Whose it is.
    pub kind: EndpointKind,
    /// Whether visitors get there.
    pub state: EndpointState,
    /// Why not, if they do not.
    pub why: Option<String>,
    /// Its account.
    pub account: String,
    /// The credential of the agent.
    pub credential: Option<String>,
    /// The agent's instance.
    pub instance: Option<String>,
    /// The session that it is bound on.
    pub session: Option<u64>,
    /// The agent's name for it.
    pub name: String,
    /// Where the agent says that it leads.
    pub forwards_to: String,
}

/// Whose an endpoint is.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EndpointKind {
    /// An agent has bound it.
    Agent,
    /// It stands in the gateway's file.
    Cloud,
}

/// Whether visitors get to an endpoint.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EndpointState {
    /// They do.
    Online,
    /// They do, and all that share the address take turns.
    Pooled,
    /// Its agent has not confirmed yet that it knows it.
    Waiting,
    /// They are refused, because the protection that it asks for cannot be honoured.
    HeldBack,
    /// Its agent is away, and the address is kept for it for a while.
    Kept,
}

impl EndpointState {
    /// The word for it, as in JSON but for blanks.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Online => "online",
            Self::Pooled => "pooled",
            Self::Waiting => "waiting",
            Self::HeldBack => "held back",
            Self::Kept => "kept",
        }
    }
}

/// The state of what is bound, and why it is no better.
pub(super) fn state_of(
    endpoint: &registry::Endpoint,
    routable_at: Option<Instant>,
    now: Instant,
) -> (EndpointState, Option<String>) {
    if let Some(reason) = endpoint.policy.as_ref().and_then(|policy| policy.held_reason()) {
        return (EndpointState::HeldBack, Some(shown_reason(reason)));
    }
    if routable_at.is_none_or(|at| at > now) {
        return (EndpointState::Waiting, Some("the agent has not confirmed it yet".to_owned()));
    }
    (if endpoint.pooled { EndpointState::Pooled } else { EndpointState::Online }, None)
}

/// What stands there at this moment.
#[must_use]
pub fn endpoints(gateway: &Gateway, filter: &Filter) -> Endpoints {
    let now = Moment::now();
    let (bound, kept) = look(gateway, filter, now.at);
    let mut endpoints: Vec<Endpoint> =
        bound.iter().map(|(agent, endpoint, routable_at)| of_agent(agent, endpoint, *routable_at, now.at)).collect();
    endpoints.extend(kept.into_iter().map(|(url, owner, left)| of_absent(url, &owner, left)));
    if filter.credential.is_none() && !filter.names_a_session() {
        let config = gateway.config();
        let cloud = config.cloud_endpoints.iter();
        let cloud = cloud.filter(|cloud| filter.account.as_deref().is_none_or(|wanted| wanted == &*cloud.account));
        endpoints.extend(cloud.map(|cloud| Endpoint {
            url: cloud.url.to_string(),
            kind: EndpointKind::Cloud,
            state: EndpointState::Online,
            why: None,
            account: cloud.account.to_string(),
            credential: None,
            instance: None,
            session: None,
            name: String::new(),
            forwards_to: String::new(),
        }));
    }
    endpoints.sort_by(|one, two| (&one.url, one.session).cmp(&(&two.url, two.session)));
    Endpoints { now: written(now), endpoints }
}

type Bound = (Arc<Agent>, Arc<registry::Endpoint>, Option<Instant>);
type Kept = (String, Owner, Duration);

fn look(gateway: &Gateway, filter: &Filter, now: Instant) -> (Vec<Bound>, Vec<Kept>) {
    let state = gateway.state();
    let agents = state.all_sessions().filter(|agent| filter.fits_session(agent.session) && filter.fits(&agent.site()));
    let bound = agents.flat_map(|agent| {
        let members = state.registry.members(agent.session);
        members.map(move |(endpoint, at)| (Arc::clone(agent), Arc::clone(endpoint), at))
    });
    let bound = bound.collect();
    if filter.names_a_session() {
        return (bound, Vec::new());
    }
    let fits = |owner: &Owner| {
        let Owner { account, credential } = owner.clone();
        filter.fits(&SiteKey { account, credential, instance: None })
    };
    let kept = state.registry.kept(now).filter(|(_, owner, _)| fits(owner));
    let kept = kept.map(|(url, owner, until)| (url.to_string(), owner.clone(), until.saturating_duration_since(now)));
    (bound, kept.collect())
}

fn of_agent(agent: &Agent, endpoint: &registry::Endpoint, routable_at: Option<Instant>, now: Instant) -> Endpoint {
    let (state, why) = state_of(endpoint, routable_at, now);
    Endpoint {
        url: endpoint.url.to_string(),
        kind: EndpointKind::Agent,
        state,
        why,
        account: agent.owner.account.to_string(),
        credential: Some(agent.owner.credential.to_string()),
        instance: agent.instance.as_deref().map(shown),
        session: Some(agent.session.0),
        name: shown(&endpoint.name),
        forwards_to: shown(&endpoint.forwards_to),
    }
}

fn of_absent(url: String, owner: &Owner, left: Duration) -> Endpoint {
    Endpoint {
        url,
        kind: EndpointKind::Agent,
        state: EndpointState::Kept,
        why: Some(format!("its agent is away; the address is kept for it for {} s more", seconds(left) + 1)),
        account: owner.account.to_string(),
        credential: Some(owner.credential.to_string()),
        instance: None,
        session: None,
        name: String::new(),
        forwards_to: String::new(),
    }
}

/// The reason as one line, cut: it may quote an agent's policy.
fn shown_reason(reason: &str) -> String {
    reason.chars().take(REASON_CHARS_MAX).map(|c| if is_deceptive(c) { ' ' } else { c }).collect()
}

/// What fits on a few lines of a terminal; the log has all of it.
const REASON_CHARS_MAX: usize = 400;
