//! The body of a request, for the actions that have to read it before it is passed on.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;

/// A body that can be read ahead. What was read stays there, and is passed on unchanged.
pub trait Payload: fmt::Debug + Send + Sync {
    /// Reads the body to its end, or gives what was read before. What it takes counts as that account's. One of more bytes than
    /// this, or than [`PAYLOAD_BYTES_MAX`], is not read.
    fn read_at_most<'a>(&'a self, account: &'a Arc<str>, bytes_max: usize) -> Reading<'a>;

    /// The same for whoever takes whatever can be read.
    fn read<'a>(&'a self, account: &'a Arc<str>) -> Reading<'a> {
        self.read_at_most(account, PAYLOAD_BYTES_MAX)
    }
}

/// A body that is there already.
#[derive(Clone, Debug, Default)]
pub struct Whole(pub Bytes);

impl Payload for Whole {
    fn read_at_most<'a>(&'a self, _account: &'a Arc<str>, bytes_max: usize) -> Reading<'a> {
        let is_short = self.0.len() <= bytes_max;
        Box::pin(std::future::ready(if is_short { Ok(self.0.clone()) } else { Err(PayloadFault::TooLong) }))
    }
}

/// Among the extensions of a request's head: the request has no body at all, whatever its headers leave open.
#[derive(Clone, Copy, Debug)]
pub struct Bodyless;

/// A body on its way.
pub type Reading<'a> = Pin<Box<dyn Future<Output = Result<Bytes, PayloadFault>> + Send + 'a>>;

/// Why a body cannot be read ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PayloadFault {
    /// It has more than [`PAYLOAD_BYTES_MAX`] bytes, or more than whoever asks for it takes.
    TooLong,
    /// It did not come in time.
    Late,
    /// The visitor broke off.
    Broken,
    /// Too many bodies are held already, by the account or by all of them.
    Busy,
}

impl fmt::Display for PayloadFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => f.write_str("the body is too long"),
            Self::Late => f.write_str("the body did not come in time"),
            Self::Broken => f.write_str("the body broke off"),
            Self::Busy => f.write_str("the bodies of too many requests are held already"),
        }
    }
}

impl std::error::Error for PayloadFault {}

/// Bytes of one body that are read ahead: messages of webhooks have some kilobytes.
pub const PAYLOAD_BYTES_MAX: usize = 1024 * 1024;
