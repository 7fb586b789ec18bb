//! What a token has to say.

use serde_json::{Map, Value as Json};

use super::super::super::error::{JWT_INVALID, JWT_NOT_PERMITTED};
use super::super::super::template::Template;
use super::Flaw;

/// Who may have issued a token, and for whom.
#[derive(Debug)]
pub(in crate::policy::actions) struct Expected {
    pub(in crate::policy::actions) issuers: Vec<Template>,
    /// Empty: for anybody.
    pub(in crate::policy::actions) audiences: Vec<String>,
}

impl Expected {
    /// Checks the claims at a time in seconds since 1970; `issuers` are the allowed ones as they are for this request.
    pub(in crate::policy::actions) fn check(
        &self,
        claims: &Map<String, Json>,
        issuers: &[String],
        now: i64,
    ) -> Result<(), Flaw> {
        let invalid = |reason: &str| Err(Flaw::new(JWT_INVALID, reason));
        match time(claims, "exp")? {
            None => return invalid("the token has no exp: it would never expire"),
            Some(end) if end.saturating_add(LEEWAY_SECS) < now => return invalid("the token has expired (exp)"),
            Some(_) => {}
        }
        if time(claims, "nbf")?.is_some_and(|begin| begin.saturating_sub(LEEWAY_SECS) > now) {
            return invalid("the token is not valid yet (nbf)");
        }
        let issuer = claims.get("iss").and_then(Json::as_str);
        if !issuer.is_some_and(|issuer| issuers.iter().any(|allowed| allowed == issuer)) {
            return Err(Flaw::new(JWT_NOT_PERMITTED, "the token's issuer (iss) is not among the allowed ones"));
        }
        if self.audiences.is_empty() {
            return Ok(());
        }
        let is_for = |audience: &Json| audience.as_str().is_some_and(|it| self.audiences.iter().any(|own| own == it));
        let is_for_us = match claims.get("aud") {
            Some(Json::Array(list)) => list.iter().any(is_for),
            Some(single) => is_for(single),
            None => false,
        };
        if is_for_us {
            return Ok(());
        }
        Err(Flaw::new(JWT_NOT_PERMITTED, "the token's audience (aud) is not among the allowed ones"))
    }
}

/// A time in seconds since 1970. One that is there and is no number must not count as absent.
fn time(claims: &Map<String, Json>, name: &str) -> Result<Option<i64>, Flaw> {
    let malformed = || Flaw::new(JWT_INVALID, format!("the token's {name} is not a time"));
    match claims.get(name) {
        None => Ok(None),
        Some(Json::Number(number)) => match (number.as_i64(), number.as_f64()) {
            (Some(seconds), _) => Ok(Some(seconds)),
            #[expect(clippy::cast_possible_truncation, reason = "a time beyond the range is at its end")]
            (None, Some(seconds)) => Ok(Some(seconds as i64)),
            (None, None) => Err(malformed()),
        },
        Some(_) => Err(malformed()),
    }
}

/// How far the clocks of issuer and gateway may be apart.
const LEEWAY_SECS: i64 = 60;
