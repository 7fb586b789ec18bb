//! Visitors who log in with SAML, and those who would like to be somebody else.

mod hand_over;
mod log_out;

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use flate2::read::DeflateDecoder;
use http::header::{COOKIE, HOST, LOCATION, SET_COOKIE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use time::OffsetDateTime;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use adit::endpoint_url::EndpointUrl;

use super::super::super::super::payload::{Payload, Whole};
use super::super::super::super::place::Place;
use super::super::super::super::{
    Connection, CustomResponse, Policy, Position, Refused, Request, State, Tls, Tools, Verdict,
};
use super::super::settings::realm;
use crate::login::LogIns;
use crate::login::cookies;
use crate::login::saml::pretend::{ACS, ENTITY, Provider, Told, attributes, instant, own_pair};
use crate::login::seal::Keys;
use crate::login::session::Session;
use crate::login::spent::Journal;

struct Site {
    policy: Policy,
    endpoint: EndpointUrl,
    log_ins: Arc<LogIns>,
    provider: Provider,
}

#[derive(Clone, Default)]
struct Browser(BTreeMap<String, String>);

struct Answer {
    verdict: Verdict,
    head: http::request::Parts,
    set: HeaderMap,
}

fn document(config: &str) -> String {
    let show = "{type: add-headers, config: {headers: {x-user: \"${!has(actions.ngrok.saml.identity) ? '' : \
                actions.ngrok.saml.identity.email + ' ' + actions.ngrok.saml.identity.provider_user_id + ' ' + \
                actions.ngrok.saml.identity.groups.join(',')}\"}}}";
    let forward = "{type: forward-internal, config: {url: 'https://x.internal'}}";
    format!("on_http_request: [{{actions: [{{type: saml, config: {{{config}}}}}, {show}, {forward}]}}]")
}

impl Site {
    fn new(more: &str) -> Self {
        Self::with(Provider::new(), more, Arc::new(Journal::in_memory()))
    }

    fn with(provider: Provider, more: &str, journal: Arc<Journal>) -> Self {
        let config = format!("idp_metadata: '{}'{more}", provider.metadata());
        Self::of(provider, &config, journal)
    }

    fn of(provider: Provider, config: &str, journal: Arc<Journal>) -> Self {
        let text = document(config);
        let endpoint = EndpointUrl::parse("https://app.example.com").unwrap();
        let policy = Policy::parse(&text, Place::cloud(&endpoint)).unwrap_or_else(|errors| panic!("{errors}"));
        let log_ins = Arc::new(LogIns::new(Keys::derive([&b"secret"[..]]), journal));
        Self { policy, endpoint, log_ins, provider }
    }

    async fn get(&self, browser: &mut Browser, path: &str) -> Answer {
        self.ask(browser, Method::GET, path, "").await
    }

    async fn ask(&self, browser: &mut Browser, method: Method, path: &str, body: &str) -> Answer {
        self.ask_with(browser, method, path, body, &[]).await
    }

    async fn ask_with(
        &self,
        browser: &mut Browser,
        method: Method,
        path: &str,
        body: &str,
        headers: &[(&'static str, &'static str)],
    ) -> Answer {
        let (mut head, ()) = http::Request::new(()).into_parts();
        (head.method, head.uri) = (method, path.parse().unwrap());
        head.headers.insert(HOST, HeaderValue::from_static("app.example.com"));
        for (name, value) in headers {
            head.headers.insert(*name, HeaderValue::from_static(value));
        }
        let cookies: Vec<String> = browser.0.iter().map(|(name, value)| format!("{name}={value}")).collect();
        if !cookies.is_empty() {
            head.headers.insert(COOKIE, HeaderValue::from_str(&cookies.join("; ")).unwrap());
        }
        let (peer, local) = ("192.0.2.9:5000".parse().unwrap(), "192.0.2.1:443".parse().unwrap());
        let scheme = self.endpoint.scheme();
        let (endpoint, tls) = (&self.endpoint, Tls::Begun(None));
        let connection = Connection { peer, local, scheme, endpoint, bind: None, course: None, tls };
        let own_cookies = Arc::new(cookies::take(&mut head.headers));
        let payload: Arc<dyn Payload> = Arc::new(Whole(Bytes::copy_from_slice(body.as_bytes())));
        let tools =
            Tools { log_ins: Some(Arc::clone(&self.log_ins)), own_cookies, payload: Some(payload), ..Tools::default() };
        let mut state = State::new("main".into(), tools);
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

    /// Goes to a page; gives the ID of the request to the provider, and its `RelayState`.
    async fn leave(&self, browser: &mut Browser, path: &str) -> (String, String) {
        let location = self.get(browser, path).await.location();
        let query = location.strip_prefix("https://idp.example.com/sso?tenant=1&").unwrap();
        let fields: BTreeMap<String, String> = query
            .split('&')
            .map(|pair| pair.split_once('=').unwrap())
            .map(|(name, value)| (name.into(), percent_decode_str(value).decode_utf8().unwrap().into()))
            .collect();
        let request = unpacked(&fields["SAMLRequest"]);
        (attribute(&request, "ID"), fields["RelayState"].clone())
    }

    fn told(&self, id: &str) -> Told {
        let now = OffsetDateTime::now_utc().unix_timestamp();
        Told { now, in_response_to: Some(id.into()), ..Told::default() }
    }

    async fn post(&self, browser: &mut Browser, response: &str, relay: &str) -> Answer {
        let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let body = format!("SAMLResponse={}&RelayState={}", encoded(&STANDARD.encode(response)), encoded(relay));
        self.ask(browser, Method::POST, "/ngrok/saml/acs", &body).await
    }

    /// Logs in, and gives where that ends.
    async fn log_in(&self, browser: &mut Browser, path: &str) -> String {
        let (id, relay) = self.leave(browser, path).await;
        let response = self.provider.response(&Told { id: format!("_a{id}"), ..self.told(&id) });
        self.post(browser, &response, &relay).await.location()
    }
}

impl Browser {
    fn keep(&mut self, set: &HeaderMap) {
        for line in set.get_all(SET_COOKIE) {
            let (pair, attributes) = line.to_str().unwrap().split_once(';').unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            if attributes.contains("Max-Age=0;") {
                self.0.remove(name);
            } else {
                self.0.insert(name.into(), value.into());
            }
        }
    }
}

impl Answer {
    fn response(&self) -> &CustomResponse {
        match &self.verdict {
            Verdict::Respond(response) => response,
            other => panic!("{other:?}"),
        }
    }

    fn location(&self) -> String {
        self.response().headers[LOCATION].to_str().unwrap().to_owned()
    }

    fn refused(self) -> Refused {
        match self.verdict {
            Verdict::Refuse(refused) => *refused,
            other => panic!("{other:?}"),
        }
    }

    fn code(self) -> u32 {
        self.refused().code
    }

    /// Who the upstream is told that it is.
    fn user(&self) -> &str {
        assert!(matches!(self.verdict, Verdict::Forward { .. }), "{:?}", self.verdict);
        self.head.headers["x-user"].to_str().unwrap()
    }
}

fn unpacked(text: &str) -> String {
    let packed = STANDARD.decode(text).unwrap();
    let mut text = String::new();
    DeflateDecoder::new(packed.as_slice()).read_to_string(&mut text).unwrap();
    text
}

fn attribute(text: &str, name: &str) -> String {
    text.split_once(&format!(" {name}=\"")).unwrap().1.split_once('"').unwrap().0.to_owned()
}

const DEEP: &str = "/deep/link?a=b&c=%20d";

#[tokio::test]
async fn visitor_logs_in_and_comes_back_to_the_deep_link() {
    let (site, mut browser) = (Site::new(""), Browser::default());
    let answer = site.get(&mut browser, DEEP).await;
    let cookie = answer.set[SET_COOKIE].to_str().unwrap();
    assert!(cookie.starts_with("__Host-adit-login-") && cookie.ends_with("SameSite=None"), "{cookie}");
    browser = Browser::default();
    assert_eq!(site.log_in(&mut browser, DEEP).await, DEEP);
    assert_eq!(browser.0.keys().collect::<Vec<_>>(), ["__Host-adit-session"]);
    let answer = site.get(&mut browser, DEEP).await;
    assert_eq!(answer.user(), "ann@example.com ann ");
    assert!(!answer.head.headers.contains_key(COOKIE), "the upstream must not get the session");
}

#[tokio::test]
async fn request_says_what_the_policy_asks_for() {
    let format = "urn:oasis:names:tc:SAML:1.1:nameid-format:emailAddress";
    let site = Site::new(&format!(", nameid_format: '{format}', force_authn: true, entity_id: 'urn:site'"));
    let location = site.get(&mut Browser::default(), "/").await.location();
    let packed = location.split_once("SAMLRequest=").unwrap().1.split_once('&').unwrap().0;
    let request = unpacked(&percent_decode_str(packed).decode_utf8().unwrap());
    assert_eq!(attribute(&request, "Format"), format);
    assert_eq!(attribute(&request, "ForceAuthn"), "true");
    assert_eq!(attribute(&request, "AssertionConsumerServiceURL"), "https://app.example.com/ngrok/saml/acs");
    assert!(request.contains("<saml:Issuer>urn:site</saml:Issuer>"), "{request}");
    assert!(!location.contains("Signature="));
    let metadata = site.get(&mut Browser::default(), "/ngrok/saml/metadata").await;
    assert!(String::from_utf8_lossy(&metadata.response().body).contains("entityID=\"urn:site\""));
}

#[tokio::test]
async fn request_is_posted_and_signed_when_the_policy_says_so() {
    let (key, certificate) = own_pair();
    let pair = format!(
        ", private_key: \"{}\", certificate: \"{}\"",
        key.replace('\n', "\\n"),
        certificate.replace('\r', "").replace('\n', "\\n")
    );
    let posted = Site::new(&format!("{pair}, request_binding: post"));
    let answer = posted.get(&mut Browser::default(), "/").await;
    let page = String::from_utf8_lossy(&answer.response().body).into_owned();
    assert!(page.contains("action=\"https://idp.example.com/sso-post\""), "{page}");
    assert!(answer.response().headers["content-security-policy"].to_str().unwrap().contains("script-src 'sha256-"));
    let field = page.split_once("name=\"SAMLRequest\" value=\"").unwrap().1.split_once('"').unwrap().0;
    let request = String::from_utf8(STANDARD.decode(field).unwrap()).unwrap();
    assert!(request.contains("<ds:SignatureValue>"), "{request}");
    let signed = Site::new(&pair).get(&mut Browser::default(), "/").await.location();
    assert!(signed.contains("&SigAlg=") && signed.contains("&Signature="), "{signed}");
    let unsigned = Site::new(&format!("{pair}, sign_requests: false")).get(&mut Browser::default(), "/").await;
    assert!(!unsigned.location().contains("Signature="));
}

#[tokio::test]
async fn response_counts_once_in_the_browser_that_asked_and_nowhere_else() {
    let journal = Arc::new(Journal::in_memory());
    let site = Site::with(Provider::new(), "", journal);
    let mut browser = Browser::default();
    let (id, relay) = site.leave(&mut browser, "/").await;
    let (before, response) = (browser.clone(), site.provider.response(&site.told(&id)));
    assert_eq!(site.post(&mut Browser::default(), &response, &relay).await.code(), 5302);
    let mut another = Browser::default();
    site.leave(&mut another, "/").await;
    assert_eq!(site.post(&mut another, &response, &relay).await.code(), 5300);
    assert_eq!(site.post(&mut browser.clone(), &response, "other").await.code(), 5300);
    assert_eq!(site.post(&mut browser, &response, &relay).await.location(), "/");
    let again = site.post(&mut before.clone(), &response, &relay).await.refused();
    assert_eq!((again.code, again.status), (5305, StatusCode::BAD_REQUEST));
    // The same log-in with a second assertion.
    let second = site.provider.response(&Told { id: "_a2".into(), ..site.told(&id) });
    assert_eq!(site.post(&mut before.clone(), &second, &relay).await.code(), 5305);
    // What a browser was not asked for.
    let other = site.provider.response(&Told { id: "_a3".into(), ..site.told("_other") });
    assert_eq!(site.post(&mut before.clone(), &other, &relay).await.code(), 5300);
}

#[tokio::test]
async fn log_in_that_begins_at_the_provider_needs_the_policys_leave() {
    let unsolicited =
        |site: &Site, id: &str| site.provider.response(&Told { id: id.into(), in_response_to: None, ..site.told("") });
    let site = Site::new("");
    let refused = site.post(&mut Browser::default(), &unsolicited(&site, "_a1"), "/x").await.refused();
    assert_eq!((refused.code, refused.retry.as_deref()), (5302, Some("/ngrok/login")));
    let site = Site::new(", allow_idp_initiated: true");
    for (index, (relay, path)) in [
        ("/x?y", "/x?y"),
        ("https://app.example.com/x", "/x"),
        ("https://app.example.com//evil.example", "/"),
        ("https://evil.example/x", "/"),
        ("", "/"),
    ]
    .into_iter()
    .enumerate()
    {
        let response = unsolicited(&site, &format!("_b{index}"));
        let mut browser = Browser::default();
        assert_eq!(site.post(&mut browser, &response, relay).await.location(), path);
        assert_eq!(site.get(&mut browser, "/").await.user(), "ann@example.com ann ");
        assert_eq!(site.post(&mut Browser::default(), &response, relay).await.code(), 5305, "replayed");
    }
}

#[tokio::test]
async fn wish_for_a_new_log_in_is_checked_and_not_only_sent() {
    let site = Site::new(", force_authn: true");
    for (age, is_taken) in [(0, true), (50, true), (3600, false)] {
        let mut browser = Browser::default();
        let (id, relay) = site.leave(&mut browser, "/").await;
        let told = site.told(&id);
        let at = instant(told.now - age);
        let statements = told.statements.replace("2027-01-15T08:00:00Z", &at);
        let response = site.provider.response(&Told { id: format!("_a{age}"), statements, ..told });
        let answer = site.post(&mut browser, &response, &relay).await;
        if is_taken {
            assert_eq!(answer.location(), "/");
        } else {
            assert_eq!(answer.code(), 5304);
        }
    }
    let mut browser = Browser::default();
    let (id, relay) = site.leave(&mut browser, "/").await;
    let told = site.told(&id);
    let statements = told.statements.replace("AuthnInstant=\"2027-01-15T08:00:00Z\"", "");
    let response = site.provider.response(&Told { statements, ..told });
    assert_eq!(site.post(&mut browser, &response, &relay).await.code(), 5304, "the provider does not say when");
}

#[tokio::test]
async fn name_for_people_makes_no_member_of_a_group() {
    let site = Site::new(", authorized_groups: [staff]");
    let mut browser = Browser::default();
    let (id, relay) = site.leave(&mut browser, "/").await;
    let statement = Told::default().statements;
    let nick = attributes(&[("urn:x:nick", "staff")]).replace("Name=", "FriendlyName=\"groups\" Name=");
    let statements = format!("{}{nick}", statement.split("<saml:AttributeStatement>").next().unwrap());
    let response = site.provider.response(&Told { statements, ..site.told(&id) });
    assert_eq!(site.post(&mut browser, &response, &relay).await.code(), 5312);
}

#[tokio::test]
async fn only_members_of_the_groups_pass() {
    let site = Site::new(", authorized_groups: [staff, admin]");
    let mut browser = Browser::default();
    site.log_in(&mut browser, "/").await;
    assert_eq!(site.get(&mut browser, "/").await.user(), "ann@example.com ann staff");
    let site = Site::new(", authorized_groups: [admin]");
    let mut browser = Browser::default();
    let (id, relay) = site.leave(&mut browser, "/").await;
    let response = site.provider.response(&site.told(&id));
    let refused = site.post(&mut browser, &response, &relay).await.refused();
    assert_eq!((refused.code, refused.status), (5312, StatusCode::FORBIDDEN));
    let site = Site::new(", authorized_groups: [a], groups_attribute: mail");
    let mut browser = Browser::default();
    let (id, relay) = site.leave(&mut browser, "/").await;
    let statement = Told::default().statements;
    let statements =
        format!("{}{}", statement.split("<saml:AttributeStatement>").next().unwrap(), attributes(&[("mail", "a")]));
    let response = site.provider.response(&Told { statements, ..site.told(&id) });
    assert_eq!(site.post(&mut browser, &response, &relay).await.location(), "/");
}

#[tokio::test]
async fn log_out_ends_the_session_and_goes_on_to_the_provider_when_it_shall() {
    let site = Site::new(", end_provider_session: true");
    let mut browser = Browser::default();
    site.log_in(&mut browser, "/").await;
    let copy = browser.clone();
    let location = site.get(&mut browser, "/ngrok/logout").await.location();
    let packed = location.strip_prefix("https://idp.example.com/slo?SAMLRequest=").unwrap();
    let request = unpacked(&percent_decode_str(packed).decode_utf8().unwrap());
    assert!(request.contains(">ann</saml:NameID><samlp:SessionIndex>s1</samlp:SessionIndex>"), "{request}");
    assert!(browser.0.is_empty());
    assert!(site.get(&mut copy.clone(), "/").await.location().starts_with("https://idp.example.com/"), "revived");
    let answer = site.get(&mut browser, "/ngrok/saml/slo?SAMLRequest=x").await;
    assert_eq!(answer.code(), 5301);
    let answer = site.ask(&mut browser, Method::POST, "/ngrok/saml/slo", "SAMLResponse=PGEvPg%3D%3D").await;
    assert!(String::from_utf8_lossy(&answer.response().body).contains("You are logged out"));
    let plain = Site::new("");
    let mut browser = Browser::default();
    plain.log_in(&mut browser, "/").await;
    let page = plain.get(&mut browser, "/ngrok/logout").await;
    assert!(String::from_utf8_lossy(&page.response().body).contains("You are logged out"));
}

#[tokio::test]
async fn what_is_no_page_is_refused_and_forms_are_read_strictly() {
    let site = Site::new("");
    let refused = site.ask(&mut Browser::default(), Method::POST, "/api", "").await.refused();
    assert_eq!((refused.code, refused.status), (3101, StatusCode::UNAUTHORIZED));
    let mut browser = Browser::default();
    site.leave(&mut browser, "/").await;
    for body in ["", "SAMLResponse=%21", "SAMLResponse=PGEvPg%3D%3D&SAMLResponse=PGEvPg%3D%3D", "RelayState=x"] {
        let answer = site.ask(&mut browser, Method::POST, "/ngrok/saml/acs", body).await;
        assert_eq!(answer.code(), 5301, "{body}");
    }
    let long = format!("SAMLResponse={}", "A".repeat(400_000));
    let answer = site.ask(&mut browser, Method::POST, "/ngrok/saml/acs", &long).await.refused();
    assert!(answer.reason.unwrap().contains("more than 262144 bytes"));
}

/// What sessions of this policy are sealed for.
fn session_purpose() -> String {
    let realm = realm(&["main", "saml", "entity https://idp.example.com/metadata", ENTITY, "", ""]);
    format!("session\napp.example.com\n\n{realm}")
}

#[tokio::test]
async fn session_ends_with_the_one_at_the_provider() {
    let site = Site::new("");
    let mut browser = Browser::default();
    let (id, relay) = site.leave(&mut browser, "/").await;
    let told = site.told(&id);
    // Over already, and taken because clocks differ, as long as the session is.
    let now = told.now;
    let ends = instant(now - 10);
    let statements = told.statements.replace("SessionIndex", &format!("SessionNotOnOrAfter=\"{ends}\" SessionIndex"));
    let response = site.provider.response(&Told { statements, ..told });
    assert_eq!(site.post(&mut browser, &response, &relay).await.location(), "/");
    assert_eq!(site.get(&mut browser, "/").await.user(), "ann@example.com ann ");
    let (name, sealed) = browser.0.pop_first().unwrap();
    let mut session = Session::open(&site.log_ins.keys, &session_purpose(), &sealed).unwrap();
    session.identity.saml.as_mut().unwrap().ends = Some(now - 61);
    browser.0.insert(name, session.seal(&site.log_ins.keys, &session_purpose()).unwrap());
    assert!(site.get(&mut browser, "/").await.location().starts_with("https://idp.example.com/"));
}

#[tokio::test]
async fn claims_are_kept_for_later_rules() {
    let site = Site::new(", claims: [title, team]");
    let mut browser = Browser::default();
    let (id, relay) = site.leave(&mut browser, "/").await;
    let told = site.told(&id);
    let more = attributes(&[("title", "lead"), ("secret", "x"), ("mail", "b@example.com")]);
    let response = site.provider.response(&Told { statements: format!("{}{more}", told.statements), ..told });
    assert_eq!(site.post(&mut browser, &response, &relay).await.location(), "/");
    let sealed = browser.0.values().next().unwrap();
    let session = Session::open(&site.log_ins.keys, &session_purpose(), sealed).unwrap();
    assert_eq!(serde_json::Value::from(session.identity.claims), serde_json::json!({"title": ["lead"]}));
}

#[tokio::test]
async fn cookies_and_preflights_follow_the_policy() {
    let more = ", auth_id: a.b, auth_cookie_domain: example.com, max_session_duration: 8h, idle_session_timeout: 5m";
    let (site, mut browser) = (Site::new(more), Browser::default());
    let (id, relay) = site.leave(&mut browser, "/").await;
    let answer = site.post(&mut browser, &site.provider.response(&site.told(&id)), &relay).await;
    let line = answer.set[SET_COOKIE].to_str().unwrap();
    assert!(line.starts_with("__Secure-adit-session-a.b="), "{line}");
    assert!(line.contains("; Domain=example.com; Max-Age=300;"), "{line}");
    let short = Site::new(", max_session_duration: 2m, idle_session_duration: 5m");
    let mut browser = Browser::default();
    let (id, relay) = short.leave(&mut browser, "/").await;
    let answer = short.post(&mut browser, &short.provider.response(&short.told(&id)), &relay).await;
    assert!(answer.set[SET_COOKIE].to_str().unwrap().contains("Max-Age=120;"));
    for (more, passes) in [("", false), (", allow_cors_preflight: true", true), (", options_passthrough: true", true)] {
        let site = Site::new(more);
        let preflight = [("origin", "https://a.example"), ("access-control-request-method", "GET")];
        let answer = site.ask_with(&mut Browser::default(), Method::OPTIONS, "/", "", &preflight).await;
        assert_eq!(matches!(answer.verdict, Verdict::Forward { .. }), passes, "{more}");
    }
}

#[tokio::test]
async fn metadata_at_an_address_is_fetched_once_and_kept_while_it_is_gone() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/metadata", listener.local_addr().unwrap());
    let (provider, fetches) = (Provider::new(), Arc::new(AtomicUsize::new(0)));
    let (text, counted) = (provider.metadata(), Arc::clone(&fetches));
    let serving = tokio::spawn(async move {
        loop {
            let (mut tcp, _) = listener.accept().await.unwrap();
            counted.fetch_add(1, Ordering::SeqCst);
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\n") {
                assert_ne!(tcp.read_buf(&mut asked).await.unwrap(), 0);
            }
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", text.len());
            tcp.write_all(format!("{head}{text}").as_bytes()).await.unwrap();
        }
    });
    let site = Site::of(provider, &format!("idp_metadata_url: '{url}'"), Arc::new(Journal::in_memory()));
    let mut browser = Browser::default();
    assert_eq!(site.log_in(&mut browser, "/").await, "/");
    serving.abort();
    assert_eq!(site.log_in(&mut Browser::default(), "/x").await, "/x");
    assert_eq!(fetches.load(Ordering::SeqCst), 1);
    assert_eq!(site.get(&mut browser, "/").await.user(), "ann@example.com ann ");
    // Without it there is a page with what to do.
    let gone = Site::of(Provider::new(), "idp_metadata_url: 'http://127.0.0.1:1/m'", Arc::new(Journal::in_memory()));
    let refused = gone.get(&mut Browser::default(), "/").await.refused();
    assert_eq!((refused.code, refused.status), (5308, StatusCode::BAD_GATEWAY));
}

#[test]
fn policies_that_cannot_work_are_refused() {
    let endpoint = EndpointUrl::parse("https://app.example.com").unwrap();
    let good = format!("idp_metadata: '{}'", Provider::new().metadata());
    for (config, message) in [
        ("", "one of idp_metadata"),
        (&*format!("{good}, idp_metadata_url: 'https://idp.example.com/m'"), "one of idp_metadata"),
        ("idp_metadata: '<a/>'", "no IDPSSODescriptor"),
        ("idp_metadata_url: 'http://idp.example.com/m'", "must begin with https://"),
        ("idp_metadata_file: missing.xml", "cannot be"),
        (&*format!("{good}, sign_requests: true"), "needs private_key"),
        (&*format!("{good}, private_key: x"), "private_key and certificate"),
        (&*format!("{good}, cookie_prefix: x"), "is not a field"),
        (&*format!("{good}, maximum_duration: 60"), "max_session_duration"),
        (&*format!("{good}, inactivity_timeout: 60"), "idle_session_timeout"),
        (&*format!("{good}, nameid_format: email"), "format of SAML"),
        (&*format!("{good}, identity_headers: {{x-user: mail}}"), "must be id, email"),
    ] {
        let errors = Policy::parse(&document(config), Place::cloud(&endpoint)).unwrap_err().to_string();
        assert!(errors.contains(message), "{config}: {errors}");
    }
}
