//! What the gateway asks a provider by itself: tokens for a code, and who somebody is.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use serde::Deserialize;
use serde_json::Value as Json;

use super::super::jwt_validation::fetch::{self, Asking, Reach};
use super::flaw::{Flaw, Wrong};
use super::settings::Client;
use crate::login::query::{encode, form_text};
use crate::login::tokens::{TOKENS_BYTES_MAX, Tokens};

/// Why the provider gave nothing.
#[derive(Debug)]
pub(super) enum NoAnswer {
    /// It says that what it was given does not count any more.
    Expired(String),
    /// Something else.
    Flaw(Flaw),
}

/// What a token endpoint answers (RFC 6749, 5.1 and 5.2). Some say a failure with status 200.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Answer {
    access_token: Option<String>,
    refresh_token: Option<String>,
    id_token: Option<String>,
    /// Seconds; some write it as a text.
    expires_in: Option<Json>,
    error: Option<Json>,
    error_description: Option<Json>,
}

/// Asks for tokens. `form` holds the grant.
pub(super) async fn tokens(
    endpoint: &Uri,
    reach: Reach,
    client: &Client,
    secret_in_body: bool,
    form: &[(&str, &str)],
    now: i64,
) -> Result<Tokens, NoAnswer> {
    let own = |message: &str| NoAnswer::Flaw(Flaw::new(Wrong::Own, message));
    let mut fields = form.to_vec();
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    if secret_in_body {
        fields.extend([("client_id", &*client.id), ("client_secret", &*client.secret)]);
    } else {
        let pair = STANDARD.encode(format!("{}:{}", encode(&client.id), encode(&client.secret)));
        let line = HeaderValue::from_str(&format!("Basic {pair}"));
        let mut line = line.map_err(|_| own("the client's name or secret cannot be sent"))?;
        line.set_sensitive(true);
        headers.insert(AUTHORIZATION, line);
    }
    let asking = Asking { method: Method::POST, headers, body: form_text(&fields).into() };
    let (status, body) = fetch::send(endpoint, reach, asking)
        .await
        .map_err(|reason| NoAnswer::Flaw(Flaw::new(Wrong::Unreachable, format!("token endpoint: {reason}"))))?;
    read(status, &body, now)
}

fn read(status: StatusCode, body: &[u8], now: i64) -> Result<Tokens, NoAnswer> {
    let flaw = |wrong, reason: String| NoAnswer::Flaw(Flaw::new(wrong, format!("token endpoint: {reason}")));
    let answer: Result<Answer, _> = serde_json::from_slice(body);
    let Ok(answer) = answer else {
        let wrong = if status.is_server_error() { Wrong::Unreachable } else { Wrong::Provider };
        return Err(flaw(wrong, format!("status {} and no JSON", status.as_u16())));
    };
    if let Some(error) = answer.error.as_ref().and_then(Json::as_str) {
        let described = answer.error_description.as_ref().and_then(Json::as_str).unwrap_or_default();
        let reason = format!("{} {}", shown(error), shown(described));
        return Err(match error {
            "invalid_grant" | "bad_verification_code" | "bad_refresh_token" => NoAnswer::Expired(reason),
            _ => flaw(Wrong::Provider, reason),
        });
    }
    if !status.is_success() {
        let wrong = if status.is_server_error() { Wrong::Unreachable } else { Wrong::Provider };
        return Err(flaw(wrong, format!("status {}", status.as_u16())));
    }
    let access = answer.access_token.filter(|token| !token.is_empty());
    let access = access.ok_or_else(|| flaw(Wrong::Provider, "the answer has no access_token".into()))?;
    let seconds = answer.expires_in.as_ref().and_then(|it| it.as_i64().or_else(|| it.as_str()?.parse().ok()));
    let tokens = Tokens {
        access,
        refresh: answer.refresh_token.unwrap_or_default(),
        identity: answer.id_token.unwrap_or_default(),
        expires: seconds.map(|seconds| now.saturating_add(seconds.max(0))),
    };
    if tokens.len() > TOKENS_BYTES_MAX {
        return Err(flaw(Wrong::Provider, format!("its tokens have more than {TOKENS_BYTES_MAX} bytes")));
    }
    Ok(tokens)
}

/// Asks for a document about the person whose access token this is.
pub(super) async fn about(
    endpoint: &Uri,
    reach: Reach,
    access: &str,
    more: Option<(&'static str, &str)>,
) -> Result<Json, NoAnswer> {
    let flaw = |wrong, reason: String| NoAnswer::Flaw(Flaw::new(wrong, format!("userinfo: {reason}")));
    let line = HeaderValue::from_str(&format!("Bearer {access}"));
    let mut line = line.map_err(|_| flaw(Wrong::Provider, "the access token cannot be sent in a header".into()))?;
    line.set_sensitive(true);
    let mut headers = HeaderMap::from_iter([(AUTHORIZATION, line)]);
    if let Some((name, value)) = more {
        let value = HeaderValue::from_str(value).map_err(|_| flaw(Wrong::Own, format!("{name} cannot be sent")))?;
        headers.insert(name, value);
    }
    let answer = fetch::send(endpoint, reach, Asking { headers, ..Asking::default() }).await;
    let (status, body) = answer.map_err(|reason| flaw(Wrong::Unreachable, reason))?;
    match status {
        StatusCode::OK => {
            serde_json::from_slice(&body).map_err(|_| flaw(Wrong::Provider, "the answer is not JSON".into()))
        }
        StatusCode::UNAUTHORIZED => Err(NoAnswer::Expired("userinfo: the access token does not count".into())),
        status if status.is_server_error() => Err(flaw(Wrong::Unreachable, format!("status {}", status.as_u16()))),
        status => Err(flaw(Wrong::Provider, format!("status {}", status.as_u16()))),
    }
}

/// What a provider says, as a log can take it.
pub(super) fn shown(text: &str) -> String {
    text.chars().take(SHOWN_CHARS_MAX).flat_map(char::escape_debug).collect()
}

const SHOWN_CHARS_MAX: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(status: u16, body: &str) -> Wrong {
        match read(StatusCode::from_u16(status).unwrap(), body.as_bytes(), 0) {
            Err(NoAnswer::Flaw(flaw)) => flaw.wrong,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn tokens_are_read_with_their_time() {
        let body = r#"{"access_token":"a","refresh_token":"r","id_token":"i","expires_in":"60","token_type":"bearer"}"#;
        let tokens = read(StatusCode::OK, body.as_bytes(), 1000).unwrap();
        assert_eq!(
            tokens,
            Tokens { access: "a".into(), refresh: "r".into(), identity: "i".into(), expires: Some(1060) }
        );
        let tokens = read(StatusCode::OK, br#"{"access_token":"a","expires_in":-5}"#, 1000).unwrap();
        assert_eq!(tokens.expires, Some(1000));
    }

    #[test]
    fn failures_are_told_apart() {
        assert_eq!(wrong(500, "oops"), Wrong::Unreachable);
        assert_eq!(wrong(503, "{}"), Wrong::Unreachable);
        assert_eq!(wrong(200, "<html>"), Wrong::Provider);
        assert_eq!(wrong(401, r#"{"error":"invalid_client"}"#), Wrong::Provider);
        assert_eq!(wrong(200, r#"{"error":"redirect_uri_mismatch"}"#), Wrong::Provider);
        assert_eq!(wrong(200, r#"{"token_type":"bearer"}"#), Wrong::Provider);
        let large = format!(r#"{{"access_token":"{}"}}"#, "x".repeat(TOKENS_BYTES_MAX + 1));
        assert_eq!(wrong(200, &large), Wrong::Provider);
        let expired = read(StatusCode::BAD_REQUEST, br#"{"error":"invalid_grant","error_description":"a\nb"}"#, 0);
        assert!(matches!(expired, Err(NoAnswer::Expired(reason)) if reason == "invalid_grant a\\nb"));
    }
}
