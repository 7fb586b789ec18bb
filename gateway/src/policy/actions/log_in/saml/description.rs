//! Where the description of an identity provider comes from: the policy, a file, or an address that is asked again.

use std::sync::Arc;
use std::time::Duration;

use http::header::ACCEPT;
use http::{HeaderMap, HeaderValue, StatusCode, Uri};
use time::OffsetDateTime;

use super::super::super::fetched::{Fetched, Known, Times};
use super::super::super::jwt_validation::fetch::{self, Asking, Reach};
use super::super::flaw::{Flaw, Wrong};
use super::work::WORK;
use crate::login::saml::metadata::Metadata;

/// Where the description of a provider comes from.
#[derive(Debug)]
pub(super) enum Description {
    Fixed(Arc<Metadata>),
    Remote(Arc<Remote>),
}

/// A description at an address.
#[derive(Debug)]
pub(super) struct Remote {
    url: Box<str>,
    uri: Uri,
    described: Fetched<Metadata, String>,
}

impl Description {
    /// Reads the address of a description.
    pub(super) fn at(url: &str) -> Result<Self, &'static str> {
        let uri = fetch::check(url, Reach::Anywhere)?;
        Ok(Self::Remote(Arc::new(Remote { url: url.into(), uri, described: Fetched::new(TIMES) })))
    }

    pub(super) fn url(&self) -> Option<&str> {
        match self {
            Self::Fixed(_) => None,
            Self::Remote(remote) => Some(&remote.url),
        }
    }

    /// What tells the provider apart from all others. Its keys may change.
    pub(super) fn identity(&self) -> String {
        match self {
            Self::Fixed(metadata) => format!("entity {}", metadata.entity_id),
            Self::Remote(remote) => format!("url {}", remote.url),
        }
    }

    /// The description, fetched if there is none or if it is old. While it cannot be had anew, the one that was fetched
    /// last stays in use as long as it says that it is valid.
    pub(super) async fn metadata(&self, now: i64) -> Result<Arc<Metadata>, Flaw> {
        let (metadata, place) = match self {
            Self::Fixed(metadata) => (Ok(Arc::clone(metadata)), "the policy"),
            Self::Remote(remote) => (remote.metadata(now).await, &*remote.url),
        };
        let metadata = metadata.map_err(|failure| Flaw::new(Wrong::Metadata, format!("{place}: {failure}")))?;
        if metadata.valid_until.is_some_and(|until| until <= now) {
            return Err(Flaw::new(Wrong::Metadata, format!("{place}: it is out of date (validUntil)")));
        }
        Ok(metadata)
    }
}

impl Remote {
    /// `unix` is the time in seconds since 1970, by which a description may be out of date before it is old.
    async fn metadata(self: &Arc<Self>, unix: i64) -> Result<Arc<Metadata>, String> {
        let known = self.described.known();
        let is_good = is_good(&known, unix);
        if let Some(found) = known.found.filter(|_| is_good || !known.may_try) {
            return Ok(found);
        }
        // Apart from this request: a visitor who leaves must not take the fetch for all others along.
        let remote = Arc::clone(self);
        let _ = tokio::spawn(async move { remote.refresh(unix).await }).await;
        self.described.outcome().map_err(|failure| failure.unwrap_or_else(|| "it was not fetched".to_owned()))
    }

    async fn refresh(&self, unix: i64) {
        let fetch = async {
            self.fetch().await.inspect_err(|failure| {
                tracing::warn!(url = %self.url, "the metadata of an identity provider cannot be had: {failure}");
            })
        };
        self.described.refresh(|known| !is_good(known, unix), fetch).await;
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
}

fn is_good(known: &Known<Metadata>, unix: i64) -> bool {
    let is_valid = |found: &Arc<Metadata>| found.valid_until.is_none_or(|until| until > unix);
    known.is_fresh && known.found.as_ref().is_some_and(is_valid)
}

/// A provider publishes its next key long before it uses it.
const TIMES: Times = Times { fresh: Duration::from_secs(15 * 60), retry: Duration::from_secs(5) };
