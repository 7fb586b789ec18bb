//! The two kinds of provider, as a log-in sees them.

use std::sync::Arc;

use http::Uri;
use serde_json::{Map, Value as Json};

use super::exchange::{self, NoAnswer};
use super::flaw::{Flaw, Wrong};
use super::oauth_provider::{OAuth, is_true};
use super::openid::{Metadata, OpenId};
use super::settings::{Client, Wanted};
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
        (client, redirect, wanted): (&Client, &str, &Wanted),
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
                let said = completed(provider, &metadata, said, &tokens.access, wanted).await.map_err(expired)?;
                Ok((identity(&said, wanted)?, tokens))
            }
            Self::OAuth(provider) => {
                let tokens = exchange::tokens(&provider.token, provider.reach, client, true, &form, now).await;
                let tokens = tokens.map_err(expired)?;
                let identity = provider.identity(&tokens.access, client, wanted).await.map_err(expired)?;
                Ok((identity, tokens))
            }
        }
    }

    /// Gets new tokens, if there is a way to get some; what does not come anew stays as it was.
    pub(super) async fn fresh(&self, tokens: &Tokens, client: &Client, now: i64) -> Result<Tokens, NoAnswer> {
        if tokens.refresh.is_empty() {
            return Ok(tokens.clone());
        }
        let form = [("grant_type", "refresh_token"), ("refresh_token", &*tokens.refresh)];
        let fresh = match self {
            Self::OpenId(provider) => {
                let metadata = provider.metadata().await.map_err(NoAnswer::Flaw)?;
                let (endpoint, in_body) = (&metadata.token, metadata.wants_secret_in_body);
                exchange::tokens(endpoint, provider.reach(), client, in_body, &form, now).await?
            }
            Self::OAuth(provider) => {
                exchange::tokens(&provider.token, provider.reach, client, true, &form, now).await?
            }
        };
        Ok(kept_from(tokens, fresh))
    }

    /// Asks anew who somebody is. The ID token among the tokens is verified if it `is_new`; otherwise what it said is in
    /// `before`.
    pub(super) async fn identify(
        &self,
        (tokens, is_new): (&Tokens, bool),
        before: &Identity,
        (client, wanted): (&Client, &Wanted),
        now: i64,
    ) -> Result<Identity, NoAnswer> {
        let provider = match self {
            Self::OpenId(provider) => provider,
            Self::OAuth(provider) => return provider.identity(&tokens.access, client, wanted).await,
        };
        let metadata = provider.metadata().await.map_err(NoAnswer::Flaw)?;
        let verified = provider.verify(&metadata, &tokens.identity, &client.id, None, now);
        let Some(userinfo) = &metadata.userinfo else {
            return identity(&verified.await.map_err(NoAnswer::Flaw)?, wanted).map_err(NoAnswer::Flaw);
        };
        let said = exchange::about(userinfo, provider.reach(), &tokens.access, None).await?;
        let mut said = object(said).map_err(NoAnswer::Flaw)?;
        // What only ID tokens say: of a new one, or as it was.
        let others = if is_new {
            let new = verified.await.map_err(NoAnswer::Flaw)?;
            check_subject(&said, &new).map_err(NoAnswer::Flaw)?;
            new
        } else {
            before.claims.clone()
        };
        complete(&mut said, others);
        let mut found = identity(&said, wanted).map_err(NoAnswer::Flaw)?;
        if found.provider_session.is_empty() {
            found.provider_session.clone_from(&before.provider_session);
        }
        Ok(found)
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
    wanted: &Wanted,
) -> Result<Map<String, Json>, NoAnswer> {
    let lacks = |name: &str| !said.contains_key(name);
    let is_whole = !lacks("email")
        && !lacks("email_verified")
        && !lacks("name")
        && !wanted.claims.iter().any(|claim| lacks(claim));
    let Some(userinfo) = metadata.userinfo.as_ref().filter(|_| !is_whole) else { return Ok(said) };
    let more = object(exchange::about(userinfo, provider.reach(), access, None).await?).map_err(NoAnswer::Flaw)?;
    check_subject(&more, &said).map_err(NoAnswer::Flaw)?;
    complete(&mut said, more);
    Ok(said)
}

/// Adds what is not there. Whether an address is verified is said of the one that stands beside it.
fn complete(said: &mut Map<String, Json>, mut others: Map<String, Json>) {
    if said.contains_key("email") {
        others.remove("email_verified");
    } else if others.contains_key("email") {
        said.remove("email_verified");
    }
    for (name, value) in others {
        said.entry(name).or_insert(value);
    }
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

fn identity(said: &Map<String, Json>, wanted: &Wanted) -> Result<Identity, Flaw> {
    let text = |name: &str| said.get(name).and_then(Json::as_str).filter(|text| !text.is_empty()).map(str::to_owned);
    let subject = text("sub").ok_or_else(|| Flaw::new(Wrong::Claims, "the provider does not say who it is (sub)"))?;
    // An address that anybody can enter must not open what is for its owner.
    let is_verified = said.get("email_verified").map_or(wanted.trusts_email, is_true);
    let kept = wanted.claims.iter().filter_map(|name| Some((name.to_string(), said.get(&**name)?.clone())));
    Ok(Identity {
        subject,
        email: text("email").filter(|_| is_verified).unwrap_or_default(),
        name: text("name").or_else(|| text("preferred_username")).unwrap_or_default(),
        provider_session: text("sid").unwrap_or_default(),
        claims: kept.collect(),
        saml: None,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The address of mail that counts, from what an ID token says and userinfo beside it.
    fn address(token: Json, userinfo: Json) -> String {
        let mut said = object(token).unwrap();
        complete(&mut said, object(userinfo).unwrap());
        identity(&said, &Wanted::default()).unwrap().email
    }

    #[test]
    fn address_counts_only_with_the_word_beside_it() {
        let verified = json!({"sub": "ann", "email": "ann@example.com", "email_verified": true});
        assert_eq!(address(json!({"sub": "ann"}), verified.clone()), "ann@example.com");
        assert_eq!(address(verified.clone(), json!({"email": "boss@example.com"})), "ann@example.com");
        assert_eq!(address(verified.clone(), json!({"email_verified": false})), "ann@example.com");
        let others = json!({"sub": "ann", "email": "boss@example.com"});
        assert_eq!(address(others.clone(), verified.clone()), "", "the word of userinfo is about another address");
        assert_eq!(address(others.clone(), json!({"email_verified": true})), "", "it has no address of its own");
        assert_eq!(address(json!({"sub": "ann", "email_verified": true}), others), "", "nor has the token");
    }
}
