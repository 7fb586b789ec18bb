//! A connection that ends when its client takes nothing of what waits for it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// A connection whose writes fail when not one byte was taken for [`STALL_MAX`], or not all that waits within [`TAKE_MAX`].
#[derive(Debug)]
pub(super) struct Stalling<IO> {
    io: IO,
    /// Runs while a write waits.
    until: Option<Pin<Box<Sleep>>>,
    /// Runs from the first write that waits until nothing is left to be written: an answer is written as a whole.
    until_taken: Option<Pin<Box<Sleep>>>,
}

impl<IO> Stalling<IO> {
    pub(super) fn new(io: IO) -> Self {
        Self { io, until: None, until_taken: None }
    }

    /// What waits has until then; what has moved begins anew.
    fn limit<T>(&mut self, cx: &mut Context<'_>, moved: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        let is_late = self.until_taken.as_mut().is_some_and(|until| until.as_mut().poll(cx).is_ready());
        if is_late {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client reads too slowly")));
        }
        if moved.is_ready() {
            self.until = None;
            return moved;
        }
        self.until_taken.get_or_insert_with(|| Box::pin(tokio::time::sleep(TAKE_MAX)));
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
        if matches!(moved, Poll::Ready(Ok(()))) {
            self.until_taken = None;
        }
        self.limit(cx, moved)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let moved = Pin::new(&mut self.io).poll_shutdown(cx);
        self.limit(cx, moved)
    }
}

/// Long enough for a terminal that was stopped for a moment, and a scraper that is busy.
pub(super) const STALL_MAX: Duration = Duration::from_secs(10);
/// The longest answers, of ten thousand sessions, have some megabytes; a line of a megabit in a second takes them in less.
pub(super) const TAKE_MAX: Duration = Duration::from_secs(120);

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

    #[tokio::test(start_paused = true)]
    async fn client_that_takes_a_byte_now_and_then_is_given_up_in_the_end() {
        let (mut client, server) = tokio::io::duplex(16);
        let mut server = Stalling::new(server);
        let reading = tokio::spawn(async move {
            while client.read_exact(&mut [0; 1]).await.is_ok() {
                tokio::time::sleep(STALL_MAX / 2).await;
            }
        });
        let begin = Instant::now();
        // One answer after the other, each taken in time.
        for _ in 0..10 {
            server.write_all(&[7; 20]).await.unwrap();
            server.flush().await.unwrap();
        }
        assert!(begin.elapsed() > TAKE_MAX * 3, "{:?}", begin.elapsed());
        let begin = Instant::now();
        let error = server.write_all(&[7; 64]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(begin.elapsed() >= TAKE_MAX && begin.elapsed() < TAKE_MAX + STALL_MAX, "{:?}", begin.elapsed());
        reading.abort();
    }
}
