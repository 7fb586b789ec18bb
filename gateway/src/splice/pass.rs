//! One direction of a spliced connection.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::task::coop::consume_budget;
use tokio::task::yield_now;

use crate::scratch::{SCRATCH_LEN, with_scratch};
use crate::session::link::OUTGOING_MAX;

/// Which side of a direction broke.
#[derive(Debug)]
pub(super) enum Lost {
    Source(io::Error),
    Target(io::Error),
}

/// Passes on what comes until it ends, and the end. `count` is what `to` has taken. It holds no memory while nothing
/// comes, and what was read at once, at most, while `to` does not take it.
pub(super) async fn pass<R, W>(mut from: R, mut to: W, count: &mut u64) -> Result<(), Lost>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut full = 0;
    loop {
        let (sent, rest) = move_once(&mut from, &mut to).await?;
        if sent == 0 && rest.is_empty() {
            return to.shutdown().await.map_err(Lost::Target);
        }
        *count += sent as u64;
        if !rest.is_empty() {
            to.write_all(&rest).await.map_err(Lost::Target)?;
            *count += rest.len() as u64;
        }
        // What comes next may be a long time away.
        to.flush().await.map_err(Lost::Target)?;
        full = if sent + rest.len() == PASS_MAX { full + 1 } else { 0 };
        if full == TURN_READS {
            // There is more: first the others, and what has come for them.
            full = 0;
            yield_now().await;
        }
        consume_budget().await;
    }
}

/// Reads once, and gives `to` what it takes of that there and then: how much, and the rest. Both nothing: it has ended.
async fn move_once<R, W>(from: &mut R, to: &mut W) -> Result<(usize, Vec<u8>), Lost>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    poll_fn(|cx| {
        with_scratch(|scratch| {
            let mut buf = ReadBuf::new(scratch.get_mut(..PASS_MAX).unwrap_or_default());
            ready!(Pin::new(&mut *from).poll_read(cx, &mut buf)).map_err(Lost::Source)?;
            let bytes = buf.filled();
            if bytes.is_empty() {
                return Poll::Ready(Ok((0, Vec::new())));
            }
            let sent = match Pin::new(&mut *to).poll_write(cx, bytes) {
                Poll::Ready(sent) => sent.map_err(Lost::Target)?,
                Poll::Pending => 0,
            };
            Poll::Ready(Ok((sent, bytes.get(sent..).unwrap_or_default().to_vec())))
        })
    })
    .await
}

/// What is read at a time: all that a stream takes at once. A rest would have to be waited for.
const PASS_MAX: usize = OUTGOING_MAX;
const _: () = assert!(PASS_MAX <= SCRATCH_LEN);
/// Reads in a row that bring all they can before others have their turn: a stream's window at first, some 200 µs.
const TURN_READS: usize = 4;
