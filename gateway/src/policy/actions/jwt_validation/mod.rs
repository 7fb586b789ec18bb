//! `jwt-validation`: lets through only requests whose tokens a listed issuer has signed.

mod body;
pub(super) mod claims;
mod configuration;
pub(super) mod fetch;
pub(super) mod jws;
pub(super) mod keys;
mod strict_json;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use http::header::WWW_AUTHENTICATE;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde_json::Value as Json;

use super::super::Refused;
use super::super::error::{
    BODY_UNREAD, JWT_BODY_FORM, JWT_BODY_JSON, JWT_HEADER_MISSING, JWT_INVALID, JWT_KEYS, JWT_MISSING,
    JWT_NOT_PERMITTED, JWT_PREFIX, JWT_UNPARSABLE,
};
use super::super::expression::{Fault, Value};
use super::super::payload::Payload;
use super::super::phase::{Phase, Step};
use super::super::run::{Run, Subject, error_code};
use super::super::template::Template;
use super::{Action, Kind, Outcome};
use claims::Expected;
use configuration::compile;
use jws::{Algorithm, Jws};
use keys::{Keys, Source, Trial};

pub(super) const KIND: Kind = Kind { name: "jwt-validation", phases: &[Phase::HttpRequest], compile };

#[derive(Debug)]
struct JwtValidation {
    tokens: Vec<TokenPlace>,
    algorithms: Vec<Algorithm>,
    expected: Expected,
    sources: Vec<Arc<Source>>,
    /// Keys of files, read when the policy was loaded.
    files: Vec<Keys>,
}

/// Where a token has to be. All of a policy's tokens have to be there and to hold.
#[derive(Debug)]
struct TokenPlace {
    kind: TokenKind,
    /// A field of the body; otherwise a header.
    is_in_body: bool,
    name: Template,
    prefix: Template,
}

/// What a policy says with values of a request in it, as it is for this request.
struct Rendered<'p> {
    issuers: Vec<String>,
    /// With where the token is, and what stands in front of it there.
    places: Vec<(&'p TokenPlace, Location, String)>,
}

/// Where a token of this request has to be.
enum Location {
    Header(HeaderName),
    Body(String),
}

/// What a token is for, which its `typ` has to agree with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TokenKind {
    Jwt,
    AccessToken,
    IdToken,
    AtJwt,
    ItJwt,
    Plain,
}

impl TokenKind {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "jwt" => Self::Jwt,
            "access_token" => Self::AccessToken,
            "id_token" => Self::IdToken,
            "at+jwt" => Self::AtJwt,
            "it+jwt" => Self::ItJwt,
            "plain" => Self::Plain,
            _ => return None,
        })
    }

    /// Tokens for other purposes of the same issuer (log-out, proof of possession) say so in `typ`, and are none of these.
    fn allows(self, typ: Option<&str>) -> bool {
        let typ = typ.map(|typ| typ.to_ascii_lowercase());
        let typ = typ.as_deref().map(|typ| typ.strip_prefix("application/").unwrap_or(typ));
        match self {
            Self::Jwt => matches!(typ, None | Some("jwt" | "at+jwt" | "it+jwt")),
            // Many issuers name no type, or only the general one.
            Self::AccessToken | Self::AtJwt => matches!(typ, None | Some("jwt" | "at+jwt")),
            Self::IdToken | Self::ItJwt => matches!(typ, None | Some("jwt" | "it+jwt")),
            Self::Plain => matches!(typ, None | Some("jwt")),
        }
    }
}

/// Why a request does not pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Flaw {
    code: u32,
    /// For the log; never a part of the token but names that can be published.
    pub(super) reason: String,
}

impl Flaw {
    pub(super) fn new(code: u32, reason: impl Into<String>) -> Self {
        Self { code, reason: reason.into() }
    }

    fn status(&self) -> StatusCode {
        match self.code {
            JWT_NOT_PERMITTED => StatusCode::FORBIDDEN,
            // It is not the visitor's fault, and may be over when it asks again.
            JWT_KEYS => StatusCode::BAD_GATEWAY,
            JWT_BODY_JSON | JWT_BODY_FORM | BODY_UNREAD => StatusCode::BAD_REQUEST,
            _ => StatusCode::UNAUTHORIZED,
        }
    }
}

impl Action for JwtValidation {
    fn protects(&self) -> bool {
        true
    }

    fn asks(&self) -> Option<String> {
        let urls: Vec<&str> = self.sources.iter().map(|source| source.url()).collect();
        (!urls.is_empty()).then(|| format!("keys at {}", urls.join(", ")))
    }

    fn run<'r>(&'r self, run: &'r mut Run<'_, '_, '_>) -> Outcome<'r> {
        Outcome::Later(Box::pin(async move {
            let now = run.now.unix_timestamp();
            let rendered = match self.render(run) {
                Ok(rendered) => rendered,
                Err((field, fault)) => return failed(field, &fault),
            };
            let (payload, account) = (run.state.payload.clone(), Arc::clone(&run.state.account));
            let payload = payload.as_deref().map(|payload| (payload, &account));
            let found = match &run.subject {
                Subject::Request(request) => find(&rendered.places, request.head, payload).await,
                Subject::Connection(_) | Subject::Response(_) => return Step::Next,
            };
            let mut tokens = Vec::new();
            let mut flaw = None;
            match found {
                Ok(found) => {
                    for ((place, location, _), text) in rendered.places.iter().zip(found) {
                        match self.check((place.kind, location), &text, &rendered.issuers, now).await {
                            Ok(token) => tokens.push(token),
                            Err(wrong) => {
                                flaw = Some(wrong);
                                break;
                            }
                        }
                    }
                }
                Err(wrong) => flaw = Some(wrong),
            }
            let mut result = vec![("tokens", Value::list(tokens))];
            if let Some(flaw) = &flaw {
                let code = Value::text(&error_code(flaw.code));
                result.push(("error", Value::map([("code", code), ("message", Value::text(&flaw.reason))])));
            }
            run.set_result("jwt_validation", Value::map(result));
            match flaw {
                None => Step::Next,
                Some(flaw) => refusal(flaw),
            }
        }))
    }
}

impl JwtValidation {
    fn render(&self, run: &mut Run<'_, '_, '_>) -> Result<Rendered<'_>, (&'static str, Fault)> {
        let issuers = self.expected.issuers.iter().map(|issuer| run.render(issuer));
        let issuers = issuers.collect::<Result<Vec<String>, Fault>>().map_err(|fault| ("issuer", fault))?;
        let mut places = Vec::with_capacity(self.tokens.len());
        for place in &self.tokens {
            let name = run.render(&place.name).map_err(|fault| ("http.tokens.name", fault))?;
            let location = if place.is_in_body {
                Location::Body(name)
            } else {
                let header = HeaderName::from_bytes(name.as_bytes());
                let no_name = || Fault::Invalid("it is not the name of a header".into());
                Location::Header(header.map_err(|_| ("http.tokens.name", no_name()))?)
            };
            let prefix = run.render(&place.prefix).map_err(|fault| ("http.tokens.prefix", fault))?;
            places.push((place, location, prefix));
        }
        Ok(Rendered { issuers, places })
    }

    async fn check(
        &self,
        (kind, location): (TokenKind, &Location),
        text: &str,
        issuers: &[String],
        now: i64,
    ) -> Result<Value, Flaw> {
        let jws = Jws::parse(text)?;
        let algorithm = jws.algorithm(&self.algorithms)?;
        jws.check_header(&self.sources)?;
        if !kind.allows(jws.text("typ")) {
            return Err(Flaw::new(JWT_INVALID, "the token's typ says that it is for something else"));
        }
        let key_id = jws.text("kid");
        self.check_signature(&jws, algorithm, key_id).await?;
        self.expected.check(&jws.payload, issuers, now)?;
        let (location, name) = match location {
            Location::Header(header) => ("header", header.as_str()),
            Location::Body(name) => ("body", name.as_str()),
        };
        Ok(Value::map([
            ("header", Value::from_json(&Json::Object(jws.header.clone()))),
            ("payload", Value::from_json(&Json::Object(jws.payload.clone()))),
            ("signature", Value::text(jws.signature_text)),
            ("location", Value::text(location)),
            ("location_property", Value::text(name)),
            ("verified", Value::Bool(true)),
        ]))
    }
}

impl JwtValidation {
    async fn check_signature(&self, jws: &Jws<'_>, algorithm: Algorithm, key_id: Option<&str>) -> Result<(), Flaw> {
        let (mut failure, mut best) = (None, Trial::NoKey);
        for keys in &self.files {
            best = best.max(keys.verify(jws, algorithm, key_id));
        }
        if best == Trial::Signed {
            return Ok(());
        }
        for source in &self.sources {
            match source.keys(key_id).await {
                Ok(keys) => best = best.max(keys.verify(jws, algorithm, key_id)),
                Err(reason) => failure = Some(reason),
            }
            if best == Trial::Signed {
                return Ok(());
            }
        }
        if let Some(reason) = failure {
            return Err(Flaw::new(JWT_KEYS, format!("the issuer's keys cannot be had: {reason}")));
        }
        let reason = match (best, key_id) {
            (Trial::NoKey, Some(_)) => "the token names a key (kid) that is not among the issuer's",
            (Trial::NoKey, None) => "the issuer has no key that could have signed the token",
            (Trial::OtherType, _) => "the issuer's key is for another algorithm than the token names",
            (Trial::OtherSignature | Trial::Signed, _) => "the token's signature is not by the issuer's key",
        };
        Err(Flaw::new(JWT_INVALID, reason))
    }
}

/// The tokens of a request as they stand there.
async fn find(
    places: &[(&TokenPlace, Location, String)],
    head: &Parts,
    payload: Option<(&dyn Payload, &Arc<str>)>,
) -> Result<Vec<String>, Flaw> {
    let is_in_body = places.iter().any(|(place, ..)| place.is_in_body);
    let fields = if is_in_body { body::fields(head, payload).await? } else { serde_json::Map::new() };
    let token = |(_, location, prefix): &(&TokenPlace, Location, String)| match location {
        Location::Header(header) => token_in(header, prefix, &head.headers),
        Location::Body(name) => body::token_in(&fields, name, prefix),
    };
    places.iter().map(token).collect()
}

fn token_in(header: &HeaderName, prefix: &str, headers: &HeaderMap) -> Result<String, Flaw> {
    let mut lines = headers.get_all(header).iter();
    let Some(line) = lines.next() else {
        return Err(Flaw::new(JWT_HEADER_MISSING, format!("the request has no header {header}")));
    };
    if lines.next().is_some() {
        return Err(Flaw::new(JWT_INVALID, format!("the request has more than one header {header}")));
    }
    let unreadable = || Flaw::new(JWT_UNPARSABLE, format!("the header {header} is not ASCII"));
    let line = line.to_str().map_err(|_| unreadable())?;
    let head = line.get(..prefix.len()).unwrap_or_default();
    if !head.eq_ignore_ascii_case(prefix) {
        return Err(Flaw::new(JWT_PREFIX, format!("the header {header} does not begin with {prefix:?}")));
    }
    let token = line.get(prefix.len()..).unwrap_or_default().trim();
    if token.is_empty() {
        return Err(Flaw::new(JWT_MISSING, format!("the header {header} has no token")));
    }
    Ok(token.to_owned())
}

fn failed(field: &str, fault: &Fault) -> Step {
    match Outcome::failed(field, fault) {
        Outcome::Done(step) => step,
        Outcome::Later(_) => Step::Next,
    }
}

fn refusal(flaw: Flaw) -> Step {
    let status = flaw.status();
    let message = match status {
        StatusCode::FORBIDDEN => "The token that came with the request is not for this endpoint.",
        StatusCode::BAD_REQUEST => "The body of the request, which has to bring a token, cannot be read.",
        StatusCode::BAD_GATEWAY => {
            "The keys to check tokens with cannot be had at the moment. Try again in a little while."
        }
        _ => "This endpoint asks for a valid token, and the request has none.",
    };
    let mut refused = Refused::new(status, flaw.code, message);
    if status == StatusCode::UNAUTHORIZED {
        refused.headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer error=\"invalid_token\""));
    }
    refused.reason = Some(flaw.reason);
    Step::End(super::super::Verdict::Refuse(Box::new(refused)))
}
