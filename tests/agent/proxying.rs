//! Bytes between visitors and upstreams.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::mpsc;

use crate::gateway::Gateway;
use crate::peer::End;
use crate::program::Setup;
use crate::upstream::{self, pattern, read_exactly};

#[test]
fn megabytes_arrive_unchanged_in_both_directions_at_once() {
    let gateway = Gateway::adit();
    let _agent = Setup::new().tcp("echo", upstream::echo()).start(&gateway);
    let peer = gateway.peer(0);
    peer.wait_bound(1);
    let streams: Vec<_> = (1..4).map(|seed| (peer.visit("echo"), pattern(3_000_001, seed))).collect();
    for (stream, bytes) in &streams {
        stream.send(bytes);
        stream.finish();
    }
    for (stream, bytes) in &streams {
        let (received, end) = stream.wait_end();
        assert!(received == *bytes, "{} of {} bytes, or others", received.len(), bytes.len());
        assert_eq!(end, End::Fin);
    }
}

#[test]
fn upstream_that_is_known_by_name_is_looked_up() {
    let port = upstream::echo().port();
    let gateway = Gateway::adit();
    let _agent = Setup::new()
        .endpoint("long", "tcp://long.internal:1", &format!("tcp://localhost:{port}"))
        .endpoint("short", "https://short.internal", &port.to_string())
        .start(&gateway);
    let peer = gateway.peer(0);
    peer.wait_bound(2);
    let streams: Vec<_> = (0..50).map(|count| peer.visit(if count % 2 == 0 { "long" } else { "short" })).collect();
    for stream in &streams {
        stream.send(b"hello");
        stream.finish();
    }
    for stream in &streams {
        assert_eq!(stream.wait_end(), (b"hello".to_vec(), End::Fin));
    }
}

#[test]
fn visitors_end_reaches_the_upstream_which_answers_after_it() {
    let upstream = upstream::tcp(|mut socket| {
        let mut request = Vec::new();
        socket.read_to_end(&mut request).unwrap();
        upstream::send(&mut socket, format!("{} bytes", request.len()).as_bytes());
    });
    let gateway = Gateway::adit();
    let _agent = Setup::new().tcp("sum", upstream).start(&gateway);
    let peer = gateway.peer(0);
    peer.wait_bound(1);
    let stream = peer.visit("sum");
    stream.send(&pattern(70_000, 1));
    stream.finish();
    assert_eq!(stream.wait_end(), (b"70000 bytes".to_vec(), End::Fin));
}

#[test]
fn upstreams_end_reaches_the_visitor_who_goes_on_sending_after_it() {
    let (sender, heard) = mpsc::channel();
    let upstream = upstream::tcp(move |mut socket| {
        socket.write_all(b"hello").unwrap();
        socket.shutdown(Shutdown::Write).unwrap();
        let mut rest = Vec::new();
        socket.read_to_end(&mut rest).unwrap();
        sender.send(rest).unwrap();
    });
    let gateway = Gateway::adit();
    let _agent = Setup::new().tcp("greeter", upstream).start(&gateway);
    let peer = gateway.peer(0);
    peer.wait_bound(1);
    let stream = peer.visit("greeter");
    assert_eq!(stream.wait_end(), (b"hello".to_vec(), End::Fin));
    let bytes = pattern(1_000_000, 2);
    stream.send(&bytes);
    stream.finish();
    assert!(heard.recv_timeout(crate::patience::PATIENCE).unwrap() == bytes);
}

#[test]
fn stalled_stream_leaves_a_hundred_others_flowing() {
    let upstream = upstream::tcp(|mut socket| {
        read_exactly(&mut socket, 1);
        upstream::send(&mut socket, &pattern(600_000, 3));
    });
    let gateway = Gateway::adit();
    let _agent = Setup::new().tcp("source", upstream).tcp("echo", upstream::echo()).start(&gateway);
    let peer = gateway.peer(0);
    peer.wait_bound(2);
    let stalled = peer.visit_and_hold("source");
    stalled.send(b"!");
    stalled.wait_held(WINDOW);

    let bytes = pattern(40_000, 4);
    let others: Vec<_> = (0..100).map(|_| peer.visit("echo")).collect();
    for other in &others {
        other.send(&bytes);
        other.finish();
    }
    for other in &others {
        let (received, end) = other.wait_end();
        assert!(received == bytes);
        assert_eq!(end, End::Fin);
    }
    stalled.take_all();
    assert!(stalled.wait_received(600_000) == pattern(600_000, 3));
}

#[test]
fn upstream_that_takes_nothing_leaves_the_others_flowing() {
    let (release, released) = mpsc::channel::<()>();
    let released = std::sync::Mutex::new(released);
    let upstream = upstream::tcp(move |mut socket| {
        released.lock().unwrap().recv_timeout(crate::patience::PATIENCE).unwrap();
        let mut all = Vec::new();
        socket.read_to_end(&mut all).unwrap();
        upstream::send(&mut socket, &all);
    });
    let gateway = Gateway::adit();
    let _agent = Setup::new().tcp("slow", upstream).tcp("echo", upstream::echo()).start(&gateway);
    let peer = gateway.peer(0);
    peer.wait_bound(2);
    let slow = peer.visit("slow");
    let bytes = pattern(12_000_000, 5);
    slow.send(&bytes);
    slow.finish();
    let other = peer.visit("echo");
    other.send(&bytes[..1_000_000]);
    other.finish();
    assert!(other.wait_end().0 == bytes[..1_000_000]);
    assert!(slow.sent() < bytes.len(), "the upstream's buffers took everything");
    release.send(()).unwrap();
    assert!(slow.wait_end() == (bytes, End::Fin));
}

/// Credit of a fresh stream.
const WINDOW: usize = 262_144;
