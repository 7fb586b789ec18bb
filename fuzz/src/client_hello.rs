//! The first bytes of a TLS connection: what is read from them must not depend on how they arrive, and nothing that was
//! read may be lost, because it goes to whoever answers.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use adit_gateway::listen::client_hello::{self, Hello};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Reads the input whole, and in pieces whose length its first byte gives.
pub fn client_hello(data: &[u8]) {
    let Some((&first, data)) = data.split_first() else { return };
    let whole = read(data, usize::MAX);
    let pieces = read(data, usize::from(first).max(1));
    assert_eq!(whole, pieces, "what is read depends on the chunking");
}

/// The ClientHello, if there is one.
fn read(data: &[u8], chunk: usize) -> Option<Hello> {
    let mut client = Client { data, chunk };
    let (hello, kept) = ready(client_hello::read(&mut client)).ok()?;
    assert!(data.starts_with(&kept), "the bytes that are handed on are not those that came");
    assert_eq!(kept.len() + client.data.len(), data.len(), "bytes were lost");
    Some(hello)
}

/// A client that has sent everything and has room for every answer: nothing here ever waits.
struct Client<'a> {
    data: &'a [u8],
    chunk: usize,
}

impl AsyncRead for Client<'_> {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let len = self.data.len().min(self.chunk).min(buf.remaining());
        let (piece, rest) = self.data.split_at(len);
        buf.put_slice(piece);
        self.data = rest;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Client<'_> {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// The outcome of a future that never waits.
fn ready<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("it waits although everything is there"),
    }
}
