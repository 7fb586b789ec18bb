//! The limit of descriptors: known, kept, and survived where it is met all the same.

use adit::frame::ErrorCode;

use crate::gateway::Gateway;
use crate::peer::End;
use crate::program::Setup;
use crate::upstream;

#[test]
fn visitors_are_limited_to_what_the_descriptors_allow_and_the_gateway_is_told() {
    let gateway = Gateway::adit();
    let agent = Setup::new().tcp("echo", upstream::echo()).descriptors(64).start(&gateway);
    let peer = gateway.peer(0);
    peer.wait_bound(1);
    agent.wait_line(&["up to 32 visitors at a time (64 descriptors, 32 of them kept back), buffers of 8MiB"]);
    let announced = peer.wait("the log-in", |state| state.auth.as_ref()?.extra.adit.as_ref()?.streams_max);
    assert_eq!(announced, 32);
    // The gateway counts the agent's heartbeat too.
    let visitors: Vec<_> = (0..31).map(|_| peer.visit("echo")).collect();
    for visitor in &visitors {
        visitor.send(b"x");
        visitor.wait_received(1);
    }
    assert!(agent.descriptors() < 64);
    assert_eq!(agent.lines(&["unreachable"]).len(), 0);
}

#[test]
fn streams_max_is_kept_against_a_gateway_that_ignores_it() {
    let gateway = Gateway::official();
    let agent = Setup::new().tcp("echo", upstream::echo()).agent("streams_max", 3).start(&gateway);
    let peer = gateway.peer(0);
    peer.wait_bound(1);
    let visitors: Vec<_> = (0..4).map(|_| peer.visit("echo")).collect();
    assert_eq!(visitors[3].wait_reset(), ErrorCode::STREAM_REFUSED);
    agent.wait_line(&["a visitor was refused: there are 3 already"]);
    for visitor in &visitors[..3] {
        visitor.send(b"x");
        visitor.wait_received(1);
    }
    visitors[0].finish();
    visitors[0].wait_end();
    agent.wait_line(&["closed (done)"]);
    let next = peer.visit("echo");
    next.send(b"x");
    next.wait_received(1);
}

#[test]
fn no_descriptor_left_refuses_the_visitor_and_nothing_else() {
    let gateway = Gateway::adit();
    let agent = Setup::new().tcp("echo", upstream::echo()).start(&gateway);
    let peer = gateway.peer(0);
    peer.wait_bound(1);
    let first = peer.visit("echo");
    first.send(b"x");
    first.wait_received(1);
    // Those that it has stay; there is no other below the limit.
    agent.limit_descriptors(3);
    let ticks = agent.cpu_ticks();
    for _ in 0..20 {
        let (received, end) = peer.visit("echo").wait_end();
        assert_eq!((received, end), (Vec::new(), End::Reset(ErrorCode::UPSTREAM_UNREACHABLE)));
    }
    let line = agent.wait_line(&["is unreachable", "Too many open files"]);
    assert!(line.contains("endpoint=echo"), "{line}");
    assert_eq!(agent.lines(&["Too many open files"]).len(), 1, "said once");
    assert!(agent.cpu_ticks() - ticks < 100, "it does not spin");
    first.send(b"y");
    first.wait_received(2);
    first.finish();
    first.wait_end();
    agent.wait_connections(1);
    agent.limit_descriptors(1024);
    let stream = peer.visit("echo");
    stream.send(b"z");
    assert_eq!(stream.wait_received(1), b"z");
}
