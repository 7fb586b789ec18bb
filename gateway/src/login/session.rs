//! Who a visitor is, for how long: what its cookie holds.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};
use time::Duration;

use super::seal::{Keys, SealError, random};

/// A visitor's session. Times are in seconds since 1970.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Session {
    /// Random, and the same for as long as it lasts.
    pub id: String,
    /// When the visitor logged in.
    pub begun: i64,
    /// When it ends at the latest, whatever the policy says later.
    pub ends: i64,
    /// When its last request came, as far as the cookie tells.
    pub used: i64,
    /// When the provider was last asked who it is.
    pub asked: i64,
    /// Who it is.
    pub identity: Identity,
}

/// What the provider says of a person.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Identity {
    /// The provider's name for the person, which never changes.
    pub subject: String,
    /// The address of mail.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub email: String,
    /// What people call it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The session at the provider, if it says so (`sid`).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub provider_session: String,
    /// Claims that the policy asks for.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub claims: Map<String, Json>,
    /// What only SAML has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub saml: Option<Box<SamlIdentity>>,
}

/// What the session of a SAML log-in keeps beside the rest.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SamlIdentity {
    /// The format of the name, and within which domain and for whom it is one: a log-out has to say the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    /// `NameQualifier`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qualifier: Option<String>,
    /// `SPNameQualifier`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_qualifier: Option<String>,
    /// When the session at the provider ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends: Option<i64>,
    /// Those of the policy's groups that the person is in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
}

/// How long sessions last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime {
    /// Since the last request.
    pub idle: Duration,
    /// Since the log-in.
    pub max: Duration,
}

/// Why a session does not count any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// No request came for too long.
    Idle,
    /// The log-in is too long ago.
    Aged,
}

impl Session {
    /// A session that begins now.
    ///
    /// # Errors
    ///
    /// [`SealError`]
    pub fn begin(identity: Identity, lifetime: Lifetime, now: i64) -> Result<Self, SealError> {
        let id = URL_SAFE_NO_PAD.encode(random::<ID_LEN>()?);
        let ends = now.saturating_add(lifetime.max.whole_seconds());
        Ok(Self { id, begun: now, ends, used: now, asked: now, identity })
    }

    /// Seals it for a purpose.
    ///
    /// # Errors
    ///
    /// [`SealError`]: also when it is larger than [`COOKIE_BYTES_MAX`].
    pub fn seal(&self, keys: &Keys, purpose: &str) -> Result<String, SealError> {
        let plain = serde_json::to_vec(self).map_err(|_| SealError)?;
        let sealed = keys.seal(purpose, &plain)?;
        if sealed.len() > COOKIE_BYTES_MAX { Err(SealError) } else { Ok(sealed) }
    }

    /// Opens one that was sealed for this purpose.
    #[must_use]
    pub fn open(keys: &Keys, purpose: &str, text: &str) -> Option<Self> {
        serde_json::from_slice(&keys.open(purpose, text)?).ok()
    }

    /// Whether it still counts. One that begins in the future does not: the clock was wrong then, or is now.
    ///
    /// # Errors
    ///
    /// [`Over`]
    pub fn check(&self, lifetime: Lifetime, now: i64) -> Result<(), Over> {
        let since = |then: i64| now.saturating_sub(then);
        if since(self.begun) < -LEEWAY_SECS || since(self.begun) >= lifetime.max.whole_seconds() || now >= self.ends {
            return Err(Over::Aged);
        }
        if since(self.used) >= lifetime.idle.whole_seconds() {
            return Err(Over::Idle);
        }
        Ok(())
    }

    /// Counts a request. True when the cookie has to be written again, so that it lasts.
    pub fn touch(&mut self, lifetime: Lifetime, now: i64) -> bool {
        let worth = (lifetime.idle.whole_seconds() / TOUCHES_PER_IDLE).clamp(1, TOUCH_SECS_MAX);
        if now.saturating_sub(self.used) < worth {
            return false;
        }
        self.used = now;
        true
    }

    /// When it ends at the latest by a policy of now, which may have become stricter.
    #[must_use]
    pub fn ends(&self, lifetime: Lifetime) -> i64 {
        self.begun.saturating_add(lifetime.max.whole_seconds()).min(self.ends)
    }
}

/// 128 bits.
const ID_LEN: usize = 16;
/// Browsers keep 4096 bytes with the name and what stands behind the value; servers in front take less.
pub const COOKIE_BYTES_MAX: usize = 3 * 1024;
/// How far the clocks of two gateways may be apart.
const LEEWAY_SECS: i64 = 60;
/// A cookie is not written with every response: a session lasts up to this part of its idle time less.
const TOUCHES_PER_IDLE: i64 = 20;
const TOUCH_SECS_MAX: i64 = 60;

#[cfg(test)]
mod tests {
    use super::*;

    const LIFETIME: Lifetime = Lifetime { idle: Duration::hours(1), max: Duration::hours(8) };

    fn session() -> Session {
        Session::begin(Identity { subject: "s".into(), ..Identity::default() }, LIFETIME, 1_000_000).unwrap()
    }

    #[test]
    fn session_survives_its_cookie() {
        let keys = Keys::derive([&b"k"[..]]);
        let session = session();
        let sealed = session.seal(&keys, "p").unwrap();
        assert_eq!(Session::open(&keys, "p", &sealed), Some(session));
        assert_eq!(Session::open(&keys, "q", &sealed), None);
    }

    #[test]
    fn session_that_no_cookie_holds_is_refused() {
        let keys = Keys::derive([&b"k"[..]]);
        let mut session = session();
        session.identity.claims.insert("groups".into(), "x".repeat(COOKIE_BYTES_MAX).into());
        assert_eq!(session.seal(&keys, "p"), Err(SealError));
    }

    #[test]
    fn session_ends_when_it_is_idle_and_when_it_is_old() {
        let mut session = session();
        assert_eq!(session.check(LIFETIME, 1_000_000 + 3599), Ok(()));
        assert_eq!(session.check(LIFETIME, 1_000_000 + 3600), Err(Over::Idle));
        for _ in 0..8 {
            assert!(session.touch(LIFETIME, session.used + 3599));
        }
        let age = session.used - session.begun;
        assert_eq!(session.check(LIFETIME, session.begun + 8 * 3600 - 1).err(), None, "{age}");
        assert_eq!(session.check(LIFETIME, session.begun + 8 * 3600), Err(Over::Aged));
        assert_eq!(session.check(LIFETIME, session.begun - 61), Err(Over::Aged));
    }

    #[test]
    fn policy_that_becomes_laxer_lets_no_session_live_longer() {
        let session = session();
        let lax = Lifetime { idle: Duration::days(9), max: Duration::days(9) };
        assert_eq!(session.check(lax, session.begun + 8 * 3600 - 1), Ok(()));
        assert_eq!(session.check(lax, session.begun + 8 * 3600), Err(Over::Aged));
        assert_eq!(session.ends(lax), session.begun + 8 * 3600);
        let strict = Lifetime { idle: Duration::hours(1), max: Duration::hours(1) };
        assert_eq!(session.ends(strict), session.begun + 3600);
    }

    #[test]
    fn cookie_is_written_again_once_a_minute() {
        let mut session = session();
        assert!(!session.touch(LIFETIME, 1_000_059));
        assert!(session.touch(LIFETIME, 1_000_060));
        assert!(!session.touch(LIFETIME, 1_000_061));
    }
}
