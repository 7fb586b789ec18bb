//! What expressions mean, which are refused, and what they may cost.

mod functions;
mod reference;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use adit::endpoint_url::{EndpointUrl, Scheme};
use http::{HeaderMap, Method, StatusCode, Version};
use time::macros::datetime;

use super::super::own::{Lent, Own};
use super::super::phase::Phase;
use super::super::{Connection, Course, Tls};
use super::*;

/// Evaluates in `on_http_response`, where everything is known.
fn evaluate(source: &str) -> Result<Value, String> {
    evaluate_within(source, &mut Budget::default()).map_err(|fault| fault.to_string())
}

fn evaluate_within(source: &str, budget: &mut Budget) -> Result<Value, Fault> {
    evaluate_at("/a%20b/c?x=1&y=%26&x=two+words&z", source, budget)
}

fn evaluate_at(uri: &str, source: &str, budget: &mut Budget) -> Result<Value, Fault> {
    let names = BTreeSet::from(["site".to_owned()]);
    let scope = Scope { phase: Phase::HttpResponse, vars: &names, lent: Lent::Nothing };
    let expression = Expression::compile(source, scope).unwrap_or_else(|mistake| panic!("{source}: {mistake}"));
    let endpoint = EndpointUrl::parse("https://*.example.com").unwrap();
    let course = Course::begin();
    course.came(1000);
    course.went(70);
    let connection = Connection {
        peer: "[::ffff:10.1.2.3]:5000".parse().unwrap(),
        local: "192.0.2.1:443".parse().unwrap(),
        scheme: Scheme::Https,
        endpoint: &endpoint,
        tls: Tls::Unknown,
        bind: Some("ep_one"),
        course: Some(&course),
    };
    let header = |lines: &[(&str, &str)]| {
        let lines = lines.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        lines.collect::<HeaderMap>()
    };
    let headers = header(&[
        ("host", "Api.example.com:8443"),
        ("user-agent", "curl/8"),
        ("x-role", "admin"),
        ("x-role", "user"),
        ("cookie", "session=abc; theme=dark; session=def"),
        ("content-type", "Application/JSON; charset=\"utf-8\"; v=1"),
        ("content-length", "42"),
        ("content-encoding", "gzip, br"),
    ]);
    let answer = header(&[
        (
            "set-cookie",
            "id=1; Path=/; Secure; SameSite=Lax; Max-Age=86400; Expires=Wed, 21 Oct 2015 07:28:00 GMT; Priority=High",
        ),
        ("set-cookie", "id=2; Path=/deep/down"),
        ("location", "/next"),
        ("content-type", "text/html"),
    ]);
    let uri = uri.parse().unwrap();
    let request = RequestFacts {
        method: &Method::POST,
        uri: &uri,
        version: Version::HTTP_2,
        headers: &headers,
        has_no_body: false,
    };
    let vars = BTreeMap::from([(Arc::from("site"), Value::text("clinic"))]);
    let result = Value::map([("action", Value::text("allow"))]);
    let results = BTreeMap::from([(Arc::from("restrict_ips"), result)]);
    let facts = Facts {
        connection,
        request: Some(request),
        response: Some((StatusCode::NOT_FOUND, &answer)),
        now: datetime!(2026-05-17 01:02:03 UTC),
        received: datetime!(2026-05-17 01:02:02 UTC),
        vars: &vars,
        results: &results,
    };
    expression.evaluate(&facts, budget)
}

fn mistake(source: &str, phase: Phase) -> Option<String> {
    Expression::compile(source, Scope { phase, vars: &BTreeSet::new(), lent: Lent::Nothing }).err()
}

#[test]
fn true_is_what_the_reference_says_is_true() {
    for source in [
        // Operators.
        "1 + 2 * 3 == 7 && 7 % 4 == 3 && -7 / 2 == -3",
        "1 == 1u && 1 == 1.0 && 2u > 1 && 1.5 < 2",
        "'a' + 'b' == 'ab' && [1] + [2] == [1, 2] && b'a' + b'b' == b'ab'",
        "'a' < 'b' && false < true && 'b' in ['a', 'b'] && 'k' in {'k': 1}",
        "true || 1 / 0 == 1",
        "1 / 0 == 1 || true",
        "!(false && 1 / 0 == 1)",
        "(1 > 2 ? 'a' : 'b') == 'b'",
        "{'a': [1, {'b': 2}]}.a[1].b == 2",
        "null == null && 'a' != null",
        // Macros.
        "[1, 2, 3].all(x, x > 0) && ![1, -2].all(x, x > 0) && [].all(x, false)",
        "[1, -2].exists(x, x < 0) && ![].exists(x, true)",
        "[1, 2, 3].exists_one(x, x == 2) && ![2, 2].exists_one(x, x == 2)",
        "[1, 2, 3].filter(x, x > 1) == [2, 3] && [1, 2].map(x, x * x) == [1, 4]",
        "[1, 2, 3, 4].map(x, x % 2 == 0, x * 2) == [4, 8]",
        "{'one': 1, 'two': 2}.exists(k, k.startsWith('t'))",
        "[[1, 2], [3]].map(l, l.map(x, x + size(l))) == [[3, 4], [4]]",
        "[1, 0].exists(x, 1 / x == 1)",
        "has(vars.site) && !has({'a': 1}.b) && has(req.content_length)",
        // The connection.
        "conn.client_ip == '10.1.2.3' && conn.client_port == 5000",
        "conn.server_ip == '192.0.2.1' && conn.server_port == 443",
        "endpoint.url == 'https://*.example.com' && endpoint.port == 443 && endpoint.protocol == 'https'",
        "inCidrRange(conn.client_ip, '10.0.0.0/8') && !inCidrRange(conn.client_ip, '10.0.0.0/16')",
        "inCidrRanges(conn.client_ip, ['192.0.2.0/24', '10.1.2.3']) && conn.client_ip.isPrivateIp()",
        "inCidrRanges('2001:db8::1', ['2001:db8::' + '/32'])",
        "conn.bytes_in == 1000 && conn.bytes_out == 70 && conn.ts.start > timestamp('2023-12-31T00:00:00Z')",
        "endpoint.id == 'ep_one' && endpoint.addr == '*.example.com:443'",
        // The request.
        "req.method == 'POST' && req.version == '2.0' && req.host == 'api.example.com:8443'",
        "req.headers['x-role'] == ['admin', 'user'] && 'admin' in getReqHeader('X-Role')",
        "req.headers['user-agent'][0] == req.user_agent && hasReqHeader('User-Agent') && !hasReqHeader('X')",
        "req.headers['X-Role'] == ['admin', 'user'] && res.headers['Location'] == ['/next']",
        "!('a' in req.headers['x-none']) && !('a' in res.headers['x-none']) && req.cookies['none'] == []",
        "req.url.query_params['none'] == [] && res.cookies['none'] == [] && req.headers['x-' + 'none'] == []",
        "!has(req.headers.none) && !('none' in req.headers)",
        "getReqHeader('x-none') == [] && size(req.headers) == 7",
        "req.cookies['session'].map(c, c.value) == ['abc', 'def'] && getReqCookie('theme').value == 'dark'",
        "hasReqCookie('session') && !hasReqCookie('other')",
        "req.url == 'https://api.example.com:8443/a%20b/c?x=1&y=%26&x=two+words&z'",
        "req.url.raw.startsWith('https://Api.example.com:8443/') && req.url.authority == req.host",
        "req.url.scheme == 'https' && req.url.host == 'api.example.com' && req.url.port == 8443",
        "req.url.path == '/a b/c' && req.url.raw_path == '/a%20b/c' && req.url.uri.startsWith('/a%20b/c?x')",
        "req.url.query_params['x'] == ['1', 'two words'] && getQueryParam('y') == ['&'] && hasQueryParam('z')",
        "req.content_type == 'Application/JSON' && req.content_type.parameters['charset'] == 'utf-8'",
        "req.content_length == 42 && req.content_encoding == ['gzip', 'br'] && req.url.query.endsWith('&z')",
        "req.ts.header_received < timestamp(time.now) && req.url.user_password == ''",
        "req.user_agent.name == 'curl' && req.user_agent.version == '8' && !req.user_agent.is_bot",
        "req.user_agent.os == '' && req.user_agent.os_version == '' && req.user_agent.device + req.user_agent.url == ''",
        "!(req.user_agent.is_mobile || req.user_agent.is_tablet || req.user_agent.is_desktop)",
        // The response.
        "res.status_code == 404 && res.location == '/next' && res.content_type == 'text/html'",
        "getResCookie('id').value == '2' && res.cookies.id[1].secure && hasResCookie('id')",
        "res.cookies['id'][1].same_site == 'Lax' && res.cookies['id'][1].max_age > duration('23h')",
        "res.cookies['id'][1].expires == timestamp('2015-10-21T07:28:00Z') && !res.cookies['id'][0].http_only",
        "res.cookies['id'][1].unparsed_attributes == {'Priority': 'High'} && res.cookies['id'][0].path == '/deep/down'",
        "hasResHeader('Location') && getResHeader('location')[0] == '/next' && !has(res.content_length)",
        // The rest.
        "vars.site == 'clinic' && vars['site'].upper() == 'CLINIC'",
        "actions.ngrok.restrict_ips.action == 'allow' && !has(actions.ngrok.rate_limit.limited)",
        "time.now == '2026-05-17T01:02:03Z' && timestamp(time.now).getHours() == 1",
        "timestamp('2026-05-17T01:02:03Z') - timestamp('2026-05-17T00:02:03Z') == duration('1h')",
        "timestamp(time.now) + duration('1h30m') > timestamp('2026-05-17T02:30:00+00:00')",
        "timestamp(time.now).getDayOfWeek() == 0 && timestamp(time.now).getMonth() == 4",
        // Strings.
        "'foobar'.matches('^foo.*') && matches('foobar', 'o+b') && !'foobar'.matches('^bar')",
        "'Hello'.lower() == 'hello' && 'É'.lower() == 'é' && ' a '.trim() == 'a' && 'abc'.reverse() == 'cba'",
        "'hello mellow'.indexOf('ello') == 1 && 'hello mellow'.indexOf('ello', 2) == 7",
        "'hello mellow'.lastIndexOf('ello') == 7 && 'hello mellow'.lastIndexOf('ello', 6) == 1",
        "'hello mellow'.indexOf('jello') == -1 && 'hello mellow'.lastIndexOf('') == 12",
        "'hello mellow'.split() == ['hello', 'mellow'] && 'a,b,c'.split(',', 2) == ['a', 'b']",
        "'hello mellow'.replace('l', 'L', 2) == 'heLLo mellow' && 'hello'.charAt(4) == 'o'",
        "'hello'.substring(1, 3) == 'el' && 'hello'.charAt(5) == '' && size('häß') == 3",
        "'hello %s, %d %f %x %b%%'.format(['you', 42, 3.14, 26, true]) == 'hello you, 42 3.140000 1a 1%'",
        // Lists.
        "['a', 'b'].join('-') == 'a-b' && [1, 2, 3, 4].slice(1, 3) == [2, 3]",
        "[1, [2, [3, 4]]].flatten() == [1, 2, [3, 4]] && [3, 1, 2].sort() == [1, 2, 3]",
        "[1, 2, 2, 3].distinct() == [1, 2, 3] && lists.range(3) == [0, 1, 2]",
        "[{'n': 'foo', 's': 2}, {'n': 'bar', 's': 1}].sortBy(e, e.s).map(e, e.n) == ['bar', 'foo']",
        // Codecs.
        "base64.encode(b'hello') == 'aGVsbG8=' && base64.decode('aGVsbG8=') == b'hello'",
        "'some:thing'.encodeBase64() == 'c29tZTp0aGluZw==' && 'c29tZTp0aGluZw=='.decodeBase64() == 'some:thing'",
        "basic_auth.encode('username', 'password1') == 'Basic dXNlcm5hbWU6cGFzc3dvcmQx'",
        "hash.sha1('hello') == 'aaf4c61ddcc5e8a2dabede0f3b482cd9aea9434d'",
        "'hello'.sha256('base64') == 'LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ='",
        "json.decode('{\"a\": [1, 2.5]}').a == [1, 2.5] && {'a': 'b'}.encodeJson() == '{\"a\":\"b\"}'",
        "'{}'.isJson() && !'{'.isJson()",
        "queryString.decode('a=b&c=d') == {'a': 'b', 'c': 'd'} && queryString.encode({'q': 'a b'}) == 'q=a%20b'",
        "'i;md/r/$y'.escapeUrl() == 'i%3Bmd%2Fr%2F%24y' && 'i%3Bmd'.unescapeUrl() == 'i;md'",
        "'https://ngrok.com/x?y'.parseUrl().host == 'ngrok.com' && 'https://a'.isURL() && !'not a url'.isURL()",
        "int('42') == 42 && string(42) == '42' && double('1.5') == 1.5 && bool('true') && uint(3) == 3u",
        "rand.int(3, 3) == 3 && rand.double() < 1.0 && rand.int() in [0, 1]",
    ] {
        assert_eq!(evaluate(source), Ok(Value::Bool(true)), "{source}");
    }
}

#[test]
fn other_spelling_of_a_path_is_the_same_path_and_raw_variables_have_it_as_it_came() {
    for uri in ["//admin?q=//", "/./admin?q=//", "/x/../admin?q=//", "/%2e/admin?q=//", "/x/%2E%2e/%61dmin?q=//"] {
        let source = format!(
            "req.url.path == '/admin' && req.url.path.matches('^/admin$')
             && req.url == 'https://api.example.com:8443/admin?q=//' && req.url.uri == '{uri}'
             && req.url.raw == 'https://Api.example.com:8443{uri}' && req.url.raw_path + '?q=//' == '{uri}'"
        );
        assert_eq!(evaluate_at(uri, &source, &mut Budget::default()), Ok(Value::Bool(true)), "{uri}");
    }
    let source = "req.url == 'https://api.example.com:8443' && req.url.path == '*'";
    assert_eq!(evaluate_at("*", source, &mut Budget::default()), Ok(Value::Bool(true)));
}

#[test]
fn what_has_no_value_says_why() {
    for (source, reason) in [
        ("1 / 0", "a number is divided by zero"),
        ("9223372036854775807 + 1", "a result is too large"),
        ("-9223372036854775808 / -1", "a result is too large"),
        ("0u - 1u", "a result is too large"),
        ("'a' + 1", "+ does not work with a string and an int"),
        ("[1][1]", "there is no element 1 in a list of 1"),
        ("[1][-1]", "there is no element -1 in a list of 1"),
        ("req.headers['x-none'][0]", "there is no element 0 in a list of 0"),
        ("req.headers.x_none", "there is no entry \"x_none\""),
        ("vars['none']", "there is no entry \"none\""),
        ("req.content_type.parameters['none']", "there is no entry \"none\""),
        ("getReqCookie('none').value", "there is no cookie \"none\""),
        ("actions.ngrok.jwt_validation.tokens", "there is no entry \"jwt_validation\""),
        ("1 && true", "an int is neither true nor false"),
        ("'abc'.charAt(-1)", "-1 is less than 0"),
        ("'abc'.substring(2, 1)", "2 to 1 is no part of a string of 3"),
        ("[1, 'b'].sort()", "a string cannot be sorted among the others"),
        ("base64.decode('aGVsbG8')", "a string is not base64"),
        ("inCidrRange('nobody', '10.0.0.0/8')", "a string is no IP address"),
        ("inCidrRange(conn.client_ip, req.host)", "\"api.example.com:8443\" is not a network"),
        ("'a'.matches(req.url.host + '(')", "is not a regular expression"),
        ("{'a': 1, 'a': 2}", "a map has the same key twice"),
        ("{1: 2}", "the keys of a map must be strings"),
        ("timestamp('yesterday')", "a string cannot be made a timestamp"),
        ("duration('5 parsecs')", "\"5 parsecs\" is not a duration such as 1h30m"),
        ("int(1e300)", "a double cannot be made an int"),
        ("timestamp('9999-12-31T23:59:59-01:00').getHours()", "a timestamp is out of range"),
        ("'%d'.format([])", "format has fewer values than clauses"),
    ] {
        let fault = evaluate(source).unwrap_err();
        assert!(fault.contains(reason), "{source}: {fault}");
    }
}

#[test]
fn faulty_expression_is_refused_when_it_is_loaded() {
    use Phase::{HttpRequest, TcpConnect};
    let nested = format!("{}1{}", "[".repeat(100), "]".repeat(100));
    let chained = format!("req.headers{}", ".a".repeat(100));
    let long = format!("'{}' == 'a'", "a".repeat(20_000));
    let wide = format!("[{}]", "1,".repeat(5000));
    for (source, phase, reason) in [
        ("", HttpRequest, "is not an expression of CEL"),
        ("1 +", HttpRequest, "is not an expression of CEL"),
        ("req.method = 'GET'", HttpRequest, "is not an expression of CEL"),
        ("a b", HttpRequest, "is not an expression of CEL"),
        ("'open", HttpRequest, "is not an expression of CEL"),
        ("[x for x in y]", HttpRequest, "is not an expression of CEL"),
        ("nobody", HttpRequest, "names nobody, which is not a variable"),
        ("req.nothing", HttpRequest, "names req.nothing, which is not a variable: there are req.method"),
        ("req.method.nothing == 1", HttpRequest, "names req.method.nothing, which is not a variable"),
        ("conn.geo.country == 'DE'", HttpRequest, "which this gateway does not know about its traffic"),
        ("conn.client_ip.is_on_blocklist", HttpRequest, "which this gateway does not know about its traffic"),
        ("vars.site == 'a'", HttpRequest, "names vars.site, which no set-vars of this policy sets"),
        ("actions.ngrok.nothing.x", HttpRequest, "no action sets that"),
        ("req.method == 'GET'", TcpConnect, "names req.method, which is not known yet in on_tcp_connect"),
        ("res.status_code == 200", HttpRequest, "which is not known yet in on_http_request"),
        ("hasReqHeader('a')", TcpConnect, "calls hasReqHeader, which does not work in on_tcp_connect"),
        ("hasResHeader('a')", HttpRequest, "calls hasResHeader, which does not work in on_http_request"),
        ("nothing(1)", HttpRequest, "calls nothing, which is not a function"),
        ("'a'.nothing()", HttpRequest, "calls nothing, which is not a function"),
        ("secrets.get('a', 'b')", HttpRequest, "calls secrets.get, which only policies of the gateway's own"),
        ("startsWith('a', 'b')", HttpRequest, "write value.startsWith(…)"),
        ("'a'.getReqHeader()", HttpRequest, "write getReqHeader(…)"),
        ("'a'.startsWith()", HttpRequest, "calls startsWith with 0 arguments: it takes 1"),
        ("getReqHeader()", HttpRequest, "calls getReqHeader with 0 arguments: it takes 1"),
        ("'a'.split('b', 1, 2)", HttpRequest, "calls split with 3 arguments: it takes 0 to 2"),
        ("'a'.matches('(')", HttpRequest, "is not a regular expression"),
        ("'a'.matches('(?=a)')", HttpRequest, "is not a regular expression"),
        ("'a'.matches('((a{100}){100}){100}')", HttpRequest, "is too large"),
        ("inCidrRange(conn.client_ip, '10.0.0.0/33')", HttpRequest, "is not a network"),
        ("inCidrRanges(conn.client_ip, ['10.0.0.0/8', 'x'])", HttpRequest, "is not a network"),
        ("Message{a: 1}", HttpRequest, "has the message type Message"),
        (&nested, HttpRequest, ""),
        (&chained, HttpRequest, "is nested more than 64 deep"),
        (&long, HttpRequest, "has 20009 bytes: at most 16384 are possible"),
        (&wide, HttpRequest, "has more than 4000 parts"),
    ] {
        let mistake = mistake(source, phase).unwrap_or_else(|| panic!("{source} is accepted"));
        assert!(mistake.contains(reason), "{source}: {mistake}");
    }
}

#[test]
fn condition_that_is_plainly_neither_true_nor_false_is_refused() {
    let names = BTreeSet::from(["site".to_owned()]);
    let condition = |source: &str| {
        let scope = Scope { phase: Phase::HttpResponse, vars: &names, lent: Lent::Nothing };
        Expression::condition(source, scope, &[]).map(drop)
    };
    for (source, kind) in [
        ("'a'", "a string"),
        ("1", "an int"),
        ("null", "null"),
        ("1 + 1", "a sum"),
        ("size(req.url) % 2", "a number"),
        ("-1.5 * 2.0", "a number"),
        ("[true]", "a list"),
        ("{'a': true}", "a map"),
        ("[1].map(x, true)", "a list"),
        ("[1].filter(x, true)", "a list"),
        ("req.method", "a string"),
        ("req.headers", "a map"),
        ("vars", "a map"),
        ("req.content_encoding", "a list"),
        ("res.status_code", "a number"),
        ("conn.ts.start", "a timestamp"),
        ("conn.tls.sni", "a text, a list or a time"),
    ] {
        let mistake = condition(source).expect_err(source);
        assert!(mistake.starts_with(&format!("is {kind}, and never true or false")), "{source}: {mistake}");
    }
    for source in [
        "true",
        "!true",
        "1 < 2",
        "'a' in ['a']",
        "[1].all(x, true)",
        "req.user_agent.is_bot",
        "conn.tls.client.verified",
        "vars.site",
        "actions.ngrok.rate_limit.limited",
        "req.method == 'GET' ? true : false",
        "getReqHeader('x')[0]",
        "bool('true')",
    ] {
        assert_eq!(condition(source), Ok(()), "{source}");
    }
}

#[test]
fn deep_and_endless_expressions_are_refused_without_effort() {
    for part in ["(", "[", "{", "!", "-", "!-", "a?", "a.", "a[", "f(", "1+", "'", "[1].map(x,", "true?", "{'a':"] {
        for repeat in [100, 1000, 16 * 1024 / part.len()] {
            assert!(mistake(&part.repeat(repeat), Phase::HttpRequest).is_some(), "{part}");
        }
    }
    let closed = |open: &str, inner: &str, close: &str, times: usize| {
        format!("{}{inner}{}", open.repeat(times), close.repeat(times))
    };
    for source in [closed("[", "1", "]", 2000), closed("!-", "1", "", 2000), closed("true?", "1", ":1", 1000)] {
        assert!(mistake(&source, Phase::HttpRequest).is_some());
    }
}

#[test]
fn cost_is_bounded_whatever_an_expression_does() {
    for source in [
        "lists.range(1000000000) == []",
        "lists.range(1000).all(x, lists.range(1000).all(y, x + y >= 0))",
        "lists.range(400).map(x, lists.range(400)).map(l, l.sort()) == []",
        "[lists.range(10000)].map(l, l + l).map(l, l + l).map(l, l + l).map(l, l + l).map(l, l + l).size() == 0",
        "lists.range(5000).distinct() == []",
        "lists.range(1000).exists(x, 'a'.matches(string(x)))",
    ] {
        assert_eq!(evaluate_within(source, &mut Budget::default()), Err(Fault::Cost), "{source}");
    }
    // What one expression takes, the next one of the same run does not have.
    let (mut budget, mut runs) = (Budget::default(), 0);
    while evaluate_within("lists.range(10000).size() == 10000", &mut budget).is_ok() {
        runs += 1;
    }
    assert!((2..20).contains(&runs), "{runs}");
}

#[test]
fn value_of_shared_parts_costs_what_is_looked_at() {
    let shared = format!("[1]{}", ".map(a, [a, a, a, a, a, a, a, a])".repeat(20));
    for (source, holds) in [
        // One look is enough to tell these apart, however large one of them is.
        (format!("{shared} == 0"), false),
        (format!("lists.range(100).exists(x, {shared} == 0)"), false),
        (format!("{shared} != [1, 2]"), true),
        (format!("{shared} in [0, 'a', [], {{}}]"), false),
    ] {
        assert_eq!(evaluate(&source), Ok(Value::Bool(holds)), "{source}");
    }
    for source in [
        format!("{shared} == {shared}"),
        format!("{{'a': {shared}}} == {{'a': {shared}}}"),
        format!("{shared} in [0, {shared}]"),
        format!("[{shared}, {shared}].distinct() == []"),
        format!("{shared}.flatten() == []"),
        format!("'%s'.format([{shared}]) == ''"),
        format!("json.encode({shared}) == ''"),
        format!("queryString.encode({{'a': {shared}}}) == ''"),
    ] {
        assert_eq!(evaluate_within(&source, &mut Budget::default()), Err(Fault::Cost), "{source}");
    }
}

#[test]
fn text_in_a_call_is_paid_for() {
    let long = "lists.range(4000).map(x, 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa').join()";
    for call in
        ["basic_auth.encode(t, t) == ''", "t.startsWith(t)", "'a'.contains(t)", "bool(t)", "[t, t, t].sort() == []"]
    {
        let source = format!("[{long}].all(t, lists.range(1000).all(x, {call} || true))");
        assert_eq!(evaluate_within(&source, &mut Budget::default()), Err(Fault::Cost), "{source}");
    }
    // A name stands before each of its values.
    let source = format!("[{long}].all(t, queryString.encode({{t: lists.range(1000)}}) == '' || true)");
    assert_eq!(evaluate_within(&source, &mut Budget::default()), Err(Fault::Cost));
}

#[test]
fn doubling_a_text_again_and_again_ends() {
    let mut source =
        "['aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'.replace('', 'aaaaaaaaaaaaaaaa')]"
            .to_owned();
    for _ in 0..25 {
        source.push_str(".map(t, t + t)");
    }
    assert_eq!(evaluate_within(&source, &mut Budget::default()), Err(Fault::Cost));
}
