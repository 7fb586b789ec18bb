//! Ends that are not in good order: they stay visible, and cost no bytes that were sent before.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};

use adit::frame::ErrorCode;

use crate::gateway::Gateway;
use crate::patience::PATIENCE;
use crate::peer::End;
use crate::program::Setup;
use crate::upstream::{self, abort, pattern, read_exactly};

#[test]
fn upstream_that_resets_in_the_middle_of_a_download_is_an_abort_after_what_it_sent() {
    let upstream = upstream::tcp(|mut socket| {
        read_exactly(&mut socket, 1);
        socket.write_all(&pattern(100_000, 1)).unwrap();
        // The next byte says that everything has arrived.
        read_exactly(&mut socket, 1);
        abort(socket);
    });
    let gateway = Gateway::adit();
    let _agent = Setup::new().tcp("file", upstream).start(&gateway);
    let peer = gateway.peer(0);
    peer.wait_bound(1);
    let stream = peer.visit("file");
    stream.send(b"!");
    stream.wait_received(100_000);
    stream.send(b"!");
    let (received, end) = stream.wait_end();
    assert!(received == pattern(100_000, 1));
    assert!(matches!(end, End::Reset(_)), "{end:?}");
}

#[test]
fn upstream_that_resets_while_it_is_written_to_is_no_clean_end() {
    let upstream = upstream::tcp(|mut socket| {
        // The rest of the upload stays unread: the close is a reset, and the agent may notice it by writing first.
        read_exactly(&mut socket, 100_000);
        drop(socket);
    });
    let gateway = Gateway::adit();
    let _agent = Setup::new().tcp("sink", upstream).start(&gateway);
    let peer = gateway.peer(0);
    peer.wait_bound(1);
    for round in 0..10 {
        let stream = peer.visit("sink");
        stream.send(&pattern(3_000_000, round));
        let (received, end) = stream.wait_end();
        assert_eq!(received, b"");
        assert!(matches!(end, End::Reset(_)), "{end:?}");
    }
}

#[test]
fn abort_by_the_gateway_resets_the_upstream_at_once() {
    let (sender, heard) = mpsc::channel();
    let upstream = upstream::tcp(move |mut socket| {
        socket.write_all(b"ready").unwrap();
        let mut rest = [0; 1];
        sender.send(socket.read(&mut rest).map_err(|error| error.kind())).unwrap();
    });
    let gateway = Gateway::adit();
    let _agent = Setup::new().tcp("slow", upstream).start(&gateway);
    let peer = gateway.peer(0);
    peer.wait_bound(1);
    let stream = peer.visit("slow");
    stream.wait_received(5);
    stream.reset();
    assert_eq!(heard.recv_timeout(PATIENCE).unwrap(), Err(ErrorKind::ConnectionReset));
}

#[test]
fn lost_link_resets_the_upstreams() {
    let (sender, heard) = mpsc::channel();
    let upstream = upstream::tcp(move |mut socket| {
        socket.write_all(b"ready").unwrap();
        let mut rest = [0; 1];
        sender.send(socket.read(&mut rest).map_err(|error| error.kind())).unwrap();
    });
    let gateway = Gateway::adit();
    let _agent = Setup::new().tcp("slow", upstream).start(&gateway);
    let peer = gateway.peer(0);
    peer.wait_bound(1);
    peer.visit("slow").wait_received(5);
    peer.cut();
    assert_eq!(heard.recv_timeout(PATIENCE).unwrap(), Err(ErrorKind::ConnectionReset));
}

#[test]
fn early_answer_to_a_long_upload_is_delivered() {
    let upstream = upstream::tcp(|mut socket| {
        read_exactly(&mut socket, 1000);
        socket.write_all(ANSWER).unwrap();
        drop(socket);
    });
    let gateway = Gateway::adit();
    let agent = Setup::new().endpoint("web", "https://web.internal", &format!("http://{upstream}")).start(&gateway);
    let peer = gateway.peer(0);
    peer.wait_bound(1);
    let stream = peer.visit("web");
    stream.send(&pattern(5_000_000, 1));
    stream.finish();
    assert_eq!(stream.wait_end().0, ANSWER);
    agent.wait_line(&["endpoint=web closed"]);
}

#[test]
fn clean_early_answer_stays_clean_and_the_rest_of_the_upload_is_turned_away() {
    let (release, released) = mpsc::channel::<()>();
    let released = Arc::new(Mutex::new(released));
    let upstream = upstream::tcp(move |mut socket| {
        socket.write_all(ANSWER).unwrap();
        socket.shutdown(Shutdown::Write).unwrap();
        released.lock().unwrap().recv_timeout(PATIENCE).unwrap();
        // Nothing is unread: what comes after this close is answered by a reset, which cannot hurt the answer.
        drop(socket);
    });
    let gateway = Gateway::adit();
    let agent = Setup::new().tcp("web", upstream).start(&gateway);
    let peer = gateway.peer(0);
    peer.wait_bound(1);
    let stream = peer.visit("web");
    assert_eq!(stream.wait_end(), (ANSWER.to_vec(), End::Fin));
    release.send(()).unwrap();
    for _ in 0..20 {
        stream.send(&pattern(262_144, 2));
    }
    // "Takes no more", which says nothing against the answer.
    assert_eq!(stream.wait_reset(), ErrorCode::STREAM_CLOSED);
    agent.wait_line(&["endpoint=web closed"]);
}

const ANSWER: &[u8] = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
