//! Connections that change their protocol.

use std::io::ErrorKind;

use adit_gateway::http::Protocol;

use crate::support::{Gateway, Peer, Setup, header, http1};
use tokio::io::AsyncWriteExt;

const ASK: &str = "GET /chat HTTP/1.1\r\nHost: app.test\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Key: x3JJHMbDL1EzLkh9GBhXDw==\r\nSec-WebSocket-Version: 13\r\n\r\n";
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                      Sec-WebSocket-Accept: HSmrc0sMlYUkAGmm5OPpG2HaGWk=\r\n\r\n";

async fn switched(gateway: &Gateway) -> (Peer, Peer) {
    let mut visitor = gateway.visit().await;
    visitor.send(ASK).await;
    let mut upstream = gateway.upstream().await;
    let head = upstream.read_head().await;
    assert_eq!((header(&head, "connection"), header(&head, "upgrade")), (Some("upgrade"), Some("websocket")));
    assert_eq!(header(&head, "sec-websocket-version"), Some("13"));
    upstream.send(SWITCH).await;
    let head = visitor.read_head().await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert_eq!((header(&head, "connection"), header(&head, "upgrade")), (Some("upgrade"), Some("websocket")));
    assert_eq!(header(&head, "sec-websocket-accept"), Some("HSmrc0sMlYUkAGmm5OPpG2HaGWk="));
    (visitor, upstream)
}

#[tokio::test]
async fn bytes_pass_raw_both_ways_and_each_side_ends_on_its_own() {
    let gateway = http1().await;
    let (mut visitor, mut upstream) = switched(&gateway).await;
    // Bytes that are no HTTP at all.
    for number in 0..20_u8 {
        visitor.send([0x81, number, b'\n']).await;
        assert_eq!(upstream.io_exact(3).await, [0x81, number, b'\n']);
        upstream.send([0, 0xff, number]).await;
        assert_eq!(visitor.io_exact(3).await, [0, 0xff, number]);
    }
    visitor.io.shutdown().await.unwrap();
    assert_eq!(upstream.read_to_end().await.unwrap(), "");
    upstream.send("after the visitor's end").await;
    drop(upstream);
    assert_eq!(visitor.read_to_end().await.unwrap(), "after the visitor's end");
}

#[tokio::test]
async fn bytes_right_behind_the_switch_are_not_lost() {
    let gateway = http1().await;
    let mut visitor = gateway.visit().await;
    visitor.send(ASK).await;
    let mut upstream = gateway.upstream().await;
    upstream.read_head().await;
    upstream.send(format!("{SWITCH}hello")).await;
    visitor.read_head().await;
    assert_eq!(visitor.read_exact(5).await, "hello");
}

#[tokio::test]
async fn abort_of_one_side_is_an_abort_at_the_other() {
    let gateway = http1().await;
    let (mut visitor, upstream) = switched(&gateway).await;
    upstream.reset();
    assert_eq!(visitor.read_to_end().await.unwrap_err().kind(), ErrorKind::ConnectionReset);

    let (visitor, mut upstream) = switched(&gateway).await;
    visitor.reset();
    upstream.wait_for_end().await;
}

#[tokio::test]
async fn refused_upgrade_is_an_ordinary_response_on_a_connection_that_goes_on() {
    let gateway = http1().await;
    let mut visitor = gateway.visit().await;
    visitor.send(ASK).await;
    let mut upstream = gateway.upstream().await;
    upstream.read_head().await;
    upstream.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno").await;
    let (head, body) = visitor.read_response().await;
    assert!(head.starts_with("HTTP/1.1 403"), "{head}");
    assert_eq!(body, "no");
    visitor.send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n").await;
    upstream.read_head().await;
    upstream.send("HTTP/1.1 204 No Content\r\n\r\n").await;
    assert!(visitor.read_head().await.starts_with("HTTP/1.1 204"));
}

#[tokio::test]
async fn switch_that_nobody_asked_for_is_a_bad_gateway() {
    let gateway = http1().await;
    for ask in ["GET / HTTP/1.1\r\nHost: app.test\r\n\r\n", &ASK.replace("websocket", "other")] {
        let mut visitor = gateway.visit().await;
        visitor.send(ask).await;
        let mut upstream = gateway.upstream().await;
        upstream.read_head().await;
        upstream.send(SWITCH).await;
        let (head, _) = visitor.read_response().await;
        assert!(head.starts_with("HTTP/1.1 502"), "{ask:?}: {head}");
    }
}

#[tokio::test]
async fn upgrade_to_more_http_is_not_offered_to_the_upstream() {
    let gateway = http1().await;
    let mut visitor = gateway.visit().await;
    visitor
        .send(
            "GET / HTTP/1.1\r\nHost: app.test\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
             HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n",
        )
        .await;
    let mut upstream = gateway.upstream().await;
    let head = upstream.read_head().await;
    for name in ["connection", "upgrade", "http2-settings"] {
        assert_eq!(header(&head, name), None, "{head}");
    }
}

/// What a policy says about responses holds for the one that begins another protocol, too.
#[tokio::test]
async fn rules_about_responses_see_the_switch() {
    let policy = "on_http_request: [{actions: [{type: forward-internal, config: {url: 'https://api.internal'}}]}]\n\
                  on_http_response: [{expressions: ['res.status_code == 101'], actions: [ACTION]}]";
    let ask = |host: &str| ASK.replace("app.test", host);
    let answer = "{type: custom-response, config: {status_code: 418, body: 'no switch'}}";
    let headers = "{type: add-headers, config: {headers: {x-seen: '101'}}}";
    let setup = Setup::new(Protocol::Http1)
        .cloud("strict.test", &policy.replace("ACTION", answer))
        .cloud("adds.test", &policy.replace("ACTION", headers));
    let gateway = setup.start().await;

    let mut visitor = gateway.visit().await;
    visitor.send(ask("strict.test")).await;
    let mut upstream = gateway.upstream().await;
    upstream.read_head().await;
    upstream.send(SWITCH).await;
    let (head, body) = visitor.read_response().await;
    assert!(head.starts_with("HTTP/1.1 418") && body == "no switch", "{head}{body}");
    // Nobody is on the upstream's line any more.
    upstream.wait_for_end().await;

    let mut visitor = gateway.visit().await;
    visitor.send(ask("adds.test")).await;
    let mut upstream = gateway.upstream().await;
    upstream.read_head().await;
    upstream.send(SWITCH).await;
    let head = visitor.read_head().await;
    assert!(head.starts_with("HTTP/1.1 101 ") && header(&head, "x-seen") == Some("101"), "{head}");
    visitor.send(b"raw").await;
    assert_eq!(upstream.io_exact(3).await, b"raw");
}

/// What comes behind the head is the request's body until it has ended: it must not be taken for another protocol.
#[tokio::test]
async fn request_with_a_body_is_offered_no_switch() {
    let gateway = http1().await;
    let mut visitor = gateway.visit().await;
    let ask = ASK.replace("\r\n\r\n", "\r\nContent-Length: 4\r\n\r\nbody").replace("GET", "POST");
    visitor.send(ask).await;
    let mut upstream = gateway.upstream().await;
    let head = upstream.read_head().await;
    assert_eq!((header(&head, "connection"), header(&head, "upgrade")), (None, None), "{head}");
    upstream.send(SWITCH).await;
    let (head, _) = visitor.read_response().await;
    assert!(head.starts_with("HTTP/1.1 502"), "{head}");
}
