//! What a policy writes into the log.

use std::io;
use std::sync::{Arc, Mutex};

use http::StatusCode;
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::fmt::MakeWriter;

use super::super::super::Verdict;
use super::super::KINDS;
use super::Bench;

/// The lines that this thread logs from now on.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    fn begin() -> (Self, DefaultGuard) {
        let lines = Self::default();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(lines.clone())
            .with_ansi(false)
            .without_time()
            .with_max_level(tracing::Level::INFO)
            .finish();
        let guard = tracing::subscriber::set_default(subscriber);
        (lines, guard)
    }

    fn take(&self) -> Vec<String> {
        let bytes = std::mem::take(&mut *self.0.lock().unwrap());
        String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect()
    }
}

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Lines {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// What must be in no line: of the request, and of the policies below.
const SECRET: &str = "s3cret";

/// Actions that can end a request, each with a configuration by which it does, and what its line has to say.
const ENDING: &[(&str, &str, &str)] = &[
    ("basic-auth", "{credentials: ['ann:s3cret-of-ann']}", "status=401 code=3204"),
    ("close-connection", "{}", "closed by policy"),
    ("custom-response", "{status_code: 403, body: 's3cret'}", "status=403"),
    ("deny", "{status_code: 404}", "status=404"),
    (
        "jwt-validation",
        "{issuer: {allow_list: [a]}, http: {tokens: [{type: jwt, method: header, name: authorization, prefix: 'Basic '}]}, \
         jws: {allowed_algorithms: [ES256], keys: {sources: {additional_jkus: ['https://idp.example.com']}}}}",
        "status=401 code=3416",
    ),
    (
        "rate-limit",
        "{name: one, algorithm: sliding_window, capacity: 1, rate: 60s, bucket_key: [\"req.headers['authorization']\"]}",
        "status=429 code=702",
    ),
    ("http-request", "{url: 'https://a.internal', on_error: halt}", "status="),
    ("restrict-ips", "{allow: [192.0.2.0/24]}", "status=403 code=3203"),
    ("verify-webhook", "{provider: github, secret: s3cret}", "status="),
];

/// Actions that never end a request by refusing it, for which there has to be a handshake, or which agents' policies have
/// not: what log-ins say is in their own tests.
const OTHERS: &[&str] = &[
    "add-headers",
    "circuit-breaker",
    "compress-response",
    "forward-internal",
    "log",
    "oauth",
    "oidc",
    "openid-connect",
    "redirect",
    "remove-headers",
    "saml",
    "set-vars",
    "terminate-tls",
    "url-rewrite",
];

fn asked(document: &str) -> Bench {
    Bench::new(document).header("authorization", "Basic YW5uOnMzY3JldA==").header("cookie", "session=s3cret")
}

#[tokio::test(start_paused = true)]
async fn refused_request_leaves_one_line_with_rule_and_code_and_no_secret() {
    for kind in KINDS {
        let is_there = ENDING.iter().any(|(name, ..)| *name == kind.name) || OTHERS.contains(&kind.name);
        assert!(is_there, "{}: say what its line is, or that it refuses nothing", kind.name);
    }
    let (lines, _guard) = Lines::begin();
    for (action, config, says) in ENDING {
        let mut bench = asked(&format!("[{{name: the rule, actions: [{{type: {action}, config: {config}}}]}}]"));
        if *action == "rate-limit" {
            assert_eq!(bench.ask().await, Verdict::Continue);
        }
        assert_eq!(lines.take(), [""; 0], "{action}");
        let verdict = bench.ask().await;
        assert_ne!(verdict, Verdict::Continue, "{action}");
        let found = lines.take();
        let [line] = found.as_slice() else { panic!("{action}: {found:?}") };
        let named = format!("action=\"{action}\"");
        for part in [*says, "name=\"the rule\"", &named, "visitor=", "endpoint=", "phase="] {
            assert!(line.contains(part), "{action}: {part} in {line}");
        }
        assert!(!line.contains(SECRET) && !line.contains("YW5uOnMzY3JldA"), "{line}");
    }
}

#[tokio::test]
async fn value_that_cannot_be_worked_out_is_in_the_same_one_line() {
    let (lines, _guard) = Lines::begin();
    for (rules, says) in [
        (
            "[{name: it, expressions: ['1 / 0 == 1'], actions: [{type: deny}]}]",
            "expressions[0]: a number is divided by zero",
        ),
        (
            "[{name: it, actions: [{type: add-headers, config: {headers: {a: '${1 / 0}'}}}]}]",
            "headers: a number is divided",
        ),
    ] {
        assert!(matches!(asked(rules).ask().await, Verdict::Refuse(_)), "{rules}");
        let found = lines.take();
        let [line] = found.as_slice() else { panic!("{rules}: {found:?}") };
        for part in [says, "name=\"it\"", "status=500 code=2300"] {
            assert!(line.contains(part), "{part} in {line}");
        }
    }
}

#[tokio::test]
async fn logged_values_stand_in_one_line() {
    let (lines, _guard) = Lines::begin();
    let rules = "[{actions: [{type: log, config: {metadata: {visitor: '${conn.client_ip}', n: 7, none: '${1 / 0}', \
                 long: \"${getReqHeader('x-long')[0]}\"}}}]}]";
    assert_eq!(asked(rules).header("x-long", &"a".repeat(2000)).ask().await, Verdict::Continue);
    let found = lines.take();
    let [line] = found.as_slice() else { panic!("{found:?}") };
    for part in
        ["\"visitor\":\"10.1.2.3\"", "\"n\":\"7\"", "\"none\":\"(a number is divided by zero)\"", "logged by policy"]
    {
        assert!(line.contains(part), "{part} in {line}");
    }
    assert!(line.contains(&"a".repeat(1024)) && !line.contains(&"a".repeat(1025)));
}

#[tokio::test]
async fn answer_that_is_no_refusal_leaves_no_line() {
    let (lines, _guard) = Lines::begin();
    let verdict = asked("[{actions: [{type: custom-response, config: {body: fine}}]}]").ask().await;
    assert!(matches!(verdict, Verdict::Respond(response) if response.status == StatusCode::OK));
    assert_eq!(lines.take(), [""; 0]);
}
