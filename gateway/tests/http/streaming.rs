//! Nothing waits for the end of anything: events, trailers, concurrency, and bodies that break off.

use std::io::ErrorKind;

use adit_gateway::http::Protocol;
use bytes::Bytes;
use futures::FutureExt;
use futures::future::join_all;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use hyper::{HeaderMap, Request};

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::{PATIENCE, Peer, Setup, empty, header, http1};

#[tokio::test]
async fn event_arrives_before_the_upstream_may_send_the_next_one() {
    let gateway = http1().await;
    let mut visitor = gateway.visit().await;
    visitor.send("GET /events HTTP/1.1\r\nHost: app.test\r\nAccept: text/event-stream\r\n\r\n").await;
    let mut upstream = gateway.upstream().await;
    upstream.read_head().await;
    upstream.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    assert_eq!(header(&visitor.read_head().await, "content-type"), Some("text/event-stream"));
    for number in 0..20 {
        // The next one is sent only after this one has arrived.
        upstream.send(format!("9\r\ndata: {number:02}\n\r\n")).await;
        visitor.read_until(&format!("data: {number:02}\n")).await;
    }
}

#[tokio::test]
async fn event_arrives_over_http2_before_the_upstream_may_send_the_next_one() {
    let gateway = Setup::new(Protocol::Http2).start().await;
    let mut visitor = gateway.visit_http2().await;
    let response = tokio::spawn(visitor.send_request(Request::get("https://app.test/events").body(empty()).unwrap()));
    let mut upstream = gateway.upstream().await;
    upstream.read_head().await;
    upstream.send("HTTP/1.1 200 OK\r\n\r\n").await;
    let mut body = response.await.unwrap().unwrap().into_body();
    for number in 0..20 {
        upstream.send(format!("data: {number}\n\n")).await;
        let frame = tokio::time::timeout(PATIENCE, body.frame()).await.unwrap().unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), format!("data: {number}\n\n"));
    }
}

#[tokio::test]
async fn upload_is_passed_on_as_it_comes() {
    let gateway = http1().await;
    let mut visitor = gateway.visit().await;
    visitor.send("POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 20\r\n\r\n").await;
    let mut upstream = gateway.upstream().await;
    upstream.read_head().await;
    for number in 0..20 {
        visitor.send([b'a' + number]).await;
        assert_eq!(upstream.read_exact(1).await.as_bytes(), [b'a' + number]);
    }
    upstream.send("HTTP/1.1 204 No Content\r\n\r\n").await;
    visitor.read_head().await;
}

/// Answers with what it reads, while it reads.
async fn echo(upstream: Peer) {
    let (mut read, mut write) = upstream.into_split();
    write.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await.unwrap();
    tokio::io::copy(&mut read, &mut write).await.unwrap();
}

fn low_byte(number: usize) -> u8 {
    number.to_le_bytes()[0]
}

#[tokio::test]
async fn large_bodies_pass_both_ways_at_once() {
    const PIECES: usize = 256;
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let gateway = Setup::new(protocol).start().await;
        let pieces = (0..PIECES).map(|number| Ok(Frame::data(Bytes::from(vec![low_byte(number); 64 * 1024]))));
        let body = BodyExt::boxed(StreamBody::new(futures::stream::iter(pieces)));
        let request = Request::post("http://app.test/").header("host", "app.test").body(body).unwrap();
        let response = match protocol {
            Protocol::Http2 => tokio::spawn(gateway.visit_http2().await.send_request(request)),
            Protocol::Http1 | Protocol::Detect => tokio::spawn(gateway.visit_http1().await.send_request(request)),
        };
        let mut upstream = gateway.upstream().await;
        upstream.read_head().await;
        // The chunks of the request are those of the response, to the last one.
        let echo = tokio::spawn(echo(upstream));
        let mut body = response.await.unwrap().unwrap().into_body();
        let mut received = 0;
        while let Some(frame) = body.frame().await {
            let data = frame.unwrap().into_data().unwrap();
            assert!(data.iter().enumerate().all(|(at, byte)| *byte == low_byte((received + at) / (64 * 1024))));
            received += data.len();
        }
        assert_eq!(received, PIECES * 64 * 1024);
        echo.abort();
    }
}

#[tokio::test]
async fn trailers_pass_in_both_directions_without_forged_errors() {
    let gateway = http1().await;
    let mut visitor = gateway.visit().await;
    visitor
        .send(
            "POST / HTTP/1.1\r\nHost: app.test\r\nTE: trailers\r\nTrailer: Sum\r\nTransfer-Encoding: chunked\r\n\r\n\
             2\r\nhi\r\n0\r\nSum: 7\r\n\r\n",
        )
        .await;
    let mut upstream = gateway.upstream().await;
    let head = upstream.read_head().await;
    assert_eq!((header(&head, "te"), header(&head, "trailer")), (Some("trailers"), Some("Sum")));
    assert_eq!(upstream.read_until("\r\n\r\n").await.to_lowercase(), "2\r\nhi\r\n0\r\nsum: 7\r\n\r\n");
    upstream
        .send(
            "HTTP/1.1 200 OK\r\nTrailer: Sum, Ngrok-Error-Code\r\nTransfer-Encoding: chunked\r\n\r\n\
             2\r\nho\r\n0\r\nSum: 8\r\nNgrok-Error-Code: ERR_NGROK_3200\r\n\r\n",
        )
        .await;
    visitor.read_head().await;
    assert_eq!(visitor.read_until("\r\n\r\n").await.to_lowercase(), "2\r\nho\r\n0\r\nsum: 8\r\n\r\n");
}

#[tokio::test]
async fn trailers_pass_over_http2_without_forged_errors() {
    let gateway = Setup::new(Protocol::Http2).start().await;
    let mut visitor = gateway.visit_http2().await;
    let frames = [
        Ok(Frame::data(Bytes::from("hi"))),
        Ok(Frame::trailers(HeaderMap::from_iter([("sum".parse().unwrap(), "7".parse().unwrap())]))),
    ];
    let body = BodyExt::boxed(StreamBody::new(futures::stream::iter(frames)));
    let request = Request::post("https://app.test/").header("trailer", "sum").body(body).unwrap();
    let response = tokio::spawn(visitor.send_request(request));
    let mut upstream = gateway.upstream().await;
    upstream.read_head().await;
    assert_eq!(upstream.read_until("\r\n\r\n").await.to_lowercase(), "2\r\nhi\r\n0\r\nsum: 7\r\n\r\n");
    upstream
        .send(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nho\r\n0\r\nSum: 8\r\n\
             Adit-Error-Code: ERR_NGROK_3200\r\n\r\n",
        )
        .await;
    let collected = response.await.unwrap().unwrap().into_body().collect().await.unwrap();
    let trailers = collected.trailers().unwrap();
    assert_eq!(trailers["sum"], "8");
    assert!(!trailers.contains_key("adit-error-code"));
}

#[tokio::test]
async fn hundred_http2_requests_are_under_way_at_once_each_on_its_own_stream() {
    let gateway = Setup::new(Protocol::Http2).start().await;
    let visitor = gateway.visit_http2().await;
    let requests = (0..100).map(|number| {
        let mut visitor = visitor.clone();
        tokio::spawn(async move {
            let request = Request::get(format!("https://app.test/{number}")).body(empty()).unwrap();
            let response = visitor.send_request(request).await.unwrap();
            (number, response.into_body().collect().await.unwrap().to_bytes())
        })
    });
    let requests: Vec<_> = requests.collect();
    // None is answered before all have come.
    let mut upstreams = Vec::new();
    for _ in 0..100 {
        let mut upstream = gateway.upstream().await;
        let head = upstream.read_head().await;
        upstreams.push((upstream, head));
    }
    for (upstream, head) in &mut upstreams {
        let path = head.split(' ').nth(1).unwrap();
        upstream.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{path}", path.len())).await;
    }
    for answer in join_all(requests).await {
        let (number, body) = answer.unwrap();
        assert_eq!(body, format!("/{number}"));
    }
}

#[tokio::test]
async fn response_that_breaks_off_never_ends_cleanly() {
    let gateway = http1().await;
    for (head, sent) in [
        ("Content-Length: 100\r\n\r\n", "partial"),
        ("Transfer-Encoding: chunked\r\n\r\n", "7\r\npartial\r\n"),
        ("Transfer-Encoding: chunked\r\n\r\n", "64\r\npartial"),
    ] {
        let mut visitor = gateway.visit().await;
        visitor.send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n").await;
        let mut upstream = gateway.upstream().await;
        upstream.read_head().await;
        upstream.send(format!("HTTP/1.1 200 OK\r\n{head}{sent}")).await;
        visitor.read_head().await;
        visitor.read_until("partial").await;
        drop(upstream);
        // The connection ends without the end of the body.
        let rest = visitor.read_to_end().await.unwrap_or_default();
        assert!(!rest.contains("0\r\n\r\n"), "{head:?}: {rest:?}");
    }
}

#[tokio::test]
async fn response_without_length_that_is_reset_never_ends_cleanly() {
    let gateway = http1().await;
    let mut visitor = gateway.visit().await;
    visitor.send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n").await;
    let mut upstream = gateway.upstream().await;
    upstream.read_head().await;
    upstream.send("HTTP/1.1 200 OK\r\n\r\npartial").await;
    visitor.read_until("partial").await;
    upstream.reset();
    let rest = visitor.read_to_end().await.unwrap_or_default();
    assert!(!rest.contains("0\r\n\r\n"), "{rest:?}");
}

#[tokio::test]
async fn http10_visitor_of_a_response_that_breaks_off_sees_a_reset() {
    let gateway = http1().await;
    let mut visitor = gateway.visit().await;
    visitor.send("GET / HTTP/1.0\r\nHost: app.test\r\n\r\n").await;
    let mut upstream = gateway.upstream().await;
    upstream.read_head().await;
    upstream.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n7\r\npartial\r\n").await;
    visitor.read_until("partial").await;
    drop(upstream);
    // For this visitor the end of the connection is the end of the body.
    assert_eq!(visitor.read_to_end().await.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn http2_response_that_breaks_off_is_an_error_and_spares_the_others() {
    let gateway = Setup::new(Protocol::Http2).start().await;
    let mut visitor = gateway.visit_http2().await;
    let request = |path: &str| Request::get(format!("https://app.test{path}")).body(empty()).unwrap();
    let broken = tokio::spawn(visitor.send_request(request("/broken")));
    let mut upstream = gateway.upstream().await;
    upstream.read_head().await;
    let whole = tokio::spawn(visitor.send_request(request("/whole")));
    let mut other = gateway.upstream().await;
    other.read_head().await;
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npartial").await;
    drop(upstream);
    let error = broken.await.unwrap().unwrap().into_body().collect().await.unwrap_err();
    assert!(!error.is_canceled(), "{error:?}");
    other.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    assert_eq!(whole.await.unwrap().unwrap().into_body().collect().await.unwrap().to_bytes(), "ok");
}

#[tokio::test]
async fn visitor_that_goes_is_seen_by_the_upstream_at_once() {
    let gateway = http1().await;
    // While the upstream thinks about its answer.
    let mut visitor = gateway.visit().await;
    visitor.send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n").await;
    let mut upstream = gateway.upstream().await;
    upstream.read_head().await;
    visitor.reset();
    upstream.wait_for_end().await;

    // While the answer is under way.
    let mut visitor = gateway.visit().await;
    visitor.send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n").await;
    let mut upstream = gateway.upstream().await;
    upstream.read_head().await;
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npartial").await;
    visitor.read_until("partial").await;
    visitor.reset();
    upstream.wait_for_end().await;

    // In the middle of an upload.
    let mut visitor = gateway.visit().await;
    visitor.send("POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 100\r\n\r\npartial").await;
    let mut upstream = gateway.upstream().await;
    upstream.read_until("partial").await;
    drop(visitor);
    upstream.wait_for_end().await;
}

#[tokio::test]
async fn http2_visitor_that_cancels_is_seen_by_the_upstream_at_once() {
    let gateway = Setup::new(Protocol::Http2).start().await;
    let mut visitor = gateway.visit_http2().await;
    let request = || Request::get("https://app.test/").body(empty()).unwrap();
    let waiting = tokio::spawn(visitor.send_request(request()));
    let mut upstream = gateway.upstream().await;
    upstream.read_head().await;
    waiting.abort();
    upstream.wait_for_end().await;

    let reading = tokio::spawn(visitor.send_request(request()));
    let mut upstream = gateway.upstream().await;
    upstream.read_head().await;
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npartial").await;
    drop(reading.await.unwrap().unwrap());
    upstream.wait_for_end().await;

    let (sender, frames) = futures::channel::mpsc::unbounded();
    let body = StreamBody::new(frames);
    let upload =
        tokio::spawn(visitor.send_request(Request::post("https://app.test/").body(BodyExt::boxed(body)).unwrap()));
    sender.unbounded_send(Ok(Frame::data(Bytes::from("partial")))).unwrap();
    let mut upstream = gateway.upstream().await;
    upstream.read_until("partial").await;
    upload.abort();
    drop(sender);
    let seen = upstream.read_to_end().await.unwrap_or_default();
    assert!(!seen.contains("0\r\n\r\n"), "a cancelled upload must not look complete: {seen:?}");
}

/// What comes until the response has ended.
async fn rest(response: &mut h2::RecvStream) -> String {
    let mut rest = String::new();
    while let Some(piece) = tokio::time::timeout(PATIENCE, response.data()).await.unwrap() {
        rest.push_str(std::str::from_utf8(&piece.unwrap()).unwrap());
    }
    rest
}

/// What an HTTP/2 visitor sees whose upload of five bytes ends with a frame of its own, behind the answer.
async fn upload_with_a_late_end(answer: &str, body: &str) {
    let gateway = Setup::new(Protocol::Http2).start().await;
    let io = TcpStream::connect(gateway.address).await.unwrap();
    let (mut visitor, connection) = h2::client::handshake(io).await.unwrap();
    tokio::spawn(connection);
    let request = Request::post("https://app.test/").header("content-length", "5").body(()).unwrap();
    let (response, mut upload) = visitor.send_request(request, false).unwrap();
    upload.send_data(Bytes::from("hello"), false).unwrap();
    let mut upstream = gateway.upstream().await;
    upstream.read_until("hello").await;
    upstream.send(format!("HTTP/1.1 200 OK\r\n{answer}\r\n\r\n{body}")).await;
    let mut response = response.await.unwrap().into_body();
    if !body.is_empty() {
        assert_eq!(response.data().await.unwrap().unwrap(), body);
    }
    upload.send_data(Bytes::new(), true).unwrap();
    assert_eq!(rest(&mut response).await, "", "{answer}");
    // What the gateway had to say about the first stream stands in front of this answer.
    let request = Request::get("https://app.test/").body(()).unwrap();
    let second = visitor.send_request(request, true).unwrap().0;
    upstream.read_head().await;
    upstream.send("HTTP/1.1 204 No Content\r\n\r\n").await;
    assert_eq!(second.await.unwrap().status(), 204);
    let reset = futures::future::poll_fn(|cx| upload.poll_reset(cx)).now_or_never();
    assert!(reset.is_none(), "{answer}: the upload was reset: {reset:?}");
}

#[tokio::test]
async fn http2_response_does_not_end_before_an_upload_that_lacks_only_its_end() {
    upload_with_a_late_end("Content-Length: 2", "ok").await;
    upload_with_a_late_end("Content-Length: 0", "").await;
}

#[tokio::test]
async fn http2_response_does_not_wait_for_ever_for_the_end_of_an_upload() {
    let gateway = Setup::new(Protocol::Http2).start().await;
    let io = TcpStream::connect(gateway.address).await.unwrap();
    let (mut visitor, connection) = h2::client::handshake(io).await.unwrap();
    tokio::spawn(connection);
    let request = Request::post("https://app.test/").header("content-length", "5").body(()).unwrap();
    let (response, mut upload) = visitor.send_request(request, false).unwrap();
    upload.send_data(Bytes::from("hello"), false).unwrap();
    let mut upstream = gateway.upstream().await;
    upstream.read_until("hello").await;
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    let mut response = response.await.unwrap().into_body();
    assert_eq!(response.data().await.unwrap().unwrap(), "ok");
    assert_eq!(rest(&mut response).await, "");
}

#[tokio::test]
async fn early_answer_to_a_large_upload_arrives() {
    let gateway = http1().await;
    let mut visitor = gateway.visit().await;
    visitor.send("POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 1000000\r\n\r\nbeginning").await;
    let mut upstream = gateway.upstream().await;
    upstream.read_until("beginning").await;
    upstream.send("HTTP/1.1 413 Payload Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig").await;
    let (head, body) = visitor.read_response().await;
    assert!(head.starts_with("HTTP/1.1 413"), "{head}");
    assert_eq!(body, "big");
    drop(upstream);
    visitor.wait_for_end().await;
}

#[tokio::test]
async fn body_is_asked_for_only_when_the_upstream_wants_it() {
    let gateway = http1().await;
    let request = "POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";
    let mut visitor = gateway.visit().await;
    visitor.send(request).await;
    let mut upstream = gateway.upstream().await;
    let head = upstream.read_head().await;
    assert_eq!(header(&head, "expect"), Some("100-continue"));
    upstream.send("HTTP/1.1 100 Continue\r\n\r\n").await;
    assert_eq!(visitor.read_head().await, "HTTP/1.1 100 Continue\r\n\r\n");
    visitor.send("hello").await;
    assert_eq!(upstream.read_exact(5).await, "hello");
    upstream.send("HTTP/1.1 204 No Content\r\n\r\n").await;
    assert!(visitor.read_head().await.starts_with("HTTP/1.1 204"));

    let mut visitor = gateway.visit().await;
    visitor.send(request).await;
    let mut upstream = gateway.upstream().await;
    upstream.read_head().await;
    upstream.send("HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n").await;
    assert!(visitor.read_head().await.starts_with("HTTP/1.1 401"), "the body was asked for in vain");
}

#[tokio::test]
async fn body_is_asked_for_after_a_while_if_the_upstream_says_nothing() {
    let gateway = http1().await;
    let mut visitor = gateway.visit().await;
    visitor.send("POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n").await;
    let mut upstream = gateway.upstream().await;
    upstream.read_head().await;
    assert_eq!(visitor.read_head().await, "HTTP/1.1 100 Continue\r\n\r\n");
    visitor.send("hello").await;
    assert_eq!(upstream.read_exact(5).await, "hello");
}
