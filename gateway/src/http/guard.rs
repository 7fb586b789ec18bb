//! Refuses HTTP/1.1 input that two parsers could read differently, before the server parses it.
//!
//! Request smuggling needs a proxy and an upstream that disagree about where a request ends. The gateway never passes bytes
//! on as they came (it writes each request anew), and on top of that it takes no request whose length can be
//! argued about: `Content-Length` beside `Transfer-Encoding`, either of them twice, any coding but `chunked`, line ends
//! other than CR LF, folded lines, spaces around names, and sloppy chunks. hyper tolerates some of these, as the RFC allows.
//!
//! The guard follows the bytes of a connection without changing them. At the first wrong byte it hands the server a byte
//! that no grammar allows, so that the answer is hyper's `400` and the connection ends.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// One HTTP/1.1 connection whose input is checked on its way in.
#[derive(Debug)]
pub(super) struct Guard<IO> {
    io: IO,
    scan: Scan,
    /// Set once the connection speaks another protocol; nothing is checked then.
    switched: Arc<AtomicBool>,
    head_time: Duration,
    /// Runs while a head is incomplete.
    deadline: Option<Pin<Box<Sleep>>>,
    refused: Option<Refused>,
}

/// How far a refusal has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refused {
    /// Within a head: the server is to be handed a byte that makes it answer 400.
    Head,
    /// Within a body, or the byte has been handed over: there is nothing more to read.
    Over,
}

impl<IO> Guard<IO> {
    /// Checks what is read from `io`. The first head has to be complete `head_time` from now, later ones from their
    /// first byte.
    pub(super) fn new(io: IO, head_bytes_max: usize, head_time: Duration, switched: Arc<AtomicBool>) -> Self {
        let deadline = Some(Box::pin(tokio::time::sleep(head_time)));
        Self { io, scan: Scan::new(head_bytes_max), switched, head_time, deadline, refused: None }
    }

    fn check(&mut self, before: usize, buf: &mut ReadBuf<'_>) {
        let Some(bytes) = buf.filled().get(before..) else {
            return;
        };
        if let Err(offset) = self.scan.push(bytes) {
            self.refused = Some(if self.scan.is_in_body() { Refused::Over } else { Refused::Head });
            buf.set_filled(before.saturating_add(offset));
            return;
        }
        if !self.scan.is_in_head() {
            self.deadline = None;
        } else if self.deadline.is_none() {
            self.deadline = Some(Box::pin(tokio::time::sleep(self.head_time)));
        }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Guard<IO> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.switched.load(Ordering::Relaxed) {
            return Pin::new(&mut this.io).poll_read(cx, buf);
        }
        match this.refused {
            None => {}
            Some(Refused::Head) => {
                this.refused = Some(Refused::Over);
                buf.put_slice(POISON);
                return Poll::Ready(Ok(()));
            }
            Some(Refused::Over) => {
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "the request is malformed")));
            }
        }
        let before = buf.filled().len();
        match Pin::new(&mut this.io).poll_read(cx, buf) {
            Poll::Ready(Ok(())) => {
                this.check(before, buf);
                // Nothing filled would mean the end of the input; a refusal has to be said instead.
                if this.refused.is_some() && buf.filled().len() == before {
                    return self.poll_read(cx, buf);
                }
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                let Some(deadline) = &mut this.deadline else {
                    return Poll::Pending;
                };
                ready!(deadline.as_mut().poll(cx));
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the head of the request came too slowly")))
            }
        }
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Guard<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

/// Follows the framing of requests over any chunking of the input.
#[derive(Debug)]
struct Scan {
    state: State,
    head: Head,
    /// The current line of a head, of a chunk's size or of trailers, without its end.
    line: Vec<u8>,
    head_bytes_max: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In front of a request line or in the lines behind it.
    Head,
    /// This many bytes of a body are left.
    Body(u64),
    /// In the line with the size of a chunk.
    ChunkSize,
    /// This many bytes of a chunk are left.
    Chunk(u64),
    /// At the CR behind a chunk.
    ChunkCr,
    /// At the LF behind a chunk.
    ChunkLf,
    /// In the lines behind the last chunk; this many bytes of them so far.
    Trailers(usize),
    /// The head is longer than the server takes: it will refuse it by itself, with its own status.
    TooLong,
}

/// What the lines of the current head have said so far.
#[derive(Clone, Copy, Debug, Default)]
struct Head {
    has_request_line: bool,
    bytes: usize,
    length: Option<u64>,
    is_chunked: bool,
    is_http10: bool,
}

impl Scan {
    fn new(head_bytes_max: usize) -> Self {
        Self { state: State::Head, head: Head::default(), line: Vec::new(), head_bytes_max }
    }

    /// True while a head has begun and is not complete.
    fn is_in_head(&self) -> bool {
        match self.state {
            State::Head => self.head.has_request_line || !self.line.is_empty(),
            State::TooLong => true,
            State::Body(_)
            | State::ChunkSize
            | State::Chunk(_)
            | State::ChunkCr
            | State::ChunkLf
            | State::Trailers(_) => false,
        }
    }

    fn is_in_body(&self) -> bool {
        !matches!(self.state, State::Head | State::TooLong)
    }

    /// Takes the next bytes; an error is the offset of the first one that is not acceptable.
    fn push(&mut self, bytes: &[u8]) -> Result<(), usize> {
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            let used = self.step(rest).map_err(|used| at.saturating_add(used))?;
            at = at.saturating_add(used);
        }
        Ok(())
    }

    /// Takes at least one byte of `rest`, which is not empty.
    fn step(&mut self, rest: &[u8]) -> Result<usize, usize> {
        match self.state {
            State::TooLong => Ok(rest.len()),
            State::Body(left) => {
                let used = used(rest, left);
                self.state = match left.saturating_sub(used as u64) {
                    0 => State::Head,
                    left => State::Body(left),
                };
                Ok(used)
            }
            State::Chunk(left) => {
                let used = used(rest, left);
                self.state = match left.saturating_sub(used as u64) {
                    0 => State::ChunkCr,
                    left => State::Chunk(left),
                };
                Ok(used)
            }
            State::ChunkCr if rest.first() == Some(&b'\r') => {
                self.state = State::ChunkLf;
                Ok(1)
            }
            State::ChunkLf if rest.first() == Some(&b'\n') => {
                self.state = State::ChunkSize;
                Ok(1)
            }
            State::ChunkCr | State::ChunkLf => Err(0),
            State::Head | State::ChunkSize | State::Trailers(_) => self.take_line(rest),
        }
    }

    /// Collects a line and acts on it once it is complete.
    fn take_line(&mut self, rest: &[u8]) -> Result<usize, usize> {
        let end = rest.iter().position(|byte| *byte == b'\n');
        let used = end.map_or(rest.len(), |end| end.saturating_add(1));
        let limit = match self.state {
            State::ChunkSize => CHUNK_LINE_BYTES_MAX,
            _ => self.head_bytes_max,
        };
        let seen = match self.state {
            State::Head => self.head.bytes,
            State::Trailers(bytes) => bytes,
            _ => self.line.len(),
        };
        if seen.saturating_add(used) > limit {
            if self.state == State::Head {
                self.state = State::TooLong;
                return Ok(rest.len());
            }
            return Err(0);
        }
        match &mut self.state {
            State::Head => self.head.bytes = seen.saturating_add(used),
            State::Trailers(bytes) => *bytes = seen.saturating_add(used),
            _ => {}
        }
        self.line.extend_from_slice(rest.get(..used).unwrap_or_default());
        let Some(end) = end else {
            return Ok(used);
        };
        let mut line = std::mem::take(&mut self.line);
        let outcome = content(&line).and_then(|line| self.on_line(line));
        line.clear();
        self.line = line;
        outcome.map(|()| used).map_err(|Wrong| end)
    }

    fn on_line(&mut self, line: &[u8]) -> Result<(), Wrong> {
        match self.state {
            State::Head if !self.head.has_request_line => self.on_request_line(line),
            State::Head if line.is_empty() => self.on_head_end(),
            State::Head => self.on_header(line),
            State::ChunkSize => {
                self.state = match chunk_size(line)? {
                    0 => State::Trailers(0),
                    size => State::Chunk(size),
                };
                Ok(())
            }
            State::Trailers(_) if line.is_empty() => {
                self.state = State::Head;
                Ok(())
            }
            State::Trailers(_) => {
                let (name, _) = header(line)?;
                let is_framing = FRAMING.iter().any(|framing| name.eq_ignore_ascii_case(framing));
                if is_framing { Err(Wrong) } else { Ok(()) }
            }
            State::Body(_) | State::Chunk(_) | State::ChunkCr | State::ChunkLf | State::TooLong => Ok(()),
        }
    }

    fn on_request_line(&mut self, line: &[u8]) -> Result<(), Wrong> {
        if line.is_empty() {
            // An empty line in front of a request line is to be ignored (RFC 9112, 2.2); its bytes count, so there is an
            // end to it.
            return Ok(());
        }
        let mut words = line.split(|byte| *byte == b' ');
        let (Some(method), Some(target), Some(version), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(Wrong);
        };
        if !is_token(method) || target.is_empty() || !target.iter().all(u8::is_ascii_graphic) {
            return Err(Wrong);
        }
        self.head.is_http10 = match version {
            b"HTTP/1.1" => false,
            b"HTTP/1.0" => true,
            _ => return Err(Wrong),
        };
        self.head.has_request_line = true;
        Ok(())
    }

    fn on_header(&mut self, line: &[u8]) -> Result<(), Wrong> {
        let (name, value) = header(line)?;
        if name.eq_ignore_ascii_case(b"content-length") {
            let is_first = self.head.length.is_none() && !self.head.is_chunked;
            self.head.length = Some(length(value).filter(|_| is_first).ok_or(Wrong)?);
        }
        if name.eq_ignore_ascii_case(b"transfer-encoding") {
            let is_first = self.head.length.is_none() && !self.head.is_chunked;
            if !is_first || self.head.is_http10 || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Wrong);
            }
            self.head.is_chunked = true;
        }
        Ok(())
    }

    fn on_head_end(&mut self) -> Result<(), Wrong> {
        let head = std::mem::take(&mut self.head);
        self.state = match (head.is_chunked, head.length) {
            (true, _) => State::ChunkSize,
            (false, None | Some(0)) => State::Head,
            (false, Some(length)) => State::Body(length),
        };
        Ok(())
    }
}

/// The input is not acceptable.
#[derive(Debug, PartialEq, Eq)]
struct Wrong;

fn used(rest: &[u8], left: u64) -> usize {
    usize::try_from(left).map_or(rest.len(), |left| left.min(rest.len()))
}

/// A line without its end, which has to be CR LF, and without any other control character than a tab.
fn content(line: &[u8]) -> Result<&[u8], Wrong> {
    let content = line.strip_suffix(b"\r\n").ok_or(Wrong)?;
    let is_clean = content.iter().all(|byte| *byte == b'\t' || !byte.is_ascii_control());
    if is_clean { Ok(content) } else { Err(Wrong) }
}

/// Name and value of a header line; a folded line has no name.
fn header(line: &[u8]) -> Result<(&[u8], &[u8]), Wrong> {
    let colon = line.iter().position(|byte| *byte == b':').ok_or(Wrong)?;
    let (name, value) = line.split_at_checked(colon).ok_or(Wrong)?;
    if !is_token(name) {
        return Err(Wrong);
    }
    Ok((name, value.get(1..).unwrap_or_default().trim_ascii()))
}

fn is_token(name: &[u8]) -> bool {
    let is_token_byte = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !name.is_empty() && name.iter().all(is_token_byte)
}

/// Digits and nothing else: no sign, no list, no space.
fn length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// The size at the beginning of a chunk; an extension is ignored, but has to begin right behind the size.
fn chunk_size(line: &[u8]) -> Result<u64, Wrong> {
    let end = line.iter().position(|byte| *byte == b';').unwrap_or(line.len());
    let digits = line.get(..end).unwrap_or_default();
    if digits.is_empty() || digits.len() > CHUNK_DIGITS_MAX || !digits.iter().all(u8::is_ascii_hexdigit) {
        return Err(Wrong);
    }
    let digits = std::str::from_utf8(digits).map_err(|_| Wrong)?;
    u64::from_str_radix(digits, 16).map_err(|_| Wrong)
}

/// A byte that has no place in any head (neither in a method, a target, a version, a name nor a value), and the end of the
/// head, because hyper does not parse before there is one.
const POISON: &[u8] = b"\0\r\n\r\n";

/// Sixteen digits are 64 bits.
const CHUNK_DIGITS_MAX: usize = 16;

/// Sizes need 16 bytes; extensions are hardly ever used, and long ones only to keep a server busy.
const CHUNK_LINE_BYTES_MAX: usize = 1024;

/// What trailers must not say after the fact.
const FRAMING: [&[u8]; 4] = [b"content-length", b"transfer-encoding", b"host", b"trailer"];

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD_BYTES_MAX: usize = 1024;

    /// Follows the input in pieces of this size.
    fn scan(input: &[u8], piece: usize) -> Result<Scan, usize> {
        let mut scan = Scan::new(HEAD_BYTES_MAX);
        let mut at = 0;
        for bytes in input.chunks(piece) {
            scan.push(bytes).map_err(|offset| at + offset)?;
            at += bytes.len();
        }
        Ok(scan)
    }

    #[test]
    fn ordinary_requests_pass_in_any_chunking() {
        for input in [
            &b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..],
            b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            b"GET / HTTP/1.0\r\n\r\n",
            b"POST /x?y=z HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost:a\r\nTransfer-Encoding:\tChunked \r\n\r\n5\r\n\r\n0\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n00a;n=v\r\n0123456789\r\n0;x\r\nSum: 1\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\nX: \xff\xfe\r\nEmpty:\r\n\r\n",
        ] {
            for piece in 1..=input.len() {
                let scan = scan(input, piece).unwrap();
                assert!(!scan.is_in_head() && !scan.is_in_body(), "{}", input.escape_ascii());
            }
        }
    }

    #[test]
    fn input_that_can_be_read_in_two_ways_is_refused_in_any_chunking() {
        for input in [
            // Two lengths.
            &b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n"[..],
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nContent-Length: 4\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4, 4\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +4\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -4\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x4\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n",
            // Codings.
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \"chunked\"\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding\x0b: chunked\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\n\r\n",
            // Lines.
            b"GET / HTTP/1.1\nHost: a\n\n",
            b"GET / HTTP/1.1\r\nHost: a\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\n\n",
            b"GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n",
            b"GET / HTTP/1.1\r\n folded: a\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\0\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost\r\n\r\n",
            b"GET / HTTP/1.1\r\n: a\r\n\r\n",
            b"GET / HTTP/1.1\r\nHo st: a\r\n\r\n",
            b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
            b"GET /\tHTTP/1.1\r\nHost: a\r\n\r\n",
            b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
            b"GET / HTTP/1.2\r\nHost: a\r\n\r\n",
            b"GET /\r\n\r\n",
            b"PRI * HTTP/2.0\r\n\r\n",
            // Chunks.
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n 5\r\nhello\r\n0\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5 \r\nhello\r\n0\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\r\nhello\r\n0\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;a\nb\r\nhello\r\n0\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloX\r\n0\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\n0\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000000\r\n",
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
            // Trailers.
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 5\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n folded\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: b\n\r\n",
        ] {
            let whole = scan(input, input.len()).err();
            assert!(whole.is_some(), "{}", input.escape_ascii());
            for piece in 1..input.len() {
                assert_eq!(scan(input, piece).err(), whole, "{} in pieces of {piece}", input.escape_ascii());
            }
        }
    }

    #[test]
    fn body_is_not_looked_into() {
        let input = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 30\r\n\r\nGET / HTTP/1.1\nContent-Length: ";
        assert!(scan(input, 7).is_ok());
        assert!(!scan(input, 7).unwrap().is_in_body());
    }

    #[test]
    fn head_at_the_bound_passes_and_a_longer_one_is_left_to_the_server() {
        let head = |len: usize| {
            let frame = "GET / HTTP/1.1\r\nX: \r\n\r\n".len();
            format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(len - frame))
        };
        assert_eq!(scan(head(HEAD_BYTES_MAX).as_bytes(), 100).unwrap().state, State::Head);
        assert_eq!(scan(head(HEAD_BYTES_MAX + 1).as_bytes(), 100).unwrap().state, State::TooLong);
    }

    #[test]
    fn trailers_and_chunk_extensions_are_bounded() {
        let start = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        let extension = |len: usize| format!("{start}0;{}\r\n", "x".repeat(len - "0;\r\n".len()));
        assert!(scan(extension(CHUNK_LINE_BYTES_MAX).as_bytes(), 100).is_ok());
        assert!(scan(extension(CHUNK_LINE_BYTES_MAX + 1).as_bytes(), 100).is_err());
        let trailers = |len: usize| format!("{start}0\r\nX:{}\r\n\r\n", "x".repeat(len - "X:\r\n\r\n".len()));
        assert!(scan(trailers(HEAD_BYTES_MAX).as_bytes(), 100).is_ok());
        assert!(scan(trailers(HEAD_BYTES_MAX + 1).as_bytes(), 100).is_err());
    }
}
