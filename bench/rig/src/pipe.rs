//! The reference: a reverse tunnel that is nothing but TLS. The agent keeps connections to the server ready; the server
//! joins each visitor with one of them. No multiplexer, no policy, no windows but TCP's: what it costs, sockets and TLS
//! cost. It uses the library and the ciphers that adit uses, and moves 64 KiB at a time.

use std::error::Error;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use argh::FromArgs;
use mio::{Events, Interest, Poll, Token};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, Connection, RootCertStore, ServerConfig, ServerConnection};

use crate::Outcome;

/// the server of the plain TLS pipe
#[derive(FromArgs)]
#[argh(subcommand, name = "pipe-server")]
pub(crate) struct PipeServer {
    /// the public port
    #[argh(positional)]
    public: u16,
    /// the port for the agent
    #[argh(positional)]
    control: u16,
    /// certificates, PEM
    #[argh(positional)]
    chain: PathBuf,
    /// the private key, PEM
    #[argh(positional)]
    key: PathBuf,
}

/// the agent of the plain TLS pipe
#[derive(FromArgs)]
#[argh(subcommand, name = "pipe-agent")]
pub(crate) struct PipeAgent {
    /// the server's port for the agent
    #[argh(positional)]
    control: u16,
    /// the upstream's port
    #[argh(positional)]
    upstream: u16,
    /// the authority, PEM
    #[argh(positional)]
    authority: PathBuf,
}

pub(crate) fn server(command: &PipeServer) -> Outcome {
    let chain = CertificateDer::pem_file_iter(&command.chain)?.collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_file(&command.key)?;
    let config = Arc::new(ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key)?);
    let control = TcpListener::bind(("127.0.0.1", command.control))?;
    let public = TcpListener::bind(("127.0.0.1", command.public))?;
    let (ready, waiting) = mpsc::channel();
    thread::spawn(move || {
        for socket in control.incoming().flatten() {
            if ready.send(socket).is_err() {
                return;
            }
        }
    });
    loop {
        let (visitor, _) = public.accept()?;
        let agent = waiting.recv()?;
        let config = Arc::clone(&config);
        thread::spawn(move || {
            let Ok(tls) = ServerConnection::new(config) else { return };
            // A pipe that breaks shows where it is measured.
            let _ = Pipe::new(tls.into(), agent, visitor).and_then(Pipe::run);
        });
    }
}

pub(crate) fn agent(command: &PipeAgent) -> Outcome {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&command.authority)?)?;
    let config = Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth());
    let (used, uses) = mpsc::channel();
    for _ in 0..READY {
        used.send(())?;
    }
    let used = Arc::new(Mutex::new(used));
    while uses.recv().is_ok() {
        let socket = TcpStream::connect(("127.0.0.1", command.control))?;
        let (config, used, port) = (Arc::clone(&config), Arc::clone(&used), command.upstream);
        thread::spawn(move || {
            // A pipe that breaks shows where it is measured.
            let _ = serve(socket, config, port, &used);
        });
    }
    Ok(serde_json::Value::Null)
}

/// Waits for the server to use the connection, then asks for another one and pipes.
fn serve(
    socket: TcpStream,
    config: Arc<ClientConfig>,
    port: u16,
    used: &Mutex<mpsc::Sender<()>>,
) -> Result<(), Box<dyn Error>> {
    let mut socket = socket;
    let mut tls = ClientConnection::new(config, ServerName::try_from("localhost")?)?;
    while tls.wants_write() {
        tls.write_tls(&mut socket)?;
    }
    // The server answers the ClientHello when a visitor has come.
    socket.peek(&mut [0])?;
    used.lock().unwrap_or_else(PoisonError::into_inner).send(())?;
    let upstream = TcpStream::connect(("127.0.0.1", port))?;
    Ok(Pipe::new(tls.into(), socket, upstream)?.run()?)
}

struct Pipe {
    tls: Connection,
    outer: Side,
    plain: Side,
    buffer: Vec<u8>,
    /// Decrypted, and not yet taken.
    rest: Vec<u8>,
}

struct Side {
    socket: mio::net::TcpStream,
    readable: bool,
    writable: bool,
    /// Nothing comes any more.
    ended: bool,
}

impl Side {
    fn new(socket: TcpStream) -> io::Result<Self> {
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket: mio::net::TcpStream::from_std(socket), readable: true, writable: true, ended: false })
    }

    /// What the call gives; `None` where the socket has to be waited for.
    fn attempt(
        &mut self,
        call: impl FnOnce(&mut mio::net::TcpStream) -> io::Result<usize>,
    ) -> io::Result<Option<usize>> {
        match call(&mut self.socket) {
            Ok(len) => Ok(Some(len)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Pipe {
    fn new(tls: Connection, outer: TcpStream, plain: TcpStream) -> io::Result<Self> {
        let (outer, plain) = (Side::new(outer)?, Side::new(plain)?);
        let mut tls = tls;
        tls.set_buffer_limit(Some(4 * BUFFER_LEN));
        Ok(Self { tls, outer, plain, buffer: vec![0; BUFFER_LEN], rest: Vec::new() })
    }

    fn run(mut self) -> io::Result<()> {
        let mut poll = Poll::new()?;
        let both = Interest::READABLE | Interest::WRITABLE;
        poll.registry().register(&mut self.outer.socket, OUTER, both)?;
        poll.registry().register(&mut self.plain.socket, PLAIN, both)?;
        let mut events = Events::with_capacity(4);
        while !(self.outer.ended && self.plain.ended && self.rest.is_empty() && !self.tls.wants_write()) {
            if self.step()? {
                continue;
            }
            poll.poll(&mut events, None)?;
            for event in &events {
                let side = if event.token() == OUTER { &mut self.outer } else { &mut self.plain };
                side.readable |= event.is_readable();
                side.writable |= event.is_writable();
            }
        }
        Ok(())
    }

    /// Does what can be done now; false when there is nothing.
    fn step(&mut self) -> io::Result<bool> {
        let mut moved = self.give_plain()?;
        moved |= self.take_outer()?;
        moved |= self.take_plain()?;
        moved |= self.give_outer()?;
        Ok(moved)
    }

    fn take_outer(&mut self) -> io::Result<bool> {
        if !self.outer.readable || self.outer.ended || !self.rest.is_empty() {
            return Ok(false);
        }
        let buffer = &mut self.buffer;
        let Some(len) = self.outer.attempt(|socket| socket.read(buffer))? else {
            self.outer.readable = false;
            return Ok(false);
        };
        let mut at = 0;
        while at < len {
            at += self.tls.read_tls(&mut &self.buffer[at..len])?;
            self.tls.process_new_packets().map_err(io::Error::other)?;
            // The session's end is told by the protocol above.
            let _ = self.tls.reader().read_to_end(&mut self.rest).map_err(|error| error.kind());
        }
        let closing = len == 0 || self.tls.process_new_packets().map_err(io::Error::other)?.peer_has_closed();
        if closing && !std::mem::replace(&mut self.outer.ended, true) && self.rest.is_empty() {
            self.plain.socket.shutdown(Shutdown::Write)?;
        }
        Ok(true)
    }

    fn give_plain(&mut self) -> io::Result<bool> {
        if self.rest.is_empty() || !self.plain.writable {
            return Ok(false);
        }
        let rest = &self.rest;
        match self.plain.attempt(|socket| socket.write(rest))? {
            None => self.plain.writable = false,
            Some(len) => {
                self.rest.drain(..len);
                if self.rest.is_empty() && self.outer.ended {
                    self.plain.socket.shutdown(Shutdown::Write)?;
                }
            }
        }
        Ok(true)
    }

    fn take_plain(&mut self) -> io::Result<bool> {
        if !self.plain.readable || self.plain.ended || self.tls.is_handshaking() || self.tls.wants_write() {
            return Ok(false);
        }
        let buffer = &mut self.buffer;
        match self.plain.attempt(|socket| socket.read(buffer))? {
            None => self.plain.readable = false,
            Some(0) => {
                self.plain.ended = true;
                self.tls.send_close_notify();
            }
            Some(len) => self.tls.writer().write_all(&self.buffer[..len])?,
        }
        Ok(true)
    }

    fn give_outer(&mut self) -> io::Result<bool> {
        let mut moved = false;
        while self.outer.writable && self.tls.wants_write() {
            let tls = &mut self.tls;
            match self.outer.attempt(|socket| tls.write_tls(socket))? {
                None => self.outer.writable = false,
                Some(_) => moved = true,
            }
        }
        Ok(moved)
    }
}

const OUTER: Token = Token(0);
const PLAIN: Token = Token(1);
/// Connections that stand ready for visitors.
const READY: usize = 64;
/// What is moved at a time.
const BUFFER_LEN: usize = 64 * 1024;
