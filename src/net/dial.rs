//! A TCP connection in the making: all addresses of a name, the next one tried soon after the one before, so that a
//! dead address or a broken address family costs a moment and not the whole attempt (RFC 8305).

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use super::outgoing::Outgoing;

/// Addresses to try and the attempts under way, the first that connects wins.
///
/// Call [`Dial::poll`] once to begin, then at every event of its token and at [`Dial::next_deadline`].
#[derive(Debug)]
pub struct Dial {
    /// Still to be tried, the next one last.
    waiting: Vec<SocketAddr>,
    /// At most [`IN_FLIGHT_MAX`], the oldest first.
    attempts: Vec<Attempt>,
    /// When the next address is tried although the attempts under way go on.
    next_start: Instant,
    deadline: Instant,
    failures: Vec<Failure>,
    outgoing: Outgoing,
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
    /// A dial of `addresses`, families in turn and otherwise in their order, that has to succeed before `deadline`.
    #[must_use]
    pub fn new(addresses: Vec<SocketAddr>, deadline: Instant) -> Self {
        Self::through(Outgoing::default(), addresses, deadline)
    }

    /// As [`Dial::new`], with sockets that leave the machine as `outgoing` says.
    #[must_use]
    pub fn through(outgoing: Outgoing, addresses: Vec<SocketAddr>, deadline: Instant) -> Self {
        let mut waiting = families_in_turn(addresses);
        waiting.reverse();
        // Until the first attempt is under way, nothing is in the way of the next.
        Self { waiting, attempts: Vec::new(), next_start: deadline, deadline, failures: Vec::new(), outgoing }
    }

    /// Looks at the attempts under way and begins the next one when it is its turn. Sockets are registered under
    /// `token`.
    pub fn poll(&mut self, registry: &Registry, token: Token, now: Instant) -> Progress {
        for attempt in std::mem::take(&mut self.attempts) {
            match attempt.look(now) {
                Ok(Look::Connected(stream, address)) => return Progress::Connected(stream, address),
                Ok(Look::Waiting(attempt)) => self.attempts.push(attempt),
                Err(failure) => {
                    self.failures.push(failure);
                    // A failure is the next one's turn.
                    self.next_start = now;
                }
            }
        }
        if now >= self.deadline {
            self.waiting.clear();
        }
        while self.may_begin(now) {
            let Some(address) = self.waiting.pop() else { break };
            match self.begin(address, registry, token, now) {
                Ok(attempt) => {
                    self.attempts.push(attempt);
                    self.next_start = now + STAGGER;
                }
                Err(error) => self.failures.push(Failure { address, error }),
            }
        }
        if self.attempts.is_empty() {
            return Progress::Failed(DialError { failures: std::mem::take(&mut self.failures) });
        }
        Progress::Dialing
    }

    /// When [`Dial::poll`] has something to do even without an event.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let start = (!self.waiting.is_empty() && self.attempts.len() < IN_FLIGHT_MAX).then_some(self.next_start);
        self.attempts.iter().map(|attempt| attempt.deadline).chain(start).min()
    }

    fn may_begin(&self, now: Instant) -> bool {
        self.attempts.is_empty() || (self.attempts.len() < IN_FLIGHT_MAX && now >= self.next_start)
    }

    fn begin(&self, address: SocketAddr, registry: &Registry, token: Token, now: Instant) -> io::Result<Attempt> {
        let mut stream = self.outgoing.connect(address)?;
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

/// IPv6 and IPv4 alternate, beginning with the family of the first address; within a family the order stays.
pub(super) fn families_in_turn(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let begins_with_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|a| a.is_ipv6() == begins_with_v6);
    let mut second = second.into_iter();
    let mut mixed = Vec::with_capacity(first.len() + second.len());
    for address in first {
        mixed.push(address);
        mixed.extend(second.next());
    }
    mixed.extend(second);
    mixed
}

/// A share of the time that is left, but not less than [`ATTEMPT_MIN`] while that lasts. Those that go on side by side
/// count as one: with few addresses, each has all of the time.
fn attempt_deadline(now: Instant, deadline: Instant, addresses_left: usize) -> Instant {
    let left = deadline.saturating_duration_since(now);
    let rounds = addresses_left.div_ceil(IN_FLIGHT_MAX).max(1);
    let share = left / u32::try_from(rounds).unwrap_or(u32::MAX);
    deadline.min(now + share.max(ATTEMPT_MIN))
}

/// After this time without an answer the next address is tried beside the ones under way: "Connection Attempt Delay" of
/// RFC 8305, section 5, doubled for the round trips of mobile and satellite links.
pub const STAGGER: Duration = Duration::from_millis(500);

/// Sockets of one dial at a time.
pub const IN_FLIGHT_MAX: usize = 3;

/// A lost SYN is sent again after 1 s.
const ATTEMPT_MIN: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests;
