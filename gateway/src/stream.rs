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
        let Some(most) = ready!(self.place.poll_read(cx)) else { return self.link.poll_read(self.key, cx, buf) };
        let most = most.min(buf.remaining());
        let mut part = ReadBuf::new(buf.initialize_unfilled_to(most));
        ready!(self.link.poll_read(self.key, cx, &mut part))?;
        let read = part.filled().len();
        buf.advance(read);
        self.place.spend(read);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ProxyStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Some(most) = ready!(self.place.poll_write(cx)) else { return self.link.poll_write(self.key, cx, bytes) };
        let part = bytes.get(..bytes.len().min(most)).unwrap_or_default();
        let written = ready!(self.link.poll_write(self.key, cx, part))?;
        self.place.spend(written);
        Poll::Ready(Ok(written))
    }

    /// Does nothing: written bytes go to the link as soon as the agent takes them.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
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
