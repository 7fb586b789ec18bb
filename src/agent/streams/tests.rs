//! Tests of the table of connections in virtual time: its timers, and what it gives back when a connection is gone.

mod storm;

use std::net::{Ipv4Addr, TcpListener};
use std::sync::Mutex;
use std::sync::mpsc::{Sender, channel};

use super::*;
use crate::agent::proxied::LogId;
use crate::agent::{Agent, settings_without_endpoints};
use crate::config::Config;
use crate::mux::{Limits, Mux, Side};
use crate::net::ready::Ready;
use crate::net::resolve::{Lookup, Purpose, ResolveError, UPSTREAM_WAITERS_MAX};
use crate::net::upstream::UpstreamIo;
use crate::session::Resumption;

/// An agent's table, one connection in it, and a session that knows nothing of it.
struct Bench {
    agent: Agent,
    session: AgentSession,
    stream: Key,
    start: Instant,
    /// Look-ups end with it.
    _look_ups: Sender<()>,
}

impl Bench {
    fn new(upstream: &str, idle_timeout: Option<Duration>) -> Self {
        let endpoint = format!(r#"{{"name":"a","url":"tcp://a.internal:1","upstream":{{"url":"{upstream}"}}}}"#);
        let text = format!(
            r#"{{"version":3,"agent":{{"authtoken":"t","connect_url":"127.0.0.1"}},"endpoints":[{endpoint}]}}"#
        );
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("adit.json");
        std::fs::write(&path, text).unwrap();
        let mut agent = Agent::new(Config::load(&path, &|_| None).unwrap().0).unwrap();
        let (look_ups, ended) = channel();
        let ended = Mutex::new(ended);
        agent.resolver = Resolver::with_look_up(agent.control.waker(), move |_, _| {
            let _ = ended.lock().unwrap().recv();
            Err(io::Error::other("the test is over"))
        });
        agent.streams.set_idle_timeout(idle_timeout);
        let start = agent.now;
        let session = AgentSession::new(settings_without_endpoints(&agent.config), Resumption::default(), 1, start);
        // A place in the table that the session's own streams do not have.
        let mut mux = Mux::new(Side::Gateway, Limits::default());
        let stream = (0..9).map(|_| mux.open(b"type").unwrap()).last().unwrap();
        let route = agent.streams.upstreams.route(0).cloned().unwrap();
        agent.streams.open(stream, 0, route, LogId { stream: 7, connection: None }, None, &mut agent.resolver, start);
        Self { agent, session, stream, start, _look_ups: look_ups }
    }

    /// Puts a connected upstream in the place of one that is dialled.
    fn connect(&mut self) -> TcpListener {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let socket = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        socket.set_nonblocking(true).unwrap();
        let io = UpstreamIo::plain(mio::net::TcpStream::from_std(socket), Ready::default());
        self.proxied().state = State::Open(io);
        listener
    }

    fn proxied(&mut self) -> &mut Proxied {
        self.agent.streams.slots[0].as_mut().unwrap()
    }

    /// One turn of the loop.
    fn turn(&mut self, after: Duration) {
        let (agent, now) = (&mut self.agent, self.start + after);
        agent.streams.fire_timers(now);
        agent.streams.run(&mut self.session, &mut agent.resolver, agent.poll.registry(), now);
    }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn connection_of_an_endpoint_that_is_gone_ends_in_time_although_it_waits_for_something_later() {
    let mut bench = Bench::new("tcp://127.0.0.1:9", Some(seconds(10)));
    let _upstream = bench.connect();
    bench.turn(seconds(0));
    let end_at = bench.start + seconds(15);
    bench.agent.streams.retire(&[0], end_at, bench.start);
    bench.turn(seconds(1));
    // Something has moved: the timer of the idle time finds another, later one.
    bench.proxied().moved_at = bench.start + seconds(9);
    bench.turn(seconds(10));
    let later = bench.start + seconds(19);
    assert_eq!(bench.proxied().deadline, Some(later));
    assert_eq!(bench.agent.streams.deadline(), Some(end_at));
    bench.turn(seconds(15));
    assert_eq!(bench.agent.streams.len(), 0);
}

#[test]
fn look_up_of_a_connection_that_is_gone_gives_its_place_back() {
    let mut bench = Bench::new("tcp://slow.lan:80", None);
    assert!(matches!(bench.proxied().state, State::Resolving(_)));
    let one_more = |bench: &mut Bench| bench.agent.resolver.lookup("slow.lan", 80, Purpose::Upstream, bench.start);
    for _ in 1..UPSTREAM_WAITERS_MAX {
        assert!(matches!(one_more(&mut bench), Lookup::Pending(_)));
    }
    assert_eq!(one_more(&mut bench), Lookup::Refused(ResolveError::QueueFull));
    let stream = bench.stream;
    bench.agent.streams.on_reset(stream, "aborted by the gateway");
    bench.turn(seconds(1));
    assert!(matches!(one_more(&mut bench), Lookup::Pending(_)));
    assert_eq!(one_more(&mut bench), Lookup::Refused(ResolveError::QueueFull), "it had one place");
}

#[test]
fn what_a_reset_connection_held_is_room_for_others_in_the_next_turn() {
    let mut bench = Bench::new("tcp://127.0.0.1:9", None);
    let _upstream = bench.connect();
    bench.turn(seconds(0));
    let base = bench.session.usage().memory;
    // As after a record of TLS that nobody has read.
    let held = 7 * 1024 * 1024;
    bench.proxied().held = held;
    bench.agent.streams.held = held;
    let stream = bench.stream;
    bench.turn(seconds(1));
    assert_eq!(bench.session.usage().memory, base + held);
    bench.agent.streams.on_reset(stream, "aborted by the gateway");
    assert!(!bench.agent.streams.has_work(), "nobody has a turn");
    bench.turn(seconds(2));
    assert_eq!(bench.session.usage().memory, base);
}
