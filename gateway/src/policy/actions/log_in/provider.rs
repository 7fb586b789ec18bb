//! The two kinds of provider, as a log-in sees them.

use std::sync::Arc;

use http::Uri;
use serde_json::{Map, Value as Json};

use super::exchange::{self, NoAnswer};
use super::flaw::{Flaw, Wrong};
use super::oauth_provider::{OAuth, is_true};
use super::openid::{Metadata, OpenId};
use super::settings::Client;
use crate::login::attempt::Attempt;
use crate::login::session::Identity;
use crate::login::tokens::Tokens;

/// Who lets people log in.
#[derive(Debug)]
pub(super) enum Provider {
    OpenId(Arc<OpenId>),
    OAuth(Box<OAuth>),
}

impl Provider {
    /// What people know it by.
    pub(super) fn name(&self) -> String {
        match self {
            Self::OpenId(provider) => provider.issuer().to_owned(),
            Self::OAuth(provider) => provider.authorize.to_string(),
        }
    }

    /// What tells it apart from all others: whoever could change one of these could say who people are.
    pub(super) fn identity(&self) -> String {
        match self {
            Self::OpenId(provider) => format!("openid {}", provider.issuer()),
            Self::OAuth(provider) => provider.identity_text(),
        }
    }

    /// Where people log in.
    pub(super) async fn authorize(&self) -> Result<Uri, Flaw> {
        match self {
            Self::OpenId(provider) => Ok(provider.metadata().await?.authorization.clone()),
            Self::OAuth(provider) => Ok(provider.authorize.clone()),
        }
    }

    /// Refuses a callback that another provider sent (RFC 9207).
    pub(super) async fn check_issuer(&self, said: Option<&str>) -> Result<(), Flaw> {
        let Self::OpenId(provider) = self else { return Ok(()) };
        match said {
            Some(issuer) if issuer == provider.issuer() => Ok(()),
            Some(_) => Err(Flaw::new(Wrong::State, "the callback comes from another issuer (iss)")),
            None if provider.metadata().await?.says_issuer => {
                Err(Flaw::new(Wrong::State, "the callback does not say its issuer, which this provider always does"))
            }
            None => Ok(()),
        }
    }

    /// Takes a code to the provider, and learns who has logged in.
    pub(super) async fn redeem(
        &self,
        code: &str,
        attempt: &Attempt,
        (client, redirect, claims): (&Client, &str, &[Box<str>]),
        now: i64,
    ) -> Result<(Identity, Tokens), Flaw> {
        let form = [
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", redirect),
            ("code_verifier", attempt.verifier()),
        ];
        let expired = |gone: NoAnswer| match gone {
            NoAnswer::Expired(reason) => Flaw::new(Wrong::Reused, reason),
            NoAnswer::Flaw(flaw) => flaw,
        };
        match self {
            Self::OpenId(provider) => {
                let metadata = provider.metadata().await?;
                let (endpoint, in_body) = (&metadata.token, metadata.wants_secret_in_body);
                let tokens = exchange::tokens(endpoint, provider.reach(), client, in_body, &form, now).await;
                let tokens = tokens.map_err(expired)?;
                if tokens.identity.is_empty() {
                    return Err(Flaw::new(Wrong::NoToken, "token endpoint: the answer has no id_token"));
                }
                let nonce = Some(attempt.nonce.as_str());
                let said = provider.verify(&metadata, &tokens.identity, &client.id, nonce, now).await?;
                let said = completed(provider, &metadata, said, &tokens.access, claims).await.map_err(expired)?;
                Ok((identity(&said, claims)?, tokens))
            }
            Self::OAuth(provider) => {
                let tokens = exchange::tokens(&provider.token, provider.reach, client, true, &form, now).await;
                let tokens = tokens.map_err(expired)?;
                let identity = provider.identity(&tokens.access, client, claims).await.map_err(expired)?;
                Ok((identity, tokens))
            }
        }
    }

    /// Asks anew who somebody is, with new tokens if there is a way to get some.
    pub(super) async fn renew(
        &self,
        tokens: &Tokens,
        before: &Identity,
        (client, claims): (&Client, &[Box<str>]),
        now: i64,
    ) -> Result<(Identity, Tokens), NoAnswer> {
        let form = [("grant_type", "refresh_token"), ("refresh_token", &*tokens.refresh)];
        match self {
            Self::OpenId(provider) => {
                let metadata = provider.metadata().await.map_err(NoAnswer::Flaw)?;
                let fresh = if tokens.refresh.is_empty() {
                    tokens.clone()
                } else {
                    let (endpoint, in_body) = (&metadata.token, metadata.wants_secret_in_body);
                    let fresh = exchange::tokens(endpoint, provider.reach(), client, in_body, &form, now).await?;
                    kept_from(tokens, fresh)
                };
                let Some(userinfo) = &metadata.userinfo else {
                    let said = provider.verify(&metadata, &fresh.identity, &client.id, None, now).await;
                    let said = said.map_err(NoAnswer::Flaw)?;
                    return Ok((identity(&said, claims).map_err(NoAnswer::Flaw)?, fresh));
                };
                let said = exchange::about(userinfo, provider.reach(), &fresh.access, None).await?;
                let mut said = object(said).map_err(NoAnswer::Flaw)?;
                // What only ID tokens say: of a new one, or as it was.
                let others = if fresh.identity == tokens.identity {
                    before.claims.clone()
                } else {
                    let new = provider.verify(&metadata, &fresh.identity, &client.id, None, now).await;
                    let new = new.map_err(NoAnswer::Flaw)?;
                    check_subject(&said, &new).map_err(NoAnswer::Flaw)?;
                    new
                };
                for (name, value) in others {
                    said.entry(name).or_insert(value);
                }
                let mut found = identity(&said, claims).map_err(NoAnswer::Flaw)?;
                if found.provider_session.is_empty() {
                    found.provider_session.clone_from(&before.provider_session);
                }
                Ok((found, fresh))
            }
            Self::OAuth(provider) => {
                let fresh = if tokens.refresh.is_empty() {
                    tokens.clone()
                } else {
                    let fresh = exchange::tokens(&provider.token, provider.reach, client, true, &form, now).await?;
                    kept_from(tokens, fresh)
                };
                Ok((provider.identity(&fresh.access, client, claims).await?, fresh))
            }
        }
    }

    /// Where a person ends its session at the provider, if that can be.
    pub(super) async fn end_session(&self) -> Option<Uri> {
        let Self::OpenId(provider) = self else { return None };
        provider.metadata().await.ok()?.end_session.clone()
    }
}

/// What a refresh does not bring anew stays as it was.
fn kept_from(old: &Tokens, mut fresh: Tokens) -> Tokens {
    if fresh.refresh.is_empty() {
        fresh.refresh.clone_from(&old.refresh);
    }
    if fresh.identity.is_empty() {
        fresh.identity.clone_from(&old.identity);
    }
    fresh
}

/// The claims of an ID token, with those of userinfo when it lacks what is asked for.
async fn completed(
    provider: &OpenId,
    metadata: &Metadata,
    mut said: Map<String, Json>,
    access: &str,
    claims: &[Box<str>],
) -> Result<Map<String, Json>, NoAnswer> {
    let lacks = |name: &str| !said.contains_key(name);
    let is_whole =
        !lacks("email") && !lacks("email_verified") && !lacks("name") && !claims.iter().any(|claim| lacks(claim));
    let Some(userinfo) = metadata.userinfo.as_ref().filter(|_| !is_whole) else { return Ok(said) };
    let more = object(exchange::about(userinfo, provider.reach(), access, None).await?).map_err(NoAnswer::Flaw)?;
    check_subject(&more, &said).map_err(NoAnswer::Flaw)?;
    for (name, value) in more {
        said.entry(name).or_insert(value);
    }
    Ok(said)
}

/// OpenID Connect Core 1.0, 5.3.2: otherwise it may be about somebody else.
fn check_subject(userinfo: &Map<String, Json>, token: &Map<String, Json>) -> Result<(), Flaw> {
    if userinfo.get("sub") == token.get("sub") {
        return Ok(());
    }
    Err(Flaw::new(Wrong::Claims, "userinfo is about somebody else than the ID token (sub)"))
}

fn object(answer: Json) -> Result<Map<String, Json>, Flaw> {
    match answer {
        Json::Object(map) => Ok(map),
        _ => Err(Flaw::new(Wrong::Provider, "userinfo: the answer is no object")),
    }
}

fn identity(said: &Map<String, Json>, claims: &[Box<str>]) -> Result<Identity, Flaw> {
    let text = |name: &str| said.get(name).and_then(Json::as_str).filter(|text| !text.is_empty()).map(str::to_owned);
    let subject = text("sub").ok_or_else(|| Flaw::new(Wrong::Claims, "the provider does not say who it is (sub)"))?;
    // An address that anybody can enter must not open what is for its owner.
    let is_doubtful = said.get("email_verified").is_some_and(|verified| !is_true(verified));
    let kept = claims.iter().filter_map(|name| Some((name.to_string(), said.get(&**name)?.clone())));
    Ok(Identity {
        subject,
        email: text("email").filter(|_| !is_doubtful).unwrap_or_default(),
        name: text("name").or_else(|| text("preferred_username")).unwrap_or_default(),
        provider_session: text("sid").unwrap_or_default(),
        claims: kept.collect(),
    })
}
