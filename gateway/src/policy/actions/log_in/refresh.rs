//! Asking the provider anew who somebody is, so that nobody who leaves in the middle loses what the provider gave.

use std::sync::Arc;

use tokio::sync::{Mutex, OwnedMutexGuard};

use super::exchange::NoAnswer;
use super::flaw::{Flaw, Wrong};
use super::provider::Provider;
use super::settings::{Client, Wanted};
use crate::login::session::{COOKIE_BYTES_MAX, Identity, Session};
use crate::login::tokens::{Kept, TOKENS_BYTES_MAX};

/// What it takes to ask.
pub(super) struct Refresh {
    pub(super) provider: Arc<Provider>,
    pub(super) client: Arc<Client>,
    pub(super) wanted: Arc<Wanted>,
    /// In seconds since 1970.
    pub(super) now: i64,
    /// How many seconds an answer is good for.
    pub(super) every: i64,
}

impl Refresh {
    /// Brings a session up to date. Whoever waits for another request of the same session may leave; once the provider is
    /// asked, its answer is taken whether or not somebody waits.
    pub(super) async fn run(self, session: &mut Session, kept: Option<Arc<Mutex<Kept>>>) -> Result<(), NoAnswer> {
        let Some(kept) = kept else { return Err(NoAnswer::Expired("its tokens are not kept here any more".into())) };
        let kept = kept.lock_owned().await;
        // Somebody else's request was first, perhaps with the same cookie.
        if let Some((identity, at)) = &kept.refreshed
            && *at > session.asked
            && self.now.saturating_sub(*at) < self.every
        {
            (session.identity, session.asked) = (identity.clone(), *at);
            return Ok(());
        }
        let now = self.now;
        let task = tokio::spawn(self.ask(kept, session.identity.clone()));
        let ended = |_| Err(NoAnswer::Flaw(Flaw::new(Wrong::Own, "the refresh has ended early")));
        (session.identity, session.asked) = (task.await.unwrap_or_else(ended)?, now);
        Ok(())
    }

    async fn ask(self, mut kept: OwnedMutexGuard<Kept>, before: Identity) -> Result<Identity, NoAnswer> {
        let fresh = self.provider.fresh(&kept.tokens, &self.client, self.now).await?;
        if fresh.len() > TOKENS_BYTES_MAX {
            return Err(NoAnswer::Flaw(Flaw::new(Wrong::Provider, "its tokens have grown too large")));
        }
        let is_new = fresh.identity != kept.tokens.identity;
        // At once, whatever else comes: the provider may have taken back those that it was asked with.
        kept.tokens = fresh;
        let to_ask = (&*self.client, &*self.wanted);
        let identity = self.provider.identify((&kept.tokens, is_new), &before, to_ask, self.now).await?;
        if identity.subject != before.subject {
            return Err(NoAnswer::Expired("the provider says that it is somebody else".into()));
        }
        // What fits into no cookie would be kept here, counted by nobody.
        if serde_json::to_vec(&identity).map_or(true, |text| text.len() > COOKIE_BYTES_MAX) {
            return Err(NoAnswer::Flaw(Flaw::new(
                Wrong::Large,
                "what the provider says now does not fit into a cookie",
            )));
        }
        kept.refreshed = Some((identity.clone(), self.now));
        Ok(identity)
    }
}
