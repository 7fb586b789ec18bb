//! Sessions that end, and the ones after them.

use std::io::Write;
use std::thread;
use std::time::Duration;

use adit::frame::ErrorCode;
use adit::message::StreamType;

use crate::gateway::Gateway;
use crate::peer::{CLIENT_ID, COOKIE, Peer, bind_id};
use crate::program::Setup;
use crate::upstream;

#[test]
fn goaway_is_followed_by_a_session_with_the_same_ids() {
    let gateway = Gateway::adit();
    let agent = Setup::new().tcp("a", upstream::echo()).tcp("b", upstream::echo()).start(&gateway);
    let peer = gateway.peer(0);
    peer.wait_bound(2);
    peer.go_away(ErrorCode::NO_ERROR, "the gateway restarts");
    agent.wait_line(&["no session with", "the gateway restarts"]);
    let peer = gateway.peer(1);
    peer.wait_bound(2);
    assert_resumed(&peer, &["a", "b"]);
    assert_serves(&peer, "b");
}

#[test]
fn cut_connection_is_followed_by_a_session_with_the_same_ids() {
    let gateway = Gateway::adit();
    let agent = Setup::new().tcp("a", upstream::echo()).start(&gateway);
    gateway.peer(0).wait_bound(1);
    gateway.peer(0).cut();
    let peer = gateway.peer(1);
    peer.wait_bound(1);
    assert_resumed(&peer, &["a"]);
    agent.wait_connections(1);
    assert_serves(&peer, "a");
}

#[test]
fn gateway_that_breaks_the_protocol_is_told_so_and_left() {
    let gateway = Gateway::adit();
    let agent = Setup::new().tcp("a", upstream::echo()).start(&gateway);
    let peer = gateway.peer(0);
    peer.wait_bound(1);
    // A DATA frame with SYN and an id of the agent's own parity.
    peer.inject(&[0, 0, 0, 0x12, 0, 0, 0x0f, 0xff]);
    agent.wait_line(&["no session with", "broke the protocol"]);
    let (code, _) = peer.wait("its goodbye", |state| state.go_away.clone());
    assert_eq!(code, ErrorCode::PROTOCOL_ERROR);
    gateway.peer(1).wait_bound(1);
}

#[test]
fn gateway_that_answers_no_beat_is_left_at_the_deadline() {
    let gateway = Gateway::adit();
    let agent = Setup::new()
        .agent("heartbeat_interval", "1s")
        .agent("heartbeat_tolerance", "1s")
        .tcp("a", upstream::echo())
        .start(&gateway);
    let peer = gateway.peer(0);
    peer.wait_bound(1);
    peer.pause(|| agent.wait_line(&["no session with", "no heartbeat came back"]));
    let peer = gateway.peer(1);
    peer.wait_bound(1);
    assert_resumed(&peer, &["a"]);
}

#[test]
fn sigusr1_ends_the_session_and_begins_another() {
    let gateway = Gateway::adit();
    let agent = Setup::new().tcp("a", upstream::echo()).start(&gateway);
    let peer = gateway.peer(0);
    peer.wait_bound(1);
    agent.signal("USR1");
    peer.wait_closed();
    peer.wait("its goodbye", |state| state.go_away.clone());
    let peer = gateway.peer(1);
    peer.wait_bound(1);
    assert_resumed(&peer, &["a"]);
    assert_serves(&peer, "a");
}

#[test]
fn agent_that_is_stopped_among_busy_streams_rests_until_a_signal() {
    let upstream = upstream::tcp(|mut socket| while socket.write_all(&[7; 65536]).is_ok() {});
    let gateway = Gateway::adit();
    let agent = Setup::new().agent("remote_management", true).tcp("busy", upstream).start(&gateway);
    let peer = gateway.peer(0);
    peer.wait_bound(1);
    let streams: Vec<_> = (0..30).map(|_| peer.visit("busy")).collect();
    for stream in &streams {
        stream.wait_received(100_000);
    }
    peer.command(StreamType::Stop, b"{}");
    agent.wait_line(&["stopped by the gateway"]);
    peer.wait_closed();
    // A loop that goes round for nothing uses all of the time.
    let before = agent.cpu_ticks();
    thread::sleep(QUIET);
    let used = agent.cpu_ticks() - before;
    assert!(used <= 5, "{used} ticks in {QUIET:?} without anything to do");
    agent.wait_connections(0);
    assert_eq!(gateway.accepted(), 1);
    agent.signal("USR1");
    gateway.peer(1).wait_bound(1);
}

#[test]
fn restart_is_answered_and_means_another_session() {
    let gateway = Gateway::adit();
    let _agent = Setup::new().agent("remote_management", true).tcp("a", upstream::echo()).start(&gateway);
    let peer = gateway.peer(0);
    peer.wait_bound(1);
    peer.command(StreamType::Restart, b"{}");
    peer.wait("an answer", |state| {
        let reply = state.commands.first()?.as_ref();
        assert_eq!(reply.expect("an answer before the goodbye").error, None);
        Some(())
    });
    let peer = gateway.peer(1);
    peer.wait_bound(1);
    assert_resumed(&peer, &["a"]);
    assert_serves(&peer, "a");
}

#[test]
fn commands_are_refused_unless_remote_management_is_on() {
    let gateway = Gateway::adit();
    let agent = Setup::new().tcp("a", upstream::echo()).start(&gateway);
    let peer = gateway.peer(0);
    peer.wait_bound(1);
    for (count, kind) in [StreamType::Stop, StreamType::Restart, StreamType::Update].into_iter().enumerate() {
        peer.command(kind, br#"{"Version":"9","PermitMajor":true}"#);
        let reply =
            peer.wait("an answer", |state| (state.commands.len() > count).then(|| state.commands[count].clone()));
        assert!(reply.unwrap().error.is_some(), "{kind:?}");
        agent.wait_line(&[&format!("the gateway asked for {kind:?}; refused")]);
    }
    assert_serves(&peer, "a");
    assert_eq!(gateway.accepted(), 1);
}

fn assert_resumed(peer: &Peer, names: &[&str]) {
    peer.wait("the log-in", |state| {
        let auth = state.auth.as_ref()?;
        assert_eq!((auth.client_id.as_str(), auth.extra.cookie.expose()), (CLIENT_ID, COOKIE));
        assert_eq!(state.binds.len(), names.len());
        for (bind, name) in state.binds.iter().zip(names) {
            let id = bind_id(name);
            assert_eq!(bind.extra.token.expose(), format!("token-of-{id}"));
            assert_eq!(bind.id, id);
        }
        Some(())
    });
}

fn assert_serves(peer: &Peer, name: &str) {
    let stream = peer.visit(name);
    stream.send(b"still there");
    assert_eq!(stream.wait_received(11), b"still there");
}

/// Half a second, 50 ticks.
const QUIET: Duration = Duration::from_millis(500);
