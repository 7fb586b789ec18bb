//! Which headers go through, which do not, and which are added.

use std::net::{IpAddr, SocketAddr};

use adit::endpoint_url::Scheme;
use http::header::{
    CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::policy::ERRAND_HOPS;

/// True for the headers that say something by which nobody but the gateway can be meant: the two by which clients tell its
/// own failures from the answers of an upstream, and the one that counts requests of policies.
pub(crate) fn is_own_header(name: &HeaderName) -> bool {
    *name == ADIT_ERROR_CODE || *name == NGROK_ERROR_CODE || *name == ERRAND_HOPS
}

/// Takes out of a request how many requests of policies have led to it. Whoever makes the number up gets less for it and
/// never more; one that cannot be read is the greatest.
pub(super) fn take_hops(headers: &mut HeaderMap) -> u8 {
    let read = |line: &HeaderValue| line.to_str().ok().and_then(|text| text.parse().ok()).unwrap_or(u8::MAX);
    let hops = headers.get_all(&ERRAND_HOPS).iter().map(read).max().unwrap_or_default();
    headers.remove(&ERRAND_HOPS);
    hops
}

/// Tells whoever gets the request next how many requests of policies have led to it, if there are any.
pub(super) fn put_hops(headers: &mut HeaderMap, hops: u8) {
    if hops > 0 {
        headers.insert(ERRAND_HOPS, HeaderValue::from(u16::from(hops)));
    }
}

/// How the body of a request is framed on its way to the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// There is none.
    None,
    /// As `Content-Length` says.
    Length,
    /// Nobody knows how long it will be.
    Chunked,
}

/// Who asks, as the upstream shall learn it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Visitor<'a> {
    /// Its address.
    pub(super) peer: SocketAddr,
    /// How it speaks.
    pub(super) scheme: Scheme,
    /// The host that it asked for.
    pub(super) host: &'a HeaderValue,
}

/// Rewrites the headers of a request for the agent.
///
/// `Host` stays what the visitor asked for, or what a policy has put there. `upgrade` is the protocol to switch to, if
/// that was asked for.
pub(super) fn prepare_request(
    headers: &mut HeaderMap,
    visitor: Visitor<'_>,
    framing: Framing,
    upgrade: Option<&HeaderValue>,
) {
    let takes_trailers = has_token(headers, &TE, "trailers");
    strip_hop_by_hop(headers);
    if !headers.contains_key(HOST) {
        headers.insert(HOST, visitor.host.clone());
    }
    if takes_trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    match framing {
        // HTTP/2 lets equal ones pass, and upstreams differ about those.
        Framing::None | Framing::Length => keep_first(headers, &CONTENT_LENGTH),
        Framing::Chunked => {
            headers.remove(CONTENT_LENGTH);
            headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
    }
    if framing == Framing::None {
        headers.remove(EXPECT);
    }
    if let Some(protocol) = upgrade {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, protocol.clone());
    }
    join(headers, &COOKIE, b"; ");
    append(headers, &X_FORWARDED_FOR, &peer_address(visitor.peer.ip()));
    append(headers, &X_FORWARDED_PROTO, visitor.scheme.as_str());
    if !headers.contains_key(&X_FORWARDED_HOST) {
        headers.insert(X_FORWARDED_HOST, visitor.host.clone());
    }
}

/// Takes out of a request what its `Connection` names, before policies see it: later they would have judged, and added,
/// headers that never reach the agent.
pub(super) fn settle_connection(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> =
        tokens(headers, &CONNECTION).filter_map(|token| HeaderName::from_bytes(token.as_bytes()).ok()).collect();
    let upgrades = has_token(headers, &CONNECTION, "upgrade");
    for name in named.iter().filter(|name| !KEPT.contains(name) && !HOP_BY_HOP.contains(name)) {
        headers.remove(name);
    }
    headers.remove(CONNECTION);
    if upgrades {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    }
}

/// Rewrites the headers of a response for the visitor.
pub(super) fn prepare_response(headers: &mut HeaderMap) {
    if headers.contains_key(TRANSFER_ENCODING) {
        // With both, the length is not true (RFC 9112, 6.3).
        headers.remove(CONTENT_LENGTH);
    }
    strip_hop_by_hop(headers);
    strip_failure_headers(headers);
}

/// Removes what must not stand in trailers: what frames or routes the message, and what only the gateway says.
pub(super) fn prepare_trailers(trailers: &mut HeaderMap) {
    strip_hop_by_hop(trailers);
    strip_failure_headers(trailers);
    for name in [CONTENT_LENGTH, HOST, TRAILER] {
        trailers.remove(name);
    }
}

/// The protocol that a request asks to switch to.
///
/// Switching to another version of HTTP, or to TLS, is not offered: what follows would be requests that no policy sees.
pub(super) fn requested_upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    if !has_token(headers, &CONNECTION, "upgrade") {
        return None;
    }
    let mut values = headers.get_all(UPGRADE).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return None;
    };
    let text = value.to_str().ok()?.to_ascii_lowercase();
    let hides_requests =
        |token: &str| token == "h2c" || token == "h2" || token.starts_with("http") || token.starts_with("tls");
    let is_offered = !text.is_empty() && !text.split(',').any(|token| hides_requests(token.trim()));
    is_offered.then(|| value.clone())
}

/// True when a `101` answers what was asked for.
pub(super) fn accepts_upgrade(requested: &HeaderValue, response: &HeaderMap) -> bool {
    let Some(chosen) = response.get(UPGRADE).and_then(|value| value.to_str().ok()) else {
        return false;
    };
    let requested = requested.to_str().unwrap_or_default();
    requested.split(',').any(|token| token.trim().eq_ignore_ascii_case(chosen.trim()))
}

/// True when one of the comma-separated tokens of a header is this one.
pub(super) fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    tokens(headers, name).any(|found| found.eq_ignore_ascii_case(token))
}

fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|token| !token.is_empty())
}

/// Removes the headers that are for the next hop only, those that `Connection` names among them.
fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> =
        tokens(headers, &CONNECTION).filter_map(|token| HeaderName::from_bytes(token.as_bytes()).ok()).collect();
    for name in named.iter().filter(|name| !KEPT.contains(name)) {
        headers.remove(name);
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
}

fn keep_first(headers: &mut HeaderMap, name: &HeaderName) {
    if let Some(first) = headers.get(name).cloned() {
        headers.insert(name, first);
    }
}

fn strip_failure_headers(headers: &mut HeaderMap) {
    headers.remove(ADIT_ERROR_CODE);
    headers.remove(NGROK_ERROR_CODE);
}

/// Adds one entry to a list header, joining what there is into one line.
fn append(headers: &mut HeaderMap, name: &HeaderName, entry: &str) {
    join(headers, name, b", ");
    let mut line = headers.get(name).map(|value| value.as_bytes().to_vec()).unwrap_or_default();
    if !line.trim_ascii().is_empty() {
        line.extend_from_slice(b", ");
    }
    line.extend_from_slice(entry.as_bytes());
    if let Ok(value) = HeaderValue::from_bytes(&line) {
        headers.insert(name, value);
    }
}

/// Makes one line of several. HTTP/2 sends `Cookie` in pieces that HTTP/1.1 must not see (RFC 9113, 8.2.3).
fn join(headers: &mut HeaderMap, name: &HeaderName, separator: &[u8]) {
    let mut values = headers.get_all(name).iter();
    if values.by_ref().nth(1).is_none() {
        return;
    }
    let pieces: Vec<&[u8]> = headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(value) = HeaderValue::from_bytes(&pieces.join(separator)) {
        headers.insert(name, value);
    }
}

/// An IPv4 address that came through an IPv6 socket is shown as what it is.
fn peer_address(address: IpAddr) -> String {
    address.to_canonical().to_string()
}

/// Our own name for the error code.
pub(crate) const ADIT_ERROR_CODE: HeaderName = HeaderName::from_static("adit-error-code");
/// The name that clients of ngrok's service look for.
pub(crate) const NGROK_ERROR_CODE: HeaderName = HeaderName::from_static("ngrok-error-code");

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// For one hop only, whether `Connection` names them or not (RFC 9110, 7.6.1, and what proxies customarily add).
const HOP_BY_HOP: [HeaderName; 9] = [
    CONNECTION,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("http2-settings"),
];

/// `Connection` cannot take these out of a message: they say how long it is and where it goes.
const KEPT: [HeaderName; 2] = [CONTENT_LENGTH, HOST];

#[cfg(test)]
mod tests {
    use super::*;

    fn map(lines: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn request(lines: &[(&str, &str)], framing: Framing, upgrade: Option<&'static str>) -> HeaderMap {
        let mut headers = map(lines);
        let host = HeaderValue::from_static("public.example.com");
        let upgrade = upgrade.map(HeaderValue::from_static);
        let peer = "[::ffff:192.0.2.7]:5000".parse().unwrap();
        let visitor = Visitor { peer, scheme: Scheme::Https, host: &host };
        prepare_request(&mut headers, visitor, framing, upgrade.as_ref());
        headers
    }

    fn line<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
        assert!(headers.get_all(name).iter().count() <= 1, "{name} stands in several lines");
        headers.get(name).map(|value| value.to_str().unwrap())
    }

    #[test]
    fn forwarded_headers_are_appended_or_kept() {
        let headers = request(&[], Framing::None, None);
        assert_eq!(line(&headers, "x-forwarded-for"), Some("192.0.2.7"));
        assert_eq!(line(&headers, "x-forwarded-proto"), Some("https"));
        assert_eq!(line(&headers, "x-forwarded-host"), Some("public.example.com"));
        assert_eq!(line(&headers, "host"), Some("public.example.com"));

        let forged = [
            ("x-forwarded-for", "10.0.0.1"),
            ("x-forwarded-for", "10.0.0.2"),
            ("x-forwarded-proto", "http"),
            ("x-forwarded-host", "other.example.com"),
        ];
        let headers = request(&forged, Framing::None, None);
        assert_eq!(line(&headers, "x-forwarded-for"), Some("10.0.0.1, 10.0.0.2, 192.0.2.7"));
        assert_eq!(line(&headers, "x-forwarded-proto"), Some("http, https"));
        assert_eq!(line(&headers, "x-forwarded-host"), Some("other.example.com"));
        assert_eq!(line(&headers, "host"), Some("public.example.com"));

        let headers = request(&[("host", "set-by-policy.example.com")], Framing::None, None);
        assert_eq!(line(&headers, "host"), Some("set-by-policy.example.com"));
        assert_eq!(line(&headers, "x-forwarded-host"), Some("public.example.com"));
    }

    #[test]
    fn connection_cannot_remove_what_the_gateway_adds_or_what_frames_the_message() {
        let lines = [
            ("connection", "X-Forwarded-For, Host, Content-Length, X-Secret"),
            ("content-length", "3"),
            ("x-secret", "1"),
        ];
        let headers = request(&lines, Framing::Length, None);
        assert_eq!(line(&headers, "x-forwarded-for"), Some("192.0.2.7"));
        assert_eq!(line(&headers, "host"), Some("public.example.com"));
        assert_eq!(line(&headers, "content-length"), Some("3"));
        assert_eq!(line(&headers, "x-secret"), None);
        assert_eq!(line(&headers, "connection"), None);
    }

    #[test]
    fn count_of_requests_is_taken_out_and_the_greatest_counts() {
        for (lines, hops) in [
            (&[][..], 0),
            (&["0"], 0),
            (&["2"], 2),
            (&["1", "3"], 3),
            (&["1", "x"], u8::MAX),
            (&["-1"], u8::MAX),
            (&["1, 2"], u8::MAX),
            (&["99999999999999999999"], u8::MAX),
            (&[""], u8::MAX),
        ] {
            let lines: Vec<_> = lines.iter().map(|line| ("Adit-Hops", *line)).collect();
            let mut headers = map(&lines);
            assert_eq!(take_hops(&mut headers), hops, "{lines:?}");
            assert!(headers.is_empty());
        }
        let mut headers = map(&[]);
        put_hops(&mut headers, 0);
        assert!(headers.is_empty(), "a visitor's own request has none");
        put_hops(&mut headers, 2);
        assert_eq!(take_hops(&mut headers), 2);
    }

    #[test]
    fn hop_by_hop_headers_go_in_both_directions() {
        let lines = [
            ("connection", "keep-alive, x-one"),
            ("connection", "x-two"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("proxy-authorization", "Basic x"),
            ("te", "gzip"),
            ("upgrade", "websocket"),
            ("transfer-encoding", "chunked"),
            ("x-one", "1"),
            ("x-two", "2"),
            ("x-kept", "3"),
        ];
        let mut response = map(&lines);
        prepare_response(&mut response);
        assert_eq!(response, map(&[("x-kept", "3")]));
        let request = request(&lines, Framing::None, None);
        for (name, _) in lines.iter().filter(|(name, _)| *name != "x-kept") {
            assert_eq!(line(&request, name), None, "{name}");
        }
        assert_eq!(line(&request, "x-kept"), Some("3"));
    }

    #[test]
    fn trailers_are_asked_for_only_if_the_visitor_takes_them() {
        assert_eq!(line(&request(&[("te", "gzip, Trailers")], Framing::None, None), "te"), Some("trailers"));
        assert_eq!(line(&request(&[("te", "gzip")], Framing::None, None), "te"), None);
    }

    #[test]
    fn body_of_unknown_length_is_chunked() {
        let headers = request(&[], Framing::Chunked, None);
        assert_eq!(line(&headers, "transfer-encoding"), Some("chunked"));
        let headers = request(&[("content-length", "5")], Framing::Length, None);
        assert_eq!(line(&headers, "content-length"), Some("5"));
        assert_eq!(line(&headers, "transfer-encoding"), None);
        let headers = request(&[("content-length", "5"), ("content-length", "5")], Framing::Length, None);
        assert_eq!(line(&headers, "content-length"), Some("5"));
    }

    #[test]
    fn cookies_in_pieces_become_one_line() {
        let headers = request(&[("cookie", "a=1"), ("cookie", "b=2"), ("cookie", "c=3")], Framing::None, None);
        assert_eq!(line(&headers, "cookie"), Some("a=1; b=2; c=3"));
    }

    #[test]
    fn upgrade_is_offered_for_everything_but_more_http() {
        let asked = |protocol| requested_upgrade(&map(&[("connection", "keep-alive, Upgrade"), ("upgrade", protocol)]));
        assert_eq!(asked("websocket").unwrap(), "websocket");
        assert_eq!(asked("SPDY/3.1").unwrap(), "SPDY/3.1");
        for hidden in ["h2c", "H2C", "websocket, h2c", "HTTP/2.0", "TLS/1.0", "h2", ""] {
            assert_eq!(asked(hidden), None, "{hidden:?}");
        }
        assert_eq!(requested_upgrade(&map(&[("upgrade", "websocket")])), None);
        let twice = map(&[("connection", "upgrade"), ("upgrade", "a"), ("upgrade", "b")]);
        assert_eq!(requested_upgrade(&twice), None);

        let headers = request(&[("connection", "upgrade"), ("upgrade", "websocket")], Framing::None, Some("websocket"));
        assert_eq!(line(&headers, "connection"), Some("upgrade"));
        assert_eq!(line(&headers, "upgrade"), Some("websocket"));
    }

    #[test]
    fn connection_is_settled_before_anybody_judges() {
        let mut headers = map(&[
            ("connection", "close, x-role, Host, content-length, te"),
            ("x-role", "admin"),
            ("te", "trailers"),
            ("host", "a"),
            ("content-length", "1"),
        ]);
        settle_connection(&mut headers);
        assert_eq!(headers, map(&[("te", "trailers"), ("host", "a"), ("content-length", "1")]));
        headers.insert("x-role", HeaderValue::from_static("guest"));
        strip_hop_by_hop(&mut headers);
        assert_eq!(line(&headers, "x-role"), Some("guest"), "what a policy adds stays");

        let mut headers = map(&[("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")]);
        settle_connection(&mut headers);
        assert_eq!(headers, map(&[("connection", "upgrade"), ("upgrade", "websocket")]));
    }

    #[test]
    fn only_what_was_asked_for_is_switched_to() {
        let asked = HeaderValue::from_static("websocket, other");
        assert!(accepts_upgrade(&asked, &map(&[("upgrade", "WebSocket")])));
        assert!(!accepts_upgrade(&asked, &map(&[("upgrade", "h2c")])));
        assert!(!accepts_upgrade(&asked, &map(&[])));
    }

    #[test]
    fn upstream_cannot_forge_a_failure_of_the_gateway() {
        let mut response = map(&[("Ngrok-Error-Code", "ERR_NGROK_3200"), ("ADIT-ERROR-CODE", "x"), ("a", "b")]);
        prepare_response(&mut response);
        assert_eq!(response, map(&[("a", "b")]));
        let mut trailers =
            map(&[("ngrok-error-code", "x"), ("adit-error-code", "x"), ("content-length", "1"), ("sum", "9")]);
        prepare_trailers(&mut trailers);
        assert_eq!(trailers, map(&[("sum", "9")]));
    }
}
