//! The fields that all log-ins have, and what one request makes of them.

use std::sync::Arc;
use std::time::Duration as Span;

use ring::digest::{Context, SHA256};
use time::Duration;

use super::super::super::error::CONFIG_VALUE;
use super::super::super::fields::Fields;
use super::super::super::place::Place;
use super::super::super::run::Run;
use super::super::super::template::Template;
use super::flaw::{Family, Flaw, Wrong};
use super::identity_headers::IdentityHeaders;
use crate::login::cookies::{self, Reach};
use crate::login::session::Lifetime;

/// The fields that all log-ins have.
pub(super) struct Settings {
    pub(super) auth_id: Box<str>,
    client_id: Template,
    client_secret: Template,
    pub(super) scopes: Vec<Box<str>>,
    /// Added to the provider's address.
    parameters: Vec<(Box<str>, Template)>,
    pub(super) lifetime: Lifetime,
    /// How often the provider is asked again; `None`: never.
    pub(super) refresh: Option<Duration>,
    pub(super) allows_preflight: bool,
    cookies: Reach,
    /// What of the provider's words counts.
    pub(super) wanted: Arc<Wanted>,
    /// What the upstream is told of the person, by header.
    pub(super) identity_headers: IdentityHeaders,
    /// Log-outs end the session at the provider, too.
    pub(super) ends_provider_session: bool,
}

/// What of the provider's words counts.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    /// Claims that the session keeps.
    pub(super) claims: Vec<Box<str>>,
    /// An address of mail counts also when the provider does not say whether it has verified it.
    pub(super) trusts_email: bool,
}

impl Wanted {
    /// What of it decides who people are.
    fn says(&self) -> &'static str {
        if self.trusts_email { "any address" } else { "verified addresses" }
    }
}

/// How the gateway identifies itself to the provider.
pub(super) struct Client {
    pub(super) id: String,
    pub(super) secret: String,
}

/// What cookies are bound to, so that none counts anywhere else.
pub(super) struct Binding {
    pub(super) cookies: Reach,
    /// The name of the session's cookie.
    pub(super) session: String,
    /// What the names of the cookies of log-ins under way begin with.
    pub(super) attempt: String,
    /// For what sessions are sealed.
    pub(super) session_purpose: String,
    /// For what log-ins under way are sealed.
    pub(super) attempt_purpose: String,
    /// Tells people of one client at one provider apart from those of another.
    pub(super) realm: String,
}

impl Settings {
    pub(super) fn read(fields: &mut Fields<'_>, place: Place, idle: &[&'static str], scopes: &[&str]) -> Option<Self> {
        let auth_id = read_auth_id(fields);
        let client_id = fields.required_template("client_id", "my-client");
        let client_secret = fields.required_secret("client_secret", "${secrets.get('idp', 'secret')}");
        let asked = fields.list("scopes", 0..=SCOPES_MAX, CONFIG_VALUE);
        for (index, scope) in &asked {
            // RFC 6749, 3.3.
            if scope.is_empty() || !scope.bytes().all(|byte| matches!(byte, b'!' | b'#'..=b'[' | b']'..=b'~')) {
                fields.wrong_item("scopes", *index, CONFIG_VALUE, "must be a scope: visible ASCII without quotes");
            }
        }
        let scopes = if asked.is_empty() {
            scopes.iter().map(|scope| (*scope).into()).collect()
        } else {
            asked.into_iter().map(|(_, scope)| scope.into()).collect()
        };
        let parameters = fields.templates("authz_url_params", 0..=PARAMETERS_MAX, CONFIG_VALUE);
        let mut own = Vec::new();
        for (name, template) in parameters {
            if OURS.contains(&name) {
                fields.wrong_entry("authz_url_params", name, CONFIG_VALUE, "is set by the gateway itself");
            }
            own.push((name.into(), template));
        }
        let lifetime = Lifetime {
            idle: read_span(fields, idle).unwrap_or(IDLE),
            max: read_span(fields, &["max_session_duration"]).unwrap_or(MAX),
        };
        let refresh = read_span(fields, &["userinfo_refresh_interval"]);
        let claims = fields.list("claims", 0..=CLAIMS_MAX, CONFIG_VALUE);
        let claims: Vec<Box<str>> = claims.into_iter().map(|(_, claim)| claim.into()).collect();
        let identity_headers = IdentityHeaders::read(fields, &claims, Family::OpenId);
        let wanted = Wanted { claims, trusts_email: fields.bool("trust_unverified_email", false) };
        Some(Self {
            auth_id,
            client_id: client_id?,
            client_secret: client_secret?,
            scopes,
            parameters: own,
            lifetime,
            refresh,
            allows_preflight: fields.bool("allow_cors_preflight", false),
            cookies: read_domain(fields, place),
            wanted: Arc::new(wanted),
            identity_headers,
            ends_provider_session: fields.bool("end_provider_session", false),
        })
    }

    /// How this request's client is called.
    pub(super) fn client(&self, run: &mut Run<'_, '_, '_>) -> Result<Client, Flaw> {
        let mut text = |field: &str, template: &Template| {
            run.render(template).map_err(|fault| Flaw::new(Wrong::Own, format!("{field}: {fault}")))
        };
        Ok(Client { id: text("client_id", &self.client_id)?, secret: text("client_secret", &self.client_secret)? })
    }

    /// The parameters that the policy adds.
    pub(super) fn parameters(&self, run: &mut Run<'_, '_, '_>) -> Result<Vec<(&str, String)>, Flaw> {
        let mut rendered = Vec::new();
        for (name, template) in &self.parameters {
            let value = run.render(template);
            let value = value.map_err(|fault| Flaw::new(Wrong::Own, format!("authz_url_params.{name}: {fault}")))?;
            rendered.push((&**name, value));
        }
        Ok(rendered)
    }

    /// What the cookies of a host are bound to. `None`: the host is not of the domain that they are for.
    pub(super) fn binding(&self, host: &str, [account, provider]: [&str; 2], client: &Client) -> Option<Binding> {
        Binding::of(host, &self.cookies, &self.auth_id, realm(&[account, provider, &client.id, self.wanted.says()]))
    }
}

impl Binding {
    /// What the cookies of a host are bound to. `None`: the host is not of the domain that they are for.
    pub(super) fn of(host: &str, cookies: &Reach, auth_id: &str, realm: String) -> Option<Self> {
        let site = match cookies {
            Reach::Host => host.to_owned(),
            Reach::Domain(domain) => {
                let rest = host.strip_suffix(&**domain)?;
                (rest.is_empty() || rest.ends_with('.')).then(|| format!(".{domain}"))?
            }
        };
        let dash = if auth_id.is_empty() { "" } else { "-" };
        let named = |kind: &str| cookies::name(&format!("{kind}{dash}{auth_id}"), cookies);
        let purpose = |kind: &str| format!("{kind}\n{site}\n{auth_id}\n{realm}");
        Some(Self {
            cookies: cookies.clone(),
            session: named("session"),
            attempt: format!("{}-", named("login")),
            session_purpose: purpose("session"),
            attempt_purpose: purpose("login"),
            realm,
        })
    }
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings").field("auth_id", &self.auth_id).finish_non_exhaustive()
    }
}

/// A hash over all of them, so that a session ends when the policy names another provider or client.
pub(super) fn realm(parts: &[&str]) -> String {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part.as_bytes());
    }
    context.finish().as_ref().iter().take(REALM_LEN).map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn read_auth_id(fields: &mut Fields<'_>) -> Box<str> {
    let auth_id = fields.text("auth_id").unwrap_or_default();
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if auth_id.len() > AUTH_ID_BYTES_MAX || !auth_id.bytes().all(is_name) {
        fields.wrong("auth_id", CONFIG_VALUE, "must be at most 64 letters, digits, dots, hyphens and underscores");
    }
    auth_id.into()
}

/// The first of these fields that is there.
pub(super) fn read_span(fields: &mut Fields<'_>, names: &[&'static str]) -> Option<Duration> {
    let mut found = None;
    for name in names {
        let span = fields.optional_duration(name, SPAN_MIN..=SPAN_MAX);
        found = found.or(span);
    }
    found.and_then(|span| Duration::try_from(span).ok())
}

pub(super) fn read_domain(fields: &mut Fields<'_>, place: Place) -> Reach {
    let Some(domain) = fields.text("auth_cookie_domain") else { return Reach::Host };
    if !place.is_cloud() {
        // Browsers would send it to, and take it from, what other agents have below the domain.
        let message = "is possible in policies of cloud endpoints only: an agent's log-ins are for its own host alone";
        fields.wrong("auth_cookie_domain", CONFIG_VALUE, message);
    }
    let domain = domain.trim_start_matches('.').to_ascii_lowercase();
    let is_label =
        |label: &str| !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if domain.len() > DOMAIN_BYTES_MAX || !domain.contains('.') || !domain.split('.').all(is_label) {
        fields.wrong("auth_cookie_domain", CONFIG_VALUE, "must be a domain such as example.com");
    }
    Reach::Domain(domain.into())
}

/// Parameters of the authorisation request that a policy must not set (RFC 6749, 4.1.1; RFC 7636; OpenID Connect Core).
const OURS: &[&str] = &[
    "client_id",
    "code_challenge",
    "code_challenge_method",
    "nonce",
    "redirect_uri",
    "response_mode",
    "response_type",
    "scope",
    "state",
];
/// As long as a working day at most, and two hours without a request.
pub(super) const MAX: Duration = Duration::hours(24);
pub(super) const IDLE: Duration = Duration::hours(2);
const SPAN_MIN: Span = Span::from_secs(1);
const SPAN_MAX: Span = Span::from_secs(366 * 24 * 3600);
const AUTH_ID_BYTES_MAX: usize = 64;
const DOMAIN_BYTES_MAX: usize = 253;
const SCOPES_MAX: usize = 32;
const PARAMETERS_MAX: usize = 16;
pub(super) const CLAIMS_MAX: usize = 16;
/// Bytes of a hash that nobody gains from finding a second text for.
const REALM_LEN: usize = 16;
