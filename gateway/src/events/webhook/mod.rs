//! The webhook: each event is sent to one address, signed, in order, and again until it is taken.
//!
//! What waits is bounded, in number and in age. What is lost is counted, and told with the next event that arrives.

mod post;
mod queue;
pub mod sign;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use rustls::ClientConfig;
use serde_json::json;

use super::event::{Event, Kind, rfc3339};
pub(super) use post::{Answer, post};
pub(super) use queue::{Next, Queue};
use sign::SigningKeys;

/// Where events are sent.
#[derive(Clone)]
pub struct Webhook {
    /// `https://`, or `http://` at this machine.
    pub url: Uri,
    /// What signs.
    pub keys: SigningKeys,
    /// From the look-up of the host to the last byte of the answer.
    pub timeout: Duration,
    /// Whom it trusts.
    pub trust: Arc<ClientConfig>,
    /// What is sent there; `None`: all kinds but those about the webhook itself.
    pub kinds: Option<BTreeSet<Kind>>,
}

impl Webhook {
    /// Whether this kind of event is sent.
    #[must_use]
    pub fn takes(&self, kind: Kind) -> bool {
        match (&self.kinds, kind) {
            // It would be sent when it is over.
            (_, Kind::WebhookFailing | Kind::WebhookRecovered) => false,
            (None, _) => true,
            (Some(kinds), kind) => kinds.contains(&kind),
        }
    }
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The path may be a secret that the receiver has given.
        let host = self.url.host();
        f.debug_struct("Webhook").field("host", &host).field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

/// What is sent: type, time and the event, and how many were lost before it.
pub(super) fn body(event: &Event, lost: u64) -> String {
    let (kind, time) = (event.kind.word(), rfc3339(event.unix_ms));
    json!({"type": kind, "timestamp": time, "data": event.to_json(), "lost": lost}).to_string()
}
