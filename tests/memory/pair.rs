//! The two ends of a session, their bytes moved by hand through buffers that are kept.

use std::time::{Duration, Instant};

use adit::endpoint_url::{RequestedUrl, Scheme};
use adit::message::{
    AditExtra, AuthReply, AuthReplyExtra, BindReply, BindReplyExtra, BindRequest, ProxyHeader, Secret,
};
use adit::mux::limits::WINDOW;
use adit::mux::{Key, Limits, Sink};
use adit::proxy_protocol::ProxyProtocol;
use adit::session::agent::{self, Settings};
use adit::session::gateway::{self, PeerFacts, Request};
use adit::session::{AgentSession, EndpointSpec, GatewaySession, Resumption};

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
                let theirs = request.extra.adit.as_ref().and_then(|adit| adit.window);
                let adit = Some(AditExtra { window: Some(WINDOW), ..AditExtra::default() });
                let extra = AuthReplyExtra { adit, ..AuthReplyExtra::default() };
                let reply = AuthReply { version: "3".into(), client_id: "c".into(), error: None, extra };
                let liveness = Duration::from_secs(3600);
                let facts = PeerFacts { client_type: "adit".into(), streams_max: None, window: theirs, liveness };
                self.gateway.accept_auth(call, &reply, &facts, Limits::default());
            }
            gateway::Event::Call { call, request: Request::Bind(request) } => {
                self.gateway.reply(call, &bound(&request).to_json());
            }
            gateway::Event::Readable(stream) => self.gateway.consume(stream, usize::MAX),
            _ => {}
        }
    }
}

fn settings(limits: Limits) -> Settings {
    Settings {
        authtoken: Secret::new("token"),
        instance: None,
        metadata: String::new(),
        version: "1".to_owned(),
        os: String::new(),
        arch: String::new(),
        heartbeat_interval: Duration::from_secs(10),
        heartbeat_tolerance: Duration::from_secs(15),
        remote_management: false,
        endpoints: vec![EndpointSpec {
            number: 0,
            name: "a".to_owned(),
            url: RequestedUrl::parse("tcp://a.internal:1").unwrap(),
            forwards_to: String::new(),
            proxy_protocol: ProxyProtocol::None,
            bindings: vec!["internal".to_owned()],
            pooling_enabled: false,
            metadata: String::new(),
            description: String::new(),
            traffic_policy: String::new(),
        }],
        limits,
    }
}

/// The id under which an endpoint is bound.
pub(crate) fn bind_id(name: &str) -> String {
    format!("bind-{name}")
}

/// The answer to a Bind.
pub(crate) fn bound(request: &BindRequest) -> BindReply {
    BindReply {
        id: bind_id(&request.extra.name),
        url: format!("tcp://{}.internal:1", request.extra.name),
        proto: request.proto,
        opts: request.opts.clone(),
        error: None,
        extra: BindReplyExtra { token: Secret::new("t"), tunnel_id: bind_id(&request.extra.name) },
    }
}

const ROOM: usize = 64 * 1024;
