//! Looking up and dialling as the agent does, with its resolver and its dialler, one at a time.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Instant;

use mio::{Events, Poll, Token, Waker};

use super::{Class, Failure, now};
use crate::config::{EgressConfig, HostPort, ProxyUrl};
use crate::net::dial::{Dial, DialError, Progress};
use crate::net::outgoing::Outgoing;
use crate::net::resolve::{Lookup, NameServers, Purpose, ResolveError, Resolver};
use crate::proxy_handshake::Handshake;

/// What one walk needs of the system.
pub(super) struct Network {
    poll: Poll,
    events: Events,
    resolver: Resolver,
    outgoing: Outgoing,
}

impl Network {
    pub(super) fn new(egress: &EgressConfig) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let resolver = Resolver::new(waker, NameServers::of(egress));
        Ok(Self { resolver, poll, events: Events::with_capacity(16), outgoing: Outgoing::of(egress) })
    }

    /// The addresses of a place.
    pub(super) fn look_up(
        &mut self,
        place: &HostPort,
        purpose: Purpose,
        deadline: Instant,
    ) -> Result<Vec<SocketAddr>, Failure> {
        let asked = self.resolver.lookup(place.host(), place.port(), purpose, now());
        let id = match asked {
            Lookup::Ready(addresses) => return Ok(addresses),
            Lookup::Pending(id) => id,
            Lookup::Refused(error) => return Err(unknown(place, &error)),
        };
        loop {
            while let Some((other, result)) = self.resolver.poll(now()) {
                if other == id {
                    return result.map_err(|error| unknown(place, &error));
                }
            }
            if now() >= deadline {
                self.resolver.cancel(id);
                return Err(unknown(place, &ResolveError::TimedOut));
            }
            self.wait(self.resolver.next_deadline(), deadline)?;
        }
    }

    /// A connection, for blocking reads and writes.
    pub(super) fn dial(
        &mut self,
        addresses: Vec<SocketAddr>,
        purpose: Purpose,
        deadline: Instant,
    ) -> Result<(TcpStream, SocketAddr), Failure> {
        let outgoing = if purpose == Purpose::Connect { self.outgoing.clone() } else { Outgoing::default() };
        let mut dial = Dial::through(outgoing, addresses, deadline);
        loop {
            match dial.poll(self.poll.registry(), SOCKET, now()) {
                Progress::Dialing => {}
                Progress::Failed(error) => return Err(unreachable(&error)),
                Progress::Connected(mut socket, address) => {
                    let blocking = self.poll.registry().deregister(&mut socket).and_then(|()| {
                        let socket = TcpStream::from(socket);
                        socket.set_nonblocking(false).map(|()| socket)
                    });
                    return blocking.map(|socket| (socket, address)).map_err(|error| super::no_loop(&error));
                }
            }
            self.wait(dial.next_deadline(), deadline)?;
        }
    }

    fn wait(&mut self, next: Option<Instant>, deadline: Instant) -> Result<(), Failure> {
        let until = next.map_or(deadline, |next| next.min(deadline));
        match self.poll.poll(&mut self.events, Some(until.saturating_duration_since(now()))) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(super::no_loop(&error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

/// Asks the proxy at the other end of `socket` for the gateway.
pub(super) fn pass(
    mut socket: &TcpStream,
    proxy: &ProxyUrl,
    target: &HostPort,
    deadline: Instant,
) -> Result<(), Failure> {
    let who = "whoever runs that proxy, or wrote agent.proxy_url or the environment's variables";
    let failed = |text: String| Failure::new(Class::Network, format_args!("the proxy {proxy}: {text}"), who);
    let mut handshake = Handshake::new(proxy, target);
    let mut bytes = [0; 1024];
    loop {
        let left = deadline.saturating_duration_since(now());
        if left.is_zero() {
            return Err(failed("no answer in time".to_owned()));
        }
        let len = socket
            .set_read_timeout(Some(left))
            .and_then(|()| socket.set_write_timeout(Some(left)))
            .and_then(|()| socket.write_all(&handshake.poll_transmit()))
            .and_then(|()| socket.read(&mut bytes))
            .map_err(|error| failed(error.to_string()))?;
        let answer = bytes.get(..len).filter(|answer| !answer.is_empty());
        let answer = answer.ok_or_else(|| failed("it closed the connection without an answer".to_owned()))?;
        if handshake.recv(answer).map_err(|error| failed(error.to_string()))? {
            return Ok(());
        }
    }
}

fn unknown(place: &HostPort, error: &ResolveError) -> Failure {
    let who = match error {
        ResolveError::TimedOut => {
            "whoever runs the network here: its name server does not answer (or a firewall eats DNS)"
        }
        ResolveError::Failed(_) | ResolveError::NoAddresses => {
            "whoever wrote the name into the file, if it is misspelt; else whoever runs the name server or the zone"
        }
        ResolveError::QueueFull | ResolveError::NoThread(_) => "whoever runs this machine: it is out of memory",
    };
    Failure::new(Class::Names, format_args!("cannot look {} up: {error}", place.host()), who)
}

fn unreachable(error: &DialError) -> Failure {
    let who = match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            "whoever runs the gateway, if nothing listens on that port; or a firewall that answers for it"
        }
        io::ErrorKind::TimedOut => "whoever runs the firewall here: nothing came back, so something drops the packets",
        io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable => {
            "whoever runs the network here: there is no route to that address"
        }
        io::ErrorKind::PermissionDenied => "whoever runs this machine: a local firewall forbids the connection",
        _ => "whoever runs the network between here and the gateway",
    };
    Failure::new(Class::Network, error, who)
}

const WAKER: Token = Token(0);
const SOCKET: Token = Token(1);
