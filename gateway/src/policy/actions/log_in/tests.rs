//! Visitors who log in, and everybody who would like to be somebody else, against a provider of the test's own.

mod hand_over;
mod keeping;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{COOKIE, HOST, LOCATION, SET_COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use percent_encoding::percent_decode_str;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::{Value as Json, json};
use time::{Duration, OffsetDateTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use adit::endpoint_url::EndpointUrl;

use super::super::super::place::Place;
use super::super::super::{Connection, Policy, Position, Refused, Request, State, Tls, Tools, Verdict};
use crate::login::LogIns;
use crate::login::attempt::Attempt;
use crate::login::cookies;
use crate::login::seal::Keys;
use crate::login::session::{Identity, Lifetime, Session};
use crate::login::spent::Journal;

/// What the provider of the test answers, and what it was asked.
struct Told {
    key: EcdsaKeyPair,
    issuer: String,
    /// Claims that differ from the good ones; `null` leaves one out.
    claims: Json,
    userinfo: (u16, Json),
    token: Option<(u16, Json)>,
    /// Told when the token endpoint was asked, and waited for before it answers.
    held: Option<(Arc<Notify>, Arc<Notify>)>,
    discovery: Json,
    nonce: String,
    /// The bodies that the token endpoint got.
    asked: Vec<String>,
}

#[derive(Clone)]
struct Provider(Arc<Mutex<Told>>);

impl Provider {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let random = SystemRandom::new();
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref(), &random).unwrap();
        let told = Told {
            key,
            issuer: format!("http://{}", listener.local_addr().unwrap()),
            claims: json!({}),
            userinfo: (200, json!({"sub": "ann", "email": "ann@example.com", "email_verified": true, "name": "Ann"})),
            token: None,
            held: None,
            discovery: json!({}),
            nonce: String::new(),
            asked: Vec::new(),
        };
        let provider = Self(Arc::new(Mutex::new(told)));
        let serving = provider.clone();
        tokio::spawn(async move {
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                let serving = serving.clone();
                tokio::spawn(async move { serving.serve(tcp).await });
            }
        });
        provider
    }

    async fn serve(&self, mut tcp: TcpStream) {
        let mut text = Vec::new();
        while let Ok(1..) = tcp.read_buf(&mut text).await {
            let shown = String::from_utf8_lossy(&text).into_owned();
            let Some((head, body)) = shown.split_once("\r\n\r\n") else { continue };
            let length =
                head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
            if body.len() < length.unwrap_or(0) {
                continue;
            }
            let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
            let held = self.change(|told| told.held.take_if(|_| path == "/token"));
            if let Some((asked, go_on)) = held {
                asked.notify_one();
                go_on.notified().await;
            }
            let (status, answer) = self.0.lock().unwrap().answer(&path, body);
            let answer = answer.to_string();
            let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", answer.len());
            let _ = tcp.write_all(format!("{head}{answer}").as_bytes()).await;
            return;
        }
    }

    fn change<T>(&self, change: impl FnOnce(&mut Told) -> T) -> T {
        change(&mut self.0.lock().unwrap())
    }
}

impl Told {
    fn answer(&mut self, path: &str, body: &str) -> (u16, Json) {
        match path {
            "/.well-known/openid-configuration" => {
                let at = |path: &str| format!("{}{path}", self.issuer);
                let mut document = json!({
                    "issuer": self.issuer, "authorization_endpoint": at("/authorize"), "token_endpoint": at("/token"),
                    "jwks_uri": at("/keys"), "userinfo_endpoint": at("/userinfo"), "end_session_endpoint": at("/end"),
                });
                merge(&mut document, &self.discovery);
                (200, document)
            }
            "/keys" => {
                let point = self.key.public_key().as_ref();
                let (x, y) = (URL_SAFE_NO_PAD.encode(&point[1..33]), URL_SAFE_NO_PAD.encode(&point[33..]));
                (200, json!({"keys": [{"kty": "EC", "crv": "P-256", "use": "sig", "kid": "one", "x": x, "y": y}]}))
            }
            "/token" => {
                self.asked.push(body.to_owned());
                let token = self.id_token(&self.nonce);
                let good = json!({
                    "access_token": "access", "refresh_token": "refresh", "id_token": token, "expires_in": 3600,
                });
                self.token.clone().unwrap_or((200, good))
            }
            "/userinfo" => self.userinfo.clone(),
            _ => (404, json!({})),
        }
    }

    fn id_token(&self, nonce: &str) -> String {
        let now = OffsetDateTime::now_utc().unix_timestamp();
        let mut claims = json!({
            "iss": self.issuer, "aud": "client", "sub": "ann", "exp": now + 300, "iat": now, "nonce": nonce,
            "groups": ["staff"],
        });
        merge(&mut claims, &self.claims);
        let encode = |part: &Json| URL_SAFE_NO_PAD.encode(part.to_string());
        let signed = format!("{}.{}", encode(&json!({"alg": "ES256", "kid": "one"})), encode(&claims));
        let signature = self.key.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

fn merge(into: &mut Json, from: &Json) {
    for (name, value) in from.as_object().unwrap() {
        match value {
            Json::Null => drop(into.as_object_mut().unwrap().remove(name)),
            value => into[name] = value.clone(),
        }
    }
}

/// A gateway's policy.
struct Site {
    policy: Policy,
    endpoint: EndpointUrl,
    log_ins: Arc<LogIns>,
}

/// A browser with its cookies.
#[derive(Clone, Default)]
struct Browser {
    cookies: BTreeMap<String, String>,
    headers: Vec<(&'static str, &'static str)>,
}

/// What came of a request.
struct Answer {
    verdict: Verdict,
    /// The request, as the upstream would get it.
    head: http::request::Parts,
    set: HeaderMap,
}

impl Site {
    fn new(provider: &Provider, more: &str) -> Self {
        Self::with_keys(provider, more, Keys::derive([&b"secret"[..]]))
    }

    fn with_keys(provider: &Provider, more: &str, keys: Keys) -> Self {
        let issuer = provider.change(|told| told.issuer.clone());
        let config = format!("{{issuer_url: '{issuer}', client_id: client, client_secret: hush{more}}}");
        let forward = "{type: forward-internal, config: {url: 'https://x.internal'}}";
        let show = "{type: add-headers, config: {headers: {x-user: \
                    \"${!has(actions.ngrok.oidc.identity) ? '' : actions.ngrok.oidc.identity.email + ' ' + \
                    actions.ngrok.oidc.identity.provider_user_id}\"}}}";
        let log_in = format!("{{type: openid-connect, config: {config}}}");
        Self::of(&format!("{log_in}, {show}, {forward}"), keys)
    }

    fn of(actions: &str, keys: Keys) -> Self {
        let text = format!("on_http_request: [{{actions: [{actions}]}}]");
        let endpoint = EndpointUrl::parse("https://app.example.com").unwrap();
        let policy = Policy::parse(&text, Place::cloud(&endpoint)).unwrap_or_else(|errors| panic!("{errors}"));
        let log_ins = Arc::new(LogIns::new(keys, Arc::new(Journal::in_memory())));
        Self { policy, endpoint, log_ins }
    }

    async fn ask(&self, browser: &mut Browser, url: &str) -> Answer {
        self.ask_of("main", browser, url).await
    }

    async fn ask_of(&self, account: &str, browser: &mut Browser, url: &str) -> Answer {
        let (host, path) = url.strip_prefix("https://").unwrap().split_once('/').unwrap();
        let (mut head, ()) = http::Request::new(()).into_parts();
        head.uri = format!("/{path}").parse().unwrap();
        head.headers.insert(HOST, HeaderValue::from_str(host).unwrap());
        let cookies: Vec<String> = browser.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        if !cookies.is_empty() {
            head.headers.insert(COOKIE, HeaderValue::from_str(&cookies.join("; ")).unwrap());
        }
        for (name, value) in &browser.headers {
            head.headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let scheme = self.endpoint.scheme();
        let (peer, local) = ("192.0.2.9:5000".parse().unwrap(), "192.0.2.1:443".parse().unwrap());
        let connection = Connection {
            peer,
            local,
            scheme,
            endpoint: &self.endpoint,
            bind: None,
            course: None,
            tls: Tls::Begun(None),
        };
        let mut state = state_of(account, &self.log_ins, &mut head.headers);
        let mut request = Request { connection, head: &mut head };
        let verdict = self.policy.on_http_request(&mut request, &mut state, Position::default()).await;
        let mut set = HeaderMap::new();
        state.complete(&mut set);
        if let Verdict::Respond(response) = &verdict {
            set.extend(response.headers.clone());
        }
        browser.keep(&set);
        Answer { verdict, head, set }
    }

    /// Goes to a page, and is at the provider; gives the parameters of its address.
    async fn leave(&self, browser: &mut Browser, provider: &Provider, url: &str) -> BTreeMap<String, String> {
        let answer = self.ask(browser, url).await;
        let asked = answer.location();
        let (base, query) = asked.split_once('?').unwrap();
        assert_eq!(base, provider.change(|told| format!("{}/authorize", told.issuer)));
        let parameters: BTreeMap<String, String> = query
            .split('&')
            .map(|pair| pair.split_once('=').unwrap())
            .map(|(name, value)| (name.into(), percent_decode_str(value).decode_utf8().unwrap().into()))
            .collect();
        provider.change(|told| told.nonce = parameters["nonce"].clone());
        parameters
    }

    /// Logs in, and gives the path that it came back to.
    async fn log_in(&self, browser: &mut Browser, provider: &Provider, url: &str) -> String {
        let parameters = self.leave(browser, provider, url).await;
        let back =
            self.ask(browser, &format!("{}?code=abc&state={}", parameters["redirect_uri"], parameters["state"])).await;
        back.location()
    }

    /// The code of the error that a callback ends in.
    async fn refusal(&self, browser: &mut Browser, url: &str) -> (u16, u32, String) {
        let refused = self.ask(browser, url).await.refused();
        (refused.status.as_u16(), refused.code, refused.reason.unwrap())
    }
}

impl Browser {
    fn keep(&mut self, set: &HeaderMap) {
        for line in set.get_all(SET_COOKIE) {
            let line = line.to_str().unwrap();
            let (pair, attributes) = line.split_once(';').unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            if attributes.contains("Max-Age=0;") {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.into(), value.into());
            }
        }
    }

    fn cookie(&self, begin: &str) -> (String, String) {
        let (name, value) = self.cookies.iter().find(|(name, _)| name.starts_with(begin)).unwrap();
        (name.clone(), value.clone())
    }
}

impl Answer {
    fn location(&self) -> String {
        match &self.verdict {
            Verdict::Respond(response) => response.headers[LOCATION].to_str().unwrap().to_owned(),
            other => panic!("{other:?}"),
        }
    }

    fn refused(self) -> Refused {
        match self.verdict {
            Verdict::Refuse(refused) => *refused,
            other => panic!("{other:?}"),
        }
    }

    /// Who the upstream is told that it is.
    fn user(&self) -> &str {
        assert!(matches!(self.verdict, Verdict::Forward { .. }), "{:?}", self.verdict);
        self.head.headers["x-user"].to_str().unwrap()
    }
}

fn state(log_ins: &Arc<LogIns>, headers: &mut HeaderMap) -> State {
    state_of("main", log_ins, headers)
}

fn state_of(account: &str, log_ins: &Arc<LogIns>, headers: &mut HeaderMap) -> State {
    let own_cookies = Arc::new(cookies::take(headers));
    // As the connection has it, before any policy.
    let host = headers.get(HOST).cloned();
    State::new(account.into(), Tools { log_ins: Some(Arc::clone(log_ins)), own_cookies, host, ..Tools::default() })
}

const DEEP: &str = "https://app.example.com/deep/link?a=b&c=%20d";
const SESSION: &str = "__Host-adit-session";

#[tokio::test]
async fn visitor_logs_in_comes_back_to_the_deep_link_and_stays_logged_in() {
    let provider = Provider::start().await;
    let (site, mut browser) = (Site::new(&provider, ""), Browser::default());
    let parameters = site.leave(&mut browser, &provider, DEEP).await;
    assert_eq!(parameters["redirect_uri"], "https://app.example.com/ngrok/oauth2/callback");
    assert_eq!((&*parameters["scope"], &*parameters["response_type"]), ("openid profile email", "code"));
    assert_eq!((&*parameters["client_id"], &*parameters["code_challenge_method"]), ("client", "S256"));
    assert!(!parameters.contains_key("prompt"));
    let back = format!("{}?code=a%2Bb&state={}", parameters["redirect_uri"], parameters["state"]);
    let answer = site.ask(&mut browser, &back).await;
    assert_eq!(answer.location(), "/deep/link?a=b&c=%20d");
    assert_eq!(browser.cookies.len(), 1, "the cookie of the log-in is gone");
    let asked = provider.change(|told| told.asked.concat());
    assert!(asked.contains("code=a%2Bb") && asked.contains("code_verifier=") && !asked.contains("hush"), "{asked}");
    let answer = site.ask(&mut browser, DEEP).await;
    assert_eq!(answer.user(), "ann@example.com ann");
    assert!(!answer.head.headers.contains_key(COOKIE), "the upstream must not get the session");
    assert!(answer.set.is_empty(), "the cookie is fresh");
}

#[tokio::test]
async fn log_in_counts_at_other_gateways_with_the_key_and_nowhere_else() {
    let provider = Provider::start().await;
    let (site, mut browser) = (Site::new(&provider, ""), Browser::default());
    site.log_in(&mut browser, &provider, DEEP).await;
    let second = Site::with_keys(&provider, "", Keys::derive([&b"new"[..], b"secret"]));
    assert_eq!(second.ask(&mut browser.clone(), DEEP).await.user(), "ann@example.com ann");
    let stranger = Site::with_keys(&provider, "", Keys::derive([&b"new"[..]]));
    assert!(stranger.ask(&mut browser.clone(), DEEP).await.location().contains("/authorize?"));
    for more in [", auth_id: other", ", client_id: other", ", auth_cookie_domain: example.com"] {
        let more = more.replace(", client_id: other", ", scopes: [openid], authz_url_params: {a: b}");
        let site = Site::new(&provider, &more);
        let is_same = more.contains("scopes");
        let answer = site.ask(&mut browser.clone(), DEEP).await;
        assert_eq!(matches!(answer.verdict, Verdict::Forward { .. }), is_same, "{more}");
    }
    let other_host = site.ask(&mut browser.clone(), "https://other.example.com/").await;
    assert!(other_host.location().contains("/authorize?"));
    let (name, value) = browser.cookie(SESSION);
    for at in 0..value.len() {
        let mut bytes = value.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        let forged = String::from_utf8(bytes).unwrap();
        let mut forger = Browser::default();
        forger.cookies.insert(name.clone(), forged.clone());
        // The last character may hold bits that mean nothing.
        let is_same = URL_SAFE_NO_PAD.decode(&forged).ok() == URL_SAFE_NO_PAD.decode(&value).ok();
        let verdict = site.ask(&mut forger, DEEP).await.verdict;
        assert_eq!(matches!(verdict, Verdict::Forward { .. }), is_same, "{at}");
    }
}

#[tokio::test]
async fn session_of_a_domain_is_one_for_all_its_hosts() {
    let provider = Provider::start().await;
    let site = Site::new(&provider, ", auth_cookie_domain: example.com");
    let mut browser = Browser::default();
    site.log_in(&mut browser, &provider, DEEP).await;
    assert_eq!(site.ask(&mut browser, "https://other.example.com/").await.user(), "ann@example.com ann");
    let outside = site.ask(&mut browser, "https://notexample.com/").await.refused();
    assert!(outside.reason.unwrap().contains("auth_cookie_domain"));
}

#[tokio::test]
async fn callback_counts_once_and_only_in_the_browser_that_began() {
    let provider = Provider::start().await;
    let (site, mut browser) = (Site::new(&provider, ""), Browser::default());
    let parameters = site.leave(&mut browser, &provider, DEEP).await;
    let back = format!("{}?code=abc&state={}", parameters["redirect_uri"], parameters["state"]);
    // Log-in CSRF: the attacker's callback in the victim's browser.
    assert_eq!(site.refusal(&mut Browser::default(), &back).await.1, 5200);
    let mut victim = Browser::default();
    site.leave(&mut victim, &provider, DEEP).await;
    assert_eq!(site.refusal(&mut victim, &back).await.1, 5200);
    provider.change(|told| told.nonce = parameters["nonce"].clone());
    for bad in ["?code=abc", "?code=abc&state=", "?code=abc&state=x", "?code=abc&state=é", "?state=%ff&code=abc"] {
        let url = format!("{}{bad}", parameters["redirect_uri"]);
        if url.is_ascii() {
            assert_eq!(site.refusal(&mut browser, &url).await.1, 5200, "{bad}");
        }
    }
    let twice = format!("{back}&state={}", parameters["state"]);
    assert_eq!(site.refusal(&mut browser, &twice).await.1, 5200);
    let before = browser.clone();
    assert_eq!(site.ask(&mut browser, &back).await.location(), "/deep/link?a=b&c=%20d");
    assert_eq!(site.refusal(&mut before.clone(), &back).await.1, 3123, "the cookie was kept and sent again");
}

#[tokio::test]
async fn log_in_that_took_too_long_is_none() {
    let provider = Provider::start().await;
    let (site, mut browser) = (Site::new(&provider, ""), Browser::default());
    let parameters = site.leave(&mut browser, &provider, DEEP).await;
    let (name, value) = browser.cookie("__Host-adit-login-");
    let realm = realm(&provider);
    let purpose = format!("login\napp.example.com\n\n{realm}");
    let mut attempt = Attempt::open(&site.log_ins.keys, &purpose, &value).unwrap();
    attempt.begun -= 15 * 60 + 1;
    browser.cookies.insert(name, attempt.seal(&site.log_ins.keys, &purpose).unwrap());
    let back = format!("{}?code=abc&state={}", parameters["redirect_uri"], parameters["state"]);
    assert_eq!(site.refusal(&mut browser, &back).await.1, 3119);
}

fn realm(provider: &Provider) -> String {
    let issuer = provider.change(|told| told.issuer.clone());
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    for part in ["main", &format!("openid {issuer}"), "client", "verified addresses"] {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part.as_bytes());
    }
    context.finish().as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

fn cookie_of(site: &Site, provider: &Provider, begun: i64, used: i64) -> Browser {
    let lifetime = Lifetime { idle: Duration::hours(1), max: Duration::hours(8) };
    let identity = Identity { subject: "ann".into(), ..Identity::default() };
    let mut session = Session::begin(identity, lifetime, begun).unwrap();
    session.used = used;
    let purpose = format!("session\napp.example.com\n\n{}", realm(provider));
    let sealed = session.seal(&site.log_ins.keys, &purpose).unwrap();
    Browser { cookies: BTreeMap::from([(SESSION.into(), sealed)]), headers: Vec::new() }
}

#[tokio::test]
async fn session_ends_when_it_is_idle_or_old_and_its_cookie_follows_its_use() {
    let provider = Provider::start().await;
    let site = Site::new(&provider, ", max_session_duration: 8h, idle_session_duration: 1h");
    let now = OffsetDateTime::now_utc().unix_timestamp();
    let mut idle = cookie_of(&site, &provider, now - 7200, now - 3601);
    assert!(site.ask(&mut idle, DEEP).await.location().contains("/authorize?"));
    let mut old = cookie_of(&site, &provider, now - 8 * 3600 - 1, now);
    assert!(site.ask(&mut old, DEEP).await.location().contains("/authorize?"));
    let mut used = cookie_of(&site, &provider, now - 7200, now - 3000);
    let (_, before) = used.cookie(SESSION);
    let answer = site.ask(&mut used, DEEP).await;
    assert_eq!(answer.user(), " ann");
    assert_ne!(used.cookie(SESSION).1, before);
    assert!(answer.set[SET_COOKIE].to_str().unwrap().contains("; Max-Age=3600; Secure; HttpOnly; SameSite=Lax"));
}

#[tokio::test]
async fn session_that_was_ended_does_not_come_back() {
    let provider = Provider::start().await;
    let (site, mut browser) = (Site::new(&provider, ""), Browser::default());
    site.log_in(&mut browser, &provider, DEEP).await;
    let stolen = browser.clone();
    let answer = site.ask(&mut browser, "https://app.example.com/ngrok/logout").await;
    assert!(matches!(&answer.verdict, Verdict::Respond(page) if page.status == StatusCode::OK), "{:?}", answer.verdict);
    assert!(browser.cookies.is_empty());
    assert!(site.ask(&mut stolen.clone(), DEEP).await.location().contains("/authorize?"));
    // Twice does no harm, and neither does a stranger's auth_id.
    site.ask(&mut stolen.clone(), "https://app.example.com/ngrok/logout").await;
    let elsewhere = site.ask(&mut stolen.clone(), "https://app.example.com/ngrok/logout?auth_id=other").await;
    assert!(elsewhere.location().contains("/authorize?"));
}

#[tokio::test]
async fn log_out_can_end_the_providers_session_as_well() {
    let provider = Provider::start().await;
    let (site, mut browser) = (Site::new(&provider, ", end_provider_session: true"), Browser::default());
    site.log_in(&mut browser, &provider, DEEP).await;
    let location = site.ask(&mut browser, "https://app.example.com/ngrok/logout").await.location();
    assert!(location.contains("/end?client_id=client&id_token_hint="), "{location}");
}

#[tokio::test]
async fn log_in_path_asks_for_a_new_log_in_and_leads_to_no_other_host() {
    let provider = Provider::start().await;
    let (site, mut browser) = (Site::new(&provider, ""), Browser::default());
    let parameters =
        site.leave(&mut browser, &provider, "https://app.example.com/ngrok/login?redirect_path=/x%3Fy").await;
    assert_eq!(parameters["prompt"], "login");
    let back = format!("{}?code=abc&state={}", parameters["redirect_uri"], parameters["state"]);
    assert_eq!(site.ask(&mut browser, &back).await.location(), "/x?y");
    let evil = "https://app.example.com/ngrok/login?redirect_path=%2F%2Fevil.example%2F";
    assert_eq!(site.log_in(&mut browser, &provider, evil).await, "/");
}

#[tokio::test]
async fn id_token_must_be_for_this_log_in_of_this_client_at_this_issuer() {
    let now = OffsetDateTime::now_utc().unix_timestamp();
    for (claims, code, reason) in [
        (json!({"nonce": "other"}), 5205, "nonce"),
        (json!({"nonce": null}), 5205, "nonce"),
        (json!({"aud": "other"}), 5205, "aud"),
        (json!({"aud": ["client", "other"]}), 5205, "azp"),
        (json!({"azp": "other"}), 5205, "azp"),
        (json!({"iss": "https://other.example"}), 5205, "iss"),
        (json!({"exp": now - 61}), 5205, "expired"),
        (json!({"exp": null}), 5205, "exp"),
        (json!({"sub": null}), 5205, "sub"),
        (json!({"sub": "bob"}), 5205, "somebody else"),
    ] {
        let provider = Provider::start().await;
        provider.change(|told| told.claims = claims.clone());
        let (site, mut browser) = (Site::new(&provider, ""), Browser::default());
        let parameters = site.leave(&mut browser, &provider, DEEP).await;
        let back = format!("{}?code=abc&state={}", parameters["redirect_uri"], parameters["state"]);
        let (_, found, said) = site.refusal(&mut browser, &back).await;
        assert!(found == code && said.contains(reason), "{claims}: {found} {said}");
    }
}

#[tokio::test]
async fn failures_of_the_provider_are_told_in_words() {
    let good = "&code=abc";
    for (change, callback, status, code) in [
        (json!({"token": [400, {"error": "invalid_grant"}]}), good, 400, 3123),
        (json!({"token": [401, {"error": "invalid_client"}]}), good, 502, 5208),
        (json!({"token": [500, {}]}), good, 502, 5201),
        (json!({"token": [200, {"access_token": "a"}]}), good, 502, 5202),
        (json!({"token": [200, {"access_token": "a", "id_token": "a.b.c"}]}), good, 502, 5204),
        (json!({"userinfo": [500, {}]}), good, 502, 5201),
        (json!({}), "&error=access_denied&error_description=no", 403, 5208),
        (json!({}), "&error=invalid_scope", 502, 5208),
        (json!({}), "&error=temporarily_unavailable", 502, 5201),
        (json!({}), "", 502, 5208),
        (json!({}), "&code=abc&iss=https%3A%2F%2Fother.example", 400, 5200),
    ] {
        let provider = Provider::start().await;
        let answer = |name: &str| {
            let pair = change.get(name)?;
            Some((u16::try_from(pair[0].as_u64().unwrap()).unwrap(), pair[1].clone()))
        };
        provider.change(|told| {
            told.token = answer("token");
            told.userinfo = answer("userinfo").unwrap_or(told.userinfo.clone());
        });
        let (site, mut browser) = (Site::new(&provider, ""), Browser::default());
        let parameters = site.leave(&mut browser, &provider, DEEP).await;
        let back = format!("{}?state={}{callback}", parameters["redirect_uri"], parameters["state"]);
        let refused = site.ask(&mut browser, &back).await.refused();
        assert_eq!((refused.status.as_u16(), refused.code), (status, code), "{change} {callback} {refused:?}");
        assert_eq!(refused.retry.as_deref(), Some("/ngrok/login"));
        assert!(!format!("{refused:?}").contains("hush"));
    }
}

#[tokio::test]
async fn provider_that_describes_another_issuer_is_refused() {
    for (change, reason) in [
        (json!({"issuer": "https://other.example"}), "issuer"),
        (json!({"token_endpoint": "http://other.example/token"}), "token_endpoint"),
        (json!({"jwks_uri": null}), "jwks_uri"),
    ] {
        let provider = Provider::start().await;
        provider.change(|told| told.discovery = change);
        let refused = Site::new(&provider, "").ask(&mut Browser::default(), DEEP).await.refused();
        assert_eq!(refused.code, 5206);
        assert!(refused.reason.as_ref().unwrap().contains(reason), "{refused:?}");
    }
}

#[tokio::test]
async fn provider_that_is_not_there_is_told_from_one_that_says_something_else() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let provider = Provider::start().await;
    provider.change(|told| told.issuer = format!("http://{}", listener.local_addr().unwrap()));
    drop(listener);
    let refused = Site::new(&provider, "").ask(&mut Browser::default(), DEEP).await.refused();
    assert_eq!((refused.code, refused.retry.as_deref()), (5201, Some("/ngrok/login")), "{refused:?}");
    let provider = Provider::start().await;
    provider.change(|told| told.issuer.push_str("/elsewhere"));
    let refused = Site::new(&provider, "").ask(&mut Browser::default(), DEEP).await.refused();
    assert_eq!(refused.code, 5206, "{refused:?}");
    assert!(refused.reason.unwrap().contains("status 404"));
}

#[tokio::test]
async fn provider_that_says_its_issuer_must_say_it() {
    let provider = Provider::start().await;
    provider.change(|told| told.discovery = json!({"authorization_response_iss_parameter_supported": true}));
    let (site, mut browser) = (Site::new(&provider, ""), Browser::default());
    let parameters = site.leave(&mut browser, &provider, DEEP).await;
    let back = format!("{}?code=abc&state={}", parameters["redirect_uri"], parameters["state"]);
    assert_eq!(site.refusal(&mut browser, &back).await.1, 5200);
    let issuer = provider.change(|told| told.issuer.replace(':', "%3A").replace('/', "%2F"));
    assert_eq!(site.ask(&mut browser, &format!("{back}&iss={issuer}")).await.location(), "/deep/link?a=b&c=%20d");
}

#[tokio::test]
async fn what_is_no_page_is_refused_instead_of_sent_away() {
    let provider = Provider::start().await;
    let site = Site::new(&provider, "");
    for headers in [vec![("sec-fetch-mode", "cors")], vec![("upgrade", "websocket")]] {
        let mut browser = Browser { headers, ..Browser::default() };
        let refused = site.ask(&mut browser, DEEP).await.refused();
        assert_eq!((refused.status, refused.code), (StatusCode::UNAUTHORIZED, 3101));
        assert!(browser.cookies.is_empty());
    }
    let mut page = Browser { headers: vec![("sec-fetch-mode", "navigate")], ..Browser::default() };
    assert!(site.ask(&mut page, DEEP).await.location().contains("/authorize?"));
}

#[tokio::test]
async fn many_tabs_do_not_fill_the_browser_with_cookies() {
    let provider = Provider::start().await;
    let (site, mut browser) = (Site::new(&provider, ""), Browser::default());
    for _ in 0..20 {
        site.leave(&mut browser, &provider, DEEP).await;
    }
    assert!(browser.cookies.len() <= 4, "{}", browser.cookies.len());
}

#[tokio::test]
async fn userinfo_is_asked_again_when_it_is_due() {
    let provider = Provider::start().await;
    let (site, mut browser) = (Site::new(&provider, ", userinfo_refresh_interval: 10m"), Browser::default());
    site.log_in(&mut browser, &provider, DEEP).await;
    let now = OffsetDateTime::now_utc().unix_timestamp();
    let due = |browser: &Browser| {
        let purpose = format!("session\napp.example.com\n\n{}", realm(&provider));
        let mut session = Session::open(&site.log_ins.keys, &purpose, &browser.cookie(SESSION).1).unwrap();
        session.asked = now - 601;
        Browser {
            cookies: BTreeMap::from([(SESSION.into(), session.seal(&site.log_ins.keys, &purpose).unwrap())]),
            headers: Vec::new(),
        }
    };
    provider.change(|told| {
        told.userinfo = (200, json!({"sub": "ann", "email": "new@example.com", "email_verified": true}))
    });
    assert_eq!(site.ask(&mut due(&browser), DEEP).await.user(), "new@example.com ann");
    let asked = provider.change(|told| told.asked.len());
    // With the same old cookie: the answer is known.
    assert_eq!(site.ask(&mut due(&browser), DEEP).await.user(), "new@example.com ann");
    assert_eq!(provider.change(|told| told.asked.len()), asked);
    let gone = Site::new(&provider, ", userinfo_refresh_interval: 10m");
    let answer = gone.ask(&mut due(&browser), DEEP).await;
    assert!(answer.location().contains("/authorize?"), "a gateway without the tokens asks for a new log-in");
}

#[tokio::test]
async fn person_whom_the_provider_locked_out_is_out_at_the_next_refresh() {
    for token in [(400, json!({"error": "invalid_grant"})), (500, json!({}))] {
        let provider = Provider::start().await;
        let (site, mut browser) = (Site::new(&provider, ", userinfo_refresh_interval: 1s"), Browser::default());
        site.log_in(&mut browser, &provider, DEEP).await;
        let purpose = format!("session\napp.example.com\n\n{}", realm(&provider));
        let mut session = Session::open(&site.log_ins.keys, &purpose, &browser.cookie(SESSION).1).unwrap();
        session.asked -= 2;
        browser.cookies.insert(SESSION.into(), session.seal(&site.log_ins.keys, &purpose).unwrap());
        let is_down = token.0 == 500;
        provider.change(|told| told.token = Some(token));
        let answer = site.ask(&mut browser, DEEP).await;
        match answer.verdict {
            Verdict::Refuse(refused) => assert!(is_down && refused.code == 5201, "{refused:?}"),
            Verdict::Respond(response) => {
                assert!(!is_down && response.headers[LOCATION].to_str().unwrap().contains("/authorize?"));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn preflight_passes_only_when_it_may() {
    let provider = Provider::start().await;
    for (more, passes) in [("", false), (", allow_cors_preflight: true", true)] {
        let site = Site::new(&provider, more);
        let (mut head, ()) = http::Request::new(()).into_parts();
        head.method = http::Method::OPTIONS;
        head.headers.insert(HOST, HeaderValue::from_static("app.example.com"));
        head.headers.insert("origin", HeaderValue::from_static("https://other.example"));
        head.headers.insert("access-control-request-method", HeaderValue::from_static("PUT"));
        let (peer, local) = ("192.0.2.9:5000".parse().unwrap(), "192.0.2.1:443".parse().unwrap());
        let connection = Connection {
            peer,
            local,
            scheme: site.endpoint.scheme(),
            endpoint: &site.endpoint,
            bind: None,
            course: None,
            tls: Tls::Begun(None),
        };
        let mut state = state(&site.log_ins, &mut head.headers);
        let mut request = Request { connection, head: &mut head };
        let verdict = site.policy.on_http_request(&mut request, &mut state, Position::default()).await;
        assert_eq!(matches!(verdict, Verdict::Refuse(_)), !passes, "{verdict:?}");
    }
}

#[test]
fn faulty_settings_are_refused_at_their_place() {
    let endpoint = EndpointUrl::parse("https://app.example.com").unwrap();
    let good = "issuer_url: 'https://idp.example.com', client_id: a, client_secret: hush";
    for (config, path, code) in [
        ("client_id: a, client_secret: b".to_owned(), "issuer_url", 2203),
        ("issuer_url: 'http://idp.example.com', client_id: a, client_secret: b".into(), "issuer_url", 2227),
        ("issuer_url: 'https://idp.example.com?a', client_id: a, client_secret: b".into(), "issuer_url", 2227),
        ("issuer_url: 'https://idp.example.com', client_secret: b".into(), "client_id", 2203),
        ("issuer_url: 'https://idp.example.com', client_id: a".into(), "client_secret", 2203),
        (format!("{good}, scopes: [email]"), "scopes", 2227),
        (format!("{good}, scopes: ['a b', openid]"), "scopes[0]", 2204),
        (format!("{good}, auth_id: 'a b'"), "auth_id", 2204),
        (format!("{good}, auth_cookie_domain: com"), "auth_cookie_domain", 2204),
        (format!("{good}, max_session_duration: 0s"), "max_session_duration", 2215),
        (format!("{good}, idle_session_duration: soon"), "idle_session_duration", 2204),
        (format!("{good}, authz_url_params: {{state: x}}"), "authz_url_params.state", 2204),
        (format!("{good}, allow_cors_preflight: 'yes'"), "allow_cors_preflight", 2203),
        (format!("{good}, provider: github"), "provider", 2204),
    ] {
        let text = format!("on_http_request: [{{actions: [{{type: openid-connect, config: {{{config}}}}}]}}]");
        let errors = Policy::parse(&text, Place::cloud(&endpoint)).unwrap_err();
        let [error] = errors.errors() else { panic!("{config}: {errors}") };
        let expected = format!("on_http_request[0].actions[0].config.{path}");
        assert_eq!((error.path.as_str(), error.code), (expected.as_str(), code), "{config}");
        assert!(!errors.to_string().contains("hush"));
    }
    let action = format!("{{type: openid-connect, config: {{{good}}}}}");
    let two = format!("on_http_request: [{{actions: [{action}, {action}]}}]");
    let errors = Policy::parse(&two, Place::cloud(&endpoint)).unwrap_err();
    assert_eq!(
        (errors.errors()[0].path.as_str(), errors.errors()[0].code),
        ("on_http_request[0].actions[1].type", 2239)
    );
    let oauth = "{type: oauth, config: {provider: nobody, client_id: a, client_secret: b}}";
    let errors =
        Policy::parse(&format!("on_http_request: [{{actions: [{oauth}]}}]"), Place::cloud(&endpoint)).unwrap_err();
    assert_eq!(errors.errors()[0].path, "on_http_request[0].actions[0].config.provider");
}

#[test]
fn log_ins_of_agents_are_for_their_own_host_at_providers_that_everybody_can_reach() {
    let endpoint = EndpointUrl::parse("https://app.example.com").unwrap();
    let openid = "openid-connect, config: {client_id: a, client_secret: b";
    for (config, message) in [
        ("oauth, config: {provider: github, client_id: a, client_secret: b}".to_owned(), None),
        (format!("{openid}, issuer_url: 'https://idp.example.com'}}"), None),
        (format!("{openid}, issuer_url: 'http://127.0.0.1:1'}}"), Some("http:// is for a server on this machine")),
        (
            format!("{openid}, issuer_url: 'https://idp.example.com', auth_cookie_domain: example.com}}"),
            Some("for its own host alone"),
        ),
    ] {
        let text = format!("on_http_request: [{{actions: [{{type: {config}}}]}}]");
        match (Policy::parse(&text, Place::agent(&endpoint)), message) {
            (Ok(policy), None) => assert!(policy.logs_in()),
            (Err(errors), Some(message)) => assert!(errors.to_string().contains(message), "{errors}"),
            (found, _) => panic!("{config}: {found:?}"),
        }
    }
}

#[tokio::test]
async fn provider_with_one_address_changed_is_another_one() {
    let provider = Provider::start().await;
    let base = provider.change(|told| told.issuer.clone());
    let realm = |token: &str| {
        let known = super::oauth_provider::known("google").unwrap();
        let (authorize, userinfo) = (format!("{base}/a"), format!("{base}/u"));
        let urls = [Some(&*authorize), Some(token), Some(&*userinfo)];
        super::oauth_provider::OAuth::new(known, urls, super::super::jwt_validation::fetch::Reach::Anywhere)
            .unwrap()
            .identity_text()
    };
    assert_ne!(realm(&format!("{base}/t")), realm(&format!("{base}/other")));
}

#[tokio::test]
async fn old_cookie_is_no_way_round_the_next_refresh() {
    let provider = Provider::start().await;
    let site = Site::new(&provider, ", userinfo_refresh_interval: 10m");
    let mut browser = Browser::default();
    site.log_in(&mut browser, &provider, DEEP).await;
    let purpose = format!("session\napp.example.com\n\n{}", realm(&provider));
    let mut session = Session::open(&site.log_ins.keys, &purpose, &browser.cookie(SESSION).1).unwrap();
    session.asked -= 1201;
    let old = session.seal(&site.log_ins.keys, &purpose).unwrap();
    let kept = site.log_ins.tokens().find(&session.id).unwrap();
    let now = OffsetDateTime::now_utc().unix_timestamp();
    // Refreshed once, longer ago than the interval.
    kept.lock().await.refreshed = Some((session.identity.clone(), now - 601));
    provider.change(|told| told.token = Some((400, json!({"error": "invalid_grant"}))));
    let mut thief = Browser { cookies: BTreeMap::from([(SESSION.into(), old.clone())]), headers: Vec::new() };
    assert!(site.ask(&mut thief, DEEP).await.location().contains("/authorize?"));
    // It has ended, whatever the provider says from now on.
    provider.change(|told| told.token = None);
    let mut again = Browser { cookies: BTreeMap::from([(SESSION.into(), old)]), headers: Vec::new() };
    assert!(site.ask(&mut again, DEEP).await.location().contains("/authorize?"));
}

#[tokio::test]
async fn oauth_provider_of_ones_own_tells_who_it_is() {
    let provider = Provider::start().await;
    let base = provider.change(|told| told.issuer.clone());
    provider.change(|told| told.userinfo = (200, json!({"id": 7, "login": "ann", "email": "ann@example.com"})));
    let config = format!(
        "{{provider: github, client_id: client, client_secret: hush, authorize_url: '{base}/authorize', token_url: \
         '{base}/token', userinfo_url: '{base}/userinfo'}}"
    );
    let show = "{type: add-headers, config: {headers: {x-user: \
                \"${actions.ngrok.oauth.identity.email} ${actions.ngrok.oauth.identity.provider_user_id}\"}}}";
    let forward = "{type: forward-internal, config: {url: 'https://x.internal'}}";
    let text = format!("on_http_request: [{{actions: [{{type: oauth, config: {config}}}, {show}, {forward}]}}]");
    let endpoint = EndpointUrl::parse("https://app.example.com").unwrap();
    let policy = Policy::parse(&text, Place::cloud(&endpoint)).unwrap_or_else(|errors| panic!("{errors}"));
    let log_ins = Arc::new(LogIns::new(Keys::derive([&b"secret"[..]]), Arc::new(Journal::in_memory())));
    let (site, mut browser) = (Site { policy, endpoint, log_ins }, Browser::default());
    assert_eq!(site.log_in(&mut browser, &provider, DEEP).await, "/deep/link?a=b&c=%20d");
    assert_eq!(site.ask(&mut browser, DEEP).await.user(), "ann@example.com 7");
    let asked = provider.change(|told| told.asked.concat());
    assert!(asked.contains("client_secret=hush"), "{asked}");
}
