//! The gateway's own callback host: takes people back from a provider, and sends them on to the endpoint where they began.
//!
//! Nothing else is served there: whoever could put a page on that name could read what providers say in its addresses.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CACHE_CONTROL, LOCATION, REFERRER_POLICY};
use http::request::Parts;
use http::{HeaderValue, Method, StatusCode};
use percent_encoding::percent_decode_str;
use time::OffsetDateTime;
use tokio::time::timeout;

use crate::login::LogIns;
use crate::login::hand_over::{ACS_PATH, CALLBACK_PATH, HandOverError, Party, pass_form_on, pass_on};
use crate::login::query;
use crate::login::saml::plain_xml;
use crate::policy::{CustomResponse, Payload, PayloadFault, Refused};

/// Answers a request at the callback host. `None`: it is for another one.
pub(super) async fn answer(
    log_ins: &LogIns,
    host: &str,
    head: &Parts,
    body: &dyn Payload,
) -> Option<Result<CustomResponse, Box<Refused>>> {
    log_ins.callback_host.as_ref().filter(|callback| callback.host() == host)?;
    let now = OffsetDateTime::now_utc().unix_timestamp();
    let path = head.uri.path();
    if let Some((account, client)) = party(path, CALLBACK_PATH) {
        let party = Party { account: &account, client: &client };
        let passed = pass_on(&log_ins.keys, party, head.uri.query().unwrap_or_default(), now);
        return Some(passed.map_err(refused).and_then(|location| leads_to(StatusCode::SEE_OTHER, &location)));
    }
    let Some((account, client)) = party(path, ACS_PATH).filter(|_| head.method == Method::POST) else {
        return Some(Err(Box::new(Refused::new(StatusCode::NOT_FOUND, 3200, NOTHING))));
    };
    let party = Party { account: &account, client: &client };
    let passed = match relay_state(body).await {
        Ok(relay_state) => pass_form_on(&log_ins.keys, party, &relay_state, now).map_err(refused),
        Err(refused) => Err(refused),
    };
    // With this status the browser posts the form once more, as it is.
    Some(passed.and_then(|location| leads_to(StatusCode::TEMPORARY_REDIRECT, &location)))
}

fn leads_to(status: StatusCode, location: &str) -> Result<CustomResponse, Box<Refused>> {
    let location = HeaderValue::from_str(location).map_err(|_| refused(HandOverError::Seal))?;
    let mut response = CustomResponse::empty(status);
    response.headers.insert(LOCATION, location);
    response.headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    Ok(response)
}

/// A browser sends a form at once, and who comes there is nobody's visitor yet.
const FORM_TIME: Duration = Duration::from_secs(5);
/// A message of SAML, of which no longer ones are read, as a form has it: in base64, with what is escaped there.
const FORM_BYTES_MAX: usize = 2 * plain_xml::BYTES_MAX;

/// What a form says of where it belongs.
async fn relay_state(body: &dyn Payload) -> Result<String, Box<Refused>> {
    // Nobody's in particular: the form does not say yet whose it is.
    let read = timeout(FORM_TIME, body.read_at_most(&Arc::from(""), FORM_BYTES_MAX)).await;
    let form = read.unwrap_or(Err(PayloadFault::Late)).map_err(|fault| unread(&fault))?;
    let form = std::str::from_utf8(&form).map_err(|_| refused(HandOverError::Malformed("the form is not ASCII")))?;
    let found = query::parameter(form, "RelayState").map_err(|reason| refused(HandOverError::Malformed(reason)))?;
    found.ok_or_else(|| refused(HandOverError::State))
}

fn unread(fault: &PayloadFault) -> Box<Refused> {
    tracing::info!(%fault, "a form is handed to no endpoint");
    let status = match fault {
        PayloadFault::Busy => StatusCode::SERVICE_UNAVAILABLE,
        PayloadFault::Late => StatusCode::REQUEST_TIMEOUT,
        PayloadFault::TooLong | PayloadFault::Broken => StatusCode::BAD_REQUEST,
    };
    Box::new(Refused::new(status, 5301, UNKNOWN))
}

/// Account and mark in an address below a path.
fn party<'p>(path: &'p str, base: &str) -> Option<(Cow<'p, str>, Cow<'p, str>)> {
    let (account, client) = path.strip_prefix(base)?.strip_prefix('/')?.split_once('/')?;
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
    use super::*;
    use crate::login::hand_over::{self, CallbackHost};
    use crate::login::seal::Keys;
    use crate::login::spent::Journal;
    use crate::policy::Whole;

    const MAIN: Party<'_> = Party { account: "main", client: "mark" };

    async fn asked(log_ins: &LogIns, host: &str, uri: &str) -> Option<Result<CustomResponse, Box<Refused>>> {
        let (mut head, ()) = http::Request::new(()).into_parts();
        head.uri = uri.parse().unwrap();
        answer(log_ins, host, &head, &Whole::default()).await
    }

    async fn posted(log_ins: &LogIns, uri: &str, form: &str) -> Result<CustomResponse, Box<Refused>> {
        let (mut head, ()) = http::Request::new(()).into_parts();
        (head.method, head.uri) = (Method::POST, uri.parse().unwrap());
        answer(log_ins, "login.example.com", &head, &Whole(form.to_owned().into())).await.unwrap()
    }

    #[tokio::test]
    async fn form_of_saml_is_posted_on_to_the_endpoint_where_it_belongs() {
        let log_ins = LogIns::new(Keys::derive([&b"k"[..]]), Arc::new(Journal::in_memory()));
        let log_ins = log_ins.with_callback_host(CallbackHost::parse("login.example.com").ok());
        let now = OffsetDateTime::now_utc().unix_timestamp();
        let state = hand_over::state(&log_ins.keys, MAIN, ("id", "app.example.com"), now + 60).unwrap();
        let form = format!("SAMLResponse=x&RelayState={state}");
        let response = posted(&log_ins, "/ngrok/saml/acs/main/mark", &form).await.unwrap();
        assert_eq!(response.status, StatusCode::TEMPORARY_REDIRECT);
        assert_eq!(response.headers[LOCATION], "https://app.example.com/ngrok/saml/acs");
        for (uri, form, code) in [
            ("/ngrok/saml/acs/other/mark", &*form, 5200),
            ("/ngrok/saml/acs/main/other", &form, 5200),
            ("/ngrok/saml/acs/main/mark", "SAMLResponse=x", 5200),
            ("/ngrok/saml/acs/main/mark", "SAMLResponse=x&RelayState=https://evil.example/", 5200),
            ("/ngrok/saml/acs/main/mark", &format!("{form}&RelayState=x"), 5200),
            ("/ngrok/saml/acs/main", &form, 3200),
            ("/ngrok/saml/acs", &form, 3200),
        ] {
            assert_eq!(posted(&log_ins, uri, form).await.unwrap_err().code, code, "{uri} {form}");
        }
        let got = asked(&log_ins, "login.example.com", "/ngrok/saml/acs/main/mark").await.unwrap();
        assert_eq!(got.unwrap_err().code, 3200, "only forms come there");
    }

    #[tokio::test]
    async fn form_is_no_longer_than_a_message_of_saml_can_be() {
        let form = |len: usize| {
            let start = "RelayState=a&SAMLResponse=";
            Whole(format!("{start}{}", "x".repeat(len - start.len())).into())
        };
        assert_eq!(relay_state(&form(FORM_BYTES_MAX)).await.unwrap(), "a");
        assert_eq!(relay_state(&form(FORM_BYTES_MAX + 1)).await.unwrap_err().status, StatusCode::BAD_REQUEST);
    }

    /// A form that cannot be read; one without a fault never comes.
    #[derive(Debug)]
    struct Unread(Option<PayloadFault>);

    impl Payload for Unread {
        fn read_at_most<'a>(&'a self, _account: &'a Arc<str>, _bytes_max: usize) -> crate::policy::Reading<'a> {
            Box::pin(async move {
                match self.0 {
                    Some(fault) => Err(fault),
                    None => std::future::pending().await,
                }
            })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn form_is_not_waited_for_without_end_and_a_full_gateway_says_so() {
        for (fault, status) in [
            (None, StatusCode::REQUEST_TIMEOUT),
            (Some(PayloadFault::Late), StatusCode::REQUEST_TIMEOUT),
            (Some(PayloadFault::Busy), StatusCode::SERVICE_UNAVAILABLE),
            (Some(PayloadFault::TooLong), StatusCode::BAD_REQUEST),
        ] {
            let begin = tokio::time::Instant::now();
            let refused = relay_state(&Unread(fault)).await.unwrap_err();
            assert_eq!((refused.status, refused.code), (status, 5301));
            assert!(begin.elapsed() <= FORM_TIME + Duration::from_millis(1));
        }
    }

    #[tokio::test]
    async fn callback_host_answers_its_own_path_and_nothing_else() {
        let log_ins = LogIns::new(Keys::derive([&b"k"[..]]), Arc::new(Journal::in_memory()));
        let now = OffsetDateTime::now_utc().unix_timestamp();
        let state = hand_over::state(&log_ins.keys, MAIN, ("id", "app.example.com"), now + 60).unwrap();
        let path = format!("/ngrok/oauth2/callback/main/mark?code=a&state={state}");
        assert!(asked(&log_ins, "login.example.com", &path).await.is_none(), "it is not configured");
        let log_ins = log_ins.with_callback_host(CallbackHost::parse("login.example.com").ok());
        let response = asked(&log_ins, "login.example.com", &path).await.unwrap().unwrap();
        let location = response.headers[LOCATION].to_str().unwrap();
        assert!(location.starts_with("https://app.example.com/ngrok/oauth2/callback?state=id&ticket="), "{location}");
        assert_eq!(
            (response.status, response.headers[CACHE_CONTROL].to_str().unwrap()),
            (StatusCode::SEE_OTHER, "no-store")
        );
        assert!(asked(&log_ins, "app.example.com", &path).await.is_none());
        for path in ["/ngrok/oauth2/callback", "/ngrok/oauth2/callback/main", "/ngrok/oauth2/callbacks/main/mark", "/"]
        {
            let refused = asked(&log_ins, "login.example.com", path).await.unwrap().unwrap_err();
            assert_eq!((refused.code, refused.status), (3200, StatusCode::NOT_FOUND), "{path}");
        }
        for (path, code) in [
            ("main/mark?code=a", 5200),
            ("other/mark?code=a&state=STATE", 5200),
            ("main/other?code=a&state=STATE", 5200),
            ("main/mark?code=a&state=STATE&state=x", 5200),
        ] {
            let path = format!("/ngrok/oauth2/callback/{}", path.replace("STATE", &state));
            let refused = asked(&log_ins, "login.example.com", &path).await.unwrap().unwrap_err();
            assert_eq!(refused.code, code, "{path}");
        }
        let late = hand_over::state(&log_ins.keys, MAIN, ("id", "app.example.com"), now - 60).unwrap();
        let path = format!("/ngrok/oauth2/callback/main/mark?code=a&state={late}");
        assert_eq!(asked(&log_ins, "login.example.com", &path).await.unwrap().unwrap_err().code, 3119);
    }
}
