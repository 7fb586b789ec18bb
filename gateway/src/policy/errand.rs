//! Requests that a policy sends on its own account, to learn something about the request that it judges.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use adit::endpoint_url::EndpointUrl;
use bytes::Bytes;
use http::{Request, Response};

/// The way to other endpoints.
pub trait Errands: fmt::Debug + Send + Sync {
    /// Sends a request to an internal endpoint of an account, through the policy of that endpoint, and waits for the whole
    /// reply, of which at most [`REPLY_BYTES_MAX`] bytes are taken. The caller sets the time.
    fn inside<'a>(&'a self, account: &'a str, url: &'a EndpointUrl, request: Request<Bytes>) -> Asking<'a>;

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

/// Bytes of one reply, as in ngrok's reference.
pub const REPLY_BYTES_MAX: usize = 256 * 1024;
/// Requests that come of requests of policies: from the third on it is taken for a circle, as in ngrok's reference.
pub const ERRAND_HOPS_MAX: u8 = 3;
/// ERR_NGROK_3210: there is no usable reply.
pub(super) const ERRAND_FAILED: u32 = 3210;
/// ERR_NGROK_3601: the reply is too long.
pub(super) const REPLY_TOO_LONG: u32 = 3601;
/// ERR_NGROK_3602: the reply did not come in time.
pub(super) const REPLY_LATE: u32 = 3602;
/// ERR_NGROK_3603: policies ask each other in a circle.
pub const ERRAND_LOOP: u32 = 3603;
