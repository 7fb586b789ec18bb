//! Makes a transcript: the agent as a process, a relay that ends its TLS and writes down what goes through, the gateway.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use adit_gateway::session::serve_agent;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::site::Site;
use crate::stage::{PATIENCE, Stage, TOKEN};
use crate::streams::Streams;
use crate::transcript::{Event, Transcript};
use crate::visits::Errand;

type Events = Arc<Mutex<Vec<Event>>>;

/// Runs this agent against the gateway, with every visitor once and a reload that takes an endpoint away, to its end.
pub(crate) async fn record(stage: &Stage, program: &Path) -> Transcript {
    let events = Events::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let relay = tokio::spawn(relay(listener, acceptor(&stage.site), Arc::clone(&stage.gateway), Arc::clone(&events)));
    let upstreams = Upstreams::start().await;
    let file = write_file(stage, port, &upstreams, &Errand::ALL);
    let mut agent = Agent(Command::new(program).args(["run", "--config"]).arg(file).spawn().unwrap());
    for errand in Errand::ALL {
        push(&events, Event::Visitor(errand));
        let answer = errand.run(Arc::clone(&stage.gateway)).await;
        push(&events, Event::Answer(errand, answer));
    }
    until(&events, "a beat", |said| count(said, |kind| kind == HEARTBEAT) > 0).await;
    write_file(stage, port, &upstreams, &Errand::ALL[1..]);
    agent.signal("HUP");
    until(&events, "an Unbind", |said| count(said, |kind| kind == UNBIND) > 0).await;
    agent.signal("TERM");
    timeout(PATIENCE, relay).await.expect("the agent does not go").unwrap();
    assert!(agent.0.wait().unwrap().success());
    Transcript { events: std::mem::take(&mut *events.lock().unwrap()) }
}

/// Serves the one connection of the agent.
async fn relay(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    gateway: Arc<adit_gateway::gateway::Gateway>,
    events: Events,
) {
    let (tcp, address) = listener.accept().await.unwrap();
    let agent = acceptor.accept(tcp).await.unwrap();
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let serving = tokio::spawn(serve_agent(gateway, theirs, address));
    let (from_agent, to_agent) = tokio::io::split(agent);
    let (from_gateway, to_gateway) = tokio::io::split(ours);
    let up = pass(from_agent, to_gateway, &events, Event::Agent);
    let down = pass(from_gateway, to_agent, &events, Event::Gateway);
    // An agent that has said all closes without waiting for the other end.
    let _ = tokio::join!(up, down);
    serving.await.unwrap();
}

async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    events: &Events,
    event: fn(Vec<u8>) -> Event,
) -> io::Result<()> {
    loop {
        let mut bytes = Vec::with_capacity(64 * 1024);
        if from.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            return to.shutdown().await;
        }
        push(events, event(bytes.clone()));
        to.write_all(&bytes).await?;
        to.flush().await?;
    }
}

fn push(events: &Events, event: Event) {
    events.lock().unwrap().push(event);
}

/// Waits until the agent and the gateway have said something.
async fn until(events: &Events, what: &str, condition: impl Fn(&[Event]) -> bool) {
    let wait = async {
        while !condition(&events.lock().unwrap()) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("{what} does not come"));
}

/// How many of the agent's streams of a kind the gateway has said something on.
fn count(events: &[Event], is_meant: impl Fn(u32) -> bool) -> usize {
    let (mut agent, mut gateway) = (Streams::default(), Streams::default());
    for event in events {
        match event {
            Event::Agent(bytes) => agent.take(bytes),
            Event::Gateway(bytes) => gateway.take(bytes),
            Event::Visitor(_) | Event::Answer(..) => {}
        }
    }
    let mine = agent.by_id.iter().filter(|(id, said)| *id % 2 == 1 && said.data.len() >= 4 && is_meant(said.kind()));
    mine.filter(|(id, _)| gateway.by_id.get(id).is_some_and(|said| !said.data.is_empty())).count()
}

fn acceptor(site: &Site) -> TlsAcceptor {
    site.write_certificate("relay-", &["localhost"], |_| ());
    let chain = vec![CertificateDer::from_pem_file(site.path("relay-certificate.pem")).unwrap()];
    let key = PrivateKeyDer::from_pem_file(site.path("relay-private-key.pem")).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

fn write_file(stage: &Stage, port: u16, upstreams: &Upstreams, errands: &[Errand]) -> PathBuf {
    let endpoints: Vec<_> = errands
        .iter()
        .map(|errand| {
            let mut endpoint = json!({
                "name": errand.name(), "url": errand.url().to_string(), "metadata": "{\"site\":7}",
                "upstream": {"url": upstreams.url(*errand)},
            });
            if *errand == Errand::Form {
                let add = json!({"type": "add-headers", "config": {"headers": {"x-site": "7"}}});
                endpoint["traffic_policy"] = json!({"on_http_request": [{"actions": [add]}]});
                endpoint["description"] = "what people send".into();
                endpoint["pooling_enabled"] = true.into();
            }
            endpoint
        })
        .collect();
    let agent = json!({
        "authtoken": TOKEN, "connect_url": format!("localhost:{port}"), "instance_id": "box-7", "metadata": "north",
        "connect_cas": stage.site.path("relay-certificate.pem"), "heartbeat_interval": "1s",
    });
    let file = json!({"version": 3, "agent": agent, "endpoints": endpoints});
    let path = stage.site.write("adit.json", &file.to_string());
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path
}

/// What the agent forwards to.
struct Upstreams {
    pages: SocketAddr,
    echo: SocketAddr,
    /// Has a port and does not listen.
    nobody: TcpSocket,
}

impl Upstreams {
    async fn start() -> Self {
        let pages = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let echo = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let nobody = TcpSocket::new_v4().unwrap();
        nobody.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let upstreams = Self { pages: pages.local_addr().unwrap(), echo: echo.local_addr().unwrap(), nobody };
        tokio::spawn(serve(pages, |tcp| async { answer(tcp).await.unwrap() }));
        tokio::spawn(serve(echo, |mut tcp| async move {
            let (mut from, mut to) = tcp.split();
            tokio::io::copy(&mut from, &mut to).await.unwrap();
        }));
        upstreams
    }

    fn url(&self, errand: Errand) -> String {
        match errand {
            Errand::Page | Errand::Form => format!("http://{}", self.pages),
            Errand::Dead => format!("http://{}", self.nobody.local_addr().unwrap()),
            Errand::Raw | Errand::Sealed => format!("tcp://{}", self.echo),
        }
    }
}

async fn serve<F: Future<Output = ()> + Send + 'static>(listener: TcpListener, with: fn(TcpStream) -> F) {
    while let Ok((tcp, _)) = listener.accept().await {
        tokio::spawn(with(tcp));
    }
}

/// Answers one request once its body is there.
async fn answer(mut tcp: TcpStream) -> io::Result<()> {
    let mut request = Vec::new();
    let is_whole = |request: &[u8]| {
        request.ends_with(if request.starts_with(b"POST") { b"name=value" } else { b"\r\n\r\n" as &[u8] })
    };
    while !is_whole(&request) {
        if tcp.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    tcp.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello").await?;
    tcp.read_to_end(&mut request).await.map(drop)
}

/// The process; it does not outlive the test.
struct Agent(Child);

impl Agent {
    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.0.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const UNBIND: u32 = 2;
const HEARTBEAT: u32 = 0xffff_ffff;
