//! What a policy costs per request: `cargo bench -p adit-gateway --bench policy`. Fails when a goal is missed.

#![allow(clippy::unwrap_used)]

use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use adit::endpoint_url::{EndpointUrl, Scheme};
use adit_gateway::login::LogIns;
use adit_gateway::login::cookies;
use adit_gateway::login::seal::Keys;
use adit_gateway::login::session::{Identity, Lifetime, Session};
use adit_gateway::login::spent::Journal;
use adit_gateway::policy::{Connection, Place, Policy, Position, Request, State, Tls, Tools, Verdict};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

/// One measurement.
struct Bench {
    name: &'static str,
    policy: Policy,
    head: http::request::Parts,
    tools: Tools,
    goal: Duration,
}

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // `cargo test --benches` runs it, too, and wants to know no more than that it works.
    let is_test = !std::env::args().any(|argument| argument == "--bench");
    let batches = if is_test { 1 } else { BATCHES };
    let mut code = ExitCode::SUCCESS;
    for bench in [ten_rules(), runtime.block_on(es256()), session()] {
        let times = measure(&runtime, &bench, batches);
        let (median, worst) = (times[times.len() / 2], times[times.len() - 1]);
        let goal = bench.goal;
        println!(
            "{}: {median:.1?} per request (median of {batches} batches), {worst:.1?} in the worst; goal {goal:?}",
            bench.name
        );
        if !is_test && median > goal {
            code = ExitCode::FAILURE;
        }
    }
    code
}

/// The time per request of each batch, the shortest first.
fn measure(runtime: &Runtime, bench: &Bench, batches: usize) -> Vec<Duration> {
    let endpoint = EndpointUrl::parse("https://api.example.com").unwrap();
    let peer = SocketAddr::from(([10, 1, 2, 3], 40_000));
    let connection = Connection {
        peer,
        local: peer,
        scheme: Scheme::Https,
        endpoint: &endpoint,
        tls: Tls::Unknown,
        bind: None,
        course: None,
    };
    let run = || {
        let mut heads: Vec<_> = (0..BATCH).map(|_| bench.head.clone()).collect();
        let begin = Instant::now();
        runtime.block_on(async {
            for head in &mut heads {
                // As the gateway does with every request.
                let own_cookies = Arc::new(cookies::take(&mut head.headers));
                let log_ins = bench.tools.log_ins.clone();
                let mut state = State::new("main".into(), Tools { own_cookies, log_ins, ..Tools::default() });
                let mut request = Request { connection, head };
                let verdict = bench.policy.on_http_request(&mut request, &mut state, Position::default()).await;
                assert!(matches!(verdict, Verdict::Forward { .. }), "{verdict:?}");
            }
        });
        begin.elapsed() / BATCH
    };
    // Caches, and the keys of the issuer.
    run();
    let mut times: Vec<_> = (0..batches).map(|_| run()).collect();
    times.sort_unstable();
    times
}

/// Ten rules that are all looked at: two lists of 10,000 networks, and one of 500, which is about what fits into an
/// expression.
fn ten_rules() -> Bench {
    let networks = |first: u8| -> Vec<String> {
        (0..10_000_u32).map(|at| format!("{}/28", Ipv4Addr::from((u32::from(first) << 24) + at * 16))).collect()
    };
    let mut allow = networks(172);
    allow[9_999] = "10.1.2.0/24".into();
    let rule = |expression: &str, action: Value| json!({"expressions": [expression], "actions": [action]});
    let deny = || json!({"type": "deny"});
    let in_cidr_ranges = format!("inCidrRanges(conn.client_ip, {})", json!(networks(198).split_off(9_500)));
    let document = json!({"on_http_request": [
        {"actions": [{"type": "restrict-ips", "config": {"allow": allow, "deny": networks(100)}}]},
        rule(&in_cidr_ranges, deny()),
        rule("req.url.path.startsWith('/admin') && !('admin' in getReqHeader('x-role'))", deny()),
        rule("req.method in ['TRACE', 'CONNECT', 'PURGE']", deny()),
        rule("req.url.path.matches('(?i)\\\\.(php|asp|cgi)$')", deny()),
        rule("hasReqHeader('x-debug') || hasQueryParam('debug')", deny()),
        rule("size(getReqHeader('user-agent')) == 0 || getReqHeader('user-agent')[0].contains('sqlmap')", deny()),
        rule("req.host != 'api.example.com'", deny()),
        {"actions": [{"type": "add-headers", "config": {"headers": {"x-visitor": "${conn.client_ip}", "x-path": "${req.url.path}"}}}]},
        {"actions": [{"type": "forward-internal", "config": {"url": "https://api.internal"}}]},
    ]});
    Bench {
        name: "ten rules, lists of 10,000 networks",
        policy: compile(&document),
        head: head(None),
        tools: Tools::default(),
        goal: Duration::from_micros(30),
    }
}

/// A token that an issuer has signed with ES256, its key fetched before.
async fn es256() -> Bench {
    let random = SystemRandom::new();
    let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref(), &random).unwrap();
    let point = key.public_key().as_ref();
    let (x, y) = (URL_SAFE_NO_PAD.encode(&point[1..33]), URL_SAFE_NO_PAD.encode(&point[33..]));
    let keys = json!({"keys": [{"kty": "EC", "crv": "P-256", "use": "sig", "kid": "one", "x": x, "y": y}]});
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let claims = json!({
        "iss": "https://idp.example.com/", "aud": "urn:api", "sub": "ann", "exp": now + 3600, "iat": now, "jti": "x",
        "scope": "read write", "groups": ["a", "b", "c"],
    });
    let header = json!({"alg": "ES256", "kid": "one", "typ": "JWT"});
    let signed = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string())).join(".");
    let signature = URL_SAFE_NO_PAD.encode(key.sign(&random, signed.as_bytes()).unwrap());
    let token = json!({"type": "jwt", "method": "header", "name": "Authorization", "prefix": "Bearer "});
    let config = json!({
        "issuer": {"allow_list": [{"value": "https://idp.example.com/"}]},
        "audience": {"allow_list": [{"value": "urn:api"}]},
        "http": {"tokens": [token]},
        "jws": {
            "allowed_algorithms": ["ES256"],
            "keys": {"sources": {"additional_jkus": [serve(keys.to_string()).await]}},
        },
    });
    let document = json!({"on_http_request": [
        {"actions": [{"type": "jwt-validation", "config": config}]},
        {"actions": [{"type": "forward-internal", "config": {"url": "https://api.internal"}}]},
    ]});
    let head = head(Some(&format!("Bearer {signed}.{signature}")));
    let (tools, goal) = (Tools::default(), Duration::from_micros(150));
    Bench { name: "JWT with a cached ES256 key", policy: compile(&document), head, tools, goal }
}

/// Somebody who has logged in, with some claims and a header for the upstream.
fn session() -> Bench {
    let config = json!({
        "issuer_url": "https://idp.example.com", "client_id": "client", "client_secret": "hush", "claims": ["groups"],
        "identity_headers": {"x-user": "email"},
    });
    let document = json!({"on_http_request": [
        {"actions": [{"type": "openid-connect", "config": config}]},
        {"expressions": ["!actions.ngrok.oidc.identity.email.endsWith('@example.com')"], "actions": [{"type": "deny"}]},
        {"actions": [{"type": "forward-internal", "config": {"url": "https://api.internal"}}]},
    ]});
    let claims = json!({"groups": ["one", "two", "three", "four"]}).as_object().unwrap().clone();
    let identity = Identity { subject: "ann".into(), email: "ann@example.com".into(), claims, ..Identity::default() };
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let lifetime = Lifetime { idle: time::Duration::hours(2), max: time::Duration::hours(8) };
    let session = Session::begin(identity, lifetime, i64::try_from(now).unwrap()).unwrap();
    let log_ins = LogIns::new(Keys::derive([&b"key"[..]]), Arc::new(Journal::in_memory()));
    let sealed = session.seal(&log_ins.keys, &format!("session\napi.example.com\n\n{}", realm())).unwrap();
    let mut head = head(None);
    let cookies = format!("session=0123456789abcdef0123456789abcdef; theme=dark; __Host-adit-session={sealed}");
    head.headers.insert("cookie", cookies.parse().unwrap());
    let tools = Tools { log_ins: Some(Arc::new(log_ins)), ..Tools::default() };
    Bench { name: "valid session", policy: compile(&document), head, tools, goal: Duration::from_micros(20) }
}

/// What the session's cookie is bound to beside the host: account, provider, client, and which addresses of mail count.
fn realm() -> String {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    for part in ["main", "openid https://idp.example.com", "client", "verified addresses"] {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part.as_bytes());
    }
    context.finish().as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

fn compile(document: &Value) -> Policy {
    let url = EndpointUrl::parse("https://api.example.com").unwrap();
    Policy::from_value(document, Place::cloud(&url)).unwrap()
}

/// A request as a browser makes it.
fn head(authorization: Option<&str>) -> http::request::Parts {
    let mut request = http::Request::get("/v1/patients/4711/images?page=2&size=50")
        .header("host", "api.example.com")
        .header("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0")
        .header("accept", "application/json")
        .header("accept-language", "en-GB,en;q=0.5")
        .header("accept-encoding", "gzip, deflate, br")
        .header("cookie", "session=0123456789abcdef0123456789abcdef; theme=dark; lang=en")
        .header("referer", "https://app.example.com/patients/4711");
    if let Some(authorization) = authorization {
        request = request.header("authorization", authorization);
    }
    request.body(()).unwrap().into_parts().0
}

/// Serves a document at the address that it gives.
async fn serve(document: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/jwks", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut tcp, _)) = listener.accept().await {
            let mut asked = [0; 4096];
            let _ = tcp.read(&mut asked).await;
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{document}", document.len());
            let _ = tcp.write_all(answer.as_bytes()).await;
        }
    });
    url
}

/// Requests that are measured together.
const BATCH: u32 = 500;
const BATCHES: usize = 41;
