//! TLS on the link, by the interface of rustls that leaves the buffers to its user: received records are decrypted where
//! the socket's bytes are, and no buffer grows and shrinks with each of them.

use std::mem;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::pki_types::ServerName;
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus, WriteTraffic};

use crate::tls;

/// The client's end of a TLS connection.
pub(super) struct LinkTls {
    connection: UnbufferedClientConnection,
    /// What was received and cannot be worked on yet: the beginning of a record, or of a message of the handshake.
    partial: Vec<u8>,
    outgoing: Outgoing,
    /// The connection is not to be asked again.
    has_failed: bool,
}

/// Why nothing more can be received or sent.
#[derive(Debug)]
pub(super) enum TlsEnd {
    /// The other side has said that it sends nothing more.
    Closed,
    /// An alert, or bytes that are no TLS.
    Failed(rustls::Error),
}

impl LinkTls {
    /// Begins the handshake: its first bytes are to be sent.
    pub(super) fn new(config: Arc<ClientConfig>, name: ServerName<'static>) -> Result<Self, rustls::Error> {
        let connection = UnbufferedClientConnection::new(config, name)?;
        let mut begun = Self { connection, partial: Vec::new(), outgoing: Outgoing::default(), has_failed: false };
        loop {
            match begun.step(&mut [], &mut [], &mut 0, Say::Nothing).1 {
                Ok(Step::Again) => {}
                Ok(Step::Done) | Err(TlsEnd::Closed) => return Ok(begun),
                Err(TlsEnd::Failed(error)) => return Err(error),
            }
        }
    }

    /// Whether the handshake is still going on. Nothing can be sent until it is over.
    pub(super) fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// The TLS version and cipher suite in words, once negotiated.
    pub(super) fn facts(&self) -> String {
        tls::facts(&self.connection)
    }

    /// The part of `buffer` into which the socket is to be read before [`Self::receive`]. Never empty.
    ///
    /// # Errors
    ///
    /// A message of the handshake is longer than the buffer.
    pub(super) fn room<'a>(&self, buffer: &'a mut [u8]) -> Result<&'a mut [u8], TlsEnd> {
        match buffer.get_mut(self.begin() + self.partial.len()..) {
            Some(room) if !room.is_empty() => Ok(room),
            _ => Err(too_long()),
        }
    }

    /// Where in the buffer of [`Self::room`] the bytes begin that are worked on next.
    fn begin(&self) -> usize {
        RECEIVE_AT.saturating_sub(self.partial.len()).max(RECORD_DATA_MAX)
    }

    /// Takes the `len` bytes that were read into [`Self::room`], and puts the plaintext of all records at the front of the
    /// buffer, which it counts in `plaintext`. What came before a failure counts. There may be something to send then.
    pub(super) fn receive(&mut self, buffer: &mut [u8], len: usize, plaintext: &mut usize) -> Result<(), TlsEnd> {
        let mut at = self.begin();
        let end = at + self.partial.len() + len;
        buffer[at..at + self.partial.len()].copy_from_slice(&self.partial);
        let done = loop {
            let (front, incoming) = buffer[..end].split_at_mut(at);
            let (discard, step) = self.step(incoming, front, plaintext, Say::Nothing);
            at += discard;
            match step {
                Ok(Step::Again) => {}
                Ok(Step::Done) => break Ok(()),
                Err(end) => break Err(end),
            }
        };
        let partial = &buffer[at..end];
        self.partial.clear();
        self.partial.reserve_exact(partial.len());
        self.partial.extend_from_slice(partial);
        self.partial.shrink_to(PARTIAL_MAX);
        // Certificates are long, before there are any streams; tickets are not.
        if done.is_ok() && self.partial.len() > PARTIAL_MAX && !self.is_handshaking() { Err(too_long()) } else { done }
    }

    /// One state of the connection, and how many bytes of `incoming` are worked off then. Plaintext goes behind what
    /// there is of it in `front`: there is room, since it is never longer than its record, and one record fits ahead.
    fn step(
        &mut self,
        incoming: &mut [u8],
        front: &mut [u8],
        plaintext: &mut usize,
        say: Say<'_>,
    ) -> (usize, Result<Step, TlsEnd>) {
        if self.has_failed {
            return (0, Err(TlsEnd::Closed));
        }
        let UnbufferedStatus { mut discard, state } = self.connection.process_tls_records(incoming);
        let step = match state {
            Ok(ConnectionState::ReadTraffic(mut traffic)) => loop {
                match traffic.next_record() {
                    None => break Ok(Step::Again),
                    Some(Err(error)) => break Err(TlsEnd::Failed(error)),
                    Some(Ok(record)) => {
                        discard += record.discard;
                        let Some(room) = front.get_mut(*plaintext..*plaintext + record.payload.len()) else {
                            break Err(out_of_step());
                        };
                        room.copy_from_slice(record.payload);
                        *plaintext += record.payload.len();
                    }
                }
            },
            Ok(ConnectionState::EncodeTlsData(mut data)) => {
                self.outgoing.encode(&mut data);
                Ok(Step::Again)
            }
            Ok(ConnectionState::TransmitTlsData(data)) => {
                data.done();
                Ok(Step::Again)
            }
            Ok(ConnectionState::WriteTraffic(traffic)) => self.outgoing.write(traffic, say).map(|()| Step::Done),
            Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => Err(TlsEnd::Closed),
            Ok(_) => match say {
                Say::Nothing => Ok(Step::Done),
                Say::Data(_) | Say::Close => Err(out_of_step()),
            },
            Err(error) => {
                self.has_failed = true;
                self.outgoing.encode_alert(&mut self.connection, incoming.get_mut(discard..).unwrap_or_default());
                Err(TlsEnd::Failed(error))
            }
        };
        (discard, step)
    }

    /// Encrypts these bytes, into one record if they are at most [`RECORD_DATA_MAX`].
    ///
    /// # Errors
    ///
    /// The handshake is not over, or the connection is.
    pub(super) fn send(&mut self, plaintext: &[u8]) -> Result<(), TlsEnd> {
        self.say(Say::Data(plaintext))
    }

    /// Says that nothing more will be sent, if the handshake is over.
    pub(super) fn send_close_notify(&mut self) {
        let _ = self.say(Say::Close);
    }

    fn say(&mut self, say: Say<'_>) -> Result<(), TlsEnd> {
        // It looks again at what is incomplete, and goes on from there.
        let mut partial = mem::take(&mut self.partial);
        let done = loop {
            let (discard, step) = self.step(&mut partial, &mut [], &mut 0, say);
            partial.drain(..discard);
            match step {
                Ok(Step::Again) => {}
                Ok(Step::Done) => break Ok(()),
                Err(end) => break Err(end),
            }
        };
        self.partial = partial;
        done
    }

    /// Records that are to be given to the socket.
    pub(super) fn outgoing(&self) -> &[u8] {
        &self.outgoing.buffer[self.outgoing.sent..self.outgoing.filled]
    }

    /// The first of them, or what is left of it.
    pub(super) fn outgoing_record(&self) -> &[u8] {
        let outgoing = self.outgoing();
        let left = self.outgoing.record_end().saturating_sub(self.outgoing.sent);
        &outgoing[..outgoing.len().min(left)]
    }

    /// Whether there are any.
    pub(super) fn wants_write(&self) -> bool {
        self.outgoing.sent < self.outgoing.filled
    }

    /// The socket has taken this many bytes of [`Self::outgoing`].
    pub(super) fn sent(&mut self, len: usize) {
        self.outgoing.advance(len);
    }
}

/// Encrypted bytes for the socket. The buffer stays as long as it was once needed.
#[derive(Default)]
struct Outgoing {
    buffer: Vec<u8>,
    /// Up to here there are records, of which `sent` bytes are with the socket.
    filled: usize,
    sent: usize,
    /// Where the record begins of which not everything is sent.
    record: usize,
}

impl Outgoing {
    fn encode(&mut self, data: &mut EncodeTlsData<'_, ClientConnectionData>) {
        loop {
            match data.encode(&mut self.buffer[self.filled..]) {
                Ok(len) => {
                    self.filled += len;
                    return;
                }
                Err(EncodeError::InsufficientSize(short)) => self.make_room(short.required_size),
                Err(EncodeError::AlreadyEncoded) => return,
            }
        }
    }

    fn write(&mut self, mut traffic: WriteTraffic<'_, ClientConnectionData>, say: Say<'_>) -> Result<(), TlsEnd> {
        loop {
            let room = &mut self.buffer[self.filled..];
            let written = match say {
                Say::Nothing => return Ok(()),
                Say::Data(plaintext) => traffic.encrypt(plaintext, room),
                Say::Close => traffic.queue_close_notify(room),
            };
            match written {
                Ok(len) => {
                    self.filled += len;
                    return Ok(());
                }
                Err(EncryptError::InsufficientSize(short)) => self.make_room(short.required_size),
                Err(EncryptError::EncryptExhausted) => return Err(TlsEnd::Failed(rustls::Error::EncryptError)),
            }
        }
    }

    /// The word to the other side about what it did wrong, as a rule: not all that is wrong has one, and an answer to a change
    /// of keys that came right before goes first.
    fn encode_alert(&mut self, connection: &mut UnbufferedClientConnection, incoming: &mut [u8]) {
        if let Ok(ConnectionState::EncodeTlsData(mut data)) = connection.process_tls_records(incoming).state {
            self.encode(&mut data);
        }
    }

    /// After what is sent is forgotten, so that the buffer is not longer than what waits at one time.
    fn make_room(&mut self, len: usize) {
        self.buffer.copy_within(self.record..self.filled, 0);
        self.sent -= self.record;
        self.filled -= self.record;
        self.record = 0;
        if self.buffer.len() < self.filled + len {
            self.buffer.reserve_exact(self.filled + len - self.buffer.len());
            self.buffer.resize(self.filled + len, 0);
        }
    }

    /// Where the record that begins at `record` ends; where it begins if there is none.
    fn record_end(&self) -> usize {
        match self.buffer[self.record..self.filled] {
            [_, _, _, high, low, ..] => self.record + RECORD_HEADER + usize::from(u16::from_be_bytes([high, low])),
            _ => self.record,
        }
    }

    fn advance(&mut self, len: usize) {
        self.sent += len;
        while self.record < self.filled && self.record_end() <= self.sent {
            self.record = self.record_end();
        }
        if self.sent == self.filled {
            (self.filled, self.sent, self.record) = (0, 0, 0);
        }
    }
}

/// What is to be said once the connection can.
#[derive(Clone, Copy)]
enum Say<'a> {
    Nothing,
    Data(&'a [u8]),
    Close,
}

/// What a step of the connection has come to.
enum Step {
    Again,
    /// Nothing is left to do with what there is.
    Done,
}

impl From<TlsEnd> for super::link::LinkEnd {
    fn from(end: TlsEnd) -> Self {
        match end {
            TlsEnd::Closed => Self::Closed,
            TlsEnd::Failed(error) => Self::Tls(error),
        }
    }
}

fn too_long() -> TlsEnd {
    TlsEnd::Failed(rustls::Error::General("a message of the handshake is too long".to_owned()))
}

/// The interface was not used as it is to be, or is not what its documentation says.
fn out_of_step() -> TlsEnd {
    TlsEnd::Failed(rustls::Error::General("its steps come in an unknown order".to_owned()))
}

/// Type, version, length of the rest: RFC 8446, section 5.1.
const RECORD_HEADER: usize = 5;

/// Plaintext of a record at most: RFC 8446, section 5.1.
pub(super) const RECORD_DATA_MAX: usize = 1 << 14;

/// A record at most, of TLS 1.2, which allows more than 1.3: RFC 5246, section 6.2.3.
const RECORD_MAX: usize = RECORD_HEADER + RECORD_DATA_MAX + 2048;

/// Where the socket is read to, as a rule: behind plaintext of a record, and the beginning of another that came before.
pub(super) const RECEIVE_AT: usize = RECORD_DATA_MAX + RECORD_MAX;

/// What is incomplete at most after the handshake, in which it may fill the whole buffer: a message as long as a record, and
/// the one behind it.
pub(super) const PARTIAL_MAX: usize = 2 * RECORD_MAX;

#[cfg(test)]
mod tests;
