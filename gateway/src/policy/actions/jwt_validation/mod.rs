//! `jwt-validation`: lets through only requests whose tokens a listed issuer has signed.

mod claims;
mod fetch;
mod jws;
mod keys;
mod strict_json;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use http::header::WWW_AUTHENTICATE;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde_json::{Map, Value as Json};

use super::super::Refused;
use super::super::document::Place;
use super::super::error::{CONFIG, CONFIG_VALUE, JWT_INVALID, JWT_KEYS, JWT_MISSING, JWT_NOT_PERMITTED, JWT_PREFIX};
use super::super::error::{JWT_HEADER_MISSING, JWT_UNPARSABLE};
use super::super::expression::Value;
use super::super::fields::Fields;
use super::super::phase::{Phase, Step};
use super::super::run::{Run, error_code};
use super::{Action, Kind, Outcome};
use claims::Expected;
use fetch::Reach;
use jws::{Algorithm, Jws};
use keys::{Source, Trial};

pub(super) const KIND: Kind = Kind { name: "jwt-validation", phases: &[Phase::HttpRequest], compile };

#[derive(Debug)]
struct JwtValidation {
    tokens: Vec<TokenPlace>,
    algorithms: Vec<Algorithm>,
    expected: Expected,
    sources: Vec<Arc<Source>>,
}

/// Where a token has to be. All of a policy's tokens have to be there and to hold.
#[derive(Debug)]
struct TokenPlace {
    kind: TokenKind,
    header: HeaderName,
    prefix: Box<str>,
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
            Self::AccessToken => matches!(typ, None | Some("jwt" | "at+jwt")),
            Self::IdToken => matches!(typ, None | Some("jwt" | "it+jwt")),
            Self::AtJwt => typ == Some("at+jwt"),
            Self::ItJwt => typ == Some("it+jwt"),
            Self::Plain => matches!(typ, None | Some("jwt")),
        }
    }
}

/// Why a request does not pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Flaw {
    code: u32,
    /// For the log; never a part of the token but names that can be published.
    reason: String,
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
            _ => StatusCode::UNAUTHORIZED,
        }
    }
}

impl Action for JwtValidation {
    fn protects(&self) -> bool {
        true
    }

    fn run<'r>(&'r self, run: &'r mut Run<'_, '_, '_>) -> Outcome<'r> {
        Outcome::Later(Box::pin(async move {
            let now = run.now.unix_timestamp();
            let found = match run.headers() {
                Some(headers) => self.find(headers),
                None => return Step::Next,
            };
            let mut tokens = Vec::new();
            let mut flaw = None;
            match found {
                Ok(found) => {
                    for (place, text) in found {
                        match self.check(place, &text, now).await {
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
    /// The tokens of a request as they stand there.
    fn find<'s>(&'s self, headers: &HeaderMap) -> Result<Vec<(&'s TokenPlace, String)>, Flaw> {
        self.tokens.iter().map(|place| Ok((place, place.find(headers)?))).collect()
    }

    async fn check(&self, place: &TokenPlace, text: &str, now: i64) -> Result<Value, Flaw> {
        let jws = Jws::parse(text)?;
        let algorithm = jws.algorithm(&self.algorithms)?;
        jws.check_header(&self.sources)?;
        if !place.kind.allows(jws.text("typ")) {
            return Err(Flaw::new(JWT_INVALID, "the token's typ says that it is for something else"));
        }
        let key_id = jws.text("kid");
        self.check_signature(&jws, algorithm, key_id).await?;
        self.expected.check(&jws.payload, now)?;
        Ok(Value::map([
            ("header", Value::from_json(&Json::Object(jws.header.clone()))),
            ("payload", Value::from_json(&Json::Object(jws.payload.clone()))),
            ("signature", Value::text(jws.signature_text)),
            ("location", Value::text("header")),
            ("location_property", Value::text(place.header.as_str())),
            ("verified", Value::Bool(true)),
        ]))
    }
}

impl JwtValidation {
    async fn check_signature(&self, jws: &Jws<'_>, algorithm: Algorithm, key_id: Option<&str>) -> Result<(), Flaw> {
        let (mut failure, mut best) = (None, Trial::NoKey);
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

impl TokenPlace {
    fn find(&self, headers: &HeaderMap) -> Result<String, Flaw> {
        let mut lines = headers.get_all(&self.header).iter();
        let Some(line) = lines.next() else {
            return Err(Flaw::new(JWT_HEADER_MISSING, format!("the request has no header {}", self.header)));
        };
        if lines.next().is_some() {
            return Err(Flaw::new(JWT_INVALID, format!("the request has more than one header {}", self.header)));
        }
        let unreadable = || Flaw::new(JWT_UNPARSABLE, format!("the header {} is not ASCII", self.header));
        let line = line.to_str().map_err(|_| unreadable())?;
        let head = line.get(..self.prefix.len()).unwrap_or_default();
        if !head.eq_ignore_ascii_case(&self.prefix) {
            return Err(Flaw::new(
                JWT_PREFIX,
                format!("the header {} does not begin with {:?}", self.header, self.prefix),
            ));
        }
        let token = line.get(self.prefix.len()..).unwrap_or_default().trim();
        if token.is_empty() {
            return Err(Flaw::new(JWT_MISSING, format!("the header {} has no token", self.header)));
        }
        Ok(token.to_owned())
    }
}

fn refusal(flaw: Flaw) -> Step {
    let status = flaw.status();
    let message = match status {
        StatusCode::FORBIDDEN => "The token that came with the request is not for this endpoint.",
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

fn compile(fields: &mut Fields<'_>, _phase: Phase, place: Place) -> Option<Box<dyn Action>> {
    let issuers = read_allow_list(fields, "issuer", true);
    let audiences = read_allow_list(fields, "audience", false);
    let tokens = read_tokens(fields);
    let (algorithms, sources) = read_jws(fields, place);
    let expected = Expected { issuers, audiences };
    Some(Box::new(JwtValidation { tokens, algorithms, expected, sources }))
}

/// `{allow_list: [{value: …}]}`; plain texts instead of the inner objects will do.
fn read_allow_list(fields: &mut Fields<'_>, name: &'static str, is_required: bool) -> Vec<String> {
    let Some(value) = fields.value(name) else {
        if is_required {
            fields.wrong_at(
                name,
                &["allow_list"],
                CONFIG,
                "is missing: write for example [{value: https://idp.example.com}]",
            );
        }
        return Vec::new();
    };
    let Some(list) = only_member(fields, name, &[], value, "allow_list").and_then(Json::as_array) else {
        fields.wrong_at(name, &["allow_list"], CONFIG, "must be a list such as [{value: https://idp.example.com}]");
        return Vec::new();
    };
    if list.is_empty() || list.len() > LIST_MAX {
        fields.wrong_at(name, &["allow_list"], CONFIG, format!("must have 1 to {LIST_MAX} entries"));
    }
    let mut values = Vec::new();
    for (index, entry) in list.iter().enumerate() {
        let text = entry.as_str().or_else(|| {
            let entry = entry.as_object().filter(|entry| entry.len() == 1)?;
            entry.get("value")?.as_str()
        });
        match text.filter(|text| !text.is_empty()) {
            Some(text) => values.push(text.to_owned()),
            None => fields.wrong_at(name, &["allow_list", &format!("[{index}]")], CONFIG, "must be {value: text}"),
        }
    }
    values
}

/// The member of an object that must have no other.
fn only_member<'v>(
    fields: &mut Fields<'_>,
    name: &'static str,
    path: &[&str],
    value: &'v Json,
    member: &str,
) -> Option<&'v Json> {
    let map = object(value)?;
    for key in map.keys().filter(|key| *key != member) {
        let path: Vec<&str> = path.iter().copied().chain([key.as_str()]).collect();
        fields.wrong_at(name, &path, CONFIG_VALUE, format!("is not a field here: there is {member}"));
    }
    map.get(member)
}

/// An object; the reference has lists of one in some places where its examples have none.
fn object(value: &Json) -> Option<&Map<String, Json>> {
    match value {
        Json::Object(map) => Some(map),
        Json::Array(list) => match list.as_slice() {
            [Json::Object(map)] => Some(map),
            _ => None,
        },
        _ => None,
    }
}

fn read_tokens(fields: &mut Fields<'_>) -> Vec<TokenPlace> {
    let list = fields.value("http").and_then(|http| {
        only_member(fields, "http", &[], http, "tokens").and_then(Json::as_array).filter(|list| !list.is_empty())
    });
    let Some(list) = list.filter(|list| list.len() <= TOKENS_MAX) else {
        let message = format!(
            "must be a list of 1 to {TOKENS_MAX} such as {{type: jwt, method: header, name: \
                               Authorization, prefix: \"Bearer \"}}"
        );
        fields.wrong_at("http", &["tokens"], CONFIG, message);
        return Vec::new();
    };
    let mut tokens = Vec::new();
    for (index, entry) in list.iter().enumerate() {
        let at = format!("[{index}]");
        let Some(map) = entry.as_object() else {
            fields.wrong_at("http", &["tokens", &at], CONFIG, "must be an object");
            continue;
        };
        for key in map.keys().filter(|key| !["type", "method", "name", "prefix"].contains(&key.as_str())) {
            let message = "is not a field of a token: it has type, method, name, prefix";
            fields.wrong_at("http", &["tokens", &at, key], CONFIG_VALUE, message);
        }
        let mut text = |key: &str, default: Option<&str>| match map.get(key) {
            Some(Json::String(text)) => Some(text.clone()),
            None | Some(Json::Null) if default.is_some() => default.map(str::to_owned),
            _ => {
                fields.wrong_at("http", &["tokens", &at, key], CONFIG, "must be a text");
                None
            }
        };
        let (kind, method) = (text("type", None), text("method", None));
        let (name, prefix) = (text("name", None), text("prefix", Some("")));
        let parsed = kind.as_deref().and_then(TokenKind::named);
        if kind.is_some() && parsed.is_none() {
            let message = "must be jwt, access_token, id_token, at+jwt, it+jwt or plain";
            fields.wrong_at("http", &["tokens", &at, "type"], CONFIG_VALUE, message);
        }
        match method.as_deref() {
            None | Some("header") => {}
            Some("body") => {
                let message = "cannot be body on this gateway, which lets bodies pass unread: use header";
                fields.wrong_at("http", &["tokens", &at, "method"], CONFIG_VALUE, message);
            }
            Some(_) => fields.wrong_at("http", &["tokens", &at, "method"], CONFIG_VALUE, "must be header"),
        }
        let header = name.as_deref().and_then(|name| HeaderName::from_bytes(name.as_bytes()).ok());
        if name.is_some() && header.is_none() {
            fields.wrong_at("http", &["tokens", &at, "name"], CONFIG_VALUE, "must be the name of a header");
        }
        if let (Some(kind), Some(header), Some(prefix)) = (parsed, header, prefix) {
            tokens.push(TokenPlace { kind, header, prefix: prefix.into() });
        }
    }
    tokens
}

fn read_jws(fields: &mut Fields<'_>, place: Place) -> (Vec<Algorithm>, Vec<Arc<Source>>) {
    let Some(map) = fields.value("jws").and_then(object) else {
        fields.wrong_at("jws", &[], CONFIG, "must be an object with allowed_algorithms and keys");
        return (Vec::new(), Vec::new());
    };
    for key in map.keys().filter(|key| !["allowed_algorithms", "keys"].contains(&key.as_str())) {
        fields.wrong_at("jws", &[key], CONFIG_VALUE, "is not a field of jws: it has allowed_algorithms, keys");
    }
    let mut algorithms = Vec::new();
    let list = map.get("allowed_algorithms").and_then(Json::as_array).map(Vec::as_slice).unwrap_or_default();
    if list.is_empty() {
        let message = "must be a list of at least one algorithm such as RS256 or ES256";
        fields.wrong_at("jws", &["allowed_algorithms"], CONFIG, message);
    }
    for (index, name) in list.iter().enumerate() {
        match name.as_str().and_then(Algorithm::named) {
            Some(algorithm) => algorithms.push(algorithm),
            None => {
                let path = ["allowed_algorithms", &format!("[{index}]")];
                let message = format!("must be one of {}: no others are safe with published keys", Algorithm::NAMES);
                fields.wrong_at("jws", &path, CONFIG_VALUE, message);
            }
        }
    }
    (algorithms, read_sources(fields, map.get("keys"), place))
}

fn read_sources(fields: &mut Fields<'_>, keys: Option<&Json>, place: Place) -> Vec<Arc<Source>> {
    let Some(map) = keys.and_then(object) else {
        fields.wrong_at("jws", &["keys"], CONFIG, "must be an object with sources");
        return Vec::new();
    };
    for key in map.keys().filter(|key| !["sources", "identification"].contains(&key.as_str())) {
        fields.wrong_at("jws", &["keys", key], CONFIG_VALUE, "is not a field of keys: it has sources, identification");
    }
    if let Some(identification) = map.get("identification") {
        let claims = only_member(fields, "jws", &["keys", "identification"], identification, "token_claims");
        if claims.and_then(Json::as_array).is_none_or(|claims| claims.iter().any(|claim| claim != "kid")) {
            let message = "must be [kid]: nothing else in a token names its key";
            fields.wrong_at("jws", &["keys", "identification", "token_claims"], CONFIG_VALUE, message);
        }
    }
    let sources = map.get("sources");
    let list = sources.and_then(|sources| {
        only_member(fields, "jws", &["keys", "sources"], sources, "additional_jkus").and_then(Json::as_array)
    });
    let Some(list) = list.filter(|list| (1..=SOURCES_MAX).contains(&list.len())) else {
        let message = format!("must be a list of 1 to {SOURCES_MAX} addresses of key sets");
        fields.wrong_at("jws", &["keys", "sources", "additional_jkus"], CONFIG, message);
        return Vec::new();
    };
    let reach = if place.is_cloud() { Reach::Anywhere } else { Reach::Public };
    let mut found = Vec::new();
    for (index, url) in list.iter().enumerate() {
        match url.as_str().ok_or("must be a text").and_then(|url| Source::shared(url, reach)) {
            Ok(source) => found.push(source),
            Err(message) => {
                let path = ["keys", "sources", "additional_jkus", &format!("[{index}]")];
                fields.wrong_at("jws", &path, CONFIG_VALUE, message);
            }
        }
    }
    found
}

/// As in ngrok's reference.
const SOURCES_MAX: usize = 100;
/// Issuers, and audiences.
const LIST_MAX: usize = 100;
/// Tokens that one request has to bring.
const TOKENS_MAX: usize = 10;
