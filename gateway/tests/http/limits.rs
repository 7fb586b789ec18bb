//! Bounds on what a visitor may cost.

use std::time::Duration;

use adit_gateway::http::{Limits, Protocol};
use futures::future::join_all;
use http_body_util::BodyExt;
use hyper::Request;

use crate::support::{Setup, empty, header};

/// Long enough for a test that is busy on a slow machine, and all that waiting is done side by side.
const SHORT: Duration = Duration::from_millis(500);

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
    let protocols = [Protocol::Http1, Protocol::Http2, Protocol::Detect].map(|protocol| async move {
        let gateway = Setup::new(protocol).limits(limits).start().await;
        let gateway = &gateway;
        let visits = ["", "GE", "GET / HTTP/1.1\r\nHost: app.test\r\n"].map(|beginning| async move {
            let mut visitor = gateway.visit().await;
            visitor.send(beginning).await;
            visitor.wait_for_end().await;
        });
        join_all(visits).await;
        gateway.assert_no_upstream();
    });
    join_all(protocols).await;
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
async fn http2_response_that_stands_still_is_aborted_while_others_go_on() {
    let limits = Limits { idle_time: SHORT, ..Limits::default() };
    let gateway = Setup::new(Protocol::Http2).limits(limits).start().await;
    let mut visitor = gateway.visit_http2().await;
    let request = || Request::get("https://app.test/").body(empty()).unwrap();
    let still = tokio::spawn(visitor.send_request(request()));
    let mut still_upstream = gateway.upstream().await;
    still_upstream.read_head().await;
    still_upstream.send("HTTP/1.1 200 OK\r\n\r\npartial").await;
    let mut still = still.await.unwrap().unwrap().into_body();
    still.frame().await.unwrap().unwrap();

    let busy = tokio::spawn(visitor.send_request(request()));
    let mut busy_upstream = gateway.upstream().await;
    busy_upstream.read_head().await;
    busy_upstream.send("HTTP/1.1 200 OK\r\n\r\n").await;
    let mut busy = busy.await.unwrap().unwrap().into_body();
    let mut ended = tokio::spawn(async move { still_upstream.wait_for_end().await });
    while !ended.is_finished() {
        busy_upstream.send("x").await;
        busy.frame().await.unwrap().unwrap();
        tokio::task::yield_now().await;
    }
    (&mut ended).await.unwrap();
    assert!(still.frame().await.unwrap().is_err(), "it must not look like an end");
    busy_upstream.send("y").await;
    assert_eq!(busy.frame().await.unwrap().unwrap().into_data().unwrap(), "y");
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
