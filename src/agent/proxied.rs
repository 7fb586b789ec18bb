//! One visitor's connection: its stream of the link, and its upstream's socket in the making, open, or failed.

use std::fmt;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::{Registry, Token};

use super::handshakes::Handshakes;
use super::upstreams::Route;
use crate::mux::Key;
use crate::net::dial::{Dial, Progress};
use crate::net::ready::Ready;
use crate::net::resolve::LookupId;
use crate::net::socket_options;
use crate::net::upstream::UpstreamIo;
use crate::net::visitor_tls::VisitorTls;
use crate::proxy_protocol::ProxyProtocol;
use crate::session::AgentSession;

/// How a visitor's stream is called in the log: its id on the wire, and the number of the visitor's connection that the
/// gateway's logs have, if the gateway says it.
#[derive(Clone, Copy, Debug)]
pub(super) struct LogId {
    pub(super) stream: u32,
    pub(super) connection: Option<u64>,
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.stream.fmt(f)?;
        match self.connection {
            Some(connection) => write!(f, " connection={connection}"),
            None => Ok(()),
        }
    }
}

/// One connection.
pub(super) struct Proxied {
    pub(super) stream: Key,
    /// The endpoint's number.
    pub(super) endpoint: usize,
    /// Where it led when the visitor came.
    pub(super) route: Arc<Route>,
    /// For the log.
    pub(super) id: LogId,
    pub(super) state: State,
    pub(super) queued: bool,
    pub(super) opened_at: Instant,
    pub(super) deadline: Option<Instant>,
    /// Its endpoint is gone: whatever it does, it ends then.
    pub(super) end_at: Option<Instant>,
    /// The upstream sends no more, and the gateway was told.
    pub(super) read_ended: bool,
    /// Our direction towards the upstream is over, in good order or because the upstream takes no more.
    pub(super) write_ended: bool,
    pub(super) failure: Option<io::Error>,
    /// The upstream takes no more, for this reason.
    pub(super) write_error: Option<io::Error>,
    /// Until then the upstream may take what was written to it, when nothing else is left to do.
    pub(super) flush_until: Option<Instant>,
    pub(super) to_upstream: u64,
    pub(super) from_upstream: u64,
    pub(super) sent_at: Instant,
    /// When a byte last moved in either direction, or a direction ended.
    pub(super) moved_at: Instant,
    /// A connection on which nothing moves for this long is ended.
    pub(super) idle_timeout: Option<Duration>,
    /// What it holds in this process, as it was last counted.
    pub(super) held: usize,
    /// The visitor's TLS, where it ends here.
    pub(super) visitor: Option<Box<VisitorTls>>,
    /// The PROXY header that the stream has to begin with, until it is there.
    pub(super) header_due: ProxyProtocol,
    /// The PROXY header that the upstream's socket gets before everything else.
    pub(super) header: Vec<u8>,
}

/// Where the connection to the upstream stands.
pub(super) enum State {
    /// Something has to come from the visitor first: a PROXY header, a TLS handshake.
    Greeting,
    /// The visitor is turned away for this reason, once it could read the alert that says so.
    Rejecting(String),
    Resolving(LookupId),
    /// With the events so far: the end of an upstream may come with the one that says that it is connected.
    Dialing(Dial, Ready),
    Handshaking(UpstreamIo),
    Open(UpstreamIo),
    /// The upstream failed; the stream is aborted at the deadline.
    Failed,
}

/// What a slot's turn came to.
pub(super) enum Step {
    Wait,
    Again,
    WaitUntil(Instant),
    /// The visitor has said what it had to: the upstream's turn.
    Dial,
    Unreachable(String),
    Abort(String),
    /// The visitor did not get as far as the upstream.
    Reject(String),
    /// The upstream has ended in good order, but the visitor has not, and nobody takes the rest.
    TurnAway(String),
    Done,
}

impl Proxied {
    /// Does what it can; for the rest, [`Step`] says what it needs.
    pub(super) fn run(
        &mut self,
        session: &mut AgentSession,
        handshakes: &mut Handshakes,
        registry: &Registry,
        token: Token,
        now: Instant,
    ) -> Step {
        if self.end_at.is_some_and(|at| now >= at) {
            return Step::Abort("the configuration does not have its endpoint any more".to_owned());
        }
        match &self.state {
            State::Greeting => return self.greet(session, handshakes, now),
            State::Rejecting(reason) if self.is_late(now) => return Step::Reject(reason.clone()),
            State::Rejecting(_) => return Step::Wait,
            _ => {}
        }
        if let State::Dialing(dial, ready) = &mut self.state {
            match dial.poll(registry, token, now) {
                Progress::Dialing => return dial.next_deadline().map_or(Step::Wait, Step::WaitUntil),
                Progress::Failed(error) => return Step::Unreachable(error.to_string()),
                Progress::Connected(socket, _) => {
                    socket_options::prepare_upstream(&socket);
                    // Taken as ready until the socket says otherwise.
                    let ready = Ready { readable: true, writable: true, read_closed: ready.read_closed };
                    if let Err(error) = write_header(&socket, &self.header) {
                        return Step::Unreachable(format!("it did not take the PROXY header: {error}"));
                    }
                    self.state = match self.route.tls() {
                        None => State::Open(UpstreamIo::plain(socket, ready)),
                        Some((config, name)) => match UpstreamIo::tls(socket, ready, config, name) {
                            Ok(io) => State::Handshaking(io),
                            Err(error) => return Step::Unreachable(format!("TLS: {error}")),
                        },
                    };
                }
            }
        }
        if let State::Handshaking(io) = &mut self.state {
            match io.handshake() {
                Ok(false) if self.is_late(now) => return Step::Unreachable("TLS handshake timed out".to_owned()),
                Ok(false) => return Step::Wait,
                Err(error) => return Step::Unreachable(format!("TLS: {error}")),
                Ok(true) => {}
            }
            let State::Handshaking(io) = std::mem::replace(&mut self.state, State::Failed) else { return Step::Wait };
            self.state = State::Open(io);
        }
        match &self.state {
            State::Open(_) => match self.pump(session, now) {
                Step::Wait => self.wait_quietly(now),
                step => step,
            },
            State::Resolving(_) if self.is_late(now) => Step::Unreachable("the name look-up timed out".to_owned()),
            State::Failed if self.from_upstream == 0 && self.to_upstream == 0 && !self.read_ended => {
                Step::Unreachable(self.failure.as_ref().map(ToString::to_string).unwrap_or_default())
            }
            State::Failed if self.is_late(now) => self.abort(),
            State::Greeting
            | State::Rejecting(_)
            | State::Resolving(_)
            | State::Failed
            | State::Dialing(..)
            | State::Handshaking(_) => Step::Wait,
        }
    }

    fn pump(&mut self, session: &mut AgentSession, now: Instant) -> Step {
        self.deadline = None;
        let again =
            if self.visitor.is_some() { self.write_decrypted(session, now) } else { self.write_queue(session, now) };
        if let Some(error) = &self.failure {
            let text = error.to_string();
            return self.fail(text, now);
        }
        if self.read_ended && self.write_ended {
            return self.end(session, now);
        }
        let State::Open(io) = &self.state else { return Step::Wait };
        if !self.read_ended && (io.may_read() || self.visitor.as_ref().is_some_and(|visitor| visitor.wants_fetch())) {
            session.want_send(self.stream);
        }
        if again { Step::Again } else { Step::Wait }
    }

    /// Nothing is to be done until something comes: ends a connection on which nothing has come for too long.
    fn wait_quietly(&mut self, now: Instant) -> Step {
        let Some((limit, reason)) = quiet_max(self.read_ended, self.write_ended, self.idle_timeout) else {
            return Step::Wait;
        };
        let until = self.moved_at + limit;
        if now >= until {
            return Step::Abort(reason.to_owned());
        }
        self.deadline = Some(until);
        Step::WaitUntil(until)
    }

    /// Both directions are over.
    fn end(&mut self, session: &AgentSession, now: Instant) -> Step {
        if let Some(error) = &self.write_error {
            if session.is_finished(self.stream) {
                return Step::Done;
            }
            // Official gateways drop what they have not handed on when a reset comes, also behind an end.
            let settled = self.sent_at + ABORT_DELAY;
            if self.from_upstream > 0 && now < settled {
                self.deadline = Some(settled);
                return Step::WaitUntil(settled);
            }
            return Step::TurnAway(error.to_string());
        }
        if matches!(&self.state, State::Open(io) if io.is_flushed()) {
            return Step::Done;
        }
        let until = *self.flush_until.get_or_insert(now + FLUSH_TIMEOUT);
        self.deadline = Some(until);
        if now >= until { Step::Abort("the upstream takes no more".to_owned()) } else { Step::WaitUntil(until) }
    }

    /// Moves what the stream has received to the upstream, at most [`WRITE_MAX`] bytes. True when there is more, and
    /// room for it.
    fn write_queue(&mut self, session: &mut AgentSession, now: Instant) -> bool {
        let State::Open(io) = &mut self.state else { return false };
        let mut left = WRITE_MAX;
        let mut broken = if self.write_error.is_none() { io.flush().err() } else { None };
        while !self.write_ended && broken.is_none() {
            let Some(queue) = session.queue(self.stream).filter(|queue| !queue.is_empty()) else { break };
            if left == 0 {
                return true;
            }
            match io.write(queue.chunks()) {
                Ok(len) => {
                    session.consume(self.stream, len);
                    self.to_upstream += len as u64;
                    self.moved_at = now;
                    left = left.saturating_sub(len);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                Err(error) => broken = Some(error),
            }
        }
        if broken.is_none() && !self.write_ended && session.is_finished(self.stream) {
            self.write_ended = true;
            self.moved_at = now;
            broken = io.shutdown_write().err().filter(|error| error.kind() != io::ErrorKind::NotConnected);
        }
        if let Some(error) = broken {
            self.on_write_error(error);
        }
        if self.write_ended {
            // The upstream takes no more; what still comes for it is dropped, so that the visitor is not stalled.
            session.consume(self.stream, usize::MAX);
        }
        false
    }

    /// The upstream takes no more bytes. What it said before that still has to reach the visitor: an early answer to
    /// a long upload ends like this.
    pub(super) fn on_write_error(&mut self, error: io::Error) {
        self.write_ended = true;
        self.write_error.get_or_insert(error);
    }

    /// The upstream failed. An abort overtakes data on its way to the visitor, so it waits a moment if there was some.
    fn fail(&mut self, text: String, now: Instant) -> Step {
        let settled = self.sent_at + ABORT_DELAY;
        if self.from_upstream == 0 || now >= settled {
            return Step::Abort(text);
        }
        if let State::Open(io) = std::mem::replace(&mut self.state, State::Failed) {
            io.abort();
        }
        self.deadline = Some(settled);
        Step::WaitUntil(settled)
    }

    fn abort(&self) -> Step {
        Step::Abort(self.failure.as_ref().map(ToString::to_string).unwrap_or_default())
    }

    /// When the slot has something to do without an event.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let dial = match &self.state {
            State::Dialing(dial, _) => dial.next_deadline(),
            State::Greeting
            | State::Rejecting(_)
            | State::Resolving(_)
            | State::Handshaking(_)
            | State::Open(_)
            | State::Failed => None,
        };
        [dial, self.deadline, self.end_at].into_iter().flatten().min()
    }

    pub(super) fn is_late(&self, now: Instant) -> bool {
        self.deadline.is_some_and(|at| now >= at)
    }
}

/// A socket that has just been connected has room for all of it.
fn write_header(mut socket: &mio::net::TcpStream, header: &[u8]) -> io::Result<()> {
    if header.is_empty() { Ok(()) } else { socket.write_all(header) }
}

/// How long the last bytes may wait for an upstream that has ended its own direction: nobody else waits for them.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(10);

/// How long nothing may move, and what it means when that is over. `None`: for ever.
fn quiet_max(read_ended: bool, write_ended: bool, idle: Option<Duration>) -> Option<(Duration, &'static str)> {
    let half_closed = match (read_ended, write_ended) {
        (true, false) => Some((VISITOR_QUIET_MAX, "the upstream has ended and the visitor does nothing")),
        (false, true) => Some((UPSTREAM_QUIET_MAX, "the visitor has ended and the upstream does nothing")),
        (true, true) | (false, false) => None,
    };
    let idle = idle.map(|time| (time, "nothing moved for agent.idle_timeout"));
    half_closed.into_iter().chain(idle).min_by_key(|(time, _)| *time)
}

/// How long a visitor may do nothing after its upstream has ended: each such connection is a socket in CLOSE_WAIT, and
/// hardly any protocol goes on after the server's end.
const VISITOR_QUIET_MAX: Duration = Duration::from_secs(10 * 60);

/// How long an upstream may do nothing after its visitor has ended: it may be working on the answer to a question that
/// ends like this.
const UPSTREAM_QUIET_MAX: Duration = Duration::from_secs(2 * 3600);

/// Bytes moved to one upstream in one turn of the loop, so that the others get theirs.
pub(super) const WRITE_MAX: usize = 64 * 1024;

/// How long an abort stays behind the last data sent: enough for the gateway to hand that data on.
pub(super) const ABORT_DELAY: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_connections_are_idle_for_ever_and_half_closed_ones_end() {
        let most = |read_ended, write_ended, idle: Option<u64>| {
            quiet_max(read_ended, write_ended, idle.map(Duration::from_secs)).map(|(time, _)| time.as_secs())
        };
        assert_eq!(most(false, false, None), None);
        assert_eq!(most(true, false, None), Some(600));
        assert_eq!(most(false, true, None), Some(7200));
        assert_eq!(most(false, false, Some(60)), Some(60));
        assert_eq!([most(true, false, Some(60)), most(true, false, Some(9000))], [Some(60), Some(600)]);
    }
}
