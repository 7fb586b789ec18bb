//! Traffic Policy: the rules that decide what happens to a connection or a request before an agent sees it.
//!
//! A document is read and checked whole ([`Policy::parse`]); what it holds that this gateway cannot honour is an error and
//! never ignored, because an endpoint must not be published without its protection. The compiled [`Policy`] is shared
//! by all requests. A new action is one file in `actions` and one line in its table.

mod actions;
mod document;
mod error;
mod fields;
mod path;
mod phase;

use std::net::SocketAddr;
use std::sync::Arc;

use adit::endpoint_url::EndpointUrl;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};

pub use document::{DOCUMENT_BYTES_MAX, Place, RULES_MAX};
pub use error::{PolicyError, PolicyErrors};
pub use phase::Policy;

/// What a policy decided.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// No action ended the run: the traffic goes to the endpoint's own upstream.
    Continue,
    /// The traffic goes to this internal endpoint of the same account.
    Forward(Arc<EndpointUrl>),
    /// The traffic is refused: HTTP answers with this status and no body, TCP and TLS close.
    Deny {
        /// The status for HTTP.
        status: StatusCode,
    },
    /// The gateway answers by itself; only for HTTP.
    Respond(Arc<CustomResponse>),
}

/// The answer of a `custom-response` action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CustomResponse {
    /// The status, 200 to 599.
    pub status: StatusCode,
    /// The headers, `content-type` among them if there is a body.
    pub headers: HeaderMap,
    /// The body; empty means none.
    pub body: Bytes,
}

/// What is known of a connection before anything of it was read.
#[derive(Clone, Copy, Debug)]
pub struct Connection<'a> {
    /// The visitor's own address.
    pub peer: SocketAddr,
    /// The address of ours that it connected to.
    pub local: SocketAddr,
    /// The endpoint whose policy runs.
    pub endpoint: &'a EndpointUrl,
}

/// What is known of an HTTP request once its head has been read. Actions may change the head.
#[derive(Debug)]
pub struct Request<'a> {
    /// The connection that it came on.
    pub connection: Connection<'a>,
    /// Its head, as it will go to the agent.
    pub head: &'a mut http::request::Parts,
}
