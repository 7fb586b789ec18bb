//! Input that proxies and servers could read differently: refused, and never seen by an agent.

use adit_gateway::http::Protocol;
use hyper::Request;

use crate::support::{Setup, empty, http1};

/// Raw requests, each followed on the wire by one that must never be served.
const MALFORMED: &[&str] = &[
    // Two lengths.
    "POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 0\r\nContent-Length: 44\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 0, 0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: +0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 0x0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length : 0\r\n\r\n",
    // Codings.
    "POST / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: identity\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: xchunked\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.0\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    // Lines.
    "GET / HTTP/1.1\nHost: app.test\n\n",
    "GET / HTTP/1.1\r\nHost: app.test\r\nX: a\n\r\n",
    "GET / HTTP/1.1\r\nHost: app.test\r\nX: a\r\n b\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: app.test\r\nX: a\rY: b\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: app.test\r\nX: a\0b\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: app.test\r\n: a\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: app.test\r\nno colon\r\n\r\n",
    "GET  / HTTP/1.1\r\nHost: app.test\r\n\r\n",
    "GET /a b HTTP/1.1\r\nHost: app.test\r\n\r\n",
    "GET / HTTP/1.2\r\nHost: app.test\r\n\r\n",
    "GET / http/1.1\r\nHost: app.test\r\n\r\n",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    // Names.
    "GET / HTTP/1.1\r\nHost: app.test\r\nHost: other.test\r\n\r\n",
    "GET / HTTP/1.1\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: app.test/x\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: user@app.test\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: app.test:http\r\n\r\n",
];

/// Chunked bodies that are wrong behind a right head.
const MALFORMED_CHUNKS: &[&str] = &[
    "0x3\r\nabc\r\n0\r\n\r\n",
    " 3\r\nabc\r\n0\r\n\r\n",
    "3 \r\nabc\r\n0\r\n\r\n",
    "3\nabc\r\n0\r\n\r\n",
    "3\r\nabcd\r\n0\r\n\r\n",
    "3\r\nabc\n0\r\n\r\n",
    "3;x\ny\r\nabc\r\n0\r\n\r\n",
    "ffffffffffffffff1\r\nabc",
    "0\r\nContent-Length: 3\r\n\r\n",
    "0\r\nA: b\n\r\n",
];

const INNOCENT: &str = "GET /smuggled HTTP/1.1\r\nHost: app.test\r\n\r\n";

#[tokio::test]
async fn malformed_head_is_answered_with_400_and_nothing_behind_it_is_read() {
    let gateway = http1().await;
    for input in MALFORMED {
        let mut visitor = gateway.visit().await;
        visitor.send(format!("{input}{INNOCENT}")).await;
        let head = visitor.read_head().await;
        assert!(head.starts_with("HTTP/1.1 400"), "{input:?} was answered with {head}");
        // A reset is as good as an end here: the rest of the input was not read.
        let rest = visitor.read_to_end().await.unwrap_or_default();
        assert!(!rest.contains("HTTP/1.1 "), "{input:?}: {rest}");
        gateway.assert_no_upstream();
    }
}

#[tokio::test]
async fn malformed_chunks_abort_the_request_at_the_agent() {
    let gateway = http1().await;
    for chunks in MALFORMED_CHUNKS {
        let mut visitor = gateway.visit().await;
        visitor.send("POST / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n").await;
        let mut upstream = gateway.upstream().await;
        upstream.read_head().await;
        upstream.read_until("2\r\nok\r\n").await;
        visitor.send(format!("{chunks}{INNOCENT}")).await;
        let seen = upstream.read_to_end().await.unwrap_or_default();
        assert!(
            !seen.contains("0\r\n\r\n") && !seen.contains("smuggled"),
            "{chunks:?} reached the upstream as {seen:?}"
        );
        visitor.wait_for_end().await;
        gateway.assert_no_upstream();
    }
}

#[tokio::test]
async fn requests_in_a_row_are_kept_apart() {
    let gateway = http1().await;
    let mut visitor = gateway.visit().await;
    let inner = "GET /inner HTTP/1.1\r\nHost: app.test\r\n\r\n";
    visitor
        .send(format!(
            "POST /one HTTP/1.1\r\nHost: app.test\r\nContent-Length: {}\r\n\r\n{inner}{INNOCENT}",
            inner.len()
        ))
        .await;
    let mut upstream = gateway.upstream().await;
    assert!(upstream.read_head().await.starts_with("POST /one "));
    assert_eq!(upstream.read_exact(inner.len()).await, inner);
    upstream.send("HTTP/1.1 204 No Content\r\n\r\n").await;
    visitor.read_head().await;
    assert!(upstream.read_head().await.starts_with("GET /smuggled "));
    upstream.send("HTTP/1.1 204 No Content\r\n\r\n").await;
    visitor.read_head().await;
}

#[tokio::test]
async fn trace_and_connect_are_not_passed_on() {
    let gateway = http1().await;
    for line in ["TRACE / HTTP/1.1", "CONNECT app.test:443 HTTP/1.1"] {
        let mut visitor = gateway.visit().await;
        visitor.send(format!("{line}\r\nHost: app.test\r\n\r\n")).await;
        let head = visitor.read_head().await;
        assert!(head.starts_with("HTTP/1.1 405"), "{line}: {head}");
        gateway.assert_no_upstream();
    }
}

#[tokio::test]
async fn http2_request_with_two_names_is_refused() {
    let gateway = Setup::new(Protocol::Http2).start().await;
    let mut visitor = gateway.visit_http2().await;
    let request = Request::get("https://app.test/").header("host", "other.test").body(empty()).unwrap();
    let response = visitor.send_request(request).await.unwrap();
    assert_eq!(response.status(), 400);
    gateway.assert_no_upstream();
}
