//! What documents are accepted, and where the faulty ones are refused.

use http::StatusCode;

use adit::endpoint_url::EndpointUrl;

use super::super::{Connection, PolicyError, Position, Request, State, Tls, Verdict};
use super::*;

fn cloud(url: &str) -> Place {
    Place::cloud(&EndpointUrl::parse(url).unwrap())
}

fn agent(url: &str) -> Place {
    Place::agent(&EndpointUrl::parse(url).unwrap())
}

/// A document, the URL of its endpoint, and the path and code of every mistake in it.
type Faulty = (&'static str, &'static str, &'static [(&'static str, u32)]);

/// The path and code of every mistake.
fn mistakes(text: &str, place: Place) -> Vec<(String, u32)> {
    let Err(errors) = Policy::parse(text, place) else {
        return Vec::new();
    };
    errors.errors().iter().map(|error| (error.path.clone(), error.code)).collect()
}

fn connection(url: &EndpointUrl) -> Connection<'_> {
    let address = "192.0.2.1:1000".parse().unwrap();
    Connection {
        peer: address,
        local: address,
        scheme: url.scheme(),
        endpoint: url,
        bind: None,
        course: None,
        tls: Tls::Unknown,
    }
}

async fn decide(policy: &Policy, url: &str) -> Verdict {
    let url = EndpointUrl::parse(url).unwrap();
    let (mut head, ()) = http::Request::new(()).into_parts();
    let mut request = Request { connection: connection(&url), head: &mut head };
    policy.on_http_request(&mut request, &mut State::default(), Position::default()).await
}

fn forward(url: &str) -> Verdict {
    Verdict::Forward { url: EndpointUrl::parse(url).unwrap().into(), on_error: None }
}

#[tokio::test]
async fn yaml_and_json_mean_the_same() {
    let yaml = "on_http_request:\n  - name: all\n    actions:\n      - type: forward-internal\n        config:\n          \
                url: https://api.internal\n          on_error: halt\n";
    let json = "{\n\t\"on_http_request\": [\n\t\t{\"name\": \"all\", \"actions\": [{\"type\": \"forward-internal\", \
                \"config\": {\"url\": \"https://api.internal\", \"on_error\": \"halt\"}}]}\n\t]\n}";
    for text in [yaml, json] {
        let policy = Policy::parse(text, cloud("https://api.example.com")).unwrap();
        let verdict = decide(&policy, "https://api.example.com").await;
        assert_eq!(verdict, forward("https://api.internal"));
    }
}

#[tokio::test]
async fn deny_and_custom_response_give_what_the_document_says() {
    let place = cloud("https://api.example.com");
    for (text, status) in [
        ("on_http_request: [{actions: [{type: deny}]}]", 403),
        ("on_http_request: [{actions: [{type: deny, config: {status_code: 404}}]}]", 404),
    ] {
        let status = StatusCode::from_u16(status).unwrap();
        let policy = Policy::parse(text, place).unwrap();
        assert_eq!(decide(&policy, "https://api.example.com").await, Verdict::Deny { status });
    }
    let text = "on_http_request: [{actions: [{type: custom-response, config: {status_code: 503, body: closed, \
                headers: {Retry-After: '60'}}}]}]";
    let Verdict::Respond(response) = decide(&Policy::parse(text, place).unwrap(), "https://api.example.com").await
    else {
        panic!("no response");
    };
    assert_eq!(response.status, 503);
    assert_eq!(&response.body[..], b"closed");
    assert_eq!(response.headers["retry-after"], "60");
    assert_eq!(response.headers["content-type"], "text/plain; charset=utf-8");
}

#[test]
fn connection_phase_forwards_and_denies() {
    let url = EndpointUrl::parse("tcp://db.example.com:5432").unwrap();
    let text = "on_tcp_connect: [{actions: [{type: forward-internal, config: {url: 'tcp://db.internal:5432'}}]}]";
    let policy = Policy::parse(text, Place::cloud(&url)).unwrap();
    let target = EndpointUrl::parse("tcp://db.internal:5432").unwrap();
    assert_eq!(
        policy.on_tcp_connect(connection(&url), &mut State::default(), Position::default()),
        Verdict::Forward { url: target.into(), on_error: None }
    );

    let policy = Policy::parse("on_tcp_connect: [{actions: [{type: deny}]}]", Place::cloud(&url)).unwrap();
    assert_eq!(
        policy.on_tcp_connect(connection(&url), &mut State::default(), Position::default()),
        Verdict::Deny { status: StatusCode::FORBIDDEN }
    );
}

#[tokio::test]
async fn empty_document_of_an_agent_lets_everything_through() {
    for text in ["", "  \n", "{}", "null", "on_http_request: []", "on_http_request:", "on_http_response: []"] {
        let policy = Policy::parse(text, agent("https://app.example.com")).unwrap();
        assert_eq!(decide(&policy, "https://app.example.com").await, Verdict::Continue, "{text:?}");
    }
}

#[test]
fn cloud_policy_that_may_leave_traffic_alone_is_refused() {
    for (text, url, path) in [
        ("", "https://a.example.com", "on_http_request"),
        ("{}", "http://a.example.com", "on_http_request"),
        ("on_http_request: []", "https://a.example.com", "on_http_request"),
        ("on_tcp_connect: []", "tls://a.example.com", "on_tcp_connect"),
        ("null", "tcp://a.example.com:1", "on_tcp_connect"),
    ] {
        assert_eq!(mistakes(text, cloud(url)), [(path.to_owned(), 2235)], "{text:?}");
    }
    assert_eq!(mistakes("on_tcp_connect: [{actions: [{type: deny}]}]", cloud("https://a.example.com")), []);
}

const HTTPS: &str = "https://a.example.com";
const TCP: &str = "tcp://a.example.com:1";

/// Faulty documents.
const FAULTY: &[Faulty] = &[
    // The document.
    ("[]", HTTPS, &[("", 9026)]),
    ("7", HTTPS, &[("", 9026)]),
    ("{", HTTPS, &[("", 9026)]),
    ("a: b: c", HTTPS, &[("", 9026)]),
    ("on_http_request: []\non_http_request: []", HTTPS, &[("", 9026)]),
    (r#"{"on_http_request": [], "on_http_request": []}"#, HTTPS, &[("", 9026)]),
    ("--- {}\n--- {}", HTTPS, &[("", 9026)]),
    // Phases.
    ("on_request: []", HTTPS, &[("on_request", 9026)]),
    ("inbound: []\non_http_request: []", HTTPS, &[("inbound", 9026)]),
    ("inbound: [{actions: [{type: deny}]}]\nInbound: []", HTTPS, &[("inbound", 9026)]),
    ("outbound: []\nOutbound: []", HTTPS, &[("outbound", 9026)]),
    (
        "inbound: [{expressions: ['true'], Expressions: [], actions: [{type: deny}], Actions: [{type: log}]}]",
        HTTPS,
        &[("inbound[0].actions", 9026), ("inbound[0].expressions", 9026)],
    ),
    ("inbound: [{actions: [{type: deny, Type: deny}]}]", HTTPS, &[("inbound[0].actions[0].type", 9026)]),
    ("on_event_stream_message: [{actions: [{type: deny}]}]", HTTPS, &[("on_event_stream_message", 9026)]),
    ("on_http_response: [{actions: [{type: deny}]}]", HTTPS, &[("on_http_response[0].actions[0].type", 2202)]),
    ("on_http_response: [{actions: [{type: log, config: {metadata: {a: b}}}]}]", TCP, &[("on_http_response", 2230)]),
    (
        "on_http_request: [{Actions: [{type: deny}]}]",
        HTTPS,
        &[("on_http_request[0].Actions", 9026), ("on_http_request[0].actions", 2206)],
    ),
    ("on_http_request: {}", HTTPS, &[("on_http_request", 9026)]),
    ("on_http_request: x", HTTPS, &[("on_http_request", 9026)]),
    ("on_http_request: [{actions: [{type: deny}]}]", TCP, &[("on_http_request", 2230)]),
    ("on_tcp_connect: [{actions: [{type: deny}]}]", "https://a.internal", &[("on_tcp_connect", 2262)]),
    ("on_tcp_connect: [{actions: [{type: deny}]}]", "http://a.internal", &[("on_tcp_connect", 2262)]),
    // Rules.
    ("on_http_request: [7]", HTTPS, &[("on_http_request[0]", 9026)]),
    ("on_http_request: [{}]", HTTPS, &[("on_http_request[0].actions", 2206)]),
    ("on_http_request: [{actions: []}]", HTTPS, &[("on_http_request[0].actions", 2206)]),
    ("on_http_request: [{actions: {}}]", HTTPS, &[("on_http_request[0].actions", 9026)]),
    ("on_http_request: [{if: x, actions: [{type: deny}]}]", HTTPS, &[("on_http_request[0].if", 9026)]),
    ("on_http_request: [{name: 1, actions: [{type: deny}]}]", HTTPS, &[("on_http_request[0].name", 9026)]),
    (
        "on_http_request: [{expressions: ['true', 'req.method ==', 7, \"res.status_code == 200\"], \
         actions: [{type: deny}]}]",
        HTTPS,
        &[
            ("on_http_request[0].expressions[1]", 2200),
            ("on_http_request[0].expressions[2]", 2200),
            ("on_http_request[0].expressions[3]", 2200),
        ],
    ),
    (
        "on_http_request: [{expressions: 'true', actions: [{type: deny}]}]",
        HTTPS,
        &[("on_http_request[0].expressions", 2200)],
    ),
    // Actions.
    ("on_http_request: [{actions: [deny]}]", HTTPS, &[("on_http_request[0].actions[0]", 9026)]),
    ("on_http_request: [{actions: [{}]}]", HTTPS, &[("on_http_request[0].actions[0].type", 2201)]),
    ("on_http_request: [{actions: [{type: 1}]}]", HTTPS, &[("on_http_request[0].actions[0].type", 2201)]),
    (
        "on_http_request: [{actions: [{type: ai-gateway, config: {}}]}]",
        HTTPS,
        &[("on_http_request[0].actions[0].type", 2201)],
    ),
    ("on_tcp_connect: [{actions: [{type: custom-response}]}]", TCP, &[("on_tcp_connect[0].actions[0].type", 2202)]),
    ("on_http_request: [{actions: [{type: deny, when: x}]}]", HTTPS, &[("on_http_request[0].actions[0].when", 9026)]),
    (
        "on_http_request: [{actions: [{type: deny, config: []}]}]",
        HTTPS,
        &[("on_http_request[0].actions[0].config", 2203)],
    ),
    (
        "on_http_request: [{actions: [{type: deny}, {type: deny}]}]",
        HTTPS,
        &[("on_http_request[0].actions[1].type", 2207)],
    ),
    (
        "on_http_request: [{actions: [{type: deny}]}, {actions: [{type: custom-response}]}]",
        HTTPS,
        &[("on_http_request[1].actions[0].type", 2207)],
    ),
    // deny.
    (
        "on_http_request: [{actions: [{type: deny, config: {status: 404}}]}]",
        HTTPS,
        &[("on_http_request[0].actions[0].config.status", 2204)],
    ),
    (
        "on_http_request: [{actions: [{type: deny, config: {status_code: '404'}}]}]",
        HTTPS,
        &[("on_http_request[0].actions[0].config.status_code", 2203)],
    ),
    (
        "on_http_request: [{actions: [{type: deny, config: {status_code: 99}}]}]",
        HTTPS,
        &[("on_http_request[0].actions[0].config.status_code", 2215)],
    ),
    (
        "on_http_request: [{actions: [{type: deny, config: {status_code: 100000}}]}]",
        HTTPS,
        &[("on_http_request[0].actions[0].config.status_code", 2215)],
    ),
    (
        "on_tcp_connect: [{actions: [{type: deny, config: {status_code: 404}}]}]",
        TCP,
        &[("on_tcp_connect[0].actions[0].config.status_code", 2204)],
    ),
    // forward-internal.
    (
        "on_http_request: [{actions: [{type: forward-internal}]}]",
        HTTPS,
        &[("on_http_request[0].actions[0].config.url", 2203)],
    ),
    (
        "on_http_request: [{actions: [{type: forward-internal, config: {url: 7}}]}]",
        HTTPS,
        &[("on_http_request[0].actions[0].config.url", 2203)],
    ),
    (
        "on_http_request: [{actions: [{type: forward-internal, config: {url: 'https://x.internal/'}}]}]",
        HTTPS,
        &[("on_http_request[0].actions[0].config.url", 2204)],
    ),
    (
        "on_http_request: [{actions: [{type: forward-internal, config: {url: 'https://example.com'}}]}]",
        HTTPS,
        &[("on_http_request[0].actions[0].config.url", 2204)],
    ),
    (
        "on_http_request: [{actions: [{type: forward-internal, config: {url: 'https://*.x.internal'}}]}]",
        HTTPS,
        &[("on_http_request[0].actions[0].config.url", 2204)],
    ),
    (
        "on_http_request: [{actions: [{type: forward-internal, config: {url: 'tcp://x.internal:1'}}]}]",
        HTTPS,
        &[("on_http_request[0].actions[0].config.url", 2204)],
    ),
    (
        "on_tcp_connect: [{actions: [{type: forward-internal, config: {url: 'https://x.internal'}}]}]",
        TCP,
        &[("on_tcp_connect[0].actions[0].config.url", 2204)],
    ),
    (
        "on_tcp_connect: [{actions: [{type: forward-internal, config: {url: 'tls://x.internal'}}]}]",
        TCP,
        &[("on_tcp_connect[0].actions[0].config.url", 2204)],
    ),
    (
        "on_http_request: [{actions: [{type: forward-internal, config: {url: 'https://${req.host}.internal'}}]}]",
        HTTPS,
        &[("on_http_request[0].actions[0].config.url", 2204)],
    ),
    (
        "on_http_request: [{actions: [{type: forward-internal, \
         config: {url: 'https://${nobody}.internal', on_error: 7}}]}]",
        HTTPS,
        &[("on_http_request[0].actions[0].config.on_error", 2203), ("on_http_request[0].actions[0].config.url", 2213)],
    ),
    (
        "on_http_request: [{actions: [{type: forward-internal, \
         config: {url: 'https://x.internal', on_error: stop, weight: 1}}]}]",
        HTTPS,
        &[
            ("on_http_request[0].actions[0].config.on_error", 2204),
            ("on_http_request[0].actions[0].config.weight", 2204),
        ],
    ),
    (
        "on_tcp_connect: [{actions: [{type: forward-internal, config: {url: 'https://x.internal'}}]}]",
        HTTPS,
        &[("on_tcp_connect[0].actions[0].config", 2205)],
    ),
    // custom-response.
    (
        "on_http_request: [{actions: [{type: custom-response, config: {status_code: 101}}]}]",
        HTTPS,
        &[("on_http_request[0].actions[0].config.status_code", 2215)],
    ),
    (
        "on_http_request: [{actions: [{type: custom-response, config: {status_code: 204, body: x}}]}]",
        HTTPS,
        &[("on_http_request[0].actions[0].config.body", 2204)],
    ),
    (
        "on_http_request: [{actions: [{type: custom-response, config: {body: 'at ${time.then}'}}]}]",
        HTTPS,
        &[("on_http_request[0].actions[0].config.body", 2213)],
    ),
    (
        "on_http_request: [{actions: [{type: custom-response, config: {headers: [a]}}]}]",
        HTTPS,
        &[("on_http_request[0].actions[0].config.headers", 2203)],
    ),
    (
        "on_http_request: [{actions: [{type: custom-response, config: {headers: {'a b': x, c: [1], d: \"x\\ny\", \
         e: '${x}', ngrok-error-code: ERR_NGROK_1, Transfer-Encoding: chunked}}}]}]",
        HTTPS,
        &[
            ("on_http_request[0].actions[0].config.headers.c", 2203),
            ("on_http_request[0].actions[0].config.headers.e", 2213),
            ("on_http_request[0].actions[0].config.headers.Transfer-Encoding", 2210),
            ("on_http_request[0].actions[0].config.headers.a b", 2210),
            ("on_http_request[0].actions[0].config.headers.d", 2211),
            ("on_http_request[0].actions[0].config.headers.ngrok-error-code", 2210),
        ],
    ),
    (
        "on_http_request: [{actions: [{type: custom-response, config: {headers: \
         {a: x, b: x, c: x, d: x, e: x, f: x, g: x, h: x, i: x, j: x, k: x}}}]}]",
        HTTPS,
        &[("on_http_request[0].actions[0].config.headers", 2212)],
    ),
];

#[test]
fn faulty_document_is_refused_at_the_right_place() {
    for (text, url, expected) in FAULTY {
        let mut found = mistakes(text, agent(url));
        let mut expected: Vec<(String, u32)> = expected.iter().map(|(path, code)| ((*path).into(), *code)).collect();
        found.sort();
        expected.sort();
        assert_eq!(found, expected, "{text}");
    }
}

#[test]
fn all_mistakes_are_reported_at_once() {
    let text = "on_http_request: [{actions: [{type: nope}]}, {actions: [{type: deny, config: {x: 1}}]}]\nbogus: 1";
    let paths: Vec<String> = mistakes(text, agent("https://a.example.com")).into_iter().map(|(path, _)| path).collect();
    assert_eq!(paths.len(), 3, "{paths:?}");
}

#[test]
fn message_says_what_would_be_right() {
    let place = agent("https://a.example.com");
    let errors = Policy::parse("on_http_request: [{actions: [{type: waf}]}]", place).unwrap_err();
    assert_eq!(
        errors.to_string(),
        "on_http_request[0].actions[0].type: \"waf\": is not an action that this gateway has: on_http_request has \
         add-headers, basic-auth, circuit-breaker, close-connection, custom-response, deny, forward-internal, http-request, \
         jwt-validation, log, oauth, openid-connect, oidc, rate-limit, redirect, remove-headers, restrict-ips, saml, set-vars, \
         url-rewrite, verify-webhook \
         (ERR_NGROK_2201)"
    );
}

#[test]
fn unreadable_document_is_not_quoted() {
    let errors = Policy::parse("on_http_request: [{x: s3cret", agent("https://a.example.com")).unwrap_err();
    assert!(!errors.to_string().contains("s3cret"), "{errors}");
    assert!(errors.to_string().contains("line 1"), "{errors}");
}

#[test]
fn rule_with_a_faulty_expression_does_not_make_those_behind_it_unreachable() {
    let document = "on_http_request: [{expressions: ['req.method = \"GET\"'], actions: [{type: deny}]}, {actions: [{type: deny}]}]";
    let expected = [("on_http_request[0].expressions[0]".to_owned(), EXPRESSION)];
    assert_eq!(mistakes(document, agent("https://a.example.com")), expected);
    let document = "on_http_request: [{expressions: [], actions: [{type: deny}]}, {actions: [{type: deny}]}]";
    let expected = [("on_http_request[1].actions[0].type".to_owned(), UNREACHABLE)];
    assert_eq!(mistakes(document, agent("https://a.example.com")), expected);
}

#[test]
fn expression_that_is_never_true_or_false_is_refused() {
    for expression in ["req.method", "1 + 1"] {
        let document = format!("on_http_request: [{{expressions: [{expression}], actions: [{{type: deny}}]}}]");
        let expected = [("on_http_request[0].expressions[0]".to_owned(), EXPRESSION)];
        assert_eq!(mistakes(&document, agent("https://a.example.com")), expected, "{expression}");
    }
}

#[test]
fn rules_at_the_bound_are_accepted_and_one_more_refused() {
    let rule = "{actions: [{type: deny}]}";
    let document = |count: usize| format!("on_tcp_connect: [{}]", vec![rule; count].join(","));
    let place = agent("tls://a.example.com");
    let found = mistakes(&document(RULES_MAX), place);
    assert!(found.iter().all(|(_, code)| *code == UNREACHABLE), "{found:?}");
    assert_eq!(mistakes(&document(RULES_MAX + 1), place), [("on_tcp_connect".to_owned(), RULES_TOO_MANY)]);
}

#[test]
fn actions_at_the_bound_are_accepted_and_one_more_refused() {
    let action = "{type: deny}";
    let document = |count: usize| format!("on_tcp_connect: [{{actions: [{}]}}]", vec![action; count].join(","));
    let place = agent("tls://a.example.com");
    let found = mistakes(&document(ACTIONS_MAX), place);
    assert!(found.iter().all(|(_, code)| *code == UNREACHABLE), "{found:?}");
    let expected = [("on_tcp_connect[0].actions".to_owned(), POLICY_INVALID)];
    assert_eq!(mistakes(&document(ACTIONS_MAX + 1), place), expected);
}

#[test]
fn large_deep_or_swelling_document_is_refused_without_effort() {
    let place = agent("https://a.example.com");
    let comment = |len: usize| format!("#{}", "x".repeat(len - 1));
    assert_eq!(mistakes(&comment(DOCUMENT_BYTES_MAX), place), []);
    assert_eq!(mistakes(&comment(DOCUMENT_BYTES_MAX + 1), place), [(String::new(), 9026)]);
    assert_eq!(mistakes(&"[".repeat(100_000), place), [(String::new(), 9026)]);
    assert_eq!(mistakes(&"{a: ".repeat(100_000), place), [(String::new(), 9026)]);
    let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n\
                d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: [*d,*d,*d,*d,*d,*d,*d,*d,*d]\n";
    assert_eq!(mistakes(bomb, place), [(String::new(), 9026)]);
}

/// The parts of a document that belong to one action.
type FaultyAction = (&'static str, &'static str, &'static [(&'static str, u32)]);

/// Faulty configurations of actions, in `on_http_request`.
const FAULTY_ACTIONS: &[FaultyAction] = &[
    ("restrict-ips", "{}", &[("", 2203)]),
    ("restrict-ips", "{enforce: false}", &[("", 2203)]),
    ("restrict-ips", "{enforce: 'yes', allow: [10.0.0.0/8]}", &[("enforce", 2203)]),
    (
        "restrict-ips",
        "{allow: [10.0.0.0/33, x, '10.0.0.1', '2001:db8::/129']}",
        &[("allow[0]", 2217), ("allow[1]", 2217), ("allow[3]", 2217)],
    ),
    ("restrict-ips", "{deny: [7], allow: ['::/0']}", &[("deny[0]", 2203)]),
    ("restrict-ips", "{allow: ['${nobody}', 10.0.0.0/8]}", &[("allow[0]", 2213)]),
    ("restrict-ips", "{allow: [10.0.0.0/8], ip_policies: [ipp_1]}", &[("ip_policies", 2216)]),
    ("restrict-ips", "{allow: {a: b}}", &[("allow[0]", 2203), ("", 2203)]),
    ("restrict-ips", "{allow: [10.0.0.0/8], allowed: []}", &[("allowed", 2204)]),
    ("set-vars", "{}", &[("vars", 2203)]),
    ("set-vars", "{vars: []}", &[("vars", 2203)]),
    ("set-vars", "{vars: [a]}", &[("vars[0]", 2203)]),
    ("set-vars", "{vars: [{a: b, c: d}]}", &[("vars[0]", 2203)]),
    ("set-vars", "{vars: [{a: [x, {b: '${'}, '${nobody}']}]}", &[("vars[0].a[1].b", 2213), ("vars[0].a[2]", 2213)]),
    ("set-vars", "{vars: [{'a b': x}, {1a: x}, {'': x}]}", &[("vars[0]", 2204), ("vars[1]", 2204), ("vars[2]", 2204)]),
    ("set-vars", "{vars: [{a: '${vars.c}'}]}", &[("vars[0].a", 2213)]),
    ("log", "{}", &[("metadata", 2203)]),
    ("log", "{metadata: {}}", &[("metadata", 2203)]),
    ("log", "{metadata: [a]}", &[("metadata", 2203)]),
    ("log", "{metadata: {a: [1], b: '${', c: 1}}", &[("metadata.a", 2203), ("metadata.b", 2213)]),
    ("add-headers", "{}", &[("headers", 2203)]),
    ("add-headers", "{headers: {}}", &[("headers", 2203)]),
    (
        "add-headers",
        "{headers: {'a b': x, user-agent: x, connection: x, adit-error-code: x}}",
        &[
            ("headers.a b", 2210),
            ("headers.adit-error-code", 2210),
            ("headers.connection", 2210),
            ("headers.user-agent", 2210),
        ],
    ),
    (
        "add-headers",
        "{headers: {a: \"x\\ny\", b: [1], c: '${1 +}'}}",
        &[("headers.b", 2203), ("headers.c", 2213), ("headers.a", 2211)],
    ),
    (
        "add-headers",
        "{headers: {a: x, b: x, c: x, d: x, e: x, f: x, g: x, h: x, i: x, j: x, k: x}}",
        &[("headers", 2212)],
    ),
    ("remove-headers", "{}", &[("headers", 2203)]),
    ("remove-headers", "{headers: []}", &[("headers", 2203)]),
    (
        "remove-headers",
        "{headers: [a, 'b c', user-agent, host, 7]}",
        &[("headers[4]", 2203), ("headers[1]", 2210), ("headers[2]", 2210), ("headers[3]", 2210)],
    ),
    ("remove-headers", "{headers: [a, b, c, d, e, f, g, h, i, j, k]}", &[("headers", 2212)]),
    ("redirect", "{}", &[("to", 2203)]),
    ("redirect", "{to: 7}", &[("to", 2203)]),
    ("redirect", "{to: x, from: '('}", &[("from", 3902)]),
    ("redirect", "{to: x, status_code: 200}", &[("status_code", 2215)]),
    ("redirect", "{to: x, status_code: 304}", &[("status_code", 2215)]),
    ("redirect", "{to: x, status_code: '302'}", &[("status_code", 2203)]),
    ("redirect", "{to: x, headers: {location: 'y', 'a b': z}}", &[("headers.a b", 2210), ("headers.location", 2204)]),
    ("redirect", "{to: '${req.nothing}'}", &[("to", 2213)]),
    ("url-rewrite", "{}", &[("to", 2203)]),
    ("url-rewrite", "{to: ''}", &[("to", 2204)]),
    ("url-rewrite", "{from: 'a(?=b)', to: x}", &[("from", 3902)]),
    ("url-rewrite", "{from: 1, to: x, status_code: 302}", &[("from", 2203), ("status_code", 2204)]),
    ("basic-auth", "{}", &[("credentials", 2203)]),
    ("basic-auth", "{credentials: []}", &[("credentials", 2203)]),
    (
        "basic-auth",
        "{credentials: [alone, 'a:short', 'a:longenough', 7]}",
        &[("credentials[3]", 2203), ("credentials[0]", 2204), ("credentials[1]", 2204)],
    ),
    ("basic-auth", "{credentials: ['${nobody}:password']}", &[("credentials[0]", 2213)]),
    (
        "basic-auth",
        "{credentials: ['a:longenough'], realm: \"a\\\"b\", enforce: 1}",
        &[("realm", 2204), ("enforce", 2203)],
    ),
    (
        "rate-limit",
        "{}",
        &[("name", 2203), ("algorithm", 2203), ("capacity", 2203), ("rate", 2203), ("bucket_key", 2203)],
    ),
    (
        "rate-limit",
        "{name: '', algorithm: gcra, capacity: 0, rate: 59s, bucket_key: [nobody]}",
        &[("name", 2204), ("algorithm", 2204), ("capacity", 2215), ("rate", 2215), ("bucket_key[0]", 2200)],
    ),
    (
        "rate-limit",
        "{name: a, algorithm: sliding_window, capacity: 1.5, rate: soon, bucket_key: [req.host]}",
        &[("capacity", 2203), ("rate", 2204)],
    ),
    (
        "rate-limit",
        "{name: a, algorithm: sliding_window, capacity: 2000000001, rate: 65s, bucket_key: req.host}",
        &[("capacity", 2215), ("rate", 2215)],
    ),
    (
        "rate-limit",
        "{name: a, algorithm: sliding_window, capacity: 1, rate: 25h, bucket_key: []}",
        &[("rate", 2215), ("bucket_key", 2203)],
    ),
    ("jwt-validation", "{}", &[("issuer.allow_list", 2203), ("http.tokens", 2203), ("jws", 2203)]),
    (
        "jwt-validation",
        "{issuer: {allow_list: [{value: 7}, {valeu: x}], deny_list: []}, audience: {allow_list: []}, \
         http: {tokens: [{type: saml, method: query, name: 'a b', prefix: 7, place: x}, 7]}, \
         jws: {allowed_algorithms: [none, HS256, RS256], keys: {sources: {additional_jkus: ['http://idp.example.com/']}, \
         identification: {token_claims: [sub]}, more: 1}, typ: x}, leeway: 60s}",
        &[
            ("issuer.allow_list[0]", 2203),
            ("issuer.allow_list[1]", 2203),
            ("issuer.deny_list", 2204),
            ("audience.allow_list", 2203),
            ("http.tokens[0].type", 2204),
            ("http.tokens[0].method", 2204),
            ("http.tokens[0].name", 2204),
            ("http.tokens[0].prefix", 2203),
            ("http.tokens[0].place", 2204),
            ("http.tokens[1]", 2203),
            ("jws.allowed_algorithms[0]", 2204),
            ("jws.allowed_algorithms[1]", 2204),
            ("jws.keys.sources.additional_jkus[0]", 2204),
            ("jws.keys.identification.token_claims", 2204),
            ("jws.keys.more", 2204),
            ("jws.typ", 2204),
            ("leeway", 2204),
        ],
    ),
    (
        "jwt-validation",
        "{issuer: {allow_list: [{value: x}]}, http: {tokens: [{type: jwt, method: query, name: token}]}, \
         jws: {allowed_algorithms: [], keys: [{sources: [{additional_jkus: []}]}]}}",
        &[
            ("http.tokens[0].method", 2204),
            ("jws.allowed_algorithms", 2203),
            ("jws.keys.sources.additional_jkus", 2203),
        ],
    ),
    ("close-connection", "{code: 1}", &[("code", 2204)]),
];

#[test]
fn faulty_action_is_refused_at_the_right_field() {
    for (action, config, expected) in FAULTY_ACTIONS {
        let text = with_action(action, config);
        let mut found = mistakes(&text, agent("https://a.example.com"));
        let config = "on_http_request[0].actions[0].config";
        let path = |field: &str| if field.is_empty() { config.to_owned() } else { format!("{config}.{field}") };
        let mut expected: Vec<(String, u32)> = expected.iter().map(|(field, code)| (path(field), *code)).collect();
        found.sort();
        expected.sort();
        assert_eq!(found, expected, "{text}");
    }
}

fn with_action(action: &str, config: &str) -> String {
    format!("on_http_request: [{{actions: [{{type: {action}, config: {config}}}]}}]")
}

/// Every faulty document of this file, and the endpoint that it is for.
fn faulty_documents() -> BTreeSet<(String, &'static str)> {
    let whole = FAULTY.iter().map(|(text, url, _)| ((*text).to_owned(), *url));
    whole.chain(FAULTY_ACTIONS.iter().map(|(action, config, _)| (with_action(action, config), HTTPS))).collect()
}

/// What stands at the place that an error names.
fn found_at<'v>(document: &'v Value, path: &str) -> Option<&'v Value> {
    path.split('.').try_fold(document, |value, part| {
        let (key, places) =
            part.split_once('[').map_or((part, ""), |(key, places)| (key, places.trim_end_matches(']')));
        let value = if key.is_empty() { value } else { value.get(key)? };
        let mut places = places.split("][").filter(|place| !place.is_empty());
        places.try_fold(value, |value, place| value.get(place.parse::<usize>().ok()?))
    })
}

#[test]
fn over_a_hundred_faulty_documents_get_errors_with_place_value_code_and_advice() {
    let documents = faulty_documents();
    assert!(documents.len() >= 100, "{} of them", documents.len());
    for (text, url) in documents {
        let errors = Policy::parse(&text, agent(url)).unwrap_err();
        let document = read_yaml(&text).unwrap_or_default();
        for error in errors.errors() {
            let PolicyError { path, value, code, message } = error;
            assert!(matches!(code, 2200..=2264 | 3902 | 9026), "{text}: {error}");
            let says = ADVICE.iter().any(|word| message.contains(word));
            assert!(says, "{text}: it does not say what would be right: {error}");
            // A password must not be repeated, and what is unknown is named by the path.
            let is_said_otherwise = path.contains("credentials") || message.starts_with("is not a field");
            let is_scalar = |value: &&Value| value.is_string() || value.is_number() || value.is_boolean();
            if let Some(found) = found_at(&document, path).filter(is_scalar).filter(|_| !is_said_otherwise) {
                assert!(!value.is_empty(), "{text}: {found} is not shown: {error}");
            }
        }
    }
}

/// Words with which an error says what would be right.
const ADVICE: &[&str] = &[
    "must",
    "needs",
    "there are",
    "there is",
    "has ",
    "have",
    "write ",
    "use ",
    "keep ",
    "see ",
    "at most",
    "possible",
    "can never run",
    "cannot be",
    "only",
    "belongs",
    "takes",
    "is not",
    "will do",
];

#[test]
fn secret_is_in_no_error() {
    for credentials in ["['a:s3cret']", "[s3cretpassword]", "['${s3cret}:x']", "[{s3cret: 1}]"] {
        let text =
            format!("on_http_request: [{{actions: [{{type: basic-auth, config: {{credentials: {credentials}}}}}]}}]");
        let errors = Policy::parse(&text, agent("https://a.example.com")).unwrap_err();
        assert!(!errors.to_string().contains("s3cret"), "{errors}");
    }
}

#[test]
fn action_in_a_phase_that_does_not_have_it_is_refused() {
    let table = [
        (
            "on_tcp_connect",
            "tls://a.example.com",
            "add-headers basic-auth custom-response rate-limit redirect \
                                                   remove-headers url-rewrite",
        ),
        (
            "on_http_response",
            "https://a.example.com",
            "basic-auth close-connection deny forward-internal rate-limit \
                                                       redirect url-rewrite",
        ),
    ];
    for (phase, url, actions) in table {
        for action in actions.split_whitespace() {
            let text = format!("{phase}: [{{actions: [{{type: {action}}}]}}]");
            assert_eq!(mistakes(&text, agent(url)), [(format!("{phase}[0].actions[0].type"), 2202)], "{text}");
        }
    }
}

#[test]
fn cloud_policy_whose_end_is_conditional_is_refused() {
    let url = "https://a.example.com";
    for (rules, is_whole) in [
        ("[{expressions: ['true'], actions: [{type: deny}]}]", false),
        ("[{expressions: [\"req.method == 'GET'\"], actions: [{type: deny}]}, {actions: [{type: deny}]}]", true),
        ("[{actions: [{type: redirect, config: {to: 'https://b.example.com'}}]}]", false),
        ("[{actions: [{type: forward-internal, config: {url: 'https://a.internal', on_error: continue}}]}]", false),
        (
            "[{actions: [{type: forward-internal, config: {url: 'https://a.internal', on_error: continue}}, \
              {type: close-connection}]}]",
            true,
        ),
        ("[{actions: [{type: restrict-ips, config: {allow: [10.0.0.0/8]}}]}]", false),
    ] {
        let found = mistakes(&format!("on_http_request: {rules}"), cloud(url));
        let expected = if is_whole { Vec::new() } else { vec![("on_http_request".to_owned(), 2235)] };
        assert_eq!(found, expected, "{rules}");
    }
}

#[tokio::test]
async fn former_names_of_phases_and_keys_are_understood() {
    let json = r#"{"Inbound": [{"Name": "all", "Expressions": ["req.method == 'GET'"],
        "Actions": [{"Type": "deny", "Config": {"status_code": 404}}]}], "outbound": []}"#;
    let policy = Policy::parse(json, agent("https://a.example.com")).unwrap();
    assert_eq!(decide(&policy, "https://a.example.com").await, Verdict::Deny { status: StatusCode::NOT_FOUND });
    assert!(Policy::parse("inbound: [{actions: [{type: deny}]}]", cloud("tls://a.example.com")).is_ok());
}

#[test]
fn ten_thousand_networks_are_accepted_and_one_more_refused() {
    let document = |count: usize| {
        let networks: Vec<String> = (0..count).map(|at| format!("10.{}.{}.0/24", at / 256, at % 256)).collect();
        format!("on_tcp_connect: [{{actions: [{{type: restrict-ips, config: {{allow: [{}]}}}}]}}]", networks.join(","))
    };
    let place = agent("tls://a.example.com");
    assert_eq!(mistakes(&document(10_000), place), []);
    let expected = [
        ("on_tcp_connect[0].actions[0].config.allow".to_owned(), 2218),
        ("on_tcp_connect[0].actions[0].config".to_owned(), 2203),
    ];
    assert_eq!(mistakes(&document(10_001), place), expected);
}

#[test]
fn jwt_validation_is_understood_in_both_spellings_of_the_reference() {
    let config = |keys: &str| {
        format!(
            "on_http_request: [{{actions: [{{type: jwt-validation, config: {{issuer: {{allow_list: [{{value: \
             'https://idp.example.com/'}}]}}, audience: {{allow_list: [{{value: 'urn:api'}}]}}, http: {{tokens: [{{type: \
             jwt, method: header, name: Authorization, prefix: 'Bearer '}}]}}, jws: {{allowed_algorithms: [RS256, ES256], \
             keys: {keys}}}}}}}]}}]"
        )
    };
    for keys in [
        "{sources: {additional_jkus: ['https://idp.example.com/jwks']}, identification: {token_claims: [kid]}}",
        "[{sources: [{additional_jkus: ['https://idp.example.com/jwks']}], identification: [{token_claims: [kid]}]}]",
    ] {
        assert_eq!(mistakes(&config(keys), agent("https://a.example.com")), [], "{keys}");
    }
}
