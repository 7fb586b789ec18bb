//! The agent's library in this process, over a real link: a gateway and an echo on loopback that keep nothing either.

use std::io::{BufRead, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use adit::agent::{Agent, Handle};
use adit::config::Config;
use adit::endpoint_url::Scheme;
use adit::message::{EmptyReply, ProxyHeader};
use adit::mux::limits::WINDOW;
use adit::mux::{Key, Limits};
use adit::session::GatewaySession;
use adit::session::gateway::{Event, Request};
use rustls::ServerConnection;
use serde_json::json;

use crate::IDLE;
use crate::login::{accept, bind_id, bound};
use crate::site::Site;

/// Visitors at the same time.
pub(crate) const AT_A_TIME: usize = 20;

pub(crate) struct Link {
    session: GatewaySession,
    tls: ServerConnection,
    socket: TcpStream,
    scratch: Vec<u8>,
    out: Vec<u8>,
    visitors: Vec<Key>,
    held: Vec<Key>,
    bound: usize,
    agent: Option<JoinHandle<()>>,
    handle: Handle,
    /// The second upstream says when it has taken a connection.
    taken: Receiver<()>,
}

impl Link {
    /// Starts the agent, lets it log in and bring its endpoint online.
    pub(crate) fn up() -> Self {
        let site = Site::new();
        let (hold, taken) = holder();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let ca = dir.path().join("ca.pem");
        std::fs::write(&ca, &site.ca_pem).unwrap();
        let document = json!({
            "version": 3,
            "agent": {
                "authtoken": "t", "connect_url": listener.local_addr().unwrap().to_string(), "connect_cas": ca,
                "heartbeat_interval": "10m",
            },
            "endpoints": [
                { "name": "echo", "url": "tcp://echo.internal:1", "upstream": { "url": echo() } },
                { "name": "hold", "url": "tcp://hold.internal:1", "upstream": { "url": hold } },
            ],
        });
        let file = dir.path().join("adit.json");
        std::fs::write(&file, document.to_string()).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        let (config, _) = Config::load(&file, &|_| None).unwrap();
        let agent = Agent::new(config).unwrap();
        let handle = agent.handle();
        let agent = thread::spawn(move || agent.run().unwrap());
        let (socket, _) = listener.accept().unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_nodelay(true).unwrap();
        let mut tls = ServerConnection::new(Arc::clone(&site.server)).unwrap();
        tls.set_buffer_limit(None);
        let mut link = Self {
            session: GatewaySession::new(Limits::default(), Instant::now()),
            tls,
            socket,
            scratch: vec![0; 64 * 1024],
            out: Vec::new(),
            visitors: Vec::new(),
            held: Vec::with_capacity(IDLE),
            bound: 0,
            agent: Some(agent),
            handle,
            taken,
        };
        // Auth, and the two endpoints.
        while link.bound < 3 {
            link.turn();
        }
        link
    }

    /// Some visitors at once: each says something, ends, and reads the echo and its end; or is aborted.
    pub(crate) fn visit(&mut self, aborts: bool) {
        for _ in 0..AT_A_TIME {
            let stream = self.session.open_proxy(&header("echo")).unwrap();
            self.visitors.push(stream);
        }
        self.write();
        for n in 0..AT_A_TIME {
            let stream = self.visitors[n];
            self.session.want_send(stream);
            let grant = self.session.poll_grant().unwrap();
            let header = self.session.commit(grant, MESSAGE.len()).unwrap();
            self.tls.writer().write_all(&header).unwrap();
            self.tls.writer().write_all(MESSAGE).unwrap();
            if !aborts {
                self.session.finish(stream);
            }
        }
        if aborts {
            for stream in self.visitors.drain(..) {
                self.session.reset(stream);
            }
        }
        self.write();
        while !self.visitors.is_empty() {
            self.turn();
        }
    }

    /// Opens so many connections on which nothing happens.
    pub(crate) fn hold(&mut self, count: usize) {
        for _ in 0..count {
            self.held.push(self.session.open_proxy(&header("hold")).unwrap());
            self.write();
            self.taken.recv_timeout(PATIENCE).unwrap();
        }
    }

    /// Waits until the agent has nothing to do: what it says last was an answer to something sent after everything else.
    pub(crate) fn settle(&mut self) {
        self.visit(false);
        while self.session.streams() > 1 {
            self.turn();
        }
    }

    /// Ends the agent, and what it holds before: a drain would wait for it.
    pub(crate) fn end(mut self) {
        for stream in std::mem::take(&mut self.held) {
            self.session.reset(stream);
        }
        self.write();
        self.handle.drain();
        while self.session.streams() > 0 && !self.agent.as_ref().is_some_and(JoinHandle::is_finished) {
            if !self.turn() {
                break;
            }
        }
        let _ = self.socket.shutdown(Shutdown::Both);
        self.agent.take().unwrap().join().unwrap();
    }

    /// Reads once, answers, writes; false at the end of the link.
    fn turn(&mut self) -> bool {
        let len = self.socket.read(&mut self.scratch).unwrap();
        let mut bytes = &self.scratch[..len];
        while !bytes.is_empty() {
            self.tls.read_tls(&mut bytes).unwrap();
            self.tls.process_new_packets().unwrap();
            let mut reader = self.tls.reader();
            while let Ok(plaintext) = reader.fill_buf().map(<[u8]>::len) {
                if plaintext == 0 {
                    break;
                }
                let taken = reader.fill_buf().unwrap();
                self.session.recv(taken, &mut (), Instant::now()).unwrap();
                reader.consume(plaintext);
            }
        }
        while let Some(event) = self.session.poll_event() {
            self.on_event(event);
        }
        self.write();
        len > 0
    }

    fn write(&mut self) {
        self.out.clear();
        self.session.poll_transmit(&mut self.out, 64 * 1024);
        self.tls.writer().write_all(&self.out).unwrap();
        while self.tls.wants_write() {
            if self.tls.write_tls(&mut self.socket).is_err() {
                return;
            }
        }
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Call { call, request: Request::Auth(request) } => {
                accept(&mut self.session, call, &request, Some(WINDOW));
            }
            Event::Call { call, request: Request::Bind(request) } => {
                self.session.reply(call, &bound(&request).to_json());
            }
            Event::Call { call, .. } => self.session.reply(call, &EmptyReply { error: None }.to_json()),
            Event::CallDone { delivered, .. } => self.bound += usize::from(delivered),
            Event::Readable(stream) => self.session.consume(stream, usize::MAX),
            Event::Finished(stream) => self.visitors.retain(|visitor| *visitor != stream),
            Event::Reset(stream, code) => panic!("{stream:?} was aborted: {code:?}"),
            Event::CommandDone { .. } | Event::ProbeAnswered(_) | Event::GoAway(..) | Event::Dead => {}
        }
    }
}

fn header(endpoint: &str) -> ProxyHeader {
    ProxyHeader::new(bind_id(endpoint), ([192, 0, 2, 7], 4711).into(), Scheme::Tcp, false)
}

/// An upstream that takes connections, says so, and does nothing with them.
fn holder() -> (String, Receiver<()>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, taken) = mpsc::channel();
    thread::spawn(move || {
        let mut sockets = Vec::new();
        for socket in listener.incoming().map_while(Result::ok) {
            sockets.push(socket);
            let _ = sender.send(());
        }
    });
    (format!("tcp://{address}"), taken)
}

/// An upstream that serves one connection after the other.
fn echo() -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let mut bytes = [0; 1024];
        for mut socket in listener.incoming().map_while(Result::ok) {
            while let Ok(len @ 1..) = socket.read(&mut bytes) {
                let _ = socket.write_all(&bytes[..len]);
            }
        }
    });
    format!("tcp://{address}")
}

const MESSAGE: &[u8] = &[7; 300];

const PATIENCE: Duration = Duration::from_secs(20);
