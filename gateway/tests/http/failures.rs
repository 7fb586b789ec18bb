//! The gateway's own answers.

use std::time::Duration;

use adit_gateway::http::{Limits, Protocol};
use http_body_util::BodyExt;
use hyper::Request;

use crate::support::{Agent, Gateway, Setup, empty, header, http1};

const GET: &str = "GET / HTTP/1.1\r\nHost: app.test\r\n\r\n";

fn assert_failure(head: &str, body: &str, status: u16, code: u32) {
    assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
    let code = format!("ERR_NGROK_{code}");
    assert_eq!(header(head, "adit-error-code"), Some(code.as_str()));
    assert_eq!(header(head, "ngrok-error-code"), Some(code.as_str()));
    assert!(body.contains(&code), "{body}");
    assert_eq!(header(head, "content-type"), Some("text/plain; charset=utf-8"));
}

async fn assert_answer(gateway: &Gateway, status: u16, code: u32) {
    let mut visitor = gateway.visit().await;
    visitor.send(GET).await;
    let (head, body) = visitor.read_response().await;
    assert_failure(&head, &body, status, code);
}

#[tokio::test]
async fn offline_endpoint_is_503_and_the_connection_goes_on() {
    let gateway = http1().await;
    let mut visitor = gateway.visit().await;
    for _ in 0..2 {
        visitor.send("GET / HTTP/1.1\r\nHost: nobody.test\r\n\r\n").await;
        let (head, body) = visitor.read_response().await;
        assert_failure(&head, &body, 503, 3200);
    }
    visitor.send("GET / HTTP/1.1\r\nHost: nobody.test\r\nAccept: text/html,*/*\r\n\r\n").await;
    let (head, body) = visitor.read_response().await;
    assert_eq!(header(&head, "content-type"), Some("text/html; charset=utf-8"));
    assert!(body.contains("ERR_NGROK_3200"), "{body}");
}

#[tokio::test]
async fn port_of_another_listener_cannot_be_named() {
    let gateway = http1().await;
    let mut visitor = gateway.visit().await;
    visitor.send("GET / HTTP/1.1\r\nHost: private.test:8\r\n\r\n").await;
    let (head, body) = visitor.read_response().await;
    assert_failure(&head, &body, 503, 3200);
}

#[tokio::test]
async fn offline_endpoint_is_503_over_http2_also_with_a_body() {
    let gateway = Setup::new(Protocol::Http2).start().await;
    let mut visitor = gateway.visit_http2().await;
    let request = Request::post("https://nobody.test/").body(empty()).unwrap();
    let response = visitor.send_request(request).await.unwrap();
    assert_eq!(response.status(), 503);
    assert_eq!(response.headers()["adit-error-code"], "ERR_NGROK_3200");
}

#[tokio::test]
async fn head_over_http2_gets_the_length_of_every_own_answer_and_no_body() {
    let policy = "{on_http_request: [
        {expressions: [\"req.url.path == '/text'\"],
         actions: [{type: custom-response, config: {status_code: 200, body: hello}}]},
        {expressions: [\"req.url.path == '/auth'\"],
         actions: [{type: basic-auth, config: {credentials: ['user:password']}}]},
        {actions: [{type: forward-internal, config: {url: 'https://api.internal'}}]}],
        on_http_response: [{actions: [{type: custom-response, config: {status_code: 203, body: instead}}]}]}";
    let gateway = Setup::new(Protocol::Http2).cloud("cloud.test", policy).start().await;
    for (url, status) in [
        ("https://nobody.test/", 503),
        ("https://cloud.test/text", 203),
        ("https://cloud.test/auth", 401),
        ("https://cloud.test/other", 203),
    ] {
        let mut visitor = gateway.visit_http2().await;
        let request = Request::head(url).body(empty()).unwrap();
        let asked = tokio::spawn(async move { visitor.send_request(request).await });
        if url.ends_with("/other") {
            let mut upstream = gateway.upstream().await;
            upstream.read_head().await;
            upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n").await;
        }
        let response = asked.await.unwrap().unwrap();
        let length: usize = response.headers()["content-length"].to_str().unwrap().parse().unwrap();
        assert_eq!(response.status(), status, "{url}");
        assert!(length >= 7, "{url}: {length}");
        let body = response.into_body().collect().await.unwrap_or_else(|error| panic!("{url}: {error}"));
        assert_eq!(body.to_bytes(), "", "{url}");
    }
}

#[tokio::test]
async fn agents_state_becomes_a_page() {
    for (agent, status, code) in [(Agent::Refused, 502, 8012), (Agent::Busy, 503, 703), (Agent::Lost, 502, 3210)] {
        let gateway = Setup::new(Protocol::Http1).agent(agent).start().await;
        assert_answer(&gateway, status, code).await;
    }
}

#[tokio::test]
async fn stream_that_ends_without_a_byte_means_that_the_upstream_is_down() {
    let gateway = http1().await;
    let mut visitor = gateway.visit().await;
    visitor.send(GET).await;
    let mut upstream = gateway.upstream().await;
    upstream.read_head().await;
    drop(upstream);
    let (head, body) = visitor.read_response().await;
    assert_failure(&head, &body, 502, 8012);
    assert!(!body.contains("127.0.0.1"), "the upstream's address is nobody's business: {body}");
}

#[tokio::test]
async fn stream_that_is_reset_without_a_byte_means_that_the_agent_was_lost() {
    let gateway = http1().await;
    let mut visitor = gateway.visit().await;
    visitor.send(GET).await;
    let mut upstream = gateway.upstream().await;
    upstream.read_head().await;
    upstream.reset();
    let (head, body) = visitor.read_response().await;
    assert_failure(&head, &body, 502, 3210);
}

#[tokio::test]
async fn answer_that_is_not_http_or_breaks_off_in_its_head_is_502() {
    let gateway = http1().await;
    let long = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(200_000));
    for answer in
        ["SSH-2.0-OpenSSH_9.2\r\n", "HTTP/1.1 200 OK\r\nContent-Le", "HTTP/1.1 200 OK\r\nX: a\0\r\n\r\n", &long]
    {
        let mut visitor = gateway.visit().await;
        visitor.send(GET).await;
        let mut upstream = gateway.upstream().await;
        upstream.read_head().await;
        tokio::spawn({
            let answer = answer.to_owned();
            async move {
                // The gateway may have had enough before it has read it all.
                let _ = tokio::io::AsyncWriteExt::write_all(&mut upstream.io, answer.as_bytes()).await;
            }
        });
        let (head, body) = visitor.read_response().await;
        assert_failure(&head, &body, 502, 3004);
    }
}

#[tokio::test]
async fn silent_upstream_is_504() {
    let limits = Limits { first_byte_time: Duration::from_millis(50), ..Limits::default() };
    let gateway = Setup::new(Protocol::Http1).limits(limits).start().await;
    let mut visitor = gateway.visit().await;
    visitor.send(GET).await;
    let mut upstream = gateway.upstream().await;
    upstream.read_head().await;
    let (head, body) = visitor.read_response().await;
    assert_failure(&head, &body, 504, 3005);
    upstream.wait_for_end().await;
}

#[tokio::test]
async fn visitor_that_stops_in_its_upload_is_told_so() {
    let limits = Limits { first_byte_time: Duration::from_millis(50), ..Limits::default() };
    let gateway = Setup::new(Protocol::Http1).limits(limits).start().await;
    let mut visitor = gateway.visit().await;
    visitor.send("POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 10\r\n\r\nhalf").await;
    let mut upstream = gateway.upstream().await;
    upstream.read_until("half").await;
    assert!(visitor.read_head().await.starts_with("HTTP/1.1 408 "));
    upstream.wait_for_end().await;
}
