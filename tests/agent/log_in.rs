//! Log-ins: what the agent says, and what it does when it is not let in.

use std::time::Duration;

use adit::message::WireError;

use crate::gateway::{Behaviour, Gateway};
use crate::peer::{COOKIE, Script};
use crate::program::{Setup, TOKEN};
use crate::site::Site;
use crate::upstream;

#[test]
fn agent_logs_in_and_brings_its_endpoints_online() {
    let gateway = Gateway::adit();
    let agent = Setup::new()
        .tcp("db", upstream::nobody())
        .endpoint("web", "https://web.internal", "http://localhost:8080")
        .agent("instance_id", "box-7")
        .start(&gateway);
    let peer = gateway.peer(0);
    peer.wait_bound(2);
    peer.wait("the log-in", |state| {
        let auth = state.auth.as_ref()?;
        assert_eq!(auth.extra.authtoken.expose(), TOKEN);
        assert_eq!((auth.extra.client_type.as_str(), auth.client_id.as_str()), ("adit", ""));
        assert_eq!(auth.extra.adit.as_ref().and_then(|adit| adit.instance.as_deref()), Some("box-7"));
        let names: Vec<_> = state.binds.iter().map(|bind| (bind.extra.name.clone(), bind.id.clone())).collect();
        assert_eq!(names, [("db".to_owned(), String::new()), ("web".to_owned(), String::new())]);
        Some(())
    });
    agent.wait_line(&["endpoint=web", "online at"]);
}

#[test]
fn refused_token_is_tried_again_and_named_by_no_line_of_the_log() {
    let error = WireError::new(107, "the token is not known");
    let gateway = Gateway::new(Behaviour::Serve(Script { adit: true, refuses: Some(error), ..Script::default() }));
    let mut agent = Setup::new().tcp("db", upstream::nobody()).start(&gateway);
    agent.wait_line(&["refuses the log-in", "the token is not known", "ERR_NGROK_107"]);
    gateway.wait_accepted(2);
    assert!(agent.is_running());
    gateway.set(Behaviour::Serve(Script { adit: true, ..Script::default() }));
    agent.wait_line(&["endpoint=db", "online"]);
    for secret in [TOKEN, COOKIE, "token-of-"] {
        assert_eq!(agent.lines(&[secret]), Vec::<String>::new());
    }
    assert!(!agent.lines(&["lvl=debug"]).is_empty());
}

#[test]
fn gateway_that_is_busy_says_when_to_come_back_within_bounds() {
    let wait = |said: u64| {
        let busy = Script {
            adit: true,
            refuses: Some(WireError::new(349, "many agents come back at once")),
            retry_after: Some(Duration::from_millis(said)),
            ..Script::default()
        };
        let agent = Setup::new().tcp("db", upstream::nobody()).start(&Gateway::new(Behaviour::Serve(busy)));
        agent.wait_line(&["refuses the log-in", "many agents come back at once"]);
        let line = agent.wait_line(&["the next attempt follows in", "ms"]);
        let number = line.split(" follows in ").nth(1).unwrap().split(' ').next().unwrap();
        number.parse::<u64>().unwrap()
    };
    // What was said, and a first delay of at most a second.
    assert!((20_000..=21_000).contains(&wait(20_000)));
    assert!((40_000..=41_000).contains(&wait(u32::MAX.into())), "nobody silences an agent for longer");
}

#[test]
fn refusal_that_is_followed_by_a_close_at_once_is_still_read() {
    let error = WireError::new(107, "the token is not known");
    let gateway = Gateway::new(Behaviour::Serve(Script { adit: true, refuses: Some(error), ..Script::default() }));
    let agent = Setup::new().tcp("db", upstream::nobody()).start(&gateway);
    let peer = gateway.peer(0);
    peer.wait("the log-in", |state| state.auth.is_some().then_some(()));
    peer.cut();
    agent.wait_line(&["refuses the log-in"]);
}

#[test]
fn certificate_of_a_stranger_is_explained_and_tried_again() {
    let gateway = Gateway::adit();
    let mut agent = Setup::new().trusts(&Site::new().ca_pem).tcp("db", upstream::nobody()).start(&gateway);
    agent.wait_line(&["no session with", "TLS failed", "connect_cas"]);
    gateway.wait_accepted(2);
    assert!(agent.is_running());
}

#[test]
fn gateway_that_never_answers_is_left_at_the_deadline() {
    let gateway = Gateway::new(Behaviour::Ignore);
    let agent = Setup::new().agent("connect_timeout", "1s").tcp("db", upstream::nobody()).start(&gateway);
    gateway.wait_accepted(1);
    gateway.set(Behaviour::Serve(Script { adit: true, ..Script::default() }));
    agent.wait_line(&["took the connection", "no answer in time"]);
    gateway.peer(0).wait_bound(1);
    agent.wait_connections(1);
}

#[test]
fn agent_keeps_trying_where_nobody_listens() {
    let mut gateway = Gateway::adit();
    let there = std::mem::replace(&mut gateway.address, upstream::nobody());
    let mut agent = Setup::new().tcp("db", upstream::nobody()).start(&gateway);
    let line = agent.wait_line(&["no session with", "refused"]);
    assert!(line.contains(&gateway.address.to_string()) && gateway.address != there, "{line}");
    agent.wait_lines(2, &["the next attempt follows in"]);
    agent.signal("TERM");
    assert_eq!(agent.wait_exit().code(), Some(0));
}

#[test]
fn refused_endpoint_costs_only_itself() {
    let script = Script { adit: true, refuses_endpoint: Some("b"), ..Script::default() };
    let gateway = Gateway::new(Behaviour::Serve(script));
    let agent = Setup::new().tcp("a", upstream::echo()).tcp("b", upstream::echo()).start(&gateway);
    agent.wait_line(&["endpoint=b refused", "another account has it"]);
    agent.wait_line(&["endpoint=a online"]);
    let peer = gateway.peer(0);
    peer.wait_bound(2);
    let stream = peer.visit("a");
    stream.send(b"x");
    assert_eq!(stream.wait_received(1), b"x");
    assert_eq!(gateway.accepted(), 1);
}
