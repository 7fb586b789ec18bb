//! Name servers of the operator's choice, asked without the system's resolver. It blocks, for at most [`BUDGET`]: it runs
//! on the resolver's threads.

use std::fmt;
use std::hash::{BuildHasher, Hasher};
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use socket2::{Protocol, Type};

use crate::config::EgressConfig;
use crate::dns_message::{Answer, AnswerError, Question, RecordType};
use crate::net::outgoing::Outgoing;

/// Some name servers. Search lists and `/etc/hosts` have no part in it: a name is what it says.
#[derive(Clone, Debug)]
pub struct NameServers {
    servers: Vec<SocketAddr>,
    outgoing: Outgoing,
    clock: fn() -> Instant,
}

/// Why a server gave no addresses.
#[derive(Debug)]
enum AskError {
    Io(io::Error),
    Answer(AnswerError),
    NoAnswer,
    TooLong,
}

impl fmt::Display for AskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Answer(error) => error.fmt(f),
            Self::NoAnswer => f.write_str("no answer"),
            Self::TooLong => write!(f, "the answer is longer than {TCP_ANSWER_MAX} bytes"),
        }
    }
}

impl From<io::Error> for AskError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Self::NoAnswer,
            _ => Self::Io(error),
        }
    }
}

/// What is known of a name.
enum Known {
    Addresses(Vec<IpAddr>),
    NoSuchName,
}

impl NameServers {
    /// Those of the configuration, if it names any.
    #[must_use]
    pub fn of(egress: &EgressConfig) -> Option<Self> {
        let servers = egress.dns_resolvers.clone();
        (!servers.is_empty()).then(|| Self::new(servers, Outgoing::of(egress)))
    }

    /// Servers to be asked in their order, through sockets that leave the machine as `outgoing` says.
    #[must_use]
    pub fn new(servers: Vec<SocketAddr>, outgoing: Outgoing) -> Self {
        Self { servers, outgoing, clock: Instant::now }
    }

    /// The addresses of a name, IPv6 first, with port 0. The first server that knows decides, also that there
    /// is no such name; all are asked twice.
    pub(super) fn look_up(&self, name: &str) -> io::Result<Vec<SocketAddr>> {
        let budget_end = (self.clock)() + BUDGET;
        let mut failures: Vec<(SocketAddr, AskError)> = Vec::new();
        for patience in PATIENCE {
            for server in &self.servers {
                if (self.clock)() >= budget_end {
                    break;
                }
                match self.ask(*server, name, patience, budget_end) {
                    Ok(Known::Addresses(ips)) => return Ok(ips.into_iter().map(|ip| SocketAddr::new(ip, 0)).collect()),
                    Ok(Known::NoSuchName) => {
                        return Err(io::Error::other(format!("the name server {server} says: no such name")));
                    }
                    Err(error) => {
                        failures.retain(|(failed, _)| failed != server);
                        failures.push((*server, error));
                    }
                }
            }
        }
        let told: Vec<String> = failures.iter().map(|(server, error)| format!("{server}: {error}")).collect();
        Err(io::Error::other(format!("no name server knows it ({})", told.join("; "))))
    }

    /// Asks one server for both families at once, from a socket each: some servers answer only the first question of a
    /// socket.
    fn ask(&self, server: SocketAddr, name: &str, patience: Duration, budget_end: Instant) -> Result<Known, AskError> {
        let until = budget_end.min((self.clock)() + patience);
        let four = self.send(server, name, RecordType::A)?;
        let six = self.send(server, name, RecordType::Aaaa)?;
        let four = self.receive(server, &four, until, budget_end);
        // Servers that know no IPv6 may keep silent about it: with an IPv4 address, nobody waits long for another.
        let grace = match &four {
            Ok(Known::Addresses(found)) if !found.is_empty() => until.min((self.clock)() + SECOND_FAMILY_GRACE),
            _ => until,
        };
        let six = self.receive(server, &six, grace, budget_end);
        match (four, six) {
            (Ok(Known::Addresses(four)), Ok(Known::Addresses(six))) => Ok(Known::Addresses([six, four].concat())),
            (Ok(Known::Addresses(found)), _) | (_, Ok(Known::Addresses(found))) if !found.is_empty() => {
                Ok(Known::Addresses(found))
            }
            (Ok(Known::NoSuchName), _) | (_, Ok(Known::NoSuchName)) => Ok(Known::NoSuchName),
            (Err(error), _) | (_, Err(error)) => Err(error),
        }
    }

    fn send(&self, server: SocketAddr, name: &str, record: RecordType) -> Result<(UdpSocket, Question), AskError> {
        let question = Question::new(random_id(), name, record)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the name is too long"))?;
        let socket: UdpSocket = self.outgoing.socket(server, Type::DGRAM, Protocol::UDP)?.into();
        // The system picks a port at random, and drops what does not come from the server.
        socket.connect(server)?;
        socket.send(&question.to_bytes())?;
        Ok((socket, question))
    }

    fn receive(
        &self,
        server: SocketAddr,
        (socket, question): &(UdpSocket, Question),
        until: Instant,
        budget_end: Instant,
    ) -> Result<Known, AskError> {
        let mut bytes = [0; UDP_ANSWER_MAX];
        for _ in 0..STRAYS_MAX {
            let len = read_before(until, socket, &mut bytes, self.clock)?;
            match question.read_answer(bytes.get(..len).unwrap_or_default()) {
                Ok(Answer::Addresses(found)) => return Ok(Known::Addresses(found)),
                Ok(Answer::NoSuchName) => return Ok(Known::NoSuchName),
                Ok(Answer::Truncated) => return self.ask_over_tcp(server, question, budget_end),
                Err(AnswerError::Foreign) => {}
                Err(error) => return Err(AskError::Answer(error)),
            }
        }
        Err(AskError::NoAnswer)
    }

    fn ask_over_tcp(&self, server: SocketAddr, question: &Question, budget_end: Instant) -> Result<Known, AskError> {
        let now = (self.clock)();
        if now >= budget_end {
            return Err(AskError::NoAnswer);
        }
        let until = budget_end.min(now + TCP_PATIENCE);
        let socket = self.outgoing.socket(server, Type::STREAM, Protocol::TCP)?;
        socket.connect_timeout(&server.into(), left(until, self.clock))?;
        let mut stream: TcpStream = socket.into();
        let asked = question.to_bytes();
        let len = u16::try_from(asked.len()).unwrap_or(u16::MAX);
        stream.set_write_timeout(Some(left(until, self.clock)))?;
        stream.write_all(&[&len.to_be_bytes(), asked.as_slice()].concat())?;
        let mut len = [0; 2];
        read_exact(&stream, &mut len, until, self.clock)?;
        let len = usize::from(u16::from_be_bytes(len));
        if len > TCP_ANSWER_MAX {
            return Err(AskError::TooLong);
        }
        let mut bytes = vec![0; len];
        read_exact(&stream, &mut bytes, until, self.clock)?;
        match question.read_answer(&bytes) {
            Ok(Answer::Addresses(found)) => Ok(Known::Addresses(found)),
            Ok(Answer::NoSuchName) => Ok(Known::NoSuchName),
            Ok(Answer::Truncated) => Err(AskError::Answer(AnswerError::Malformed)),
            Err(error) => Err(AskError::Answer(error)),
        }
    }
}

/// A socket that waits for something to read, but not for ever.
trait ReadWithin {
    fn read_within(&self, patience: Duration, buffer: &mut [u8]) -> io::Result<usize>;
}

impl ReadWithin for UdpSocket {
    fn read_within(&self, patience: Duration, buffer: &mut [u8]) -> io::Result<usize> {
        self.set_read_timeout(Some(patience))?;
        self.recv(buffer)
    }
}

impl ReadWithin for TcpStream {
    fn read_within(&self, patience: Duration, buffer: &mut [u8]) -> io::Result<usize> {
        self.set_read_timeout(Some(patience))?;
        let mut stream = self;
        stream.read(buffer)
    }
}

/// Reads once, until `until`. A signal in between is no answer.
fn read_before(
    until: Instant,
    socket: &impl ReadWithin,
    buffer: &mut [u8],
    clock: fn() -> Instant,
) -> Result<usize, AskError> {
    loop {
        match socket.read_within(left(until, clock), buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted && clock() < until => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(AskError::NoAnswer),
            result => return Ok(result?),
        }
    }
}

/// Fills the buffer before `until`, however slowly the bytes trickle.
fn read_exact(
    socket: &impl ReadWithin,
    mut buffer: &mut [u8],
    until: Instant,
    clock: fn() -> Instant,
) -> Result<(), AskError> {
    while !buffer.is_empty() {
        if clock() >= until {
            return Err(AskError::NoAnswer);
        }
        match read_before(until, socket, buffer, clock)? {
            0 => return Err(AskError::Io(io::ErrorKind::UnexpectedEof.into())),
            len => buffer = buffer.get_mut(len..).unwrap_or_default(),
        }
    }
    Ok(())
}

/// The time that is left, never zero: that would mean for ever.
fn left(until: Instant, clock: fn() -> Instant) -> Duration {
    until.saturating_duration_since(clock()).max(Duration::from_millis(1))
}

/// Hard to guess: the standard library keys its hasher from the system's random source.
fn random_id() -> u16 {
    let [a, b, ..] = std::hash::RandomState::new().build_hasher().finish().to_be_bytes();
    u16::from_be_bytes([a, b])
}

/// Each server's time in the first and in the second round: a packet that was lost costs a second, a slow line of a
/// satellite still has an answer.
const PATIENCE: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(2)];

/// All of a look-up, so that its failure is told before the look-up is given up.
const BUDGET: Duration = Duration::from_secs(9);

/// After an answer for one family, so much for the other.
const SECOND_FAMILY_GRACE: Duration = Duration::from_millis(300);

/// A connection and an answer, to a server that was there a moment ago; less where less of the budget is left.
const TCP_PATIENCE: Duration = Duration::from_secs(2);

/// RFC 1035, section 4.2.1: longer ones are only for those who announce that they bear them.
const UDP_ANSWER_MAX: usize = 512;

/// A hundred times as much as the addresses of a name take.
const TCP_ANSWER_MAX: usize = 16 * 1024;

/// Datagrams that answer another question, before the server counts as silent: somebody guesses.
const STRAYS_MAX: usize = 16;

#[cfg(test)]
mod tests;
