//! Upstreams that cannot be reached.

use adit::frame::ErrorCode;

use crate::gateway::Gateway;
use crate::peer::End;
use crate::program::Setup;
use crate::site::Site;
use crate::upstream;

#[test]
fn our_gateway_is_told_by_a_code_of_our_own() {
    let gateway = Gateway::adit();
    let down = upstream::nobody();
    let agent =
        Setup::new().tcp("db", down).endpoint("web", "https://web.internal", &format!("http://{down}")).start(&gateway);
    let peer = gateway.peer(0);
    peer.wait_bound(2);
    for name in ["db", "web"] {
        let stream = peer.visit(name);
        assert_eq!(stream.wait_end(), (Vec::new(), End::Reset(ErrorCode::UPSTREAM_UNREACHABLE)));
        let line = agent.wait_line(&["is unreachable", &format!("endpoint={name}")]);
        for word in [&format!("://{down}"), "refused", "took=", "stream=", "session=1"] {
            assert!(line.contains(word), "{word}: {line}");
        }
        assert_eq!(agent.lines(&["is unreachable", &format!("endpoint={name}")]).len(), 1);
    }
}

#[test]
fn other_gateways_get_a_page_on_http_endpoints_and_a_plain_end_on_others() {
    let gateway = Gateway::official();
    let down = upstream::nobody();
    let _agent =
        Setup::new().tcp("db", down).endpoint("web", "https://web.internal", &format!("http://{down}")).start(&gateway);
    let peer = gateway.peer(0);
    peer.wait_bound(2);
    let stream = peer.visit("db");
    assert_eq!(stream.wait_end(), (Vec::new(), End::Fin));

    let stream = peer.visit("web");
    stream.send(b"GET / HTTP/1.1\r\nHost: web.internal\r\n\r\n");
    let (page, end) = stream.wait_end();
    let page = String::from_utf8(page).unwrap();
    assert!(page.starts_with("HTTP/1.1 502 Bad Gateway\r\n"), "{page}");
    for word in ["adit-error-code: ERR_NGROK_", "text/plain", "web.internal", "refused"] {
        assert!(page.contains(word), "{word}: {page}");
    }
    let (head, body) = page.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{page}");
    assert_eq!(end, End::Fin);
}

#[test]
fn upstream_whose_name_does_not_exist_is_unreachable() {
    let gateway = Gateway::adit();
    let agent = Setup::new().endpoint("db", "tcp://db.internal:1", "tcp://no-such-host.invalid:1").start(&gateway);
    let peer = gateway.peer(0);
    peer.wait_bound(1);
    let stream = peer.visit("db");
    assert_eq!(stream.wait_end(), (Vec::new(), End::Reset(ErrorCode::UPSTREAM_UNREACHABLE)));
    agent.wait_line(&["is unreachable", "upstream=tcp://no-such-host.invalid:1", "took="]);
}

#[test]
fn upstream_that_answers_no_packet_is_left_at_the_deadline() {
    let silent = upstream::Silent::new();
    let gateway = Gateway::adit();
    let agent = Setup::new().tcp("db", silent.address).start(&gateway);
    let peer = gateway.peer(0);
    peer.wait_bound(1);
    let stream = peer.visit("db");
    assert_eq!(stream.wait_end(), (Vec::new(), End::Reset(ErrorCode::UPSTREAM_UNREACHABLE)));
    let line = agent.wait_line(&["is unreachable", "timed out"]);
    assert!(line.contains("took=5"), "5 s and some ms: {line}");
    agent.wait_connections(1);
}

#[test]
fn visitor_who_leaves_while_the_upstream_is_dialled_ends_the_dial() {
    let silent = upstream::Silent::new();
    let gateway = Gateway::adit();
    let agent = Setup::new().tcp("db", silent.address).start(&gateway);
    let peer = gateway.peer(0);
    peer.wait_bound(1);
    let stream = peer.visit("db");
    agent.wait_line(&["endpoint=db", "opened for visitor"]);
    stream.reset();
    agent.wait_line(&["endpoint=db", "aborted by the gateway"]);
    agent.wait_connections(1);
    assert_eq!(agent.lines(&["is unreachable"]), Vec::<String>::new());
}

#[test]
fn upstream_that_hangs_up_during_the_tls_handshake_is_unreachable() {
    let gateway = Gateway::adit();
    let rude = upstream::tcp(drop);
    let agent = Setup::new()
        .endpoint("web", "https://web.internal", &format!("https://{rude}"))
        .tcp("echo", upstream::echo())
        .start(&gateway);
    let peer = gateway.peer(0);
    peer.wait_bound(2);
    let stream = peer.visit("web");
    assert_eq!(stream.wait_end(), (Vec::new(), End::Reset(ErrorCode::UPSTREAM_UNREACHABLE)));
    agent.wait_line(&["unreachable", "endpoint=web", "TLS"]);
    let other = peer.visit("echo");
    other.send(b"still there");
    assert_eq!(other.wait_received(11), b"still there");
}

#[test]
fn upstream_with_a_certificate_of_a_stranger_is_unreachable() {
    let gateway = Gateway::adit();
    let stranger = upstream::tls(Site::new().server, |mut stream| upstream::send(&mut stream, b"never seen"));
    let agent = Setup::new().endpoint("web", "https://web.internal", &format!("https://{stranger}")).start(&gateway);
    let peer = gateway.peer(0);
    peer.wait_bound(1);
    let stream = peer.visit("web");
    assert_eq!(stream.wait_end(), (Vec::new(), End::Reset(ErrorCode::UPSTREAM_UNREACHABLE)));
    agent.wait_line(&["unreachable", "certificate"]);
}
