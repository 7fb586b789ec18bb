//! What documents may say of the actions that take part in an exchange: for each field what is accepted, and where what is
//! not is refused.

use adit::endpoint_url::EndpointUrl;

use super::super::Policy;
use super::super::place::Place;

fn place() -> Place {
    Place::agent(&EndpointUrl::parse("https://app.example.com").unwrap())
}

fn document(action: &str, config: &str) -> String {
    let phase = if action == "compress-response" { "on_http_response" } else { "on_http_request" };
    format!("{phase}: [{{actions: [{{type: {action}, config: {config}}}]}}]")
}

/// The field and code of every mistake.
fn mistakes(action: &str, config: &str, place: Place) -> Vec<(String, u32)> {
    let Err(errors) = Policy::parse(&document(action, config), place) else { return Vec::new() };
    let field =
        |path: &str| path.split_once(".config").map_or("?", |(_, field)| field).trim_start_matches('.').to_owned();
    let mut found: Vec<_> = errors.errors().iter().map(|error| (field(&error.path), error.code)).collect();
    found.sort();
    found
}

#[test]
fn every_field_takes_what_the_reference_says() {
    for (action, configs) in [
        (
            "circuit-breaker",
            &[
                "{}",
                "{error_threshold: 0}",
                "{error_threshold: 1.0}",
                "{volume_threshold: 1}",
                "{volume_threshold: 2000000000}",
                "{window_duration: 1s, tripped_duration: 1s}",
                "{window_duration: 2m, tripped_duration: 2m}",
                "{num_buckets: 10, enforce: false}",
            ][..],
        ),
        (
            "compress-response",
            &["{}", "{algorithms: [gzip, deflate, br, compress]}", "{algorithms: br}", "{algorithms: [compress]}"],
        ),
        (
            "verify-webhook",
            &[
                "{provider: github, secret: x, enforce: false}",
                "{provider: stripe, secret: '${req.host}'}",
                "{provider: hmac, secret: x, header: X-Sum, prefix: 'v1=', algorithm: sha512, encoding: base64}",
                "{provider: zoom, secret: x}",
                "{provider: clerk, secret: x}",
                "{provider: gitlab, secret: x}",
                "{provider: twilio, secret: x}",
            ],
        ),
        (
            "http-request",
            &[
                "{url: 'https://a.internal'}",
                "{url: 'http://a.internal:81/x/${req.method}?y#z'}",
                "{url: 'https://a.internal', method: OPTIONS, headers: {a: b}, body: '${req.method}'}",
                "{url: 'https://a.internal', query_params: [{key: a, value: '${req.method}'}]}",
                "{url: 'https://a.internal', max_redirects: 0, timeout: 1s}",
                "{url: 'https://a.internal', max_redirects: 5, timeout: 30s}",
                "{url: 'https://a.internal', max_redirects: 100, on_error: halt}",
                "{url: 'https://a.internal', retry_condition: 'attempts < 3 && last_attempt.res.status_code == 500'}",
                "{url: 'https://a.internal', retry_condition: '${last_attempt.error == \"\"}'}",
                "{url: 'https://a.internal', retry_condition: false, on_error: continue}",
            ],
        ),
    ] {
        for config in configs {
            assert_eq!(mistakes(action, config, place()), [], "{action} {config}");
        }
    }
}

#[test]
fn every_field_is_refused_where_it_is_wrong() {
    for (action, config, expected) in [
        ("circuit-breaker", "{error_threshold: -0.1}", &[("error_threshold", 2215)][..]),
        ("circuit-breaker", "{error_threshold: 1.1}", &[("error_threshold", 2215)]),
        ("circuit-breaker", "{error_threshold: .nan}", &[("?", 9026)]),
        ("circuit-breaker", "{error_threshold: '0.5'}", &[("error_threshold", 2203)]),
        ("circuit-breaker", "{volume_threshold: 0}", &[("volume_threshold", 2215)]),
        ("circuit-breaker", "{volume_threshold: 2000000001}", &[("volume_threshold", 2215)]),
        ("circuit-breaker", "{volume_threshold: 1.5}", &[("volume_threshold", 2203)]),
        ("circuit-breaker", "{window_duration: 999ms}", &[("window_duration", 2215)]),
        ("circuit-breaker", "{window_duration: 121s}", &[("window_duration", 2215)]),
        ("circuit-breaker", "{window_duration: 10}", &[("window_duration", 2203)]),
        ("circuit-breaker", "{tripped_duration: soon}", &[("tripped_duration", 2204)]),
        ("circuit-breaker", "{tripped_duration: 0s}", &[("tripped_duration", 2215)]),
        ("circuit-breaker", "{num_buckets: 11}", &[("num_buckets", 2215)]),
        ("circuit-breaker", "{num_buckets: ten}", &[("num_buckets", 2203)]),
        ("circuit-breaker", "{enforce: 'no', trip: 1}", &[("enforce", 2203), ("trip", 2204)]),
        ("compress-response", "{algorithms: []}", &[("algorithms", 2203)]),
        ("compress-response", "{algorithms: [gzip, zstd]}", &[("algorithms[1]", 2204)]),
        ("compress-response", "{algorithms: [gzip, gzip]}", &[("algorithms[1]", 2204)]),
        ("compress-response", "{algorithms: [7]}", &[("algorithms[0]", 2203)]),
        ("compress-response", "{algorithms: [gzip, deflate, br, compress, gzip]}", &[("algorithms", 2203)]),
        ("compress-response", "{level: 9}", &[("level", 2204)]),
        ("verify-webhook", "{}", &[("provider", 2203), ("secret", 2203)]),
        ("verify-webhook", "{provider: nobody, secret: x}", &[("provider", 2204)]),
        ("verify-webhook", "{provider: 7, secret: x}", &[("provider", 2203)]),
        ("verify-webhook", "{provider: '${req.host}', secret: x}", &[("provider", 2213)]),
        ("verify-webhook", "{provider: github, secret: ''}", &[("secret", 2204)]),
        ("verify-webhook", "{provider: github, secret: [x]}", &[("secret", 2203)]),
        ("verify-webhook", "{provider: github, secret: '${nobody}'}", &[("secret", 2213)]),
        ("verify-webhook", "{provider: github, secret: x, enforce: 1}", &[("enforce", 2203)]),
        ("verify-webhook", "{provider: github, secret: x, header: x-sum}", &[("header", 2204)]),
        ("verify-webhook", "{provider: hmac, secret: x, header: 'a b'}", &[("header", 2210)]),
        ("verify-webhook", "{provider: hmac, secret: x, algorithm: md5}", &[("algorithm", 2204)]),
        ("verify-webhook", "{provider: hmac, secret: x, encoding: hexa}", &[("encoding", 2204)]),
        ("verify-webhook", "{provider: hmac, secret: x, prefix: 7}", &[("prefix", 2203)]),
        ("http-request", "{}", &[("url", 2203)]),
        ("http-request", "{url: 7}", &[("url", 2203)]),
        ("http-request", "{url: a.internal}", &[("url", 2204)]),
        ("http-request", "{url: 'ftp://a.internal'}", &[("url", 2204)]),
        ("http-request", "{url: 'https://example.com'}", &[("url", 2204)]),
        ("http-request", "{url: 'http://127.0.0.1/'}", &[("url", 2204)]),
        ("http-request", "{url: 'https://*.internal'}", &[("url", 2204)]),
        ("http-request", "{url: 'https://u:p@a.internal'}", &[("url", 2204)]),
        ("http-request", "{url: 'https://${req.host}/'}", &[("url", 2204)]),
        ("http-request", "{url: 'https://a.internal${req.url.path}'}", &[("url", 2204)]),
        ("http-request", "{url: '${nobody}'}", &[("url", 2213)]),
        ("http-request", "{url: 'https://a.internal', method: HEAD}", &[("method", 2204)]),
        ("http-request", "{url: 'https://a.internal', method: get}", &[("method", 2204)]),
        ("http-request", "{url: 'https://a.internal', query_params: {a: b}}", &[("query_params", 2203)]),
        (
            "http-request",
            "{url: 'https://a.internal', query_params: [a, {key: ''}, {key: a, value: 7, x: 1}, {key: b, value: '${'}]}",
            &[
                ("query_params[0]", 2203),
                ("query_params[1].key", 2204),
                ("query_params[1].value", 2203),
                ("query_params[2].value", 2203),
                ("query_params[2].x", 2204),
                ("query_params[3].value", 2213),
            ],
        ),
        ("http-request", "{url: 'https://a.internal', headers: {'a b': c}}", &[("headers.a b", 2210)]),
        ("http-request", "{url: 'https://a.internal', headers: [a]}", &[("headers", 2203)]),
        ("http-request", "{url: 'https://a.internal', body: {a: b}}", &[("body", 2203)]),
        ("http-request", "{url: 'https://a.internal', max_redirects: 101}", &[("max_redirects", 2215)]),
        ("http-request", "{url: 'https://a.internal', max_redirects: -1}", &[("max_redirects", 2215)]),
        ("http-request", "{url: 'https://a.internal', timeout: 31s}", &[("timeout", 2215)]),
        ("http-request", "{url: 'https://a.internal', timeout: 900ms}", &[("timeout", 2215)]),
        ("http-request", "{url: 'https://a.internal', timeout: 3}", &[("timeout", 2203)]),
        ("http-request", "{url: 'https://a.internal', retry_condition: 'attempt < 2'}", &[("retry_condition", 2200)]),
        ("http-request", "{url: 'https://a.internal', retry_condition: 3}", &[("retry_condition", 2203)]),
        ("http-request", "{url: 'https://a.internal', on_error: stop}", &[("on_error", 2204)]),
        ("http-request", "{url: 'https://a.internal', proxy: x}", &[("proxy", 2204)]),
    ] {
        let mut expected: Vec<_> = expected.iter().map(|(field, code)| ((*field).to_owned(), *code)).collect();
        expected.sort();
        assert_eq!(mistakes(action, config, place()), expected, "{action} {config}");
    }
}

#[test]
fn counts_and_lengths_are_refused_beyond_their_bound_only() {
    let entry = |key: usize, value: usize| format!("{{key: {}, value: {}}}", "k".repeat(key), "v".repeat(value));
    let query = |entries: Vec<String>| format!("{{url: 'https://a.internal', query_params: [{}]}}", entries.join(", "));
    for (config, field) in [
        (query(vec![entry(1, 1); 32]), None),
        (query(vec![entry(1, 1); 33]), Some(("query_params", 2203))),
        (query(vec![entry(128, 8192)]), None),
        (query(vec![entry(129, 1)]), Some(("query_params[0].key", 2204))),
        (query(vec![entry(1, 8193)]), Some(("query_params[0].value", 2204))),
    ] {
        let expected: Vec<_> = field.map(|(field, code)| (field.to_owned(), code)).into_iter().collect();
        assert_eq!(mistakes("http-request", &config, place()), expected);
    }
    let headers = |count: usize| (0..count).map(|number| format!("a{number}: b")).collect::<Vec<_>>().join(", ");
    let config = |count: usize| format!("{{url: 'https://a.internal', headers: {{{}}}}}", headers(count));
    assert_eq!(mistakes("http-request", &config(10), place()), []);
    assert_eq!(mistakes("http-request", &config(11), place()), [("headers".to_owned(), 2212)]);
    let prefix = |len: usize| format!("{{provider: hmac, secret: x, prefix: '{}'}}", "=".repeat(len));
    assert_eq!(mistakes("verify-webhook", &prefix(64), place()), []);
    assert_eq!(mistakes("verify-webhook", &prefix(65), place()), [("prefix".to_owned(), 2203)]);
}

#[test]
fn requests_leave_the_gateway_only_where_its_configuration_says_so() {
    let outside = "{url: 'https://example.com/${req.method}'}";
    assert_eq!(mistakes("http-request", outside, place()), [("url".to_owned(), 2204)]);
    assert_eq!(mistakes("http-request", outside, place().going_outside(true)), []);
    // In the policy of an agent the server stands in the document, so that it can be held against the credential.
    let text = document("http-request", "{url: 'https://a.internal/${req.method}'}");
    let policy = Policy::parse(&text, place()).unwrap();
    let named: Vec<_> = policy.forwards_to().map(ToString::to_string).collect();
    assert_eq!(named, ["https://a.internal"]);
    let late = "on_http_response: [{actions: [{type: http-request, config: {url: 'https://b.internal'}}]}]";
    assert_eq!(Policy::parse(late, place()).unwrap().forwards_to().count(), 1);
    let free = "{url: '${req.headers[\"x-to\"][0]}'}";
    assert_eq!(mistakes("http-request", free, place()), [("url".to_owned(), 2204)]);
    let text = format!("on_http_request: [{{actions: [{{type: http-request, config: {free}}}, {{type: deny}}]}}]");
    assert!(Policy::parse(&text, Place::cloud(&EndpointUrl::parse("https://app.example.com").unwrap())).is_ok());
}

#[test]
fn secret_is_in_no_error() {
    for config in [
        "{provider: x, secret: s3cret}",
        "{provider: github, secret: ['s3cret']}",
        "{provider: github, secret: {s3cret: 1}}",
        "{provider: github, secret: 's3cret${s3cret}'}",
        "{provider: github, secret: 's3cret${'}",
    ] {
        let errors = Policy::parse(&document("verify-webhook", config), place()).unwrap_err();
        assert!(!errors.to_string().contains("s3cret"), "{errors}");
    }
}

#[test]
fn actions_have_their_phases_only() {
    for (phase, url, actions) in [
        ("on_tcp_connect", "tls://a.example.com", "circuit-breaker compress-response http-request verify-webhook"),
        ("on_http_response", "https://a.example.com", "circuit-breaker verify-webhook"),
        ("on_http_request", "https://a.example.com", "compress-response"),
    ] {
        for action in actions.split_whitespace() {
            let text = format!("{phase}: [{{actions: [{{type: {action}}}]}}]");
            let errors = Policy::parse(&text, Place::agent(&EndpointUrl::parse(url).unwrap())).unwrap_err();
            assert_eq!(errors.code(), 2202, "{text}");
        }
    }
}
