//! What later rules can know of a log-in: `actions.ngrok.oidc` and `actions.ngrok.oauth`.

use ring::digest::{SHA256, digest};
use serde_json::Value as Json;
use time::OffsetDateTime;

use super::super::super::expression::Value;
use crate::login::session::{Over, Session};
use crate::login::tokens::Tokens;

/// What is known of a visitor.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) session: Option<Session>,
    pub(super) tokens: Tokens,
    pub(super) over: Option<Over>,
    pub(super) is_refreshed: bool,
}

impl Found {
    /// The variables. The reference spells two of them differently for its two actions: here both have both.
    pub(super) fn value(&self, realm: &str) -> Value {
        let mut result = vec![
            ("session_timed_out", Value::Bool(self.over == Some(Over::Idle))),
            ("session_max_duration_reached", Value::Bool(self.over == Some(Over::Aged))),
            ("userinfo_refreshed", Value::Bool(self.is_refreshed)),
            ("user_info_refreshed", Value::Bool(self.is_refreshed)),
            ("access_token", Value::text(&self.tokens.access)),
            ("refresh_token", Value::text(&self.tokens.refresh)),
            ("identity_token", Value::text(&self.tokens.identity)),
        ];
        if let Some(Ok(expires)) = self.tokens.expires.map(OffsetDateTime::from_unix_timestamp) {
            result.push(("expires_at", Value::Time(expires)));
        }
        if let Some(session) = &self.session {
            result.push(("identity", identity(session, realm)));
        }
        Value::map(result)
    }
}

fn identity(session: &Session, realm: &str) -> Value {
    let identity = &session.identity;
    let id = person(realm, &identity.subject);
    let provider_session = Value::text(&identity.provider_session);
    Value::map([
        ("id", Value::text(&id)),
        ("email", Value::text(&identity.email)),
        ("name", Value::text(&identity.name)),
        ("provider_user_id", Value::text(&identity.subject)),
        ("current_session_id", Value::text(&session.id)),
        ("current_provider_session_id", provider_session),
        ("claims", Value::from_json(&Json::Object(identity.claims.clone()))),
    ])
}

/// What a person is known by to the upstream: the same for as long as client and provider are the same.
pub(super) fn person(realm: &str, subject: &str) -> String {
    let id = digest(&SHA256, format!("{realm} {subject}").as_bytes());
    id.as_ref().iter().take(ID_LEN).map(|byte| format!("{byte:02x}")).collect()
}

/// Enough to tell all people apart.
const ID_LEN: usize = 12;
