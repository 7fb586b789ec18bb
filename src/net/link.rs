//! The one connection to the gateway: a TCP socket, TLS on it, and the session inside.

use std::io::{self, IoSliceMut, Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::time::Instant;

use mio::net::TcpStream;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use super::link_tls::{LinkTls, PARTIAL_MAX, RECEIVE_AT, RECORD_DATA_MAX, TlsEnd};
use super::ready::Ready;
use crate::frame::HEADER_LEN;
use crate::mux::limits::{BATCH_MAX, BATCH_REST, BURST_FRAMES, FRAME_DATA_MAX, payload_in};
use crate::mux::{Key, LinkError, Sink};
use crate::session::{AgentSession, FirstRecords};
use crate::tls;

/// The link.
pub(crate) struct Link {
    socket: TcpStream,
    tls: LinkTls,
    pub(crate) ready: Ready,
    pub(crate) session: AgentSession,
    scratch: Box<[u8]>,
    control: Vec<u8>,
    /// Bytes given to TLS since its buffer was last empty.
    unflushed: usize,
    /// How many of them there may be, see [`Link::write_tls`].
    batch: usize,
    /// The socket was full since they began to be put together.
    was_full: bool,
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
    /// Reads bytes of the stream into `buffers`, one behind the other.
    fn read(&mut self, stream: Key, buffers: &mut [IoSliceMut<'_>]) -> Supply;
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
        let tls = LinkTls::new(config, name)?;
        let scratch = vec![0; SCRATCH_LEN].into_boxed_slice();
        Ok(Self {
            socket,
            tls,
            ready,
            session,
            scratch,
            control: Vec::new(),
            unflushed: 0,
            batch: FRAME_MAX,
            was_full: false,
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
        self.tls.facts()
    }

    /// Takes what the socket has, at most [`FILL_MAX`] bytes. True when there may be more.
    pub(crate) fn fill(&mut self, sink: &mut impl Sink, now: Instant) -> Result<bool, LinkEnd> {
        let mut left = FILL_MAX;
        while self.ready.readable && left > 0 {
            let room = self.tls.room(&mut self.scratch)?;
            let room_len = room.len();
            let len = match self.socket.read(room) {
                Ok(0) => return Err(LinkEnd::Closed),
                Ok(len) => len,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.ready.readable = false;
                    break;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(LinkEnd::Socket(error)),
            };
            self.ready.after_read(len, room_len);
            left = left.saturating_sub(len);
            self.decrypt(len, sink, now)?;
        }
        Ok(self.ready.readable)
    }

    /// Decrypts the `len` bytes that were read and gives the plaintext to the session, all of it at once: what is for one
    /// upstream then costs one system call. What came before a failure counts.
    fn decrypt(&mut self, len: usize, sink: &mut impl Sink, now: Instant) -> Result<(), LinkEnd> {
        let mut plaintext = 0;
        let received = self.tls.receive(&mut self.scratch, len, &mut plaintext);
        if plaintext > 0 {
            self.session.recv(&self.scratch[..plaintext], sink, now).map_err(LinkEnd::Protocol)?;
        }
        if let Err(TlsEnd::Failed(_)) = &received {
            // The alert that says why.
            let _ = self.write_tls();
        }
        received.map_err(LinkEnd::from)
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
            if self.batch_room() == 0 {
                return Ok(false);
            }
            let mut produced = self.produce_control()?;
            while self.batch_room() > 0 && !self.tls.is_handshaking() {
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

    /// Bytes that the batch has room for, none if they are too few for a frame.
    fn batch_room(&self) -> usize {
        let room = self.batch.saturating_sub(self.unflushed);
        if room < BATCH_REST { 0 } else { room }
    }

    fn produce_control(&mut self) -> Result<usize, LinkEnd> {
        if self.tls.is_handshaking() {
            return Ok(0);
        }
        self.control.clear();
        self.session.poll_transmit(&mut self.control, CONTROL_ROOM);
        let len = self.control.len();
        for piece in self.control.chunks(self.first_records.record_max().unwrap_or(CONTROL_ROOM)) {
            self.tls.send(piece)?;
            self.unflushed += piece.len();
            self.first_records.add(piece.len());
        }
        Ok(len)
    }

    /// DATA frames of one stream, header and payload of each in one TLS record: what its grant allows and the batch has
    /// room for.
    fn produce_data(&mut self, source: &mut impl Source) -> Result<usize, LinkEnd> {
        while let Some(mut grant) = self.session.poll_grant() {
            let stream = grant.key;
            let room = self.first_records.record_max().map_or(payload_in(self.batch_room()), |max| max - HEADER_LEN);
            grant.burst = grant.burst.min(room);
            let len = match read_frames(&mut self.scratch, source, stream, grant.burst) {
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
            let Some(headers) = self.session.commit_burst(grant, len) else { continue };
            let mut produced = 0;
            for (at, (slot, header)) in self.scratch.chunks_exact_mut(FRAME_MAX).zip(headers).enumerate() {
                let payload = (len - at * FRAME_DATA_MAX).min(FRAME_DATA_MAX);
                slot[..HEADER_LEN].copy_from_slice(&header);
                self.tls.send(&slot[..HEADER_LEN + payload])?;
                produced += HEADER_LEN + payload;
            }
            self.unflushed += produced;
            self.first_records.add(produced);
            return Ok(produced);
        }
        Ok(0)
    }

    /// Writes what the session itself has to say, as far as there is room. What fails here fails again later.
    pub(crate) fn send_control(&mut self) {
        let _ = self.produce_control();
        let _ = self.write_tls();
    }

    /// Moves encrypted bytes to the socket while it has room. As long as it takes all of it, twice as much is put
    /// together for the next time, up to [`BATCH_MAX`]; when it is full, a frame only: what is urgent waits behind it.
    fn write_tls(&mut self) -> io::Result<()> {
        while self.tls.wants_write() && self.ready.writable {
            let records = match self.first_records.record_max() {
                // Each leaves in a packet of its own.
                Some(_) => self.tls.outgoing_record(),
                None => self.tls.outgoing(),
            };
            match self.socket.write(records) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(len) => self.tls.sent(len),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.ready.writable = false;
                    (self.batch, self.was_full) = (FRAME_MAX, true);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if !self.tls.wants_write() {
            if !std::mem::take(&mut self.was_full) && self.batch_room() == 0 {
                self.batch = (2 * self.batch).min(BATCH_MAX);
            }
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

/// Reads at most `max` bytes of a stream into the places of payload of frames.
fn read_frames(scratch: &mut [u8], source: &mut impl Source, stream: Key, max: usize) -> Supply {
    let mut slots = scratch.chunks_exact_mut(FRAME_MAX);
    let mut buffers: [IoSliceMut<'_>; BURST_FRAMES] = std::array::from_fn(|at| {
        let room = max.saturating_sub(at * FRAME_DATA_MAX).min(FRAME_DATA_MAX);
        let slot = slots.next().unwrap_or_default();
        IoSliceMut::new(slot.get_mut(HEADER_LEN..HEADER_LEN + room).unwrap_or_default())
    });
    source.read(stream, &mut buffers[..max.div_ceil(FRAME_DATA_MAX)])
}

/// A DATA frame at its largest.
const FRAME_MAX: usize = HEADER_LEN + FRAME_DATA_MAX;

// A frame goes into one record.
const _: () = assert!(FRAME_MAX <= RECORD_DATA_MAX);

/// One read of the socket, four TLS records, and what is before it. Also where frames are put together for sending.
const SCRATCH_LEN: usize = RECEIVE_AT + 64 * 1024;

/// What the link itself holds at most, to be counted against the memory budget: the scratch buffer; a record that is not
/// complete, and one that was decrypted; control frames before and after encryption; encrypted frames.
pub(crate) const LINK_HELD: usize =
    SCRATCH_LEN + PARTIAL_MAX + RECORD_DATA_MAX + CONTROL_ROOM + CONTROL_ROOM + BATCH_MAX;

/// Bytes taken from the link in one turn of the loop, so that other sockets get theirs.
const FILL_MAX: usize = 128 * 1024;

/// Bytes given to the link in one turn of the loop.
const FLUSH_MAX: usize = BATCH_MAX - BATCH_REST;

/// Control bytes produced at one time.
const CONTROL_ROOM: usize = 2 * FRAME_MAX;
