//! Connections that pass unopened, of `tls` and `tcp` endpoints.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use std::{fmt, io};

use adit::endpoint_url::Scheme;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::house::House;
use super::socket;
use crate::http::reach::{OpenError, Reach, Target, Visitor};
use crate::route::{self, Asked, Decision, Refusal};
use crate::splice::{SpliceEnd, splice};

/// Serves a connection to its end; `first` is what was read of it. What cannot be served is reset: these protocols have no
/// place for an error, and a clean end could be taken for an empty answer.
pub(super) async fn serve(house: &House, tcp: TcpStream, first: &[u8], visitor: Visitor, scheme: Scheme, host: &str) {
    let Some(_pass) = house.admit_visitor() else { return socket::reset_on_close(&tcp) };
    let asked = Asked { scheme, host, port: visitor.local.port(), visitor };
    let (target, stream) = match open(&*house.gateway, &asked).await {
        Ok(opened) => opened,
        Err(failure) => {
            socket::reset_on_close(&tcp);
            let (port, visitor) = (asked.port, visitor.peer);
            tracing::debug!(%visitor, %scheme, host, port, "connection closed: {failure}");
            return;
        }
    };
    let session = target.location.session;
    tracing::debug!(%session, visitor = %visitor.peer, endpoint = %target.url, "connection begins");
    let idle_time = house.gateway.config().limits.tcp_idle_timeout;
    match splice_unless_idle(tcp, first, stream, idle_time).await {
        Some(SpliceEnd { uploaded, downloaded, outcome }) => {
            let visitor = visitor.peer;
            tracing::debug!(%session, %visitor, endpoint = %target.url, uploaded, downloaded, ?outcome, "connection ended");
        }
        None => tracing::debug!(%session, visitor = %visitor.peer, endpoint = %target.url, "idle connection cut"),
    }
}

async fn open<R: Reach>(reach: &R, asked: &Asked<'_>) -> Result<(Target, R::Stream), Failure> {
    let target = match route::connection(reach, asked).map_err(Failure::Refused)? {
        Decision::Target(target) => *target,
        Decision::Deny { .. } | Decision::Refuse(_) | Decision::Respond(_) | Decision::Close => {
            return Err(Failure::Denied);
        }
    };
    let opened = timeout(OPEN_TIME, reach.open(&target, &asked.visitor)).await;
    let stream = opened.map_err(|_| Failure::Open(OpenError::Lost))?.map_err(Failure::Open)?;
    Ok((target, stream))
}

/// Gives nothing when the connection was cut for being idle. No time means that it may be idle for ever.
async fn splice_unless_idle<S>(tcp: TcpStream, first: &[u8], stream: S, idle_time: Duration) -> Option<SpliceEnd>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    if idle_time.is_zero() {
        return Some(splice(tcp, first, stream).await);
    }
    let moved = Arc::new(AtomicBool::new(false));
    let watched = Watched { io: stream, moved: Arc::clone(&moved) };
    tokio::select! {
        end = splice(tcp, first, watched) => Some(end),
        () = stands_still(&moved, idle_time) => None,
    }
}

/// Completes once nothing has moved for `time`, or up to a quarter more.
async fn stands_still(moved: &AtomicBool, time: Duration) {
    let mut quiet = 0;
    while quiet < LOOKS {
        tokio::time::sleep(time / LOOKS).await;
        quiet = if moved.swap(false, Ordering::Relaxed) { 0 } else { quiet + 1 };
    }
}

/// A stream that shows whether something moves on it.
struct Watched<S> {
    io: S,
    moved: Arc<AtomicBool>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let result = ready!(Pin::new(&mut self.io).poll_read(cx, buf));
        self.moved.store(true, Ordering::Relaxed);
        Poll::Ready(result)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = ready!(Pin::new(&mut self.io).poll_write(cx, bytes));
        self.moved.store(true, Ordering::Relaxed);
        Poll::Ready(result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// Why a connection was not passed on.
enum Failure {
    Refused(Refusal),
    Denied,
    Open(OpenError),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refusal) => refusal.fmt(f),
            Self::Denied => f.write_str("the policy denies it"),
            Self::Open(error) => error.fmt(f),
        }
    }
}

/// An agent that does not even take the head of a stream for so long is as good as gone.
const OPEN_TIME: Duration = Duration::from_secs(10);
/// How often within the idle time it is looked whether anything moves.
const LOOKS: u32 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn idle_time_begins_anew_with_every_movement() {
        let time = Duration::from_millis(40);
        let started = tokio::time::Instant::now();
        stands_still(&AtomicBool::new(false), time).await;
        assert!(started.elapsed() >= time);
        // Something has moved before the first look, so that look does not count.
        let started = tokio::time::Instant::now();
        stands_still(&AtomicBool::new(true), time).await;
        assert!(started.elapsed() >= time + time / LOOKS);
    }
}
