//! A TCP connection in the making: the addresses of a name in turn, each within its share of the time.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

/// Addresses to try and the attempt under way.
///
/// Call [`Dial::poll`] once to begin, then at every event of its token and at [`Dial::next_deadline`].
#[derive(Debug)]
pub struct Dial {
    /// Still to be tried, the next one last.
    waiting: Vec<SocketAddr>,
    current: Option<Attempt>,
    deadline: Instant,
    failures: Vec<Failure>,
}

#[derive(Debug)]
struct Attempt {
    stream: TcpStream,
    address: SocketAddr,
    deadline: Instant,
}

/// What [`Dial::poll`] found.
#[derive(Debug)]
#[must_use]
pub enum Progress {
    /// Nothing decided yet.
    Dialing,
    /// The connection, registered for reading and writing, and its far end. Its first events may have been used up:
    /// take it as readable and writable until it says otherwise.
    Connected(TcpStream, SocketAddr),
    /// No address is left, or the time is over.
    Failed(DialError),
}

/// Why there is no connection: what happened at each address that was tried.
#[derive(Debug)]
pub struct DialError {
    failures: Vec<Failure>,
}

#[derive(Debug)]
struct Failure {
    address: SocketAddr,
    error: io::Error,
}

impl Dial {
    /// A dial of `addresses` in their order that has to succeed before `deadline`.
    #[must_use]
    pub fn new(mut addresses: Vec<SocketAddr>, deadline: Instant) -> Self {
        addresses.reverse();
        Self { waiting: addresses, current: None, deadline, failures: Vec::new() }
    }

    /// Looks at the attempt under way and begins the next one if it failed. Sockets are registered under `token`.
    pub fn poll(&mut self, registry: &Registry, token: Token, now: Instant) -> Progress {
        loop {
            if let Some(attempt) = self.current.take() {
                match attempt.look(now) {
                    Ok(Look::Connected(stream, address)) => return Progress::Connected(stream, address),
                    Ok(Look::Waiting(attempt)) => {
                        self.current = Some(attempt);
                        return Progress::Dialing;
                    }
                    Err(failure) => self.failures.push(failure),
                }
            }
            if now >= self.deadline {
                self.waiting.clear();
            }
            let Some(address) = self.waiting.pop() else {
                return Progress::Failed(DialError { failures: std::mem::take(&mut self.failures) });
            };
            match self.begin(address, registry, token, now) {
                Ok(attempt) => self.current = Some(attempt),
                Err(error) => self.failures.push(Failure { address, error }),
            }
        }
    }

    /// When [`Dial::poll`] has something to do even without an event.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.current.as_ref().map(|attempt| attempt.deadline)
    }

    fn begin(&self, address: SocketAddr, registry: &Registry, token: Token, now: Instant) -> io::Result<Attempt> {
        let mut stream = TcpStream::connect(address)?;
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        let left = self.waiting.len().saturating_add(1);
        Ok(Attempt { stream, address, deadline: attempt_deadline(now, self.deadline, left) })
    }
}

enum Look {
    Connected(TcpStream, SocketAddr),
    Waiting(Attempt),
}

impl Attempt {
    /// mio's documentation of `TcpStream::connect` has these steps: the socket's error first, then whether it has a
    /// peer; "not connected" means to wait for another event.
    fn look(self, now: Instant) -> Result<Look, Failure> {
        let address = self.address;
        let failed = |error| Failure { address, error };
        if let Some(error) = self.stream.take_error().map_err(failed)? {
            return Err(failed(error));
        }
        match self.stream.peer_addr() {
            Ok(_) => {
                self.stream.set_nodelay(true).map_err(failed)?;
                Ok(Look::Connected(self.stream, address))
            }
            Err(error) if error.kind() != io::ErrorKind::NotConnected => Err(failed(error)),
            Err(_) if now >= self.deadline => Err(failed(io::ErrorKind::TimedOut.into())),
            Err(_) => Ok(Look::Waiting(self)),
        }
    }
}

impl DialError {
    /// What happened at the last address; `NotFound` when there was none to try.
    #[must_use]
    pub fn kind(&self) -> io::ErrorKind {
        self.failures.last().map_or(io::ErrorKind::NotFound, |failure| failure.error.kind())
    }
}

impl fmt::Display for DialError {
    /// `192.0.2.1:80: Connection refused (os error 111); [2001:db8::1]:80: timed out`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.failures.is_empty() {
            return f.write_str("no address could be tried in time");
        }
        for (index, failure) in self.failures.iter().enumerate() {
            if index > 0 {
                f.write_str("; ")?;
            }
            write!(f, "{}: {}", failure.address, failure.error)?;
        }
        Ok(())
    }
}

impl std::error::Error for DialError {}

/// An equal share of the time that is left, but not less than [`ATTEMPT_MIN`] while that lasts: a dead first address
/// must not eat the time of the others, and a slow link needs a moment.
fn attempt_deadline(now: Instant, deadline: Instant, addresses_left: usize) -> Instant {
    let left = deadline.saturating_duration_since(now);
    let share = left / u32::try_from(addresses_left.max(1)).unwrap_or(u32::MAX);
    deadline.min(now + share.max(ATTEMPT_MIN))
}

/// A lost SYN is sent again after 1 s.
const ATTEMPT_MIN: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use mio::{Events, Poll};
    use socket2::{Domain, Socket, Type};

    use super::*;

    const TOKEN: Token = Token(3);
    const PATIENCE: Duration = Duration::from_secs(10);

    fn listener() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    /// An address at which nobody listens.
    fn closed() -> SocketAddr {
        listener().1
    }

    /// A listener whose backlog is full, so that the next connection gets no answer.
    fn silent() -> (Socket, std::net::TcpStream, SocketAddr) {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        socket.listen(0).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        let first = std::net::TcpStream::connect(address).unwrap();
        (socket, first, address)
    }

    /// Polls until the dial is decided by events alone.
    fn decided(dial: &mut Dial, poll: &mut Poll, now: Instant) -> Progress {
        let mut events = Events::with_capacity(8);
        loop {
            match dial.poll(poll.registry(), TOKEN, now) {
                Progress::Dialing => poll.poll(&mut events, None).unwrap(),
                decided @ (Progress::Connected(..) | Progress::Failed(_)) => return decided,
            }
        }
    }

    #[test]
    fn refused_address_is_followed_by_the_next() {
        let (_listener, open) = listener();
        let (mut poll, now) = (Poll::new().unwrap(), Instant::now());
        let mut dial = Dial::new(vec![closed(), open], now + PATIENCE);
        let Progress::Connected(stream, address) = decided(&mut dial, &mut poll, now) else { panic!() };
        assert_eq!(address, open);
        assert!(stream.nodelay().unwrap());
    }

    #[test]
    fn failure_names_every_address() {
        let (first, second) = (closed(), closed());
        let (mut poll, now) = (Poll::new().unwrap(), Instant::now());
        let mut dial = Dial::new(vec![first, second], now + PATIENCE);
        let Progress::Failed(error) = decided(&mut dial, &mut poll, now) else { panic!() };
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        let text = error.to_string();
        assert!(text.contains(&first.to_string()) && text.contains(&second.to_string()), "{text}");
        assert_eq!(text.matches("refused").count(), 2, "{text}");
    }

    #[test]
    fn silent_address_is_left_at_its_deadline() {
        let (_silent, _first, dead) = silent();
        let (_listener, open) = listener();
        let (mut poll, now) = (Poll::new().unwrap(), Instant::now());
        let mut dial = Dial::new(vec![dead, open], now + PATIENCE);
        assert!(matches!(dial.poll(poll.registry(), TOKEN, now), Progress::Dialing));
        assert_eq!(dial.next_deadline(), Some(now + PATIENCE / 2));
        let Progress::Connected(_, address) = decided(&mut dial, &mut poll, now + PATIENCE / 2) else { panic!() };
        assert_eq!(address, open);
    }

    #[test]
    fn dial_ends_at_its_deadline_whatever_is_left() {
        let (_silent, _first, dead) = silent();
        let (poll, now) = (Poll::new().unwrap(), Instant::now());
        let mut dial = Dial::new(vec![dead, dead, dead], now + PATIENCE);
        assert!(matches!(dial.poll(poll.registry(), TOKEN, now), Progress::Dialing));
        let Progress::Failed(error) = dial.poll(poll.registry(), TOKEN, now + PATIENCE) else { panic!() };
        assert_eq!(error.to_string(), format!("{dead}: timed out"));
    }

    #[test]
    fn dial_without_addresses_fails() {
        let (poll, now) = (Poll::new().unwrap(), Instant::now());
        let mut dial = Dial::new(Vec::new(), now + PATIENCE);
        let Progress::Failed(error) = dial.poll(poll.registry(), TOKEN, now) else { panic!() };
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn attempt_gets_its_share_but_never_more_than_is_left() {
        let now = Instant::now();
        let after = |secs| now + Duration::from_secs(secs);
        assert_eq!(attempt_deadline(now, after(10), 1), after(10));
        assert_eq!(attempt_deadline(now, after(9), 3), after(3));
        assert_eq!(attempt_deadline(now, after(10), 8), after(2));
        assert_eq!(attempt_deadline(now, after(1), 8), after(1));
    }
}
