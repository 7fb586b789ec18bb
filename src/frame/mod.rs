//! muxado frames: the eight-byte header, the four frame types and their error codes.
//!
//! `encode` writes frames, `decode` reads them from any chunking without allocating. Neither knows what a stream is:
//! rules that need state (who may open which id, windows) belong to `mux`.

mod decode;
mod encode;

pub use decode::{DecodeError, Decoder, Item};
pub use encode::{DataFlag, credit, data_header, go_away, reset};

/// Length of every frame header in bytes.
pub const HEADER_LEN: usize = 8;

/// Longest body that the 24-bit length field can announce, in bytes.
pub const BODY_LEN_MAX: u32 = 0x00ff_ffff;

/// Largest stream id: ids have 31 bits, the top bit is reserved.
pub const STREAM_ID_MAX: u32 = 0x7fff_ffff;

/// Largest increment that one WNDINC carries: 31 bits.
pub const INCREMENT_MAX: u32 = 0x7fff_ffff;

const TYPE_RST: u8 = 0;
const TYPE_DATA: u8 = 1;
const TYPE_WNDINC: u8 = 2;
const TYPE_GOAWAY: u8 = 3;

const FLAG_FIN: u8 = 0x1;
const FLAG_SYN: u8 = 0x2;

/// The error code of a RST or GOAWAY frame. Any value may arrive; the known ones have names.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ErrorCode(pub u32);

impl ErrorCode {
    /// An orderly end of the session.
    pub const NO_ERROR: Self = Self(0x00);
    /// Bad parity, stream id zero, increment zero.
    pub const PROTOCOL_ERROR: Self = Self(0x01);
    /// The sender failed for a reason of its own.
    pub const INTERNAL_ERROR: Self = Self(0x02);
    /// More data than the window allowed.
    pub const FLOW_CONTROL_ERROR: Self = Self(0x03);
    /// Data for a stream that is gone.
    pub const STREAM_CLOSED: Self = Self(0x04);
    /// The new stream was not accepted.
    pub const STREAM_REFUSED: Self = Self(0x05);
    /// The stream was aborted by its user.
    pub const STREAM_CANCELLED: Self = Self(0x06);
    /// A frame whose length cannot be right.
    pub const FRAME_SIZE_ERROR: Self = Self(0x08);
    /// The sender of this code ran into a limit because of what the peer did.
    pub const ENHANCE_YOUR_CALM: Self = Self(0x0a);
    /// The upstream behind the agent could not be reached. Ours alone: sent only to a peer that announced `Extra.Adit`.
    pub const UPSTREAM_UNREACHABLE: Self = Self(0xa001);

    /// The specified name, where there is one.
    pub fn name(self) -> &'static str {
        match self.0 {
            0x00 => "no error",
            0x01 => "protocol error",
            0x02 => "internal error",
            0x03 => "flow control error",
            0x04 => "stream closed",
            0x05 => "stream refused",
            0x06 => "stream cancelled",
            0x07 => "stream reset",
            0x08 => "frame size error",
            0x09 => "accept queue full",
            0x0a => "enhance your calm",
            0x0b => "remote gone away",
            0x0c => "streams exhausted",
            0x0d => "write timeout",
            0x0e => "session closed",
            0x0f => "peer end of file",
            0xa001 => "upstream unreachable",
            _ => "unknown error",
        }
    }
}

impl std::fmt::Debug for ErrorCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({:#x})", self.name(), self.0)
    }
}

impl std::fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
