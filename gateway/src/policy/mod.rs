//! Traffic Policy: the rules that decide what happens to a connection or a request before an agent sees it.
//!
//! A document is read and checked whole ([`Policy::parse`]); what it holds that this gateway cannot honour is an error and
//! never ignored, because an endpoint must not be published without its protection. The compiled [`Policy`] is shared
//! by all requests. A new action is one file in `actions` and one line in its table.

mod actions;
mod course;
mod decided;
mod document;
mod errand;
mod error;
pub mod explain;
mod expression;
mod fields;
mod held;
pub mod legacy;
mod lookup;
mod mask;
mod networks;
mod outside;
mod own;
mod path;
mod payload;
mod phase;
mod place;
mod public_address;
mod run;
mod template;
mod withheld;

use std::net::SocketAddr;
use std::sync::Arc;

use adit::endpoint_url::{EndpointUrl, Scheme};
use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use crate::tls::{Session, Termination};

pub use actions::Compression;
pub(crate) use actions::DIGESTS;
pub use course::Course;
pub use decided::Decided;
pub use document::{DOCUMENT_BYTES_MAX, RULES_MAX};
pub(crate) use errand::has_body;
pub use errand::{Asking, ERRAND_HOPS, ERRAND_HOPS_MAX, ERRAND_LOOP, ErrandFault, Errands, REPLY_BYTES_MAX};
pub use error::{PolicyError, PolicyErrors};
pub(crate) use lookup::Payer;
pub use mask::Mask;
pub(crate) use outside::{OutsideFault, Reach, ask_trusting, public_trust, trusting};
pub use own::{Own, Vaults};
pub use payload::{Bodyless, PAYLOAD_BYTES_MAX, Payload, PayloadFault, Reading, Whole};
pub use phase::{BeforeTls, Policy, Position};
pub use place::Place;
pub use run::{State, Tools};
pub use withheld::Withheld;

/// The number of the ERR_NGROK code of who is not logged in, as the reference has it.
pub const NOT_LOGGED_IN: u32 = 3101;

/// What a policy decided.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// No action ended the run: the traffic goes to the endpoint's own upstream.
    Continue,
    /// The traffic goes to this internal endpoint of the same account.
    Forward {
        /// Where to.
        url: Arc<EndpointUrl>,
        /// Where the policy goes on when the endpoint cannot be reached; `None`: that is the end.
        on_error: Option<Position>,
    },
    /// The traffic is refused: HTTP answers with this status and no body, TCP and TLS close.
    Deny {
        /// The status for HTTP.
        status: StatusCode,
    },
    /// The traffic is refused with a reason: HTTP answers with a page that has it, TCP and TLS close.
    Refuse(Box<Refused>),
    /// The gateway answers by itself; only for HTTP.
    Respond(Arc<CustomResponse>),
    /// The connection is closed without an answer.
    Close,
    /// The visitor's TLS ends here before anything else is decided; not behind its end.
    TerminateTls {
        /// How it ends.
        termination: Arc<Termination>,
        /// Where the policy goes on then.
        then: Position,
    },
}

/// A refusal that says why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The status for HTTP.
    pub status: StatusCode,
    /// The number of its ERR_NGROK code.
    pub code: u32,
    /// What the visitor is told.
    pub message: &'static str,
    /// Headers of the answer.
    pub headers: HeaderMap,
    /// What only the log is told. Never a secret.
    pub reason: Option<String>,
    /// The path at which the visitor may try again.
    pub retry: Option<String>,
}

impl Refused {
    /// A refusal without headers.
    #[must_use]
    pub fn new(status: StatusCode, code: u32, message: &'static str) -> Self {
        Self { status, code, message, headers: HeaderMap::new(), reason: None, retry: None }
    }
}

/// An answer of the gateway's own that a policy wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CustomResponse {
    /// The status, 200 to 599.
    pub status: StatusCode,
    /// The headers, `content-type` among them if there is a body.
    pub headers: HeaderMap,
    /// The body; empty means none.
    pub body: Bytes,
}

impl CustomResponse {
    /// A response of a status alone.
    #[must_use]
    pub fn empty(status: StatusCode) -> Self {
        Self { status, headers: HeaderMap::new(), body: Bytes::new() }
    }
}

/// How a body is compressed on its way to the visitor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// RFC 1952.
    Gzip,
    /// RFC 1950: HTTP's `deflate` is in zlib's format.
    Deflate,
    /// RFC 7932.
    Brotli,
}

impl Coding {
    /// Its name in `Content-Encoding`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
            Self::Brotli => "br",
        }
    }
}

/// What is known of a connection before anything of it was read.
#[derive(Clone, Copy, Debug)]
pub struct Connection<'a> {
    /// The visitor's own address.
    pub peer: SocketAddr,
    /// The address of ours that it connected to.
    pub local: SocketAddr,
    /// How the visitor speaks.
    pub scheme: Scheme,
    /// The endpoint whose policy runs.
    pub endpoint: &'a EndpointUrl,
    /// Its TLS, as far as the gateway sees it.
    pub tls: Tls<'a>,
    /// The id that its agent knows it by, if an agent has bound it.
    pub bind: Option<&'a str>,
    /// How the connection has gone so far, if somebody keeps count.
    pub course: Option<&'a Course>,
}

/// The TLS of a connection, as far as the gateway sees it.
#[derive(Clone, Copy, Debug)]
pub enum Tls<'a> {
    /// There is none, or nothing is known of it.
    Unknown,
    /// The client has begun, and has asked for a server of this name.
    Begun(Option<&'a str>),
    /// It ends here.
    Ended(&'a Session),
}

/// What is known of an HTTP request once its head has been read. Actions may change the head.
#[derive(Debug)]
pub struct Request<'a> {
    /// The connection that it came on.
    pub connection: Connection<'a>,
    /// Its head, as it will go to the agent, with its `host` among the headers.
    pub head: &'a mut http::request::Parts,
}

/// What is known of a response once its head has been read. Actions may change the head.
#[derive(Debug)]
pub struct Response<'a> {
    /// The connection that the request came on.
    pub connection: Connection<'a>,
    /// The head of the request, as it went to the agent.
    pub request: &'a http::request::Parts,
    /// The head of the response, as it will go to the visitor.
    pub head: &'a mut http::response::Parts,
}
