//! The first message of a TLS connection, read without deciding yet who answers it.
//!
//! The bytes are kept, so that whoever the connection is for gets them again: the gateway's own TLS, or, unchanged, the
//! upstream of a `tls` endpoint.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

/// What a client says about where it wants to go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hello {
    /// The server name in lower case. A name that is no DNS name never gets here.
    pub name: Option<String>,
    /// The application protocols that it offers, in its order.
    pub protocols: Vec<Vec<u8>>,
}

/// Why there is no ClientHello.
#[derive(Debug)]
pub enum HelloError {
    /// The client closed the connection, or it broke.
    Io(io::Error),
    /// It is longer than [`HELLO_BYTES_MAX`].
    Long,
    /// It is no TLS, or no version of it that the gateway speaks; the client has been told.
    Tls(rustls::Error),
}

impl Hello {
    /// Tells whether it offers an application protocol.
    #[must_use]
    pub fn offers(&self, protocol: &[u8]) -> bool {
        self.protocols.iter().any(|offered| offered == protocol)
    }
}

/// Reads from `io` until the ClientHello is complete, over however many records and segments it is spread. Gives it and
/// everything that was read. It waits as long as the client keeps the connection: the caller has the clock.
///
/// # Errors
///
/// See [`HelloError`].
pub async fn read<IO>(io: &mut IO) -> Result<(Hello, Vec<u8>), HelloError>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let mut acceptor = Acceptor::default();
    let mut kept = Vec::with_capacity(READ_BYTES);
    let mut fed = 0;
    loop {
        let room = HELLO_BYTES_MAX.saturating_sub(kept.len()).min(READ_BYTES);
        if room == 0 {
            return Err(HelloError::Long);
        }
        let limit = u64::try_from(room).unwrap_or(u64::MAX);
        if (&mut *io).take(limit).read_buf(&mut kept).await.map_err(HelloError::Io)? == 0 {
            return Err(HelloError::Io(io::ErrorKind::UnexpectedEof.into()));
        }
        while let Some(mut rest) = kept.get(fed..).filter(|rest| !rest.is_empty()) {
            // The parser takes what it has room for, and makes room by parsing. Memory cannot fail to be read, so an
            // error says that there is no room.
            let taken = acceptor.read_tls(&mut rest).map_err(|_| HelloError::Long)?;
            fed += taken;
            match acceptor.accept() {
                Ok(Some(accepted)) => return Ok((Hello::of(&accepted.client_hello()), kept)),
                Ok(None) if taken == 0 => return Err(HelloError::Long),
                Ok(None) => {}
                Err((error, mut alert)) => {
                    let mut bytes = Vec::new();
                    if alert.write_all(&mut bytes).is_ok() {
                        // The connection ends whether the client hears why or not.
                        let _ = io.write_all(&bytes).await;
                    }
                    return Err(HelloError::Tls(error));
                }
            }
        }
    }
}

impl Hello {
    fn of(hello: &rustls::server::ClientHello<'_>) -> Self {
        let name = hello.server_name().map(|name| name.trim_end_matches('.').to_ascii_lowercase());
        let protocols = hello.alpn().map(|offered| offered.map(<[u8]>::to_vec).collect()).unwrap_or_default();
        Self { name, protocols }
    }
}

/// A connection of which some bytes were read already: these come first, then the rest.
#[derive(Debug)]
pub struct Replayed<IO> {
    kept: Vec<u8>,
    given: usize,
    /// Bytes to read when fewer are asked for; 0 reads what is asked for.
    ahead: usize,
    io: IO,
}

impl<IO> Replayed<IO> {
    /// Puts `kept` before what comes from `io`.
    pub fn new(kept: Vec<u8>, io: IO) -> Self {
        Self { kept, given: 0, ahead: 0, io }
    }

    /// The same for connections that carry much: TLS asks for 4 KiB at a time, the system is asked for 64 KiB. While nothing
    /// comes it holds no buffer.
    pub fn reading_ahead(kept: Vec<u8>, io: IO) -> Self {
        Self { ahead: AHEAD_BYTES, ..Self::new(kept, io) }
    }

    /// The connection itself.
    pub fn io(&self) -> &IO {
        &self.io
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Replayed<IO> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.kept.is_empty() {
            if this.ahead <= buf.remaining() {
                return Pin::new(&mut this.io).poll_read(cx, buf);
            }
            let mut ahead = Vec::with_capacity(this.ahead);
            if ready!(pin!(this.io.read_buf(&mut ahead)).poll(cx))? == 0 {
                return Poll::Ready(Ok(()));
            }
            this.kept = ahead;
        }
        let rest = this.kept.get(this.given..).unwrap_or_default();
        let len = rest.len().min(buf.remaining());
        buf.put_slice(rest.get(..len).unwrap_or_default());
        this.given += len;
        if this.given == this.kept.len() {
            // Connections last for hours; what is used up goes.
            this.kept = Vec::new();
            this.given = 0;
        }
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Replayed<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

impl fmt::Display for HelloError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "no ClientHello came: {error}"),
            Self::Long => write!(f, "the ClientHello must not be longer than {HELLO_BYTES_MAX} bytes"),
            Self::Tls(error) => write!(f, "the ClientHello is unusable: {error}"),
        }
    }
}

impl std::error::Error for HelloError {}

/// The longest ClientHello, with the heads of its records: the limit of ngrok's edge. Real ones, with keys for
/// post-quantum cryptography, have some 2 KiB.
pub const HELLO_BYTES_MAX: usize = 64 * 1024;
/// What is read at once: nearly every ClientHello is there with the first read.
const READ_BYTES: usize = 4096;

/// What is read at a time of a connection that carries much: four TLS records.
const AHEAD_BYTES: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::pki_types::ServerName;
    use rustls::{ClientConfig, ClientConnection, RootCertStore};

    use super::*;

    /// The record that a client sends first.
    fn hello(name: &str, protocols: &[&[u8]]) -> Vec<u8> {
        let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        bytes
    }

    /// The same message, cut into records of `len` bytes.
    fn in_records(hello: &[u8], len: usize) -> Vec<u8> {
        let mut out = Vec::new();
        for part in hello[5..].chunks(len) {
            out.extend_from_slice(&hello[..3]);
            out.extend_from_slice(&u16::try_from(part.len()).unwrap().to_be_bytes());
            out.extend_from_slice(part);
        }
        out
    }

    async fn read_in_chunks(bytes: &[u8], len: usize) -> Result<(Hello, Vec<u8>), HelloError> {
        let (mut client, mut server) = tokio::io::duplex(len);
        let send = async {
            let sent = client.write_all(bytes).await;
            client.shutdown().await.and(sent)
        };
        let (result, _) = tokio::join!(read(&mut server), send);
        result
    }

    #[tokio::test]
    async fn name_and_protocols_are_read_whatever_the_fragmentation() {
        let whole = hello("DB.Example.com", &[b"h2", b"http/1.1"]);
        for record in [1, 7, 100, 16_000] {
            let bytes = in_records(&whole, record);
            for segment in [1, 5, 1000, 100_000] {
                let (hello, kept) = read_in_chunks(&bytes, segment).await.unwrap();
                assert_eq!(hello.name.as_deref(), Some("db.example.com"));
                assert_eq!(hello.protocols, [b"h2".to_vec(), b"http/1.1".to_vec()]);
                assert!(hello.offers(b"h2") && !hello.offers(b"h3"));
                assert_eq!(kept, bytes, "{record} {segment}");
            }
        }
    }

    #[tokio::test]
    async fn client_of_an_address_names_nothing() {
        let (hello, _) = read_in_chunks(&hello("127.0.0.1", &[]), 1000).await.unwrap();
        assert_eq!(hello, Hello::default());
    }

    #[tokio::test]
    async fn bytes_behind_the_hello_are_kept() {
        let mut bytes = hello("a.example.com", &[]);
        bytes.extend_from_slice(&[0x17; 3000]);
        let (_, kept) = read_in_chunks(&bytes, 100_000).await.unwrap();
        assert_eq!(kept, bytes);
        let mut replayed = Replayed::new(kept, &b"and the rest"[..]);
        let mut all = Vec::new();
        replayed.read_to_end(&mut all).await.unwrap();
        bytes.extend_from_slice(b"and the rest");
        assert_eq!(all, bytes);
    }

    /// Gives what is asked for, and notes how much that was.
    struct Asked {
        left: usize,
        asked: Vec<usize>,
    }

    impl AsyncRead for Asked {
        fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            self.asked.push(buf.remaining());
            let len = self.left.min(buf.remaining());
            self.left -= len;
            buf.put_slice(&vec![b'x'; len]);
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn connection_that_carries_much_is_read_ahead_and_holds_nothing_when_all_is_taken() {
        let io = Asked { left: AHEAD_BYTES + 100, asked: Vec::new() };
        let mut replayed = Replayed::reading_ahead(b"hello".to_vec(), io);
        let (mut all, mut piece) = (Vec::new(), [0; 4096]);
        loop {
            let len = replayed.read(&mut piece).await.unwrap();
            if len == 0 {
                break;
            }
            all.extend_from_slice(&piece[..len]);
        }
        assert_eq!(all, [&b"hello"[..], &vec![b'x'; AHEAD_BYTES + 100]].concat());
        assert_eq!(replayed.io().asked, [AHEAD_BYTES; 3]);
        assert_eq!(replayed.kept.capacity(), 0);
    }

    #[tokio::test]
    async fn other_protocols_and_early_ends_are_errors() {
        let error = read_in_chunks(b"GET / HTTP/1.1\r\nHost: a.example.com\r\n\r\n", 1000).await.unwrap_err();
        assert!(matches!(error, HelloError::Tls(_)), "{error}");
        let whole = hello("a.example.com", &[]);
        let error = read_in_chunks(&whole[..whole.len() - 1], 1000).await.unwrap_err();
        assert!(matches!(error, HelloError::Io(_)), "{error}");
        let error = read_in_chunks(b"", 1000).await.unwrap_err();
        assert!(matches!(error, HelloError::Io(_)), "{error}");
    }

    #[tokio::test]
    async fn endless_hello_is_refused_at_the_bound() {
        // A handshake message that claims to be as long as the type can say, in tiny records.
        let mut message = vec![0x16, 3, 1, 0, 4, 1, 0xff, 0xff, 0xff];
        while message.len() < 2 * HELLO_BYTES_MAX {
            message.extend_from_slice(&[0x16, 3, 1, 0, 2, 0, 0]);
        }
        let error = read_in_chunks(&message, 1 << 20).await.unwrap_err();
        assert!(matches!(error, HelloError::Long | HelloError::Tls(_)), "{error}");

        let mut message = vec![0x16, 3, 1, 0, 4, 1, 0, 0xff, 0xf0];
        while message.len() < 2 * HELLO_BYTES_MAX {
            message.extend_from_slice(&[0x16, 3, 1, 0, 1, 0]);
        }
        let error = read_in_chunks(&message, 1 << 20).await.unwrap_err();
        assert!(matches!(error, HelloError::Long), "{error}");
    }
}
