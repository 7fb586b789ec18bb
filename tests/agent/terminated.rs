//! Endpoints whose visitors' TLS ends in the agent: what the gateway sees, who is let in, and how connections end.

use std::io::Read;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};

use adit::proxy_protocol::ProxyProtocol;
use rcgen::ExtendedKeyUsagePurpose;
use rustls::{AlertDescription, Error, ServerConnection, StreamOwned};

use crate::gateway::Gateway;
use crate::patience::PATIENCE;
use crate::peer::Peer;
use crate::program::Setup;
use crate::site::Site;
use crate::upstream::{self, pattern, read_exactly};
use crate::visitor::{Papers, Shown, Visitor, expired};

const MARKER: &[u8] = b"a patient's name that nobody on the way may read";

fn setup(papers: &Papers) -> Setup {
    Setup::new()
        .endpoint("db", "tls://db.internal", &upstream::echo().to_string())
        .with("agent_tls_termination", papers.termination())
}

#[test]
fn gateway_sees_ciphertext_and_the_upstream_plaintext() {
    let (papers, gateway) = (Papers::new(), Gateway::adit());
    let _agent = setup(&papers).start(&gateway);
    let peer = gateway.peer(0);
    peer.wait_bound(1);
    let mut visitor = Visitor::new(peer.visit("db"), &papers, None);
    visitor.shake_hands();
    visitor.send(MARKER);
    assert_eq!(visitor.read(MARKER.len()), MARKER);
    let bytes = pattern(1_000_000, 3);
    visitor.send(&bytes);
    assert!(visitor.read(bytes.len()) == bytes);
    assert!(!visitor.ciphertext().windows(MARKER.len()).any(|window| window == MARKER));
    visitor.end();
    visitor.wait_end();
}

#[test]
fn upstream_behind_it_may_speak_tls_again() {
    let site = Site::new();
    let upstream = upstream::tls(Arc::clone(&site.server), |mut stream| {
        let question = read_exactly(&mut stream, 5);
        upstream::send(&mut stream, &question);
        stream.conn.send_close_notify();
        upstream::send(&mut stream, &[]);
    });
    let (papers, gateway) = (Papers::new(), Gateway::adit());
    let _agent = Setup::new()
        .system_bundle(&site.ca_pem)
        .endpoint("db", "tls://db.internal", &format!("tls://{upstream}"))
        .with("agent_tls_termination", papers.termination())
        .start(&gateway);
    let peer = gateway.peer(0);
    peer.wait_bound(1);
    let mut visitor = Visitor::new(peer.visit("db"), &papers, None);
    visitor.shake_hands();
    visitor.send(b"hello");
    assert_eq!(visitor.read(5), b"hello");
    visitor.end();
    visitor.wait_end();
}

#[test]
fn protocol_is_the_first_of_the_file_that_the_visitor_offers() {
    let (papers, gateway) = (Papers::new(), Gateway::adit());
    let mut termination = papers.termination();
    termination["alpn_protocols"] = serde_json::json!(["postgresql", "http/1.1"]);
    let _agent = setup(&papers).with("agent_tls_termination", termination).start(&gateway);
    let peer = gateway.peer(0);
    peer.wait_bound(1);
    let mut visitor = Visitor::offering(peer.visit("db"), &papers, None, &["http/1.1", "postgresql"]);
    visitor.shake_hands();
    assert_eq!(visitor.protocol(), Some(&b"postgresql"[..]));
    let mut visitor = Visitor::offering(peer.visit("db"), &papers, None, &["h2"]);
    assert_eq!(visitor.refusal(), Error::AlertReceived(AlertDescription::NoApplicationProtocol));
}

/// Tries everybody who must not get in, and somebody who must.
fn assert_lets_in_only_whom_it_should(peer: &Peer, papers: &Papers) {
    let refused: [(&str, Option<Shown>, AlertDescription); 4] = [
        ("no certificate", None, AlertDescription::CertificateRequired),
        ("a stranger's", Some(Papers::shown_by_a_stranger()), AlertDescription::UnknownCA),
        ("an expired one", Some(papers.shown_with(expired)), AlertDescription::CertificateExpired),
        (
            "one that is not for visitors",
            Some(papers.shown_with(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth])),
            AlertDescription::UnsupportedCertificate,
        ),
    ];
    for (who, shown, alert) in refused {
        let mut visitor = Visitor::new(peer.visit("db"), papers, shown.as_ref());
        assert_eq!(visitor.refusal(), Error::AlertReceived(alert), "{who}");
    }
    let mut visitor = Visitor::new(peer.visit("db"), papers, Some(&papers.shown()));
    visitor.shake_hands();
    visitor.send(b"hello");
    assert_eq!(visitor.read(5), b"hello");
}

#[test]
fn visitors_without_the_right_certificate_are_refused_also_after_reconnect_and_reload() {
    let (papers, gateway) = (Papers::new(), Gateway::adit());
    let setup = setup(&papers).with("agent_tls_termination", papers.mutual());
    let agent = setup.clone().start(&gateway);
    let peer = gateway.peer(0);
    peer.wait_bound(1);
    assert_lets_in_only_whom_it_should(&peer, &papers);
    for reason in ["no certificate", "of no authority", "has expired", "is not for clients"] {
        agent.wait_line(&["endpoint=db", "a visitor is turned away", reason]);
    }
    assert_eq!(agent.lines(&["a visitor is turned away"]).len(), 4);

    agent.signal("USR1");
    let peer = gateway.peer(1);
    peer.wait_bound(1);
    assert_lets_in_only_whom_it_should(&peer, &papers);

    agent.reload(&setup, &gateway);
    agent.wait_line(&["the configuration was read again"]);
    assert_lets_in_only_whom_it_should(&peer, &papers);
}

#[test]
fn certificate_is_read_again_with_the_configuration() {
    let (old, new) = (Papers::new(), Papers::new());
    let gateway = Gateway::adit();
    let agent = setup(&old).start(&gateway);
    let peer = gateway.peer(0);
    peer.wait_bound(1);
    let mut before = Visitor::new(peer.visit("db"), &old, None);
    before.shake_hands();
    agent.reload(&setup(&new), &gateway);
    agent.wait_line(&["the configuration was read again"]);
    let mut after = Visitor::new(peer.visit("db"), &new, None);
    after.shake_hands();
    // The connection from before is not touched.
    before.send(b"hello");
    assert_eq!(before.read(5), b"hello");
}

#[test]
fn stream_that_ends_without_a_word_of_tls_is_an_abort_for_the_upstream() {
    let (sender, ends) = mpsc::channel();
    let sender = Mutex::new(sender);
    let upstream = upstream::tcp(move |mut socket| {
        read_exactly(&mut socket, 5);
        let end = socket.read(&mut [0; 1]).map_err(|error| error.kind());
        sender.lock().unwrap().send(end).unwrap();
    });
    let (papers, gateway) = (Papers::new(), Gateway::adit());
    let _agent = Setup::new()
        .endpoint("db", "tls://db.internal", &upstream.to_string())
        .with("agent_tls_termination", papers.termination())
        .start(&gateway);
    let peer = gateway.peer(0);
    peer.wait_bound(1);
    let mut visitor = Visitor::new(peer.visit("db"), &papers, None);
    visitor.shake_hands();
    visitor.send(b"hello");
    visitor.cut();
    assert_eq!(ends.recv_timeout(PATIENCE).unwrap(), Err(std::io::ErrorKind::ConnectionReset));

    let mut visitor = Visitor::new(peer.visit("db"), &papers, None);
    visitor.shake_hands();
    visitor.send(b"hello");
    visitor.end();
    assert_eq!(ends.recv_timeout(PATIENCE).unwrap(), Ok(0));
}

#[test]
fn garbage_costs_only_its_own_stream_and_no_connection_to_the_upstream() {
    let (papers, gateway) = (Papers::new(), Gateway::adit());
    let upstream = upstream::nobody();
    let agent = Setup::new()
        .endpoint("db", "tls://db.internal", &upstream.to_string())
        .with("agent_tls_termination", papers.termination())
        .tcp("echo", upstream::echo())
        .start(&gateway);
    let peer = gateway.peer(0);
    peer.wait_bound(2);
    let garbage = peer.visit("db");
    garbage.send(b"GET / HTTP/1.1\r\nHost: db\r\n\r\n");
    garbage.wait_reset();
    let early = peer.visit("db");
    early.finish();
    early.wait_reset();
    agent.wait_lines(2, &["endpoint=db", "a visitor is turned away"]);
    let other = peer.visit("echo");
    other.send(b"x");
    assert_eq!(other.wait_received(1), b"x");
    assert!(agent.lines(&["unreachable"]).is_empty());
}

#[test]
fn source_that_shakes_hands_without_end_is_turned_away_and_the_bulk_of_others_flows() {
    let (papers, gateway) = (Papers::new(), Gateway::adit());
    let agent = setup(&papers).tcp("echo", upstream::echo()).start(&gateway);
    let peer = gateway.peer(0);
    peer.wait_bound(2);
    let bulk = peer.visit("echo");
    let bytes = pattern(3_000_000, 4);
    bulk.send(&bytes);
    let mut visitors: Vec<Visitor> = (0..60).map(|_| Visitor::new(peer.visit("db"), &papers, None)).collect();
    for visitor in &mut visitors {
        visitor.hello();
    }
    agent.wait_line(&["endpoint=db", "too many TLS handshakes"]);
    assert!(bulk.wait_received(bytes.len()) == bytes);
}

#[test]
fn proxy_header_stands_in_front_of_all_tls_and_inside_none() {
    let addresses = ("192.0.2.7:7".parse().unwrap(), "198.51.100.8:8".parse().unwrap());
    let header = ProxyProtocol::V2.encode(addresses.0, addresses.1);
    let (papers, site, gateway) = (Papers::new(), Site::new(), Gateway::adit());
    let len = header.len();
    let plain = upstream::tcp(move |mut socket| {
        let bytes = read_exactly(&mut socket, len + 5);
        upstream::send(&mut socket, &bytes);
    });
    let server = Arc::clone(&site.server);
    let sealed = upstream::tcp(move |mut socket| {
        let header = read_exactly(&mut socket, len);
        let mut stream = StreamOwned::new(ServerConnection::new(Arc::clone(&server)).unwrap(), socket);
        let bytes = [header, read_exactly(&mut stream, 5)].concat();
        upstream::send(&mut stream, &bytes);
    });
    let upstream = |address: String| serde_json::json!({ "url": address, "proxy_protocol": 2 });
    let agent = Setup::new()
        .system_bundle(&site.ca_pem)
        .endpoint("plain", "tls://plain.internal", "1")
        .with("upstream", upstream(plain.to_string()))
        .with("agent_tls_termination", papers.termination())
        .endpoint("sealed", "tcp://sealed.internal:1", "1")
        .with("upstream", upstream(format!("tls://{sealed}")))
        .start(&gateway);
    let peer = gateway.peer(0);
    peer.wait_bound(2);
    let expected = [&header[..], b"hello"].concat();

    let stream = peer.visit("plain");
    // Also in pieces.
    for byte in &header {
        stream.send(&[*byte]);
    }
    let mut visitor = Visitor::new(stream, &papers, None);
    visitor.shake_hands();
    visitor.send(b"hello");
    assert_eq!(visitor.read(expected.len()), expected);

    let stream = peer.visit("sealed");
    stream.send(&expected);
    assert_eq!(stream.wait_received(expected.len()), expected);

    let stream = peer.visit("sealed");
    stream.send(b"GET / HTTP/1.1\r\n");
    stream.wait_reset();
    agent.wait_line(&["endpoint=sealed", "a visitor is turned away", "PROXY"]);
}
