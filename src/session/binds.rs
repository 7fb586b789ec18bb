//! The agent's endpoints as the gateway knows them: bound, refused, to be tried again.

use std::time::{Duration, Instant};

use serde_json::{Map, Value};

use super::random::Random;
use crate::endpoint_url::{RequestedUrl, Scheme};
use crate::message::{BindExtra, BindReply, BindRequest, Secret, WireError, bind_options, codes};
use crate::proxy_protocol::ProxyProtocol;

/// One endpoint of the configuration, as far as the gateway has to know it.
#[derive(Clone, Debug)]
pub struct EndpointSpec {
    /// Its name, for the gateway's list of endpoints.
    pub name: String,
    /// The address it is to have.
    pub url: RequestedUrl,
    /// Where it leads, as text for people.
    pub forwards_to: String,
    /// Whether the gateway puts a PROXY protocol header in front of each connection.
    pub proxy_protocol: ProxyProtocol,
    /// `public` or `internal`, or nothing for the gateway's choice.
    pub bindings: Vec<String>,
    /// Whether other agents may serve the same address.
    pub pooling_enabled: bool,
    /// Free text for the gateway's list.
    pub metadata: String,
    /// Free text for the gateway's list.
    pub description: String,
    /// Traffic Policy as YAML or JSON text, empty for none.
    pub traffic_policy: String,
}

/// What outlives a session, so that the next one takes its place: carried from session to session, lost with the
/// process.
#[derive(Debug, Default, Clone)]
pub struct Resumption {
    pub(super) client_id: String,
    pub(super) cookie: Secret,
    pub(super) bound: Vec<Option<Bound>>,
}

/// An endpoint's identity at the gateway.
#[derive(Clone)]
pub(super) struct Bound {
    pub(super) id: String,
    token: Secret,
    pub(super) url: String,
    proto: Scheme,
    opts: Map<String, Value>,
}

impl std::fmt::Debug for Bound {
    /// Without the options, which can hold secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bound").field("id", &self.id).field("url", &self.url).finish_non_exhaustive()
    }
}

/// Where each endpoint stands in this session.
#[derive(Debug)]
pub(super) struct Binds {
    specs: Vec<EndpointSpec>,
    states: Vec<State>,
}

#[derive(Debug, Clone, Copy)]
struct State {
    stage: Stage,
    refusals: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// To be bound at this time or later.
    Due(Instant),
    Asked,
    Online,
    /// Ended by the gateway or by us; not tried again in this session.
    Ended,
}

impl Binds {
    pub(super) fn new(specs: Vec<EndpointSpec>, now: Instant) -> Self {
        let states = vec![State { stage: Stage::Due(now), refusals: 0 }; specs.len()];
        Self { specs, states }
    }

    /// The next endpoint to ask for, unless enough questions are under way.
    pub(super) fn next_due(&mut self, now: Instant) -> Option<usize> {
        if self.asked() >= ASKED_MAX {
            return None;
        }
        let due = |state: &State| matches!(state.stage, Stage::Due(at) if at <= now);
        let endpoint = self.states.iter().position(due)?;
        self.states[endpoint].stage = Stage::Asked;
        Some(endpoint)
    }

    pub(super) fn timeout(&self) -> Option<Instant> {
        if self.asked() >= ASKED_MAX {
            return None;
        }
        self.states
            .iter()
            .filter_map(|state| match state.stage {
                Stage::Due(at) => Some(at),
                Stage::Asked | Stage::Online | Stage::Ended => None,
            })
            .min()
    }

    fn asked(&self) -> usize {
        self.states.iter().filter(|state| state.stage == Stage::Asked).count()
    }

    /// The Bind request: a fresh one, or the one that takes the earlier identity up again.
    pub(super) fn request(&self, endpoint: usize, resumption: &Resumption) -> Option<BindRequest> {
        let spec = self.specs.get(endpoint)?;
        let mut request = BindRequest {
            id: String::new(),
            proto: spec.url.scheme(),
            forwards_to: spec.forwards_to.clone(),
            forwards_proto: String::new(),
            opts: bind_options(&spec.url, spec.proxy_protocol, &spec.traffic_policy),
            extra: BindExtra {
                token: Secret::default(),
                ip_policy_ref: String::new(),
                metadata: spec.metadata.clone(),
                bindings: spec.bindings.clone(),
                pooling_enabled: spec.pooling_enabled,
                name: spec.name.clone(),
                description: spec.description.clone(),
            },
        };
        if let Some(Some(bound)) = resumption.bound.get(endpoint) {
            request.id.clone_from(&bound.id);
            request.proto = bound.proto;
            request.opts = bound.opts.clone();
            request.extra.token = bound.token.clone();
        }
        Some(request)
    }

    /// The gateway accepted; returns the endpoint's address.
    pub(super) fn accept(&mut self, endpoint: usize, reply: BindReply, resumption: &mut Resumption) -> String {
        if let Some(state) = self.states.get_mut(endpoint) {
            *state = State { stage: Stage::Online, refusals: 0 };
        }
        if resumption.bound.len() < self.specs.len() {
            resumption.bound.resize(self.specs.len(), None);
        }
        let bound =
            Bound { id: reply.id, token: reply.extra.token, url: reply.url, proto: reply.proto, opts: reply.opts };
        let url = bound.url.clone();
        if let Some(place) = resumption.bound.get_mut(endpoint) {
            *place = Some(bound);
        }
        url
    }

    /// The gateway refused: tried again alone, at growing intervals. Returns the wait.
    pub(super) fn refuse(
        &mut self,
        endpoint: usize,
        error: &WireError,
        resumption: &mut Resumption,
        random: &mut Random,
        now: Instant,
    ) -> Duration {
        // An identity that the gateway no longer honours is given up; an address still in use is not about identity.
        if error.code != Some(codes::ENDPOINT_ONLINE)
            && let Some(place) = resumption.bound.get_mut(endpoint)
        {
            *place = None;
        }
        let Some(state) = self.states.get_mut(endpoint) else { return RETRY_MAX };
        let ceiling = RETRY_MIN.saturating_mul(1 << state.refusals.min(10)).min(RETRY_MAX);
        state.refusals = state.refusals.saturating_add(1);
        // Half of the ceiling at least: a refused bind is no emergency of the network.
        let half = ceiling / 2;
        let share = u32::try_from(random.next() % 1024).unwrap_or(0);
        let wait = half + half * share / 1024;
        state.stage = now.checked_add(wait).map_or(Stage::Ended, Stage::Due);
        wait
    }

    /// The online endpoint with this id.
    pub(super) fn find(&self, id: &str, resumption: &Resumption) -> Option<usize> {
        let mut places = resumption.bound.iter().zip(&self.states);
        places.position(|(bound, state)| {
            state.stage == Stage::Online && bound.as_ref().is_some_and(|bound| bound.id == id)
        })
    }

    pub(super) fn end(&mut self, endpoint: usize) {
        if let Some(state) = self.states.get_mut(endpoint) {
            state.stage = Stage::Ended;
        }
    }

    /// Ends all and returns those that were online.
    pub(super) fn end_all(&mut self) -> Vec<usize> {
        let online = self.states.iter().enumerate().filter(|(_, s)| s.stage == Stage::Online).map(|(i, _)| i).collect();
        for state in &mut self.states {
            state.stage = Stage::Ended;
        }
        online
    }

    pub(super) fn scheme(&self, endpoint: usize) -> Option<Scheme> {
        self.specs.get(endpoint).map(|spec| spec.url.scheme())
    }
}

/// Binds under way at one time: enough to hide the round trip, few enough not to look like a flood.
const ASKED_MAX: usize = 4;

/// Wait after a first refused bind; it doubles with each further refusal.
const RETRY_MIN: Duration = Duration::from_secs(2);

/// Longest wait between two tries of a refused bind: an operator who mends the gateway sees the endpoint within a
/// minute.
const RETRY_MAX: Duration = Duration::from_secs(60);
