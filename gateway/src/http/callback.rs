//! The gateway's own callback host: takes people back from a provider, and sends them on to the endpoint where they began.
//!
//! Nothing else is served there: whoever could put a page on that name could read what providers say in its addresses.

use std::borrow::Cow;

use http::header::{CACHE_CONTROL, LOCATION, REFERRER_POLICY};
use http::request::Parts;
use http::{HeaderValue, StatusCode};
use percent_encoding::percent_decode_str;
use time::OffsetDateTime;

use crate::login::LogIns;
use crate::login::hand_over::{CALLBACK_PATH, HandOverError, Party, pass_on};
use crate::policy::{CustomResponse, Refused};

/// Answers a request at the callback host. `None`: it is for another one.
pub(super) fn answer(log_ins: &LogIns, host: &str, head: &Parts) -> Option<Result<CustomResponse, Box<Refused>>> {
    log_ins.callback_host.as_ref().filter(|callback| callback.host() == host)?;
    let Some((account, client)) = party(head.uri.path()) else {
        return Some(Err(Box::new(Refused::new(StatusCode::NOT_FOUND, 3200, NOTHING))));
    };
    let party = Party { account: &account, client: &client };
    let now = OffsetDateTime::now_utc().unix_timestamp();
    let passed = pass_on(&log_ins.keys, party, head.uri.query().unwrap_or_default(), now);
    Some(passed.map_err(refused).and_then(|location| {
        let location = HeaderValue::from_str(&location).map_err(|_| refused(HandOverError::Seal))?;
        let mut response = CustomResponse::empty(StatusCode::SEE_OTHER);
        response.headers.insert(LOCATION, location);
        response.headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response.headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        Ok(response)
    }))
}

/// Account and mark in a callback address.
fn party(path: &str) -> Option<(Cow<'_, str>, Cow<'_, str>)> {
    let (account, client) = path.strip_prefix(CALLBACK_PATH)?.strip_prefix('/')?.split_once('/')?;
    let decoded = |text| percent_decode_str(text).decode_utf8().ok();
    Some((decoded(account)?, decoded(client)?))
}

fn refused(error: HandOverError) -> Box<Refused> {
    tracing::info!(?error, "a callback is handed to no endpoint");
    let (status, code, message) = match error {
        HandOverError::Malformed(_) | HandOverError::State => (StatusCode::BAD_REQUEST, 5200, UNKNOWN),
        HandOverError::Late => (StatusCode::BAD_REQUEST, 3119, LATE),
        HandOverError::Long => (StatusCode::BAD_GATEWAY, 5208, LONG),
        HandOverError::Seal => (StatusCode::INTERNAL_SERVER_ERROR, 2300, OWN),
    };
    Box::new(Refused::new(status, code, message))
}

const NOTHING: &str = "This name is for log-ins on their way back. There is nothing else here.";
const UNKNOWN: &str = "This log-in was not begun here. Go to the page that you wanted to see, and log in again.";
const LATE: &str = "The log-in took more than 15 minutes. Go to the page that you wanted to see, and log in again.";
const LONG: &str =
    "What the log-in provider says is too long. Whoever runs this service has to look at its settings there.";
const OWN: &str = "The gateway cannot log you in at the moment. Whoever runs it has to look into its log.";

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::login::hand_over::{self, CallbackHost};
    use crate::login::seal::Keys;
    use crate::login::spent::Journal;

    const MAIN: Party<'_> = Party { account: "main", client: "mark" };

    fn asked(log_ins: &LogIns, host: &str, uri: &str) -> Option<Result<CustomResponse, Box<Refused>>> {
        let (mut head, ()) = http::Request::new(()).into_parts();
        head.uri = uri.parse().unwrap();
        answer(log_ins, host, &head)
    }

    #[test]
    fn callback_host_answers_its_own_path_and_nothing_else() {
        let log_ins = LogIns::new(Keys::derive([&b"k"[..]]), Arc::new(Journal::in_memory()));
        let now = OffsetDateTime::now_utc().unix_timestamp();
        let state = hand_over::state(&log_ins.keys, MAIN, ("id", "app.example.com"), now + 60).unwrap();
        let path = format!("/ngrok/oauth2/callback/main/mark?code=a&state={state}");
        assert!(asked(&log_ins, "login.example.com", &path).is_none(), "it is not configured");
        let log_ins = log_ins.with_callback_host(CallbackHost::parse("login.example.com").ok());
        let response = asked(&log_ins, "login.example.com", &path).unwrap().unwrap();
        let location = response.headers[LOCATION].to_str().unwrap();
        assert!(location.starts_with("https://app.example.com/ngrok/oauth2/callback?state=id&ticket="), "{location}");
        assert_eq!(
            (response.status, response.headers[CACHE_CONTROL].to_str().unwrap()),
            (StatusCode::SEE_OTHER, "no-store")
        );
        assert!(asked(&log_ins, "app.example.com", &path).is_none());
        for path in ["/ngrok/oauth2/callback", "/ngrok/oauth2/callback/main", "/ngrok/oauth2/callbacks/main/mark", "/"]
        {
            let refused = asked(&log_ins, "login.example.com", path).unwrap().unwrap_err();
            assert_eq!((refused.code, refused.status), (3200, StatusCode::NOT_FOUND), "{path}");
        }
        for (path, code) in [
            ("main/mark?code=a", 5200),
            ("other/mark?code=a&state=STATE", 5200),
            ("main/other?code=a&state=STATE", 5200),
            ("main/mark?code=a&state=STATE&state=x", 5200),
        ] {
            let path = format!("/ngrok/oauth2/callback/{}", path.replace("STATE", &state));
            let refused = asked(&log_ins, "login.example.com", &path).unwrap().unwrap_err();
            assert_eq!(refused.code, code, "{path}");
        }
        let late = hand_over::state(&log_ins.keys, MAIN, ("id", "app.example.com"), now - 60).unwrap();
        let path = format!("/ngrok/oauth2/callback/main/mark?code=a&state={late}");
        assert_eq!(asked(&log_ins, "login.example.com", &path).unwrap().unwrap_err().code, 3119);
    }
}
