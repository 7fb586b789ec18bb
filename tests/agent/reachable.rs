//! What the gateway can make the agent dial: the upstreams of its file and nothing else, whatever is tried.

use std::net::{SocketAddr, TcpListener};

use adit::endpoint_url::Scheme;
use adit::message::{ProxyHeader, StreamType};

use crate::gateway::Gateway;
use crate::patience::PATIENCE;
use crate::peer::{Peer, bind_id};
use crate::program::{Agent, Setup};
use crate::upstream;

/// A service that nobody may reach.
struct Decoy {
    listener: TcpListener,
    address: SocketAddr,
}

impl Decoy {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        Self { address: listener.local_addr().unwrap(), listener }
    }

    /// Nobody has connected. A connection of the agent's that is there would be found: it was made before the round
    /// trip that ends every attack.
    fn assert_untouched(&self) {
        let found = self.listener.accept();
        assert_eq!(found.unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "the decoy was reached");
    }
}

/// The agent still works, and has done all that was asked before: one connection to the gateway, one to the upstream.
fn assert_nothing_opened(agent: &Agent, peer: &Peer, decoy: &Decoy) {
    let stream = peer.visit("echo");
    stream.send(b"still there");
    assert_eq!(stream.wait_received(11), b"still there");
    decoy.assert_untouched();
    agent.wait_connections(2);
    stream.finish();
    stream.wait_end();
    agent.wait_connections(1);
}

fn start(decoy: &Decoy) -> (Gateway, Agent, Peer) {
    let gateway = Gateway::adit();
    let agent = setup(decoy).start(&gateway);
    let peer = gateway.peer(0);
    peer.wait_bound(1);
    (gateway, agent, peer)
}

/// The decoy's address stands in the file, but not as an upstream.
fn setup(decoy: &Decoy) -> Setup {
    let setup = Setup::new().agent("metadata", format!("tcp://{}", decoy.address)).tcp("echo", upstream::echo());
    setup.with("description", format!("http://{}", decoy.address))
}

/// The JSON of a proxy header with its length in front, as bytes of a stream.
fn framed(json: &str) -> Vec<u8> {
    let mut bytes = StreamType::Proxy.to_bytes().to_vec();
    bytes.extend((json.len() as i64).to_le_bytes());
    bytes.extend(json.as_bytes());
    bytes
}

#[test]
fn ids_that_are_no_endpoints_of_the_agent_lead_nowhere() {
    let decoy = Decoy::new();
    let (_gateway, agent, peer) = start(&decoy);
    let address = decoy.address.to_string();
    let ids = [
        String::new(),
        address.clone(),
        format!("tcp://{address}"),
        "echo".to_owned(),
        "0".to_owned(),
        bind_id("ECHO"),
        format!("{} ", bind_id("echo")),
        format!("{}\0", bind_id("echo")),
        format!("../{}", bind_id("echo")),
        "i".repeat(10_000),
    ];
    for id in ids {
        for scheme in [Scheme::Http, Scheme::Https, Scheme::Tls, Scheme::Tcp] {
            let stream = peer.open_stream(&ProxyHeader::new(id.clone(), decoy.address, scheme, true).encode());
            assert!(stream.wait_end().0.is_empty(), "{id:?}");
        }
    }
    assert_nothing_opened(&agent, &peer, &decoy);
}

#[test]
fn headers_with_addresses_of_their_own_reach_the_upstream_of_the_file() {
    let decoy = Decoy::new();
    let (_gateway, agent, peer) = start(&decoy);
    let (address, port) = (decoy.address, decoy.address.port());
    let common = format!(r#""ClientAddr":"{address}","Proto":"tcp","EdgeType":"0","PassthroughTLS":true"#);
    let more = [
        String::new(),
        format!(r#","ForwardsTo":"tcp://{address}""#),
        format!(r#","Upstream":{{"url":"tcp://{address}"}},"Addr":"{address}","Port":{port}"#),
        format!(r#","URL":"http://{address}","Host":"{address}","ProxyUrl":"http://{address}""#),
        format!(r#","Opts":{{"Addr":"{address}"}},"Extra":{{"Adit":{{"Dial":"{address}"}}}}"#),
        format!(r#","id":"{address}","ID":"tcp://{address}""#),
    ];
    for more in more {
        let stream = peer.open_stream(&framed(&format!(r#"{{"Id":"{}",{common}{more}}}"#, bind_id("echo"))));
        stream.send(b"who are you?");
        assert_eq!(stream.wait_received(12), b"who are you?", "the echo of the file answers: {more}");
        stream.finish();
        stream.wait_end();
    }
    assert_nothing_opened(&agent, &peer, &decoy);
}

#[test]
fn hostile_json_opens_nothing() {
    let decoy = Decoy::new();
    let (_gateway, agent, peer) = start(&decoy);
    let (id, address) = (bind_id("echo"), decoy.address);
    let rest = r#""ClientAddr":"1.2.3.4:5","Proto":"tcp","EdgeType":"0","PassthroughTLS":false"#;
    let headers = [
        format!(r#"{{"Id":"ep_none","Id":"{address}",{rest}}}"#),
        format!(r#"{{"Id":["{id}","{address}"],{rest}}}"#),
        format!(r#"{{"Id":{{"url":"tcp://{address}"}},{rest}}}"#),
        format!(r#"{{"Id":null,{rest}}}"#),
        format!(r#"{{"Id":1,{rest}}}"#),
        format!(r#"{{{rest}}}"#),
        format!(r#"[{{"Id":"{id}",{rest}}}]"#),
        format!(r#"{{"a":{}{}}}"#, "[".repeat(5000), "]".repeat(5000)),
        format!(r#""{address}""#),
        "null".to_owned(),
        "{".to_owned(),
        String::new(),
        "\u{0}\u{0}\u{0}".to_owned(),
    ];
    for json in headers {
        let stream = peer.open_stream(&framed(&json));
        stream.finish();
        assert!(stream.wait_end().0.is_empty(), "{json}");
    }
    // Lengths that are lies.
    for len in [-1_i64, i64::MIN, i64::MAX, 1 << 40] {
        let mut bytes = StreamType::Proxy.to_bytes().to_vec();
        bytes.extend(len.to_le_bytes());
        let stream = peer.open_stream(&bytes);
        stream.finish();
        assert!(stream.wait_end().0.is_empty(), "{len}");
    }
    assert_nothing_opened(&agent, &peer, &decoy);
}

#[test]
fn streams_of_every_type_open_nothing() {
    let decoy = Decoy::new();
    let (gateway, agent, peer) = start(&decoy);
    let (id, address) = (bind_id("echo"), decoy.address);
    let bodies = [
        format!(
            r#"{{"Id":"{id}","Proto":"tcp","ForwardsTo":"tcp://{address}","Opts":{{"Addr":"{address}"}},"Extra":{{}}}}"#
        ),
        format!(r#"{{"Version":"tcp://{address}","PermitMajorVersion":true,"Url":"http://{address}/adit"}}"#),
        format!(r#"{{"TunnelId":"{id}","ForwardsTo":"{address}","TrafficPolicy":"{{}}"}}"#),
        format!(r#"{{"ConnectAddresses":[{{"ServerAddr":"{address}"}}],"Region":"{address}"}}"#),
    ];
    let heartbeat = StreamType::Heartbeat.as_u32();
    // StopTunnel with the endpoint's own id is left out: that it stops the endpoint is what it is for.
    for number in (0..=40_u32).chain([heartbeat - 1, heartbeat]).filter(|&number| number != StreamType::Proxy.as_u32())
    {
        for body in &bodies {
            if number == StreamType::StopTunnel.as_u32() && body.starts_with(&format!(r#"{{"Id":"{id}""#)) {
                continue;
            }
            let mut bytes = number.to_be_bytes().to_vec();
            bytes.extend(body.as_bytes());
            let stream = peer.open_stream(&bytes);
            stream.finish();
        }
    }
    assert_nothing_opened(&agent, &peer, &decoy);
    assert_eq!(gateway.accepted(), 1, "no command was obeyed");
}

#[test]
fn commands_that_are_allowed_lead_back_to_the_gateway_of_the_file() {
    let decoy = Decoy::new();
    let gateway = Gateway::adit();
    let agent = setup(&decoy).agent("remote_management", true).start(&gateway);
    let peer = gateway.peer(0);
    peer.wait_bound(1);
    let json = format!(r#"{{"ServerAddr":"{0}","ConnectAddresses":[{{"ServerAddr":"{0}"}}]}}"#, decoy.address);
    peer.command(StreamType::Update, json.as_bytes());
    agent.wait_line(&["asked for Update; refused"]);
    peer.command(StreamType::Restart, json.as_bytes());
    let peer = gateway.peer(1);
    peer.wait_bound(1);
    assert_nothing_opened(&agent, &peer, &decoy);
}

#[test]
fn ids_of_endpoints_that_a_reload_removed_lead_nowhere() {
    let decoy = Decoy::new();
    let gateway = Gateway::adit();
    let without = setup(&decoy);
    let agent = without.clone().tcp("gone", decoy.address).start(&gateway);
    let peer = gateway.peer(0);
    peer.wait_bound(2);
    agent.reload(&without, &gateway);
    agent.wait_line(&["endpoints removed: gone"]);
    assert!(peer.visit("gone").wait_end().0.is_empty());
    assert_nothing_opened(&agent, &peer, &decoy);

    // The name comes back with another upstream, under the id that the gateway gave before.
    agent.reload(&without.clone().tcp("gone", upstream::echo()), &gateway);
    peer.wait_bound(3);
    let stream = peer.visit("gone");
    stream.send(b"x");
    assert_eq!(stream.wait_received(1), b"x");
    stream.finish();
    stream.wait_end();
    assert_nothing_opened(&agent, &peer, &decoy);
}

#[test]
fn decoy_would_be_seen() {
    let decoy = Decoy::new();
    let gateway = Gateway::adit();
    let agent = Setup::new().tcp("echo", upstream::echo()).tcp("decoy", decoy.address).start(&gateway);
    let peer = gateway.peer(0);
    peer.wait_bound(2);
    let _stream = peer.visit("decoy");
    agent.wait_connections(2);
    decoy.listener.set_nonblocking(false).unwrap();
    socket2::SockRef::from(&decoy.listener).set_read_timeout(Some(PATIENCE)).unwrap();
    assert!(decoy.listener.accept().is_ok());
}
