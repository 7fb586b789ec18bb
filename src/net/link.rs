//! The one connection to the gateway: a TCP socket, TLS on it, and the session inside.

use std::io::{self, BufRead, Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::time::Instant;

use mio::net::TcpStream;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

use super::ready::Ready;
use crate::frame::HEADER_LEN;
use crate::mux::limits::FRAME_DATA_MAX;
use crate::mux::{Key, LinkError, Sink};
use crate::session::{AgentSession, FirstRecords};
use crate::tls;

/// The link.
pub(crate) struct Link {
    socket: TcpStream,
    tls: ClientConnection,
    pub(crate) ready: Ready,
    pub(crate) session: AgentSession,
    scratch: Box<[u8]>,
    control: Vec<u8>,
    /// Bytes given to TLS since its buffer was last empty.
    unflushed: usize,
    first_records: FirstRecords,
    /// The end of our direction was given to the socket.
    write_ended: bool,
}

/// Why a link ended.
#[derive(Debug)]
pub(crate) enum LinkEnd {
    /// The gateway, or something on the way, closed the connection.
    Closed,
    /// The socket failed.
    Socket(io::Error),
    /// TLS failed: a certificate, an alert, bytes that are no TLS.
    Tls(rustls::Error),
    /// The gateway broke the protocol.
    Protocol(LinkError),
}

impl std::fmt::Display for LinkEnd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Closed => f.write_str("the connection was closed by the other side"),
            Self::Socket(error) => write!(f, "the connection failed: {error}"),
            Self::Tls(error) => write!(f, "TLS failed: {}", tls::in_words(error)),
            Self::Protocol(error) => write!(f, "the gateway broke the protocol: {error}"),
        }
    }
}

/// Where the bytes of a granted stream come from.
pub(crate) trait Source {
    /// Reads up to `buffer.len()` bytes of the stream.
    fn read(&mut self, stream: Key, buffer: &mut [u8]) -> Supply;
}

/// What a source had.
pub(crate) enum Supply {
    /// This many bytes, at least one.
    Bytes(usize),
    /// Nothing now: the stream waits until its source says otherwise.
    Nothing,
    /// Nothing any more.
    End,
}

impl Link {
    /// A link on a connected socket. `session` may have bytes to send already.
    pub(crate) fn new(
        socket: TcpStream,
        ready: Ready,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
        mut session: AgentSession,
    ) -> Result<Self, rustls::Error> {
        session.set_held(LINK_HELD);
        let mut tls = ClientConnection::new(config, name)?;
        // Bounded here, by `unflushed`: a frame is never split.
        tls.set_buffer_limit(None);
        let scratch = vec![0; SCRATCH_LEN].into_boxed_slice();
        Ok(Self {
            socket,
            tls,
            ready,
            session,
            scratch,
            control: Vec::new(),
            unflushed: 0,
            first_records: FirstRecords::default(),
            write_ended: false,
        })
    }

    /// Whether the TLS handshake is still going on.
    pub(crate) fn is_handshaking(&self) -> bool {
        self.tls.is_handshaking()
    }

    /// The TLS version and cipher suite in words, once negotiated.
    pub(crate) fn tls_facts(&self) -> String {
        let version = self.tls.protocol_version().map_or("?", |version| version.as_str().unwrap_or("?"));
        let suite = self.tls.negotiated_cipher_suite().map(|suite| suite.suite());
        format!("{version} {}", suite.and_then(|suite| suite.as_str()).unwrap_or("?"))
    }

    /// Takes what the socket has, at most [`FILL_MAX`] bytes. True when there may be more.
    pub(crate) fn fill(&mut self, sink: &mut impl Sink, now: Instant) -> Result<bool, LinkEnd> {
        let mut left = FILL_MAX;
        while self.ready.readable && left > 0 {
            let room = self.scratch.len();
            let len = match self.socket.read(&mut self.scratch) {
                Ok(0) => return Err(LinkEnd::Closed),
                Ok(len) => len,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.ready.readable = false;
                    break;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(LinkEnd::Socket(error)),
            };
            self.ready.after_read(len, room);
            left = left.saturating_sub(len);
            self.decrypt(len, sink, now)?;
        }
        Ok(self.ready.readable)
    }

    /// Decrypts `len` bytes of the scratch buffer and gives the plaintext to the session.
    fn decrypt(&mut self, len: usize, sink: &mut impl Sink, now: Instant) -> Result<(), LinkEnd> {
        let mut input = &self.scratch[..len];
        while !input.is_empty() {
            if self.tls.read_tls(&mut input).map_err(LinkEnd::Socket)? == 0 {
                return Err(LinkEnd::Closed);
            }
            if let Err(error) = self.tls.process_new_packets() {
                // The alert that says why.
                let _ = self.tls.write_tls(&mut self.socket);
                return Err(LinkEnd::Tls(error));
            }
            loop {
                let mut reader = self.tls.reader();
                let taken = match reader.fill_buf() {
                    Ok([]) => return Err(LinkEnd::Closed),
                    Ok(plaintext) => {
                        self.session.recv(plaintext, sink, now).map_err(LinkEnd::Protocol)?;
                        plaintext.len()
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => return Err(LinkEnd::Socket(error)),
                };
                reader.consume(taken);
            }
        }
        Ok(())
    }

    /// Writes what the session has, then granted data, at most [`FLUSH_MAX`] bytes. True when there may be more to
    /// write and room for it.
    pub(crate) fn flush(&mut self, source: &mut impl Source) -> Result<bool, LinkEnd> {
        let mut left = FLUSH_MAX;
        loop {
            self.write_tls().map_err(LinkEnd::Socket)?;
            if left == 0 {
                return Ok(self.ready.writable);
            }
            if self.unflushed >= UNFLUSHED_MAX {
                return Ok(false);
            }
            let mut produced = self.produce_control()?;
            while produced < BATCH && self.unflushed < UNFLUSHED_MAX && !self.tls.is_handshaking() {
                match self.produce_data(source)? {
                    0 => break,
                    len => produced += len,
                }
            }
            if produced == 0 {
                self.write_tls().map_err(LinkEnd::Socket)?;
                return Ok(false);
            }
            left = left.saturating_sub(produced);
        }
    }

    fn produce_control(&mut self) -> Result<usize, LinkEnd> {
        self.control.clear();
        self.session.poll_transmit(&mut self.control, CONTROL_ROOM);
        let len = self.control.len();
        for piece in self.control.chunks(self.first_records.record_max().unwrap_or(CONTROL_ROOM)) {
            self.tls.writer().write_all(piece).map_err(LinkEnd::Socket)?;
            self.unflushed += piece.len();
            self.first_records.add(piece.len());
        }
        Ok(len)
    }

    /// One DATA frame, header and payload in one TLS record.
    fn produce_data(&mut self, source: &mut impl Source) -> Result<usize, LinkEnd> {
        while let Some(grant) = self.session.poll_grant() {
            let room = self.first_records.record_max().map_or(FRAME_DATA_MAX, |max| max - HEADER_LEN);
            let (stream, max) = (grant.key, grant.max.min(room));
            let payload = &mut self.scratch[HEADER_LEN..HEADER_LEN + max];
            let len = match source.read(stream, payload) {
                Supply::Bytes(len) => len,
                Supply::Nothing => {
                    self.session.release(grant);
                    continue;
                }
                Supply::End => {
                    self.session.release(grant);
                    self.session.finish(stream);
                    return self.produce_control();
                }
            };
            let Some(header) = self.session.commit(grant, len) else { continue };
            self.scratch[..HEADER_LEN].copy_from_slice(&header);
            let frame = &self.scratch[..HEADER_LEN + len];
            self.tls.writer().write_all(frame).map_err(LinkEnd::Socket)?;
            self.unflushed += frame.len();
            self.first_records.add(frame.len());
            return Ok(frame.len());
        }
        Ok(0)
    }

    /// Writes what the session itself has to say, as far as there is room. What fails here fails again later.
    pub(crate) fn send_control(&mut self) {
        let _ = self.produce_control();
        let _ = self.write_tls();
    }

    /// Moves encrypted bytes to the socket while it has room.
    fn write_tls(&mut self) -> io::Result<()> {
        while self.tls.wants_write() && self.ready.writable {
            let written = match self.first_records.record_max() {
                Some(_) => self.tls.write_tls(&mut OneRecord(&mut self.socket)),
                None => self.tls.write_tls(&mut self.socket),
            };
            match written {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.ready.writable = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if !self.tls.wants_write() {
            self.unflushed = 0;
        }
        Ok(())
    }

    /// Whether everything that was put into the link is with the kernel.
    pub(crate) fn is_flushed(&self) -> bool {
        !self.tls.wants_write()
    }

    /// Closes in good order, once [`Self::is_flushed`]: a last word, the end of our direction, then what still comes
    /// is read and dropped. A socket that is closed with something unread, or that gets more, answers with a reset, and
    /// that takes back what the other side has not read. True when the other side has ended too.
    pub(crate) fn say_goodbye(&mut self) -> bool {
        if self.produce_control().is_ok_and(|len| len > 0) {
            self.tls.send_close_notify();
        }
        if self.write_tls().is_err() {
            return true;
        }
        // Once: each call is an event that wakes the loop. What prevents it, the read below finds too.
        if !self.tls.wants_write() && !std::mem::replace(&mut self.write_ended, true) {
            let _ = self.socket.shutdown(Shutdown::Write);
        }
        let mut left = FILL_MAX;
        while self.ready.readable && left > 0 {
            match self.socket.read(&mut self.scratch) {
                Ok(0) => return true,
                Ok(len) => left = left.saturating_sub(len),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.ready.readable = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return true,
            }
        }
        false
    }

    /// Writes a last word, if there is room for it, and closes: nothing may follow a GOAWAY.
    pub(crate) fn close(mut self) -> AgentSession {
        let told = self.produce_control().is_ok();
        self.tls.send_close_notify();
        if told {
            let _ = self.write_tls();
        }
        self.session
    }
}

/// A socket that takes one TLS record at a time, so that each leaves in a packet of its own.
struct OneRecord<'a>(&'a mut TcpStream);

impl Write for OneRecord<'_> {
    // `write_vectored` is the trait's own: it writes the first slice.
    fn write(&mut self, record: &[u8]) -> io::Result<usize> {
        self.0.write(record)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// One read of the socket: four TLS records. Also where a frame is put together for sending.
const SCRATCH_LEN: usize = 64 * 1024;

/// What the link itself holds at most, to be counted against the memory budget: the scratch buffer; a received record
/// and what came behind it; control frames before and after encryption; two encrypted frames.
pub(crate) const LINK_HELD: usize = SCRATCH_LEN + 20 * 1024 + CONTROL_ROOM + CONTROL_ROOM + UNFLUSHED_MAX;

/// Bytes taken from the link in one turn of the loop, so that other sockets get theirs.
const FILL_MAX: usize = 256 * 1024;

/// Bytes given to the link in one turn of the loop.
const FLUSH_MAX: usize = 256 * 1024;

/// Bytes encrypted between two writes to the socket: two frames, one system call.
const BATCH: usize = 2 * (FRAME_DATA_MAX + HEADER_LEN);

/// Encrypted and not yet taken by the socket: what a control frame may have in front of it here.
const UNFLUSHED_MAX: usize = 2 * (FRAME_DATA_MAX + HEADER_LEN);

/// Control bytes produced at one time.
const CONTROL_ROOM: usize = 2 * (FRAME_DATA_MAX + HEADER_LEN);
