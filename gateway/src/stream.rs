//! One visitor's connection inside an agent's link, as tokio knows connections.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use adit::mux::Key;

use crate::credentials::usage::Place;
use crate::session::link::{Link, Sign};

/// A proxy stream.
///
/// Reading gives `Ok(0)` only after the agent has ended its direction. An abort by the agent, also one that follows its
/// end, and the loss of the session read as `ConnectionReset`; when the agent says that it could not reach its upstream
/// it is `ConnectionRefused`. Shutting down ends our direction; towards agents that would take that for the end of
/// everything it is kept back until theirs has ended. Dropping the stream before both directions have ended aborts it.
#[derive(Debug)]
pub struct ProxyStream {
    link: Arc<Link>,
    key: Key,
    place: Place,
}

impl ProxyStream {
    pub(crate) fn new(link: Arc<Link>, key: Key, place: Place) -> Self {
        Self { link, key, place }
    }

    /// Aborts both directions: the agent resets its connection to the upstream. The same as dropping an unfinished
    /// stream, for those who want to say it.
    pub fn abort(&mut self) {
        self.link.release(self.key);
    }

    /// Waits until the agent has sent something or the stream is over.
    pub(crate) async fn sign(&self) -> Sign {
        poll_fn(|cx| self.link.poll_sign(self.key, cx)).await
    }
}

impl AsyncRead for ProxyStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { link, key, place } = &mut *self;
        let read = place.poll_read(cx, |cx, most| {
            let before = buf.filled().len();
            let Some(most) = most else {
                ready!(link.poll_read(*key, cx, buf))?;
                return Poll::Ready(Ok(buf.filled().len().saturating_sub(before)));
            };
            let mut part = ReadBuf::new(buf.initialize_unfilled_to(most.min(buf.remaining())));
            ready!(link.poll_read(*key, cx, &mut part))?;
            let read = part.filled().len();
            buf.advance(read);
            Poll::Ready(Ok(read))
        });
        read.map_ok(|_| ())
    }
}

impl AsyncWrite for ProxyStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Self { link, key, place } = &mut *self;
        place.poll_write(cx, |cx, most| {
            let most = most.map_or(bytes.len(), |most| most.min(bytes.len()));
            link.poll_write(*key, cx, bytes.get(..most).unwrap_or_default())
        })
    }

    /// Waits until what was written has left for the link: who reads only then what comes next holds nothing for a stream
    /// that takes nothing. A failure is told by what comes after it.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.link.poll_flush(self.key, cx).map(Ok)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.link.poll_finish(self.key, cx)
    }
}

impl Drop for ProxyStream {
    fn drop(&mut self) {
        self.link.release(self.key);
    }
}
