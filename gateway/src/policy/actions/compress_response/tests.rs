//! Which responses are compressed, and what becomes of their heads.

use super::*;

fn action(codings: &[Coding], places: usize) -> CompressResponse {
    CompressResponse { codings: codings.to_vec(), places: Arc::new(Semaphore::new(places)) }
}

fn map(lines: &[(&str, &str)]) -> HeaderMap {
    let name = |name: &str| HeaderName::from_bytes(name.as_bytes()).unwrap();
    lines.iter().map(|(key, value)| (name(key), HeaderValue::from_str(value).unwrap())).collect()
}

fn response(status: u16, lines: &[(&str, &str)]) -> http::response::Parts {
    let (mut head, ()) = http::Response::new(()).into_parts();
    head.status = StatusCode::from_u16(status).unwrap();
    head.headers = map(lines);
    head
}

#[test]
fn head_says_what_the_body_becomes() {
    let action = action(&[Coding::Gzip], 1);
    let lines = [("content-length", "9"), ("etag", "\"a\""), ("accept-ranges", "bytes"), ("vary", "Origin")];
    let mut head = response(200, &lines);
    assert_eq!(action.apply(&map(&[("accept-encoding", "gzip")]), &mut head), Some(Coding::Gzip));
    assert_eq!(head.extensions.get::<Compression>().unwrap().coding, Coding::Gzip);
    let mut expected = map(&[("etag", "W/\"a\""), ("vary", "Origin"), ("content-encoding", "gzip")]);
    expected.append(VARY, HeaderValue::from_static("Accept-Encoding"));
    assert_eq!(head.headers, expected);
}

#[test]
fn weak_tags_and_complete_vary_stay() {
    for vary in ["accept-encoding", "Origin, Accept-Encoding", "*"] {
        let mut head = response(200, &[("etag", "W/\"a\""), ("vary", vary)]);
        let chosen = action(&[Coding::Brotli], 1).apply(&map(&[("accept-encoding", "br")]), &mut head);
        assert_eq!(chosen, Some(Coding::Brotli));
        assert_eq!(head.headers, map(&[("etag", "W/\"a\""), ("vary", vary), ("content-encoding", "br")]));
    }
}

#[test]
fn visitor_who_wants_it_plain_gets_it_so_and_caches_are_told() {
    for accept in [map(&[]), map(&[("accept-encoding", "identity")]), map(&[("accept-encoding", "zstd")])] {
        let mut head = response(200, &[("content-length", "9"), ("etag", "\"a\"")]);
        assert_eq!(action(&[Coding::Gzip], 1).apply(&accept, &mut head), None);
        let expected = map(&[("content-length", "9"), ("etag", "\"a\""), ("vary", "Accept-Encoding")]);
        assert_eq!(head.headers, expected);
    }
}

#[test]
fn what_must_not_be_changed_is_not() {
    for (status, lines) in [
        (101, vec![("upgrade", "websocket")]),
        (204, vec![]),
        (205, vec![]),
        (206, vec![("content-range", "bytes 0-1/9")]),
        (304, vec![("etag", "\"a\"")]),
        (200, vec![("content-length", "0")]),
        (200, vec![("content-range", "bytes 0-1/9")]),
        (200, vec![("cache-control", "public, No-Transform")]),
        (200, vec![("content-digest", "sha-256=:AA==:")]),
        (200, vec![("content-type", "image/png")]),
        (200, vec![("content-type", "Video/mp4; codecs=x")]),
        (200, vec![("content-type", "application/zip")]),
        (200, vec![("content-type", "application/grpc+proto")]),
    ] {
        let mut head = response(status, &lines);
        assert_eq!(action(&[Coding::Gzip], 1).apply(&map(&[("accept-encoding", "gzip")]), &mut head), None);
        assert_eq!(head.headers, map(&lines), "{status}");
    }
    let request = map(&[("accept-encoding", "gzip"), ("cache-control", "no-transform")]);
    assert_eq!(action(&[Coding::Gzip], 1).apply(&request, &mut response(200, &[])), None);
    for kind in ["image/svg+xml", "text/event-stream", "application/json; charset=utf-8"] {
        let mut head = response(200, &[("content-type", kind)]);
        assert!(action(&[Coding::Gzip], 1).apply(&map(&[("accept-encoding", "gzip")]), &mut head).is_some(), "{kind}");
    }
}

#[test]
fn body_that_is_compressed_is_known_by_its_head() {
    assert!(is_compressed(&map(&[("content-encoding", "br")])));
    assert!(is_compressed(&map(&[("content-encoding", "identity, gzip")])));
    assert!(!is_compressed(&map(&[("content-encoding", "identity")])));
    assert!(!is_compressed(&map(&[])));
}

#[test]
fn response_beyond_the_bound_is_sent_as_it_is() {
    let (action, accept) = (action(&[Coding::Gzip], 1), map(&[("accept-encoding", "gzip")]));
    let mut first = response(200, &[]);
    assert!(action.apply(&accept, &mut first).is_some());
    let mut second = response(200, &[("content-length", "9")]);
    assert!(action.apply(&accept, &mut second).is_none());
    assert_eq!(second.headers, map(&[("content-length", "9"), ("vary", "Accept-Encoding")]));
    drop(first);
    assert!(action.apply(&accept, &mut second).is_some(), "its place is free again");
    assert_eq!(PLACES.available_permits(), COMPRESSIONS_MAX);
}
