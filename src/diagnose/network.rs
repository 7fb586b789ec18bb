//! Looking up and dialling as the agent does, with its resolver and its dialler, one at a time.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Instant;

use mio::{Events, Poll, Token, Waker};

use super::{Class, Failure, now};
use crate::config::HostPort;
use crate::net::dial::{Dial, DialError, Progress};
use crate::net::resolve::{Lookup, Purpose, ResolveError, Resolver};

/// What one walk needs of the system.
pub(super) struct Network {
    poll: Poll,
    events: Events,
    resolver: Resolver,
}

impl Network {
    pub(super) fn new() -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        Ok(Self { resolver: Resolver::new(waker), poll, events: Events::with_capacity(16) })
    }

    /// The addresses of a place.
    pub(super) fn look_up(&mut self, place: &HostPort, deadline: Instant) -> Result<Vec<SocketAddr>, Failure> {
        let asked = self.resolver.lookup(place.host(), place.port(), Purpose::Connect, now());
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
        deadline: Instant,
    ) -> Result<(TcpStream, SocketAddr), Failure> {
        let mut dial = Dial::new(addresses, deadline);
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
