//! Reads what is left of a request whose response has been made without it.
//!
//! A visitor whose upload is refused is often still sending. When the gateway stops reading, HTTP/1.1 has nothing left but
//! to close the connection, and a system that closes one with unread bytes resets it, which takes the response from the
//! visitor; HTTP/2 resets the stream, which some clients take for a response that was cut short (curl until 8.0). So
//! the rest is read and forgotten, within bounds.

use std::time::Duration;

use bytes::Bytes;
use http_body::Body;
use http_body_util::BodyExt;
use tokio::runtime::Handle;
use tokio::time::timeout;

/// Something of a request that nobody has read. When it is dropped, its draining begins.
#[derive(Debug)]
pub(super) struct Rest<B>(Option<B>)
where
    B: Body<Data = Bytes> + Send + Unpin + 'static;

impl<B: Body<Data = Bytes> + Send + Unpin + 'static> Rest<B> {
    pub(super) fn of(body: B) -> Self {
        Self(Some(body))
    }
}

impl<B: Body<Data = Bytes> + Send + Unpin + 'static> Drop for Rest<B> {
    fn drop(&mut self) {
        let Some(body) = self.0.take().filter(|body| !body.is_end_stream()) else { return };
        // It ends early when the connection does.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(timeout(DRAIN_TIME, drain(body)));
        }
    }
}

/// Reads a body to its end or to the bound, and gives what is left of the bound.
async fn drain(mut body: impl Body<Data = Bytes> + Unpin) -> Option<u64> {
    let mut left = DRAIN_BYTES_MAX;
    while let Some(Ok(frame)) = body.frame().await {
        let bytes = frame.data_ref().map_or(0, Bytes::len) as u64;
        left = left.checked_sub(bytes)?;
    }
    Some(left)
}

/// How long the rest of a request is read. Clients that look at the response stop at once; those that do not need the time
/// for all of their upload.
const DRAIN_TIME: Duration = Duration::from_secs(10);
/// How much of it is read. Nothing of it is kept.
const DRAIN_BYTES_MAX: u64 = 64 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::task::{Context, Poll};

    use http_body::Frame;
    use tokio::time::sleep;

    use super::*;

    /// A body of pieces without end, or one that stands still behind them.
    #[derive(Debug)]
    struct Pieces {
        left: u64,
        stalls: bool,
        read: Arc<AtomicU64>,
        /// Told when the body is dropped.
        alive: Arc<()>,
    }

    const PIECE: u64 = 1024 * 1024;

    impl Body for Pieces {
        type Data = Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
            if self.left == 0 {
                return if self.stalls { Poll::Pending } else { Poll::Ready(None) };
            }
            self.left -= 1;
            self.read.fetch_add(PIECE, Ordering::Relaxed);
            Poll::Ready(Some(Ok(Frame::data(Bytes::from(vec![0; 1024 * 1024])))))
        }
    }

    fn pieces(left: u64, stalls: bool) -> (Pieces, Arc<AtomicU64>, Arc<()>) {
        let (read, alive) = (Arc::new(AtomicU64::new(0)), Arc::new(()));
        (Pieces { left, stalls, read: Arc::clone(&read), alive: Arc::clone(&alive) }, read, alive)
    }

    #[tokio::test]
    async fn rest_is_read_to_the_bound_and_not_beyond() {
        let bound = DRAIN_BYTES_MAX / PIECE;
        let (body, read, _alive) = pieces(bound, false);
        assert_eq!(drain(body).await, Some(0));
        assert_eq!(read.load(Ordering::Relaxed), DRAIN_BYTES_MAX);
        let (body, read, _alive) = pieces(u64::MAX, false);
        assert_eq!(drain(body).await, None);
        assert_eq!(read.load(Ordering::Relaxed), DRAIN_BYTES_MAX + PIECE);
    }

    #[tokio::test(start_paused = true)]
    async fn rest_that_does_not_come_is_given_up() {
        let (body, read, alive) = pieces(1, true);
        assert_eq!(Arc::strong_count(&body.alive), 2);
        drop(Rest::of(body));
        sleep(DRAIN_TIME - Duration::from_secs(1)).await;
        assert_eq!((read.load(Ordering::Relaxed), Arc::strong_count(&alive)), (PIECE, 2));
        sleep(Duration::from_secs(2)).await;
        assert_eq!(Arc::strong_count(&alive), 1, "it is let go");
    }
}
