//! Windows on a path with a rate and a delay, in virtual time: both ends of a session, one stream, and how fast it gets.

#![allow(clippy::unwrap_used, reason = "a test fails where it unwraps; clippy.toml covers only #[test] functions")]

#[path = "memory/login.rs"]
mod login;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use adit::endpoint_url::Scheme;
use adit::message::ProxyHeader;
use adit::mux::limits::WINDOW;
use adit::mux::{Key, Limits};
use adit::pool::BlockQueue;
use adit::session::agent;
use adit::session::gateway::{self, Request};
use adit::session::{AgentSession, GatewaySession, Resumption};

/// 100 Mbit/s.
const RATE: usize = 12_500_000;
const TICK: Duration = Duration::from_millis(1);

/// Who sends on the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// From the upstream to the visitor.
    Down,
    /// From the visitor to the upstream.
    Up,
}

#[derive(Clone, Copy)]
struct Path {
    round_trip: Duration,
    /// The gateway agrees on windows.
    agrees: bool,
    /// The agent's budget.
    memory_max: usize,
    /// Bytes per second that the receiving end takes off the stream.
    reader: usize,
}

const LONG: Path =
    Path { round_trip: Duration::from_millis(200), agrees: true, memory_max: 8 << 20, reader: usize::MAX / 1000 };

/// One direction of the link.
struct Line {
    delay: Duration,
    /// When the last byte written has left the sender.
    free_at: Instant,
    arrivals: VecDeque<(Instant, Vec<u8>)>,
}

impl Line {
    fn new(round_trip: Duration, now: Instant) -> Self {
        Self { delay: round_trip / 2, free_at: now, arrivals: VecDeque::new() }
    }

    /// The sender's socket buffer holds little that has not left: a few ticks.
    fn is_full(&self, now: Instant) -> bool {
        self.free_at > now + 3 * TICK
    }

    fn write(&mut self, bytes: Vec<u8>, now: Instant) {
        let nanos = bytes.len() as u64 * 1_000_000_000 / RATE as u64;
        self.free_at = self.free_at.max(now) + Duration::from_nanos(nanos);
        self.arrivals.push_back((self.free_at + self.delay, bytes));
    }

    fn read(&mut self, now: Instant) -> Option<Vec<u8>> {
        let (at, _) = self.arrivals.front()?;
        if *at > now { None } else { self.arrivals.pop_front().map(|(_, bytes)| bytes) }
    }
}

struct World {
    path: Path,
    way: Way,
    now: Instant,
    agent: AgentSession,
    gateway: GatewaySession,
    up: Line,
    down: Line,
    /// The stream, as either end knows it.
    at_agent: Option<Key>,
    at_gateway: Option<Key>,
    /// Calls that the agent has read the reply of.
    answered: usize,
    sends: bool,
    received: usize,
    /// Bytes that the reader may take in this tick.
    allowed: usize,
    memory_seen: usize,
}

impl World {
    fn new(path: Path, way: Way) -> Self {
        let now = Instant::now();
        let window = u32::try_from(path.memory_max / 128).unwrap().clamp(16 << 10, 64 << 10);
        let limits = Limits { memory_max: path.memory_max, window, ..Limits::default() };
        let gateway_limits = Limits { memory_max: 64 << 20, ..Limits::default() };
        let mut world = Self {
            path,
            way,
            now,
            agent: AgentSession::new(login::settings(limits), Resumption::default(), 1, now),
            gateway: GatewaySession::new(gateway_limits, now),
            up: Line::new(path.round_trip, now),
            down: Line::new(path.round_trip, now),
            at_agent: None,
            at_gateway: None,
            answered: 0,
            sends: true,
            received: 0,
            allowed: 0,
            memory_seen: 0,
        };
        // The log-in and the endpoint.
        while world.answered < 2 {
            world.tick();
        }
        let header = ProxyHeader::new(login::bind_id("a"), ([192, 0, 2, 7], 4711).into(), Scheme::Tcp, false);
        world.at_gateway = Some(world.gateway.open_proxy(&header).unwrap());
        world
    }

    fn run(&mut self, time: Duration) {
        let until = self.now + time;
        while self.now < until {
            self.tick();
        }
    }

    /// Bytes per second over the next time.
    fn rate_over(&mut self, time: Duration) -> usize {
        let before = self.received;
        self.run(time);
        let ms = usize::try_from(time.as_millis()).unwrap();
        (self.received - before) * 1000 / ms
    }

    fn tick(&mut self) {
        self.now += TICK;
        while let Some(bytes) = self.up.read(self.now) {
            self.gateway.recv(&bytes, &mut (), self.now).unwrap();
        }
        while let Some(bytes) = self.down.read(self.now) {
            self.agent.recv(&bytes, &mut (), self.now).unwrap();
        }
        self.agent.handle_timeout(self.now);
        self.gateway.handle_timeout(self.now);
        self.agent_events();
        self.gateway_events();
        self.consume();
        self.memory_seen = self.memory_seen.max(self.agent.usage().memory);
        while !self.up.is_full(self.now) && self.agent_writes() {}
        while !self.down.is_full(self.now) && self.gateway_writes() {}
    }

    /// The reader takes what it takes in a tick.
    fn consume(&mut self) {
        // It saves up no more than what it takes in 50 ms.
        self.allowed = (self.allowed + self.path.reader / 1000).min(self.path.reader / 20);
        let len = |queue: Option<&BlockQueue>| queue.map_or(0, BlockQueue::len);
        let taken = match (self.way, self.at_agent, self.at_gateway) {
            (Way::Up, Some(key), _) => {
                let taken = len(self.agent.queue(key)).min(self.allowed);
                self.agent.consume(key, taken);
                taken
            }
            (Way::Down, _, Some(key)) => {
                let taken = len(self.gateway.queue(key)).min(self.allowed);
                self.gateway.consume(key, taken);
                taken
            }
            _ => return,
        };
        self.allowed -= taken;
        self.received += taken;
    }

    fn agent_events(&mut self) {
        while let Some(event) = self.agent.poll_event() {
            match event {
                agent::Event::Proxy { stream, .. } => self.at_agent = Some(stream),
                agent::Event::Ended(end) => panic!("{end:?}"),
                agent::Event::Reset(_, code) => panic!("{code:?}"),
                _ => {}
            }
        }
    }

    fn gateway_events(&mut self) {
        while let Some(event) = self.gateway.poll_event() {
            match event {
                gateway::Event::Call { call, request: Request::Auth(request) } => {
                    let window = self.path.agrees.then_some(WINDOW);
                    login::accept(&mut self.gateway, call, &request, window);
                }
                gateway::Event::Call { call, request: Request::Bind(request) } => {
                    self.gateway.reply(call, &login::bound(&request).to_json());
                }
                gateway::Event::CallDone { delivered, .. } => self.answered += usize::from(delivered),
                gateway::Event::Reset(_, code) => panic!("{code:?}"),
                _ => {}
            }
        }
    }

    fn agent_writes(&mut self) -> bool {
        let mut out = Vec::new();
        self.agent.poll_transmit(&mut out, 32 * 1024);
        if let (Way::Down, true, Some(key), true) = (self.way, self.sends, self.at_agent, out.is_empty()) {
            self.agent.want_send(key);
            if let Some(grant) = self.agent.poll_grant() {
                let max = grant.max;
                out.extend_from_slice(&self.agent.commit(grant, max).unwrap());
                out.resize(out.len() + max, 0);
            }
        }
        let wrote = !out.is_empty();
        if wrote {
            self.up.write(out, self.now);
        }
        wrote
    }

    fn gateway_writes(&mut self) -> bool {
        let mut out = Vec::new();
        self.gateway.poll_transmit(&mut out, 32 * 1024);
        if let (Way::Up, true, Some(key), true) = (self.way, self.sends, self.at_gateway, out.is_empty()) {
            self.gateway.want_send(key);
            if let Some(grant) = self.gateway.poll_grant() {
                let max = grant.max;
                out.extend_from_slice(&self.gateway.commit(grant, max).unwrap());
                out.resize(out.len() + max, 0);
            }
        }
        let wrote = !out.is_empty();
        if wrote {
            self.down.write(out, self.now);
        }
        wrote
    }

    /// What the windows of the receiving end have grown by.
    fn grown(&self) -> usize {
        match self.way {
            Way::Up => self.agent.usage().windows_grown,
            Way::Down => self.gateway.windows_grown(),
        }
    }
}

#[test]
fn one_stream_gets_80_percent_of_a_long_fast_path_in_either_direction() {
    for way in [Way::Down, Way::Up] {
        let mut world = World::new(LONG, way);
        world.run(Duration::from_secs(3));
        let rate = world.rate_over(Duration::from_secs(3));
        println!("{way:?}: {} % of the link, windows grown by {}", rate * 100 / RATE, world.grown());
        assert!(rate * 100 >= RATE * 80, "{way:?}: {rate} bytes per second of {RATE}");
        assert!(world.memory_seen <= LONG.memory_max);
    }
}

#[test]
fn without_an_agreement_the_protocols_window_limits_a_stream() {
    for way in [Way::Down, Way::Up] {
        let mut world = World::new(Path { agrees: false, ..LONG }, way);
        world.run(Duration::from_secs(3));
        let rate = world.rate_over(Duration::from_secs(2));
        // A window in a round trip: 1.3 MB/s.
        assert!((1_000_000..1_400_000).contains(&rate), "{way:?}: {rate} bytes per second");
        assert_eq!(world.grown(), 0);
    }
}

#[test]
fn windows_grow_no_further_than_the_budget_allows() {
    let mut world = World::new(Path { memory_max: 1 << 20, ..LONG }, Way::Up);
    world.run(Duration::from_secs(5));
    assert!((128 << 10..=512 << 10).contains(&world.grown()), "{}", world.grown());
    assert!(world.memory_seen <= 1 << 20);
}

#[test]
fn windows_do_not_grow_where_the_path_or_the_reader_is_the_limit() {
    for (round_trip, reader) in [(2, LONG.reader), (200, 100_000)] {
        for way in [Way::Down, Way::Up] {
            let mut world = World::new(Path { round_trip: Duration::from_millis(round_trip), reader, ..LONG }, way);
            world.run(Duration::from_secs(5));
            let expected = if reader < RATE { 90_000 } else { RATE * 9 / 10 };
            let rate = world.rate_over(Duration::from_secs(1));
            assert!(rate >= expected, "{way:?} {round_trip} ms: {rate} bytes per second");
            // Up to four times what the path holds, a tick at either end counted in. The slow reader takes the first window
            // in less than four round trips, so that it doubles, and no other one.
            let most = if reader < RATE { 64 << 10 } else { 4 * RATE / 1000 * 4 };
            assert!(world.grown() <= most, "{way:?} {round_trip} ms, reader {reader}: {}", world.grown());
        }
    }
}

#[test]
fn window_shrinks_when_its_stream_is_idle_and_grows_again() {
    for way in [Way::Down, Way::Up] {
        let mut world = World::new(LONG, way);
        world.run(Duration::from_secs(4));
        assert!(world.grown() > 1 << 20, "{way:?}");
        world.sends = false;
        world.run(Duration::from_secs(25));
        assert_eq!(world.grown(), 0, "{way:?}");
        world.sends = true;
        world.run(Duration::from_secs(4));
        let rate = world.rate_over(Duration::from_secs(1));
        assert!(rate * 100 >= RATE * 80, "{way:?}: {rate} bytes per second of {RATE}");
    }
}
