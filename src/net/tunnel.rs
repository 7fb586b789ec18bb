//! A connection through a proxy in the making: a connected socket and the conversation on it.

use std::fmt;
use std::io::{self, Read, Write};

use mio::net::TcpStream;

use super::ready::Ready;
use crate::proxy_handshake::{Handshake, ProxyError};

/// The conversation with the proxy.
#[derive(Debug)]
pub(crate) struct Tunnel {
    socket: TcpStream,
    pub(crate) ready: Ready,
    handshake: Handshake,
    /// To be written yet.
    out: Vec<u8>,
}

/// What [`Tunnel::drive`] came to.
pub(crate) enum Passage {
    /// The proxy has something to say first.
    Waiting(Box<Tunnel>),
    /// What is written now reaches the gateway.
    Open(TcpStream, Ready),
    /// There is no way through this proxy.
    Closed(TunnelError),
}

/// Why there is no connection through the proxy.
#[derive(Debug)]
pub(crate) enum TunnelError {
    /// The proxy closed the connection before it answered.
    Ended,
    /// The socket failed.
    Socket(io::Error),
    /// The proxy refuses.
    Proxy(ProxyError),
}

impl fmt::Display for TunnelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ended => f.write_str("the proxy closed the connection without an answer"),
            Self::Socket(error) => write!(f, "the connection to the proxy failed: {error}"),
            Self::Proxy(error) => error.fmt(f),
        }
    }
}

impl Tunnel {
    /// On a socket that is connected to the proxy.
    pub(crate) fn new(socket: TcpStream, ready: Ready, handshake: Handshake) -> Self {
        Self { socket, ready, handshake, out: Vec::new() }
    }

    /// Goes as far as the socket lets it.
    pub(crate) fn drive(mut self: Box<Self>) -> Passage {
        match self.step() {
            Ok(true) => Passage::Open(self.socket, self.ready),
            Ok(false) => Passage::Waiting(self),
            Err(error) => Passage::Closed(error),
        }
    }

    fn step(&mut self) -> Result<bool, TunnelError> {
        // An answer fits into one of these; the handshake bounds how many there are.
        let mut bytes = [0; 1024];
        loop {
            self.write()?;
            if !self.ready.readable {
                return Ok(false);
            }
            match self.socket.read(&mut bytes) {
                Ok(0) => return Err(TunnelError::Ended),
                Ok(len) => {
                    let answer = bytes.get(..len).unwrap_or_default();
                    if self.handshake.recv(answer).map_err(TunnelError::Proxy)? {
                        return Ok(true);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.ready.readable = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(TunnelError::Socket(error)),
            }
        }
    }

    fn write(&mut self) -> Result<(), TunnelError> {
        self.out.append(&mut self.handshake.poll_transmit());
        while !self.out.is_empty() && self.ready.writable {
            match self.socket.write(&self.out) {
                Ok(len) => drop(self.out.drain(..len)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.ready.writable = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(TunnelError::Socket(error)),
            }
        }
        Ok(())
    }
}
