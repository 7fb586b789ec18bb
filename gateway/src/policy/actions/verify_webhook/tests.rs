//! Signatures of providers as their documentation shows them, and everything that must not pass for one.

use std::sync::Mutex;

use adit::endpoint_url::{EndpointUrl, Scheme};
use bytes::Bytes;
use http::request::Parts;

use super::super::super::payload::{Payload, Reading};
use super::super::super::{Connection, Policy, Position, Request, State, Tls, Tools};
use super::*;

/// A body that is there, or why it is not; and how often it was asked for.
#[derive(Debug)]
struct Body(Result<Bytes, PayloadFault>, Mutex<usize>);

impl Payload for Body {
    fn read_at_most<'a>(&'a self, _account: &'a Arc<str>, _bytes_max: usize) -> Reading<'a> {
        *self.1.lock().unwrap() += 1;
        Box::pin(std::future::ready(self.0.clone()))
    }
}

fn head(method: &str, url: &str, lines: &[(&'static str, &str)]) -> Parts {
    let mut request = http::Request::builder().method(method).uri(url);
    for (name, value) in lines {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

fn holds(provider: &str, secret: &str, head: &Parts, body: &str, now: i64) -> Result<bool, String> {
    let provider = Provider::named(provider).unwrap();
    let claim = provider.claim(head, Scheme::Https, now).map_err(|flaw| flaw.reason)?;
    claim.holds(secret.as_bytes(), body.as_bytes()).map_err(|flaw| flaw.reason)
}

const NOW: i64 = 1_700_000_000;
const BODY: &str = r#"{"a":1}"#;
const HEX: &str = "5910e62016ef5034272c926c27071992a465c2335cecf41851bda071577f4f6d";
const BASE64: &str = "WRDmIBbvUDQnLJJsJwcZkqRlwjNc7PQYUb2gcVd/T20=";
const STRIPE: &str = "1698a50bc74d1ff1db85c4e0a5297c2ad9fdba245d5737cdb789e4cc6e098940";

#[test]
fn examples_of_the_providers_documentation_hold() {
    let signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
    let github = head("POST", "/", &[("x-hub-signature-256", signature)]);
    assert_eq!(holds("github", "It's a Secret to Everybody", &github, "Hello, World!", NOW), Ok(true));

    let lines = [
        ("x-slack-signature", "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503"),
        ("x-slack-request-timestamp", "1531420618"),
    ];
    let body = "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&\
                channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&\
                response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F\
                96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c";
    let slack = head("POST", "/", &lines);
    assert_eq!(holds("slack", "8f742231b10e8888abcd99yyyzzz85a5", &slack, body, 1_531_420_618), Ok(true));
    assert!(
        holds("slack", "8f742231b10e8888abcd99yyyzzz85a5", &slack, body, 1_531_420_919).unwrap_err().contains("ago")
    );

    let lines = [
        ("svix-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"),
        ("svix-timestamp", "1614265330"),
        ("svix-signature", "v0,AA== v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
    ];
    let body = r#"{"test": 2432232314}"#;
    let svix = head("POST", "/", &lines);
    assert_eq!(holds("clerk", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", &svix, body, 1_614_265_330), Ok(true));
    assert!(holds("clerk", "whsec_?", &svix, body, 1_614_265_330).is_err());

    let lines = [
        ("x-twilio-signature", "0/KCTR6DLpKmkAf8muzZqo1nDgQ="),
        ("host", "mycompany.com"),
        ("content-type", "application/x-www-form-urlencoded; charset=UTF-8"),
    ];
    let body = "To=%2B18005551212&CallSid=CA1234567890ABCDE&Caller=%2B12349013030&Digits=1234&From=%2B12349013030";
    let twilio = head("POST", "/myapp.php?foo=1&bar=2", &lines);
    assert_eq!(holds("twilio", "12345", &twilio, body, NOW), Ok(true));
    assert_eq!(holds("twilio", "12345", &twilio, &body.replace("1234&", "1235&"), NOW), Ok(false));
}

#[test]
fn body_alone_is_signed_by_most() {
    for (provider, header, signature) in [
        ("shopify", "x-shopify-hmac-sha256", BASE64.to_owned()),
        ("xero", "x-xero-signature", BASE64.to_owned()),
        ("twitter", "x-twitter-webhooks-signature", format!("sha256={BASE64}")),
        ("linear", "linear-signature", HEX.to_owned()),
        ("pagerduty", "x-pagerduty-signature", format!("v1={},v1={HEX}", "00".repeat(32))),
        ("intercom", "x-hub-signature", "sha1=79999786a1bff10cd4d7dd0b0752574af76be0b5".to_owned()),
        ("gitlab", "x-gitlab-token", "s3cret".to_owned()),
    ] {
        let signed = head("POST", "/", &[(header, &signature)]);
        assert_eq!(holds(provider, "s3cret", &signed, BODY, NOW), Ok(true), "{provider}");
        assert_eq!(holds(provider, "s3crea", &signed, BODY, NOW), Ok(false), "{provider}");
        if provider != "gitlab" {
            assert_eq!(holds(provider, "s3cret", &signed, "{}", NOW), Ok(false), "{provider}");
        }
        assert!(holds(provider, "s3cret", &head("POST", "/", &[]), BODY, NOW).unwrap_err().contains(header));
        let twice = head("POST", "/", &[(header, &signature), (header, &signature)]);
        assert!(holds(provider, "s3cret", &twice, BODY, NOW).unwrap_err().contains("more than one"));
    }
}

#[test]
fn time_is_signed_too() {
    let stripe = |line: &str| head("POST", "/", &[("stripe-signature", line)]);
    let good = format!("t=1700000000,v1={},v0=00,v1={STRIPE}", "00".repeat(32));
    assert_eq!(holds("stripe", "s3cret", &stripe(&good), BODY, NOW), Ok(true));
    assert_eq!(holds("stripe", "s3cret", &stripe(&good), BODY, NOW + 300), Ok(true));
    assert!(holds("stripe", "s3cret", &stripe(&good), BODY, NOW + 301).is_err());
    assert!(holds("stripe", "s3cret", &stripe(&good), BODY, NOW - 301).is_err());
    let shifted = format!("t=1700000001,v1={STRIPE}");
    assert_eq!(holds("stripe", "s3cret", &stripe(&shifted), BODY, NOW), Ok(false));
    for line in [
        String::new(),
        format!("v1={STRIPE}"),
        "t=1700000000".to_owned(),
        format!("t=1700000000,v0={STRIPE}"),
        format!("t=x,v1={STRIPE}"),
        "t=1700000000,v1=00".to_owned(),
    ] {
        assert!(holds("stripe", "s3cret", &stripe(&line), BODY, NOW).is_err(), "{line}");
    }
}

#[test]
fn twilio_signs_other_bodies_by_their_hash() {
    let hash = "015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862";
    let lines = [
        ("x-twilio-signature", "jXB6qor8mUj66fldo6k8DZSFFM4="),
        ("host", "app.example.com"),
        ("content-type", "application/json"),
    ];
    let signed = head("POST", &format!("/hook?bodySHA256={hash}"), &lines);
    assert_eq!(holds("twilio", "s3cret", &signed, BODY, NOW), Ok(true));
    assert_eq!(holds("twilio", "s3cret", &signed, "{}", NOW), Ok(false));
    let unsigned = head("POST", "/hook", &lines);
    assert_eq!(holds("twilio", "s3cret", &unsigned, BODY, NOW), Ok(false));
}

/// Runs an action over a request.
async fn run(config: &str, head: &mut Parts, body: Result<&'static str, PayloadFault>) -> (Verdict, usize) {
    let endpoint = EndpointUrl::parse("https://app.example.com").unwrap();
    let document = format!(
        "on_http_request: [{{actions: [{{type: verify-webhook, config: {{{config}}}}}, {{type: add-headers, config: \
         {{headers: {{x-verified: '${{actions.ngrok.verify_webhook.verified}}'}}}}}}]}}]"
    );
    let policy = Policy::parse(&document, Place::agent(&endpoint)).unwrap_or_else(|errors| panic!("{errors}"));
    let shown = format!("{policy:?}");
    assert!(!shown.contains("s3cret"), "{shown}");
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
    let payload = Arc::new(Body(body.map(Bytes::from), Mutex::new(0)));
    let tools = Tools { payload: Some(payload.clone()), ..Tools::default() };
    let mut state = State::new("main".into(), tools);
    let verdict = policy.on_http_request(&mut Request { connection, head }, &mut state, Position::default()).await;
    let count = *payload.1.lock().unwrap();
    (verdict, count)
}

fn refused(verdict: Verdict) -> (u16, u32, String) {
    match verdict {
        Verdict::Refuse(refused) => (refused.status.as_u16(), refused.code, refused.reason.unwrap_or_default()),
        other => panic!("{other:?}"),
    }
}

const GITHUB: &str = "provider: github, secret: s3cret";

#[tokio::test]
async fn signed_request_passes_and_others_do_not() {
    let mut signed = head("POST", "/", &[("x-hub-signature-256", &format!("sha256={HEX}"))]);
    assert_eq!(run(GITHUB, &mut signed, Ok(BODY)).await.0, Verdict::Continue);
    assert_eq!(signed.headers["x-verified"], "true");
    let mut signed = head("POST", "/", &[("x-hub-signature-256", &format!("sha256={HEX}"))]);
    let (status, code, reason) = refused(run(GITHUB, &mut signed, Ok("{}")).await.0);
    assert_eq!((status, code), (403, 3204));
    assert!(reason.starts_with("github: ") && !reason.contains(HEX) && !reason.contains("s3cret"), "{reason}");
    let (verdict, reads) = run(GITHUB, &mut head("POST", "/", &[]), Ok(BODY)).await;
    assert_eq!((refused(verdict).0, reads), (403, 0), "without a signature the body is not even read");
    let mut unsigned = head("POST", "/", &[]);
    let config = format!("{GITHUB}, enforce: false");
    assert_eq!(run(&config, &mut unsigned, Ok(BODY)).await.0, Verdict::Continue);
    assert_eq!(unsigned.headers["x-verified"], "false");
}

#[tokio::test]
async fn generic_form_says_how_it_is_signed() {
    for (fields, header, signature) in [
        ("", "x-signature", HEX.to_owned()),
        ("header: X-Sum, prefix: 'h=', encoding: base64", "x-sum", format!("h={BASE64}")),
        ("algorithm: sha1", "x-signature", "79999786A1BFF10CD4D7DD0B0752574AF76BE0B5".to_owned()),
    ] {
        let config = format!("provider: hmac, secret: \"${{'s3' + 'cret'}}\", {fields}");
        let mut signed = head("POST", "/", &[(header, &signature)]);
        assert_eq!(run(&config, &mut signed, Ok(BODY)).await.0, Verdict::Continue, "{fields}");
        let mut signed = head("POST", "/", &[(header, &signature)]);
        assert_eq!(refused(run(&config, &mut signed, Ok("{}")).await.0).0, 403, "{fields}");
    }
}

#[tokio::test]
async fn secret_that_comes_to_nothing_lets_nobody_through() {
    let config = "provider: github, secret: \"${req.headers['x-s'][0]}\"";
    let mut empty = head("POST", "/", &[("x-hub-signature-256", &format!("sha256={HEX}")), ("x-s", "")]);
    assert_eq!(refused(run(config, &mut empty, Ok(BODY)).await.0).0, 403);
    let mut missing = head("POST", "/", &[("x-hub-signature-256", &format!("sha256={HEX}"))]);
    assert_eq!(refused(run(config, &mut missing, Ok(BODY)).await.0).1, 2300);
}

#[tokio::test]
async fn body_that_cannot_be_read_is_said_so() {
    for (fault, status) in [
        (PayloadFault::TooLong, 413),
        (PayloadFault::Late, 408),
        (PayloadFault::Broken, 400),
        (PayloadFault::Busy, 503),
    ] {
        let mut signed = head("POST", "/", &[("x-hub-signature-256", &format!("sha256={HEX}"))]);
        let (found, code, _) = refused(run(GITHUB, &mut signed, Err(fault)).await.0);
        assert_eq!((found, code), (status, 3903), "{fault:?}");
    }
}

#[tokio::test]
async fn broken_body_is_refused_also_where_nothing_is_enforced() {
    let config = format!("{GITHUB}, enforce: false");
    for fault in [PayloadFault::TooLong, PayloadFault::Late, PayloadFault::Broken, PayloadFault::Busy] {
        let mut signed = head("POST", "/", &[("x-hub-signature-256", &format!("sha256={HEX}"))]);
        let (verdict, _) = run(&config, &mut signed, Err(fault)).await;
        if fault == PayloadFault::Broken {
            let (status, code, _) = refused(verdict);
            assert_eq!((status, code), (400, 3903), "there is no whole body to pass on");
        } else {
            assert_eq!(verdict, Verdict::Continue, "{fault:?}");
            assert_eq!(signed.headers["x-verified"], "false");
        }
    }
}

fn answered(verdict: Verdict) -> (u16, String) {
    match verdict {
        Verdict::Respond(response) => (response.status.as_u16(), String::from_utf8(response.body.to_vec()).unwrap()),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn challenges_are_answered() {
    let mut crc = head("GET", "/hook?crc_token=tok", &[]);
    let (status, body) = answered(run("provider: twitter, secret: s3cret", &mut crc, Ok("")).await.0);
    assert_eq!(status, 200);
    assert_eq!(body, r#"{"response_token":"sha256=L/JlnjcaASxqubiKSvISLvwi3Rxd2m39ni7J5vdBV5E="}"#);

    // The answer is what would sign a message of that text.
    for token in ["%7B%22a%22:1%7D".to_owned(), "a".repeat(257), "a%20b".to_owned()] {
        let mut forged = head("GET", &format!("/hook?crc_token={token}"), &[]);
        assert_eq!(refused(run("provider: twitter, secret: s3cret", &mut forged, Ok("")).await.0).0, 403, "{token}");
    }

    let mut question = head("GET", "/", &[("x-gcs-webhooks-endpoint-verification", "abc-123")]);
    let answer = answered(run("provider: worldline, secret: s3cret", &mut question, Ok("")).await.0);
    assert_eq!(answer, (200, "abc-123".into()));
    let long = "a".repeat(257);
    let mut question = head("GET", "/", &[("x-gcs-webhooks-endpoint-verification", &long)]);
    assert_eq!(refused(run("provider: worldline, secret: s3cret", &mut question, Ok("")).await.0).0, 403);

    let signature = "ZuVY0DkZxvoGXoj+QPBt7+gZL2ow1Kpy+nm913XvpIw=";
    let xero = "provider: xero, secret: s3cret";
    let mut good = head("POST", "/", &[("x-xero-signature", signature)]);
    assert_eq!(answered(run(xero, &mut good, Ok(r#"{"events":[]}"#)).await.0), (200, String::new()));
    let mut bad = head("POST", "/", &[("x-xero-signature", BASE64)]);
    assert_eq!(refused(run(xero, &mut bad, Ok(r#"{"events":[]}"#)).await.0).0, 401);

    // What Zoom asks is signed with the time, so it is asked for here without the clock.
    let zoom = Provider::named("zoom").unwrap();
    let body = br#"{"event":"endpoint.url_validation","payload":{"plainToken":"tok"}}"#;
    let response = challenge::of_body(&zoom, body, b"s3cret").unwrap();
    let hash = "2ff2659e371a012c6ab9b88a4af2122efc22dd1c5dda6dfd9e2ec9e6f7415791";
    assert_eq!(response.body, format!(r#"{{"encryptedToken":"{hash}","plainToken":"tok"}}"#));
    let lines = [
        ("x-zm-signature", "v0=e84808ebfda5c6ddf5fdbda1473a672660f7a212b5f2e654b9b5cb2a6325c3a9"),
        ("x-zm-request-timestamp", "1700000000"),
    ];
    assert_eq!(holds("zoom", "s3cret", &head("POST", "/", &lines), std::str::from_utf8(body).unwrap(), NOW), Ok(true));
    for other in [&b"{}"[..], b"[]", b"x", br#"{"event":"endpoint.url_validation"}"#, br#"{"event":"meeting.started"}"#]
    {
        assert!(challenge::of_body(&zoom, other, b"s3cret").is_none());
    }
}

#[tokio::test]
async fn answers_to_questions_of_twitter_are_no_signatures_of_messages() {
    let ask = "provider: twitter, secret: s3cret";
    for (token, body) in [("", ""), ("role%3Dadmin", "role=admin"), ("1.5", "1.5")] {
        let mut question = head("GET", &format!("/?crc_token={token}"), &[]);
        let answer = match run(ask, &mut question, Ok("")).await.0 {
            Verdict::Respond(response) => String::from_utf8(response.body.to_vec()).unwrap(),
            _ => r#"{"response_token":"sha256="}"#.to_owned(),
        };
        let signature = answer.split('"').nth(3).unwrap().to_owned();
        let mut forged = head("POST", "/", &[("x-twitter-webhooks-signature", &signature)]);
        assert_eq!(refused(run(ask, &mut forged, Ok(body)).await.0).0, 403, "{token}");
    }
}
