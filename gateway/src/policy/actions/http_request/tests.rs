//! Requests of policies, to endpoints that the tests play.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use http::{Request, Response};
use tokio::time::sleep;

use super::super::super::errand::{Asking, Errands, REPLY_BYTES_MAX, REPLY_TOO_LONG};
use super::super::super::place::Place;
use super::super::super::{Connection, Policy, Position, State, Tls, Tools};
use super::*;

/// What an endpoint answers, in turn; and what it was asked.
#[derive(Debug, Default)]
struct World {
    replies: Mutex<VecDeque<Result<Response<Bytes>, ErrandFault>>>,
    asked: Mutex<Vec<String>>,
    delay: Duration,
    outside: bool,
    hops: u8,
}

impl Errands for World {
    fn inside<'a>(&'a self, account: &'a str, url: &'a EndpointUrl, request: Request<Bytes>) -> Asking<'a> {
        let (head, body) = request.into_parts();
        let header = head.headers.get("x-a").map_or("", |value| value.to_str().unwrap());
        let line = format!("{account} {url} {} {} {header} {}", head.method, head.uri, String::from_utf8_lossy(&body));
        self.asked.lock().unwrap().push(line.trim_end().to_owned());
        let reply = self.replies.lock().unwrap().pop_front().expect("one request too many");
        Box::pin(async move {
            sleep(self.delay).await;
            reply
        })
    }

    fn hops(&self) -> u8 {
        self.hops
    }

    fn may_go_outside(&self) -> bool {
        self.outside
    }
}

fn reply(status: u16, lines: &[(&str, &str)], body: &str) -> Result<Response<Bytes>, ErrandFault> {
    let mut response = Response::builder().status(status);
    for (name, value) in lines {
        response = response.header(*name, *value);
    }
    Ok(response.body(Bytes::copy_from_slice(body.as_bytes())).unwrap())
}

struct Asked {
    verdict: Verdict,
    shown: String,
    requests: Vec<String>,
}

/// Runs the action over a request, and shows `shown` behind it.
async fn ask(config: &str, shown: &str, world: World) -> Asked {
    ask_as(Place::cloud, config, shown, world).await
}

async fn ask_as(place: fn(&EndpointUrl) -> Place, config: &str, shown: &str, world: World) -> Asked {
    let endpoint = EndpointUrl::parse("https://app.example.com").unwrap();
    let document = format!(
        "on_http_request: [{{actions: [{{type: http-request, config: {{{config}}}}}, {{type: custom-response, config: \
         {{body: \"{shown}\"}}}}]}}]"
    );
    let policy = Policy::parse(&document, place(&endpoint)).unwrap_or_else(|errors| panic!("{errors}"));
    let (mut head, ()) = Request::get("/old?u=a%20b").header("x-user", "ann").body(()).unwrap().into_parts();
    let address = "192.0.2.1:1000".parse().unwrap();
    let connection = Connection {
        peer: address,
        local: address,
        scheme: endpoint.scheme(),
        endpoint: &endpoint,
        bind: None,
        course: None,
        tls: Tls::Unknown,
    };
    let world = Arc::new(world);
    let errands = Some(Arc::clone(&world) as Arc<dyn Errands>);
    let mut state = State::new("main".into(), Tools { errands, ..Tools::default() });
    let mut request = super::super::super::Request { connection, head: &mut head };
    let verdict = policy.on_http_request(&mut request, &mut state, Position::default()).await;
    let shown = match &verdict {
        Verdict::Respond(response) => String::from_utf8(response.body.to_vec()).unwrap(),
        _ => String::new(),
    };
    let requests = std::mem::take(&mut *world.asked.lock().unwrap());
    Asked { verdict, shown, requests }
}

fn world(replies: Vec<Result<Response<Bytes>, ErrandFault>>) -> World {
    World { replies: Mutex::new(replies.into()), ..World::default() }
}

fn refused(verdict: Verdict) -> (u16, u32) {
    match verdict {
        Verdict::Refuse(refused) => (refused.status.as_u16(), refused.code),
        other => panic!("{other:?}"),
    }
}

const URL: &str = "url: 'https://check.internal/a'";
const STATUS: &str = "${actions.ngrok.http_request.res.status_code}";
const ERROR: &str = "${actions.ngrok.http_request.error.code} ${actions.ngrok.http_request.error.message}";

#[tokio::test]
async fn request_is_made_of_its_fields_and_the_reply_is_kept() {
    let config = "url: 'https://check.internal/a/${req.headers[\"x-user\"][0]}?z=1#f', method: POST, headers: {X-A: \
                  '${req.method}'}, query_params: [{key: u, value: '${getQueryParam(\"u\")[0]}'}, {key: 'ä', value: \
                  '&'}], body: '{\"user\": \"${req.headers[\"x-user\"][0]}\"}'";
    let shown = "${actions.ngrok.http_request.res.status_code} ${actions.ngrok.http_request.res.header['x-b'][0]} \
                 ${actions.ngrok.http_request.res.body} ${actions.ngrok.http_request.req.method} \
                 ${actions.ngrok.http_request.req.url} ${actions.ngrok.http_request.attempts.size()} \
                 ${actions.ngrok.http_request.attempts[0].response_status_code}";
    let asked = ask(config, shown, world(vec![reply(201, &[("X-B", "2")], "made")])).await;
    let url = "a/ann?z=1&u=a%20b&%C3%A4=%26";
    assert_eq!(asked.requests, [format!("main https://check.internal POST /{url} GET {{\"user\": \"ann\"}}")]);
    assert_eq!(asked.shown, format!("201 2 made POST https://check.internal/{url} 1 201"));
}

#[tokio::test]
async fn failure_goes_on_or_halts() {
    let gone = || world(vec![Err(ErrandFault::new(3200, "gone"))]);
    assert_eq!(ask(URL, ERROR, gone()).await.shown, "ERR_NGROK_3200 gone");
    let halting = format!("{URL}, on_error: halt");
    assert_eq!(refused(ask(&halting, ERROR, gone()).await.verdict), (502, 3200));
    let long = || world(vec![Err(ErrandFault::too_long())]);
    assert_eq!(refused(ask(&halting, ERROR, long()).await.verdict), (502, 3601));
    assert_eq!((REPLY_BYTES_MAX, REPLY_TOO_LONG), (262_144, 3601));
    let circle = || world(vec![Err(ErrandFault::new(ERRAND_LOOP, "circle"))]);
    assert_eq!(refused(ask(&halting, ERROR, circle()).await.verdict), (508, 3603));
    // A status is an answer, whichever it is.
    assert_eq!(ask(&halting, STATUS, world(vec![reply(500, &[], "")])).await.shown, "500");
}

#[tokio::test(start_paused = true)]
async fn time_is_for_all_attempts_together() {
    let slow = || World { delay: Duration::from_secs(2), ..world(vec![reply(500, &[], ""), reply(500, &[], "")]) };
    let asked = ask(&format!("{URL}, retry_condition: 'true'"), ERROR, slow()).await;
    assert!(asked.shown.starts_with("ERR_NGROK_3602 there was no reply within 3 s"), "{}", asked.shown);
    assert_eq!(asked.requests.len(), 2);
    let asked = ask(&format!("{URL}, retry_condition: 'true', on_error: halt, timeout: 1s"), ERROR, slow()).await;
    assert_eq!((refused(asked.verdict), asked.requests.len()), ((504, 3602), 1));
    let count = "${actions.ngrok.http_request.attempts.size()}";
    assert_eq!(ask(&format!("{URL}, retry_condition: 'true'"), count, slow()).await.shown, "1");
}

#[tokio::test]
async fn condition_says_when_to_try_again() {
    for (condition, statuses, shown) in [
        ("last_attempt.res.status_code >= 500", vec![500, 503, 200], "200 3"),
        ("last_attempt.res.statusCode == 500", vec![500, 503], "503 2"),
        ("attempts < 2", vec![200, 200], "200 2"),
        ("true", vec![500, 500, 500], "500 3"),
        ("false", vec![500], "500 1"),
        ("last_attempt.res.body == 'x'", vec![500], "500 1"),
        ("last_attempt.res.nothing", vec![500], "500 1"),
        ("${last_attempt.error == ''}", vec![200, 200, 200], "200 3"),
    ] {
        let replies = statuses.iter().map(|status| reply(*status, &[], "")).collect();
        let shows = format!("{STATUS} ${{actions.ngrok.http_request.attempts.size()}}");
        let asked = ask(&format!("{URL}, retry_condition: \"{condition}\""), &shows, world(replies)).await;
        assert_eq!(asked.shown, shown, "{condition}");
    }
    let replies = vec![Err(ErrandFault::new(3200, "gone")), reply(200, &[], "")];
    let asked = ask(&format!("{URL}, retry_condition: \"last_attempt.error == 'gone'\""), STATUS, world(replies)).await;
    assert_eq!(asked.shown, "200");
}

#[tokio::test]
async fn redirects_are_followed_as_far_as_allowed() {
    let to = |status, location| reply(status, &[("location", location)], "");
    let replies = || vec![to(302, "/b"), to(307, "https://other.internal/c"), reply(200, &[], "")];
    let asked = ask(&format!("{URL}, method: POST, body: x"), STATUS, world(replies())).await;
    assert_eq!(asked.shown, "200");
    let lines = [
        "main https://check.internal POST /a  x",
        "main https://check.internal GET /b",
        "main https://other.internal GET /c",
    ];
    assert_eq!(asked.requests, lines);
    let asked = ask(&format!("{URL}, max_redirects: 2"), STATUS, world(replies())).await;
    assert_eq!(asked.shown, "200");
    let asked = ask(&format!("{URL}, max_redirects: 1"), ERROR, world(replies())).await;
    assert!(asked.shown.contains("more than 1 times"), "{}", asked.shown);
    let asked = ask(&format!("{URL}, max_redirects: 0"), STATUS, world(replies())).await;
    assert_eq!((asked.shown.as_str(), asked.requests.len()), ("302", 1));
    let asked = ask(URL, ERROR, world(vec![to(302, "https://example.com/")])).await;
    assert!(asked.shown.contains("policies.outside_requests"), "{}", asked.shown);
    let asked = ask_as(Place::agent, URL, ERROR, world(replies())).await;
    assert!(asked.shown.contains("another one"), "{}", asked.shown);
    let many = (0..11).map(|_| to(308, "/a")).collect();
    assert!(ask(URL, ERROR, world(many)).await.shown.contains("more than 10 times"));
}

#[tokio::test]
async fn requests_that_may_go_outside_reach_no_private_address() {
    let place = |url: &EndpointUrl| Place::cloud(url).going_outside(true);
    let world = |replies: Vec<_>| World { outside: true, ..world(replies) };
    for host in ["127.0.0.1:9", "localhost:9", "[::1]:9", "[::ffff:10.0.0.1]", "169.254.169.254", "[64:ff9b::a00:1]"] {
        let asked = ask_as(place, &format!("url: 'http://{host}/'"), ERROR, world(Vec::new())).await;
        assert!(asked.shown.ends_with("no address that may be asked"), "{host}: {}", asked.shown);
    }
    let to = reply(302, &[("location", "http://192.168.1.1/")], "");
    let asked = ask_as(place, URL, ERROR, world(vec![to])).await;
    assert!(asked.shown.ends_with("no address that may be asked"), "{}", asked.shown);
    // The document was accepted, and since then the gateway was told otherwise.
    let world = World::default();
    let asked = ask_as(place, "url: 'http://127.0.0.1:9/'", ERROR, world).await;
    assert!(asked.shown.contains("policies.outside_requests"), "{}", asked.shown);
}

#[tokio::test]
async fn values_that_make_no_request_are_failures_of_the_action() {
    let asked = ask("url: '${req.headers[\"x-user\"][0]}'", ERROR, World::default()).await;
    assert!(asked.shown.starts_with("ERR_NGROK_2300 url: "), "{}", asked.shown);
    let asked =
        ask(&format!("{URL}, body: '${{req.headers[\"x-none\"][0]}}', on_error: halt"), "", World::default()).await;
    assert_eq!(refused(asked.verdict), (500, 2300));
    let long = "query_params: [{key: a, value: \"${req.headers['x-user'][0].replace('ann', 'LONG')}\"}]";
    let long = long.replace("LONG", &"x".repeat(QUERY_VALUE_CHARS_MAX + 1));
    let asked = ask(&format!("{URL}, {long}"), ERROR, World::default()).await;
    assert!(asked.shown.contains("more than 8192 characters"), "{}", asked.shown);
    // And where nobody gives a way to other endpoints, none is asked.
    let endpoint = EndpointUrl::parse("https://app.example.com").unwrap();
    assert!(
        Policy::parse(
            &format!("on_http_response: [{{actions: [{{type: http-request, config: {{{URL}}}}}]}}]"),
            Place::agent(&endpoint)
        )
        .is_ok()
    );
}

#[tokio::test]
async fn circle_ends_the_request_whatever_the_action_would_do() {
    for config in ["url: 'https://api.internal/', on_error: continue", "url: 'https://api.internal/'"] {
        let world = World { replies: Mutex::new([Err(ErrandFault::circle())].into()), ..World::default() };
        let Verdict::Refuse(refused) = ask(config, "went on", world).await.verdict else { panic!("{config}") };
        assert_eq!((refused.status, refused.code), (StatusCode::LOOP_DETECTED, ERRAND_LOOP));
    }
}

#[tokio::test]
async fn request_to_the_internet_is_not_sent_beyond_the_bound() {
    let place = |url: &EndpointUrl| Place::cloud(url).going_outside(true);
    // An address of nobody (TEST-NET-1): what is sent there fails for another reason.
    let config = "url: 'https://192.0.2.1/', on_error: halt";
    for (hops, code) in [(2, 3210), (3, ERRAND_LOOP)] {
        let world = World { outside: true, hops, ..World::default() };
        let Verdict::Refuse(refused) = ask_as(place, config, "", world).await.verdict else { panic!("{hops}") };
        assert_eq!(refused.code, code, "{:?}", refused.reason);
    }
}
