//! One connection to an upstream, plain or TLS, as bytes that may be there and room that may be there.
//!
//! TLS under edge-triggered events loses wake-ups unless two things are remembered that no socket event tells:
//! decrypted bytes may wait inside rustls (`plaintext_pending`), and a writer may have been full (`writer_full`). Both
//! count as readiness: [`UpstreamIo::may_read`] includes the first, [`UpstreamIo::flush`] tells of the second.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::Shutdown;
use std::sync::Arc;

use mio::net::TcpStream;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

use super::ready::Ready;
use super::tls_records::Records;
use crate::tls;

/// A connected upstream.
#[derive(Debug)]
pub(crate) struct UpstreamIo {
    socket: TcpStream,
    pub(crate) ready: Ready,
    tls: Option<Box<Tls>>,
    /// A write took the socket's error: what a read finds after the last byte then looks like a clean end.
    write_failed: bool,
}

#[derive(Debug)]
struct Tls {
    connection: ClientConnection,
    plaintext_pending: bool,
    writer_full: bool,
    shutdown_due: bool,
    /// Of what the upstream sends.
    records: Records,
    /// Bytes of the handshake that the upstream has sent; afterwards those since its last data: more of the handshake,
    /// like tickets. Messages that are not whole yet are among them.
    handshake_bytes: usize,
    /// Bytes of the certificates that the upstream has shown, which are kept.
    certificates: usize,
}

impl UpstreamIo {
    /// A plain connection.
    pub(crate) fn plain(socket: TcpStream, ready: Ready) -> Self {
        Self { socket, ready, tls: None, write_failed: false }
    }

    /// A TLS connection whose handshake is still to be done by [`UpstreamIo::handshake`].
    pub(crate) fn tls(
        socket: TcpStream,
        ready: Ready,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> Result<Self, rustls::Error> {
        let mut connection = ClientConnection::new(config, name)?;
        connection.set_buffer_limit(Some(WRITER_MAX));
        let tls = Tls {
            connection,
            plaintext_pending: false,
            writer_full: false,
            shutdown_due: false,
            records: Records::default(),
            handshake_bytes: 0,
            certificates: 0,
        };
        Ok(Self { socket, ready, tls: Some(Box::new(tls)), write_failed: false })
    }

    /// Goes on with the TLS handshake; true once it is done (at once for plain connections).
    pub(crate) fn handshake(&mut self) -> io::Result<bool> {
        loop {
            self.flush()?;
            let Some(tls) = &mut self.tls else { return Ok(true) };
            if !tls.connection.is_handshaking() {
                return Ok(true);
            }
            if !self.ready.readable || !tls.fill(&mut self.socket, &mut self.ready)? {
                return Ok(false);
            }
        }
    }

    /// Whether a read could find something without another socket event.
    pub(crate) fn may_read(&self) -> bool {
        self.ready.readable || self.tls.as_ref().is_some_and(|tls| tls.plaintext_pending)
    }

    /// Reads into `buffers`, one behind the other; TLS into the first only.
    pub(crate) fn read_into(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        if self.tls.is_none() {
            let len = read_plain(&mut self.socket, &mut self.ready, buffers)?;
            return if len == 0 && self.write_failed { Err(io::ErrorKind::ConnectionReset.into()) } else { Ok(len) };
        }
        buffers.first_mut().map_or(Ok(0), |first| self.read(first))
    }

    /// Reads. `WouldBlock` means that the next byte comes with an event.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else {
            return self.read_into(&mut [IoSliceMut::new(buffer)]);
        };
        for _ in 0..FILLS_MAX {
            match tls.connection.reader().read(buffer) {
                Ok(len) => {
                    // What exactly fills the buffer may have more behind it; asking again is the only way to know.
                    tls.plaintext_pending = len == buffer.len();
                    return Ok(len);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => tls.plaintext_pending = false,
                Err(error) => return Err(error),
            }
            if !self.ready.readable || !tls.fill(&mut self.socket, &mut self.ready)? {
                return Err(io::ErrorKind::WouldBlock.into());
            }
        }
        Err(io::Error::new(io::ErrorKind::InvalidData, "it sends TLS records without end and no data in them"))
    }

    /// Writes what there is room for. `WouldBlock` means that the next room comes with an event.
    pub(crate) fn write<'a>(&mut self, chunks: impl Iterator<Item = &'a [u8]>) -> io::Result<usize> {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let mut count = 0;
        for (slice, chunk) in slices.iter_mut().zip(chunks) {
            *slice = IoSlice::new(chunk);
            count += 1;
        }
        let mut slices = &mut slices[..count];
        if self.tls.is_none() {
            let written = write_plain(&mut self.socket, &mut self.ready, slices);
            // A broken pipe is what a peer leaves that had ended in good order before.
            let harmless = [io::ErrorKind::WouldBlock, io::ErrorKind::BrokenPipe];
            self.write_failed |= written.as_ref().is_err_and(|error| !harmless.contains(&error.kind()));
            return written;
        }
        let wanted: usize = slices.iter().map(|slice| slice.len()).sum();
        let mut taken = 0;
        loop {
            let Some(tls) = &mut self.tls else { return Ok(taken) };
            let len = tls.connection.writer().write_vectored(slices)?;
            taken += len;
            tls.writer_full = taken < wanted;
            let made_room = self.flush()?;
            if taken == wanted || (taken > 0 && !made_room) {
                return Ok(taken);
            }
            if !made_room {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            IoSlice::advance_slices(&mut slices, len);
        }
    }

    /// Moves encrypted bytes to the socket. True when that made room for a writer that had been full.
    pub(crate) fn flush(&mut self) -> io::Result<bool> {
        let Some(tls) = &mut self.tls else { return Ok(false) };
        let mut moved = false;
        while tls.connection.wants_write() && self.ready.writable {
            match tls.connection.write_tls(&mut self.socket) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(_) => moved = true,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.ready.writable = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if tls.shutdown_due && !tls.connection.wants_write() {
            tls.shutdown_due = false;
            self.socket.shutdown(Shutdown::Write)?;
        }
        Ok(moved && std::mem::take(&mut tls.writer_full))
    }

    /// Whether everything that was written, and our end, is with the kernel.
    pub(crate) fn is_flushed(&self) -> bool {
        self.tls.as_ref().is_none_or(|tls| !tls.shutdown_due && !tls.connection.wants_write())
    }

    /// Bytes that the connection may hold in this process, an upper bound.
    pub(crate) fn held(&self) -> usize {
        let Some(tls) = &self.tls else { return 0 };
        let received = if tls.plaintext_pending || tls.records.is_incomplete() { RECEIVED_MAX } else { 0 };
        let written = if tls.connection.wants_write() { WRITER_MAX } else { 0 };
        let certificates = tls.certificates.saturating_sub(CERTIFICATES_IN_HELD);
        TLS_HELD + certificates + tls.unfinished().max(received) + written
    }

    /// Ends our direction, after what was written.
    pub(crate) fn shutdown_write(&mut self) -> io::Result<()> {
        let Some(tls) = &mut self.tls else { return self.socket.shutdown(Shutdown::Write) };
        tls.connection.send_close_notify();
        tls.shutdown_due = true;
        self.flush().map(|_| ())
    }

    /// Closes with a TCP reset, so that the upstream sees an abort and no clean end.
    pub(crate) fn abort(self) {
        // Without the option the close is an ordinary one; there is nobody left to tell.
        let _ = socket2::SockRef::from(&self.socket).set_linger(Some(std::time::Duration::ZERO));
    }
}

impl Tls {
    /// What messages of the handshake that are not whole yet may hold: no more than has come since anything else did.
    fn unfinished(&self) -> usize {
        let len = self.handshake_bytes.min(HANDSHAKE_BYTES_MAX);
        if self.connection.is_handshaking() || len > TICKETS_MAX { len } else { 0 }
    }

    /// Reads from the socket and decrypts; false when the socket had nothing.
    fn fill(&mut self, socket: &mut TcpStream, ready: &mut Ready) -> io::Result<bool> {
        match self.connection.read_tls(&mut self.records.follow(socket)) {
            // Later the reader tells it; during the handshake nothing would, and the next read finds the same.
            Ok(0) if self.connection.is_handshaking() => {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "closed during the TLS handshake"));
            }
            Ok(len) => self.handshake_bytes = self.handshake_bytes.saturating_add(len),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                ready.readable = false;
                return Ok(false);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(true),
            Err(error) => return Err(error),
        }
        let was_handshaking = self.connection.is_handshaking();
        if was_handshaking && self.handshake_bytes > HANDSHAKE_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "its handshake is longer than any that is in use"));
        }
        match self.connection.process_new_packets() {
            Ok(state) => {
                self.plaintext_pending = state.plaintext_bytes_to_read() > 0 || state.peer_has_closed();
                if self.plaintext_pending {
                    self.handshake_bytes = 0;
                }
                if was_handshaking && !self.connection.is_handshaking() {
                    self.handshake_bytes = 0;
                    let certificates = self.connection.peer_certificates().unwrap_or_default();
                    self.certificates = certificates.iter().map(|certificate| certificate.len()).sum();
                }
                Ok(true)
            }
            Err(error) => {
                // The alert that says why, if there is room for it.
                let _ = self.connection.write_tls(socket);
                Err(io::Error::new(io::ErrorKind::InvalidData, tls::in_words(&error)))
            }
        }
    }
}

fn read_plain(socket: &mut TcpStream, ready: &mut Ready, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
    let room = buffers.iter().map(|buffer| buffer.len()).sum();
    loop {
        if !ready.readable {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        match socket.read_vectored(buffers) {
            Ok(len) => {
                ready.after_read(len, room);
                return Ok(len);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.readable = false,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn write_plain(socket: &mut TcpStream, ready: &mut Ready, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    loop {
        if !ready.writable {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        match socket.write_vectored(slices) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(len) => return Ok(len),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.writable = false,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// What an idle TLS connection holds: keys, [`CERTIFICATES_IN_HELD`] of the upstream's certificates, and 4 KiB for the
/// next record.
pub(crate) const TLS_HELD: usize = 12 * 1024;

/// Certificates of the usual length; what is longer is counted by its bytes.
pub(super) const CERTIFICATES_IN_HELD: usize = 4 * 1024;

/// Most bytes of an upstream's handshake: as many as rustls takes of one message, and several times what certificates
/// with keys that no quantum computer breaks will have. Later messages end at the limit of rustls, which is the same.
const HANDSHAKE_BYTES_MAX: usize = 64 * 1024;

/// Tickets and the like behind a handshake, or between data: whole messages, of which nothing is kept unread. They and
/// the rest of their read are within the 4 KiB of [`TLS_HELD`].
pub(super) const TICKETS_MAX: usize = 4 * 1024;

/// What rustls may hold of received bytes: a decrypted record, and the 4 KiB behind it that came in the same read; or a
/// record that is not complete yet.
const RECEIVED_MAX: usize = 20 * 1024;

/// Encrypted bytes that rustls may hold for one upstream: two records and their overhead.
const WRITER_MAX: usize = 36 * 1024;

/// Reads of the socket, each of 4 KiB at most, in which an upstream may send nothing but what TLS itself has to say (it
/// counts tickets by no limit): more would keep the loop from everybody else.
const FILLS_MAX: usize = 64;

/// Slices of one vectored write: a whole TLS record in pool blocks, and one more.
const SLICES_MAX: usize = 16;

#[cfg(test)]
mod tests;
