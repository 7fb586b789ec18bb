//! TLS upstreams: readiness that no socket event tells.

use std::io::Read;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};

use crate::gateway::Gateway;
use crate::patience::PATIENCE;
use crate::peer::End;
use crate::program::Setup;
use crate::site::Site;
use crate::upstream::{self, pattern, read_exactly};

#[test]
fn response_that_waits_inside_tls_flows_when_credit_comes_without_any_socket_event() {
    // The window ends in the middle of the last record, which was decrypted whole.
    let len = HEAD + WINDOW;
    let (sender, sent) = mpsc::channel();
    let site = Site::new();
    let upstream = upstream::tls(Arc::clone(&site.server), move |mut stream| {
        read_exactly(&mut stream, 1);
        let bytes = pattern(len, 1);
        upstream::send(&mut stream, &bytes[..HEAD]);
        upstream::send(&mut stream, &bytes[HEAD..]);
        sender.send(()).unwrap();
        // The connection stays open and silent: no event will come from it.
        let mut end = [0; 1];
        assert_eq!(stream.read(&mut end).unwrap(), 0);
        stream.conn.send_close_notify();
        upstream::send(&mut stream, &[]);
    });
    let gateway = Gateway::adit();
    let _agent = Setup::new()
        .system_bundle(&site.ca_pem)
        .endpoint("db", "tls://db.internal", &format!("tls://{upstream}"))
        .tcp("echo", upstream::echo())
        .start(&gateway);
    let peer = gateway.peer(0);
    peer.wait_bound(2);
    let stream = peer.visit_and_hold("db");
    stream.send(b"!");
    sent.recv_timeout(PATIENCE).unwrap();
    stream.wait_held(WINDOW);
    // A round trip through the loop: it has come to rest since.
    let other = peer.visit("echo");
    other.send(b"x");
    assert_eq!(other.wait_received(1), b"x");
    stream.take_all();
    assert!(stream.wait_received(len) == pattern(len, 1));
    stream.finish();
    assert_eq!(stream.wait_end().1, End::Fin);
}

#[test]
fn upload_into_a_slow_tls_upstream_arrives_whole() {
    let (release, released) = mpsc::channel::<()>();
    let released = Mutex::new(released);
    let site = Site::new();
    let upstream = upstream::tls(Arc::clone(&site.server), move |mut stream| {
        read_exactly(&mut stream, 1);
        // Until now every buffer on the way fills up.
        released.lock().unwrap().recv_timeout(PATIENCE).unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        upstream::send(&mut stream, &all);
        stream.conn.send_close_notify();
        upstream::send(&mut stream, &[]);
    });
    let gateway = Gateway::adit();
    let _agent = Setup::new()
        .system_bundle(&site.ca_pem)
        .endpoint("db", "tls://db.internal", &format!("tls://{upstream}"))
        .start(&gateway);
    let peer = gateway.peer(0);
    peer.wait_bound(1);
    let stream = peer.visit("db");
    let bytes = pattern(12_000_000, 2);
    stream.send(b"!");
    stream.send(&bytes);
    stream.finish();
    assert!(stream.sent() < bytes.len());
    release.send(()).unwrap();
    let (received, end) = stream.wait_end();
    assert!(received == bytes, "{} bytes", received.len());
    assert_eq!(end, End::Fin);
}

#[test]
fn last_bytes_of_an_upload_arrive_although_the_upstream_has_ended_before() {
    let (release, released) = mpsc::channel::<()>();
    let released = Mutex::new(released);
    let (sender, heard) = mpsc::channel();
    let site = Site::new();
    let upstream = upstream::tls(Arc::clone(&site.server), move |mut stream| {
        upstream::send(&mut stream, b"bye");
        stream.conn.send_close_notify();
        upstream::send(&mut stream, &[]);
        released.lock().unwrap().recv_timeout(PATIENCE).unwrap();
        let mut all = Vec::new();
        let end = stream.read_to_end(&mut all).map_err(|error| error.to_string());
        sender.send((all, end)).unwrap();
    });
    let gateway = Gateway::adit();
    let _agent = Setup::new()
        .system_bundle(&site.ca_pem)
        .endpoint("db", "tls://db.internal", &format!("tls://{upstream}"))
        .start(&gateway);
    let peer = gateway.peer(0);
    peer.wait_bound(1);
    let stream = peer.visit("db");
    assert_eq!(stream.wait_end(), (b"bye".to_vec(), End::Fin));
    let bytes = pattern(12_000_000, 3);
    stream.send(&bytes);
    stream.finish();
    release.send(()).unwrap();
    let (received, end) = heard.recv_timeout(PATIENCE).unwrap();
    assert!(received == bytes, "{} bytes", received.len());
    assert_eq!(end, Ok(bytes.len()));
}

#[test]
fn tls_upstream_that_is_cut_off_is_no_clean_end() {
    let site = Site::new();
    let upstream = upstream::tls(Arc::clone(&site.server), |mut stream| {
        read_exactly(&mut stream, 1);
        upstream::send(&mut stream, b"half of it");
        // No close_notify.
        stream.sock.shutdown(std::net::Shutdown::Write).unwrap();
        let mut end = [0; 1];
        let _ = stream.read(&mut end);
    });
    let gateway = Gateway::adit();
    let _agent = Setup::new()
        .system_bundle(&site.ca_pem)
        .endpoint("db", "tls://db.internal", &format!("tls://{upstream}"))
        .start(&gateway);
    let peer = gateway.peer(0);
    peer.wait_bound(1);
    let stream = peer.visit("db");
    stream.send(b"!");
    let (received, end) = stream.wait_end();
    assert_eq!(received, b"half of it");
    assert!(matches!(end, End::Reset(_)), "{end:?}");
}

/// A short record in front of those of full length.
const HEAD: usize = 100;

/// Credit of a fresh stream: sixteen records of full length.
const WINDOW: usize = 262_144;
