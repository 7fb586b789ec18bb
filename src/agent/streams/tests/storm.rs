//! Visitors whose TLS ends here beside one who moves bulk: turns of the loop done by hand, the link in memory, in virtual
//! time. Only the bulk's upstream is a socket, of which each turn is asked no more than it surely has room for.

use std::collections::HashMap;
use std::io::IoSliceMut;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

use mio::{Events, Poll, Waker};
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use serde_json::json;

use super::super::*;
use crate::agent::capacity::Capacity;
use crate::agent::link::settings;
use crate::agent::proxied::LogId;
use crate::config::Config;
use crate::endpoint_url::Scheme;
use crate::message::{AuthReply, AuthReplyExtra, BindReply, BindReplyExtra, ProxyHeader, Secret};
use crate::mux::Limits;
use crate::session::Resumption;
use crate::session::agent::Event;
use crate::session::gateway::{self, GatewaySession, PeerFacts, Request};
use crate::tls::endpoints_tls;

const NAME: &str = "db.example";
/// Each waits for its handshake; none of them shares an address with another.
const VISITORS: usize = 40;
/// The bulk's visitor comes first.
const BULK_SLOT: usize = 0;
/// Bulk in each direction and turn.
const PIECE: usize = 1024;
/// A loaded machine may need this long for a byte on its loopback.
const PATIENCE: Duration = Duration::from_secs(60);

/// The agent's streams, and both ends of the link.
struct Turns {
    streams: Streams,
    agent: AgentSession,
    gateway: GatewaySession,
    resolver: Resolver,
    poll: Poll,
    now: Instant,
    bound: usize,
    visitors: HashMap<Key, ClientConnection>,
    /// What the bulk's visitor has got.
    received: usize,
}

/// What one turn came to.
#[derive(Debug)]
struct Turn {
    /// Steps of handshakes.
    steps: usize,
    /// Bytes that the bulk's upstream got rid of.
    from_upstream: u64,
}

impl Turns {
    fn new(config: &Config) -> Self {
        let now = Instant::now();
        let poll = Poll::new().unwrap();
        let waker = Arc::new(Waker::new(poll.registry(), Token(0)).unwrap());
        let tls = endpoints_tls(&config.agent, &config.endpoints).unwrap();
        let upstreams = Upstreams::new(&config.endpoints, tls);
        let capacity = Capacity::new(&config.agent.resources);
        let settings = settings(config, &capacity, None, upstreams.specs());
        let mut turns = Self {
            streams: Streams::new(upstreams, None, now),
            agent: AgentSession::new(settings, Resumption::default(), 1, now),
            gateway: GatewaySession::new(Limits::default(), now),
            resolver: Resolver::new(waker, None),
            poll,
            now,
            bound: 0,
            visitors: HashMap::new(),
            received: 0,
        };
        for _ in 0..10 {
            turns.turn();
        }
        assert_eq!(turns.bound, config.endpoints.len());
        turns
    }

    fn open(&mut self, endpoint: &str, visitor: u8) -> Key {
        let address = SocketAddr::from(([192, 0, 2, visitor], 4711));
        let header = ProxyHeader::new(format!("ep_{endpoint}"), address, Scheme::Tcp, false);
        self.gateway.open_proxy(&header).unwrap()
    }

    /// One turn, as the loop does it: what the link has, the upstreams, what the link takes.
    fn turn(&mut self) -> Turn {
        let moved = self.streams.moved().1;
        self.now += Duration::from_millis(1);
        self.streams.begin_turn(self.now);
        let mut bytes = Vec::new();
        self.gateway.poll_transmit(&mut bytes, usize::MAX);
        self.agent.recv(&bytes, &mut self.streams, self.now).unwrap();
        while let Some(event) = self.agent.poll_event() {
            self.on_event(event);
        }
        let before = self.waiting();
        self.streams.run(&mut self.agent, &mut self.resolver, self.poll.registry(), self.now);
        let after = self.waiting();
        self.flush();
        Turn {
            // Whoever does a step takes something off the stream.
            steps: before.iter().filter(|(slot, len)| after.get(slot).is_none_or(|after| after < len)).count(),
            from_upstream: self.streams.moved().1 - moved,
        }
    }

    /// What visitors have sent of their handshakes and nobody has looked at, by slot.
    fn waiting(&self) -> HashMap<usize, usize> {
        let slots = self.streams.slots.iter().enumerate();
        let greeting = slots.filter_map(|(slot, entry)| Some((slot, entry.as_ref()?)));
        let greeting = greeting.filter(|(_, proxied)| matches!(proxied.state, State::Greeting));
        greeting
            .map(|(slot, proxied)| (slot, self.agent.queue(proxied.stream).map_or(0, |queue| queue.len())))
            .collect()
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Bound { .. } => self.bound += 1,
            Event::Proxy { stream, endpoint, header } => {
                let route = Arc::clone(self.streams.upstreams.route(endpoint).unwrap());
                let id = self.agent.stream_id(stream);
                self.streams.open(
                    stream,
                    endpoint,
                    route,
                    LogId { stream: id, connection: None },
                    header.visitor(),
                    &mut self.resolver,
                    self.now,
                );
            }
            Event::Readable(stream) | Event::Finished(stream) => self.streams.wake(stream),
            Event::Reset(..) | Event::Ended(_) => panic!("{event:?}"),
            _ => {}
        }
    }

    /// Everything that the agent may send goes to the gateway, which answers.
    fn flush(&mut self) {
        loop {
            let mut bytes = Vec::new();
            self.agent.poll_transmit(&mut bytes, usize::MAX);
            while let Some(grant) = self.agent.poll_grant() {
                let mut payload = vec![0; grant.max];
                let Supply::Bytes(len) = self.streams.read(grant.key, &mut [IoSliceMut::new(&mut payload)]) else {
                    self.agent.release(grant);
                    continue;
                };
                if let Some(header) = self.agent.commit(grant, len) {
                    bytes.extend_from_slice(&header);
                    bytes.extend_from_slice(&payload[..len]);
                }
            }
            if bytes.is_empty() {
                return;
            }
            self.gateway.recv(&bytes, &mut (), self.now).unwrap();
            while let Some(event) = self.gateway.poll_event() {
                self.answer(event);
            }
        }
    }

    fn answer(&mut self, event: gateway::Event) {
        match event {
            gateway::Event::Call { call, request: Request::Auth(_) } => {
                let extra = AuthReplyExtra { cookie: Secret::new("cookie"), ..AuthReplyExtra::default() };
                let reply = AuthReply { version: "3".to_owned(), client_id: "client".to_owned(), error: None, extra };
                let facts = PeerFacts {
                    client_type: "adit".to_owned(),
                    streams_max: Some(500),
                    window: None,
                    liveness: PATIENCE,
                };
                self.gateway.accept_auth(call, &reply, &facts, Limits::default());
            }
            gateway::Event::Call { call, request: Request::Bind(request) } => {
                let id = format!("ep_{}", request.extra.name);
                let reply = BindReply {
                    url: format!("tcp://{id}.internal:1"),
                    proto: request.proto,
                    opts: request.opts.clone(),
                    error: None,
                    extra: BindReplyExtra { token: Secret::new("token"), tunnel_id: id.clone() },
                    id,
                };
                self.gateway.reply(call, &reply.to_json());
            }
            gateway::Event::Readable(stream) => self.hear(stream),
            gateway::Event::Reset(..) | gateway::Event::Finished(_) => panic!("{event:?}"),
            _ => {}
        }
    }

    /// A visitor takes what came for it, and goes on with its handshake.
    fn hear(&mut self, stream: Key) {
        let mut bytes = Vec::new();
        while let chunk @ [_, ..] = self.gateway.chunk(stream) {
            let len = chunk.len();
            bytes.extend_from_slice(chunk);
            self.gateway.consume(stream, len);
        }
        let Some(visitor) = self.visitors.get_mut(&stream) else {
            self.received += bytes.len();
            return;
        };
        let mut bytes = &bytes[..];
        while !bytes.is_empty() {
            visitor.read_tls(&mut bytes).unwrap();
            visitor.process_new_packets().unwrap();
        }
        self.say(stream);
    }

    /// What a visitor has to say in TLS goes into its stream.
    fn say(&mut self, stream: Key) {
        let visitor = self.visitors.get_mut(&stream).unwrap();
        let mut bytes = Vec::new();
        while visitor.wants_write() {
            visitor.write_tls(&mut bytes).unwrap();
        }
        self.send(stream, &bytes);
    }

    /// One DATA frame on the way to the agent, which has it in the next turn.
    fn send(&mut self, stream: Key, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        // The head of the stream goes before its data.
        let mut sent = Vec::new();
        self.gateway.poll_transmit(&mut sent, usize::MAX);
        self.gateway.want_send(stream);
        let grant = loop {
            // Those who have sent before stand in line again.
            let grant = self.gateway.poll_grant().unwrap();
            if grant.key == stream {
                break grant;
            }
            self.gateway.release(grant);
        };
        assert!(grant.max >= bytes.len());
        sent.extend_from_slice(&self.gateway.commit(grant, bytes.len()).unwrap());
        sent.extend_from_slice(bytes);
        self.agent.recv(&sent, &mut self.streams, self.now).unwrap();
    }

    /// Waits until the only upstream has something to read.
    fn wait_readable(&mut self) {
        let mut events = Events::with_capacity(8);
        loop {
            self.poll.poll(&mut events, Some(PATIENCE)).unwrap();
            assert!(!events.is_empty(), "the upstream's bytes do not arrive");
            let mut is_readable = false;
            for event in &events {
                let slot = event.token().0 - FIRST_STREAM.0;
                self.streams.note(slot, event);
                is_readable |= slot == BULK_SLOT && event.is_readable();
            }
            if is_readable {
                return;
            }
        }
    }
}

fn config(certificate: &str, key: &str, [bulk, db]: [&TcpListener; 2]) -> Config {
    let url = |listener: &TcpListener| format!("tcp://{}", listener.local_addr().unwrap());
    let document = json!({
        "version": 3,
        "agent": { "authtoken": "t", "connect_url": "gateway.example" },
        "endpoints": [
            { "name": "bulk", "url": "tcp://bulk.internal:1", "upstream": { "url": url(bulk) } },
            {
                "name": "db", "url": "tls://db.internal", "upstream": { "url": url(db) },
                "agent_tls_termination": { "server_certificate": certificate, "server_private_key": key },
            },
        ],
    });
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("adit.json");
    std::fs::write(&path, document.to_string()).unwrap();
    Config::load(&path, &|_| None).unwrap().0
}

fn client(certificate: &rcgen::Certificate) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.der().clone()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots);
    Arc::new(builder.with_no_client_auth())
}

/// The bulk's visitor and its upstream, connected.
fn begin_bulk(turns: &mut Turns, listener: &TcpListener) -> (Key, TcpStream) {
    let bulk = turns.open("bulk", 1);
    turns.turn();
    let (mut upstream, _) = listener.accept().unwrap();
    upstream.set_read_timeout(Some(PATIENCE)).unwrap();
    upstream.write_all(b"x").unwrap();
    while turns.received == 0 {
        turns.wait_readable();
        turns.turn();
    }
    (bulk, upstream)
}

#[test]
fn bulk_moves_both_ways_between_any_two_steps_of_a_storm_of_handshakes() {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec![NAME.to_owned()]).unwrap().self_signed(&key).unwrap();
    // Nobody serves those who come through the handshakes.
    let [listener, unserved] = [(); 2].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    let config = config(&certificate.pem(), &key.serialize_pem(), [&listener, &unserved]);
    let mut turns = Turns::new(&config);
    let (bulk, mut upstream) = begin_bulk(&mut turns, &listener);

    let tls = client(&certificate);
    for number in 0..VISITORS {
        let stream = turns.open("db", 100 + u8::try_from(number).unwrap());
        let name = ServerName::try_from(NAME).unwrap();
        turns.visitors.insert(stream, ClientConnection::new(Arc::clone(&tls), name).unwrap());
        turns.say(stream);
    }

    let (mut steps, mut count) = (0, 0);
    while turns.visitors.values().any(|visitor| visitor.is_handshaking()) || !turns.waiting().is_empty() {
        turns.send(bulk, &[7; PIECE]);
        upstream.write_all(&[9; PIECE]).unwrap();
        turns.wait_readable();
        let turn = turns.turn();
        upstream.read_exact(&mut [0; PIECE]).unwrap();
        steps += turn.steps;
        count += 1;
        assert!(turn.steps <= 1, "turn {count}: {turn:?}");
        assert_eq!(turn.from_upstream, PIECE as u64, "turn {count}: {turn:?}");
        // Neither do the handshakes starve: each of the two steps of each visitor has a turn.
        assert!(count <= 2 * VISITORS + 10, "{steps} steps in {count} turns");
    }
    assert!(steps >= 2 * VISITORS, "{steps} steps");
    assert_eq!(turns.received, 1 + count * PIECE);
}
