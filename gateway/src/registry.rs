//! Which endpoints are online, by (account, scheme, host, port), and where.
//!
//! The registry holds plain data: its answers name a gateway, a session and a bind, never a pointer to one. It reads no
//! clock and draws no numbers: both are handed in. Internal names belong to an account, so two accounts can both have
//! `db.internal`; a public name belongs to whoever has it, and no other account gets it, nor a name below its wildcard.

mod look;
pub(crate) mod names;
mod table;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use adit::endpoint_url::{EndpointUrl, Scheme};
use adit::proxy_protocol::ProxyProtocol;

use crate::bounded::Bounded;
use crate::http::reach::{GatewayId, Location, SessionId, Target};
use crate::identity::{BindId, ClientId, Owner};
use crate::policy::Policy;
use table::{Entry, Hold, Member, Table};

/// The address of an endpoint within its account.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointKey {
    /// The account's name.
    pub account: Arc<str>,
    /// Scheme, host and port.
    pub url: EndpointUrl,
}

/// One endpoint as one session has bound it.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Its address.
    pub url: EndpointUrl,
    /// The account and credential that bound it.
    pub owner: Owner,
    /// The agent's identity, the same across reconnects and on all its parallel connections.
    pub client: ClientId,
    /// Which of the agent's parallel connections it is bound on.
    pub leg: u32,
    /// The session that it is bound on.
    pub session: SessionId,
    /// Its Id within the agent.
    pub bind: BindId,
    /// Whether it shares its address with others that say so too.
    pub pooled: bool,
    /// What it forwards to, in the agent's words.
    pub forwards_to: Arc<str>,
    /// The application protocol its upstream wants: empty, `http1` or `http2`.
    pub forwards_proto: Arc<str>,
    /// The kind of client that the agent is.
    pub client_type: Arc<str>,
    /// The PROXY header that its upstream wants, and that the gateway writes.
    pub proxy_protocol: ProxyProtocol,
    /// The policy that came with the Bind.
    pub policy: Option<Arc<Policy>>,
    /// The agent's name for it.
    pub name: Arc<str>,
    /// The agent's description of it.
    pub description: Arc<str>,
    /// The agent's metadata for it.
    pub metadata: Arc<str>,
}

/// Values that an agent changed after the Bind. They outlive the session, because agents rebind with the old ones.
#[derive(Clone, Debug, Default)]
pub struct Patch {
    /// A new name.
    pub name: Option<Arc<str>>,
    /// A new description.
    pub description: Option<Arc<str>>,
    /// New metadata.
    pub metadata: Option<Arc<str>>,
    /// Whether it shares its address from now on.
    pub pooled: Option<bool>,
    /// A new policy; the inner `None` removes the old one.
    pub policy: Option<Option<Arc<Policy>>>,
}

/// A patch and the address that it was made for: its policy means nothing at another one.
#[derive(Debug, Default)]
struct Patched {
    url: Option<EndpointUrl>,
    patch: Patch,
}

/// What a successful [`Registry::bind`] did.
#[derive(Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Bound {
    /// Sessions that stood in the way and must be closed: older connections of the same agent, and dead ones.
    pub evicted: Vec<SessionId>,
    /// The operator has stopped this endpoint: the agent hears success, but nothing is routed to it.
    pub stopped: bool,
}

/// Why an address is not to be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Conflict {
    /// Somebody of the same account has it, and not all share it.
    Taken {
        /// The credential that has it.
        credential: Arc<str>,
        /// The session that has it.
        session: SessionId,
    },
    /// An agent of the same account had it a moment ago and is given time to come back.
    Held {
        /// The credential that had it.
        credential: Arc<str>,
        /// How long it is still kept.
        remaining: Duration,
    },
    /// Another account has the public name, or one that covers it or lies below it.
    Foreign,
}

/// An endpoint that answers for a name.
#[derive(Clone, Debug)]
pub struct Match {
    /// The endpoint, drawn from those that share the address.
    pub endpoint: Arc<Endpoint>,
    /// Compares matches: exact names above wildcards, longer wildcards above shorter ones.
    pub specificity: usize,
}

/// All endpoints that are bound on this gateway.
#[derive(Debug)]
pub struct Registry {
    table: Table,
    /// What each session has bound. Invariant: agrees with the members in `table`.
    bound: HashMap<SessionId, BTreeMap<BindId, EndpointKey>>,
    /// Every hold that was placed and has not run out, in the order of placing; used ones stay until then.
    holds: VecDeque<(Instant, Owner, EndpointUrl)>,
    /// How many of `holds` each owner has. Invariant: no zeros.
    held: HashMap<Owner, usize>,
    stopped: Bounded<(ClientId, BindId), ()>,
    patches: HashMap<Owner, Bounded<(ClientId, BindId), Patched>>,
}

impl Default for Registry {
    fn default() -> Self {
        Self::new()
    }
}

impl Registry {
    /// An empty registry.
    #[must_use]
    pub fn new() -> Self {
        Self {
            table: Table::default(),
            bound: HashMap::new(),
            holds: VecDeque::new(),
            held: HashMap::new(),
            stopped: Bounded::new(STOPPED_MAX),
            patches: HashMap::new(),
        }
    }

    /// Takes an address for an endpoint, which is not routable before [`Registry::confirm`].
    ///
    /// `is_dead` tells of a session whether it is past its liveness deadline. Binding an Id again on the same session
    /// replaces the earlier bind, also when the address differs. What the agent had patched is restored. The caller has
    /// to close the sessions in [`Bound::evicted`] and to report them as [`Registry::lost`].
    ///
    /// # Errors
    ///
    /// [`Conflict`]; nothing has changed then.
    pub fn bind(
        &mut self,
        mut endpoint: Endpoint,
        now: Instant,
        is_dead: &dyn Fn(SessionId) -> bool,
    ) -> Result<Bound, Conflict> {
        self.expire(now);
        let identity = (endpoint.client.clone(), endpoint.bind.clone());
        if self.stopped.find(&identity).is_some() {
            return Ok(Bound { evicted: Vec::new(), stopped: true });
        }
        let patched = self.patches.get(&endpoint.owner).and_then(|patches| patches.find(&identity));
        if let Some(patched) = patched.filter(|patched| patched.url.as_ref() == Some(&endpoint.url)) {
            patched.patch.apply(&mut endpoint);
        }
        let yielding = self.table.contest(&endpoint, now, is_dead)?;

        self.drop_member(endpoint.session, &endpoint.bind);
        for (session, bind) in &yielding {
            self.drop_member(*session, bind);
        }
        let mut evicted: Vec<_> = yielding.into_iter().map(|(session, _)| session).collect();
        evicted.sort_unstable();
        evicted.dedup();
        let key = endpoint.key();
        let entry = self.table.entry(&key);
        entry.holds.retain(|hold| hold.owner != endpoint.owner);
        self.bound.entry(endpoint.session).or_default().insert(endpoint.bind.clone(), key);
        entry.members.push(Member { endpoint: Arc::new(endpoint), routable_at: None });
        Ok(Bound { evicted, stopped: false })
    }

    /// Makes an endpoint routable from `at` on: its agent has read the answer to its Bind.
    pub fn confirm(&mut self, session: SessionId, bind: &BindId, at: Instant) {
        let Some(key) = self.key(session, bind) else { return };
        let Some(entry) = self.table.find_mut(&key) else { return };
        if let Some(member) = entry.members.iter_mut().find(|member| member.is(session, bind)) {
            member.routable_at.get_or_insert(at);
        }
    }

    /// When the endpoint became or becomes routable, if it does at all.
    #[must_use]
    pub fn routable_at(&self, session: SessionId, bind: &BindId) -> Option<Instant> {
        let entry = self.table.find(&self.key(session, bind)?)?;
        entry.members.iter().find(|member| member.is(session, bind))?.routable_at
    }

    /// Gives back an endpoint on all connections of its agent, with everything remembered of it. Unknown Ids are
    /// ignored. Tells whether there was one.
    pub fn unbind(&mut self, owner: &Owner, client: &ClientId, session: SessionId, bind: &BindId) -> bool {
        let identity = (client.clone(), bind.clone());
        self.stopped.remove(&identity);
        self.forget_patch(owner, client, bind);
        let Some(key) = self.key(session, bind) else { return false };
        let legs: Vec<_> = self.table.legs(&key, client, bind).map(|member| member.endpoint.session).collect();
        for leg in &legs {
            self.drop_member(*leg, bind);
        }
        !legs.is_empty()
    }

    /// Forgets what an agent had patched of an endpoint: its next Bind says what holds.
    pub fn forget_patch(&mut self, owner: &Owner, client: &ClientId, bind: &BindId) {
        let Some(patches) = self.patches.get_mut(owner) else { return };
        patches.remove(&(client.clone(), bind.clone()));
        if patches.is_empty() {
            self.patches.remove(owner);
        }
    }

    /// Gives back everything that a session had bound, and keeps the addresses for its credential until `hold` has
    /// passed.
    pub fn lost(&mut self, session: SessionId, now: Instant, hold: Duration) {
        self.expire(now);
        for (bind, key) in self.bound.remove(&session).unwrap_or_default() {
            let Some(endpoint) = self.table.take_member(session, &bind, &key) else { continue };
            self.hold(&endpoint, now, hold);
            self.table.tidy(&key);
        }
    }

    /// Forgets what is kept for credentials that exist no more, or allow less than they did: addresses and patches.
    pub fn forget(&mut self, is_gone: impl Fn(&Owner) -> bool) {
        self.patches.retain(|owner, _| !is_gone(owner));
        self.held.retain(|owner, _| !is_gone(owner));
        for (until, owner, url) in std::mem::take(&mut self.holds) {
            if is_gone(&owner) {
                self.table.drop_hold(&owner, &url);
            } else {
                self.holds.push_back((until, owner, url));
            }
        }
    }

    /// Drops holds that have run out. The other calls do it too; this one is for quiet times.
    pub fn expire(&mut self, now: Instant) {
        while self.holds.front().is_some_and(|(until, ..)| *until <= now) {
            let Some((_, owner, url)) = self.holds.pop_front() else { return };
            if let Some(held) = self.held.get_mut(&owner) {
                *held = held.saturating_sub(1);
                if *held == 0 {
                    self.held.remove(&owner);
                }
            }
            // A newer hold of the same owner has its own place in the queue.
            let key = EndpointKey { account: owner.account.clone(), url };
            if let Some(entry) = self.table.find_mut(&key) {
                entry.holds.retain(|hold| hold.owner != owner || hold.until > now);
                self.table.tidy(&key);
            }
        }
    }

    /// Stops an endpoint for good: it is given back, and when its agent binds it again it hears success but gets no
    /// traffic, until it unbinds it. Gives the sessions that had it and are to be told. When more than
    /// [`STOPPED_MAX`] are stopped, the oldest are forgotten.
    pub fn stop(&mut self, owner: &Owner, url: &EndpointUrl) -> Vec<(SessionId, BindId)> {
        let key = EndpointKey { account: owner.account.clone(), url: url.clone() };
        let members = self.table.find(&key).map_or(&[][..], |entry| &entry.members);
        let members = members.iter().filter(|member| member.endpoint.owner == *owner);
        let endpoints: Vec<_> = members.map(|member| member.endpoint.clone()).collect();
        for endpoint in &endpoints {
            self.stopped.entry((endpoint.client.clone(), endpoint.bind.clone()));
            self.drop_member(endpoint.session, &endpoint.bind);
        }
        endpoints.iter().map(|endpoint| (endpoint.session, endpoint.bind.clone())).collect()
    }

    /// Changes values of an endpoint, on all connections of its agent, now and whenever it is bound again. Tells
    /// whether there is one.
    pub fn patch(&mut self, session: SessionId, bind: &BindId, patch: &Patch) -> bool {
        let Some(key) = self.key(session, bind) else { return false };
        let Some(entry) = self.table.find_mut(&key) else { return false };
        let Some(member) = entry.members.iter().find(|member| member.is(session, bind)) else { return false };
        let Endpoint { owner, client, .. } = member.endpoint.as_ref().clone();
        for member in entry.members.iter_mut().filter(|member| member.belongs_to(&client, bind)) {
            patch.apply(Arc::make_mut(&mut member.endpoint));
        }
        let patches = self.patches.entry(owner).or_insert_with(|| Bounded::new(PATCHES_PER_CREDENTIAL_MAX));
        let patched = patches.entry((client, bind.clone()));
        if patched.url.as_ref() != Some(&key.url) {
            *patched = Patched { url: Some(key.url), patch: Patch::default() };
        }
        patched.patch.merge(patch);
        true
    }

    /// Finds who answers for an internal URL of an account; `random` draws one of a pool.
    #[must_use]
    pub fn internal(&self, account: &str, url: &EndpointUrl, now: Instant, random: u64) -> Option<Match> {
        let names = self.table.internal.get(account)?;
        let draw = |entry: &Entry| entry.draw(now, random);
        let (specificity, endpoint) = names.most_specific(url.scheme(), url.host(), url.port(), draw)?;
        Some(Match { endpoint, specificity })
    }

    /// Finds who answers for a name on a public listener; `random` draws one of a pool. An endpoint whose URL names no
    /// port is served on every listener of its scheme. TCP goes by the port alone.
    #[must_use]
    pub fn public(&self, scheme: Scheme, host: &str, port: u16, now: Instant, random: u64) -> Option<Match> {
        let draw = |entry: &Entry| entry.draw(now, random);
        let (specificity, endpoint) = self.table.public.public(scheme, host, port, draw)?;
        Some(Match { endpoint, specificity })
    }

    /// An endpoint by the session that has bound it and its Id there.
    #[must_use]
    pub fn endpoint(&self, session: SessionId, bind: &BindId) -> Option<&Arc<Endpoint>> {
        let entry = self.table.find(&self.key(session, bind)?)?;
        entry.members.iter().find(|member| member.is(session, bind)).map(|member| &member.endpoint)
    }

    /// Whether a public TCP endpoint has this port, or is given time to come back to it.
    #[must_use]
    pub fn has_tcp_port(&self, port: u16) -> bool {
        self.table.public.has_tcp_port(port)
    }

    /// Whether anybody has the public address, or is given time to come back to it.
    #[must_use]
    pub fn is_taken(&self, url: &EndpointUrl) -> bool {
        self.table.public.find(url).is_some()
    }

    /// Whether somebody serves this address now: who has bound it and is not held back.
    #[must_use]
    pub fn is_served(&self, key: &EndpointKey) -> bool {
        let members = self.table.find(key).map_or(&[][..], |entry| &entry.members);
        members.iter().any(|member| !member.endpoint.policy.as_ref().is_some_and(|policy| policy.is_held()))
    }

    /// How many endpoints a session has bound.
    #[must_use]
    pub fn count(&self, session: SessionId) -> usize {
        self.bound.get(&session).map_or(0, BTreeMap::len)
    }

    /// How many endpoints all sessions have bound.
    #[must_use]
    pub fn bound_count(&self) -> usize {
        self.bound.values().map(BTreeMap::len).sum()
    }

    /// Everything that a session has bound.
    pub fn endpoints(&self, session: SessionId) -> impl Iterator<Item = &Arc<Endpoint>> {
        let binds = self.bound.get(&session).into_iter().flatten();
        binds.filter_map(move |(bind, key)| {
            let member = self.table.find(key)?.members.iter().find(|member| member.is(session, bind))?;
            Some(&member.endpoint)
        })
    }

    /// Everything that is bound in public.
    pub fn public_endpoints(&self) -> impl Iterator<Item = &Arc<Endpoint>> {
        let endpoints = self.bound.keys().flat_map(|session| self.endpoints(*session));
        endpoints.filter(|endpoint| !endpoint.url.is_internal())
    }

    fn key(&self, session: SessionId, bind: &BindId) -> Option<EndpointKey> {
        self.bound.get(&session)?.get(bind).cloned()
    }

    fn hold(&mut self, endpoint: &Endpoint, now: Instant, hold: Duration) {
        let owner = &endpoint.owner;
        let held = self.held.get(owner).copied().unwrap_or_default();
        let Some(until) = now.checked_add(hold).filter(|until| *until > now) else { return };
        if held >= HOLDS_PER_CREDENTIAL_MAX {
            return;
        }
        self.held.insert(owner.clone(), held + 1);
        self.holds.push_back((until, owner.clone(), endpoint.url.clone()));
        let entry = self.table.entry(&endpoint.key());
        entry.holds.retain(|hold| hold.owner != *owner);
        entry.holds.push(Hold { owner: owner.clone(), pooled: endpoint.pooled, until });
    }

    fn drop_member(&mut self, session: SessionId, bind: &BindId) {
        let Some(binds) = self.bound.get_mut(&session) else { return };
        let Some(key) = binds.remove(bind) else { return };
        if binds.is_empty() {
            self.bound.remove(&session);
        }
        self.table.take_member(session, bind, &key);
        self.table.tidy(&key);
    }
}

impl Endpoint {
    /// Its key.
    #[must_use]
    pub fn key(&self) -> EndpointKey {
        EndpointKey { account: self.owner.account.clone(), url: self.url.clone() }
    }

    /// What is needed to send a visitor there.
    #[must_use]
    pub fn target(&self) -> Target {
        Target {
            location: Location { gateway: GatewayId::Local, session: self.session, bind: self.bind.shared() },
            url: self.url.clone(),
            account: self.owner.account.clone(),
            forwards_to: self.forwards_to.clone(),
            forwards_proto: self.forwards_proto.clone(),
            client_type: self.client_type.clone(),
            policy: self.policy.clone(),
        }
    }
}

impl Patch {
    fn apply(&self, endpoint: &mut Endpoint) {
        let Self { name, description, metadata, pooled, policy } = self.clone();
        endpoint.name = name.unwrap_or_else(|| endpoint.name.clone());
        endpoint.description = description.unwrap_or_else(|| endpoint.description.clone());
        endpoint.metadata = metadata.unwrap_or_else(|| endpoint.metadata.clone());
        endpoint.pooled = pooled.unwrap_or(endpoint.pooled);
        // Modules, and what an endpoint is held back for, are not for a patch to take away.
        if !endpoint.policy.as_ref().is_some_and(|policy| policy.holds_more()) {
            endpoint.policy = policy.unwrap_or_else(|| endpoint.policy.clone());
        }
    }

    fn merge(&mut self, newer: &Self) {
        let Self { name, description, metadata, pooled, policy } = newer.clone();
        self.name = name.or(self.name.take());
        self.description = description.or(self.description.take());
        self.metadata = metadata.or(self.metadata.take());
        self.pooled = pooled.or(self.pooled);
        self.policy = policy.or(self.policy.take());
    }
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Taken { credential, .. } => write!(
                f,
                "the endpoint is already online through credential '{credential}'; to share the address, all that \
                 serve it must set pooling_enabled"
            ),
            Self::Held { credential, remaining } => write!(
                f,
                "the endpoint was online through credential '{credential}' until a moment ago and is kept for it; try \
                 again in {} s",
                remaining.as_secs().saturating_add(1)
            ),
            Self::Foreign => f.write_str("this public name, or one that covers it, belongs to another account here"),
        }
    }
}

impl std::error::Error for Conflict {}

/// Stopped endpoints remembered. They are made by hand, so this many means that nobody will miss the oldest.
pub const STOPPED_MAX: usize = 4096;
/// Addresses kept for lost agents of one credential: eight for each of 500 sites that share it, or twenty sessions with
/// all the endpoints that one may have by default. Beyond it addresses are simply free at once.
const HOLDS_PER_CREDENTIAL_MAX: usize = 4096;
/// Endpoints of one credential whose patched values are remembered. A patch is some hundred bytes, or a policy.
const PATCHES_PER_CREDENTIAL_MAX: usize = 256;
