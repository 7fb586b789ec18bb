//! Requests that a policy sends on its own account, to learn something about the request that it judges.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use adit::endpoint_url::EndpointUrl;
use bytes::Bytes;
use http::{HeaderName, Method, Request, Response};

/// The way to other endpoints.
pub trait Errands: fmt::Debug + Send + Sync {
    /// Sends a request to an internal endpoint of an account, through the policy of that endpoint, and waits for the whole
    /// reply, of which at most [`REPLY_BYTES_MAX`] bytes are taken. The caller sets the time.
    fn inside<'a>(&'a self, account: &'a str, url: &'a EndpointUrl, request: Request<Bytes>) -> Asking<'a>;

    /// How many requests of policies have led to the one that is judged now.
    fn hops(&self) -> u8;

    /// Whether requests may leave the gateway for the public internet.
    fn may_go_outside(&self) -> bool;
}

/// A request on its way.
pub type Asking<'a> = Pin<Box<dyn Future<Output = Result<Response<Bytes>, ErrandFault>> + Send + 'a>>;

/// Why there is no reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrandFault {
    /// The number of its ERR_NGROK code.
    pub code: u32,
    /// What went wrong.
    pub reason: String,
}

impl ErrandFault {
    /// A fault with its code.
    pub fn new(code: u32, reason: impl Into<String>) -> Self {
        Self { code, reason: reason.into() }
    }

    /// There is no further request, because policies ask each other in a circle.
    #[must_use]
    pub fn circle() -> Self {
        Self::new(ERRAND_LOOP, format!("policies ask each other more than {ERRAND_HOPS_MAX} times in a row"))
    }

    /// The reply has too many bytes.
    #[must_use]
    pub fn too_long() -> Self {
        Self::new(REPLY_TOO_LONG, format!("the reply has more than {REPLY_BYTES_MAX} bytes"))
    }
}

impl fmt::Display for ErrandFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for ErrandFault {}

/// Whether a request of this method says how long its body is even if it has none (RFC 9110, 8.6).
pub(crate) fn has_body(method: &Method) -> bool {
    [Method::POST, Method::PUT, Method::PATCH].contains(method)
}

/// Bytes of one reply, as in ngrok's reference.
pub const REPLY_BYTES_MAX: usize = 256 * 1024;
/// Requests that come of requests of policies: from the third on it is taken for a circle, as in ngrok's reference.
pub const ERRAND_HOPS_MAX: u8 = 3;
/// Says in a request of a policy how many such requests have led to it, itself among them: so a circle is noticed also
/// where it leads through the public internet, or through an agent's service that passes headers on.
pub const ERRAND_HOPS: HeaderName = HeaderName::from_static("adit-hops");
/// ERR_NGROK_3210: there is no usable reply.
pub(super) const ERRAND_FAILED: u32 = 3210;
/// ERR_NGROK_3601: the reply is too long.
pub(super) const REPLY_TOO_LONG: u32 = 3601;
/// ERR_NGROK_3602: the reply did not come in time.
pub(super) const REPLY_LATE: u32 = 3602;
/// ERR_NGROK_3603: policies ask each other in a circle.
pub const ERRAND_LOOP: u32 = 3603;
