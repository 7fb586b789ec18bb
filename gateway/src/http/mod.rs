//! HTTP for visitors: public `http://` and `https://` connections in, requests out through proxy streams to agents.
//!
//! hyper speaks HTTP on both sides; this module decides what goes through. Each request gets a proxy stream of its own (an
//! idle one of the same connection, or a new one), is written anew from its parsed head, and its body and the response
//! stream through without being collected anywhere.

pub mod reach;

mod body;
mod callback;
mod compress;
mod drain;
mod errand;
mod exchange;
mod failure;
mod guard;
mod headers;
mod inbound;
mod io;
mod limits;
mod payload;
mod recorded;
mod remainder;
mod serve;
mod stay;
mod tunnel;
mod upstream;

use std::sync::Arc;

use adit::endpoint_url::Scheme;

use crate::route::Refusal;
use crate::tls::Session;

pub(crate) use headers::is_own_header;
pub use limits::Limits;
pub use serve::{Ending, serve};

use failure::Failure;
use reach::{OpenError, Visitor};

/// The number of the ERR_NGROK code with which HTTP would answer where there is no place to go.
pub(crate) fn refusal_code(refusal: &Refusal) -> Option<u32> {
    Failure::from(refusal.clone()).code()
}

/// The number of the ERR_NGROK code with which HTTP would answer where no stream can be opened.
pub(crate) fn open_code(error: OpenError) -> Option<u32> {
    Failure::from(error).code()
}

/// ERR_NGROK_8012: the agent did not reach the service behind it.
pub(crate) const UPSTREAM_DOWN: u32 = 8012;

/// How a visitor's connection came in.
#[derive(Clone, Debug)]
pub struct Front {
    /// Who came, and where to.
    pub visitor: Visitor,
    /// The TLS that ended in front of it.
    pub tls: Option<Arc<Session>>,
    /// [`Scheme::Https`] behind TLS, else [`Scheme::Http`].
    pub scheme: Scheme,
    /// Which version of HTTP it speaks.
    pub protocol: Protocol,
    /// What it may cost.
    pub limits: Limits,
}

/// Which version of HTTP a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1 or HTTP/1.0: ALPN said `http/1.1` or nothing.
    Http1,
    /// HTTP/2: ALPN said `h2`.
    Http2,
    /// There was no ALPN: HTTP/2 if the connection begins with its preface, else HTTP/1.1.
    Detect,
}
