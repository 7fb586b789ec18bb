//! What an event says, and how it looks as JSON.

use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::deceptive::is_deceptive;
use crate::departed::Grouped;

/// One moment on both clocks: the monotonic one decides what is due, the other one is told to people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// For comparing.
    pub at: Instant,
    /// Milliseconds since 1970.
    pub unix_ms: i64,
}

/// A customer's box: what an operator thinks of as one thing that is online or not.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Site {
    /// The account's name.
    pub account: Arc<str>,
    /// The credential's name.
    pub credential: Arc<str>,
    /// Which of the credential's boxes it is. All agents of a credential that do not say it are one site, which is online
    /// as long as one of them is.
    pub instance: Option<Arc<str>>,
}

/// What has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A site is online, and has been for the settle time.
    SiteUp,
    /// A site is offline, and has been for the settle time.
    SiteDown,
    /// A site comes and goes; nothing else is told of it until that is over.
    SiteFlapping,
    /// A site that came and went has settled.
    SiteSteady,
    /// An endpoint of an agent is online, and has been for the settle time.
    EndpointOnline,
    /// An endpoint of an agent is offline, and has been for the settle time.
    EndpointOffline,
    /// An endpoint comes and goes.
    EndpointFlapping,
    /// An endpoint that came and went has settled.
    EndpointSteady,
    /// A log-in was refused.
    CredentialRefused,
    /// Somebody was turned away because a limit is reached.
    LimitHit,
    /// A certificate ends soon, or has ended.
    CertificateEnding,
    /// Events do not reach the webhook.
    WebhookFailing,
    /// Events reach the webhook again.
    WebhookRecovered,
}

/// One thing that has happened and that somebody may want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Names it; never used twice, also not after a restart.
    pub id: Arc<str>,
    /// What has happened.
    pub kind: Kind,
    /// When it is told, in milliseconds since 1970.
    pub unix_ms: i64,
    /// When it happened, in milliseconds since 1970: earlier by the settle time where there is one.
    pub since_unix_ms: i64,
    /// Whom it concerns.
    pub about: About,
    /// Why, as far as that is known.
    pub reason: Option<Arc<str>>,
    /// How often: departures of what flaps, refusals of which only this one is told.
    pub count: Option<u64>,
    /// All of it in one sentence for people.
    pub text: String,
}

/// Whom an event concerns, as far as that is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// The account.
    pub account: Option<Arc<str>>,
    /// The credential.
    pub credential: Option<Arc<str>>,
    /// Which of the credential's boxes.
    pub instance: Option<Arc<str>>,
    /// The endpoint's URL, the limit's key, the certificate's name, or an address.
    pub subject: Option<Arc<str>>,
}

impl Grouped for Site {
    type Group = (Arc<str>, Arc<str>);

    /// The credential: agents name their instances themselves.
    fn group(&self) -> Self::Group {
        (Arc::clone(&self.account), Arc::clone(&self.credential))
    }
}

impl Moment {
    /// This moment.
    #[must_use]
    pub fn now() -> Self {
        let unix_ms = OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000;
        Self { at: tokio::time::Instant::now().into_std(), unix_ms: i64::try_from(unix_ms).unwrap_or_default() }
    }
}

impl Site {
    /// As people say it.
    #[must_use]
    pub fn shown(&self) -> String {
        match &self.instance {
            Some(instance) => format!("{}/{}/{instance}", self.account, self.credential),
            None => format!("{}/{}", self.account, self.credential),
        }
    }

    pub(super) fn about(&self) -> About {
        About {
            account: Some(Arc::clone(&self.account)),
            credential: Some(Arc::clone(&self.credential)),
            instance: self.instance.clone(),
            subject: None,
        }
    }
}

impl Kind {
    /// Whether it is of an endpoint, of which a site has several.
    pub(super) const fn is_of_endpoint(self) -> bool {
        matches!(self, Self::EndpointOnline | Self::EndpointOffline | Self::EndpointFlapping | Self::EndpointSteady)
    }

    /// All kinds with their names in the configuration and in JSON.
    pub const WORDS: [(&'static str, Self); 13] = [
        ("site.up", Self::SiteUp),
        ("site.down", Self::SiteDown),
        ("site.flapping", Self::SiteFlapping),
        ("site.steady", Self::SiteSteady),
        ("endpoint.online", Self::EndpointOnline),
        ("endpoint.offline", Self::EndpointOffline),
        ("endpoint.flapping", Self::EndpointFlapping),
        ("endpoint.steady", Self::EndpointSteady),
        ("credential.refused", Self::CredentialRefused),
        ("limit.hit", Self::LimitHit),
        ("certificate.ending", Self::CertificateEnding),
        ("webhook.failing", Self::WebhookFailing),
        ("webhook.recovered", Self::WebhookRecovered),
    ];

    /// Its name.
    #[must_use]
    pub fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(_, kind)| *kind == self).map_or("", |(word, _)| word)
    }

    /// Whether somebody should look at it.
    #[must_use]
    pub fn is_trouble(self) -> bool {
        match self {
            Self::SiteDown
            | Self::SiteFlapping
            | Self::EndpointOffline
            | Self::EndpointFlapping
            | Self::CredentialRefused
            | Self::LimitHit
            | Self::CertificateEnding
            | Self::WebhookFailing => true,
            Self::SiteUp | Self::SiteSteady | Self::EndpointOnline | Self::EndpointSteady | Self::WebhookRecovered => {
                false
            }
        }
    }
}

impl Event {
    /// As an object with the keys that `OPERATING.md` lists; what is not known is absent.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let About { account, credential, instance, subject } = &self.about;
        let mut object = json!({
            "id": &*self.id,
            "type": self.kind.word(),
            "time": rfc3339(self.unix_ms),
            "since": rfc3339(self.since_unix_ms),
            "text": self.text,
        });
        let words = [
            ("account", account),
            ("credential", credential),
            ("instance", instance),
            ("subject", subject),
            ("reason", &self.reason),
        ];
        for (key, word) in words {
            if let Some(word) = word {
                object[key] = Value::from(&**word);
            }
        }
        if let Some(count) = self.count {
            object["count"] = Value::from(count);
        }
        object
    }
}

/// A time as RFC 3339 has it, in UTC with milliseconds.
#[must_use]
pub fn rfc3339(unix_ms: i64) -> String {
    let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(unix_ms) * 1_000_000);
    let time = time.unwrap_or(OffsetDateTime::UNIX_EPOCH);
    time.format(&Rfc3339).unwrap_or_default()
}

/// What somebody else has written, fit for an event: short, on one line.
pub(super) fn clean(text: &str) -> Arc<str> {
    let mut cleaned: String =
        text.chars().take(WORDS_CHARS_MAX).map(|c| if is_deceptive(c) { ' ' } else { c }).collect();
    cleaned.truncate(cleaned.trim_end().len());
    cleaned.into()
}

/// A reason is a sentence; addresses of endpoints have up to 255 characters.
const WORDS_CHARS_MAX: usize = 400;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_has_what_is_known_and_nothing_else() {
        let event = Event {
            id: "evt_1".into(),
            kind: Kind::SiteDown,
            unix_ms: 1_700_000_030_500,
            since_unix_ms: 1_700_000_000_000,
            about: Site { account: "a".into(), credential: "c".into(), instance: None }.about(),
            reason: Some("the connection broke".into()),
            count: None,
            text: "a/c is offline".to_owned(),
        };
        let expected = json!({
            "id": "evt_1", "type": "site.down", "time": "2023-11-14T22:13:50.5Z", "since": "2023-11-14T22:13:20Z",
            "account": "a", "credential": "c", "reason": "the connection broke", "text": "a/c is offline",
        });
        assert_eq!(event.to_json(), expected);
    }

    #[test]
    fn every_kind_has_its_own_word() {
        let words: std::collections::BTreeSet<_> = Kind::WORDS.iter().map(|(_, kind)| kind.word()).collect();
        assert_eq!(words.len(), Kind::WORDS.len());
        assert!(!words.contains(""));
    }

    #[test]
    fn words_of_others_are_cut_to_one_short_line() {
        assert_eq!(&*clean("a\nb\u{1b}[31m\n"), "a b [31m");
        assert_eq!(&*clean("a\u{202e}b\u{2066}c\u{2029}"), "a b c");
        assert_eq!(clean(&"ä".repeat(401)).chars().count(), 400);
    }
}
