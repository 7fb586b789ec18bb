//! What stands at the addresses, for people who look.

use std::sync::Arc;
use std::time::Instant;

use adit::endpoint_url::EndpointUrl;

use super::{Endpoint, EndpointKey, Registry};
use crate::http::reach::SessionId;
use crate::identity::Owner;

impl Registry {
    /// Everything that a session has bound, and since when it has been routable.
    pub(crate) fn members(&self, session: SessionId) -> impl Iterator<Item = (&Arc<Endpoint>, Option<Instant>)> {
        let binds = self.bound.get(&session).into_iter().flatten();
        binds.filter_map(move |(bind, key)| {
            let member = self.table.find(key)?.members.iter().find(|member| member.is(session, bind))?;
            Some((&member.endpoint, member.routable_at))
        })
    }

    /// Addresses that are kept for agents which were lost, for whom, and until when.
    pub(crate) fn kept(&self, now: Instant) -> impl Iterator<Item = (&EndpointUrl, &Owner, Instant)> {
        self.holds.iter().filter_map(move |(until, owner, url)| {
            let key = EndpointKey { account: owner.account.clone(), url: url.clone() };
            let holds = &self.table.find(&key)?.holds;
            // Others were used since, or are newer.
            let is_held = holds.iter().any(|hold| hold.owner == *owner && hold.until == *until && *until > now);
            is_held.then_some((url, owner, *until))
        })
    }
}
