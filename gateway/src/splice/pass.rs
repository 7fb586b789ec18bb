//! One direction of a spliced connection.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::task::coop::consume_budget;

use crate::scratch::with_scratch;

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
            let mut buf = ReadBuf::new(scratch);
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
