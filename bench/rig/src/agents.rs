//! A fleet in one process: real sessions over real TLS, which log in, bring their endpoints, send their beats, and carry
//! nothing.

use std::error::Error;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use adit::config::Config;
use adit::endpoint_url::RequestedUrl;
use adit::mux::Limits;
use adit::proxy_protocol::ProxyProtocol;
use adit::session::agent::{AgentSession, Event, Settings};
use adit::session::{EndpointSpec, Resumption};
use adit::tls;
use argh::FromArgs;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use rustls::{ClientConfig, ClientConnection};
use serde_json::json;

use crate::Outcome;
use crate::visitors::{Count, percentile};

/// log in as many agents, each with some endpoints, then hold them for a while
#[derive(FromArgs)]
#[argh(subcommand, name = "agents")]
pub(crate) struct Agents {
    /// an agent's configuration file: its token, connect URL and authority are used
    #[argh(positional)]
    config: PathBuf,
    /// how many
    #[argh(positional)]
    count: usize,
    /// endpoints of each
    #[argh(option, default = "3")]
    endpoints: usize,
    /// seconds to hold them, once all are up
    #[argh(option, default = "30")]
    seconds: u64,
    /// where to connect, when it is not what the file says: address and port
    #[argh(option)]
    address: Option<std::net::SocketAddr>,
}

pub(crate) fn agents(command: Agents) -> Outcome {
    let (config, _) = Config::load(&command.config, &|name| std::env::var(name).ok())?;
    let tls = tls::connect_config(&config.agent)?;
    Fleet::new(command, config, tls)?.run()
}

struct Fleet {
    command: Agents,
    config: Config,
    tls: Arc<ClientConfig>,
    poll: Poll,
    agents: Vec<Agent>,
    /// Of those that are logged in, how many have how many endpoints online.
    bound: usize,
    beats: Vec<Duration>,
    lost: Vec<String>,
}

struct Agent {
    socket: TcpStream,
    tls: ClientConnection,
    session: AgentSession,
    is_up: bool,
    is_over: bool,
}

impl Fleet {
    fn new(command: Agents, config: Config, tls: Arc<ClientConfig>) -> io::Result<Self> {
        let poll = Poll::new()?;
        Ok(Self { command, config, tls, poll, agents: Vec::new(), bound: 0, beats: Vec::new(), lost: Vec::new() })
    }

    fn run(mut self) -> Outcome {
        let start = Instant::now();
        let wanted = self.command.count * self.command.endpoints;
        let mut deadline = None;
        loop {
            let under_way =
                self.agents.iter().rev().take(AT_ONCE).filter(|agent| !agent.is_up && !agent.is_over).count();
            for _ in under_way..AT_ONCE {
                if self.agents.len() < self.command.count {
                    self.dial()?;
                }
            }
            self.turn()?;
            if let Some(lost) = self.lost.first() {
                return Err(format!("{} of the agents were lost, the first: {lost}", self.lost.len()).into());
            }
            if deadline.is_none() && self.bound >= wanted {
                let up = start.elapsed().as_secs_f64();
                println!("{}", json!({ "up": self.agents.len(), "endpoints": self.bound, "seconds": up }));
                self.beats.clear();
                deadline = Some(Instant::now() + Duration::from_secs(self.command.seconds));
            }
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                break;
            }
        }
        let per_second = Count::from(self.beats.len()).0 / start.elapsed().as_secs_f64();
        Ok(json!({
            "held": self.agents.len(), "beats": self.beats.len(), "beats_per_second": per_second,
            "beat_p50_us": percentile(&mut self.beats, 50), "beat_p99_us": percentile(&mut self.beats, 99),
        }))
    }

    fn dial(&mut self) -> Result<(), Box<dyn Error + Send + Sync>> {
        let number = self.agents.len();
        let connect = &self.config.agent.connect;
        let address = match self.command.address {
            Some(address) => address,
            None => std::net::ToSocketAddrs::to_socket_addrs(&(connect.host(), connect.port()))?
                .find(std::net::SocketAddr::is_ipv4)
                .ok_or("the connect URL has no IPv4 address")?,
        };
        let socket = std::net::TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        let mut socket = TcpStream::from_std(socket);
        self.poll.registry().register(&mut socket, Token(number), Interest::READABLE | Interest::WRITABLE)?;
        let now = Instant::now();
        let settings = settings(&self.config, number, self.command.endpoints)?;
        let session = AgentSession::new(settings, Resumption::default(), number as u64, now);
        let tls = ClientConnection::new(Arc::clone(&self.tls), tls::server_name(connect.host())?)?;
        self.agents.push(Agent { socket, tls, session, is_up: false, is_over: false });
        self.drive(number, now);
        Ok(())
    }

    /// Waits a little for sockets, then looks at every clock.
    fn turn(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        self.poll.poll(&mut events, Some(TICK))?;
        let now = Instant::now();
        for event in &events {
            self.drive(event.token().0, now);
        }
        for number in 0..self.agents.len() {
            let agent = &mut self.agents[number];
            if !agent.is_over && agent.session.poll_timeout().is_some_and(|due| due <= now) {
                agent.session.handle_timeout(now);
                self.drive(number, now);
            }
        }
        Ok(())
    }

    fn drive(&mut self, number: usize, now: Instant) {
        let agent = &mut self.agents[number];
        if agent.is_over {
            return;
        }
        if let Err(why) = agent.exchange(now) {
            agent.is_over = true;
            self.lost.push(format!("agent {number}: {why}"));
        }
        while let Some(event) = agent.session.poll_event() {
            match event {
                Event::Up(_) => agent.is_up = true,
                Event::Bound { .. } => self.bound += 1,
                Event::Beat(time) => self.beats.push(time),
                Event::AuthRefused { error, .. } | Event::BindRefused { error, .. } => {
                    self.lost.push(format!("agent {number} was refused: {error:?}"));
                }
                Event::Ended(end) => self.lost.push(format!("agent {number}: {end}")),
                _ => {}
            }
        }
    }
}

impl Agent {
    /// Writes what there is, and reads what has come.
    fn exchange(&mut self, now: Instant) -> Result<(), Box<dyn Error>> {
        loop {
            self.write()?;
            match self.tls.read_tls(&mut self.socket) {
                Ok(0) => return Err("the connection was closed".into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
            let state = self.tls.process_new_packets()?;
            let mut plain = vec![0; state.plaintext_bytes_to_read()];
            self.tls.reader().read_exact(&mut plain)?;
            self.session.recv(&plain, &mut (), now)?;
        }
    }

    fn write(&mut self) -> io::Result<()> {
        let mut out = Vec::new();
        self.session.poll_transmit(&mut out, usize::MAX / 2);
        self.tls.writer().write_all(&out)?;
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut self.socket) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn settings(config: &Config, number: usize, endpoints: usize) -> Result<Settings, Box<dyn Error + Send + Sync>> {
    let agent = &config.agent;
    let endpoints = (0..endpoints).map(|at| endpoint(number, at)).collect::<Result<_, _>>()?;
    Ok(Settings {
        authtoken: agent.authtoken.clone(),
        instance: Some(format!("box-{number}")),
        metadata: String::new(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        os: std::env::consts::OS.to_owned(),
        arch: std::env::consts::ARCH.to_owned(),
        heartbeat_interval: agent.heartbeat_interval,
        heartbeat_tolerance: agent.heartbeat_tolerance,
        remote_management: false,
        endpoints,
        limits: Limits::default(),
    })
}

fn endpoint(number: usize, at: usize) -> Result<EndpointSpec, adit::endpoint_url::EndpointUrlError> {
    Ok(EndpointSpec {
        number: at,
        name: format!("service-{at}"),
        url: RequestedUrl::parse(&format!("https://service-{at}.site-{number}.internal"))?,
        forwards_to: "http://127.0.0.1:80".to_owned(),
        proxy_protocol: ProxyProtocol::default(),
        bindings: Vec::new(),
        pooling_enabled: false,
        metadata: String::new(),
        description: String::new(),
        traffic_policy: String::new(),
    })
}

/// Log-ins under way at a time.
const AT_ONCE: usize = 40;
/// How late a clock may be noticed.
const TICK: Duration = Duration::from_millis(50);
