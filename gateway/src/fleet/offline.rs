//! Which sites are offline, and which of them is forgotten first.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::events::Site as SiteKey;

/// Sites without a session in the order in which they went, of each credential.
#[derive(Debug, Default)]
pub(super) struct Offline {
    /// By the number of their departure. Invariant: nothing is kept for none.
    credentials: BTreeMap<Credential, BTreeMap<u64, SiteKey>>,
    /// The credential that has most is the last one; of those that have as many, the one whose site went first.
    /// Invariant: one for each of `credentials`.
    ranks: BTreeSet<(usize, Reverse<u64>, Credential)>,
    count: usize,
}

/// An account and a credential of it.
type Credential = (Arc<str>, Arc<str>);

impl Offline {
    pub(super) fn insert(&mut self, departure: u64, key: SiteKey) {
        self.change(&credential_of(&key), |sites| sites.insert(departure, key).is_none());
        self.count += 1;
    }

    pub(super) fn remove(&mut self, departure: u64, key: &SiteKey) {
        if self.change(&credential_of(key), |sites| sites.remove(&departure).is_some()) {
            self.count -= 1;
        }
    }

    /// Takes out the site that went first of the credential that has most, so that one credential whose agents make up
    /// instances pushes out only its own.
    pub(super) fn pop(&mut self) -> Option<SiteKey> {
        let (_, Reverse(departure), credential) = self.ranks.last()?.clone();
        let mut popped = None;
        self.change(&credential, |sites| {
            popped = sites.remove(&departure);
            popped.is_some()
        });
        self.count -= usize::from(popped.is_some());
        popped
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    fn change(&mut self, credential: &Credential, change: impl FnOnce(&mut BTreeMap<u64, SiteKey>) -> bool) -> bool {
        let sites = self.credentials.entry(credential.clone()).or_default();
        if let Some(rank) = rank(credential, sites) {
            self.ranks.remove(&rank);
        }
        let has_changed = change(sites);
        match rank(credential, sites) {
            Some(rank) => drop(self.ranks.insert(rank)),
            None => drop(self.credentials.remove(credential)),
        }
        has_changed
    }
}

fn rank(credential: &Credential, sites: &BTreeMap<u64, SiteKey>) -> Option<(usize, Reverse<u64>, Credential)> {
    let (first, _) = sites.first_key_value()?;
    Some((sites.len(), Reverse(*first), credential.clone()))
}

fn credential_of(key: &SiteKey) -> Credential {
    (Arc::clone(&key.account), Arc::clone(&key.credential))
}
