//! SIGTERM.

use std::io::Read;
use std::sync::Mutex;
use std::sync::mpsc;

use crate::gateway::{Behaviour, Gateway};
use crate::patience::PATIENCE;
use crate::peer::{End, bind_id};
use crate::program::Setup;
use crate::upstream::{self, pattern, read_exactly};

#[test]
fn sigterm_takes_endpoints_offline_and_lets_a_live_stream_end() {
    let (release, released) = mpsc::channel::<()>();
    let released = Mutex::new(released);
    let upstream = upstream::tcp(move |mut socket| {
        read_exactly(&mut socket, 1);
        released.lock().unwrap().recv_timeout(PATIENCE).unwrap();
        upstream::send(&mut socket, &pattern(2_000_000, 1));
        let _ = socket.shutdown(std::net::Shutdown::Write);
        let mut end = [0; 1];
        let _ = socket.read(&mut end);
    });
    let gateway = Gateway::adit();
    let mut agent = Setup::new().tcp("file", upstream).tcp("echo", upstream::echo()).start(&gateway);
    let peer = gateway.peer(0);
    peer.wait_bound(2);
    let stream = peer.visit("file");
    stream.send(b"!");
    stream.finish();
    agent.wait_line(&["endpoint=file", "opened for visitor"]);

    agent.signal("TERM");
    let unbinds = peer.wait("two Unbinds", |state| (state.unbinds.len() == 2).then(|| state.unbinds.clone()));
    assert_eq!(unbinds, [bind_id("file"), bind_id("echo")]);
    // An endpoint that is offline takes no new visitor.
    assert!(matches!(peer.visit("echo").wait_end().1, End::Reset(_)));
    assert!(agent.is_running());
    release.send(()).unwrap();
    let (received, end) = stream.wait_end();
    assert!(received == pattern(2_000_000, 1), "{} bytes", received.len());
    assert_eq!(end, End::Fin);
    peer.wait("its goodbye", |state| state.go_away.clone());
    assert_eq!(agent.wait_exit().code(), Some(0));
    assert_eq!(gateway.accepted(), 1);
}

#[test]
fn drain_ends_at_its_timeout_whatever_lives() {
    let gateway = Gateway::adit();
    let mut agent = Setup::new().agent("drain_timeout", "1s").tcp("echo", upstream::echo()).start(&gateway);
    let peer = gateway.peer(0);
    peer.wait_bound(1);
    let stream = peer.visit("echo");
    stream.send(b"x");
    stream.wait_received(1);
    agent.signal("TERM");
    assert_eq!(agent.wait_exit().code(), Some(0));
    peer.wait_closed();
}

#[test]
fn last_bytes_before_the_exit_arrive_over_a_link_that_is_read_late() {
    let gateway = Gateway::adit();
    let bytes = pattern(200_000, 2);
    let all = bytes.clone();
    let upstream = upstream::tcp(move |mut socket| {
        read_exactly(&mut socket, 1);
        upstream::send(&mut socket, &all);
    });
    let mut agent = Setup::new().tcp("file", upstream).start(&gateway);
    let peer = gateway.peer(0);
    peer.wait_bound(1);
    let streams: Vec<_> = (0..40).map(|_| peer.visit("file")).collect();
    for stream in &streams {
        stream.send(b"!");
        stream.finish();
    }
    streams[0].wait_received(1);
    agent.signal("TERM");
    // Nobody reads the link until the agent has put everything into it.
    peer.pause(|| agent.wait_line(&["drain"]));
    for stream in &streams {
        let (received, end) = stream.wait_end();
        assert!(received == bytes, "{} bytes", received.len());
        assert_eq!(end, End::Fin);
    }
    assert_eq!(agent.wait_exit().code(), Some(0));
}

#[test]
fn sigterm_ends_an_agent_that_is_not_connected() {
    let gateway = Gateway::new(Behaviour::Ignore);
    for signal in ["TERM", "INT"] {
        let before = gateway.accepted();
        let mut agent = Setup::new().tcp("echo", upstream::echo()).start(&gateway);
        gateway.wait_accepted(before + 1);
        agent.signal(signal);
        assert_eq!(agent.wait_exit().code(), Some(0));
    }
}

#[test]
fn second_sigterm_cuts_the_drain_short() {
    let gateway = Gateway::adit();
    let mut agent = Setup::new().agent("drain_timeout", "600s").tcp("echo", upstream::echo()).start(&gateway);
    let peer = gateway.peer(0);
    peer.wait_bound(1);
    let stream = peer.visit("echo");
    stream.send(b"x");
    stream.wait_received(1);
    agent.signal("TERM");
    peer.wait("the Unbind", |state| (!state.unbinds.is_empty()).then_some(()));
    agent.signal("TERM");
    assert_eq!(agent.wait_exit().code(), Some(1));
}

#[test]
fn sigusr1_does_not_cut_a_drain_short() {
    let gateway = Gateway::adit();
    let mut agent = Setup::new().agent("drain_timeout", "600s").tcp("echo", upstream::echo()).start(&gateway);
    let peer = gateway.peer(0);
    peer.wait_bound(1);
    let stream = peer.visit("echo");
    stream.send(b"x");
    stream.wait_received(1);
    agent.signal("TERM");
    peer.wait("the Unbind", |state| (!state.unbinds.is_empty()).then_some(()));
    agent.signal("USR1");
    agent.wait_line(&["told to reconnect"]);
    stream.send(b"y");
    assert_eq!(stream.wait_received(2), b"xy");
    stream.finish();
    assert_eq!(stream.wait_end().1, End::Fin);
    assert_eq!(agent.wait_exit().code(), Some(0));
    assert_eq!(gateway.accepted(), 1);
}

#[test]
fn goodbye_that_nobody_answers_costs_no_time_of_the_processor() {
    let gateway = Gateway::adit();
    let mut agent = Setup::new().agent("drain_timeout", "0s").tcp("echo", upstream::echo()).start(&gateway);
    let peer = gateway.peer(0);
    peer.wait_bound(1);
    let stream = peer.visit("echo");
    stream.send(b"x");
    stream.wait_received(1);
    agent.wait_line(&["opened for visitor"]);
    // The gateway neither reads nor ends its direction.
    let used = peer.pause(|| {
        agent.signal("TERM");
        agent.wait_line(&["drained"]);
        let before = agent.cpu_ticks();
        std::thread::sleep(QUIET);
        agent.cpu_ticks() - before
    });
    assert!(used <= 5, "{used} ticks in {QUIET:?} without anything to do");
    assert_eq!(agent.wait_exit().code(), Some(0));
}

/// Half a second, 50 ticks.
const QUIET: std::time::Duration = std::time::Duration::from_millis(500);
