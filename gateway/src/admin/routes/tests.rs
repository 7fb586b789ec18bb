//! Requests to the admin listener, as they come out of their connections.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt;
use tokio::time::timeout;

use super::*;
use crate::access_log::Place;
use crate::config::Config;
use crate::identity_key::IdentityKey;
use crate::ledger::LedgerConfig;

fn admin() -> Arc<Admin> {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["a.example.com".to_owned()]).unwrap();
    std::fs::write(folder.path().join("certificate.pem"), made.cert.pem()).unwrap();
    std::fs::write(folder.path().join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    let text = "
        listeners: {agents: '127.0.0.1:0'}
        certificates: [{certificate_file: certificate.pem, private_key_file: key.pem}]
        credentials: [{id: site1, hashes: ['sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad'], allow_any: true}]
    ";
    let config = Config::parse(&folder.path().join("gateway.yml"), text).unwrap().0;
    Admin::new(Gateway::new(config, &IdentityKey::generate().unwrap()).unwrap()).0
}

async fn asked(admin: &Arc<Admin>, method: Method, target: &str) -> Response<Body> {
    let (parts, ()) = Request::builder().method(method).uri(target).body(()).unwrap().into_parts();
    answer(admin, &Caller::Local { uid: 0, pid: None }, &parts).await
}

async fn body(answer: Response<Body>) -> Bytes {
    answer.into_body().collect().await.unwrap().to_bytes()
}

#[tokio::test(start_paused = true)]
async fn documents_and_the_page_are_put_together_one_at_a_time() {
    let admin = admin();
    let place = Arc::clone(&admin.gateway.looks).acquire_owned().await.unwrap();
    for target in ["/", "/v1/sites", "/v1/sessions", "/v1/endpoints", "/v1/streams"] {
        let waited = timeout(Duration::from_secs(60), asked(&admin, Method::GET, target)).await;
        assert!(waited.is_err(), "{target}: somebody else has the place");
    }
    assert!(asked(&admin, Method::GET, "/healthz").await.status().is_success());
    drop(place);
    for target in ["/", "/v1/sites", "/v1/sessions", "/v1/endpoints", "/v1/streams"] {
        assert_eq!(asked(&admin, Method::GET, target).await.status(), StatusCode::OK, "{target}");
    }
}

#[tokio::test(start_paused = true)]
async fn sample_for_the_pictures_waits_for_its_turn() {
    let admin = admin();
    let place = Arc::clone(&admin.gateway.looks).acquire_owned().await.unwrap();
    let minute = Duration::from_secs(60);
    assert!(timeout(minute, admin.history.follow(&admin.gateway)).await.is_err());
    assert_eq!(admin.history.samples().len(), 0, "somebody else has the place");
    drop(place);
    assert!(timeout(minute, admin.history.follow(&admin.gateway)).await.is_err());
    assert_ne!(admin.history.samples().len(), 0);
}

#[tokio::test]
async fn whoever_goes_away_keeps_the_place_until_the_look_is_over() {
    let admin = admin();
    let (go_on, told) = std::sync::mpsc::channel::<()>();
    let (begin, begun) = tokio::sync::oneshot::channel();
    let gateway = Arc::clone(&admin.gateway);
    let looking = tokio::spawn(async move {
        let look = gateway.look(move |_| {
            begin.send(()).unwrap();
            told.recv().unwrap_err();
        });
        look.await
    });
    begun.await.unwrap();
    looking.abort();
    assert!(looking.await.unwrap_err().is_cancelled());
    assert_eq!(admin.gateway.looks.available_permits(), 0);
    drop(go_on);
    assert_eq!(asked(&admin, Method::GET, "/v1/sites").await.status(), StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn status_page_is_the_same_for_a_second() {
    let admin = admin();
    let page = async |target: &str| body(asked(&admin, Method::GET, target).await).await;
    let (first, again) = (page("/").await, page("/").await);
    assert!(first.starts_with(b"<!DOCTYPE html>"));
    assert_eq!(first.as_ptr(), again.as_ptr(), "it is not put together again");
    let wanted = page("/?q=site1").await;
    assert!(wanted.windows(5).any(|part| part == b"site1"));
    assert_ne!(wanted, first, "what is looked for is another page");
    let before = page("/").await;
    tokio::time::advance(Duration::from_millis(999)).await;
    assert_eq!(page("/").await.as_ptr(), before.as_ptr());
    tokio::time::advance(Duration::from_millis(1)).await;
    assert_ne!(page("/").await.as_ptr(), before.as_ptr());
}

#[tokio::test]
async fn routes_refuse_parameters_that_they_would_ignore() {
    let admin = admin();
    for (method, target, says) in [
        (
            Method::GET,
            "/v1/tail?session=1",
            "session: is no parameter here; there are account, credential and instance",
        ),
        (Method::GET, "/v1/tail?all=true", "all: is no"),
        (Method::GET, "/v1/sites?seconds=1", "seconds: is no"),
        (Method::GET, "/v1/sessions?all=true", "all: is no"),
        (Method::GET, "/v1/endpoints?seconds=1", "seconds: is no"),
        (Method::GET, "/v1/streams?all=true", "all: is no"),
        (Method::GET, "/metrics?account=a", "account: is no"),
        (Method::POST, "/v1/drain?session=1&seconds=1", "seconds: is no"),
        (Method::POST, "/v1/reload?all=true", "all: is no parameter here; there are none"),
    ] {
        let answer = asked(&admin, method, target).await;
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{target}");
        let text = String::from_utf8(body(answer).await.into()).unwrap();
        assert!(text.contains(says), "{target}: {text}");
    }
    for target in ["/v1/tail?account=a&credential=b&instance=c", "/v1/streams?account=a&session=1", "/metrics"] {
        assert_eq!(asked(&admin, Method::GET, target).await.status(), StatusCode::OK, "{target}");
    }
}

#[tokio::test]
async fn nobody_who_is_meant_is_told_apart_from_a_route_that_there_is_not() {
    let admin = admin();
    for (target, has_list) in [("/v1/kick?session=7", true), ("/v1/drain?session=7", true), ("/v1/nothing", false)] {
        let answer = asked(&admin, Method::POST, target).await;
        assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{target}");
        let document: serde_json::Value = serde_json::from_slice(&body(answer).await).unwrap();
        assert!(document["error"].is_string());
        assert_eq!(document.get("sessions").is_some(), has_list, "{target}");
    }
}

#[tokio::test(start_paused = true)]
async fn scrape_that_was_begun_is_kept_also_when_its_client_goes_away() {
    let admin = admin();
    {
        let mut asking = std::pin::pin!(asked(&admin, Method::GET, "/metrics"));
        assert!(futures::poll!(&mut asking).is_pending(), "it is put together on another thread");
    }
    // Until then the look goes on.
    drop(Arc::clone(&admin.gateway.looks).acquire_owned().await.unwrap());
    admin.gateway.metrics().streams_opened.inc();
    let answer = body(asked(&admin, Method::GET, "/metrics").await).await;
    let text = String::from_utf8(answer.into()).unwrap();
    assert!(text.contains("\nadit_streams_opened_total 0\n"), "the one that was begun is the one that is told: {text}");
}

#[tokio::test]
async fn those_who_follow_leave_places_to_others_and_to_the_socket() {
    let admin = admin();
    let (parts, ()) = Request::get("/v1/tail").header("host", "localhost").body(()).unwrap().into_parts();
    let anybody = Caller::Loopback("127.0.0.1:5".parse().unwrap());
    let mut followed = Vec::new();
    for _ in 0..crate::admin::TAILS_MAX {
        followed.push(answer(&admin, &anybody, &parts).await);
    }
    assert!(followed.iter().all(|answer| answer.status() == StatusCode::OK));
    assert_eq!(answer(&admin, &anybody, &parts).await.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(asked(&admin, Method::GET, "/v1/tail").await.status(), StatusCode::OK, "the socket has its own");
    followed.pop();
    assert_eq!(answer(&admin, &anybody, &parts).await.status(), StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn act_that_is_refused_is_in_the_audit_log_now_and_then() {
    let (admin, folder) = (admin(), tempfile::tempdir().unwrap());
    let file = folder.path().join("audit.log");
    let logs = LedgerConfig { audit: Some(Place::File(file.clone())), ..LedgerConfig::default() };
    admin.gateway.ledger().start_logs(&logs).unwrap();
    let anybody = Caller::Loopback("127.0.0.1:5".parse().unwrap());
    let asked = async |caller: &Caller, method: Method, target: &str, origin: Option<&str>| {
        let mut request = Request::builder().method(method).uri(target).header("host", "localhost");
        if let Some(origin) = origin {
            request = request.header("origin", origin);
        }
        answer(&admin, caller, &request.body(()).unwrap().into_parts().0).await.status()
    };
    for _ in 0..5 {
        let status = asked(&anybody, Method::POST, "/v1/kick?credential=north%0a&all=true", None).await;
        assert_eq!(status, StatusCode::FORBIDDEN);
    }
    // What another program of this machine asks for is not hidden by that.
    assert_eq!(asked(&anybody, Method::POST, "/v1/kick?credential=south", None).await, StatusCode::FORBIDDEN);
    let local = Caller::Local { uid: 7, pid: Some(8) };
    let page = Some("https://example.com");
    assert_eq!(asked(&local, Method::POST, "/v1/reload", page).await, StatusCode::FORBIDDEN);
    // It would change nothing.
    assert_eq!(asked(&anybody, Method::POST, "/v1/sites", None).await, StatusCode::METHOD_NOT_ALLOWED);
    tokio::time::advance(Duration::from_secs(600)).await;
    let next = Caller::Loopback("127.0.0.1:6".parse().unwrap());
    assert_eq!(asked(&next, Method::POST, "/v1/kick?credential=north%0a&all=true", None).await, StatusCode::FORBIDDEN);
    admin.gateway.ledger().finish(Duration::from_secs(10));
    let text = std::fs::read_to_string(file).unwrap();
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let parts: Vec<_> = lines.iter().map(|line| [&line["act"], &line["by"], &line["subject"]]).collect();
    assert_eq!(parts[0], ["kick", "127.0.0.1:5", "credential=north%0a&all=true"], "{text}");
    assert_eq!(parts[1], ["kick", "127.0.0.1:5", "credential=south"], "{text}");
    assert_eq!((parts[2][0].as_str(), parts[2][1].as_str()), (Some("reload"), Some("uid 7, pid 8")), "{text}");
    let outcomes: Vec<_> = lines.iter().map(|line| line["outcome"].as_str().unwrap()).collect();
    assert!(outcomes[0].starts_with("refused: this address only shows"), "{text}");
    assert_eq!(outcomes[2], "refused: no web page may change anything here");
    assert!(outcomes[3].ends_with(" (4 more times since it was told last)"), "{text}");
    assert_eq!(lines.len(), 4, "{text}");
}
