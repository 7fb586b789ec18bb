//! The agent's endpoints as the gateway knows them: bound, refused, to be tried again, changed, no longer wanted.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Map, Value};

use super::random::Random;
use crate::by_number::ByNumber;
use crate::endpoint_url::{RequestedUrl, Scheme};
use crate::message::{
    BindExtra, BindReply, BindRequest, PatchRequest, Secret, WireError, bind_options, codes, set_traffic_policy,
};
use crate::proxy_protocol::ProxyProtocol;

/// One endpoint of the configuration, as far as the gateway has to know it.
#[derive(Clone, PartialEq, Eq)]
pub struct EndpointSpec {
    /// Names the endpoint in events, whatever else of it changes; the driver uses no number for a second endpoint.
    pub number: usize,
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

impl EndpointSpec {
    /// What cannot be changed while the endpoint is online, and what an identity from an earlier session stands for.
    fn is_same_address(&self, other: &Self) -> bool {
        (&self.url, self.proxy_protocol, &self.bindings) == (&other.url, other.proxy_protocol, &other.bindings)
    }

    /// What the gateway has to be told to get from `known` to this; `None` when it knows all that it can be told.
    fn patch(&self, known: &Self, tunnel_id: &str) -> Option<PatchRequest> {
        fn changed<T: PartialEq + Clone>(new: &T, old: &T) -> Option<T> {
            (new != old).then(|| new.clone())
        }
        let patch = PatchRequest {
            tunnel_id: tunnel_id.to_owned(),
            name: changed(&self.name, &known.name),
            description: changed(&self.description, &known.description),
            metadata: changed(&self.metadata, &known.metadata),
            pooling_enabled: changed(&self.pooling_enabled, &known.pooling_enabled),
            traffic_policy: changed(&self.traffic_policy, &known.traffic_policy),
        };
        let nothing = PatchRequest { tunnel_id: tunnel_id.to_owned(), ..PatchRequest::default() };
        (patch != nothing).then_some(patch)
    }
}

impl std::fmt::Debug for EndpointSpec {
    /// Without the policy, which can hold secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EndpointSpec").field("name", &self.name).field("url", &self.url).finish_non_exhaustive()
    }
}

/// What outlives a session, so that the next one takes its place: carried from session to session, lost with the
/// process.
#[derive(Debug, Default, Clone)]
pub struct Resumption {
    pub(super) client_id: String,
    pub(super) cookie: Secret,
    /// By the endpoints' numbers.
    pub(super) bound: ByNumber<Bound>,
}

/// An endpoint's identity at the gateway.
#[derive(Clone)]
pub(super) struct Bound {
    pub(super) id: String,
    token: Secret,
    tunnel_id: String,
    proto: Scheme,
    opts: Map<String, Value>,
    /// What was asked for.
    spec: Arc<EndpointSpec>,
}

impl std::fmt::Debug for Bound {
    /// Without the options, which can hold secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bound").field("id", &self.id).field("spec", &self.spec).finish_non_exhaustive()
    }
}

/// Where each endpoint stands in this session.
#[derive(Debug)]
pub(super) struct Binds {
    /// By number.
    entries: ByNumber<Entry>,
    /// Ids at the gateway that are no longer wanted.
    leaving: VecDeque<String>,
    /// Calls without an answer yet.
    under_way: usize,
    /// Those of them that take an endpoint offline.
    unbinding: usize,
}

#[derive(Debug)]
struct Entry {
    spec: Arc<EndpointSpec>,
    /// What the gateway was told last.
    told: Option<Arc<EndpointSpec>>,
    stage: Stage,
    refusals: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// To be bound at this time or later.
    Due(Instant),
    Asked,
    Online,
    /// Online, and a change is under way.
    Patching,
    /// Ended by the gateway or by us; not tried again in this session.
    Ended,
}

/// What to tell the gateway next.
#[derive(Debug)]
pub(super) enum Action {
    /// Take the endpoint with this id offline.
    Unbind(String),
    /// Bring an endpoint online.
    Bind(usize, Box<BindRequest>),
    /// Change one that is online.
    Patch(usize, PatchRequest),
}

impl Entry {
    fn due(spec: Arc<EndpointSpec>, now: Instant) -> Self {
        Self { spec, told: None, stage: Stage::Due(now), refusals: 0 }
    }
}

impl Stage {
    fn is_online(self) -> bool {
        matches!(self, Self::Online | Self::Patching)
    }
}

impl Binds {
    /// All of `specs` are due. Identities of endpoints that are gone, or have another address now, are dropped.
    pub(super) fn new(specs: Vec<EndpointSpec>, resumption: &mut Resumption, now: Instant) -> Self {
        let mut entries = ByNumber::new();
        for spec in specs {
            entries.insert(spec.number, Entry::due(Arc::new(spec), now));
        }
        let stands = |number: usize, bound: &Bound| {
            entries.get(number).is_some_and(|entry| entry.spec.is_same_address(&bound.spec))
        };
        resumption.bound.retain(stands);
        Self { entries, leaving: VecDeque::new(), under_way: 0, unbinding: 0 }
    }

    /// Another list of endpoints, told apart by their numbers. Those that are the same in both are left alone.
    pub(super) fn change(&mut self, specs: Vec<EndpointSpec>, resumption: &mut Resumption, now: Instant) {
        let mut old = std::mem::take(&mut self.entries);
        for spec in specs {
            let number = spec.number;
            let entry = match old.remove(number) {
                None => Entry::due(Arc::new(spec), now),
                Some(entry) if *entry.spec == spec => entry,
                Some(entry) => self.changed(entry, Arc::new(spec), resumption, now),
            };
            self.entries.insert(number, entry);
        }
        for (number, entry) in old {
            let bound = resumption.bound.remove(number);
            self.leaving.extend(bound.filter(|_| entry.stage.is_online()).map(|bound| bound.id));
        }
    }

    fn changed(&mut self, entry: Entry, spec: Arc<EndpointSpec>, resumption: &mut Resumption, now: Instant) -> Entry {
        let number = spec.number;
        let same_address = entry.spec.is_same_address(&spec);
        let bound = if same_address { None } else { resumption.bound.remove(number) };
        match entry.stage {
            // The answer finds that something else is wanted by now.
            Stage::Asked => Entry { spec, ..entry },
            Stage::Online | Stage::Patching if same_address => Entry { spec, ..entry },
            Stage::Online | Stage::Patching => {
                self.leaving.extend(bound.map(|bound| bound.id));
                Entry::due(spec, now)
            }
            // Whoever changed it wants to see it tried.
            Stage::Due(_) | Stage::Ended => Entry::due(spec, now),
        }
    }

    /// The next thing to tell the gateway, unless enough is under way.
    pub(super) fn next(&mut self, resumption: &mut Resumption, now: Instant) -> Option<Action> {
        if self.under_way >= UNDER_WAY_MAX {
            return None;
        }
        let action = self.next_unbind().or_else(|| self.next_patch(resumption, now)).or_else(|| {
            // A change without a way to tell it has just become an unbind.
            self.next_unbind()
        });
        let action = action.or_else(|| self.next_bind(resumption, now))?;
        self.under_way += 1;
        Some(action)
    }

    fn next_unbind(&mut self) -> Option<Action> {
        let id = self.leaving.pop_front()?;
        self.unbinding += 1;
        Some(Action::Unbind(id))
    }

    fn next_patch(&mut self, resumption: &mut Resumption, now: Instant) -> Option<Action> {
        for (number, entry) in self.entries.iter_mut() {
            let told =
                entry.told.as_ref().filter(|told| entry.stage == Stage::Online && !Arc::ptr_eq(told, &entry.spec));
            let (Some(told), Some(bound)) = (told, resumption.bound.get(number)) else { continue };
            let patch = entry.spec.patch(told, &bound.tunnel_id);
            let is_news = patch.is_some();
            entry.told = Some(Arc::clone(&entry.spec));
            if let Some(patch) = patch.filter(|patch| !patch.tunnel_id.is_empty()) {
                entry.stage = Stage::Patching;
                return Some(Action::Patch(number, patch));
            }
            if is_news {
                self.leaving.extend(resumption.bound.remove(number).map(|bound| bound.id));
                entry.stage = Stage::Due(now);
            }
        }
        None
    }

    fn next_bind(&mut self, resumption: &Resumption, now: Instant) -> Option<Action> {
        // It may ask for the address of an endpoint that is on its way out.
        if self.unbinding > 0 {
            return None;
        }
        let is_due = |entry: &Entry| matches!(entry.stage, Stage::Due(at) if at <= now);
        let (number, entry) = self.entries.iter_mut().find(|(_, entry)| is_due(entry))?;
        entry.stage = Stage::Asked;
        entry.told = Some(Arc::clone(&entry.spec));
        Some(Action::Bind(number, Box::new(request(&entry.spec, resumption.bound.get(number)))))
    }

    /// A bind or a change was answered.
    pub(super) fn answered(&mut self) {
        self.under_way = self.under_way.saturating_sub(1);
    }

    /// An unbind was answered.
    pub(super) fn unbound(&mut self) {
        self.unbinding = self.unbinding.saturating_sub(1);
        self.answered();
    }

    pub(super) fn timeout(&self) -> Option<Instant> {
        if self.under_way >= UNDER_WAY_MAX || self.unbinding > 0 {
            return None;
        }
        let due = self.entries.iter().filter_map(|(_, entry)| match entry.stage {
            Stage::Due(at) => Some(at),
            Stage::Asked | Stage::Online | Stage::Patching | Stage::Ended => None,
        });
        due.min()
    }

    /// The gateway accepted; returns the endpoint's address, or nothing when it is no longer wanted.
    pub(super) fn accept(
        &mut self,
        number: usize,
        reply: BindReply,
        resumption: &mut Resumption,
        now: Instant,
    ) -> Option<String> {
        let asked = self.entries.get_mut(number).filter(|entry| entry.stage == Stage::Asked);
        let asked = asked.and_then(|entry| entry.told.clone().map(|told| (entry, told)));
        let Some((entry, told)) = asked else {
            self.leaving.push_back(reply.id);
            return None;
        };
        if !entry.spec.is_same_address(&told) {
            *entry = Entry::due(Arc::clone(&entry.spec), now);
            self.leaving.push_back(reply.id);
            return None;
        }
        (entry.stage, entry.refusals) = (Stage::Online, 0);
        let BindReply { id, url, proto, opts, extra, .. } = reply;
        let bound = Bound { id, token: extra.token, tunnel_id: extra.tunnel_id, proto, opts, spec: told };
        resumption.bound.insert(number, bound);
        Some(url)
    }

    /// The gateway refused: tried again alone, at growing intervals. Returns the wait; nothing when the endpoint is no
    /// longer wanted.
    pub(super) fn refuse(
        &mut self,
        number: usize,
        error: &WireError,
        resumption: &mut Resumption,
        random: &mut Random,
        now: Instant,
    ) -> Option<Duration> {
        let entry = self.entries.get_mut(number).filter(|entry| entry.stage == Stage::Asked)?;
        // An identity that the gateway no longer honours is given up; an address still in use is not about identity.
        if error.code != Some(codes::ENDPOINT_ONLINE) {
            resumption.bound.remove(number);
        }
        if entry.told.as_ref().is_some_and(|told| !Arc::ptr_eq(told, &entry.spec)) {
            *entry = Entry::due(Arc::clone(&entry.spec), now);
            return Some(Duration::ZERO);
        }
        let ceiling = RETRY_MIN.saturating_mul(1 << entry.refusals.min(10)).min(RETRY_MAX);
        entry.refusals = entry.refusals.saturating_add(1);
        // Half of the ceiling at least: a refused bind is no emergency of the network.
        let half = ceiling / 2;
        let share = u32::try_from(random.next() % 1024).unwrap_or(0);
        let wait = half + half * share / 1024;
        entry.stage = now.checked_add(wait).map_or(Stage::Ended, Stage::Due);
        Some(wait)
    }

    /// The gateway took a change over. False when nobody waits for it any more.
    pub(super) fn patched(&mut self, number: usize, resumption: &mut Resumption) -> bool {
        let Some(entry) = self.entries.get_mut(number).filter(|entry| entry.stage == Stage::Patching) else {
            return false;
        };
        entry.stage = Stage::Online;
        // The next session asks for what is in force now.
        if let (Some(bound), Some(told)) = (resumption.bound.get_mut(number), &entry.told) {
            set_traffic_policy(&mut bound.opts, &told.traffic_policy);
            bound.spec = Arc::clone(told);
        }
        true
    }

    /// The gateway refused a change: the endpoint goes offline, and is asked for anew as it is now. What it was must
    /// not stay in force unnoticed.
    pub(super) fn refuse_patch(&mut self, number: usize, resumption: &mut Resumption, now: Instant) -> bool {
        let Some(entry) = self.entries.get_mut(number).filter(|entry| entry.stage == Stage::Patching) else {
            return false;
        };
        *entry = Entry::due(Arc::clone(&entry.spec), now);
        self.leaving.extend(resumption.bound.remove(number).map(|bound| bound.id));
        true
    }

    /// The online endpoint with this id.
    pub(super) fn find(&self, id: &str, resumption: &Resumption) -> Option<usize> {
        let mut bound = resumption.bound.iter().filter(|(_, bound)| bound.id == id).map(|(number, _)| number);
        bound.find(|number| self.entries.get(*number).is_some_and(|entry| entry.stage.is_online()))
    }

    pub(super) fn end(&mut self, number: usize) {
        if let Some(entry) = self.entries.get_mut(number) {
            entry.stage = Stage::Ended;
        }
    }

    /// Ends all and returns the ids that the gateway has to be told.
    pub(super) fn end_all(&mut self, resumption: &Resumption) -> Vec<String> {
        let mut ids: Vec<String> = self.leaving.drain(..).collect();
        for (number, entry) in self.entries.iter_mut() {
            if entry.stage.is_online() {
                ids.extend(resumption.bound.get(number).map(|bound| bound.id.clone()));
            }
            entry.stage = Stage::Ended;
        }
        ids
    }

    pub(super) fn scheme(&self, number: usize) -> Option<Scheme> {
        self.entries.get(number).map(|entry| entry.spec.url.scheme())
    }
}

/// The Bind request: a fresh one, or the one that takes the earlier identity up again.
fn request(spec: &EndpointSpec, bound: Option<&Bound>) -> BindRequest {
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
    if let Some(bound) = bound {
        request.id.clone_from(&bound.id);
        request.proto = bound.proto;
        request.opts = bound.opts.clone();
        if spec.traffic_policy != bound.spec.traffic_policy {
            set_traffic_policy(&mut request.opts, &spec.traffic_policy);
        }
        request.extra.token = bound.token.clone();
    }
    request
}

/// Calls under way at one time: enough to hide the round trip, few enough not to look like a flood.
const UNDER_WAY_MAX: usize = 4;

/// Wait after a first refused bind; it doubles with each further refusal.
const RETRY_MIN: Duration = Duration::from_secs(2);

/// Longest wait between two tries of a refused bind: an operator who mends the gateway sees the endpoint within a
/// minute.
const RETRY_MAX: Duration = Duration::from_secs(60);
