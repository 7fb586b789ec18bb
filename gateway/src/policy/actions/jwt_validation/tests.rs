//! Tokens of every kind of malice, and issuers in every state.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::super::super::error::JWT_KEYS;
use super::super::super::expression::Scope;
use super::super::super::own::Lent;
use super::fetch::Reach;
use super::keys::Trial;
use super::*;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

const NOW: i64 = 1_800_000_000;

/// An issuer with one key.
struct Issuer {
    key: EcdsaKeyPair,
}

impl Issuer {
    fn new() -> Self {
        let random = SystemRandom::new();
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref(), &random).unwrap();
        Self { key }
    }

    fn jwk(&self, id: &str) -> Json {
        let point = self.key.public_key().as_ref();
        let (x, y) = (URL_SAFE_NO_PAD.encode(&point[1..33]), URL_SAFE_NO_PAD.encode(&point[33..]));
        json!({"kty": "EC", "crv": "P-256", "use": "sig", "kid": id, "x": x, "y": y})
    }

    fn sign(&self, header: &str, payload: &str) -> String {
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
        let signature = self.key.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    fn token(&self) -> String {
        self.sign(HEADER, &payload())
    }
}

/// A token whose HMAC has the issuer's public key for a secret.
fn hmac(issuer: &Issuer, algorithm: &str) -> String {
    let header = format!(r#"{{"alg":"{algorithm}","kid":"one"}}"#);
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload()));
    let kind = if algorithm == "HS256" { ring::hmac::HMAC_SHA256 } else { ring::hmac::HMAC_SHA512 };
    let tag = ring::hmac::sign(&ring::hmac::Key::new(kind, issuer.key.public_key().as_ref()), signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag))
}

const HEADER: &str = r#"{"alg":"ES256","kid":"one","typ":"JWT"}"#;

fn payload() -> String {
    json!({"iss": "https://idp.test/", "aud": ["urn:api", "other"], "exp": NOW + 60, "nbf": NOW, "sub": "ann"})
        .to_string()
}

/// Answers every request with the same bytes, and counts them.
async fn served(answer: Vec<u8>) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/jwks", listener.local_addr().unwrap());
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    tokio::spawn(async move {
        loop {
            let (mut tcp, _) = listener.accept().await.unwrap();
            counted.fetch_add(1, Ordering::SeqCst);
            let mut head = [0; 4096];
            let _ = tcp.read(&mut head).await;
            let _ = tcp.write_all(&answer).await;
        }
    });
    (url, count)
}

fn http(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

const ISSUER: &str = "https://idp.test/";

fn fixed(text: &str) -> Template {
    let scope = Scope { phase: Phase::HttpRequest, vars: &BTreeSet::new(), lent: Lent::Nothing };
    Template::compile(text, scope).unwrap()
}

fn action(url: &str) -> JwtValidation {
    JwtValidation {
        tokens: vec![TokenPlace {
            kind: TokenKind::Jwt,
            is_in_body: false,
            name: fixed("authorization"),
            prefix: fixed("Bearer "),
        }],
        algorithms: vec![Algorithm::Es256, Algorithm::Rs256, Algorithm::EdDsa],
        expected: Expected { issuers: vec![fixed(ISSUER)], audiences: vec!["urn:api".into()] },
        sources: vec![Arc::new(Source::new(url, Reach::Anywhere).unwrap())],
        files: Vec::new(),
    }
}

async fn judged(action: &JwtValidation, token: &str) -> Result<Value, Flaw> {
    let header = HeaderName::from_static("authorization");
    action.check((action.tokens[0].kind, &Location::Header(header)), token, &[ISSUER.to_owned()], NOW).await
}

#[tokio::test]
async fn signed_token_for_this_endpoint_passes_and_shows_its_claims() {
    let issuer = Issuer::new();
    let (url, count) = served(http(&json!({"keys": [issuer.jwk("one")]}).to_string())).await;
    let action = action(&url);
    for _ in 0..3 {
        let token = judged(&action, &issuer.token()).await.unwrap();
        assert!(token.shown().contains(r#""sub":"ann""#), "{}", token.shown());
    }
    assert_eq!(count.load(Ordering::SeqCst), 1, "the keys are kept");
}

#[tokio::test]
async fn hostile_token_is_refused_with_a_reason_of_its_own() {
    let (issuer, other) = (Issuer::new(), Issuer::new());
    let (url, _) = served(http(&json!({"keys": [issuer.jwk("one")]}).to_string())).await;
    let action = action(&url);
    let claims = |change: Json| {
        let mut claims: Json = serde_json::from_str(&payload()).unwrap();
        for (name, value) in change.as_object().unwrap() {
            claims[name] = value.clone();
        }
        issuer.sign(HEADER, &claims.to_string())
    };
    let headed = |header: &str| issuer.sign(header, &payload());
    let unsigned = format!("{}.{}.", URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#), URL_SAFE_NO_PAD.encode(payload()));
    let good = issuer.token();
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let deep = format!("{{\"a\":{}1{}}}", "[".repeat(1000), "]".repeat(1000));
    let table: Vec<(String, u32, &str)> = vec![
        (String::new(), 3416, "no signature"),
        ("a.b".into(), 3416, "three parts"),
        ("a.b.c.d".into(), 3416, ""),
        ("!.b.c".into(), 3416, "base64url"),
        (good.replace('.', "=."), 3416, "base64url"),
        ("x".repeat(20_000), 3416, "longer than 16 KiB"),
        (unsigned, 3401, "is none"),
        (headed(r#"{"alg":"None","kid":"one"}"#), 3401, "is none"),
        (headed(r#"{"alg":"nOnE","kid":"one"}"#), 3401, "is none"),
        (headed(r#"{"alg":"","kid":"one"}"#), 3401, "not known here"),
        (headed(r#"{"kid":"one"}"#), 3401, "names no algorithm"),
        (headed(r#"{"alg":["ES256"],"kid":"one"}"#), 3416, "alg is not a text"),
        // The public key as the secret of an HMAC.
        (hmac(&issuer, "HS256"), 3401, "shared secret"),
        (hmac(&issuer, "HS512"), 3401, "shared secret"),
        (headed(r#"{"alg":"RS256","kid":"one"}"#), 3401, "for another algorithm"),
        (headed(r#"{"alg":"EdDSA","kid":"one"}"#), 3401, "for another algorithm"),
        (headed(r#"{"alg":"ES384","kid":"one"}"#), 3401, "not among the allowed ones"),
        (headed(r#"{"alg":"ES256","kid":"one","crit":["exp"]}"#), 3401, "critical"),
        (headed(r#"{"alg":"ES256","kid":"one","crit":[]}"#), 3401, "critical"),
        (
            headed(r#"{"alg":"ES256","kid":"one","jku":"https://evil.test/jwks"}"#),
            3401,
            "jku names keys of somebody else",
        ),
        (headed(r#"{"alg":"ES256","kid":"one","x5u":"https://evil.test/"}"#), 3401, "own key in x5u"),
        (headed(r#"{"alg":"ES256","kid":"one","jwk":{}}"#), 3401, "own key in jwk"),
        (headed(r#"{"alg":"ES256","kid":"one","x5c":["MIIB"]}"#), 3401, "own key in x5c"),
        (headed(r#"{"alg":"ES256","kid":"one","typ":"logout+jwt"}"#), 3401, "typ says that it is for something else"),
        (headed(r#"{"alg":"ES256","kid":"one","typ":"dpop+jwt"}"#), 3401, "typ says that it is for something else"),
        (headed(r#"{"alg":"ES256","kid":"one","typ":["JWT"]}"#), 3416, "typ is not a text"),
        (headed(r#"{"alg":"ES256","kid":"../../dev/null"}"#), 3401, "names a key (kid) that is not"),
        (headed(r#"{"alg":"ES256","kid":"one' OR '1'='1"}"#), 3401, "names a key (kid) that is not"),
        (headed(r#"{"alg":"ES256","kid":"one\u0000"}"#), 3401, "names a key (kid) that is not"),
        (headed(r#"{"alg":"ES256","kid":""}"#), 3401, "names a key (kid) that is not"),
        (headed(r#"{"alg":"ES256","kid":["one"]}"#), 3416, "kid is not a text"),
        (headed(r#"{"alg":"ES256","alg":"ES256","kid":"one"}"#), 3416, "twice"),
        (issuer.sign(HEADER, r#"{"iss":"https://idp.test/","iss":"https://idp.test/"}"#), 3416, "twice"),
        (issuer.sign(HEADER, r#"{"iss":"https://idp.test/","act":{"sub":"a","sub":"b"}}"#), 3416, "twice"),
        (issuer.sign(HEADER, "[1]"), 3416, "no object"),
        (issuer.sign("null", &payload()), 3416, "no object"),
        (issuer.sign(HEADER, &deep), 3416, "nested too deep"),
        (issuer.sign(HEADER, "{"), 3416, "not JSON"),
        (other.token(), 3401, "signature is not by"),
        (other.sign(r#"{"alg":"ES256"}"#, &payload()), 3401, "signature is not by"),
        (format!("{signed}."), 3401, "signature is not by"),
        (format!("{signed}.{}", signature.replace(|c: char| c != 'A', "A")), 3401, "signature is not by"),
        (
            format!("{}.{}.{signature}", URL_SAFE_NO_PAD.encode(HEADER), URL_SAFE_NO_PAD.encode("{}")),
            3401,
            "signature is not by",
        ),
        (claims(json!({"exp": NOW - 61})), 3401, "expired"),
        (claims(json!({"exp": null})), 3401, "exp is not a time"),
        (claims(json!({"exp": "never"})), 3401, "exp is not a time"),
        (claims(json!({"nbf": NOW + 61})), 3401, "not valid yet"),
        (claims(json!({"nbf": "now"})), 3401, "nbf is not a time"),
        (claims(json!({"iss": "https://idp.test"})), 3403, "issuer"),
        (claims(json!({"iss": ["https://idp.test/"]})), 3403, "issuer"),
        (claims(json!({"aud": "other"})), 3403, "audience"),
        (claims(json!({"aud": null})), 3403, "audience"),
        (issuer.sign(HEADER, r#"{"iss":"https://idp.test/","aud":"urn:api"}"#), 3401, "no exp"),
    ];
    for (token, code, reason) in table {
        let flaw = judged(&action, &token).await.unwrap_err();
        assert_eq!(flaw.code, code, "{token}: {}", flaw.reason);
        assert!(flaw.reason.contains(reason), "{token}: {}", flaw.reason);
    }
    for good in [json!({"exp": NOW - 60}), json!({"nbf": NOW + 60}), json!({"aud": "urn:api"}), json!({"exp": 1.9e9})] {
        assert!(judged(&action, &claims(good.clone())).await.is_ok(), "{good}");
    }
}

#[test]
fn token_is_taken_only_from_its_place() {
    let find = |lines: &[(&'static str, &'static str)]| {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_static(value));
        }
        token_in(&HeaderName::from_static("authorization"), "Bearer ", &headers).map_err(|flaw| flaw.reason)
    };
    let refused = |lines: &[(&'static str, &'static str)], reason: &str| {
        let error = find(lines).unwrap_err();
        assert!(error.contains(reason), "{lines:?}: {error}");
    };
    assert_eq!(find(&[("authorization", "Bearer a.b.c")]), Ok("a.b.c".into()));
    assert_eq!(find(&[("authorization", "bearer a.b.c")]), Ok("a.b.c".into()));
    refused(&[], "has no header authorization");
    refused(&[("x-token", "Bearer a.b.c"), ("cookie", "authorization=Bearer a.b.c")], "has no header authorization");
    refused(&[("proxy-authorization", "Bearer a.b.c")], "has no header authorization");
    refused(&[("authorization", "Basic a.b.c")], "does not begin with");
    refused(&[("authorization", "a.b.c")], "does not begin with");
    refused(&[("authorization", " Bearer a.b.c")], "does not begin with");
    refused(&[("authorization", "Bearer ")], "has no token");
    refused(&[("authorization", "Bearer a"), ("authorization", "Bearer b")], "more than one header");
}

#[tokio::test]
async fn two_tokens_in_one_header_are_no_token() {
    let issuer = Issuer::new();
    let (url, _) = served(http(&json!({"keys": [issuer.jwk("one")]}).to_string())).await;
    let (action, token) = (action(&url), issuer.token());
    for both in [format!("{token},{token}"), format!("{token} {token}"), format!("{token}, Bearer {token}")] {
        let flaw = judged(&action, &both).await.unwrap_err();
        assert_eq!(flaw.code, 3416, "{}", flaw.reason);
    }
}

#[test]
fn policies_share_the_keys_of_an_address_as_long_as_one_of_them_is_there() {
    let url = "https://shared.test/jwks";
    let first = Source::shared(url, Reach::Anywhere).unwrap();
    first.put(r#"{"keys":[]}"#);
    let second = Source::shared(url, Reach::Anywhere).unwrap();
    assert!(Arc::ptr_eq(&first, &second));
    assert!(!Arc::ptr_eq(&first, &Source::shared(url, Reach::Public).unwrap()), "an agent's policy reaches less");
    drop(first);
    assert!(Arc::ptr_eq(&second, &Source::shared(url, Reach::Anywhere).unwrap()));
    assert!(second.is_filled());
    drop(second);
    assert!(!Source::shared(url, Reach::Anywhere).unwrap().is_filled());
    assert!(Source::shared("ftp://shared.test/", Reach::Anywhere).is_err());
}

#[test]
fn typ_of_a_token_has_to_agree_with_what_it_is_for() {
    for (kind, fits, others) in [
        ("jwt", &[None, Some("JWT"), Some("at+jwt"), Some("application/at+jwt"), Some("it+jwt")][..], "dpop+jwt"),
        ("access_token", &[None, Some("JWT"), Some("at+jwt")], "it+jwt"),
        ("id_token", &[None, Some("jwt"), Some("it+jwt")], "at+jwt"),
        ("at+jwt", &[None, Some("JWT"), Some("AT+JWT")], "it+jwt"),
        ("it+jwt", &[None, Some("JWT"), Some("it+jwt")], "at+jwt"),
        ("plain", &[None, Some("JWT")], "at+jwt"),
    ] {
        let parsed = TokenKind::named(kind).unwrap();
        assert!(fits.iter().all(|typ| parsed.allows(*typ)), "{kind}");
        assert!(!parsed.allows(Some(others)) && !parsed.allows(Some("logout+jwt")), "{kind}");
    }
    assert_eq!(TokenKind::named("saml"), None);
}

#[tokio::test]
async fn keys_of_all_types_are_told_apart() {
    let random = SystemRandom::new();
    let document = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
    let pair = Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap();
    let set = json!({"keys": [
        {"kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode(pair.public_key())},
        {"kty": "oct", "k": "c2VjcmV0"},
        {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"},
        {"kty": "RSA", "use": "enc", "n": "AQAB", "e": "AQAB"},
        {"kty": "RSA", "alg": "RSA-OAEP", "n": "AQAB", "e": "AQAB"},
        {"kty": 7},
        // RFC 7515, A.2.
        {"kty": "RSA", "kid": "rfc", "e": "AQAB", "n": RFC_N},
    ]});
    let keys = Keys::parse(set.to_string().as_bytes()).unwrap();
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(r#"{"alg":"EdDSA"}"#), URL_SAFE_NO_PAD.encode("{}"));
    let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(pair.sign(signed.as_bytes())));
    let jws = Jws::parse(&token).unwrap();
    assert_eq!(keys.verify(&jws, Algorithm::EdDsa, None), Trial::Signed);
    assert_eq!(keys.verify(&jws, Algorithm::EdDsa, Some("rfc")), Trial::OtherType);
    assert_eq!(keys.verify(&jws, Algorithm::EdDsa, Some("other")), Trial::NoKey);
    assert_eq!(keys.verify(&jws, Algorithm::Es256, None), Trial::OtherType);
    let jws = Jws::parse(RFC_TOKEN).unwrap();
    assert_eq!(keys.verify(&jws, Algorithm::Rs256, Some("rfc")), Trial::Signed);
    for algorithm in [Algorithm::Ps256, Algorithm::Rs512] {
        assert_eq!(keys.verify(&jws, algorithm, None), Trial::OtherSignature);
    }

    let many = json!({"keys": vec![json!({"kty": "oct", "k": "AA"}); 101]});
    assert!(Keys::parse(many.to_string().as_bytes()).is_err());
    assert!(Keys::parse(b"{}").is_err() && Keys::parse(b"[]").is_err() && Keys::parse(b"").is_err());
}

/// Public keys as `openssl` writes them, and the parts of the private ones that sign.
fn pem(label: &str, der: &[u8]) -> String {
    use base64::engine::general_purpose::STANDARD;
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
}

#[tokio::test]
async fn keys_of_a_file_need_no_network() {
    let issuer = Issuer::new();
    // RFC 5480: the algorithm, its curve, and the point.
    let head = [&[0x30, 0x59, 0x30, 0x13, 0x06, 0x07][..], &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01]].concat();
    let curve = [&[0x06, 0x08][..], &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07], &[0x03, 0x42, 0x00]].concat();
    let spki = pem("PUBLIC KEY", &[&head[..], &curve, issuer.key.public_key().as_ref()].concat());
    let certified = rcgen::generate_simple_self_signed(["idp.test".to_owned()]).unwrap();
    let set = json!({"keys": [issuer.jwk("one")]}).to_string();
    for (text, passes) in [
        (spki.clone(), true),
        (format!("{}{spki}", certified.cert.pem()), true),
        (set, true),
        (certified.cert.pem(), false),
        (json!({"keys": [issuer.jwk("two")]}).to_string(), false),
    ] {
        let keys = Keys::read_file(text.as_bytes()).unwrap();
        let action = JwtValidation { sources: Vec::new(), files: vec![keys], ..action("https://idp.test/jwks") };
        assert_eq!(action.asks(), None);
        assert_eq!(judged(&action, &issuer.token()).await.is_ok(), passes, "{text}");
    }
    for (text, reason) in [
        ("", "is neither"),
        ("{}", "is neither"),
        ("{\"keys\": []}", "has no key"),
        ("-----BEGIN PUBLIC KEY-----\nAA==\n-----END PUBLIC KEY-----\n", "has no key"),
        ("-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n", "has no key"),
        ("-----BEGIN PUBLIC KEY-----\n!\n", "is neither"),
    ] {
        assert!(Keys::read_file(text.as_bytes()).unwrap_err().contains(reason), "{text}");
    }
}

#[tokio::test]
async fn issuer_that_gives_no_keys_is_the_reason() {
    let token = Issuer::new().token();
    let endless = [b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), vec![b' '; 1 << 20]].concat();
    for (answer, reason) in [
        (http("no keys"), "not a key set"),
        (b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n".to_vec(), "status 500"),
        (b"HTTP/1.1 302 Found\r\nLocation: https://evil.test/\r\nContent-Length: 0\r\n\r\n".to_vec(), "status 302"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{".to_vec(), "cut"),
        (b"SSH-2.0-x\r\n".to_vec(), "broke"),
        (endless, "longer than"),
    ] {
        let (url, _) = served(answer).await;
        let flaw = judged(&action(&url), &token).await.unwrap_err();
        assert_eq!((flaw.code, flaw.status().as_u16()), (JWT_KEYS, 502), "{reason}");
        assert!(flaw.reason.contains(reason), "{reason}: {}", flaw.reason);
    }
}

#[tokio::test]
async fn new_key_is_fetched_at_once_and_no_flood_of_unknown_ones_reaches_the_issuer() {
    let (old, new) = (Issuer::new(), Issuer::new());
    let (url, count) = served(http(&json!({"keys": [old.jwk("one"), new.jwk("two")]}).to_string())).await;
    let action = action(&url);
    let source = &action.sources[0];
    source.put(&json!({"keys": [old.jwk("one")]}).to_string());
    assert!(judged(&action, &old.token()).await.is_ok());
    assert_eq!(count.load(Ordering::SeqCst), 0);
    let rotated = new.sign(r#"{"alg":"ES256","kid":"two"}"#, &payload());
    assert!(judged(&action, &rotated).await.is_ok());
    assert_eq!(count.load(Ordering::SeqCst), 1);
    for id in 0..20 {
        let unknown = new.sign(&format!(r#"{{"alg":"ES256","kid":"{id}"}}"#), &payload());
        assert_eq!(judged(&action, &unknown).await.unwrap_err().code, JWT_INVALID);
    }
    assert_eq!(count.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn keys_stay_in_use_while_the_issuer_is_down() {
    let issuer = Issuer::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    drop(listener);
    let action = action(&url);
    action.sources[0].put(&json!({"keys": [issuer.jwk("one")]}).to_string());
    action.sources[0].age();
    assert!(judged(&action, &issuer.token()).await.is_ok());
}

#[test]
fn gateway_asks_only_where_it_may() {
    for (url, anywhere, public) in [
        ("https://idp.example.com/jwks", true, true),
        ("https://10.0.0.1/jwks", true, true),
        ("http://idp.example.com/jwks", false, false),
        ("http://localhost:3000/jwks", true, false),
        ("http://127.0.0.1/jwks", true, false),
        ("ftp://idp.example.com/jwks", false, false),
        ("https://a:b@idp.example.com/", false, false),
        ("/jwks", false, false),
        ("", false, false),
    ] {
        assert_eq!(fetch::check(url, Reach::Anywhere).is_ok(), anywhere, "{url}");
        assert_eq!(fetch::check(url, Reach::Public).is_ok(), public, "{url}");
    }
}

#[tokio::test]
async fn policy_of_an_agent_cannot_make_the_gateway_knock_at_private_doors() {
    for host in ["127.0.0.1", "10.0.0.1", "[::1]", "192.168.0.1", "169.254.169.254", "[fd00::1]", "[::ffff:10.0.0.1]"] {
        let uri = fetch::check(&format!("https://{host}/"), Reach::Public).unwrap();
        let error = fetch::get(&uri, Reach::Public).await.unwrap_err();
        assert!(error.contains("no address that may be asked"), "{host}: {error}");
    }
}

const RFC_N: &str = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ";
const RFC_TOKEN: &str = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";

/// A body that is there.
#[derive(Debug)]
struct Whole(&'static [u8]);

impl Payload for Whole {
    fn read_at_most<'a>(
        &'a self,
        _account: &'a Arc<str>,
        _bytes_max: usize,
    ) -> super::super::super::payload::Reading<'a> {
        Box::pin(std::future::ready(Ok(bytes::Bytes::from_static(self.0))))
    }
}

#[tokio::test]
async fn token_is_found_in_a_body_of_either_type_and_nothing_else_is() {
    for (method, kind, body, expected) in [
        ("POST", "application/json", &br#"{"token": "Bearer a.b.c", "x": 1}"#[..], Ok("a.b.c")),
        ("PUT", "application/json; charset=utf-8", br#"{"token": "bearer a.b.c"}"#, Ok("a.b.c")),
        ("PATCH", "Application/X-WWW-Form-Urlencoded", b"x=1&token=Bearer+a.b.c", Ok("a.b.c")),
        ("GET", "application/json", br#"{"token": "Bearer a.b.c"}"#, Err(3415)),
        ("POST", "text/plain", br#"{"token": "Bearer a.b.c"}"#, Err(3414)),
        ("POST", "", br#"{"token": "Bearer a.b.c"}"#, Err(3414)),
        ("POST", "application/json", b"[]", Err(3411)),
        ("POST", "application/json", b"{", Err(3411)),
        ("POST", "application/json", br#"{"token": "Bearer a", "token": "Bearer b"}"#, Err(3411)),
        ("POST", "application/x-www-form-urlencoded", b"token=Bearer+a&token=Bearer+b", Err(3412)),
        ("POST", "application/x-www-form-urlencoded", b"\xff", Err(3412)),
        ("POST", "application/json", br#"{"other": "Bearer a"}"#, Err(3406)),
        ("POST", "application/json", br#"{"token": "Bearer "}"#, Err(3406)),
        ("POST", "application/json", br#"{"token": "a.b.c"}"#, Err(3413)),
        ("POST", "application/json", br#"{"token": ["Bearer a"]}"#, Err(3401)),
    ] {
        let head =
            http::Request::builder().method(method).header("content-type", kind).body(()).unwrap().into_parts().0;
        let fields = body::fields(&head, Some((&Whole(body), &"main".into()))).await;
        let found = fields.and_then(|fields| body::token_in(&fields, "token", "Bearer "));
        let found = found.as_deref().map_err(|flaw| flaw.code);
        assert_eq!(found, expected, "{method} {kind} {:?}", String::from_utf8_lossy(body));
    }
    let head = http::Request::builder().method("POST").header("content-type", "application/json").body(()).unwrap();
    assert_eq!(body::fields(&head.into_parts().0, None).await.unwrap_err().code, 3903);
}
