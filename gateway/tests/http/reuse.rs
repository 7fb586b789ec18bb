//! Which requests share a proxy stream, and what happens when an idle one has died.

use std::sync::Arc;

use adit_gateway::http::Protocol;
use futures::future::join_all;
use http_body_util::BodyExt;
use hyper::Request;
use tokio::sync::Barrier;

use crate::support::{Peer, Setup, empty, http1};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn get(host: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")
}

async fn answer(upstream: &mut Peer, visitor: &mut Peer) {
    upstream.read_head().await;
    upstream.send(OK).await;
    assert_eq!(visitor.read_response().await.1, "ok");
}

#[tokio::test]
async fn next_request_of_the_same_connection_takes_the_same_stream() {
    let gateway = http1().await;
    let mut visitor = gateway.visit().await;
    visitor.send(get("app.test")).await;
    let mut upstream = gateway.upstream().await;
    answer(&mut upstream, &mut visitor).await;
    for _ in 0..3 {
        visitor.send(get("app.test")).await;
        answer(&mut upstream, &mut visitor).await;
    }
    gateway.assert_no_upstream();
}

#[tokio::test]
async fn another_endpoint_and_another_visitor_take_streams_of_their_own() {
    let gateway = http1().await;
    let mut visitor = gateway.visit().await;
    visitor.send(get("app.test")).await;
    let mut first = gateway.upstream().await;
    answer(&mut first, &mut visitor).await;

    visitor.send(get("other.test")).await;
    let mut second = gateway.upstream().await;
    answer(&mut second, &mut visitor).await;

    let mut stranger = gateway.visit().await;
    stranger.send(get("app.test")).await;
    let mut third = gateway.upstream().await;
    answer(&mut third, &mut stranger).await;
}

#[tokio::test]
async fn request_on_an_idle_stream_that_has_died_is_sent_again_once() {
    let gateway = http1().await;
    let mut visitor = gateway.visit().await;
    visitor.send(get("app.test")).await;
    let mut upstream = gateway.upstream().await;
    answer(&mut upstream, &mut visitor).await;
    // It takes the next request and then dies without a word.
    visitor.send(get("app.test")).await;
    upstream.read_head().await;
    drop(upstream);
    let mut upstream = gateway.upstream().await;
    upstream.read_head().await;
    drop(upstream);
    assert!(visitor.read_response().await.0.starts_with("HTTP/1.1 502"), "once is enough");
    gateway.assert_no_upstream();
}

#[tokio::test]
async fn request_that_may_have_had_an_effect_is_not_sent_again() {
    for request in [
        "POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 2\r\n\r\nhi",
        "PUT / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 2\r\n\r\nhi",
    ] {
        let gateway = http1().await;
        let mut visitor = gateway.visit().await;
        visitor.send(get("app.test")).await;
        let mut upstream = gateway.upstream().await;
        answer(&mut upstream, &mut visitor).await;
        visitor.send(request).await;
        upstream.read_head().await;
        drop(upstream);
        assert!(visitor.read_response().await.0.starts_with("HTTP/1.1 502"), "{request:?}");
        gateway.assert_no_upstream();
    }
}

#[tokio::test]
async fn request_that_was_answered_in_part_is_not_sent_again() {
    let gateway = http1().await;
    let mut visitor = gateway.visit().await;
    visitor.send(get("app.test")).await;
    let mut upstream = gateway.upstream().await;
    answer(&mut upstream, &mut visitor).await;
    visitor.send(get("app.test")).await;
    upstream.read_head().await;
    upstream.send("HTTP/1.1 20").await;
    drop(upstream);
    assert!(visitor.read_response().await.0.starts_with("HTTP/1.1 502"));
    gateway.assert_no_upstream();
}

#[tokio::test]
async fn stream_that_the_upstream_closes_is_not_used_again() {
    let gateway = http1().await;
    let mut visitor = gateway.visit().await;
    visitor.send(get("app.test")).await;
    let mut upstream = gateway.upstream().await;
    upstream.read_head().await;
    upstream.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok").await;
    assert_eq!(visitor.read_response().await.1, "ok");
    upstream.wait_for_end().await;
    visitor.send("POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 2\r\n\r\nhi").await;
    let mut upstream = gateway.upstream().await;
    upstream.read_until("hi").await;
}

#[tokio::test]
async fn idle_streams_end_with_the_visitors_connection() {
    let gateway = http1().await;
    let mut visitor = gateway.visit().await;
    visitor.send(get("app.test")).await;
    let mut upstream = gateway.upstream().await;
    answer(&mut upstream, &mut visitor).await;
    drop(visitor);
    assert_eq!(upstream.read_to_end().await.unwrap(), "", "it ends cleanly");
}

#[tokio::test]
async fn idle_streams_are_bounded() {
    const ROUND: usize = 12;
    let gateway = Arc::new(Setup::new(Protocol::Http2).start().await);
    let visitor = gateway.visit_http2().await;
    // No request of a round is answered before all of them have come, so each needs a stream of its own.
    let all_here = Arc::new(Barrier::new(ROUND));
    let acceptor = Arc::clone(&gateway);
    tokio::spawn(async move {
        loop {
            let mut upstream = acceptor.upstream().await;
            let all_here = Arc::clone(&all_here);
            tokio::spawn(async move {
                while upstream.try_read_head().await {
                    all_here.wait().await;
                    upstream.send(OK).await;
                }
            });
        }
    });
    // Eight of the first round's streams serve the second one.
    for opened in [ROUND, ROUND + ROUND - 8] {
        let requests = (0..ROUND).map(|_| {
            let mut visitor = visitor.clone();
            async move {
                let request = Request::get("https://app.test/").body(empty()).unwrap();
                visitor.send_request(request).await.unwrap().into_body().collect().await.unwrap();
            }
        });
        join_all(requests).await;
        assert_eq!(gateway.opened(), opened);
    }
}
