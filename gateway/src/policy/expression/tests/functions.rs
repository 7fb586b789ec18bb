//! The examples of the reference for its functions, each as it stands there.

use super::super::functions;
use super::*;

/// Expressions that are true, by the function that they are an example of.
const EXAMPLES: &[(&str, &[&str])] = &[
    ("base64.decode", &["base64.decode('aGVsbG8=') == b'hello'"]),
    ("base64.encode", &["base64.encode(b'hello') == 'aGVsbG8='"]),
    ("basic_auth.encode", &["basic_auth.encode('username', 'password1') == 'Basic dXNlcm5hbWU6cGFzc3dvcmQx'"]),
    ("bool", &["bool('true') && !bool('0')"]),
    ("bytes", &["bytes('hello') == b'hello'"]),
    ("charAt", &["'hello'.charAt(4) == 'o'", "'hello'.charAt(5) == ''"]),
    ("contains", &["'hello world'.contains('world')", "!'foobar'.contains('baz')", "'test'.contains('')"]),
    ("crc32", &["'hello'.crc32() == '3610a686'", "'hello'.crc32('base64') == 'NhCmhg=='"]),
    ("crc64", &["'hello'.crc64() == '3c3eeee2d8100000'", "'hello'.crc64('base64') == 'PD7u4tgQAAA='"]),
    ("decodeBase64", &["'c29tZTp0aGluZw=='.decodeBase64() == 'some:thing'"]),
    ("decodeJson", &["'{\"a\":\"b\"}'.decodeJson() == {'a': 'b'}"]),
    ("decodeQueryString", &["'a=b&c=d'.decodeQueryString() == {'a': 'b', 'c': 'd'}"]),
    ("distinct", &["[1, 2, 2, 3, 3, 3].distinct() == [1, 2, 3]", "[1, 'b', 2, 'b'].distinct() == [1, 'b', 2]"]),
    ("double", &["double('1.5') == 1.5"]),
    ("duration", &["duration('1h30m') == duration('90m')"]),
    ("encodeBase64", &["'some:thing'.encodeBase64() == 'c29tZTp0aGluZw=='"]),
    (
        "encodeJson",
        &["['a', 'b', 'c'].encodeJson() == '[\"a\",\"b\",\"c\"]'", "{'a': 'b'}.encodeJson() == '{\"a\":\"b\"}'"],
    ),
    ("encodeQueryString", &["{'a': 'b', 'c': 'd'}.encodeQueryString() == 'a=b&c=d'"]),
    ("endsWith", &["'hello world'.endsWith('world')", "!'ngrok'.endsWith('rocks')", "'test'.endsWith('')"]),
    ("escapeUrl", &["'i;md/r/$y'.escapeUrl() == 'i%3Bmd%2Fr%2F%24y'"]),
    (
        "flatten",
        &[
            "[1, [2, 3], [4]].flatten() == [1, 2, 3, 4]",
            "[1, [2, [3, 4]]].flatten() == [1, 2, [3, 4]]",
            "[1, 2, [], [], [3, 4]].flatten() == [1, 2, 3, 4]",
            "[1, [2, [3, [4]]]].flatten(2) == [1, 2, 3, [4]]",
        ],
    ),
    (
        "format",
        &[
            "'hello %s'.format(['world']) == 'hello world'",
            "'integer: %d'.format([42]) == 'integer: 42'",
            "'%f'.format([3.14]) == '3.140000'",
            "'%x'.format([26]) == '1a'",
            "'binary: %b'.format([5]) == 'binary: 101'",
            "'bool: %b'.format([true]) == 'bool: 1'",
        ],
    ),
    (
        "getDate",
        &[
            "timestamp('2023-12-25T00:00:00Z').getDate() == 25",
            "timestamp('2023-12-25T00:00:00Z').getDate('America/Los_Angeles') == 24",
            "timestamp('2024-01-01T10:00:00Z').getDate('Asia/Tokyo') == 1",
        ],
    ),
    (
        "getDayOfMonth",
        &[
            "timestamp('2023-12-25T00:00:00Z').getDayOfMonth() == 24",
            "timestamp('2023-12-25T00:00:00Z').getDayOfMonth('America/Los_Angeles') == 23",
        ],
    ),
    ("getDayOfWeek", &["timestamp('2023-12-25T12:00:00Z').getDayOfWeek() == 1"]),
    ("getDayOfYear", &["timestamp('2023-12-25T12:00:00Z').getDayOfYear() == 358"]),
    ("getFullYear", &["timestamp('2023-12-25T12:00:00Z').getFullYear() == 2023"]),
    (
        "getHours",
        &[
            "timestamp('2023-12-25T12:00:00Z').getHours() == 12",
            "timestamp('2023-12-25T12:00:00Z').getHours('+05:30') == 17",
            "timestamp('2023-07-25T12:00:00Z').getHours('Europe/Berlin') == 14",
            "timestamp('2023-12-25T12:00:00Z').getHours('Europe/Berlin') == 13",
            "timestamp('2023-12-25T12:00:00Z').getHours('UTC') == 12",
            "duration('3h').getHours() == 3",
        ],
    ),
    (
        "getMilliseconds",
        &[
            "timestamp('2023-12-25T12:00:00.500Z').getMilliseconds() == 500",
            "duration('1.234s').getMilliseconds() == 234",
        ],
    ),
    ("getMinutes", &["timestamp('2023-12-25T12:30:00Z').getMinutes() == 30", "duration('1h30m').getMinutes() == 90"]),
    ("getMonth", &["timestamp('2023-12-25T12:00:00Z').getMonth() == 11"]),
    ("getQueryParam", &["size(getQueryParam('q')) == 0", "getQueryParam('y') == ['&']"]),
    ("getReqCookie", &["getReqCookie('session').value == 'abc'", "!getReqCookie('session').secure"]),
    ("getReqHeader", &["getReqHeader('User-Agent').exists(v, v.matches('(?i)CURL'))"]),
    ("getResCookie", &["getResCookie('id').value == '2'"]),
    ("getResHeader", &["size(getResHeader('Content-Type').filter(v, v.matches('text/html'))) > 0"]),
    ("getSeconds", &["timestamp('2023-12-25T12:30:30Z').getSeconds() == 30", "duration('1m30s').getSeconds() == 90"]),
    ("hasQueryParam", &["hasQueryParam('x') && !hasQueryParam('q')"]),
    ("hasReqCookie", &["hasReqCookie('session')"]),
    ("hasReqHeader", &["!hasReqHeader('X-Version-Id')"]),
    ("hasResCookie", &["!hasResCookie('_device_id')"]),
    ("hasResHeader", &["hasResHeader('Content-Type')"]),
    (
        "hash.crc32",
        &[
            "hash.crc32('hello') == '3610a686'",
            "hash.crc32('hello', 'hex') == '3610a686'",
            "hash.crc32('hello', 'base64') == 'NhCmhg=='",
        ],
    ),
    ("hash.crc64", &["hash.crc64('hello') == '3c3eeee2d8100000'", "hash.crc64('hello', 'base64') == 'PD7u4tgQAAA='"]),
    (
        "hash.md5",
        &[
            "hash.md5('hello') == '5d41402abc4b2a76b9719d911017c592'",
            "hash.md5('hello', 'base64') == 'XUFAKrxLKna5cZ2REBfFkg=='",
        ],
    ),
    (
        "hash.sha1",
        &[
            "hash.sha1('hello') == 'aaf4c61ddcc5e8a2dabede0f3b482cd9aea9434d'",
            "hash.sha1('hello', 'base64') == 'qvTGHdzF6KLavt4PO0gs2a6pQ00='",
        ],
    ),
    (
        "hash.sha256",
        &[
            "hash.sha256('hello') == '2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824'",
            "hash.sha256('hello', 'base64') == 'LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ='",
        ],
    ),
    (
        "hash.sha512",
        &[
            "hash.sha512('hello') == '9b71d224bd62f3785d96d46ad3ea3d73319bfbc2890caadae2dff72519673ca72323c3d99ba5c11d7c7acc6e14b8c5da0c4663475c2e5c3adef46f73bcdec043'",
            "hash.sha512('hello', 'base64') == 'm3HSJL1i83hdltRq0+o9czGb+8KJDKra4t/3JRlnPKcjI8PZm6XBHXx6zG4UuMXaDEZjR1wuXDre9G9zvN7AQw=='",
        ],
    ),
    (
        "hash.xxhash64",
        &["hash.xxhash64('hello') == '26c7827d889f6da3'", "hash.xxhash64('hello', 'base64') == 'JseCfYifbaM='"],
    ),
    (
        "inCidrRange",
        &["inCidrRange('192.168.1.100', '192.168.1.0/24')", "!inCidrRange(conn.client_ip, '66.249.66.1/24')"],
    ),
    ("inCidrRanges", &["inCidrRanges('192.168.1.100', ['192.168.1.0/24', '10.0.0.0/8'])"]),
    (
        "indexOf",
        &[
            "'hello mellow'.indexOf('') == 0",
            "'hello mellow'.indexOf('ello') == 1",
            "'hello mellow'.indexOf('jello') == -1",
            "'hello mellow'.indexOf('', 2) == 2",
            "'hello mellow'.indexOf('ello', 2) == 7",
        ],
    ),
    ("int", &["int('42') == 42"]),
    ("isJson", &["'{\"a\":\"b\",\"c\":\"d\"}'.isJson()", "!'not json'.isJson()"]),
    ("isPrivateIp", &["'192.168.1.1'.isPrivateIp()", "!'192.0.2.1'.isPrivateIp()"]),
    ("isQueryString", &["'a=b&c=d'.isQueryString()", "!'not a query string'.isQueryString()"]),
    ("isURL", &["'https://ngrok.com'.isURL()", "!'not a url'.isURL()"]),
    (
        "join",
        &[
            "['hello', 'mellow'].join() == 'hellomellow'",
            "['hello', 'mellow'].join(' ') == 'hello mellow'",
            "[].join() == ''",
            "[].join('/') == ''",
        ],
    ),
    ("json.decode", &["json.decode('{\"a\":\"b\"}') == {'a': 'b'}", "json.decode('[\"a\",\"b\",\"c\"]')[0] == 'a'"]),
    (
        "json.encode",
        &["json.encode({'a': 'b'}) == '{\"a\":\"b\"}'", "json.encode(['a', 'b', 'c']) == '[\"a\",\"b\",\"c\"]'"],
    ),
    (
        "lastIndexOf",
        &[
            "'hello mellow'.lastIndexOf('') == 12",
            "'hello mellow'.lastIndexOf('ello') == 7",
            "'hello mellow'.lastIndexOf('jello') == -1",
            "'hello mellow'.lastIndexOf('ello', 6) == 1",
        ],
    ),
    ("lists.range", &["lists.range(5) == [0, 1, 2, 3, 4]"]),
    ("lower", &["'Ärger in Österreich, ÉCOLE, ЙОГА!'.lower() == 'ärger in österreich, école, йога!'"]),
    ("lowerAscii", &["'TacoCat'.lowerAscii() == 'tacocat'", "'TacoCÆt Xii'.lowerAscii() == 'tacocÆt xii'"]),
    (
        "matches",
        &[
            "matches('foobar', 'foo.*')",
            "'foobar'.matches('foo.*')",
            "'hello'.matches('^h.*o$')",
            "!matches('test', 'fail')",
        ],
    ),
    (
        "md5",
        &["'hello'.md5() == '5d41402abc4b2a76b9719d911017c592'", "'hello'.md5('base64') == 'XUFAKrxLKna5cZ2REBfFkg=='"],
    ),
    (
        "parseUrl",
        &["'https://ngrok.com'.parseUrl().host == 'ngrok.com'", "'https://ngrok.com'.parseUrl().scheme == 'https'"],
    ),
    ("queryString.decode", &["queryString.decode('a=b&c=d') == {'a': 'b', 'c': 'd'}"]),
    ("queryString.encode", &["queryString.encode({'a': 'b', 'c': 'd'}) == 'a=b&c=d'"]),
    ("rand.double", &["rand.double() >= 0.0 && rand.double() < 1.0"]),
    ("rand.int", &["rand.int() in [0, 1]", "rand.int(0, 10) in lists.range(11)"]),
    (
        "replace",
        &[
            "'hello mellow'.replace('l', 'L') == 'heLLo meLLow'",
            "'hello mellow'.replace('l', 'L', 2) == 'heLLo mellow'",
            "'hello mellow'.replace('x', 'X') == 'hello mellow'",
        ],
    ),
    ("reverse", &["'gums'.reverse() == 'smug'", "'John Smith'.reverse() == 'htimS nhoJ'"]),
    ("sha1", &["'hello'.sha1() == 'aaf4c61ddcc5e8a2dabede0f3b482cd9aea9434d'"]),
    ("sha256", &["'hello'.sha256('base64') == 'LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ='"]),
    ("sha512", &["'hello'.sha512('hex').startsWith('9b71d224bd62f378')"]),
    (
        "size",
        &[
            "'hello'.size() == 5",
            "size('world!') == 6",
            "b'hello'.size() == 5",
            "size(['hello', 'world']) == 2",
            "{'hello': 'world'}.size() == 1",
        ],
    ),
    ("slice", &["[1, 2, 3, 4].slice(1, 3) == [2, 3]", "[1, 2, 3, 4].slice(2, 4) == [3, 4]"]),
    ("sort", &["[3, 2, 1].sort() == [1, 2, 3]", "['b', 'c', 'a'].sort() == ['a', 'b', 'c']"]),
    (
        "split",
        &[
            "'hello mellow'.split() == ['hello', 'mellow']",
            "'hello mellow'.split(' ', 1) == ['hello']",
            "'hello,mellow,hi'.split(',') == ['hello', 'mellow', 'hi']",
            "'hello,mellow,hi'.split(',', 2) == ['hello', 'mellow']",
        ],
    ),
    ("startsWith", &["'hello world'.startsWith('hello')", "!'ngrok'.startsWith('rocks')", "'test'.startsWith('')"]),
    ("string", &["string(42) == '42'"]),
    (
        "strings.quote",
        &[
            r#"strings.quote('single-quote with "double quote"') == '"single-quote with \\"double quote\\""'"#,
            r#"strings.quote("two escape sequences \a\n") == '"two escape sequences \\a\\n"'"#,
        ],
    ),
    ("substring", &["'tacocat'.substring(4) == 'cat'", "'tacocat'.substring(0, 4) == 'taco'"]),
    ("timestamp", &["timestamp('2023-12-25T12:00:00Z') < timestamp(time.now)"]),
    ("trim", &["'  \\ttrim\\n    '.trim() == 'trim'"]),
    ("uint", &["uint(3) == 3u"]),
    ("unescapeUrl", &["'i%3Bmd%2Fr%2F%24y'.unescapeUrl() == 'i;md/r/$y'"]),
    ("upper", &["'Ärger in Österreich, école, йога!'.upper() == 'ÄRGER IN ÖSTERREICH, ÉCOLE, ЙОГА!'"]),
    ("upperAscii", &["'TacoCat'.upperAscii() == 'TACOCAT'", "'TacoCÆt Xii'.upperAscii() == 'TACOCÆT XII'"]),
    ("url.escape", &["url.escape('i;md/r/$y') == 'i%3Bmd%2Fr%2F%24y'"]),
    ("url.parse", &["url.parse('https://ngrok.com').host == 'ngrok.com'"]),
    ("url.unescape", &["url.unescape('i%3Bmd%2Fr%2F%24y') == 'i;md/r/$y'", "url.unescape('%2Ffoo') == '/foo'"]),
    ("xxhash64", &["'hello'.xxhash64() == '26c7827d889f6da3'", "'hello'.xxhash64('base64') == 'JseCfYifbaM='"]),
];

#[test]
fn every_function_does_what_its_example_in_the_reference_says() {
    for name in functions::names() {
        assert!(EXAMPLES.iter().any(|(known, _)| *known == name), "{name} has no example");
    }
    for (name, examples) in EXAMPLES {
        assert!(functions::names().any(|known| known == *name), "{name} is no function");
        for example in *examples {
            assert!(example.contains(name), "{example} is no example of {name}");
            assert_eq!(evaluate(example), Ok(Value::Bool(true)), "{example}");
        }
    }
}

#[test]
fn what_the_reference_calls_an_error_is_one() {
    for example in [
        "base64.decode('aGVsbG8')",
        "'hello'.charAt(-1)",
        "[1, [2, [3, [4]]]].flatten(-1)",
        "'hello mellow'.lastIndexOf('ello', 20)",
        "'hello mellow'.lastIndexOf('ello', -1)",
        "[1, 'b'].sort()",
        "[[1, 2, 3]].sort()",
        "'tacocat'.substring(-1)",
        "'tacocat'.substring(2, 1)",
        "'hello'.md5('octal')",
        "timestamp(time.now).getHours('Atlantis/Capital')",
        "timestamp(time.now).getHours('+25:00')",
        "duration('1h').getDate()",
        "duration('1h').getHours('UTC')",
    ] {
        assert!(evaluate(example).is_err(), "{example}");
    }
}

#[test]
fn digests_of_long_texts_are_paid_for() {
    let long = "lists.range(4000).map(x, 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa').join()";
    for name in ["crc32", "crc64", "md5", "sha1", "sha256", "sha512", "xxhash64"] {
        let source = format!("[{long}].all(t, lists.range(1000).all(x, t.{name}() != ''))");
        assert_eq!(evaluate_within(&source, &mut Budget::default()), Err(Fault::Cost), "{name}");
    }
}

#[test]
fn secret_is_there_for_the_gateways_own_policies_alone() {
    let secrets = BTreeMap::from([("key".to_owned(), Arc::from("s3cret"))]);
    let own = Own::new(BTreeMap::from([("crm".to_owned(), secrets)]));
    let names = BTreeSet::new();
    let compile = |source: &str, lent| {
        let scope = Scope { phase: Phase::HttpRequest, vars: &names, lent };
        Expression::compile(source, scope).map(|expression| expression.source().to_owned())
    };
    let example = "secrets.get('crm', 'key') == 's3cret'";
    assert!(compile(example, Lent::All(&own)).is_ok());
    for (source, lent, reason) in [
        (example, Lent::Nothing, "which only policies of the gateway's own configuration may"),
        (example, Lent::Unknown, "name it with --config"),
        ("secrets.get('crm', 'kee') == ''", Lent::All(&own), "does not have: there are key"),
        ("secrets.get('cmr', 'key') == ''", Lent::All(&own), "does not have: there are crm"),
        ("secrets.get('crm', req.host) == ''", Lent::All(&own), "both in quotes"),
        ("secrets.get('crm') == ''", Lent::All(&own), "both in quotes"),
        ("secrets.put('crm', 'key') == ''", Lent::All(&own), "is not a function"),
        ("secrets == ''", Lent::All(&own), "is not a variable"),
    ] {
        let mistake = compile(source, lent).unwrap_err();
        assert!(mistake.contains(reason) && !mistake.contains("s3cret"), "{source}: {mistake}");
    }
}
