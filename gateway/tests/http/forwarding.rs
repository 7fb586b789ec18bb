//! What reaches the upstream, and what reaches the visitor.

use adit_gateway::http::Protocol;
use http_body_util::{BodyExt, Full};
use hyper::{Request, StatusCode};

use crate::support::{Setup, empty, header, http1};

#[tokio::test]
async fn request_and_response_pass_with_the_public_host_and_without_hop_by_hop_headers() {
    let gateway = http1().await;
    let mut visitor = gateway.visit().await;
    visitor
        .send(
            "GET /a/%2e%2e/b?x=1&y=%20 HTTP/1.1\r\nHost: App.Test:8443\r\nX-Custom: kept\r\nConnection: keep-alive, X-Hop\r\n\
             X-Hop: gone\r\nKeep-Alive: 5\r\nX-Forwarded-For: 10.9.8.7\r\n\r\n",
        )
        .await;
    let mut upstream = gateway.upstream().await;
    let head = upstream.read_head().await;
    assert!(head.starts_with("GET /a/%2e%2e/b?x=1&y=%20 HTTP/1.1\r\n"), "{head}");
    assert_eq!(header(&head, "host"), Some("App.Test:8443"));
    assert!(head.contains("\r\nX-Custom: kept\r\n"), "the case of names is kept: {head}");
    assert_eq!(header(&head, "x-forwarded-for"), Some("10.9.8.7, 127.0.0.1"));
    assert_eq!(header(&head, "x-forwarded-proto"), Some("https"));
    assert_eq!(header(&head, "x-forwarded-host"), Some("App.Test:8443"));
    for name in ["x-hop", "keep-alive", "connection"] {
        assert_eq!(header(&head, name), None, "{name} in {head}");
    }
    upstream
        .send(
            "HTTP/1.1 201 Made It\r\nContent-Length: 2\r\nConnection: X-Hop\r\nX-Hop: gone\r\nX-Answer: yes\r\n\
             Ngrok-Error-Code: ERR_NGROK_3200\r\nAdit-Error-Code: ERR_NGROK_3200\r\n\r\nok",
        )
        .await;
    let (head, body) = visitor.read_response().await;
    assert!(head.starts_with("HTTP/1.1 201 Made It\r\n"), "{head}");
    assert_eq!(header(&head, "x-answer"), Some("yes"));
    for name in ["x-hop", "ngrok-error-code", "adit-error-code"] {
        assert_eq!(header(&head, name), None, "{name} in {head}");
    }
    assert_eq!(body, "ok");
}

#[tokio::test]
async fn bodies_of_both_framings_reach_the_upstream() {
    let gateway = http1().await;
    let mut visitor = gateway.visit().await;
    visitor.send("POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 5\r\n\r\nhello").await;
    let mut upstream = gateway.upstream().await;
    let head = upstream.read_head().await;
    assert_eq!(header(&head, "content-length"), Some("5"));
    assert_eq!(upstream.read_exact(5).await, "hello");
    upstream.send("HTTP/1.1 204 No Content\r\n\r\n").await;
    visitor.read_head().await;

    visitor
        .send("GET /search HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
        .await;
    let head = upstream.read_head().await;
    assert_eq!(header(&head, "transfer-encoding"), Some("chunked"));
    assert_eq!(upstream.read_until("0\r\n\r\n").await, "3\r\nabc\r\n0\r\n\r\n");
    upstream.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n").await;
    visitor.read_head().await;
    assert_eq!(visitor.read_until("0\r\n\r\n").await, "2\r\nhi\r\n0\r\n\r\n");
}

#[tokio::test]
async fn head_response_keeps_its_length_and_has_no_body() {
    let gateway = http1().await;
    let mut visitor = gateway.visit().await;
    visitor.send("HEAD / HTTP/1.1\r\nHost: app.test\r\n\r\n").await;
    let mut upstream = gateway.upstream().await;
    upstream.read_head().await;
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n").await;
    let head = visitor.read_head().await;
    assert_eq!(header(&head, "content-length"), Some("1234"));
    visitor.send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n").await;
    upstream.read_head().await;
    upstream.send("HTTP/1.1 304 Not Modified\r\nContent-Length: 1234\r\n\r\n").await;
    assert!(visitor.read_head().await.starts_with("HTTP/1.1 304"));
}

#[tokio::test]
async fn http10_visitor_gets_an_answer_and_the_end_of_the_connection() {
    let gateway = http1().await;
    let mut visitor = gateway.visit().await;
    visitor.send("GET / HTTP/1.0\r\nHost: app.test\r\n\r\n").await;
    let mut upstream = gateway.upstream().await;
    assert!(upstream.read_head().await.starts_with("GET / HTTP/1.1\r\n"));
    upstream.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n").await;
    let response = visitor.read_to_end().await.unwrap();
    assert!(response.ends_with("\r\n\r\nhi"), "{response}");
    assert_eq!(header(&response, "transfer-encoding"), None);
}

#[tokio::test]
async fn response_without_length_ends_with_the_stream() {
    let gateway = http1().await;
    let mut visitor = gateway.visit().await;
    visitor.send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n").await;
    let mut upstream = gateway.upstream().await;
    upstream.read_head().await;
    upstream.send("HTTP/1.0 200 OK\r\n\r\nuntil the end").await;
    drop(upstream);
    visitor.read_head().await;
    assert_eq!(visitor.read_until("0\r\n\r\n").await, "D\r\nuntil the end\r\n0\r\n\r\n");
}

#[tokio::test]
async fn length_beside_chunks_is_not_passed_on() {
    let gateway = http1().await;
    let mut visitor = gateway.visit().await;
    visitor.send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n").await;
    let mut upstream = gateway.upstream().await;
    upstream.read_head().await;
    upstream
        .send("HTTP/1.1 200 OK\r\nContent-Length: 99\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n")
        .await;
    let head = visitor.read_head().await;
    assert_eq!(header(&head, "content-length"), None);
    assert_eq!(visitor.read_until("0\r\n\r\n").await, "2\r\nhi\r\n0\r\n\r\n");
}

#[tokio::test]
async fn http2_request_becomes_http1_with_host_and_one_cookie_line() {
    let gateway = Setup::new(Protocol::Http2).start().await;
    let mut visitor = gateway.visit_http2().await;
    let body = Full::new("hello".into()).map_err(|never| match never {}).boxed();
    let request =
        Request::post("https://app.test/x").header("cookie", "a=1").header("cookie", "b=2").body(body).unwrap();
    let response = tokio::spawn(visitor.send_request(request));
    let mut upstream = gateway.upstream().await;
    let head = upstream.read_head().await;
    assert!(head.starts_with("POST /x HTTP/1.1\r\n"), "{head}");
    assert_eq!(header(&head, "host"), Some("app.test"));
    assert_eq!(header(&head, "cookie"), Some("a=1; b=2"));
    assert_eq!(upstream.read_exact(5).await, "hello");
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok").await;
    let response = response.await.unwrap().unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "ok");
}

#[tokio::test]
async fn http2_is_detected_on_a_connection_without_alpn() {
    let gateway = Setup::new(Protocol::Detect).start().await;
    let mut visitor = gateway.visit_http2().await;
    let response = tokio::spawn(visitor.send_request(Request::get("http://app.test/").body(empty()).unwrap()));
    let mut upstream = gateway.upstream().await;
    upstream.read_head().await;
    upstream.send("HTTP/1.1 204 No Content\r\n\r\n").await;
    assert_eq!(response.await.unwrap().unwrap().status(), StatusCode::NO_CONTENT);

    let mut visitor = gateway.visit().await;
    visitor.send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n").await;
    let mut upstream = gateway.upstream().await;
    upstream.read_head().await;
    upstream.send("HTTP/1.1 204 No Content\r\n\r\n").await;
    assert!(visitor.read_head().await.starts_with("HTTP/1.1 204"));
}

#[tokio::test]
async fn policy_forwards_denies_and_answers() {
    let gateway = Setup::new(Protocol::Http1)
        .cloud(
            "front.test",
            "on_http_request: [{actions: [{type: forward-internal, config: {url: 'https://api.internal'}}]}]",
        )
        .cloud("shut.test", "on_http_request: [{actions: [{type: deny, config: {status_code: 451}}]}]")
        .cloud(
            "page.test",
            "on_http_request: [{actions: [{type: custom-response, config: {body: '{}', headers: {X-A: b}}}]}]",
        )
        .cloud("gone.test", "on_tcp_connect: [{actions: [{type: deny}]}]")
        .start()
        .await;
    let mut visitor = gateway.visit().await;
    visitor.send("GET / HTTP/1.1\r\nHost: shut.test\r\n\r\n").await;
    let (head, body) = visitor.read_response().await;
    assert!(head.starts_with("HTTP/1.1 451"), "{head}");
    assert_eq!((body.as_str(), header(&head, "ngrok-error-code")), ("", None));

    visitor.send("GET / HTTP/1.1\r\nHost: page.test\r\n\r\n").await;
    let (head, body) = visitor.read_response().await;
    assert_eq!((header(&head, "content-type"), header(&head, "x-a")), (Some("application/json"), Some("b")));
    assert_eq!(body, "{}");
    gateway.assert_no_upstream();

    visitor.send("GET / HTTP/1.1\r\nHost: front.test\r\n\r\n").await;
    let mut upstream = gateway.upstream().await;
    assert_eq!(header(&upstream.read_head().await, "host"), Some("front.test"));
    upstream.send("HTTP/1.1 204 No Content\r\n\r\n").await;
    visitor.read_head().await;

    visitor.send("GET / HTTP/1.1\r\nHost: gone.test\r\n\r\n").await;
    assert_eq!(visitor.read_to_end().await.unwrap(), "");
    gateway.assert_no_upstream();
}
