//! Both ends of a session against each other, over byte vectors and in virtual time.

use std::time::{Duration, Instant};

use super::agent::{self, AgentSession, End, Settings};
use super::gateway::{self, GatewaySession, PeerFacts, Request};
use super::{EndpointSpec, Resumption};
use crate::endpoint_url::RequestedUrl;
use crate::frame::{DataFlag, ErrorCode, data_header};
use crate::message::{
    AditExtra, AuthReply, AuthReplyExtra, BindReply, BindReplyExtra, BindRequest, CommandReply, EmptyReply,
    PatchRequest, ProxyHeader, Secret, StopTunnel, StreamType, Update, WireError, codes,
};
use crate::mux::{Key, Limits};
use crate::proxy_protocol::ProxyProtocol;

mod calls;
mod changes;
mod hostile;
mod proxied;

/// Two ends, the bytes between them moved by hand.
struct Pair {
    agent: AgentSession,
    gateway: GatewaySession,
    now: Instant,
    /// Bytes are moved in pieces of this size.
    chunk: usize,
    agent_events: Vec<agent::Event>,
    gateway_events: Vec<gateway::Event>,
    adit: bool,
    /// What the next binds are answered with, by their place; accepted if absent.
    refusals: Vec<WireError>,
    /// Binds are never answered.
    mutes_binds: bool,
    binds: Vec<BindRequest>,
    unbinds: Vec<String>,
    patches: Vec<PatchRequest>,
    /// What the next change is answered with; accepted if absent.
    patch_refusal: Option<WireError>,
    aborts_patches: bool,
}

impl Pair {
    fn new(urls: &[&str]) -> Self {
        Self::resumed(urls, Resumption::default(), Instant::now())
    }

    fn resumed(urls: &[&str], resumption: Resumption, now: Instant) -> Self {
        Self {
            agent: AgentSession::new(settings(urls), resumption, 1, now),
            gateway: GatewaySession::new(Limits::default(), now),
            now,
            chunk: usize::MAX,
            agent_events: Vec::new(),
            gateway_events: Vec::new(),
            adit: true,
            refusals: Vec::new(),
            mutes_binds: false,
            binds: Vec::new(),
            unbinds: Vec::new(),
            patches: Vec::new(),
            patch_refusal: None,
            aborts_patches: false,
        }
    }

    fn up(urls: &[&str]) -> Self {
        let mut pair = Self::new(urls);
        pair.run();
        pair
    }

    /// Moves bytes both ways, answers log-ins and binds, until nothing moves any more.
    fn run(&mut self) {
        for _ in 0..10_000 {
            let moved = self.step();
            self.answer();
            if !moved && self.quiet() {
                return;
            }
        }
        panic!("the two ends never come to rest");
    }

    fn quiet(&mut self) -> bool {
        let mut rest = Vec::new();
        self.agent.poll_transmit(&mut rest, usize::MAX);
        if !rest.is_empty() {
            self.gateway.recv(&rest, &mut (), self.now).unwrap();
            return false;
        }
        self.gateway.poll_transmit(&mut rest, usize::MAX);
        if rest.is_empty() {
            return true;
        }
        self.agent.recv(&rest, &mut (), self.now).unwrap();
        false
    }

    fn step(&mut self) -> bool {
        let (mut up, mut down) = (Vec::new(), Vec::new());
        self.agent.poll_transmit(&mut up, usize::MAX);
        for piece in up.chunks(self.chunk) {
            self.gateway.recv(piece, &mut (), self.now).unwrap();
        }
        self.gateway.poll_transmit(&mut down, usize::MAX);
        for piece in down.chunks(self.chunk) {
            self.agent.recv(piece, &mut (), self.now).unwrap();
        }
        while let Some(event) = self.agent.poll_event() {
            self.agent_events.push(event);
        }
        !up.is_empty() || !down.is_empty()
    }

    fn answer(&mut self) {
        while let Some(event) = self.gateway.poll_event() {
            let gateway::Event::Call { call, request } = event else {
                self.gateway_events.push(event);
                continue;
            };
            match request {
                Request::Auth(_) => self.accept(call),
                Request::Bind(_) if self.mutes_binds => {}
                Request::Bind(request) => {
                    let reply = match self.refusals.pop() {
                        Some(error) => BindReply::refused(error),
                        None => bound(&request, self.binds.len()),
                    };
                    self.binds.push(*request);
                    self.gateway.reply(call, &reply.to_json());
                }
                Request::Unbind(request) => {
                    self.unbinds.push(request.id);
                    self.gateway.reply(call, &EmptyReply { error: None }.to_json());
                }
                Request::Patch(_) if self.aborts_patches => self.gateway.reset(call),
                Request::Patch(request) => {
                    self.patches.push(request);
                    let error = self.patch_refusal.take();
                    self.gateway.reply(call, &EmptyReply { error }.to_json());
                }
                other => self.gateway_events.push(gateway::Event::Call { call, request: other }),
            }
        }
    }

    fn accept(&mut self, call: Key) {
        let adit = AditExtra { streams_max: Some(500), ..AditExtra::default() };
        let reply = AuthReply {
            version: "3".to_owned(),
            client_id: "client".to_owned(),
            error: None,
            extra: AuthReplyExtra {
                cookie: Secret::new("cookie"),
                adit: self.adit.then_some(adit),
                ..AuthReplyExtra::default()
            },
        };
        let facts =
            PeerFacts { client_type: "adit".to_owned(), streams_max: Some(500), window: None, liveness: LIVENESS };
        self.gateway.accept_auth(call, &reply, &facts, Limits::default());
    }

    fn advance(&mut self, by: Duration) {
        self.now += by;
        self.agent.handle_timeout(self.now);
        self.gateway.handle_timeout(self.now);
        self.run();
    }

    fn open(&mut self, id: &str) -> Key {
        self.gateway.open_proxy(&header(id)).unwrap()
    }

    /// The agent's key of the last proxied stream.
    fn proxied(&self) -> Key {
        let found = self.agent_events.iter().rev().find_map(|event| match event {
            agent::Event::Proxy { stream, .. } => Some(*stream),
            _ => None,
        });
        found.expect("a proxied stream")
    }

    fn ended(&self) -> Option<&End> {
        self.agent_events.iter().find_map(|event| match event {
            agent::Event::Ended(end) => Some(end),
            _ => None,
        })
    }

    fn bound(&self) -> Vec<usize> {
        let places = self.agent_events.iter().filter_map(|event| match event {
            agent::Event::Bound { endpoint, .. } => Some(*endpoint),
            _ => None,
        });
        places.collect()
    }
}

fn settings(urls: &[&str]) -> Settings {
    let endpoint = |(number, url): (usize, &&str)| EndpointSpec {
        number,
        name: (*url).to_owned(),
        url: RequestedUrl::parse(url).unwrap(),
        forwards_to: "tcp://127.0.0.1:1".to_owned(),
        proxy_protocol: ProxyProtocol::None,
        bindings: vec!["internal".to_owned()],
        pooling_enabled: false,
        metadata: String::new(),
        description: String::new(),
        traffic_policy: String::new(),
    };
    Settings {
        authtoken: Secret::new("token"),
        instance: Some("box-7".to_owned()),
        metadata: String::new(),
        version: "0.0.0".to_owned(),
        os: "linux".to_owned(),
        arch: "mips".to_owned(),
        heartbeat_interval: INTERVAL,
        heartbeat_tolerance: TOLERANCE,
        remote_management: false,
        endpoints: urls.iter().enumerate().map(endpoint).collect(),
        limits: Limits::default(),
    }
}

fn bound(request: &BindRequest, count: usize) -> BindReply {
    let id = if request.id.is_empty() { format!("bind-{count}") } else { request.id.clone() };
    BindReply {
        url: request.requested(None).map(|url| url.to_string()).unwrap_or_default(),
        proto: request.proto,
        opts: request.opts.clone(),
        error: None,
        extra: BindReplyExtra { token: Secret::new(format!("token-of-{id}")), tunnel_id: "tunnel".to_owned() },
        id,
    }
}

fn header(id: &str) -> ProxyHeader {
    ProxyHeader {
        id: id.to_owned(),
        client_addr: "192.0.2.1:5000".to_owned(),
        proto: "https".to_owned(),
        edge_type: "0".to_owned(),
        passthrough_tls: false,
        connection: None,
    }
}

const INTERVAL: Duration = Duration::from_secs(10);
const TOLERANCE: Duration = Duration::from_secs(15);
const LIVENESS: Duration = Duration::from_secs(25);
