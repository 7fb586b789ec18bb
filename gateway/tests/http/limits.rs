//! Bounds on what a visitor may cost.

use std::time::Duration;

use adit_gateway::http::{Limits, Protocol};
use http_body_util::BodyExt;
use hyper::Request;

use crate::support::{Setup, empty, header};

const SHORT: Duration = Duration::from_millis(50);

#[tokio::test]
async fn head_at_the_bound_passes_and_a_longer_one_is_refused() {
    let limits = Limits { head_bytes_max: 8192, ..Limits::default() };
    let gateway = Setup::new(Protocol::Http1).limits(limits).start().await;
    let request = |length: usize| {
        let start = "GET / HTTP/1.1\r\nHost: app.test\r\nX: ";
        format!("{start}{}\r\n\r\n", "x".repeat(length - start.len() - "\r\n\r\n".len()))
    };
    let mut visitor = gateway.visit().await;
    visitor.send(request(8192)).await;
    let mut upstream = gateway.upstream().await;
    upstream.read_head().await;
    upstream.send("HTTP/1.1 204 No Content\r\n\r\n").await;
    assert!(visitor.read_head().await.starts_with("HTTP/1.1 204"));

    let mut visitor = gateway.visit().await;
    visitor.send(request(8193)).await;
    assert!(visitor.read_head().await.starts_with("HTTP/1.1 431"));
    gateway.assert_no_upstream();
}

#[tokio::test]
async fn head_that_does_not_come_closes_the_connection() {
    let limits = Limits { head_time: SHORT, ..Limits::default() };
    for protocol in [Protocol::Http1, Protocol::Http2, Protocol::Detect] {
        let gateway = Setup::new(protocol).limits(limits).start().await;
        for beginning in ["", "GE", "GET / HTTP/1.1\r\nHost: app.test\r\n"] {
            let mut visitor = gateway.visit().await;
            visitor.send(beginning).await;
            visitor.wait_for_end().await;
        }
        gateway.assert_no_upstream();
    }
}

#[tokio::test]
async fn second_head_has_its_own_time_from_its_first_byte() {
    let limits = Limits { head_time: SHORT, ..Limits::default() };
    let gateway = Setup::new(Protocol::Http1).limits(limits).start().await;
    let mut visitor = gateway.visit().await;
    visitor.send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n").await;
    let mut upstream = gateway.upstream().await;
    upstream.read_head().await;
    upstream.send("HTTP/1.1 204 No Content\r\n\r\n").await;
    visitor.read_head().await;
    visitor.send("GET / HTTP/1.1\r\nHo").await;
    visitor.wait_for_end().await;
    gateway.assert_no_upstream();
}

#[tokio::test]
async fn idle_connection_is_closed() {
    let limits = Limits { idle_time: SHORT, ..Limits::default() };
    let gateway = Setup::new(Protocol::Http1).limits(limits).start().await;
    let mut visitor = gateway.visit().await;
    visitor.send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n").await;
    let mut upstream = gateway.upstream().await;
    upstream.read_head().await;
    upstream.send("HTTP/1.1 204 No Content\r\n\r\n").await;
    visitor.read_head().await;
    assert_eq!(visitor.read_to_end().await.unwrap(), "");

    let gateway = Setup::new(Protocol::Http2).limits(limits).start().await;
    let mut visitor = gateway.visit_http2().await;
    let response = visitor.send_request(Request::get("https://nobody.test/").body(empty()).unwrap()).await.unwrap();
    response.into_body().collect().await.unwrap();
    while visitor.ready().await.is_ok() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn response_that_stands_still_is_cut() {
    let limits = Limits { idle_time: SHORT, ..Limits::default() };
    let gateway = Setup::new(Protocol::Http1).limits(limits).start().await;
    let mut visitor = gateway.visit().await;
    visitor.send("GET / HTTP/1.0\r\nHost: app.test\r\n\r\n").await;
    let mut upstream = gateway.upstream().await;
    upstream.read_head().await;
    upstream.send("HTTP/1.1 200 OK\r\n\r\npartial").await;
    visitor.read_until("partial").await;
    assert!(visitor.read_to_end().await.is_err(), "a cut must not look like an end");
    upstream.wait_for_end().await;
}

#[tokio::test]
async fn upgraded_connection_may_be_idle() {
    let limits = Limits { idle_time: SHORT, head_time: SHORT, first_byte_time: SHORT, ..Limits::default() };
    let gateway = Setup::new(Protocol::Http1).limits(limits).start().await;
    let mut visitor = gateway.visit().await;
    visitor.send("GET / HTTP/1.1\r\nHost: app.test\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n").await;
    let mut upstream = gateway.upstream().await;
    upstream.read_head().await;
    upstream.send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n").await;
    visitor.read_head().await;
    // Another connection lives and dies meanwhile, so that all of the limits have passed.
    let mut other = gateway.visit().await;
    other.wait_for_end().await;
    let mut other = gateway.visit().await;
    other.wait_for_end().await;
    visitor.send("still here").await;
    assert_eq!(upstream.read_exact(10).await, "still here");
}

#[tokio::test]
async fn draining_finishes_what_has_begun_and_closes() {
    let gateway = Setup::new(Protocol::Http1).start().await;
    let mut idle = gateway.visit().await;
    idle.send("GET / HTTP/1.1\r\nHost: nobody.test\r\n\r\n").await;
    idle.read_response().await;
    let mut visitor = gateway.visit().await;
    visitor.send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n").await;
    let mut upstream = gateway.upstream().await;
    upstream.read_head().await;
    gateway.drain();
    assert_eq!(idle.read_to_end().await.unwrap(), "");
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    let (head, body) = visitor.read_response().await;
    assert_eq!((header(&head, "connection"), body.as_str()), (Some("close"), "ok"));
    assert_eq!(visitor.read_to_end().await.unwrap(), "");
}
