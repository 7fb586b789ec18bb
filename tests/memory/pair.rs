//! The two ends of a session, their bytes moved by hand through buffers that are kept.

use std::time::{Duration, Instant};

use adit::endpoint_url::Scheme;
use adit::message::ProxyHeader;
use adit::mux::limits::WINDOW;
use adit::mux::{Key, Limits, Sink};
use adit::session::agent;
use adit::session::gateway::{self, Request};
use adit::session::{AgentSession, GatewaySession, Resumption};

use crate::login::{accept, bind_id, bound, settings};

pub(crate) struct Pair {
    agent: AgentSession,
    gateway: GatewaySession,
    now: Instant,
    wire: Vec<u8>,
    /// The agent's upstream takes bytes while they are parsed.
    direct: bool,
    /// The stream, as either end knows it.
    at_agent: Option<Key>,
    at_gateway: Option<Key>,
}

/// Takes everything, or nothing.
struct Upstream(bool);

impl Sink for Upstream {
    fn take(&mut self, _: Key, bytes: &[u8]) -> usize {
        if self.0 { bytes.len() } else { 0 }
    }
}

impl Pair {
    /// Logged in, and its endpoint online.
    pub(crate) fn up(direct: bool) -> Self {
        let now = Instant::now();
        let limits = Limits { window: 64 << 10, ..Limits::default() };
        let mut pair = Self {
            agent: AgentSession::new(settings(limits), Resumption::default(), 1, now),
            gateway: GatewaySession::new(Limits::default(), now),
            now,
            wire: Vec::new(),
            direct,
            at_agent: None,
            at_gateway: None,
        };
        for _ in 0..4 {
            pair.pass();
        }
        pair
    }

    /// One visitor: some bytes each way, then both ends, or an abort.
    pub(crate) fn visit(&mut self, aborts: bool) {
        self.open();
        self.send_down(3000);
        self.send_up(3000);
        let (Some(key), Some(stream)) = (self.at_agent.take(), self.at_gateway.take()) else { panic!("no stream") };
        if aborts {
            self.agent.reset(key);
        } else {
            self.agent.finish(key);
            self.gateway.finish(stream);
        }
        self.pass();
        self.pass();
        assert_eq!((self.gateway.stream_id(stream), self.agent.stream_id(key)), (0, 0), "the stream is over");
    }

    /// So many full frames in each direction of one stream.
    pub(crate) fn transfer(&mut self, frames: usize) {
        if self.at_agent.is_none() {
            self.open();
        }
        for _ in 0..frames {
            self.now += Duration::from_millis(1);
            self.send_down(16_000);
            self.send_up(16_000);
        }
    }

    fn open(&mut self) {
        let header = ProxyHeader::new(bind_id("a"), ([192, 0, 2, 7], 4711).into(), Scheme::Tcp, false);
        self.at_gateway = Some(self.gateway.open_proxy(&header).unwrap());
        self.pass();
        assert!(self.at_agent.is_some());
    }

    fn send_down(&mut self, len: usize) {
        let stream = self.at_gateway.unwrap();
        self.gateway.want_send(stream);
        let grant = self.gateway.poll_grant().unwrap();
        let header = self.gateway.commit(grant, len).unwrap();
        self.wire.clear();
        self.wire.extend_from_slice(&header);
        self.wire.resize(header.len() + len, 7);
        self.agent.recv(&self.wire, &mut Upstream(self.direct), self.now).unwrap();
        self.pass();
    }

    fn send_up(&mut self, len: usize) {
        let key = self.at_agent.unwrap();
        self.agent.want_send(key);
        let grant = self.agent.poll_grant().unwrap();
        let header = self.agent.commit(grant, len).unwrap();
        self.wire.clear();
        self.wire.extend_from_slice(&header);
        self.wire.resize(header.len() + len, 7);
        self.gateway.recv(&self.wire, &mut (), self.now).unwrap();
        self.pass();
    }

    /// Moves what either end has to say, and answers it.
    fn pass(&mut self) {
        self.wire.clear();
        self.agent.poll_transmit(&mut self.wire, ROOM);
        self.gateway.recv(&self.wire, &mut (), self.now).unwrap();
        while let Some(event) = self.gateway.poll_event() {
            self.on_gateway_event(event);
        }
        self.wire.clear();
        self.gateway.poll_transmit(&mut self.wire, ROOM);
        self.agent.recv(&self.wire, &mut Upstream(self.direct), self.now).unwrap();
        while let Some(event) = self.agent.poll_event() {
            match event {
                agent::Event::Proxy { stream, .. } => self.at_agent = Some(stream),
                agent::Event::Readable(stream) => self.agent.consume(stream, usize::MAX),
                agent::Event::Ended(end) => panic!("{end:?}"),
                _ => {}
            }
        }
    }

    fn on_gateway_event(&mut self, event: gateway::Event) {
        match event {
            gateway::Event::Call { call, request: Request::Auth(request) } => {
                accept(&mut self.gateway, call, &request, Some(WINDOW));
            }
            gateway::Event::Call { call, request: Request::Bind(request) } => {
                self.gateway.reply(call, &bound(&request).to_json());
            }
            gateway::Event::Readable(stream) => self.gateway.consume(stream, usize::MAX),
            _ => {}
        }
    }
}

const ROOM: usize = 64 * 1024;
