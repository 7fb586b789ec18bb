//! The table behind the registry: who is at each address, and who has to yield to whom.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use adit::endpoint_url::{EndpointUrl, Scheme};

use super::names::Names;
use super::{Conflict, Endpoint, EndpointKey};
use crate::http::reach::SessionId;
use crate::identity::{BindId, ClientId, Owner};

#[derive(Debug, Default)]
pub(super) struct Table {
    pub(super) internal: HashMap<Arc<str>, Names<Entry>>,
    pub(super) public: Names<Entry>,
}

/// Everything at one address. Invariant: of one account only, and not empty.
#[derive(Debug, Default)]
pub(super) struct Entry {
    pub(super) members: Vec<Member>,
    /// At most one per owner.
    pub(super) holds: Vec<Hold>,
}

#[derive(Debug)]
pub(super) struct Member {
    pub(super) endpoint: Arc<Endpoint>,
    /// `None` until the agent has confirmed that it knows the Id.
    pub(super) routable_at: Option<Instant>,
}

/// An address kept for an agent that was lost.
#[derive(Debug)]
pub(super) struct Hold {
    pub(super) owner: Owner,
    pub(super) pooled: bool,
    pub(super) until: Instant,
}

impl Table {
    pub(super) fn find(&self, key: &EndpointKey) -> Option<&Entry> {
        if key.url.is_internal() {
            return self.internal.get(&key.account)?.find(&key.url);
        }
        self.public.find(&key.url).filter(|entry| entry.account() == Some(&*key.account))
    }

    pub(super) fn find_mut(&mut self, key: &EndpointKey) -> Option<&mut Entry> {
        if key.url.is_internal() {
            return self.internal.get_mut(&key.account)?.find_mut(&key.url);
        }
        self.public.find_mut(&key.url).filter(|entry| entry.account() == Some(&*key.account))
    }

    /// The place of an address for writing. Whoever calls it for a public one has made sure that no other account has
    /// it, and puts something there.
    pub(super) fn entry(&mut self, key: &EndpointKey) -> &mut Entry {
        if key.url.is_internal() {
            return self.internal.entry(key.account.clone()).or_default().entry(&key.url);
        }
        self.public.entry(&key.url)
    }

    pub(super) fn legs(&self, key: &EndpointKey, client: &ClientId, bind: &BindId) -> impl Iterator<Item = &Member> {
        let members = self.find(key).map_or(&[][..], |entry| &entry.members);
        members.iter().filter(move |member| member.belongs_to(client, bind))
    }

    pub(super) fn take_member(
        &mut self,
        session: SessionId,
        bind: &BindId,
        key: &EndpointKey,
    ) -> Option<Arc<Endpoint>> {
        let entry = self.find_mut(key)?;
        let at = entry.members.iter().position(|member| member.is(session, bind))?;
        Some(entry.members.swap_remove(at).endpoint)
    }

    pub(super) fn drop_hold(&mut self, owner: &Owner, url: &EndpointUrl) {
        let key = EndpointKey { account: owner.account.clone(), url: url.clone() };
        if let Some(entry) = self.find_mut(&key) {
            entry.holds.retain(|hold| hold.owner != *owner);
            self.tidy(&key);
        }
    }

    /// Removes the place of an address when nothing is left there.
    pub(super) fn tidy(&mut self, key: &EndpointKey) {
        let names = if key.url.is_internal() { self.internal.get_mut(&key.account) } else { Some(&mut self.public) };
        let Some(names) = names else { return };
        if names.find(&key.url).is_some_and(|entry| entry.members.is_empty() && entry.holds.is_empty()) {
            names.remove(&key.url);
        }
        if key.url.is_internal() && names.is_empty() {
            self.internal.remove(&key.account);
        }
    }

    /// Decides whether an endpoint may have its address, and who has to yield for it.
    pub(super) fn contest(
        &self,
        wanted: &Endpoint,
        now: Instant,
        is_dead: &dyn Fn(SessionId) -> bool,
    ) -> Result<Vec<(SessionId, BindId)>, Conflict> {
        if !wanted.url.is_internal() && self.is_foreign(wanted, now) {
            return Err(Conflict::Foreign);
        }
        let Some(entry) = self.find(&wanted.key()) else { return Ok(Vec::new()) };
        let mut yielding = Vec::new();
        for Member { endpoint: other, .. } in &entry.members {
            let same_agent = other.client == wanted.client;
            let same_endpoint = same_agent && other.bind == wanted.bind;
            if same_endpoint && other.session == wanted.session {
                continue;
            }
            let is_older_self = same_agent && other.leg == wanted.leg && other.session != wanted.session;
            if is_older_self || is_dead(other.session) {
                yielding.push((other.session, other.bind.clone()));
                continue;
            }
            let shares = other.pooled && wanted.pooled && other.url == wanted.url;
            if !same_endpoint && !shares {
                return Err(Conflict::Taken { credential: other.owner.credential.clone(), session: other.session });
            }
        }
        let mut holds = entry.holds.iter().filter(|hold| hold.owner != wanted.owner && hold.until > now);
        if let Some(hold) = holds.find(|hold| !(hold.pooled && wanted.pooled)) {
            let remaining = hold.until.saturating_duration_since(now);
            return Err(Conflict::Held { credential: hold.owner.credential.clone(), remaining });
        }
        Ok(yielding)
    }

    /// Whether another account stands in the way of a public name, also by a dead session: accounts do not evict each
    /// other.
    fn is_foreign(&self, wanted: &Endpoint, now: Instant) -> bool {
        let account = &*wanted.owner.account;
        let is_other = |entry: &Entry| {
            let live = !entry.members.is_empty() || entry.holds.iter().any(|hold| hold.until > now);
            live && entry.account() != Some(account)
        };
        if wanted.url.scheme() == Scheme::Tcp {
            return self.public.find(&wanted.url).is_some_and(is_other);
        }
        self.public.meeting(&wanted.url).any(is_other)
    }
}

impl Entry {
    fn account(&self) -> Option<&str> {
        let member = self.members.first().map(|member| &member.endpoint.owner);
        member.or(self.holds.first().map(|hold| &hold.owner)).map(|owner| &*owner.account)
    }

    /// A member that is routable; if there is none, one that may become so: its visitor waits for that. One that is held
    /// back only refuses, so it is drawn when there is no other.
    pub(super) fn draw(&self, now: Instant, random: u64) -> Option<Arc<Endpoint>> {
        let serves = |member: &&Member| !member.endpoint.policy.as_ref().is_some_and(|policy| policy.is_held());
        let routable = |member: &&Member| member.routable_at.is_some_and(|at| at <= now);
        self.draw_from(|member| serves(member) && routable(member), random)
            .or_else(|| self.draw_from(serves, random))
            .or_else(|| self.draw_from(routable, random))
            .or_else(|| self.draw_from(|_| true, random))
    }

    fn draw_from(&self, fits: impl Fn(&&Member) -> bool, random: u64) -> Option<Arc<Endpoint>> {
        let fitting = || self.members.iter().filter(&fits);
        let count = u64::try_from(fitting().count()).ok().filter(|count| *count > 0)?;
        let at = usize::try_from(random % count).ok()?;
        fitting().nth(at).map(|member| member.endpoint.clone())
    }
}

impl Member {
    pub(super) fn is(&self, session: SessionId, bind: &BindId) -> bool {
        self.endpoint.session == session && self.endpoint.bind == *bind
    }

    pub(super) fn belongs_to(&self, client: &ClientId, bind: &BindId) -> bool {
        self.endpoint.client == *client && self.endpoint.bind == *bind
    }
}
