//! Copies both ways between a visitor's connection and a proxy stream, for what the gateway passes on: unopened, or behind a
//! TLS that ends here.
//!
//! An end passes in each direction by itself, so that a visitor may end its request and still read the answer. An error
//! is never a clean end: the visitor gets a TCP reset, and the stream is dropped unfinished, which aborts it; one that goes
//! without saying so in TLS has its stream aborted as well. There is no limit to how long a connection may be idle; what
//! the network has lost, TCP keep-alive finds.

mod pass;
mod socket;

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::coop::consume_budget;
use tokio::time::timeout;

use self::pass::{Lost, pass};
use self::socket::ResetUnlessDone;
pub use self::socket::SharedSocket;
use crate::scratch::with_scratch;

/// How a spliced connection ended, for its line in the log.
#[derive(Debug)]
pub struct SpliceEnd {
    /// Bytes that the stream took from the visitor.
    pub uploaded: u64,
    /// Bytes that the visitor's socket took from the stream.
    pub downloaded: u64,
    /// What ended it.
    pub outcome: SpliceOutcome,
}

/// What ended a spliced connection.
#[derive(Debug)]
pub enum SpliceOutcome {
    /// Both sides ended what they had to say.
    Clean,
    /// The visitor's connection broke; the stream was aborted.
    ClientLost(io::Error),
    /// The stream broke; the visitor got a reset.
    StreamLost(io::Error),
}

/// Copies until both directions have ended or one has failed. `first` is what was read from the visitor before, for
/// instance to find out where it wants to go; it goes to the stream before anything else.
///
/// When the future is dropped before its end, the visitor gets a reset and the stream is aborted, too.
pub async fn splice<S>(client: TcpStream, first: &[u8], stream: S) -> SpliceEnd
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let socket = SharedSocket::new(client);
    splice_halves(socket.clone(), socket.clone(), socket, first, stream).await
}

/// The same for a visitor's connection inside TLS; `socket` is the one that `client` is on.
pub async fn splice_opened<T, S>(client: T, socket: SharedSocket, stream: S) -> SpliceEnd
where
    T: AsyncRead + AsyncWrite + Unpin,
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (from_client, to_client) = tokio::io::split(client);
    splice_halves(from_client, to_client, socket, &[], stream).await
}

async fn splice_halves<R, W, S>(
    mut from_client: R,
    to_client: W,
    socket: SharedSocket,
    first: &[u8],
    stream: S,
) -> SpliceEnd
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut ending = ResetUnlessDone::new(socket);
    let (mut uploaded, mut downloaded) = (0, 0);
    let (from_stream, to_stream) = tokio::io::split(stream);
    let outcome = {
        let upload = async {
            match upload(&mut from_client, to_stream, first, &mut uploaded).await {
                // The agent has said everything and takes no more: an early answer, and no abort.
                Err(SpliceOutcome::StreamLost(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
                    Ok(Upload::Unwanted)
                }
                result => result.map(|()| Upload::Whole),
            }
        };
        let download = async {
            pass(from_stream, to_client, &mut downloaded).await.map_err(|lost| match lost {
                Lost::Source(error) => SpliceOutcome::StreamLost(error),
                Lost::Target(error) => SpliceOutcome::ClientLost(error),
            })
        };
        let both = pin!(async { tokio::try_join!(upload, download) });
        tokio::select! {
            biased;
            result = both => result.map(|(upload, ())| upload),
            error = failure(ending.socket()) => Err(SpliceOutcome::ClientLost(error)),
        }
    };
    if let Ok(Upload::Unwanted) = outcome {
        // With something unread, closing the socket would be a reset, which can overtake the end of the answer.
        let _ = timeout(LINGER, discard(&mut from_client)).await;
    }
    let outcome = outcome.map_or_else(|lost| lost, |_| SpliceOutcome::Clean);
    if matches!(outcome, SpliceOutcome::Clean) {
        ending.disarm();
    }
    SpliceEnd { uploaded, downloaded, outcome }
}

/// What became of what the visitor had to say.
#[derive(Debug)]
enum Upload {
    Whole,
    /// The agent takes no more of it.
    Unwanted,
}

/// Reads until the visitor's end.
async fn discard<R: AsyncRead + Unpin>(client: &mut R) {
    while poll_fn(|cx| {
        with_scratch(|scratch| {
            let mut buf = ReadBuf::new(scratch);
            ready!(Pin::new(&mut *client).poll_read(cx, &mut buf))
                .map_or(Poll::Ready(false), |()| Poll::Ready(!buf.filled().is_empty()))
        })
    })
    .await
    {
        consume_budget().await;
    }
}

async fn upload<R, W>(client: R, mut stream: W, first: &[u8], count: &mut u64) -> Result<(), SpliceOutcome>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    if !first.is_empty() {
        stream.write_all(first).await.map_err(SpliceOutcome::StreamLost)?;
        *count += first.len() as u64;
    }
    pass(client, stream, count).await.map_err(|lost| match lost {
        Lost::Source(error) => SpliceOutcome::ClientLost(error),
        Lost::Target(error) => SpliceOutcome::StreamLost(error),
    })
}

/// Waits until the socket has failed. It is the only one to notice when neither direction touches the socket: the
/// visitor's has ended or its stream takes nothing, and the other one is idle.
async fn failure(client: &TcpStream) -> io::Error {
    match client.ready(Interest::ERROR).await {
        Ok(_) => client.take_error().ok().flatten().unwrap_or_else(|| io::ErrorKind::ConnectionReset.into()),
        Err(error) => error,
    }
}

impl fmt::Display for SpliceOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Clean => f.write_str("both sides ended"),
            Self::ClientLost(error) => write!(f, "the visitor's connection broke: {error}"),
            Self::StreamLost(error) => write!(f, "the agent's stream broke: {error}"),
        }
    }
}

/// How long a visitor whose upload nobody wants has to take the answer: a round trip or two.
const LINGER: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll};
    use std::time::Duration;

    use socket2::SockRef;
    use tokio::io::{AsyncReadExt, DuplexStream, ReadBuf, duplex};
    use tokio::net::TcpListener;
    use tokio::task::JoinHandle;
    use tokio::time::timeout;

    use super::*;

    /// A visitor, the agent's end of its stream, and the splice between them.
    async fn spliced<S, T>(first: &'static [u8], stream: S, far: T) -> (TcpStream, T, JoinHandle<SpliceEnd>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let visitor = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        (visitor, far, tokio::spawn(async move { splice(accepted, first, stream).await }))
    }

    async fn with_duplex(first: &'static [u8]) -> (TcpStream, DuplexStream, JoinHandle<SpliceEnd>) {
        let (near, far) = duplex(4096);
        spliced(first, near, far).await
    }

    async fn ended(task: JoinHandle<SpliceEnd>) -> SpliceEnd {
        timeout(PATIENCE, task).await.unwrap().unwrap()
    }

    fn reset(visitor: TcpStream) {
        SockRef::from(&visitor).set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// A stream whose reads give `Ok` data first and then an error. Writes are swallowed, or wait for ever.
    struct Breaking {
        data: Vec<u8>,
        takes_writes: bool,
        breaks: bool,
        dropped: Option<tokio::sync::oneshot::Sender<()>>,
    }

    impl AsyncRead for Breaking {
        fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            if !self.data.is_empty() {
                let len = self.data.len().min(buf.remaining());
                buf.put_slice(&self.data.drain(..len).collect::<Vec<_>>());
                return Poll::Ready(Ok(()));
            }
            if self.breaks { Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())) } else { Poll::Pending }
        }
    }

    impl AsyncWrite for Breaking {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            if self.takes_writes { Poll::Ready(Ok(bytes.len())) } else { Poll::Pending }
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    impl Drop for Breaking {
        fn drop(&mut self) {
            if let Some(dropped) = self.dropped.take() {
                let _ = dropped.send(());
            }
        }
    }

    #[tokio::test]
    async fn visitor_may_end_first_and_still_read() {
        let (mut visitor, mut far, task) = with_duplex(b"first ").await;
        visitor.write_all(b"second").await.unwrap();
        visitor.shutdown().await.unwrap();
        let mut request = Vec::new();
        far.read_to_end(&mut request).await.unwrap();
        assert_eq!(request, b"first second");
        far.write_all(b"the answer").await.unwrap();
        far.shutdown().await.unwrap();
        let mut answer = Vec::new();
        visitor.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, b"the answer");
        let end = ended(task).await;
        assert!(matches!(end.outcome, SpliceOutcome::Clean), "{end:?}");
        assert_eq!((end.uploaded, end.downloaded), (12, 10));
    }

    #[tokio::test]
    async fn stream_may_end_first_and_still_read() {
        let (mut visitor, mut far, task) = with_duplex(b"").await;
        far.write_all(b"greeting").await.unwrap();
        far.shutdown().await.unwrap();
        let mut greeting = Vec::new();
        visitor.read_to_end(&mut greeting).await.unwrap();
        assert_eq!(greeting, b"greeting");
        visitor.write_all(b"late words").await.unwrap();
        visitor.shutdown().await.unwrap();
        let mut words = Vec::new();
        far.read_to_end(&mut words).await.unwrap();
        assert_eq!(words, b"late words");
        let end = ended(task).await;
        assert!(matches!(end.outcome, SpliceOutcome::Clean), "{end:?}");
    }

    #[tokio::test]
    async fn answer_reaches_a_visitor_whose_upload_nobody_takes_any_more() {
        let (mut visitor, mut far, splice) = with_duplex(b"").await;
        far.write_all(b"early answer").await.unwrap();
        // Dropped, the other end of a duplex gives BrokenPipe to writes and an end to reads.
        drop(far);
        visitor.write_all(b"a long question").await.unwrap();
        let mut answer = String::new();
        timeout(PATIENCE, visitor.read_to_string(&mut answer)).await.unwrap().unwrap();
        assert_eq!(answer, "early answer");
        drop(visitor);
        assert!(matches!(ended(splice).await.outcome, SpliceOutcome::Clean | SpliceOutcome::ClientLost(_)));
    }

    /// A stream whose agent has answered and takes nothing.
    struct Answered(&'static [u8]);

    impl AsyncRead for Answered {
        fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            buf.put_slice(std::mem::take(&mut self.0));
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncWrite for Answered {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn early_answer_is_not_overtaken_by_a_reset_for_what_was_not_read() {
        let (mut visitor, (), splice) = spliced(b"", Answered(b"early answer"), ()).await;
        visitor.write_all(&vec![7; 1 << 20]).await.unwrap();
        visitor.shutdown().await.unwrap();
        let mut answer = String::new();
        timeout(PATIENCE, visitor.read_to_string(&mut answer)).await.unwrap().unwrap();
        assert_eq!(answer, "early answer");
        assert!(matches!(ended(splice).await.outcome, SpliceOutcome::Clean));
    }

    #[tokio::test(start_paused = true)]
    async fn visitor_whose_upload_nobody_wants_is_not_listened_to_for_ever() {
        let (visitor, (), splice) = spliced(b"", Answered(b"early answer"), ()).await;
        let begun = tokio::time::Instant::now();
        // Something has to be written for the stream to say that it takes nothing; then the visitor stays.
        visitor.writable().await.unwrap();
        visitor.try_write(b"a long question").unwrap();
        assert!(matches!(splice.await.unwrap().outcome, SpliceOutcome::Clean));
        assert_eq!(begun.elapsed().as_secs(), LINGER.as_secs());
    }

    #[tokio::test]
    async fn broken_stream_resets_the_visitor() {
        let stream = Breaking { data: Vec::new(), takes_writes: true, breaks: true, dropped: None };
        let (mut visitor, (), task) = spliced(b"", stream, ()).await;
        let error = visitor.read(&mut [0; 16]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        let end = ended(task).await;
        assert!(matches!(end.outcome, SpliceOutcome::StreamLost(_)), "{end:?}");
    }

    #[tokio::test]
    async fn stream_that_breaks_after_its_data_resets_the_visitor() {
        let (near, mut far) = duplex(4096);
        let (break_it, broken) = tokio::sync::oneshot::channel::<()>();
        let (mut visitor, (), task) = spliced(b"", BreaksLater { inner: near, broken }, ()).await;
        far.write_all(b"half of it").await.unwrap();
        let mut half = [0; 10];
        visitor.read_exact(&mut half).await.unwrap();
        assert_eq!(&half, b"half of it");
        break_it.send(()).unwrap();
        let error = visitor.read(&mut half).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        let end = ended(task).await;
        assert!(matches!(end.outcome, SpliceOutcome::StreamLost(_)), "{end:?}");
        assert_eq!(end.downloaded, 10);
    }

    /// A duplex stream whose reads fail once it is told.
    struct BreaksLater {
        inner: DuplexStream,
        broken: tokio::sync::oneshot::Receiver<()>,
    }

    impl AsyncRead for BreaksLater {
        fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            if std::future::Future::poll(Pin::new(&mut self.broken), cx).is_ready() {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            Pin::new(&mut self.inner).poll_read(cx, buf)
        }
    }

    impl AsyncWrite for BreaksLater {
        fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            Pin::new(&mut self.inner).poll_write(cx, bytes)
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.inner).poll_flush(cx)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.inner).poll_shutdown(cx)
        }
    }

    #[tokio::test]
    async fn reset_by_an_idle_visitor_drops_the_stream() {
        let (dropped, was_dropped) = tokio::sync::oneshot::channel();
        let stream = Breaking { data: Vec::new(), takes_writes: true, breaks: false, dropped: Some(dropped) };
        let (visitor, (), task) = spliced(b"", stream, ()).await;
        reset(visitor);
        timeout(PATIENCE, was_dropped).await.unwrap().unwrap();
        let end = ended(task).await;
        assert!(matches!(end.outcome, SpliceOutcome::ClientLost(_)), "{end:?}");
    }

    #[tokio::test]
    async fn reset_is_noticed_while_the_stream_takes_nothing() {
        let stream = Breaking { data: Vec::new(), takes_writes: false, breaks: false, dropped: None };
        let (visitor, (), task) = spliced(b"stuck", stream, ()).await;
        reset(visitor);
        let end = ended(task).await;
        assert!(matches!(end.outcome, SpliceOutcome::ClientLost(_)), "{end:?}");
        assert_eq!(end.uploaded, 0);
    }

    #[tokio::test]
    async fn reset_is_noticed_after_the_visitor_has_ended() {
        let (mut visitor, mut far, task) = with_duplex(b"").await;
        visitor.shutdown().await.unwrap();
        assert_eq!(far.read(&mut [0; 16]).await.unwrap(), 0);
        reset(visitor);
        let end = ended(task).await;
        assert!(matches!(end.outcome, SpliceOutcome::ClientLost(_)), "{end:?}");
        assert_eq!(far.read(&mut [0; 16]).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn dropped_splice_resets_the_visitor() {
        let (mut visitor, mut far, task) = with_duplex(b"").await;
        far.write_all(b"x").await.unwrap();
        visitor.read_exact(&mut [0; 1]).await.unwrap();
        task.abort();
        let error = visitor.read(&mut [0; 16]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn large_transfers_arrive_whole_both_ways() {
        let (visitor, far, task) = with_duplex(b"").await;
        let (mut visitor_reads, mut visitor_writes) = visitor.into_split();
        let (mut far_reads, mut far_writes) = tokio::io::split(far);
        let pattern = |salt: u8| (0..=250).cycle().take(LARGE).map(|byte: u8| byte ^ salt).collect::<Vec<u8>>();
        let (up, down) = (pattern(1), pattern(2));
        let (sent_up, sent_down) = (up.clone(), down.clone());
        let upload = tokio::spawn(async move {
            visitor_writes.write_all(&sent_up).await.unwrap();
            visitor_writes.shutdown().await.unwrap();
        });
        let download = tokio::spawn(async move {
            far_writes.write_all(&sent_down).await.unwrap();
            far_writes.shutdown().await.unwrap();
        });
        let (mut got_up, mut got_down) = (Vec::new(), Vec::new());
        let (a, b) = tokio::join!(far_reads.read_to_end(&mut got_up), visitor_reads.read_to_end(&mut got_down));
        assert_eq!((a.unwrap(), b.unwrap()), (LARGE, LARGE));
        assert!(got_up == up && got_down == down);
        upload.await.unwrap();
        download.await.unwrap();
        let end = ended(task).await;
        assert!(matches!(end.outcome, SpliceOutcome::Clean), "{end:?}");
        assert_eq!((end.uploaded, end.downloaded), (LARGE as u64, LARGE as u64));
    }

    /// A visitor, the agent's end of its stream, and the splice between them; what is between socket and splice stands for
    /// TLS.
    async fn spliced_opened() -> (TcpStream, DuplexStream, JoinHandle<SpliceEnd>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let visitor = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        let (near, far) = duplex(4096);
        let socket = SharedSocket::new(accepted);
        (visitor, far, tokio::spawn(splice_opened(socket.clone(), socket, near)))
    }

    #[tokio::test]
    async fn both_directions_behind_tls_end_by_themselves() {
        let (mut visitor, mut far, task) = spliced_opened().await;
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
    async fn visitor_behind_tls_that_resets_is_noticed_while_nothing_moves() {
        let (mut visitor, mut far, task) = spliced_opened().await;
        // Its half of the connection has ended, so that nobody reads from its socket any more.
        visitor.shutdown().await.unwrap();
        far.read_to_end(&mut Vec::new()).await.unwrap();
        SockRef::from(&visitor).set_linger(Some(Duration::ZERO)).unwrap();
        drop(visitor);
        let end = task.await.unwrap();
        assert!(matches!(end.outcome, SpliceOutcome::ClientLost(_)), "{end:?}");
    }

    #[tokio::test]
    async fn dropped_splice_behind_tls_resets_the_visitor() {
        let (mut visitor, mut far, task) = spliced_opened().await;
        far.write_all(b"half").await.unwrap();
        let mut half = [0; 4];
        visitor.read_exact(&mut half).await.unwrap();
        task.abort();
        let error = visitor.read(&mut half).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }

    const LARGE: usize = 8 << 20;
    /// Only a failing test waits as long.
    const PATIENCE: Duration = Duration::from_secs(20);
}
