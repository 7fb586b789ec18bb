//! Actions of policies that take part in how a request and its response travel.

use std::io::Read;

use adit_gateway::http::Protocol;
use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::{Request, Response};

use crate::support::{Agent, Gateway, PATIENCE, Setup, empty, header};

const FORWARD: &str = "{actions: [{type: forward-internal, config: {url: 'https://api.internal'}}]}";

fn cloud(protocol: Protocol, request: &str, response: &str) -> Setup {
    let policy = format!("{{on_http_request: [{request}{FORWARD}], on_http_response: [{response}]}}");
    Setup::new(protocol).cloud("cloud.test", &policy)
}

const COMPRESS: &str = "{actions: [{type: compress-response}]}";

fn get(path: &str, accept: &str) -> Request<BoxBody<Bytes, hyper::Error>> {
    let request = Request::get(path).header("host", "cloud.test").header("accept-encoding", accept);
    request.body(empty()).unwrap()
}

fn unpacked(coding: &str, bytes: &[u8]) -> String {
    let mut out = String::new();
    match coding {
        "gzip" => flate2::read::GzDecoder::new(bytes).read_to_string(&mut out).unwrap(),
        "deflate" => flate2::read::ZlibDecoder::new(bytes).read_to_string(&mut out).unwrap(),
        "br" => brotli::Decompressor::new(bytes, 4096).read_to_string(&mut out).unwrap(),
        other => panic!("{other}"),
    };
    out
}

async fn answered(gateway: &Gateway, head: &str, body: impl AsRef<[u8]>) {
    let mut upstream = gateway.upstream().await;
    upstream.read_head().await;
    upstream.send(head).await;
    upstream.send(body).await;
}

async fn ask(gateway: &Gateway, request: Request<BoxBody<Bytes, hyper::Error>>) -> Response<Incoming> {
    let mut visitor = gateway.visit_http1().await;
    let asked = tokio::spawn(async move { visitor.send_request(request).await });
    answered(gateway, "HTTP/1.1 200 OK\r\nContent-Length: 6000\r\nETag: \"a\"\r\n\r\n", "abcdef".repeat(1000)).await;
    asked.await.unwrap().unwrap()
}

#[tokio::test]
async fn body_is_compressed_as_the_visitor_likes_it() {
    let gateway = cloud(Protocol::Http1, "", COMPRESS).start().await;
    for coding in ["gzip", "deflate", "br"] {
        let response = ask(&gateway, get("/", coding)).await;
        let headers = response.headers();
        assert_eq!(headers["content-encoding"], coding);
        assert_eq!(
            (&headers["vary"], &headers["etag"]),
            (&"Accept-Encoding".parse().unwrap(), &"W/\"a\"".parse().unwrap())
        );
        assert!(!headers.contains_key("content-length"));
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert!(body.len() < 200, "{coding}: {}", body.len());
        assert_eq!(unpacked(coding, &body), "abcdef".repeat(1000), "{coding}");
    }
    let response = ask(&gateway, get("/", "zstd")).await;
    assert_eq!(
        (&response.headers()["content-length"], &response.headers()["etag"]),
        (&"6000".parse().unwrap(), &"\"a\"".parse().unwrap())
    );
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "abcdef".repeat(1000));
}

#[tokio::test]
async fn compressed_event_arrives_before_the_upstream_may_send_the_next_one() {
    for coding in ["gzip", "deflate", "br"] {
        let gateway = cloud(Protocol::Http2, "", COMPRESS).start().await;
        let mut visitor = gateway.visit_http2().await;
        let request =
            Request::get("https://cloud.test/events").header("accept-encoding", coding).body(empty()).unwrap();
        let response = tokio::spawn(visitor.send_request(request));
        let mut upstream = gateway.upstream().await;
        upstream.read_head().await;
        upstream.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n").await;
        let response = response.await.unwrap().unwrap();
        assert_eq!(response.headers()["content-encoding"], coding);
        let (mut body, mut received, mut expected) = (response.into_body(), Vec::new(), String::new());
        for number in 0..20 {
            upstream.send(format!("data: {number}\n\n")).await;
            expected.push_str(&format!("data: {number}\n\n"));
            while partly_unpacked(coding, &received) != expected {
                let frame = tokio::time::timeout(PATIENCE, body.frame()).await.unwrap().unwrap().unwrap();
                received.extend_from_slice(&frame.into_data().unwrap());
            }
        }
        drop(upstream);
        received.extend_from_slice(&body.collect().await.unwrap().to_bytes());
        assert_eq!(unpacked(coding, &received), expected);
    }
}

/// As much as can be read of what has not ended.
fn partly_unpacked(coding: &str, bytes: &[u8]) -> String {
    let mut reader: Box<dyn Read> = match coding {
        "gzip" => Box::new(flate2::read::GzDecoder::new(bytes)),
        "deflate" => Box::new(flate2::read::ZlibDecoder::new(bytes)),
        _ => Box::new(brotli::Decompressor::new(bytes, 4096)),
    };
    let (mut out, mut byte) = (Vec::new(), [0]);
    while let Ok(1) = reader.read(&mut byte) {
        out.push(byte[0]);
    }
    String::from_utf8(out).unwrap()
}

#[tokio::test]
async fn compressed_body_that_breaks_off_has_no_end() {
    let gateway = cloud(Protocol::Http1, "", COMPRESS).start().await;
    let mut visitor = gateway.visit_http1().await;
    let asked = tokio::spawn(async move { visitor.send_request(get("/", "gzip")).await });
    let mut upstream = gateway.upstream().await;
    upstream.read_head().await;
    upstream.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n").await;
    let response = asked.await.unwrap().unwrap();
    assert_eq!(response.headers()["content-encoding"], "gzip");
    drop(upstream);
    assert!(response.into_body().collect().await.is_err());
}

#[tokio::test]
async fn head_is_the_same_without_a_body() {
    let gateway = cloud(Protocol::Http1, "", COMPRESS).start().await;
    let mut visitor = gateway.visit().await;
    visitor.send("HEAD / HTTP/1.1\r\nHost: cloud.test\r\nAccept-Encoding: gzip\r\n\r\n").await;
    answered(&gateway, "HTTP/1.1 200 OK\r\nContent-Length: 6000\r\n\r\n", "").await;
    let head = visitor.read_head().await;
    assert_eq!((header(&head, "content-encoding"), header(&head, "vary")), (Some("gzip"), Some("Accept-Encoding")));
    assert_eq!(header(&head, "content-length"), None);
    // The connection goes on with the next request: no body was waited for or sent.
    visitor.send("GET / HTTP/1.1\r\nHost: nowhere.test\r\n\r\n").await;
    assert!(visitor.read_head().await.starts_with("HTTP/1.1 503"));
}

#[tokio::test]
async fn response_of_the_policy_itself_is_compressed_too() {
    let body = "x".repeat(5000);
    let rules = format!("{{actions: [{{type: custom-response, config: {{body: '{body}'}}}}]}}");
    let policy = format!("{{on_http_request: [{rules}], on_http_response: [{COMPRESS}]}}");
    let gateway = Setup::new(Protocol::Http1).cloud("cloud.test", &policy).start().await;
    let mut visitor = gateway.visit_http1().await;
    let response = visitor.send_request(get("/", "br")).await.unwrap();
    assert_eq!(response.headers()["content-encoding"], "br");
    let compressed = response.into_body().collect().await.unwrap().to_bytes();
    assert!(compressed.len() < 100);
    assert_eq!(unpacked("br", &compressed), body);
}

#[tokio::test]
async fn upgrade_and_what_is_compressed_already_pass_as_they_are() {
    let gateway = cloud(Protocol::Http1, "", COMPRESS).start().await;
    let mut visitor = gateway.visit().await;
    visitor.send("GET / HTTP/1.1\r\nHost: cloud.test\r\nAccept-Encoding: gzip\r\n\r\n").await;
    answered(&gateway, "HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 3\r\n\r\n", "abc").await;
    let (head, body) = visitor.read_response().await;
    assert_eq!((header(&head, "content-encoding"), body.as_str()), (Some("br"), "abc"));

    let mut visitor = gateway.visit().await;
    let upgrade = "Connection: upgrade\r\nUpgrade: websocket\r\n";
    visitor.send(format!("GET / HTTP/1.1\r\nHost: cloud.test\r\nAccept-Encoding: gzip\r\n{upgrade}\r\n")).await;
    let mut upstream = gateway.upstream().await;
    upstream.read_head().await;
    upstream.send(format!("HTTP/1.1 101 Switching Protocols\r\n{upgrade}\r\n")).await;
    let head = visitor.read_head().await;
    assert!(head.starts_with("HTTP/1.1 101") && header(&head, "content-encoding").is_none(), "{head}");
    upstream.send("hello").await;
    assert_eq!(visitor.read_exact(5).await, "hello");
}

const BREAKER: &str =
    "{actions: [{type: circuit-breaker, config: {error_threshold: 1, volume_threshold: 2, tripped_duration: 2m}}]}, ";

async fn status(gateway: &Gateway) -> (u16, String) {
    let mut visitor = gateway.visit().await;
    visitor.send("GET / HTTP/1.1\r\nHost: cloud.test\r\nConnection: close\r\n\r\n").await;
    let head = visitor.read_head().await;
    (head[9..12].parse().unwrap(), header(&head, "ngrok-error-code").unwrap_or_default().to_owned())
}

#[tokio::test]
async fn service_that_fails_too_often_gets_no_more_requests() {
    let gateway = cloud(Protocol::Http1, BREAKER, "").start().await;
    for _ in 0..2 {
        let asked = status(&gateway);
        let failing = answered(&gateway, "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n", "");
        assert_eq!(tokio::join!(asked, failing).0, (500, String::new()));
    }
    assert_eq!(status(&gateway).await, (503, "ERR_NGROK_3202".into()));
    assert_eq!(gateway.opened(), 2);
}

#[tokio::test]
async fn what_the_visitor_does_wrong_is_no_failure_of_the_service() {
    let gateway = cloud(Protocol::Http1, BREAKER, "").start().await;
    for _ in 0..4 {
        let asked = status(&gateway);
        let answered = answered(&gateway, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "");
        assert_eq!(tokio::join!(asked, answered).0, (404, String::new()));
    }
}

#[tokio::test]
async fn agent_that_does_not_reach_its_service_trips_the_breaker() {
    let gateway = cloud(Protocol::Http1, BREAKER, "").agent(Agent::Refused).start().await;
    for _ in 0..2 {
        assert_eq!(status(&gateway).await, (502, "ERR_NGROK_8012".into()));
    }
    assert_eq!(status(&gateway).await, (503, "ERR_NGROK_3202".into()));
    let offline = BREAKER.to_owned() + "{actions: [{type: forward-internal, config: {url: 'https://gone.internal'}}]}";
    let policy = format!("on_http_request: [{offline}]");
    let gateway = Setup::new(Protocol::Http1).cloud("cloud.test", &policy).start().await;
    for _ in 0..2 {
        assert_eq!(status(&gateway).await, (503, "ERR_NGROK_3200".into()));
    }
    assert_eq!(status(&gateway).await, (503, "ERR_NGROK_3202".into()));
}

const BODY: &str = r#"{"a":1}"#;
const SIGNATURE: &str = "sha256=5910e62016ef5034272c926c27071992a465c2335cecf41851bda071577f4f6d";
const VERIFY: &str = "{actions: [{type: verify-webhook, config: {provider: github, secret: s3cret}}]}, ";

fn hook(signature: &str, body: impl Into<Bytes>) -> Request<BoxBody<Bytes, hyper::Error>> {
    let body = Full::new(body.into()).map_err(|never| match never {}).boxed();
    let request = Request::post("https://cloud.test/hook").header("host", "cloud.test");
    request.header("x-hub-signature-256", signature).body(body).unwrap()
}

fn code(response: &Response<Incoming>) -> (u16, &str) {
    let code = response.headers().get("ngrok-error-code").map_or("", |code| code.to_str().unwrap());
    (response.status().as_u16(), code)
}

#[tokio::test]
async fn signed_body_arrives_unchanged_and_another_one_not_at_all() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let gateway = cloud(protocol, VERIFY, "").start().await;
        let send = async |request| match protocol {
            Protocol::Http2 => gateway.visit_http2().await.send_request(request).await.unwrap(),
            _ => gateway.visit_http1().await.send_request(request).await.unwrap(),
        };
        let upstream = async {
            let mut upstream = gateway.upstream().await;
            let head = upstream.read_head().await;
            let length = header(&head, "content-length").map(str::to_owned);
            let body = upstream.read_exact(BODY.len()).await;
            upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
            (length, body)
        };
        let (response, (length, body)) = tokio::join!(send(hook(SIGNATURE, BODY)), upstream);
        assert_eq!((code(&response), length.as_deref(), body.as_str()), ((200, ""), Some("7"), BODY));
        let forged = send(hook(SIGNATURE, r#"{"a":2}"#)).await;
        assert_eq!(code(&forged), (403, "ERR_NGROK_3204"));
        let unsigned = send(hook("", BODY)).await;
        assert_eq!(code(&unsigned), (403, "ERR_NGROK_3204"));
        assert_eq!(gateway.opened(), 1);
    }
}

#[tokio::test]
async fn chunked_body_and_its_trailers_pass_after_they_were_read() {
    let gateway = cloud(Protocol::Http1, VERIFY, "").start().await;
    let mut visitor = gateway.visit().await;
    let framing = "Transfer-Encoding: chunked\r\nExpect: 100-continue\r\nTrailer: x-sum\r\n";
    let head = format!("POST / HTTP/1.1\r\nHost: cloud.test\r\n{framing}X-Hub-Signature-256: {SIGNATURE}\r\n\r\n");
    visitor.send(head).await;
    // The body is needed for the decision, so the gateway itself asks for it.
    assert!(visitor.read_head().await.starts_with("HTTP/1.1 100"));
    visitor.send("2\r\n{\"\r\n5\r\na\":1}\r\n0\r\nx-sum: 9\r\n\r\n").await;
    let mut upstream = gateway.upstream().await;
    let head = upstream.read_head().await;
    assert_eq!((header(&head, "transfer-encoding"), header(&head, "expect")), (Some("chunked"), None));
    assert_eq!(upstream.read_until("\r\n0\r\nX-Sum: 9\r\n\r\n").await, format!("7\r\n{BODY}\r\n0\r\nX-Sum: 9\r\n\r\n"));
    upstream.send("HTTP/1.1 204 No Content\r\n\r\n").await;
    assert!(visitor.read_head().await.starts_with("HTTP/1.1 204"));
}

#[tokio::test]
async fn body_is_read_up_to_the_bound_and_not_beyond() {
    let gateway = cloud(Protocol::Http1, VERIFY, "").start().await;
    let long = vec![b'x'; adit_gateway::policy::PAYLOAD_BYTES_MAX];
    let response = gateway.visit_http1().await.send_request(hook(SIGNATURE, long.clone())).await.unwrap();
    assert_eq!(code(&response), (403, "ERR_NGROK_3204"), "it was read, and is not what was signed");
    // One byte more: the head alone is enough to refuse it.
    let mut visitor = gateway.visit().await;
    let head = format!("POST / HTTP/1.1\r\nHost: cloud.test\r\nX-Hub-Signature-256: {SIGNATURE}\r\n");
    visitor.send(format!("{head}Content-Length: {}\r\n\r\n", long.len() + 1)).await;
    let answer = visitor.read_head().await;
    assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("ERR_NGROK_3903"), "{answer}");
    // And without a length, once it has come.
    let mut visitor = gateway.visit().await;
    visitor.send(format!("{head}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n", long.len() + 1)).await;
    visitor.send([long.as_slice(), b"x\r\n"].concat()).await;
    let answer = visitor.read_head().await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    assert_eq!(gateway.opened(), 0);
}

#[tokio::test]
async fn body_that_is_too_long_passes_whole_where_the_check_is_not_enforced() {
    let verify = VERIFY.replace("s3cret", "s3cret, enforce: false");
    let gateway = cloud(Protocol::Http1, &verify, "").start().await;
    let length = adit_gateway::policy::PAYLOAD_BYTES_MAX + 70_000;
    let mut visitor = gateway.visit().await;
    let head = format!("POST / HTTP/1.1\r\nHost: cloud.test\r\nX-Hub-Signature-256: {SIGNATURE}\r\n");
    visitor.send(format!("{head}Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n")).await;
    let body: Vec<u8> = (0..length).map(|at| b'a' + u8::try_from(at % 26).unwrap()).collect();
    let sending = async {
        visitor.send([body.as_slice(), b"\r\n0\r\n\r\n"].concat()).await;
        visitor.read_head().await
    };
    let receiving = async {
        let mut upstream = gateway.upstream().await;
        upstream.read_head().await;
        let mut received = Vec::new();
        loop {
            let size = upstream.read_until("\r\n").await;
            let size = usize::from_str_radix(size.trim(), 16).unwrap();
            received.extend_from_slice(upstream.read_exact(size).await.as_bytes());
            upstream.read_exact(2).await;
            if size == 0 {
                break;
            }
        }
        upstream.send("HTTP/1.1 204 No Content\r\n\r\n").await;
        received
    };
    let (head, received) = tokio::join!(sending, receiving);
    assert!(head.starts_with("HTTP/1.1 204") && received == body, "{head} {}", received.len());
}

fn asks(config: &str) -> String {
    let shown = "${actions.ngrok.http_request.res.status_code} ${actions.ngrok.http_request.res.body}";
    format!(
        "on_http_request: [{{actions: [{{type: http-request, config: {{url: 'https://api.internal/check', {config}}}}}, \
         {{type: custom-response, config: {{body: '{shown}'}}}}]}}]"
    )
}

#[tokio::test]
async fn policy_asks_an_internal_endpoint_and_tells_of_the_reply() {
    let policy = asks("method: POST, body: '${req.method}', query_params: [{key: a, value: b}]");
    let gateway = Setup::new(Protocol::Http1).cloud("cloud.test", &policy).start().await;
    let mut visitor = gateway.visit().await;
    visitor.send("GET /x HTTP/1.1\r\nHost: cloud.test\r\n\r\n").await;
    let mut upstream = gateway.upstream().await;
    let head = upstream.read_head().await;
    assert!(head.starts_with("POST /check?a=b HTTP/1.1\r\n"), "{head}");
    assert_eq!((header(&head, "host"), header(&head, "content-length")), (Some("api.internal"), Some("3")));
    assert_eq!(header(&head, "x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(upstream.read_exact(3).await, "GET");
    upstream.send("HTTP/1.1 418 I am a teapot\r\nContent-Length: 3\r\n\r\ntea").await;
    assert_eq!(visitor.read_response().await.1, "418 tea");
    // The stream is used again for the next request of the same visitor.
    visitor.send("GET /x HTTP/1.1\r\nHost: cloud.test\r\n\r\n").await;
    upstream.read_head().await;
    upstream.read_exact(3).await;
    upstream.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n").await;
    assert_eq!(visitor.read_response().await.1, "200 ok");
    assert_eq!(gateway.opened(), 1);
}

#[tokio::test]
async fn reply_is_taken_up_to_the_bound() {
    const MAX: usize = adit_gateway::policy::REPLY_BYTES_MAX;
    let policy = asks("on_error: halt").replace("res.body}", "res.body.size()}");
    let gateway = Setup::new(Protocol::Http1).cloud("cloud.test", &policy).start().await;
    for (length, expected) in [(MAX, (200, "")), (MAX + 1, (502, "ERR_NGROK_3601"))] {
        let mut visitor = gateway.visit_http1().await;
        let asked = tokio::spawn(async move { visitor.send_request(get("/", "")).await.unwrap() });
        let mut upstream = gateway.upstream().await;
        upstream.read_head().await;
        let (_, mut write) = upstream.into_split();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
        // The gateway hangs up on what is too long.
        let _ = tokio::io::AsyncWriteExt::write_all(&mut write, &[head.as_bytes(), &vec![b'x'; length]].concat()).await;
        assert_eq!(code(&asked.await.unwrap()), expected);
    }
}

#[tokio::test]
async fn endpoint_that_cannot_be_reached_halts_the_policy_where_it_says_so() {
    for (agent, expected) in [
        (Agent::Refused, (502, "ERR_NGROK_8012")),
        (Agent::Busy, (502, "ERR_NGROK_703")),
        (Agent::Lost, (502, "ERR_NGROK_3210")),
    ] {
        let setup = Setup::new(Protocol::Http1).cloud("cloud.test", &asks("on_error: halt")).agent(agent);
        let gateway = setup.start().await;
        assert_eq!(code(&gateway.visit_http1().await.send_request(get("/", "")).await.unwrap()), expected);
    }
    let policy = asks("on_error: halt").replace("api.internal", "gone.internal");
    let gateway = Setup::new(Protocol::Http1).cloud("cloud.test", &policy).start().await;
    let response = gateway.visit_http1().await.send_request(get("/", "")).await.unwrap();
    assert_eq!(code(&response), (502, "ERR_NGROK_3200"));
}

#[tokio::test]
async fn policies_that_ask_each_other_are_stopped() {
    let policy = asks("on_error: halt").replace("api.internal", "loop.internal");
    let setup = Setup::new(Protocol::Http1).cloud("cloud.test", &policy).internal("loop.internal", &policy);
    let gateway = setup.start().await;
    let response = gateway.visit_http1().await.send_request(get("/", "")).await.unwrap();
    // The innermost request is refused, and its refusal is the reply to the one that asked for it.
    assert_eq!(response.status().as_u16(), 200);
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let body = String::from_utf8_lossy(&body);
    assert!(body.starts_with("200 200 508 ") && body.contains("ERR_NGROK_3603"), "{body}");
    assert_eq!(gateway.opened(), 0);
}

#[tokio::test]
async fn policy_asks_before_a_response_goes_out() {
    let rule = "{actions: [{type: http-request, config: {url: 'https://api.internal/note'}}, {type: add-headers, config: \
                {headers: {x-note: '${actions.ngrok.http_request.res.body}'}}}]}";
    let gateway = cloud(Protocol::Http1, "", rule).start().await;
    let mut visitor = gateway.visit().await;
    visitor.send("GET / HTTP/1.1\r\nHost: cloud.test\r\n\r\n").await;
    let mut first = gateway.upstream().await;
    first.read_head().await;
    first.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n").await;
    let mut second = gateway.upstream().await;
    assert!(second.read_head().await.starts_with("GET /note "));
    second.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").await;
    first.send("body").await;
    let (head, body) = visitor.read_response().await;
    assert_eq!((header(&head, "x-note"), body.as_str()), (Some("hi"), "body"));
}

#[tokio::test]
async fn body_of_a_request_of_a_policy_is_what_its_endpoint_checks() {
    // A signature of nothing, on a request that has a body nevertheless.
    let headers =
        "headers: {x-hub-signature-256: 'sha256=91dfac70c5348b04e1babb8b421ac92cec08b565b49ca16130dccb72503647b7'}";
    for (fields, status) in [(format!("method: GET, {headers}, body: x"), "403"), (headers.to_owned(), "204")] {
        let policy = asks(&fields).replace("api.internal", "hook.internal");
        let hook = format!("on_http_request: [{VERIFY} {{actions: [{{type: deny, config: {{status_code: 204}}}}]}}]");
        let setup = Setup::new(Protocol::Http1).cloud("cloud.test", &policy).internal("hook.internal", &hook);
        let gateway = setup.start().await;
        let response = gateway.visit_http1().await.send_request(get("/", "")).await.unwrap();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert!(body.starts_with(status.as_bytes()), "{fields}: {}", String::from_utf8_lossy(&body));
    }
}

#[tokio::test]
async fn requests_of_policies_are_counted_on_their_way_outside() {
    let gateway = cloud(Protocol::Http1, "", "").start().await;
    let mut visitor = gateway.visit().await;
    for (line, seen) in [("", None), ("Adit-Hops: 1\r\n", Some("1")), ("Adit-Hops: 2\r\nadit-hops: 3\r\n", Some("3"))] {
        visitor.send(format!("GET / HTTP/1.1\r\nHost: cloud.test\r\n{line}\r\n")).await;
        let mut upstream = gateway.upstream().await;
        assert_eq!(header(&upstream.read_head().await, "adit-hops"), seen);
        upstream.send("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").await;
        assert!(visitor.read_head().await.starts_with("HTTP/1.1 204"));
    }
    for line in ["4", "-1", "x"] {
        let mut visitor = gateway.visit().await;
        visitor.send(format!("GET / HTTP/1.1\r\nHost: cloud.test\r\nAdit-Hops: {line}\r\n\r\n")).await;
        let head = visitor.read_head().await;
        assert!(head.starts_with("HTTP/1.1 508") && head.contains("ERR_NGROK_3603"), "{head}");
    }
    assert_eq!(gateway.opened(), 3);
}

#[tokio::test]
async fn policy_counts_on_from_what_a_request_says_and_never_goes_beyond_the_bound() {
    let policy = asks("on_error: continue, headers: {x-a: b}");
    let gateway = Setup::new(Protocol::Http1).cloud("cloud.test", &policy).start().await;
    for (hops, seen) in [("0", "1"), ("2", "3")] {
        let mut visitor = gateway.visit().await;
        visitor.send(format!("GET / HTTP/1.1\r\nHost: cloud.test\r\nAdit-Hops: {hops}\r\n\r\n")).await;
        let mut upstream = gateway.upstream().await;
        assert_eq!(header(&upstream.read_head().await, "adit-hops"), Some(seen));
        upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
        assert!(visitor.read_head().await.starts_with("HTTP/1.1 200"));
    }
    let mut visitor = gateway.visit().await;
    visitor.send("GET / HTTP/1.1\r\nHost: cloud.test\r\nAdit-Hops: 3\r\n\r\n").await;
    assert!(visitor.read_head().await.starts_with("HTTP/1.1 508"), "nobody makes it go on without a reply");
    assert_eq!(gateway.opened(), 2);
}

const DENY_UPLOADS: &str = "{expressions: [\"req.method == 'POST'\"], actions: [{type: deny}]},";

#[tokio::test]
async fn rest_of_a_refused_upload_is_read_and_the_next_request_is_answered() {
    let gateway = cloud(Protocol::Http1, DENY_UPLOADS, "").start().await;
    let mut visitor = gateway.visit().await;
    let rest = vec![b'x'; 4 * 1024 * 1024];
    let head = format!("POST / HTTP/1.1\r\nHost: cloud.test\r\nContent-Length: {}\r\n\r\n", rest.len());
    visitor.send(head).await;
    assert!(visitor.read_response().await.0.starts_with("HTTP/1.1 403"));
    visitor.send(rest).await;
    visitor.send("GET / HTTP/1.1\r\nHost: cloud.test\r\n\r\n").await;
    answered(&gateway, "HTTP/1.1 204 No Content\r\n\r\n", "").await;
    assert!(visitor.read_head().await.starts_with("HTTP/1.1 204"));
}

#[tokio::test]
async fn what_follows_a_refused_question_for_a_body_is_not_taken_for_one() {
    let gateway = cloud(Protocol::Http1, DENY_UPLOADS, "").start().await;
    let mut visitor = gateway.visit().await;
    let head = "POST / HTTP/1.1\r\nHost: cloud.test\r\nContent-Length: 50\r\nExpect: 100-continue\r\n\r\n";
    visitor.send(head).await;
    assert!(visitor.read_response().await.0.starts_with("HTTP/1.1 403"), "and no 100 before it");
    assert_eq!(visitor.read_to_end().await.unwrap(), "", "the connection is closed");
}

#[tokio::test]
async fn length_of_no_body_at_all_is_zero_and_one_that_is_not_known_has_no_value() {
    const SHOWN: &str = "{actions: [{type: add-headers, config: {headers: {x-length: \
                         \"${has(req.content_length) ? string(req.content_length) : 'unknown'}\"}}}]}";
    let stops = "{expressions: ['req.content_length > 6'], actions: [{type: deny, config: {status_code: 413}}]},";
    let answers = "{actions: [{type: custom-response, config: {status_code: 200, body: x}}]}";
    let own = |protocol: Protocol| {
        let policy = format!("{{on_http_request: [{stops}{answers}], on_http_response: [{SHOWN}]}}");
        Setup::new(protocol).cloud("cloud.test", &policy)
    };
    let full = |body: &'static str| Full::new(Bytes::from(body)).map_err(|never| match never {}).boxed();
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let gateway = own(protocol).start().await;
        for (method, body, status, length) in [
            ("GET", empty(), 200, Some("0")),
            ("HEAD", empty(), 200, Some("0")),
            ("POST", full("hello"), 200, Some("5")),
            ("POST", full("too long"), 413, None),
        ] {
            let request = Request::builder().method(method).uri("https://cloud.test/").header("host", "cloud.test");
            let request = request.body(body).unwrap();
            let response = match protocol {
                Protocol::Http2 => gateway.visit_http2().await.send_request(request).await.unwrap(),
                _ => gateway.visit_http1().await.send_request(request).await.unwrap(),
            };
            let shown = response.headers().get("x-length").map(|length| length.to_str().unwrap());
            assert_eq!((response.status().as_u16(), shown), (status, length), "{method} {protocol:?}");
        }
    }
    let pieces = futures::stream::iter([Ok(hyper::body::Frame::data(Bytes::from("hello")))]);
    let body = BodyExt::boxed(http_body_util::StreamBody::new(pieces));
    let request = Request::post("https://cloud.test/").body(body).unwrap();
    let gateway = own(Protocol::Http2).start().await;
    let response = gateway.visit_http2().await.send_request(request).await.unwrap();
    assert_eq!((response.status().as_u16(), code(&response).1), (500, "ERR_NGROK_2300"), "a rule that protects");
    // What is known of the request is still known when the upstream has answered.
    let gateway = cloud(Protocol::Http1, "", SHOWN).start().await;
    assert_eq!(ask(&gateway, get("/", "identity")).await.headers()["x-length"], "0");
}
