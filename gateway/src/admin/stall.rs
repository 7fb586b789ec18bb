//! A connection that ends when its client takes nothing of what waits for it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// A connection whose writes fail when not one byte was taken for [`STALL_MAX`].
#[derive(Debug)]
pub(super) struct Stalling<IO> {
    io: IO,
    /// Runs while a write waits.
    until: Option<Pin<Box<Sleep>>>,
}

impl<IO> Stalling<IO> {
    pub(super) fn new(io: IO) -> Self {
        Self { io, until: None }
    }

    /// What waits has until then; what has moved begins anew.
    fn limit<T>(&mut self, cx: &mut Context<'_>, moved: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if moved.is_ready() {
            self.until = None;
            return moved;
        }
        let until = self.until.get_or_insert_with(|| Box::pin(tokio::time::sleep(STALL_MAX)));
        ready!(until.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read")))
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Stalling<IO> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Stalling<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let moved = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.limit(cx, moved)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let moved = Pin::new(&mut self.io).poll_flush(cx);
        self.limit(cx, moved)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let moved = Pin::new(&mut self.io).poll_shutdown(cx);
        self.limit(cx, moved)
    }
}

/// Long enough for a terminal that was stopped for a moment, and a scraper that is busy.
pub(super) const STALL_MAX: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn client_that_does_not_read_is_given_up_and_a_slow_one_is_not() {
        let (mut client, server) = tokio::io::duplex(16);
        let mut server = Stalling::new(server);
        let reading = async {
            for _ in 0..3 {
                tokio::time::sleep(STALL_MAX * 9 / 10).await;
                client.read_exact(&mut [0; 16]).await.unwrap();
            }
        };
        let (written, ()) = tokio::join!(server.write_all(&[7; 64]), reading);
        written.unwrap();
        let begin = Instant::now();
        let error = server.write_all(&[7; 64]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(begin.elapsed() >= STALL_MAX && begin.elapsed() < STALL_MAX * 2);
    }
}
