//! What the actions do to a request, to a response and to a connection.

mod log;
mod reference;

use adit::endpoint_url::EndpointUrl;
use http::header::{AUTHORIZATION, HOST, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::super::place::Place;
use super::super::{Connection, Policy, Position, Refused, Request, Response, State, Tls, Verdict};

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
        Connection {
            peer: PEER.parse().unwrap(),
            local,
            scheme: endpoint.scheme(),
            endpoint,
            bind: None,
            course: None,
            tls: Tls::Unknown,
        }
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
        "{type: set-vars, config: {vars: [{a: b}]}}",
        "{type: restrict-ips, config: {allow: [192.0.2.1], enforce: false}}",
    ] {
        assert_eq!(Bench::new(&rules(action)).ask().await, Verdict::Continue, "{action}");
    }
    for action in [
        "{type: deny}",
        "{type: close-connection}",
        "{type: custom-response, config: {status_code: 401}}",
        "{type: custom-response}",
        "{type: redirect, config: {to: 'https://app.example.com/login'}}",
        "{type: forward-internal, config: {url: 'https://a.internal'}}",
        "{type: forward-internal, config: {url: 'https://a.internal', on_error: continue}}",
        "{type: remove-headers, config: {headers: [x-role]}}",
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
async fn vars_keep_the_types_of_their_values() {
    for (value, expression) in [
        ("\"${conn.client_port}\"", "vars.v == 5000"),
        ("\"${inCidrRange(conn.client_ip, '192.0.2.0/24')}\"", "vars.v == false"),
        ("\"${[conn.client_ip]}\"", "vars.v == ['10.1.2.3']"),
        ("\"${conn.client_port}!\"", "vars.v == '5000!'"),
        ("\"${conn.client_port}${conn.client_port}\"", "vars.v == '50005000'"),
        ("true", "vars.v"),
        ("7", "vars.v == 7 && vars.v != '7'"),
        ("-1.5", "vars.v == -1.5"),
        ("null", "vars.v == null"),
        ("''", "vars.v == ''"),
        ("[1, \"${req.method}\", [false]]", "vars.v == [1, 'GET', [false]]"),
        ("{a: {b: \"${conn.client_port}\"}, c: \"is ${req.method}\"}", "vars.v.a.b == 5000 && vars.v.c == 'is GET'"),
        ("[]", "size(vars.v) == 0"),
    ] {
        let rules = format!(
            "[{{actions: [{{type: set-vars, config: {{vars: [{{v: {value}}}]}}}}]}}, {{expressions: [\"{expression}\"], \
             actions: [{{type: deny}}]}}]"
        );
        assert_eq!(Bench::new(&rules).ask().await, Verdict::Deny { status: StatusCode::FORBIDDEN }, "{value}");
    }
}

#[tokio::test]
async fn vars_may_refer_to_earlier_ones() {
    let rules = "[{actions: [{type: set-vars, config: {vars: [{a: 1}, {b: '${vars.a + 1}'}, {c: ['${vars.b}']}]}}, {type: \
                 set-vars, config: {vars: [{a: '${vars.a + 10}'}]}}, {type: custom-response, config: {body: \
                 '${vars.a} ${vars.b} ${vars.c}'}}]}]";
    assert_eq!(shown(&mut Bench::new(rules)).await, "11 2 [2]");
    let later = "[{actions: [{type: set-vars, config: {vars: [{a: '${vars.b}'}, {b: 1}]}}]}]";
    assert_eq!(refused(Bench::new(later).ask().await).code, 2300);
}

#[tokio::test]
async fn vars_made_of_vars_stay_within_bounds() {
    let chain = |count: usize, made_of: &str| {
        let items: Vec<String> = (1..count)
            .map(|at| format!("{{v{at}: '{}'}}", made_of.replace('#', &format!("vars.v{}", at - 1))))
            .collect();
        format!("[{{actions: [{{type: set-vars, config: {{vars: [{{v0: 1}}, {}]}}}}]}}]", items.join(", "))
    };
    let deep = |count| chain(count, "${[#]}");
    assert_eq!(Bench::new(&deep(33)).ask().await, Verdict::Continue);
    let reason = refused(Bench::new(&deep(34)).ask().await).reason.unwrap_or_default();
    assert_eq!(reason, "v33: the value is nested more than 32 deep");
    let wide = chain(40, "${[#, #]}");
    let reason = refused(Bench::new(&wide).ask().await).reason.unwrap_or_default();
    assert!(reason.ends_with("the evaluation takes more than 200000 steps"), "{reason}");
}

#[test]
fn vars_of_a_document_are_nested_only_so_deep() {
    let endpoint = EndpointUrl::parse("https://app.example.com").unwrap();
    for (depth, code) in [(32, None), (33, Some(2204))] {
        let value = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let rules = format!("on_http_request: [{{actions: [{{type: set-vars, config: {{vars: [{{a: {value}}}]}}}}]}}]");
        let found = Policy::parse(&rules, Place::agent(&endpoint)).err().map(|errors| errors.errors()[0].code);
        assert_eq!(found, code, "{depth}");
    }
}

#[tokio::test]
async fn headers_take_values_without_quotes() {
    let headers = "headers: {x-yes: true, x-count: 1}";
    let expected = [("x-yes", "true"), ("x-count", "1")];
    let mut bench = Bench::new(&format!("[{{actions: [{{type: add-headers, config: {{{headers}}}}}]}}]"));
    assert_eq!(bench.ask().await, Verdict::Continue);
    expected.iter().for_each(|(name, value)| assert_eq!(lines(&bench.head.headers, name), [*value]));
    for action in ["type: redirect, config: {to: 'https://b.example.com/', ", "type: custom-response, config: {"] {
        let answer = Bench::new(&format!("[{{actions: [{{{action}{headers}}}}}]}}]")).ask().await;
        let Verdict::Respond(response) = answer else { panic!("{action}: {answer:?}") };
        expected.iter().for_each(|(name, value)| assert_eq!(lines(&response.headers, name), [*value], "{action}"));
    }
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
        ("to: '$uri?$args'", 302, None),
        ("to: '/login'", 302, Some("https://app.example.com/login")),
        ("to: '/$uri'", 302, Some("https://app.example.com//old/path")),
        ("to: '//new.example.com$uri'", 302, Some("//new.example.com/old/path")),
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
async fn redirect_escapes_what_no_uri_can_have() {
    for (city, escaped) in [
        ("San Francisco", "San%20Francisco"),
        ("München", "M%C3%BCnchen"),
        ("M%C3%BCnchen", "M%C3%BCnchen"),
        ("100%", "100%25"),
        ("%4", "%254"),
        ("%zz%41", "%25zz%41"),
        ("a&b=c/d?e#f[1]", "a&b=c/d?e#f[1]"),
        (r#"<"\^`{|}>"#, "%3C%22%5C%5E%60%7B%7C%7D%3E"),
    ] {
        let rules = "[{actions: [{type: redirect, config: {to: \"/geo?city=${req.headers['x-city'][0]}\"}}]}]";
        let answer = Bench::new(rules).header("x-city", city).ask().await;
        let Verdict::Respond(response) = answer else { panic!("{city}: {answer:?}") };
        assert_eq!(response.headers[LOCATION], format!("https://app.example.com/geo?city={escaped}"), "{city}");
    }
    // What grows beyond the bound of a URL is none.
    let rules = "[{actions: [{type: redirect, config: {to: \"/${req.headers['x-city'][0]}\"}}]}]";
    let fits = (32 * 1024 - "https://app.example.com/".len()) / 3;
    let ask = async |spaces: usize| Bench::new(rules).header("x-city", &format!("{}a", " ".repeat(spaces))).ask().await;
    assert!(matches!(ask(fits - 1).await, Verdict::Respond(_)));
    assert_eq!(refused(ask(fits + 1).await).code, 2300);
}

#[tokio::test]
async fn actions_leave_behind_what_they_did() {
    for (action, shown_by, expected) in [
        (
            "{type: add-headers, config: {headers: {X-A: '${req.method}', x-b: 2}}}",
            "${actions.ngrok.add_headers.headers_added}",
            r#"{"x-a":"GET","x-b":"2"}"#,
        ),
        (
            "{type: remove-headers, config: {headers: [X-Old, x-none]}}",
            "${actions.ngrok.remove_headers.headers_removed}",
            r#"["x-old"]"#,
        ),
        (
            "{type: log, config: {metadata: {a: '${req.method}', b: 1}}}",
            "${actions.ngrok.log.metadata}",
            r#"{"a":"GET","b":"1"}"#,
        ),
        (
            "{type: url-rewrite, config: {from: 'o[a-z]+', to: new}}",
            "${actions.ngrok.url_rewrite.matches} ${actions.ngrok.url_rewrite.url}",
            r#"["om","old"] https://app.example.cnew/new/path?x=1"#,
        ),
        (
            "{type: url-rewrite, config: {to: /new}}",
            "${actions.ngrok.url_rewrite.matches} ${actions.ngrok.url_rewrite.url}",
            "[] /new",
        ),
        (
            "{type: url-rewrite, config: {from: none, to: /new}}",
            "${actions.ngrok.url_rewrite.matches} ${actions.ngrok.url_rewrite.url}",
            "[] https://app.example.com/old/path?x=1",
        ),
        (
            "{type: rate-limit, config: {name: a, algorithm: sliding_window, capacity: 9, rate: 60s, bucket_key: \
             [conn.client_ip, req.method]}}",
            "${actions.ngrok.rate_limit.bucket_key}",
            "10.1.2.3,GET",
        ),
    ] {
        let rules = format!("[{{actions: [{action}, {{type: custom-response, config: {{body: '{shown_by}'}}}}]}}]");
        assert_eq!(shown(&mut Bench::new(&rules).header("x-old", "1")).await, expected, "{action}");
    }
    let mut bench = Bench::new("[{actions: [{type: redirect, config: {from: 'old', to: 'a b'}}]}]");
    assert!(matches!(bench.ask().await, Verdict::Respond(_)));
    let result = bench.state.results["redirect"].shown();
    assert!(result.contains(r#""matches":["old"]"#), "{result}");
    assert!(result.contains(r#""url":"https://app.example.com/a%20b/path?x=1""#), "{result}");
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

/// What a rewriting of a long old URL makes of it.
async fn rewritten(config: &str) -> String {
    let mut bench = Bench::new(&format!("[{{actions: [{{type: url-rewrite, config: {{{config}}}}}]}}]"));
    bench.head.uri = "/old/x?b=1&c=%20".parse().unwrap();
    bench.head.headers.insert(HOST, HeaderValue::from_static("A.example.com.:8443"));
    let verdict = bench.ask().await;
    if verdict != Verdict::Continue {
        return refused(verdict).reason.unwrap();
    }
    bench.head.uri.to_string()
}

#[tokio::test]
async fn groups_and_named_parts_stand_in_the_new_url() {
    for (config, uri) in [
        ("from: '/old/([a-z])', to: '/new/$1$2'", "/new/x?b=1&c=%20"),
        ("from: '^.*$', to: '$scheme://$host:$port$uri?$args'", "/old/x?b=1&c=%20"),
        ("from: '^.*$', to: '/$scheme,$host,$port,$authority'", "/https,a.example.com,8443,a.example.com:8443"),
        ("from: '^.*$', to: '/$arg_b/$arg_d/'", "/1//"),
        ("from: '^.*$', to: '/$/$$uri/costs/$nothing'", "/$/$/old/x/costs/$nothing"),
        ("from: '[a-z]', to: '$0'", "/old/x?b=1&c=%20"),
        ("to: '$request_uri$is_args$query_string'", "/old/x?b=1&c=%20?b=1&c=%20"),
    ] {
        assert_eq!(rewritten(config).await, uri, "{config}");
    }
}

#[tokio::test]
async fn what_a_visitor_wrote_is_not_expanded() {
    for (visitor, uri) in [("$request_uri$1", "/to/$request_uri$1?ld"), ("x", "/to/x?ld"), ("1", "/to/1?ld")] {
        let config = "from: '^.*/o(ld)/.*', to: \"/to/${getReqHeader('x-to')[0]}?$1\"";
        let rules = format!("[{{actions: [{{type: url-rewrite, config: {{{config}}}}}]}}]");
        let mut bench = Bench::new(&rules).header("x-to", visitor);
        assert_eq!(bench.ask().await, Verdict::Continue);
        assert_eq!(bench.head.uri, uri);
    }
}

#[tokio::test]
async fn scheme_within_a_path_leaves_the_prefix_where_it_is() {
    let rules = "[{actions: [{type: url-rewrite, config: {from: '^https://[^/]*/(.*)$', to: '/v2/$1'}}]}]";
    let mut bench = Bench::new(rules);
    bench.head.uri = "/?x=://y/admin/users".parse().unwrap();
    assert_eq!(bench.ask().await, Verdict::Continue);
    assert_eq!(bench.head.uri, "/v2/?x=://y/admin/users");
}

#[tokio::test]
async fn new_url_ends_at_its_bound_while_it_is_put_together() {
    let at = |len: usize| format!("to: '/{}'", "a".repeat(len - 1));
    assert_eq!(rewritten(&at(32 * 1024)).await.len(), 32 * 1024);
    for config in [
        at(32 * 1024 + 1),
        // Dozens of matches of half a megabyte each, and the same without a pattern.
        format!("from: '', to: '{}'", "$request_uri".repeat(40_000)),
        format!("to: '{}'", "$request_uri".repeat(40_000)),
    ] {
        let reason = rewritten(&config).await;
        assert_eq!(reason, "to: the new URL is longer than 32768 bytes");
    }
    // Looking for what is not there makes nothing longer, but is work all the same.
    let reason = rewritten(&format!("from: '', to: '/{}'", "$arg_none".repeat(50_000))).await;
    assert_eq!(reason, "to: the evaluation takes more than 200000 steps");
}

#[tokio::test]
async fn head_without_room_for_a_header_is_refused() {
    let rules = "[{actions: [{type: add-headers, config: {headers: {x-one-more: a}}}]}]";
    let mut bench = Bench::new(rules);
    let mut names = (0..).map(|at: u32| HeaderName::from_bytes(format!("x-{at}").as_bytes()).unwrap());
    while bench.head.headers.try_append(names.next().unwrap(), HeaderValue::from_static("")).is_ok() {}
    let refused = refused(bench.ask().await);
    assert_eq!((refused.status.as_u16(), refused.code), (500, 2300));
}

/// Eight to the power of 20 leaves, in a handful of lists.
fn shared(leaf: &str) -> String {
    format!("[{leaf}]{}", ".map(a, [a, a, a, a, a, a, a, a])".repeat(20))
}

#[tokio::test]
async fn value_with_more_leaves_than_memory_is_not_written_out() {
    let value = shared("req.method");
    let key = format!(
        "{{type: rate-limit, config: {{name: a, algorithm: sliding_window, capacity: 2, rate: 60s, bucket_key: [\"{value}\"]}}}}"
    );
    for action in [
        format!("{{type: custom-response, config: {{body: \"${{{value}}}\"}}}}"),
        format!("{{type: set-vars, config: {{vars: [{{a: \"${{{value}}}\"}}]}}}}"),
        format!("{{type: url-rewrite, config: {{to: \"/${{{value}}}\"}}}}"),
        key,
    ] {
        let refused = refused(Bench::new(&format!("[{{actions: [{action}]}}]")).ask().await);
        assert_eq!((refused.status.as_u16(), refused.code), (500, 2300), "{action}");
        assert!(refused.reason.unwrap().ends_with("takes more than 200000 steps"), "{action}");
    }
}

#[tokio::test]
async fn text_ends_at_its_bound_before_all_of_it_is_there() {
    let parts = |count: usize| "${req.headers['x-long'][0]}".repeat(count);
    let ask = async |count: usize| {
        let rules = format!("[{{actions: [{{type: custom-response, config: {{body: \"{}\"}}}}]}}]", parts(count));
        Bench::new(&rules).header("x-long", &"a".repeat(16 * 1024)).ask().await
    };
    assert!(matches!(ask(64).await, Verdict::Respond(response) if response.body.len() == 1024 * 1024));
    // The last of these would be too much for the budget as well: it is not looked at any more.
    for count in [65, 200] {
        let reason = refused(ask(count).await).reason.unwrap();
        assert_eq!(reason, "body: a text with ${…} becomes longer than 1048576 bytes", "{count}");
    }
}

#[tokio::test]
async fn run_that_goes_on_has_what_is_left_of_its_budget() {
    let costly = "{expressions: ['lists.range(30000).all(x, true)'], actions: [{type: forward-internal, config: {url: \
                  'https://a.internal', on_error: continue}}]}";
    let rules = [costly; 10].join(", ");
    let mut bench = Bench::new(&format!("[{rules}]"));
    let (mut from, mut turns) = (Position::default(), 0);
    let verdict = loop {
        match bench.go_on(from).await {
            Verdict::Forward { on_error: Some(position), .. } => (from, turns) = (position, turns + 1),
            other => break other,
        }
    };
    assert_eq!(refused(verdict).code, 2300);
    assert!((1..5).contains(&turns), "{turns}");
    // The next request has all of it again.
    assert!(matches!(bench.ask().await, Verdict::Forward { .. }));
}

#[tokio::test]
async fn host_is_the_same_in_every_spelling() {
    for host in ["admin.example.com", "ADMIN.example.com", "admin.example.com.", "Admin.Example.COM.:443"] {
        for expression in ["req.url.host == 'admin.example.com'", "req.host.split(':')[0] == 'admin.example.com'"] {
            let mut bench = Bench::new(&format!("[{{expressions: [\"{expression}\"], actions: [{{type: deny}}]}}]"));
            bench.head.headers.insert(HOST, HeaderValue::from_str(host).unwrap());
            assert_eq!(bench.ask().await, Verdict::Deny { status: StatusCode::FORBIDDEN }, "{host}: {expression}");
        }
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

#[test]
fn mistakes_of_terminate_tls_are_found_and_show_no_key() {
    let made = rcgen::generate_simple_self_signed(vec!["a.example.com".to_owned()]).unwrap();
    let other = rcgen::generate_simple_self_signed(vec!["a.example.com".to_owned()]).unwrap();
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let secret = key.lines().nth(1).unwrap().to_owned();
    let base = "on_tcp_connect[0].actions[0].config";
    for (url, config, path, reason) in [
        ("http://a.example.com", serde_json::json!({}), "", "http has no TLS"),
        ("tls://a.example.com", serde_json::json!({"server_certificate": certificate}), "", "or none of them"),
        (
            "tls://a.example.com",
            serde_json::json!({"server_certificate": certificate, "server_private_key": other.signing_key.serialize_pem()}),
            ".server_private_key",
            "is not the key of",
        ),
        (
            "tls://a.example.com",
            serde_json::json!({"server_certificate": key, "server_private_key": key}),
            ".server_certificate",
            "has no certificate in it",
        ),
        (
            "tls://a.example.com",
            serde_json::json!({"server_certificate": certificate, "server_private_key": secret}),
            ".server_private_key",
            "must be PEM text",
        ),
        (
            "https://a.example.com",
            serde_json::json!({"min_version": "1.3", "max_version": "1.2"}),
            ".min_version",
            "above max_version",
        ),
        ("https://a.example.com", serde_json::json!({"min_version": "1.1"}), ".min_version", "1.2"),
        (
            "https://a.example.com",
            serde_json::json!({"mutual_tls_certificate_authorities": ["/etc/passwd"]}),
            ".mutual_tls_certificate_authorities[0]",
            "must be PEM text",
        ),
        (
            "https://a.example.com",
            serde_json::json!({"mutual_tls_verification_strategy": "require-and-verify"}),
            "",
            "mutual_tls_certificate_authorities",
        ),
        (
            "https://a.example.com",
            serde_json::json!({"mutual_tls_verification_strategy": "maybe"}),
            ".mutual_tls_verification_strategy",
            "require-any",
        ),
    ] {
        let document =
            serde_json::json!({"on_tcp_connect": [{"actions": [{"type": "terminate-tls", "config": config}]}]});
        let endpoint = EndpointUrl::parse(url).unwrap();
        let errors = Policy::from_value(&document, Place::agent(&endpoint)).unwrap_err();
        let found = errors.errors().iter().any(|e| e.path == format!("{base}{path}") && e.message.contains(reason));
        assert!(found, "{config}: {errors}");
        assert!(!errors.to_string().contains(&secret), "{errors}");
    }
}

#[tokio::test]
async fn basic_auth_without_enforcement_only_says_what_it_found() {
    let rules = "[{actions: [{type: basic-auth, config: {credentials: ['ann:longenough'], enforce: false}}, {type: \
                 custom-response, config: {body: '${actions.ngrok.basic_auth.authorized} \
                 ${actions.ngrok.basic_auth.credentials} ${actions.ngrok.basic_auth.error.code}'}}]}]";
    for (authorization, expected) in [
        (None, r#"false {"authorized":false,"presented":false,"username":""} ERR_NGROK_3204"#),
        (Some("Basic YW5uOndyb25n"), r#"false {"authorized":false,"presented":true,"username":""} ERR_NGROK_3204"#),
        (Some("Basic YW5uOmxvbmdlbm91Z2g="), r#"true {"authorized":true,"presented":true,"username":"ann"} "#),
    ] {
        let mut bench = Bench::new(rules);
        if let Some(authorization) = authorization {
            bench = bench.header("authorization", authorization);
        }
        assert_eq!(shown(&mut bench).await, expected);
    }
}

#[tokio::test]
async fn result_of_success_has_an_error_without_a_code() {
    for (allow, expected) in [("10.0.0.0/8", "[] true"), ("192.0.2.0/24", "[ERR_NGROK_3203] false")] {
        let rules = format!(
            "[{{actions: [{{type: restrict-ips, config: {{allow: [{allow}], enforce: false}}}}]}}, {{expressions: \
             [\"actions.ngrok.restrict_ips.error.code in ['', 'ERR_NGROK_3203']\"], actions: [{{type: custom-response, \
             config: {{body: \"[${{actions.ngrok.restrict_ips.error.code}}] ${{actions.ngrok.restrict_ips.error.message == \
             ''}}\"}}}}]}}]"
        );
        assert_eq!(shown(&mut Bench::new(&rules)).await, expected);
    }
}

#[tokio::test]
async fn custom_response_takes_its_body_by_the_former_name() {
    let mut bench = Bench::new("[{actions: [{type: custom-response, config: {content: 'for ${conn.client_ip}'}}]}]");
    assert_eq!(shown(&mut bench).await, "for 10.1.2.3");
}

#[tokio::test(start_paused = true)]
async fn rate_limit_leaves_its_result_behind_and_enforces_nothing_unless_told() {
    let rules = "[{actions: [{type: rate-limit, config: {name: per-client, algorithm: sliding_window, capacity: 1, rate: \
                 60s, bucket_key: [conn.client_ip], enforce: false}}, {type: custom-response, config: {body: \
                 '${actions.ngrok.rate_limit.name} ${actions.ngrok.rate_limit.limited}'}}]}]";
    let mut bench = Bench::new(rules);
    assert_eq!(shown(&mut bench).await, "per-client false");
    assert_eq!(shown(&mut bench).await, "per-client true");
}

#[tokio::test]
async fn redirect_brings_its_headers_along() {
    let rules = "[{actions: [{type: redirect, config: {to: 'https://new.example.com/', headers: {cache-control: \
                 'no-store', x-from: '${req.url.raw_path}'}}}]}]";
    let Verdict::Respond(response) = Bench::new(rules).ask().await else { panic!("no response") };
    assert_eq!(lines(&response.headers, "cache-control"), ["no-store"]);
    assert_eq!(lines(&response.headers, "x-from"), ["/old/path"]);
}
