//! Which headers go through, which do not, and which are added.

use http::HeaderName;

/// True for the two headers by which clients tell the gateway's own failures from the answers of an upstream.
pub(crate) fn is_failure_header(name: &HeaderName) -> bool {
    *name == ADIT_ERROR_CODE || *name == NGROK_ERROR_CODE
}

/// Our own name for the error code.
pub(crate) const ADIT_ERROR_CODE: HeaderName = HeaderName::from_static("adit-error-code");

/// The name that clients of ngrok's service look for.
pub(crate) const NGROK_ERROR_CODE: HeaderName = HeaderName::from_static("ngrok-error-code");
