//! An OpenID provider: how it describes itself, and what it says of a person.

use std::sync::Arc;
use std::time::Duration;

use http::{StatusCode, Uri};
use serde::Deserialize;
use serde_json::{Map, Value as Json};

use super::super::fetched::{Fetched, Known, Times};
use super::super::jwt_validation::Flaw as JwtFlaw;
use super::super::jwt_validation::claims::Expected;
use super::super::jwt_validation::fetch::{self, Reach};
use super::super::jwt_validation::jws::{Algorithm, Jws};
use super::super::jwt_validation::keys::{Source, Trial};
use super::flaw::{Flaw, Wrong};

/// A provider, known by its issuer.
#[derive(Debug)]
pub(super) struct OpenId {
    issuer: Box<str>,
    uri: Uri,
    reach: Reach,
    described: Fetched<Metadata, Flaw>,
}

/// How a provider describes itself (OpenID Connect Discovery 1.0, section 3).
#[derive(Debug)]
pub(super) struct Metadata {
    pub(super) authorization: Uri,
    pub(super) token: Uri,
    pub(super) userinfo: Option<Uri>,
    pub(super) end_session: Option<Uri>,
    /// The client's secret goes into the body of a request; otherwise into its `Authorization`.
    pub(super) wants_secret_in_body: bool,
    /// Says in the callback who it is (RFC 9207).
    pub(super) says_issuer: bool,
    keys: Arc<Source>,
}

#[derive(Debug, Deserialize)]
struct Document {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    jwks_uri: String,
    userinfo_endpoint: Option<String>,
    end_session_endpoint: Option<String>,
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
}

impl OpenId {
    /// Reads the address of an issuer.
    pub(super) fn new(issuer: &str, reach: Reach) -> Result<Self, &'static str> {
        if issuer.contains(['?', '#']) {
            return Err("must be an issuer such as https://idp.example.com, without ? and #");
        }
        let document = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
        let uri = fetch::check(&document, reach)?;
        Ok(Self { issuer: issuer.into(), uri, reach, described: Fetched::new(TIMES) })
    }

    pub(super) fn issuer(&self) -> &str {
        &self.issuer
    }

    pub(super) fn reach(&self) -> Reach {
        self.reach
    }

    /// The provider's description, fetched if there is none or if it is old. While the provider cannot be reached, the one
    /// that was fetched last stays in use.
    pub(super) async fn metadata(self: &Arc<Self>) -> Result<Arc<Metadata>, Flaw> {
        let Known { found, is_fresh, may_try } = self.described.known();
        if let Some(found) = found.filter(|_| is_fresh || !may_try) {
            return Ok(found);
        }
        // Apart from this request: a visitor who leaves must not take the fetch for all others along.
        let provider = Arc::clone(self);
        let _ = tokio::spawn(async move { provider.refresh().await }).await;
        let unknown = || Flaw::new(Wrong::Own, "the provider's description was not fetched");
        self.described.outcome().map_err(|failure| failure.unwrap_or_else(unknown))
    }

    async fn refresh(&self) {
        self.described.refresh(|known| !known.is_fresh, self.fetch()).await;
    }

    async fn fetch(&self) -> Result<Metadata, Flaw> {
        let described = self.describe().await;
        described.inspect_err(|flaw| {
            tracing::warn!(issuer = %self.issuer, "the provider's description cannot be had: {}", flaw.reason);
        })
    }

    /// Fetches the description. A provider that does not answer is told from one that answers something else: visitors
    /// can wait for the one, and nobody but the operator can mend the other.
    async fn describe(&self) -> Result<Metadata, Flaw> {
        let flaw = |wrong, reason: String| Flaw::new(wrong, format!("{}: {reason}", self.uri));
        let answer = fetch::send(&self.uri, self.reach, fetch::Asking::default()).await;
        let (status, body) = answer.map_err(|reason| flaw(Wrong::Unreachable, reason))?;
        if status != StatusCode::OK {
            let wrong = if status.is_server_error() { Wrong::Unreachable } else { Wrong::Discovery };
            return Err(flaw(wrong, format!("the answer has status {}", status.as_u16())));
        }
        Metadata::read(&body, &self.issuer, self.reach).map_err(|reason| flaw(Wrong::Discovery, reason))
    }

    /// Verifies an ID token (OpenID Connect Core 1.0, 3.1.3.7) and gives its claims.
    pub(super) async fn verify(
        &self,
        metadata: &Metadata,
        token: &str,
        client: &str,
        nonce: Option<&str>,
        now: i64,
    ) -> Result<Map<String, Json>, Flaw> {
        let invalid = |flaw: JwtFlaw| Flaw::new(Wrong::Signature, format!("ID token: {}", flaw.reason));
        let jws = Jws::parse(token).map_err(invalid)?;
        let algorithm = jws.algorithm(Algorithm::ALL).map_err(invalid)?;
        jws.check_header(&[]).map_err(invalid)?;
        if jws.text("typ").is_some_and(|typ| !typ.eq_ignore_ascii_case("jwt")) {
            return Err(Flaw::new(Wrong::Signature, "ID token: its typ says that it is for something else"));
        }
        let key_id = jws.text("kid");
        let keys = metadata.keys.keys(key_id).await;
        let keys = keys.map_err(|reason| Flaw::new(Wrong::Unreachable, format!("the provider's keys: {reason}")))?;
        if keys.verify(&jws, algorithm, key_id) != Trial::Signed {
            return Err(Flaw::new(Wrong::Signature, "ID token: no key of the provider has signed it"));
        }
        let expected = Expected { issuers: Vec::new(), audiences: vec![client.to_owned()] };
        let claims = |reason: String| Flaw::new(Wrong::Claims, format!("ID token: {reason}"));
        expected.check(&jws.payload, &[self.issuer.to_string()], now).map_err(|flaw| claims(flaw.reason))?;
        check_party(&jws.payload, client).map_err(|reason| claims(reason.into()))?;
        // A refreshed token has none, or the first one's.
        let said = jws.payload.get("nonce").and_then(Json::as_str);
        if nonce.is_some_and(|nonce| said != Some(nonce)) {
            return Err(claims("its nonce is not that of this log-in".into()));
        }
        Ok(jws.payload)
    }
}

impl Metadata {
    fn read(text: &[u8], issuer: &str, reach: Reach) -> Result<Self, String> {
        let document: Document = serde_json::from_slice(text)
            .map_err(|error| format!("it is not the description of an OpenID provider: {error}"))?;
        if document.issuer != issuer {
            // Whoever answers for another issuer could let its people pass for those of this one.
            let said: String = document.issuer.chars().take(ISSUER_CHARS_MAX).collect();
            return Err(format!(
                "it says that the issuer is {said:?} instead of {issuer:?}: both must be the same text"
            ));
        }
        let checked = |name: &str, url: &str| {
            fetch::check(url, reach).map_err(|message| format!("its {name} is not usable: {message}"))
        };
        let optional = |name: &str, url: Option<String>| url.map(|url| checked(name, &url)).transpose();
        let methods = document.token_endpoint_auth_methods_supported.unwrap_or_default();
        let supports = |method: &str| methods.iter().any(|supported| supported == method);
        let keys = Source::shared(&document.jwks_uri, reach).map_err(|message| format!("its jwks_uri: {message}"))?;
        Ok(Self {
            authorization: checked("authorization_endpoint", &document.authorization_endpoint)?,
            token: checked("token_endpoint", &document.token_endpoint)?,
            userinfo: optional("userinfo_endpoint", document.userinfo_endpoint)?,
            end_session: optional("end_session_endpoint", document.end_session_endpoint)?,
            // Absent means `client_secret_basic`.
            wants_secret_in_body: supports("client_secret_post") && !supports("client_secret_basic"),
            says_issuer: document.authorization_response_iss_parameter_supported,
            keys,
        })
    }
}

/// With several audiences the token has to say which of them it was issued to.
fn check_party(claims: &Map<String, Json>, client: &str) -> Result<(), &'static str> {
    let party = claims.get("azp").map(|party| party.as_str() == Some(client));
    let is_one_of_many = claims.get("aud").and_then(Json::as_array).is_some_and(|list| list.len() > 1);
    match party {
        Some(false) => Err("it was issued to another client (azp)"),
        None if is_one_of_many => Err("it is for several clients and does not say to whom it was issued (azp)"),
        Some(true) | None => Ok(()),
    }
}

/// Providers change what they say of themselves seldom, and long before it matters.
const TIMES: Times = Times { fresh: Duration::from_secs(15 * 60), retry: Duration::from_secs(5) };
const ISSUER_CHARS_MAX: usize = 128;
