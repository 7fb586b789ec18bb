//! Compresses a response's body while it passes.
//!
//! flate2 and brotli are called on the pieces as they come: a body here is already a stream of pieces in memory, so the
//! wrappers that make compressors of readers and writers would only add copies, and take away the say over when to flush.

use std::fmt;
use std::io::{self, Write};
use std::task::{Context, Poll};

use brotli::CompressorWriter;
use bytes::Bytes;
use flate2::write::{GzEncoder, ZlibEncoder};
use http::HeaderMap;
use http::header::ETAG;
use http_body::Frame;

use super::body::Broken;
use crate::policy::{Coding, Compression, DIGESTS};

/// The compressor of one body.
///
/// What has been compressed is given out as soon as there is nothing more to read for the moment, so that events and
/// answers in pieces go on. Beside the compressor itself it holds one piece of the body.
pub(super) struct Compressor {
    /// `None` once it has ended.
    encoder: Option<Encoder>,
    input: Bytes,
    /// Something was put in that has not come out yet.
    is_dirty: bool,
    trailers: Option<HeaderMap>,
    _compression: Compression,
}

type Piece = Option<Result<Frame<Bytes>, Broken>>;

impl Compressor {
    pub(super) fn new(compression: Compression) -> Self {
        let encoder = Some(Encoder::new(compression.coding));
        let input = Bytes::new();
        Self { encoder, input, is_dirty: false, trailers: None, _compression: compression }
    }

    /// The next piece of the compressed body; `source` gives those of the body itself.
    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
        mut source: impl FnMut(&mut Context<'_>) -> Poll<Piece>,
    ) -> Poll<Piece> {
        let mut work = 0_usize;
        loop {
            let Some(encoder) = &mut self.encoder else {
                return Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))));
            };
            if !self.input.is_empty() {
                let piece = self.input.split_to(self.input.len().min(PIECE_BYTES_MAX));
                work = work.saturating_add(piece.len());
                self.is_dirty = true;
                match encoder.push(&piece) {
                    Ok(out) if !out.is_empty() => return Poll::Ready(Some(Ok(Frame::data(out)))),
                    Ok(_) => continue,
                    Err(error) => return Poll::Ready(self.fail(&error)),
                }
            }
            if work >= WORK_BYTES_MAX {
                // What compresses this well would else keep the others of this thread waiting.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            match source(cx) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => self.input = data,
                    Err(frame) => {
                        self.trailers = frame.into_trailers().ok().map(without_digests);
                        return Poll::Ready(self.finish());
                    }
                },
                Poll::Ready(Some(Err(broken))) => {
                    self.encoder = None;
                    return Poll::Ready(Some(Err(broken)));
                }
                Poll::Ready(None) => return Poll::Ready(self.finish()),
                Poll::Pending if self.is_dirty => {
                    self.is_dirty = false;
                    return match encoder.flush() {
                        Ok(out) if out.is_empty() => Poll::Pending,
                        Ok(out) => Poll::Ready(Some(Ok(Frame::data(out)))),
                        Err(error) => Poll::Ready(self.fail(&error)),
                    };
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// True when there is nothing more to come.
    pub(super) fn is_over(&self) -> bool {
        self.encoder.is_none() && self.trailers.is_none()
    }

    fn finish(&mut self) -> Piece {
        match self.encoder.take()?.finish() {
            Ok(out) => Some(Ok(Frame::data(out))),
            Err(error) => self.fail(&error),
        }
    }

    fn fail(&mut self, error: &io::Error) -> Piece {
        tracing::warn!(%error, "a response could not be compressed");
        (self.encoder, self.trailers) = (None, None);
        Some(Err(Broken))
    }
}

/// Trailers without what they say of the bytes before they were compressed.
fn without_digests(mut trailers: HeaderMap) -> HeaderMap {
    for name in &DIGESTS {
        trailers.remove(name);
    }
    trailers.remove(ETAG);
    trailers
}

impl fmt::Debug for Compressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compressor").field("is_dirty", &self.is_dirty).finish_non_exhaustive()
    }
}

/// What comes out is collected in a buffer that is emptied after every call.
enum Encoder {
    Gzip(GzEncoder<Vec<u8>>),
    Deflate(ZlibEncoder<Vec<u8>>),
    Brotli(Box<CompressorWriter<Vec<u8>>>),
}

impl Encoder {
    fn new(coding: Coding) -> Self {
        let level = flate2::Compression::new(DEFLATE_LEVEL);
        match coding {
            Coding::Gzip => Self::Gzip(GzEncoder::new(Vec::new(), level)),
            Coding::Deflate => Self::Deflate(ZlibEncoder::new(Vec::new(), level)),
            Coding::Brotli => {
                let writer = CompressorWriter::new(Vec::new(), BROTLI_BUFFER_BYTES, BROTLI_QUALITY, BROTLI_WINDOW_BITS);
                Self::Brotli(Box::new(writer))
            }
        }
    }

    fn push(&mut self, piece: &[u8]) -> io::Result<Bytes> {
        match self {
            Self::Gzip(encoder) => encoder.write_all(piece)?,
            Self::Deflate(encoder) => encoder.write_all(piece)?,
            Self::Brotli(encoder) => encoder.write_all(piece)?,
        }
        Ok(self.take())
    }

    /// Lets everything out that was put in.
    fn flush(&mut self) -> io::Result<Bytes> {
        match self {
            Self::Gzip(encoder) => encoder.flush()?,
            Self::Deflate(encoder) => encoder.flush()?,
            Self::Brotli(encoder) => encoder.flush()?,
        }
        Ok(self.take())
    }

    fn finish(self) -> io::Result<Bytes> {
        let out = match self {
            Self::Gzip(encoder) => encoder.finish()?,
            Self::Deflate(encoder) => encoder.finish()?,
            Self::Brotli(encoder) => encoder.into_inner(),
        };
        Ok(out.into())
    }

    fn take(&mut self) -> Bytes {
        let out = match self {
            Self::Gzip(encoder) => encoder.get_mut(),
            Self::Deflate(encoder) => encoder.get_mut(),
            Self::Brotli(encoder) => encoder.get_mut(),
        };
        std::mem::take(out).into()
    }
}

/// What is compressed in one go: some hundred microseconds of work, and so much memory at most for what comes out.
const PIECE_BYTES_MAX: usize = 16 * 1024;
/// What is compressed without anything coming out before others get their turn.
const WORK_BYTES_MAX: usize = 64 * 1024;
/// Nine tenths of what level 9 saves, in a third of its time.
const DEFLATE_LEVEL: u32 = 4;
/// As fast as gzip, and smaller; higher ones are for files that are compressed once.
const BROTLI_QUALITY: u32 = 4;
/// A window of 256 KiB: responses are rarely larger, and the largest windows cost 16 MiB each.
const BROTLI_WINDOW_BITS: u32 = 18;
const BROTLI_BUFFER_BYTES: usize = 4096;

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    const CODINGS: [Coding; 3] = [Coding::Gzip, Coding::Deflate, Coding::Brotli];

    fn unpacked(coding: Coding, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        match coding {
            Coding::Gzip => flate2::read::GzDecoder::new(bytes).read_to_end(&mut out).unwrap(),
            Coding::Deflate => flate2::read::ZlibDecoder::new(bytes).read_to_end(&mut out).unwrap(),
            Coding::Brotli => brotli::Decompressor::new(bytes, 4096).read_to_end(&mut out).unwrap(),
        };
        out
    }

    #[test]
    fn what_goes_in_comes_out_whatever_the_pieces() {
        let text: Vec<u8> =
            (0..50_000_u32).flat_map(|number| (number * number % 9973).to_string().into_bytes()).collect();
        for coding in CODINGS {
            let mut encoder = Encoder::new(coding);
            let mut out = Vec::new();
            for piece in text.chunks(7777) {
                out.extend_from_slice(&encoder.push(piece).unwrap());
            }
            out.extend_from_slice(&encoder.finish().unwrap());
            assert!(out.len() < text.len() * 2 / 3, "{coding:?}: {}", out.len());
            assert_eq!(unpacked(coding, &out), text, "{coding:?}");
        }
    }

    #[test]
    fn trailers_say_nothing_of_bytes_that_are_not_sent() {
        let mut trailers = HeaderMap::new();
        for name in ["content-digest", "repr-digest", "digest", "content-md5", "etag", "x-checked"] {
            trailers.insert(name, http::HeaderValue::from_static("1"));
        }
        let left = without_digests(trailers);
        assert_eq!(left.keys().map(http::HeaderName::as_str).collect::<Vec<_>>(), ["x-checked"]);
    }

    #[test]
    fn nothing_at_all_is_a_valid_body() {
        for coding in CODINGS {
            assert_eq!(unpacked(coding, &Encoder::new(coding).finish().unwrap()), b"", "{coding:?}");
        }
    }

    #[test]
    fn flushed_bytes_can_be_read_before_the_end() {
        for coding in CODINGS {
            let mut encoder = Encoder::new(coding);
            let mut out = encoder.push(b"data: 1\n\n").unwrap().to_vec();
            out.extend_from_slice(&encoder.flush().unwrap());
            let mut read = [0; 9];
            match coding {
                Coding::Gzip => flate2::read::GzDecoder::new(&out[..]).read_exact(&mut read).unwrap(),
                Coding::Deflate => flate2::read::ZlibDecoder::new(&out[..]).read_exact(&mut read).unwrap(),
                Coding::Brotli => brotli::Decompressor::new(&out[..], 4096).read_exact(&mut read).unwrap(),
            }
            assert_eq!(&read, b"data: 1\n\n", "{coding:?}");
        }
    }
}
