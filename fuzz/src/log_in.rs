//! What browsers and providers send to log-ins: cookies, callbacks and the paths to come back to.

use adit_gateway::login::attempt::Attempt;
use adit_gateway::login::cookies;
use adit_gateway::login::hand_over::{Party, open, pass_on, state};
use adit_gateway::login::query::parameter;
use adit_gateway::login::return_path::return_path;
use adit_gateway::login::seal::Keys;
use adit_gateway::login::session::{Lifetime, Session};
use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};

/// Reads the input as each of them.
pub fn log_in(data: &[u8]) {
    let keys = Keys::derive([&b"key"[..]]);
    cookie(data);
    let Ok(text) = std::str::from_utf8(data) else { return };
    // Nobody seals anything without the key.
    assert!(keys.open("session", text).is_none());
    assert!(Session::open(&keys, "session", text).is_none() && Attempt::open(&keys, "login", text).is_none());
    sealed(&keys, data);
    callback(&keys, text);
    let path = return_path(text);
    assert!(path.starts_with('/') && !path.starts_with("//") && !path.contains('\\'), "{path:?}");
}

fn cookie(data: &[u8]) {
    let Ok(line) = HeaderValue::from_bytes(data) else { return };
    let mut headers = HeaderMap::from_iter([(COOKIE, line)]);
    let ours = cookies::take(&mut headers);
    for name in ["__Host-adit-session", "__Secure-adit-session-team"] {
        assert_eq!(cookies::values(&headers, name).count(), 0, "an upstream would get it");
        let _ = cookies::values(&ours, name).count();
    }
}

/// What was sealed is what was meant, but times and texts in it may be anything.
fn sealed(keys: &Keys, data: &[u8]) {
    let Ok(text) = keys.seal("session", data) else { return };
    if let Some(mut session) = Session::open(keys, "session", &text) {
        let hour = Lifetime { idle: time::Duration::hours(1), max: time::Duration::hours(8) };
        let _ = session.check(hour, NOW);
        let _ = session.touch(hour, NOW);
        let _ = session.ends(hour);
    }
    if let Some(attempt) = Attempt::open(keys, "session", &text) {
        let _ = (attempt.is_open(NOW), attempt.ends(), attempt.label().len(), attempt.challenge());
    }
}

fn callback(keys: &Keys, text: &str) {
    for name in ["code", "state", "error", "iss"] {
        let _ = parameter(text, name);
    }
    assert!(pass_on(keys, MAIN, text, NOW).is_err(), "a state that nobody sealed");
    let home = ("id", "app.example.com");
    let Ok(state) = state(keys, MAIN, home, NOW) else { return };
    let Ok(location) = pass_on(keys, MAIN, &format!("state={state}&{text}"), NOW) else { return };
    assert!(location.starts_with("https://app.example.com/ngrok/oauth2/callback?state=id&ticket="), "{location}");
    assert!(HeaderValue::from_str(&location).is_ok(), "{location}");
    let (_, ticket) = location.split_once("&ticket=").unwrap_or_default();
    let said = open(keys, MAIN, home, ticket, NOW);
    assert_eq!(said.and_then(|said| said.code), parameter(text, "code").ok().flatten());
}

const MAIN: Party<'_> = Party { account: "main", client: "mark" };
const NOW: i64 = 1_000_000_000;
