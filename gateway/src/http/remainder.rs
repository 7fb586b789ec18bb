//! The end of a request that its response must not overtake.
//!
//! HTTP/2 ends a request with a flag, often on a frame of its own behind the last byte. Whoever sends the request on by its
//! Content-Length is done before that frame is read. A response that ends first makes the server reset the stream, and
//! some clients take such a response for one that was cut short (curl until 8.0). So the end of the response waits for the
//! end of the request, where nothing but that flag is missing.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use http_body::Body;
use hyper::body::Incoming;
use tokio::time::Sleep;

use super::limits::REMAINDER_TIME;

/// What the request's side leaves and the response's side reads to its end.
#[derive(Clone, Debug, Default)]
pub(super) struct Remainder(Arc<Mutex<Option<Left>>>);

#[derive(Debug)]
struct Left {
    incoming: Incoming,
    limit: Option<Pin<Box<Sleep>>>,
}

impl Remainder {
    /// Leaves a body of which all bytes were read, and only the end was not.
    pub(super) fn leave(&self, incoming: Incoming) {
        *self.lock() = Some(Left { incoming, limit: None });
    }

    /// Whether there is nothing to wait for.
    pub(super) fn is_over(&self) -> bool {
        self.lock().as_ref().is_none_or(|left| left.incoming.is_end_stream())
    }

    /// Waits for the end, at most [`REMAINDER_TIME`] from the first call.
    pub(super) fn poll_over(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut slot = self.lock();
        let Some(left) = slot.as_mut() else { return Poll::Ready(()) };
        loop {
            match Pin::new(&mut left.incoming).poll_frame(cx) {
                // Trailers, or an empty piece: there is no byte more than Content-Length says.
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(Some(Err(_)) | None) => break,
                Poll::Pending => {
                    let limit = left.limit.get_or_insert_with(|| Box::pin(tokio::time::sleep(REMAINDER_TIME)));
                    if limit.as_mut().poll(cx).is_pending() {
                        return Poll::Pending;
                    }
                    break;
                }
            }
        }
        *slot = None;
        Poll::Ready(())
    }

    fn lock(&self) -> MutexGuard<'_, Option<Left>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
