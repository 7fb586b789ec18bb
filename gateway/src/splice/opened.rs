//! Copies both ways between a visitor's TLS that ends here and a proxy stream.
//!
//! As for what passes unopened, an end passes in each direction by itself and an error is never a clean end: a visitor that
//! goes without saying so in TLS has its stream aborted.

use std::io;
use std::net::Shutdown;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::coop::consume_budget;

use super::{BUFFER_LEN, SpliceEnd, SpliceOutcome, failure, send};

/// A socket that can be watched by others while it is read and written.
#[derive(Clone, Debug)]
pub struct SharedSocket(Arc<TcpStream>);

impl SharedSocket {
    /// Shares a socket.
    #[must_use]
    pub fn new(socket: TcpStream) -> Self {
        Self(Arc::new(socket))
    }

    /// The socket itself.
    #[must_use]
    pub fn get(&self) -> &TcpStream {
        &self.0
    }
}

/// Copies until both directions have ended or one has failed; `socket` is the one that `client` is on.
///
/// When the future is dropped before its end, the visitor gets a reset and the stream is aborted, too.
pub async fn splice_opened<T, S>(client: T, socket: SharedSocket, stream: S) -> SpliceEnd
where
    T: AsyncRead + AsyncWrite + Unpin,
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut ending = ResetUnlessDone { socket, is_done: false };
    let (mut uploaded, mut downloaded) = (0, 0);
    let (from_stream, to_stream) = tokio::io::split(stream);
    let (from_client, to_client) = tokio::io::split(client);
    let outcome = {
        let upload = async {
            match upload(from_client, to_stream, &mut uploaded).await {
                // The agent has said everything and takes no more: an early answer, and no abort.
                Err(SpliceOutcome::StreamLost(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
                result => result,
            }
        };
        let download = download(from_stream, to_client, &mut downloaded);
        let both = pin!(async { tokio::try_join!(upload, download) });
        tokio::select! {
            biased;
            result = both => result.map_or_else(|lost| lost, |_| SpliceOutcome::Clean),
            error = failure(ending.socket.get()) => SpliceOutcome::ClientLost(error),
        }
    };
    ending.is_done = matches!(outcome, SpliceOutcome::Clean);
    SpliceEnd { uploaded, downloaded, outcome }
}

async fn upload<R, W>(mut client: R, mut stream: W, count: &mut u64) -> Result<(), SpliceOutcome>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut buffer = vec![0; BUFFER_LEN];
    loop {
        match client.read(&mut buffer).await.map_err(SpliceOutcome::ClientLost)? {
            0 => return stream.shutdown().await.map_err(SpliceOutcome::StreamLost),
            len => send(&mut stream, buffer.get(..len).unwrap_or_default(), count).await?,
        }
        consume_budget().await;
    }
}

async fn download<R, W>(mut stream: R, mut client: W, count: &mut u64) -> Result<(), SpliceOutcome>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut buffer = vec![0; BUFFER_LEN];
    loop {
        let len = stream.read(&mut buffer).await.map_err(SpliceOutcome::StreamLost)?;
        let bytes = buffer.get(..len).unwrap_or_default();
        if bytes.is_empty() {
            return client.shutdown().await.map_err(SpliceOutcome::ClientLost);
        }
        client.write_all(bytes).await.map_err(SpliceOutcome::ClientLost)?;
        // What comes next may be a long time away.
        client.flush().await.map_err(SpliceOutcome::ClientLost)?;
        *count += len as u64;
        consume_budget().await;
    }
}

/// Resets the socket when it is dropped, unless everything was passed on. It goes before the TLS that holds the socket, too.
struct ResetUnlessDone {
    socket: SharedSocket,
    is_done: bool,
}

impl Drop for ResetUnlessDone {
    fn drop(&mut self) {
        if !self.is_done {
            // Without a time to linger, closing the socket sends a reset. It can only fail on what is no socket.
            let _ = SockRef::from(self.socket.get()).set_linger(Some(Duration::ZERO));
        }
    }
}

impl AsyncRead for SharedSocket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.0.poll_read_ready(cx))?;
            match self.0.try_read(buf.initialize_unfilled()) {
                Ok(len) => {
                    buf.advance(len);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if is_passing(&error) => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for SharedSocket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_write_ready(cx))?;
            match self.0.try_write(bytes) {
                Err(error) if is_passing(&error) => {}
                result => return Poll::Ready(result),
            }
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_write_ready(cx))?;
            match self.0.try_write_vectored(slices) {
                Err(error) if is_passing(&error) => {}
                result => return Poll::Ready(result),
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(SockRef::from(&*self.0).shutdown(Shutdown::Write))
    }
}

/// Only says that the socket has to be waited for once more.
fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use tokio::io::{DuplexStream, duplex};
    use tokio::net::TcpListener;
    use tokio::task::JoinHandle;

    use super::*;

    /// A visitor, the agent's end of its stream, and the splice between them; what is between socket and splice stands for
    /// TLS.
    async fn spliced() -> (TcpStream, DuplexStream, JoinHandle<SpliceEnd>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let visitor = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        let (near, far) = duplex(4096);
        let socket = SharedSocket::new(accepted);
        (visitor, far, tokio::spawn(splice_opened(socket.clone(), socket, near)))
    }

    #[tokio::test]
    async fn both_directions_end_by_themselves() {
        let (mut visitor, mut far, task) = spliced().await;
        visitor.write_all(b"question").await.unwrap();
        visitor.shutdown().await.unwrap();
        let mut question = Vec::new();
        far.read_to_end(&mut question).await.unwrap();
        assert_eq!(question, b"question");
        far.write_all(&vec![7; 1 << 20]).await.unwrap();
        far.shutdown().await.unwrap();
        let mut answer = Vec::new();
        visitor.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer.len(), 1 << 20);
        let end = task.await.unwrap();
        assert!(matches!(end.outcome, SpliceOutcome::Clean), "{end:?}");
        assert_eq!((end.uploaded, end.downloaded), (8, 1 << 20));
    }

    #[tokio::test]
    async fn visitor_that_resets_is_noticed_while_nothing_moves() {
        let (mut visitor, mut far, task) = spliced().await;
        // Its half of the connection has ended, so that nobody reads from its socket any more.
        visitor.shutdown().await.unwrap();
        far.read_to_end(&mut Vec::new()).await.unwrap();
        SockRef::from(&visitor).set_linger(Some(Duration::ZERO)).unwrap();
        drop(visitor);
        let end = task.await.unwrap();
        assert!(matches!(end.outcome, SpliceOutcome::ClientLost(_)), "{end:?}");
    }

    #[tokio::test]
    async fn dropped_splice_resets_the_visitor() {
        let (mut visitor, mut far, task) = spliced().await;
        far.write_all(b"half").await.unwrap();
        let mut half = [0; 4];
        visitor.read_exact(&mut half).await.unwrap();
        task.abort();
        let error = visitor.read(&mut half).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }
}
