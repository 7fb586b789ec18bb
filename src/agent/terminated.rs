//! Visitors whose TLS ends here, and what stands in front of it: the PROXY header, the handshake, then plaintext between
//! the visitor's ciphertext and the upstream.

use std::io;
use std::time::Instant;

use super::handshakes::Handshakes;
use super::proxied::{ABORT_DELAY, Proxied, State, Step, WRITE_MAX};
use crate::mux::limits::FRAME_DATA_MAX;
use crate::net::link::Supply;
use crate::proxy_protocol::{HEADER_BYTES_MAX, HeaderError, ProxyProtocol};
use crate::session::AgentSession;
use crate::tls;

impl Proxied {
    /// Takes what the visitor has to say before its upstream is connected; at most one step of a handshake.
    pub(super) fn greet(&mut self, session: &mut AgentSession, handshakes: &mut Handshakes, now: Instant) -> Step {
        if self.is_late(now) {
            return Step::Reject("its TLS handshake took too long".to_owned());
        }
        match self.lift_header(session) {
            Ok(true) => {}
            Ok(false) if session.is_finished(self.stream) => return Step::Reject(LEFT_EARLY.to_owned()),
            Ok(false) => return Step::Wait,
            Err(error) => return Step::Reject(error.to_string()),
        }
        let Some(visitor) = &mut self.visitor else { return Step::Dial };
        if !visitor.is_handshaking() {
            return Step::Dial;
        }
        let chunk = session.queue(self.stream).map_or(&[][..], |queue| queue.chunk());
        if chunk.is_empty() {
            let has_left = session.is_finished(self.stream);
            return if has_left { Step::Reject(LEFT_EARLY.to_owned()) } else { Step::Wait };
        }
        if !handshakes.take_step() {
            return Step::Again;
        }
        let taken = visitor.take(chunk);
        let is_done = !visitor.is_handshaking();
        if visitor.wants_fetch() {
            session.want_send(self.stream);
        }
        match taken {
            Ok(len) => session.consume(self.stream, len),
            Err(error) => return self.reject(session, tls::of_visitor(&error), now),
        }
        if is_done { Step::Dial } else { Step::Again }
    }

    /// Turns the visitor away after the alert that says why had time to reach it.
    fn reject(&mut self, session: &mut AgentSession, reason: String, now: Instant) -> Step {
        session.consume(self.stream, usize::MAX);
        self.state = State::Rejecting(reason);
        self.deadline = Some(now + ABORT_DELAY);
        Step::WaitUntil(now + ABORT_DELAY)
    }

    /// Takes the PROXY header off the stream, if there has to be one. True once there is nothing to take any more.
    fn lift_header(&mut self, session: &mut AgentSession) -> Result<bool, HeaderError> {
        if self.header_due == ProxyProtocol::None {
            return Ok(true);
        }
        let Some(queue) = session.queue(self.stream) else { return Ok(false) };
        let held = self.header.len();
        self.header.extend(queue.chunks().flatten().take(HEADER_BYTES_MAX - held));
        let len = self.header_due.header_len(&self.header)?;
        // What is not the header's stays in the queue; a header that is not whole does not, so that more of it is noticed.
        self.header.truncate(len.unwrap_or(usize::MAX));
        session.consume(self.stream, self.header.len() - held);
        if len.is_none() {
            return Ok(false);
        }
        self.header_due = ProxyProtocol::None;
        Ok(true)
    }

    /// Moves what the visitor has sent, decrypted, to the upstream, at most [`WRITE_MAX`] bytes. True when there is more,
    /// and room for it.
    pub(super) fn write_decrypted(&mut self, session: &mut AgentSession, now: Instant) -> bool {
        let (State::Open(io), Some(visitor)) = (&mut self.state, &mut self.visitor) else { return false };
        let mut left = WRITE_MAX;
        let mut broken = if self.write_error.is_none() { io.flush().err() } else { None };
        while !self.write_ended && broken.is_none() && self.failure.is_none() {
            let plaintext = visitor.plaintext();
            if !plaintext.is_empty() {
                if left == 0 {
                    return true;
                }
                match io.write(std::iter::once(plaintext)) {
                    Ok(len) => {
                        visitor.consume(len);
                        self.to_upstream += len as u64;
                        self.moved_at = now;
                        left = left.saturating_sub(len);
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                    Err(error) => broken = Some(error),
                }
                continue;
            }
            if visitor.has_ended() {
                self.write_ended = true;
                self.moved_at = now;
                broken = io.shutdown_write().err().filter(|error| error.kind() != io::ErrorKind::NotConnected);
                break;
            }
            let chunk = session.queue(self.stream).map_or(&[][..], |queue| queue.chunk());
            if chunk.is_empty() {
                // Whoever is on the way can end a stream; only the visitor can say, in TLS, that it has ended.
                if session.is_finished(self.stream) {
                    self.failure = Some(io::Error::new(io::ErrorKind::UnexpectedEof, "the visitor's TLS was cut"));
                }
                break;
            }
            match visitor.take(chunk) {
                Ok(len) => session.consume(self.stream, len),
                Err(error) => self.failure = Some(io::Error::new(io::ErrorKind::InvalidData, error)),
            }
        }
        if let Some(error) = broken {
            self.on_write_error(error);
        }
        if self.write_ended {
            // Nothing that comes behind the visitor's end, or for an upstream that takes no more, may stall the stream.
            session.consume(self.stream, usize::MAX);
        }
        false
    }

    /// Ciphertext for the visitor: what TLS itself has to say, then what the upstream says. `None` where TLS does not end
    /// here.
    pub(super) fn supply_encrypted(&mut self, buffer: &mut [u8], now: Instant) -> Option<Supply> {
        let visitor = self.visitor.as_mut()?;
        loop {
            let len = visitor.fetch(buffer);
            if len > 0 {
                self.sent_at = now;
                self.moved_at = now;
                return Some(Supply::Bytes(len));
            }
            if visitor.is_over() {
                self.read_ended = true;
                return Some(Supply::End);
            }
            let State::Open(io) = &mut self.state else { return Some(Supply::Nothing) };
            let mut plaintext = [0; FRAME_DATA_MAX];
            // Header, tag and type of a record; a frame that takes less than that takes several turns.
            let room = buffer.len().saturating_sub(RECORD_OVERHEAD).max(1);
            let read = match io.read(&mut plaintext[..room.min(FRAME_DATA_MAX)]) {
                Ok(0) => {
                    visitor.end();
                    continue;
                }
                Ok(len) => {
                    self.from_upstream += len as u64;
                    visitor.encrypt(&plaintext[..len])
                }
                Err(error) => Err(error),
            };
            match read {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Some(Supply::Nothing),
                Err(error) => {
                    self.failure = Some(error);
                    return Some(Supply::Nothing);
                }
            }
        }
    }
}

const LEFT_EARLY: &str = "it left before its TLS handshake was done";

/// What TLS 1.3 and 1.2 add to a record at most (RFC 8446, section 5.2; RFC 5288): header, explicit nonce, type, tag.
const RECORD_OVERHEAD: usize = 5 + 8 + 1 + 16;
