//! SIGHUP: another configuration while streams live.

use std::io::{Read, Write};

use adit::frame::ErrorCode;
use serde_json::json;

use crate::gateway::{Behaviour, Gateway};
use crate::peer::{CLIENT_ID, End, Script, bind_id};
use crate::program::{Setup, TOKEN};
use crate::site::Site;
use crate::upstream;

#[test]
fn endpoints_come_go_and_move_without_touching_the_streams_of_the_others() {
    let gateway = Gateway::adit();
    let (old, new) = (answering(b"old"), answering(b"new"));
    let setup = Setup::new().tcp("stays", upstream::echo());
    let agent = setup.clone().tcp("goes", upstream::echo()).tcp("moves", old).start(&gateway);
    let peer = gateway.peer(0);
    peer.wait_bound(3);
    let (stays, moves) = (peer.visit("stays"), peer.visit("moves"));
    stays.send(b"before");
    stays.wait_received(6);
    moves.send(b"1");
    assert_eq!(moves.wait_received(3), b"old");

    agent.reload(&setup.tcp("moves", new).tcp("comes", upstream::echo()), &gateway);
    peer.wait("the Unbind", |state| (state.unbinds == [bind_id("goes")]).then_some(()));
    peer.wait_bound(4);
    let line = agent.wait_line(&["the configuration was read again"]);
    for words in ["endpoints added: comes", "removed: goes", "changed: moves"] {
        assert!(line.contains(words), "{words}: {line}");
    }
    stays.send(b" and after");
    assert_eq!(stays.wait_received(16), b"before and after");
    moves.send(b"2");
    assert_eq!(moves.wait_received(6), b"oldold");
    let moved = peer.visit("moves");
    moved.send(b"3");
    assert_eq!(moved.wait_received(3), b"new");
    let came = peer.visit("comes");
    came.send(b"x");
    assert_eq!(came.wait_received(1), b"x");
    assert_eq!(peer.visit("goes").wait_end(), (Vec::new(), End::Reset(ErrorCode::STREAM_REFUSED)));
    assert_eq!(gateway.accepted(), 1);
}

#[test]
fn streams_of_an_endpoint_that_is_gone_end_at_the_drain_timeout_and_dials_at_once() {
    let gateway = Gateway::adit();
    let silent = upstream::Silent::new();
    let setup = Setup::new().agent("drain_timeout", "1s").tcp("stays", upstream::echo());
    let agent = setup.clone().tcp("open", upstream::echo()).tcp("dialled", silent.address).start(&gateway);
    let peer = gateway.peer(0);
    peer.wait_bound(3);
    let (stays, open, dialled) = (peer.visit("stays"), peer.visit("open"), peer.visit("dialled"));
    for stream in [&stays, &open] {
        stream.send(b"x");
        stream.wait_received(1);
    }
    agent.wait_line(&["endpoint=dialled opened for visitor"]);
    agent.reload(&setup, &gateway);
    assert!(matches!(dialled.wait_end().1, End::Reset(_)));
    let (received, end) = open.wait_end();
    assert_eq!(received, b"x");
    assert!(matches!(end, End::Reset(_)), "{end:?}");
    stays.send(b"y");
    assert_eq!(stays.wait_received(2), b"xy");
    agent.wait_connections(2);
}

#[test]
fn bad_file_is_refused_with_its_errors_and_the_old_one_stays() {
    let gateway = Gateway::adit();
    let setup = Setup::new().tcp("a", upstream::echo());
    let agent = setup.clone().start(&gateway);
    let peer = gateway.peer(0);
    peer.wait_bound(1);
    let bad = setup.agent("connect_ulr", "x").agent("log_level", "loud").agent("authtoken", "a s3cret of two words");
    agent.reload(&bad, &gateway);
    agent.wait_line(&["the configuration is refused (reload 1), the one before stays in force"]);
    agent.wait_line(&["agent.connect_ulr", "did you mean"]);
    agent.wait_line(&["agent.log_level", "loud"]);
    agent.wait_line(&["agent.authtoken", "one word"]);
    assert!(!agent.log().contains("s3cret") && !agent.log().contains(TOKEN));
    let stream = peer.visit("a");
    stream.send(b"x");
    assert_eq!(stream.wait_received(1), b"x");
    std::fs::write(agent.folder().join("adit.json"), "{").unwrap();
    agent.signal("HUP");
    agent.wait_line(&["adit.json", "not valid JSON"]);
    assert_eq!((gateway.accepted(), peer.wait("unbinds", |state| Some(state.unbinds.len()))), (1, 0));
}

#[test]
fn only_keys_that_a_session_hangs_on_begin_another_one() {
    let gateway = Gateway::adit();
    let setup = Setup::new().agent("log_level", "info").tcp("a", upstream::echo());
    let agent = setup.clone().start(&gateway);
    let peer = gateway.peer(0);
    peer.wait_bound(1);
    let setup = setup.agent("log_level", "debug").agent("drain_timeout", "1s").agent("connect_timeout", "5s");
    agent.reload(&setup, &gateway);
    agent.wait_line(&["the endpoints are the same"]);
    let stream = peer.visit("a");
    stream.send(b"x");
    stream.wait_received(1);
    agent.wait_line(&["lvl=debug", "endpoint=a opened for visitor"]);
    assert_eq!(gateway.accepted(), 1);

    agent.reload(&setup.agent("metadata", "other"), &gateway);
    agent.wait_line(&["a new session begins"]);
    let peer = gateway.peer(1);
    peer.wait_bound(1);
    peer.wait("the log-in", |state| {
        let auth = state.auth.as_ref()?;
        assert_eq!((auth.extra.metadata.as_str(), auth.client_id.as_str()), ("other", CLIENT_ID));
        assert_eq!(state.binds[0].id, bind_id("a"));
        Some(())
    });
}

#[test]
fn policy_changes_on_the_live_session() {
    let gateway = Gateway::adit();
    let setup = Setup::new().endpoint("web", "https://web.internal", "http://127.0.0.1:1");
    let agent = setup.clone().start(&gateway);
    let peer = gateway.peer(0);
    peer.wait_bound(1);
    let policy = r#"{"on_http_request":[]}"#;
    agent.reload(&setup.with("traffic_policy", policy), &gateway);
    agent.wait_line(&["endpoint=web changed at the gateway"]);
    let patch = peer.wait("the change", |state| state.patches.first().cloned());
    assert_eq!(patch.traffic_policy.as_deref(), Some(policy));
    assert_eq!(peer.wait("unbinds", |state| Some(state.unbinds.len())), 0);
}

#[test]
fn what_was_mended_is_tried_at_once() {
    let refusal = adit::message::WireError::new(107, "the token is not known");
    let gateway = Gateway::new(Behaviour::Serve(Script { adit: true, refuses: Some(refusal), ..Script::default() }));
    let setup = Setup::new().tcp("a", upstream::echo());
    let agent = setup.clone().start(&gateway);
    agent.wait_line(&["refuses the log-in"]);
    gateway.set(Behaviour::Serve(Script { adit: true, ..Script::default() }));
    let before = gateway.accepted();
    agent.reload(&setup.agent("authtoken", "tok_other_0ne"), &gateway);
    let peer = gateway.peer(before);
    peer.wait_bound(1);
    peer.wait("the log-in", |state| {
        assert_eq!(state.auth.as_ref()?.extra.authtoken.expose(), "tok_other_0ne");
        Some(())
    });
}

#[test]
fn certificate_files_are_read_again() {
    let gateway = Gateway::adit();
    let setup = Setup::new().tcp("a", upstream::echo());
    let agent = setup.clone().trusts(&Site::new().ca_pem).start(&gateway);
    agent.wait_line(&["no session with", "connect_cas"]);
    agent.reload(&setup, &gateway);
    agent.wait_line(&["endpoint=a online"]);
    assert!(agent.folder().join("ca.pem").exists());
}

#[test]
fn another_address_of_the_gateway_is_another_gateway() {
    let (first, second) = (Gateway::adit(), Gateway::adit());
    let setup = Setup::new().tcp("a", upstream::echo());
    let agent = setup.clone().start(&first);
    first.peer(0).wait_bound(1);
    agent.reload(&setup.agent("metadata", json!("x")), &second);
    first.peer(0).wait_closed();
    let peer = second.peer(0);
    peer.wait_bound(1);
    peer.wait("the log-in", |state| {
        let auth = state.auth.as_ref()?;
        assert_eq!((auth.client_id.as_str(), auth.extra.cookie.expose()), ("", ""));
        assert_eq!(state.binds[0].id, "");
        Some(())
    });
}

/// Sends this for each byte that it gets.
fn answering(answer: &'static [u8]) -> std::net::SocketAddr {
    upstream::tcp(move |mut socket| {
        let mut byte = [0; 1];
        while socket.read_exact(&mut byte).is_ok() && socket.write_all(answer).is_ok() {}
    })
}
