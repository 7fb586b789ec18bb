//! Where the description of an identity provider comes from: the policy, a file, or an address that is asked again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::header::ACCEPT;
use http::{HeaderMap, HeaderValue, StatusCode, Uri};
use time::OffsetDateTime;
use tokio::time::Instant;

use super::super::super::jwt_validation::fetch::{self, Asking, Reach};
use super::super::flaw::{Flaw, Wrong};
use super::work::WORK;
use crate::login::saml::metadata::Metadata;

/// Where the description of a provider comes from.
#[derive(Debug)]
pub(super) enum Description {
    Fixed(Arc<Metadata>),
    Fetched(Arc<Fetched>),
}

/// A description at an address.
#[derive(Debug)]
pub(super) struct Fetched {
    url: Box<str>,
    uri: Uri,
    state: Mutex<State>,
    /// Held by the one that fetches.
    fetching: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    found: Option<Arc<Metadata>>,
    fetched: Option<Instant>,
    tried: Option<Instant>,
    failure: String,
}

impl Description {
    /// Reads the address of a description.
    pub(super) fn at(url: &str) -> Result<Self, &'static str> {
        let uri = fetch::check(url, Reach::Anywhere)?;
        let (state, fetching) = (Mutex::default(), tokio::sync::Mutex::default());
        Ok(Self::Fetched(Arc::new(Fetched { url: url.into(), uri, state, fetching })))
    }

    pub(super) fn url(&self) -> Option<&str> {
        match self {
            Self::Fixed(_) => None,
            Self::Fetched(fetched) => Some(&fetched.url),
        }
    }

    /// What tells the provider apart from all others. Its keys may change.
    pub(super) fn identity(&self) -> String {
        match self {
            Self::Fixed(metadata) => format!("entity {}", metadata.entity_id),
            Self::Fetched(fetched) => format!("url {}", fetched.url),
        }
    }

    /// The description, fetched if there is none or if it is old. While it cannot be had anew, the one that was fetched
    /// last stays in use as long as it says that it is valid.
    pub(super) async fn metadata(&self, now: i64) -> Result<Arc<Metadata>, Flaw> {
        let (metadata, place) = match self {
            Self::Fixed(metadata) => (Ok(Arc::clone(metadata)), "the policy"),
            Self::Fetched(fetched) => (fetched.metadata(now).await, &*fetched.url),
        };
        let metadata = metadata.map_err(|failure| Flaw::new(Wrong::Metadata, format!("{place}: {failure}")))?;
        if metadata.valid_until.is_some_and(|until| until <= now) {
            return Err(Flaw::new(Wrong::Metadata, format!("{place}: it is out of date (validUntil)")));
        }
        Ok(metadata)
    }
}

impl Fetched {
    /// `unix` is the time in seconds since 1970, by which a description may be out of date before it is old.
    async fn metadata(self: &Arc<Self>, unix: i64) -> Result<Arc<Metadata>, String> {
        let now = Instant::now();
        let (found, is_fresh, may_try) = {
            let state = self.state();
            (state.found.clone(), state.is_fresh(now, unix), state.may_try(now))
        };
        if let Some(found) = found.filter(|_| is_fresh || !may_try) {
            return Ok(found);
        }
        // Apart from this request: a visitor who leaves must not take the fetch for all others along.
        let fetched = Arc::clone(self);
        let _ = tokio::spawn(async move { fetched.refresh(unix).await }).await;
        let state = self.state();
        state.found.clone().ok_or_else(|| state.failure.clone())
    }

    async fn refresh(&self, unix: i64) {
        let _one_at_a_time = self.fetching.lock().await;
        {
            let now = Instant::now();
            let mut state = self.state();
            if state.is_fresh(now, unix) || !state.may_try(now) {
                return;
            }
            state.tried = Some(now);
        }
        let read = self.fetch().await;
        let mut state = self.state();
        match read {
            Ok(found) => {
                state.found = Some(Arc::new(found));
                state.fetched = Some(Instant::now());
            }
            Err(failure) => {
                tracing::warn!(url = %self.url, "the metadata of an identity provider cannot be had: {failure}");
                state.failure = failure;
            }
        }
    }

    async fn fetch(&self) -> Result<Metadata, String> {
        let accept = HeaderValue::from_static("application/samlmetadata+xml, application/xml, text/xml, */*");
        let asking = Asking { headers: HeaderMap::from_iter([(ACCEPT, accept)]), ..Asking::default() };
        match fetch::send(&self.uri, Reach::Anywhere, asking).await? {
            (StatusCode::OK, body) => {
                let reading = move || Metadata::read(&body, OffsetDateTime::now_utc().unix_timestamp());
                WORK.run(reading).await.map_err(|flaw| flaw.reason)?
            }
            (status, _) => Err(format!("the answer has status {}", status.as_u16())),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_fresh(&self, now: Instant, unix: i64) -> bool {
        let is_valid = self.found.as_ref().is_some_and(|found| found.valid_until.is_none_or(|until| until > unix));
        is_valid && self.fetched.is_some_and(|fetched| now.saturating_duration_since(fetched) < FRESH)
    }

    fn may_try(&self, now: Instant) -> bool {
        self.tried.is_none_or(|tried| now.saturating_duration_since(tried) >= RETRY)
    }
}

/// A provider publishes its next key long before it uses it.
const FRESH: Duration = Duration::from_secs(15 * 60);
/// Between two attempts, whoever asks.
const RETRY: Duration = Duration::from_secs(5);
