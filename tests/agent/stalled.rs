//! Upstreams that stand still, many at once: the budget holds, the link is read, and others are served.

use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::json;

use crate::gateway::{Behaviour, Gateway};
use crate::peer::{Peer, Script, Stream};
use crate::program::{Agent, Setup};
use crate::site::Site;
use crate::upstream::{self, pattern};

/// A service that takes connections and reads nothing.
struct Stalled {
    address: SocketAddr,
    _sockets: Arc<Mutex<Vec<TcpStream>>>,
}

impl Stalled {
    fn new() -> Self {
        let sockets = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&sockets);
        Self { address: upstream::tcp(move |socket| shared.lock().unwrap().push(socket)), _sockets: sockets }
    }
}

const MEMORY_MAX: usize = 4 << 20;

fn start(gateway: &Gateway, stalled: &Stalled) -> (Agent, Peer) {
    let agent = Setup::new()
        .tcp("stalled", stalled.address)
        .tcp("echo", upstream::echo())
        .agent("memory_max", json!(MEMORY_MAX))
        .start(gateway);
    let peer = gateway.peer(0);
    peer.wait_bound(2);
    (agent, peer)
}

/// Visitors that each send `len` bytes to where nobody reads them.
fn upload(peer: &Peer, count: usize, len: usize) -> Vec<Stream> {
    let bytes = vec![7; len];
    let visitors: Vec<_> = (0..count).map(|_| peer.visit("stalled")).collect();
    visitors.iter().for_each(|visitor| visitor.send(&bytes));
    visitors
}

/// A visitor of a service that does read.
struct Steady(Stream, usize);

impl Steady {
    fn new(peer: &Peer) -> Self {
        Self(peer.visit("echo"), 0)
    }

    fn exchange(&mut self) {
        let bytes = pattern(100_000, 3);
        self.0.send(&bytes);
        self.1 += bytes.len();
        assert!(self.0.wait_received(self.1).ends_with(&bytes));
    }
}

#[test]
fn budget_holds_against_the_protocols_window_on_every_stream() {
    let (gateway, stalled) = (Gateway::official(), Stalled::new());
    let (agent, peer) = start(&gateway, &stalled);
    let mut steady = Steady::new(&peer);
    steady.exchange();
    let idle = agent.anonymous_bytes();
    // Their windows are ten times the budget; beside one the kernel takes half a megabyte.
    let visitors = upload(&peer, 160, 1 << 20);
    agent.wait_line(&["a visitor was aborted: buffers are full", "agent.memory_max"]);
    // The link is read all the while, and who is drained flows.
    (0..10).for_each(|_| steady.exchange());
    let grown = agent.anonymous_bytes().saturating_sub(idle);
    assert!(grown <= MEMORY_MAX + (1 << 20), "{grown} bytes for a budget of {MEMORY_MAX}");
    visitors.iter().for_each(Stream::reset);
    Steady::new(&peer).exchange();
    assert_eq!(gateway.accepted(), 1);
}

#[test]
fn nobody_is_aborted_with_windows_that_were_agreed_on() {
    let script = Script { adit: true, window: Some(256 << 10), ..Script::default() };
    let (gateway, stalled) = (Gateway::new(Behaviour::Serve(script)), Stalled::new());
    let (agent, peer) = start(&gateway, &stalled);
    // 32 KiB each are a quarter of the budget, and half is for what windows grow by.
    let len = 3 << 20;
    let visitors = upload(&peer, 32, len);
    let mut steady = Steady::new(&peer);
    // Until nothing moves any more: everyone has sent what the kernel takes, and a window.
    let (mut before, mut quiet) = (0, 0);
    while quiet < 10 {
        steady.exchange();
        let sent = visitors.iter().map(Stream::sent).sum();
        quiet = if sent == before { quiet + 1 } else { 0 };
        before = sent;
    }
    assert!(visitors.iter().all(|visitor| visitor.sent() < len), "they all stand still");
    assert_eq!(agent.lines(&["a visitor was"]).len(), 0);
    Steady::new(&peer).exchange();
    drop(stalled);
}

#[test]
fn connection_on_which_nothing_moves_is_ended_after_idle_timeout() {
    let gateway = Gateway::adit();
    let agent = Setup::new().tcp("echo", upstream::echo()).agent("idle_timeout", "300ms").start(&gateway);
    let peer = gateway.peer(0);
    peer.wait_bound(1);
    let stream = peer.visit("echo");
    stream.send(b"x");
    stream.wait_received(1);
    stream.wait_reset();
    agent.wait_line(&["closed (nothing moved for agent.idle_timeout)"]);
    agent.wait_connections(1);
}

#[test]
fn tls_connections_to_upstreams_count_against_the_budget() {
    let (gateway, site) = (Gateway::adit(), Site::new());
    let echo = upstream::tls(Arc::clone(&site.server), |mut stream| {
        let byte = upstream::read_exactly(&mut stream, 1);
        upstream::send(&mut stream, &byte);
        // Until the end.
        let _ = stream.read(&mut [0; 1]);
    });
    let agent = Setup::new()
        .system_bundle(&site.ca_pem)
        .endpoint("db", "tls://db.internal", &format!("tls://{echo}"))
        .agent("memory_max", "1MiB")
        .start(&gateway);
    let peer = gateway.peer(0);
    peer.wait_bound(1);
    let mut visitors = Vec::new();
    for _ in 0..100 {
        let visitor = peer.visit("db");
        visitor.send(b"x");
        if visitor.wait_first() != Some(b'x') {
            break;
        }
        visitors.push(visitor);
    }
    agent.wait_line(&["a visitor was refused: buffers are nearly full", "agent.memory_max"]);
    // 90 % of the budget, less 278 KiB for the link, in pieces of 12 KiB.
    assert!((48..=56).contains(&visitors.len()), "{}", visitors.len());
}
