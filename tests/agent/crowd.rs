//! Many visitors at once.

use crate::gateway::Gateway;
use crate::peer::End;
use crate::program::Setup;
use crate::upstream::{self, pattern};

#[test]
fn six_hundred_visitors_are_served_at_once() {
    let gateway = Gateway::adit();
    let agent = Setup::new().tcp("echo", upstream::echo()).start(&gateway);
    let peer = gateway.peer(0);
    peer.wait_bound(1);
    let bytes = pattern(3000, 6);
    let streams: Vec<_> = (0..600).map(|_| peer.visit("echo")).collect();
    for stream in &streams {
        stream.send(&bytes);
    }
    // Nobody has ended yet: all of them live at the same time.
    for stream in &streams {
        assert!(stream.wait_received(bytes.len()) == bytes);
    }
    agent.wait_connections(601);
    for stream in &streams {
        stream.finish();
    }
    for stream in &streams {
        assert_eq!(stream.wait_end().1, End::Fin);
    }
    assert_eq!(gateway.accepted(), 1);
}

#[test]
fn agent_has_one_connection_to_the_gateway_and_listens_nowhere() {
    let gateway = Gateway::adit();
    let agent = Setup::new().tcp("echo", upstream::echo()).start(&gateway);
    let peer = gateway.peer(0);
    peer.wait_bound(1);
    agent.wait_connections(1);
    let stream = peer.visit("echo");
    stream.send(b"x");
    stream.finish();
    stream.wait_end();
    agent.wait_line(&["closed (done)"]);
    agent.wait_connections(1);
    assert_eq!(gateway.accepted(), 1);
}
