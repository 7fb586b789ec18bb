//! A gateway without sessions, and the two ends that the tests play.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use adit::endpoint_url::{EndpointUrl, Scheme};
use adit_gateway::http::reach::{
    CloudEndpoint, GatewayId, Location, OpenError, PublicEndpoint, Reach, SessionId, Target, Unreachable, Visitor,
};
use adit_gateway::http::{Ending, Front, Limits, Protocol, serve};
use adit_gateway::policy::{Place, Policy};
use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// How the agent behaves when a proxy stream is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Agent {
    /// It hands the stream to the test's upstream.
    Connected,
    /// It says that it cannot reach the upstream.
    Refused,
    /// It has no free streams.
    Busy,
    /// Its session has just ended.
    Lost,
}

/// The endpoints of the gateway under test; all of them lead to one upstream.
pub(crate) struct World {
    endpoints: HashMap<String, PublicEndpoint>,
    upstream: SocketAddr,
    agent: Agent,
    drain: watch::Sender<bool>,
    opened: Arc<AtomicUsize>,
}

impl Reach for World {
    type Stream = Stream;

    fn public(&self, _: Scheme, host: &str, port: u16) -> Result<PublicEndpoint, Unreachable> {
        if host == "private.test" && port != PRIVATE_PORT {
            return Err(Unreachable::Offline);
        }
        self.endpoints.get(host).cloned().ok_or(Unreachable::Offline)
    }

    fn internal(&self, _: &str, url: &EndpointUrl) -> Result<Target, Unreachable> {
        match (url.host(), self.endpoints.get(url.host())) {
            ("api.internal", _) => Ok(target("https://api.internal", None)),
            (_, Some(PublicEndpoint::Agent(target))) if url.is_internal() => Ok(target.clone()),
            _ => Err(Unreachable::Offline),
        }
    }

    fn listens_on(&self, _: Scheme, port: u16) -> bool {
        port == PRIVATE_PORT
    }

    async fn open(&self, _: &Target, _: &Visitor, _: bool) -> Result<Stream, OpenError> {
        self.opened.fetch_add(1, Ordering::SeqCst);
        match self.agent {
            Agent::Connected => Ok(Stream::Tcp(TcpStream::connect(self.upstream).await.unwrap())),
            Agent::Refused => Ok(Stream::Refused),
            Agent::Busy => Err(OpenError::Busy),
            Agent::Lost => Err(OpenError::Lost),
        }
    }

    async fn draining(&self) {
        let mut drain = self.drain.subscribe();
        let _ = drain.wait_for(|is_draining| *is_draining).await;
    }
}

fn target(url: &str, policy: Option<Arc<Policy>>) -> Target {
    Target {
        location: Location { gateway: GatewayId::Local, session: SessionId(1), bind: url.into() },
        url: EndpointUrl::parse(url).unwrap(),
        account: "main".into(),
        forwards_to: "http://127.0.0.1:1".into(),
        forwards_proto: "http1".into(),
        client_type: "adit".into(),
        policy,
    }
}

/// A proxy stream: a socket to the upstream, or an agent that could not reach it.
pub(crate) enum Stream {
    Tcp(TcpStream),
    Refused,
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Refused => Poll::Ready(Err(io::ErrorKind::ConnectionRefused.into())),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Refused => Poll::Ready(Ok(bytes.len())),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Refused => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Refused => Poll::Ready(Ok(())),
        }
    }
}

/// A running gateway and its upstream.
pub(crate) struct Gateway {
    pub(crate) address: SocketAddr,
    upstream: TcpListener,
    drain: watch::Sender<bool>,
    opened: Arc<AtomicUsize>,
    taken: AtomicUsize,
}

/// What a gateway under test is made of.
pub(crate) struct Setup {
    pub(crate) protocol: Protocol,
    pub(crate) limits: Limits,
    pub(crate) agent: Agent,
    endpoints: HashMap<String, PublicEndpoint>,
}

impl Setup {
    /// `app.test` is an agent's endpoint without a policy; `other.test` is one more, and `private.test` one that
    /// is served at [`PRIVATE_PORT`], where nobody comes in.
    pub(crate) fn new(protocol: Protocol) -> Self {
        let agent = |url| PublicEndpoint::Agent(target(url, None));
        let endpoints = HashMap::from([
            ("app.test".to_owned(), agent("https://app.test")),
            ("other.test".to_owned(), agent("https://other.test")),
            ("private.test".to_owned(), agent("https://private.test:8")),
        ]);
        Self { protocol, limits: Limits::default(), agent: Agent::Connected, endpoints }
    }

    pub(crate) fn agent(mut self, agent: Agent) -> Self {
        self.agent = agent;
        self
    }

    pub(crate) fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Adds a cloud endpoint.
    pub(crate) fn cloud(mut self, host: &str, policy: &str) -> Self {
        let url = EndpointUrl::parse(&format!("https://{host}")).unwrap();
        let policy = Policy::parse(policy, Place::cloud(&url)).unwrap().into();
        let endpoint = CloudEndpoint { url, account: "main".into(), policy };
        self.endpoints.insert(host.into(), PublicEndpoint::Cloud(endpoint.into()));
        self
    }

    /// Adds an internal endpoint with a policy; `api.internal` is there without one.
    pub(crate) fn internal(mut self, host: &str, policy: &str) -> Self {
        let url = format!("https://{host}");
        let parsed = EndpointUrl::parse(&url).unwrap();
        let policy = Policy::parse(policy, Place::agent(&parsed)).unwrap().into();
        self.endpoints.insert(host.into(), PublicEndpoint::Agent(target(&url, Some(policy))));
        self
    }

    pub(crate) async fn start(self) -> Gateway {
        let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let public = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = public.local_addr().unwrap();
        let drain = watch::Sender::new(false);
        let opened = Arc::new(AtomicUsize::new(0));
        let world = Arc::new(World {
            endpoints: self.endpoints,
            upstream: upstream.local_addr().unwrap(),
            agent: self.agent,
            drain: drain.clone(),
            opened: Arc::clone(&opened),
        });
        let (protocol, limits) = (self.protocol, self.limits);
        tokio::spawn(async move {
            while let Ok((io, peer)) = public.accept().await {
                let visitor = Visitor { peer, local: address, number: 0 };
                let front = Front { visitor, tls: None, scheme: Scheme::Https, protocol, limits };
                let world = Arc::clone(&world);
                tokio::spawn(async move {
                    if let Ending::Cut(io) = serve(world, io, front).await {
                        socket2::SockRef::from(&io).set_linger(Some(Duration::ZERO)).unwrap();
                    }
                });
            }
        });
        Gateway { address, upstream, drain, opened, taken: AtomicUsize::new(0) }
    }
}

/// A gateway that speaks HTTP/1.1, with everything at its default.
pub(crate) async fn http1() -> Gateway {
    Setup::new(Protocol::Http1).start().await
}

impl Gateway {
    /// A visitor's raw connection.
    pub(crate) async fn visit(&self) -> Peer {
        Peer::new(TcpStream::connect(self.address).await.unwrap())
    }

    /// A visitor with HTTP/2.
    pub(crate) async fn visit_http2(&self) -> http2::SendRequest<BoxBody<Bytes, hyper::Error>> {
        let io = TcpStream::connect(self.address).await.unwrap();
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(io)).await.unwrap();
        tokio::spawn(connection);
        sender
    }

    /// A visitor with HTTP/1.1 that does not count its bytes itself.
    pub(crate) async fn visit_http1(&self) -> http1::SendRequest<BoxBody<Bytes, hyper::Error>> {
        let io = TcpStream::connect(self.address).await.unwrap();
        let (sender, connection) = http1::handshake(TokioIo::new(io)).await.unwrap();
        tokio::spawn(connection);
        sender
    }

    /// The next proxy stream, as the upstream sees it.
    pub(crate) async fn upstream(&self) -> Peer {
        self.taken.fetch_add(1, Ordering::SeqCst);
        let accepted = tokio::time::timeout(PATIENCE, self.upstream.accept());
        Peer::new(accepted.await.expect("no proxy stream was opened").unwrap().0)
    }

    /// Fails if a proxy stream was opened that nobody has taken with [`Gateway::upstream`].
    pub(crate) fn assert_no_upstream(&self) {
        let (opened, taken) = (self.opened.load(Ordering::SeqCst), self.taken.load(Ordering::SeqCst));
        assert_eq!(opened, taken, "a proxy stream was opened that nobody asked for");
    }

    /// How many proxy streams were opened so far.
    pub(crate) fn opened(&self) -> usize {
        self.opened.load(Ordering::SeqCst)
    }

    pub(crate) fn drain(&self) {
        self.drain.send_replace(true);
    }
}

/// One raw connection of a test.
pub(crate) struct Peer {
    pub(crate) io: TcpStream,
    read: Vec<u8>,
}

impl Peer {
    fn new(io: TcpStream) -> Self {
        Self { io, read: Vec::new() }
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.io.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Reads up to and including `end`.
    pub(crate) async fn read_until(&mut self, end: &str) -> String {
        loop {
            let found = self.read.windows(end.len()).position(|window| window == end.as_bytes());
            if let Some(at) = found {
                let rest = self.read.split_off(at + end.len());
                return String::from_utf8(std::mem::replace(&mut self.read, rest)).unwrap();
            }
            let read = tokio::time::timeout(PATIENCE, self.io.read_buf(&mut self.read));
            let count = read.await.unwrap_or_else(|_| panic!("waiting for {end:?} behind {:?}", self.text())).unwrap();
            assert!(count > 0, "the connection ended before {end:?}, behind {:?}", self.text());
        }
    }

    /// Reads the head of a message.
    pub(crate) async fn read_head(&mut self) -> String {
        self.read_until("\r\n\r\n").await
    }

    /// Reads the head of a message if the connection goes on.
    pub(crate) async fn try_read_head(&mut self) -> bool {
        while !self.read.ends_with(b"\r\n\r\n") {
            if self.io.read_buf(&mut self.read).await.unwrap_or(0) == 0 {
                return false;
            }
        }
        self.read.clear();
        true
    }

    /// Reads a response with a body of known length.
    pub(crate) async fn read_response(&mut self) -> (String, String) {
        let head = self.read_head().await;
        let length = header(&head, "content-length").map_or(0, |length| length.parse().unwrap());
        (head, self.read_exact(length).await)
    }

    /// Bytes that are no text.
    pub(crate) async fn io_exact(&mut self, length: usize) -> Vec<u8> {
        assert!(self.read.is_empty());
        let mut bytes = vec![0; length];
        self.io.read_exact(&mut bytes).await.unwrap();
        bytes
    }

    pub(crate) async fn read_exact(&mut self, length: usize) -> String {
        while self.read.len() < length {
            let read = tokio::time::timeout(PATIENCE, self.io.read_buf(&mut self.read)).await;
            assert!(read.expect("too few bytes").unwrap() > 0, "the connection ended early");
        }
        let rest = self.read.split_off(length);
        String::from_utf8(std::mem::replace(&mut self.read, rest)).unwrap()
    }

    /// Reads until the connection ends; an error if it was reset.
    pub(crate) async fn read_to_end(&mut self) -> io::Result<String> {
        let read = tokio::time::timeout(PATIENCE, self.io.read_to_end(&mut self.read)).await;
        read.expect("the connection did not end")?;
        Ok(self.text())
    }

    /// Waits until the other side has gone, in whichever way.
    pub(crate) async fn wait_for_end(&mut self) {
        let _ = self.read_to_end().await;
    }

    /// Both directions, for a test that uses them at once. What was read ahead comes first.
    pub(crate) fn into_split(self) -> (impl AsyncRead, OwnedWriteHalf) {
        let (read, write) = self.io.into_split();
        (AsyncReadExt::chain(io::Cursor::new(self.read), read), write)
    }

    /// Resets the connection.
    pub(crate) fn reset(self) {
        socket2::SockRef::from(&self.io).set_linger(Some(Duration::ZERO)).unwrap();
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.read).into_owned()
    }
}

/// The value of a header in a raw head.
pub(crate) fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = head.lines().filter_map(|line| line.split_once(": "));
    lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

pub(crate) fn empty() -> BoxBody<Bytes, hyper::Error> {
    Empty::new().map_err(|never| match never {}).boxed()
}

/// Waits of the tests themselves: long, because they end as soon as something happens.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A port that the gateway listens on for some, and none of the tests' visitors.
const PRIVATE_PORT: u16 = 8;
