//! What the actions do to a request, to a response and to a connection.

use adit::endpoint_url::EndpointUrl;
use http::header::{AUTHORIZATION, HOST, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::super::document::Place;
use super::super::{Connection, Policy, Position, Refused, Request, Response, State, Verdict};

const PEER: &str = "[::ffff:10.1.2.3]:5000";

/// A policy at work on requests of one visitor.
struct Bench {
    policy: Policy,
    endpoint: EndpointUrl,
    head: http::request::Parts,
    state: State,
}

impl Bench {
    fn new(rules: &str) -> Self {
        Self::at("https://app.example.com", &format!("on_http_request: {rules}"))
    }

    fn at(url: &str, document: &str) -> Self {
        let endpoint = EndpointUrl::parse(url).unwrap();
        let policy = Policy::parse(document, Place::agent(&endpoint)).unwrap_or_else(|errors| panic!("{errors}"));
        let (mut head, ()) = http::Request::new(()).into_parts();
        head.uri = "/old/path?x=1".parse().unwrap();
        head.headers.insert(HOST, HeaderValue::from_static("app.example.com"));
        Self { policy, endpoint, head, state: State::default() }
    }

    fn header(mut self, name: &'static str, value: &str) -> Self {
        self.head.headers.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        self
    }

    fn connection(endpoint: &EndpointUrl) -> Connection<'_> {
        let local = "192.0.2.1:443".parse().unwrap();
        Connection { peer: PEER.parse().unwrap(), local, scheme: endpoint.scheme(), endpoint }
    }

    async fn ask(&mut self) -> Verdict {
        self.go_on(Position::default()).await
    }

    async fn go_on(&mut self, from: Position) -> Verdict {
        let mut request = Request { connection: Self::connection(&self.endpoint), head: &mut self.head };
        self.policy.on_http_request(&mut request, &mut self.state, from).await
    }

    fn connect(&mut self) -> Verdict {
        self.policy.on_tcp_connect(Self::connection(&self.endpoint), &mut self.state, Position::default())
    }

    async fn answer(&mut self, head: &mut http::response::Parts) -> Verdict {
        let connection = Self::connection(&self.endpoint);
        let mut response = Response { connection, request: &self.head, head };
        self.policy.on_http_response(&mut response, &mut self.state).await
    }
}

fn refused(verdict: Verdict) -> Refused {
    match verdict {
        Verdict::Refuse(refused) => *refused,
        other => panic!("{other:?}"),
    }
}

fn lines<'h>(headers: &'h HeaderMap, name: &str) -> Vec<&'h str> {
    headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect()
}

/// What the next request would be answered with, to look at values with.
async fn shown(bench: &mut Bench) -> String {
    match bench.ask().await {
        Verdict::Respond(response) => String::from_utf8(response.body.to_vec()).unwrap(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn rule_runs_when_all_of_its_expressions_hold() {
    for (expressions, applies) in [
        ("[]", true),
        ("[\"req.method == 'GET'\", \"req.url.path.startsWith('/old')\"]", true),
        ("[\"req.method == 'GET'\", \"req.method == 'POST'\"]", false),
        ("[true]", true),
        ("['false']", false),
    ] {
        let mut bench = Bench::new(&format!("[{{expressions: {expressions}, actions: [{{type: deny}}]}}]"));
        let expected = if applies { Verdict::Deny { status: StatusCode::FORBIDDEN } } else { Verdict::Continue };
        assert_eq!(bench.ask().await, expected, "{expressions}");
    }
}

#[tokio::test]
async fn rule_without_a_value_is_skipped_unless_it_protects() {
    let rules = |action: &str| format!("[{{expressions: [\"req.headers['x-none'][0] == 'a'\"], actions: [{action}]}}]");
    for action in [
        "{type: add-headers, config: {headers: {a: b}}}",
        "{type: log, config: {metadata: {a: b}}}",
        "{type: custom-response}",
        "{type: forward-internal, config: {url: 'https://a.internal'}}",
        "{type: restrict-ips, config: {allow: [192.0.2.1], enforce: false}}",
    ] {
        assert_eq!(Bench::new(&rules(action)).ask().await, Verdict::Continue, "{action}");
    }
    for action in [
        "{type: deny}",
        "{type: close-connection}",
        "{type: custom-response, config: {status_code: 401}}",
        "{type: restrict-ips, config: {allow: [10.0.0.0/8]}}",
        "{type: basic-auth, config: {credentials: ['a:longenough']}}",
    ] {
        let refused = refused(Bench::new(&rules(action)).ask().await);
        assert_eq!((refused.status.as_u16(), refused.code), (500, 2300), "{action}");
    }
}

#[tokio::test]
async fn restrict_ips_judges_the_peer_and_deny_wins() {
    for (config, passes) in [
        ("allow: [10.0.0.0/8]", true),
        ("allow: [10.1.2.3]", true),
        ("allow: ['::ffff:10.1.2.3']", true),
        ("allow: ['${conn.client_ip}/32']", true),
        ("allow: [192.0.2.0/24]", false),
        ("allow: ['::/0']", false),
        ("allow: [0.0.0.0/0], deny: [10.1.2.3]", false),
        ("deny: [10.1.2.3]", false),
        ("deny: [192.0.2.1]", true),
        ("allow: [192.0.2.0/24], enforce: false", true),
    ] {
        let rule = format!("{{actions: [{{type: restrict-ips, config: {{{config}}}}}]}}");
        // What a visitor says of itself does not count.
        let mut bench = Bench::new(&format!("[{rule}]")).header("x-forwarded-for", "192.0.2.5");
        let verdict = bench.ask().await;
        if passes {
            assert_eq!(verdict, Verdict::Continue, "{config}");
        } else {
            let refused = refused(verdict);
            assert_eq!((refused.status.as_u16(), refused.code), (403, 3203), "{config}");
        }
        let mut bench = Bench::at("tcp://app.example.com:1", &format!("on_tcp_connect: [{rule}]"));
        assert_eq!(bench.connect() == Verdict::Continue, passes, "{config}");
    }
}

#[tokio::test]
async fn restrict_ips_leaves_its_result_behind() {
    let mut bench = Bench::new(
        "[{actions: [{type: restrict-ips, config: {allow: [10.0.0.0/8], deny: [10.1.0.0/16], enforce: false}}, \
         {type: custom-response, config: {body: '${actions.ngrok.restrict_ips.action} \
         ${actions.ngrok.restrict_ips.matched_cidr} ${actions.ngrok.restrict_ips.error.code}'}}]}]",
    );
    assert_eq!(shown(&mut bench).await, "deny 10.1.0.0/16 ERR_NGROK_3203");
}

#[tokio::test]
async fn vars_hold_values_for_later_rules_and_phases() {
    let mut bench = Bench::at(
        "https://app.example.com",
        "on_http_request: [{actions: [{type: set-vars, config: {vars: [{who: '${conn.client_ip}'}, {n: '7'}]}}]}, \
         {expressions: [\"vars.who == '10.1.2.3' && int(vars.n) == 7\"], actions: [{type: set-vars, config: {vars: \
         [{seen: 'yes'}]}}]}]\n\
         on_http_response: [{actions: [{type: add-headers, config: {headers: {x-seen: '${vars.seen} ${vars.who}'}}}]}]",
    );
    assert_eq!(bench.ask().await, Verdict::Continue);
    let (mut head, ()) = http::Response::new(()).into_parts();
    assert_eq!(bench.answer(&mut head).await, Verdict::Continue);
    assert_eq!(lines(&head.headers, "x-seen"), ["yes 10.1.2.3"]);
}

#[tokio::test]
async fn headers_are_added_and_removed() {
    let mut bench = Bench::new(
        "[{actions: [{type: add-headers, config: {headers: {X-A: '2', host: other.example.com, x-b: '${req.method}'}}}, \
         {type: remove-headers, config: {headers: [X-Secret]}}]}]",
    )
    .header("x-a", "1")
    .header("x-secret", "s");
    assert_eq!(bench.ask().await, Verdict::Continue);
    assert_eq!(lines(&bench.head.headers, "x-a"), ["1", "2"]);
    assert_eq!(lines(&bench.head.headers, "x-b"), ["GET"]);
    assert_eq!(lines(&bench.head.headers, "host"), ["other.example.com"]);
    assert_eq!(lines(&bench.head.headers, "x-secret"), [""; 0]);
}

#[tokio::test]
async fn header_that_a_visitor_would_break_is_an_error_and_not_sent() {
    let mut bench = Bench::new("[{actions: [{type: add-headers, config: {headers: {x-path: '${req.url.path}'}}}]}]");
    bench.head.uri = "/a%0d%0aX-Injected:%201".parse().unwrap();
    let refused = refused(bench.ask().await);
    assert_eq!((refused.status.as_u16(), refused.code), (500, 2300));
    assert_eq!(lines(&bench.head.headers, "x-path"), [""; 0]);
}

#[tokio::test]
async fn redirect_sends_elsewhere_unless_nothing_changes() {
    for (config, status, location) in [
        ("to: 'https://new.example.com/'", 302, Some("https://new.example.com/")),
        (
            "to: 'https://new.example.com$uri?$args', status_code: 308",
            308,
            Some("https://new.example.com/old/path?x=1"),
        ),
        ("from: '/old/(.*)', to: '/new/$1'", 302, Some("https://app.example.com/new/path?x=1")),
        ("from: '^http:', to: 'https:'", 302, None),
        ("from: '/old', to: '/old'", 302, None),
        ("from: '${req.url.path}', to: '/x'", 302, Some("https://app.example.com/x?x=1")),
    ] {
        let verdict = Bench::new(&format!("[{{actions: [{{type: redirect, config: {{{config}}}}}]}}]")).ask().await;
        match (verdict, location) {
            (Verdict::Respond(response), Some(location)) => {
                assert_eq!(response.status, status, "{config}");
                assert_eq!(response.headers[LOCATION], location, "{config}");
            }
            (Verdict::Continue, None) => {}
            other => panic!("{config}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn url_is_rewritten_for_the_agent_alone() {
    for (config, uri) in [
        ("from: '/old/', to: '/new/'", "/new/path?x=1"),
        ("from: '/([a-z]+)/([a-z]+)', to: '/$2/$1'", "/path/old?x=1"),
        ("from: '/none/', to: '/new/'", "/old/path?x=1"),
        ("to: 'https://app.example.com/all?from=${req.url.raw_path}'", "/all?from=/old/path"),
    ] {
        let mut bench = Bench::new(&format!("[{{actions: [{{type: url-rewrite, config: {{{config}}}}}]}}]"));
        assert_eq!(bench.ask().await, Verdict::Continue, "{config}");
        assert_eq!(bench.head.uri, uri, "{config}");
        assert_eq!(lines(&bench.head.headers, "host"), ["app.example.com"]);
    }
}

#[tokio::test]
async fn basic_auth_asks_for_a_name_and_a_password() {
    let rules = "[{actions: [{type: basic-auth, config: {realm: clinic, credentials: ['ann:correct:horse', \
                 'bob:battery-staple']}}, {type: custom-response, config: {body: \
                 '${actions.ngrok.basic_auth.credentials.username}'}}]}]";
    let with = |line: &str| Bench::new(rules).header("authorization", line);
    for line in ["Basic YW5uOmNvcnJlY3Q6aG9yc2U=", "basic  YW5uOmNvcnJlY3Q6aG9yc2U="] {
        assert_eq!(shown(&mut with(line)).await, "ann");
    }
    for line in [
        "",
        "Basic",
        "Basic !",
        "Bearer YW5uOmNvcnJlY3Q6aG9yc2U=",
        "Basic YW5uOmNvcnJlY3Q6aG9yc2V4",
        "Basic YW5u",
        "Basic YW5uOg==",
    ] {
        let refused = refused(with(line).ask().await);
        assert_eq!(refused.status, StatusCode::UNAUTHORIZED, "{line}");
        assert_eq!(refused.headers[WWW_AUTHENTICATE], "Basic realm=\"clinic\", charset=\"UTF-8\"");
        assert!(!format!("{refused:?}").contains("correct"), "{refused:?}");
    }
    let mut bench = Bench::new(rules);
    bench.head.headers.remove(AUTHORIZATION);
    assert_eq!(refused(bench.ask().await).status, StatusCode::UNAUTHORIZED);
    assert!(!format!("{:?}", bench.policy).contains("battery"), "the policy shows its passwords");
}

#[tokio::test(start_paused = true)]
async fn rate_limit_counts_each_key_by_itself() {
    let rules = "[{actions: [{type: rate-limit, config: {name: a, algorithm: sliding_window, capacity: 2, rate: 60s, \
                 bucket_key: [\"getReqHeader('x-key')[0]\", conn.client_ip]}}]}]";
    let mut bench = Bench::new(rules).header("x-key", "one");
    assert_eq!(bench.ask().await, Verdict::Continue);
    assert_eq!(bench.ask().await, Verdict::Continue);
    let limited = refused(bench.ask().await);
    assert_eq!((limited.status.as_u16(), limited.code), (429, 702));
    assert_eq!(limited.headers[RETRY_AFTER], "60");
    bench.head.headers.insert("x-key", HeaderValue::from_static("two"));
    assert_eq!(bench.ask().await, Verdict::Continue);
    bench.head.headers.remove("x-key");
    assert_eq!(bench.ask().await, Verdict::Continue);
    bench.head.headers.insert("x-key", HeaderValue::from_static("one"));
    tokio::time::advance(std::time::Duration::from_secs(59)).await;
    assert_eq!(refused(bench.ask().await).headers[RETRY_AFTER], "1");
    tokio::time::advance(std::time::Duration::from_secs(61)).await;
    assert_eq!(bench.ask().await, Verdict::Continue);
}

#[tokio::test]
async fn custom_response_has_values_in_it() {
    let mut bench = Bench::new(
        "[{actions: [{type: custom-response, config: {status_code: 451, body: '{\"ip\": \"${conn.client_ip}\"}', \
         headers: {x-path: '${req.url.raw_path}'}}}]}]",
    );
    let Verdict::Respond(response) = bench.ask().await else { panic!("no response") };
    assert_eq!(response.status.as_u16(), 451);
    assert_eq!(&response.body[..], b"{\"ip\": \"10.1.2.3\"}");
    assert_eq!(response.headers["content-type"], "application/json");
    assert_eq!(response.headers["x-path"], "/old/path");
}

#[tokio::test]
async fn response_is_changed_or_replaced_by_what_it_is() {
    let document = "on_http_response: [{expressions: ['res.status_code >= 500'], actions: [{type: custom-response, \
                    config: {status_code: 503, body: 'closed for ${req.url.raw_path}'}}]}, {actions: [{type: \
                    remove-headers, config: {headers: [server]}}, {type: add-headers, config: {headers: {x-was: \
                    \"${getResHeader('x-kind')[0]}\"}}}]}]";
    let mut bench = Bench::at("https://app.example.com", document);
    let answer = |status: u16| {
        let response = http::Response::builder().status(status).header("server", "old/1").header("x-kind", "plain");
        response.body(()).unwrap().into_parts().0
    };
    let mut head = answer(200);
    assert_eq!(bench.answer(&mut head).await, Verdict::Continue);
    assert_eq!(lines(&head.headers, "server"), [""; 0]);
    assert_eq!(lines(&head.headers, "x-was"), ["plain"]);
    let Verdict::Respond(response) = bench.answer(&mut answer(502)).await else { panic!("no response") };
    assert_eq!((response.status.as_u16(), &response.body[..]), (503, &b"closed for /old/path"[..]));
}

#[tokio::test]
async fn forward_that_fails_goes_on_where_it_says_so() {
    let mut bench = Bench::new(
        "[{actions: [{type: forward-internal, config: {url: 'https://a.internal', on_error: continue}}, \
         {type: custom-response, config: {status_code: 503, body: '${actions.ngrok.forward_internal.url} \
         ${actions.ngrok.forward_internal.error.code}'}}]}]",
    );
    let Verdict::Forward { url, on_error: Some(position) } = bench.ask().await else { panic!("no forward") };
    bench.state.forward_failed(&url.to_string(), 3200, "offline");
    let Verdict::Respond(response) = bench.go_on(position).await else { panic!("no response") };
    assert_eq!(&response.body[..], b"https://a.internal ERR_NGROK_3200");
}

#[tokio::test]
async fn forward_goes_where_a_template_says_within_the_rules() {
    let document = "on_http_request: [{actions: [{type: forward-internal, config: {url: \
                    \"https://${getReqHeader('x-site')[0]}.internal\"}}]}]";
    let endpoint = EndpointUrl::parse("https://app.example.com").unwrap();
    let policy = || Policy::parse(document, Place::cloud(&endpoint)).unwrap();
    for (site, target) in [("one", Some("https://one.internal")), ("a b", None), ("*", None), ("x.example.com/", None)]
    {
        let mut bench = Bench { policy: policy(), ..Bench::new("[]") }.header("x-site", site);
        match (bench.ask().await, target) {
            (Verdict::Forward { url, on_error: None }, Some(target)) => assert_eq!(url.to_string(), target),
            (Verdict::Refuse(refused), None) => assert_eq!(refused.status.as_u16(), 500, "{site}"),
            other => panic!("{site}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn closing_says_nothing() {
    assert_eq!(Bench::new("[{actions: [{type: close-connection}]}]").ask().await, Verdict::Close);
    let document = "on_tcp_connect: [{actions: [{type: close-connection}]}]";
    assert_eq!(Bench::at("tls://app.example.com", document).connect(), Verdict::Close);
}
