//! Ends a visitor's TLS: within a time, as its endpoint asks for, and with an alert that arrives where it is refused.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use adit::endpoint_url::Scheme;
use rustls::{Error, ServerConfig};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::client_hello::HelloError;
use super::house::House;
use crate::metrics::Handshake;
use crate::tls::{CertificateFacts, Prepared, Presented, Session, Termination};

/// What a visitor came to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    pub(super) scheme: Scheme,
    /// The name that it asks for; empty for `tcp`.
    pub(super) host: &'a str,
    pub(super) port: u16,
    pub(super) visitor: SocketAddr,
}

/// Why a connection ended before it began.
pub(super) enum Failure {
    HelloTime,
    Hello(HelloError),
    HandshakeTime,
    Handshake(io::Error),
    /// The client's certificate, or the lack of it.
    Client {
        reason: String,
        presented: Arc<Presented>,
    },
    /// TLS cannot be set up.
    Setup(Error),
}

/// Ends TLS as an endpoint asks for it, which then chooses from `protocols` by ALPN. What fails is told in the log, and the
/// client has got its alert by then.
pub(super) async fn end_for_endpoint<IO>(
    house: &House,
    io: IO,
    termination: &Termination,
    protocols: Vec<Vec<u8>>,
    place: Place<'_>,
) -> Option<(TlsStream<IO>, Arc<Session>)>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let Prepared { config, presented } = match termination.prepare(&house.certificates, protocols) {
        Ok(prepared) => prepared,
        Err(error) => {
            Failure::Setup(error).tell(house, place);
            return None;
        }
    };
    let stream = accept(house, &config, io, presented.as_ref(), place).await?;
    let connection = stream.get_ref().1;
    let server = termination.certificate(&house.certificates, connection.server_name());
    let session = Session::of(connection, Some(termination), presented.as_deref(), server);
    Some((stream, Arc::new(session)))
}

/// Ends TLS as it does where no endpoint asks for more; a failure is told as well.
pub(super) async fn end_by_default<IO>(
    house: &House,
    config: &Arc<ServerConfig>,
    io: IO,
    place: Place<'_>,
) -> Option<(TlsStream<IO>, Arc<Session>)>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let stream = accept(house, config, io, None, place).await?;
    let connection = stream.get_ref().1;
    let server = house.certificates.find(connection.server_name());
    let session = Session::of(connection, None, None, server);
    Some((stream, Arc::new(session)))
}

async fn accept<IO>(
    house: &House,
    config: &Arc<ServerConfig>,
    io: IO,
    presented: Option<&Arc<Presented>>,
    place: Place<'_>,
) -> Option<TlsStream<IO>>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let time = house.gateway.config().limits.tls_handshake_timeout;
    let accept = TlsAcceptor::from(Arc::clone(config)).accept(io).into_fallible();
    match timeout(time, accept).await {
        Ok(Ok(stream)) => {
            house.gateway.metrics().handshakes.one(Handshake::Done);
            Some(stream)
        }
        Ok(Err((error, io))) => {
            Failure::of(error, presented).tell(house, place);
            // Closed with bytes unread, the connection would be reset, and the alert with it.
            let _ = timeout(FAREWELL_TIME, farewell(io)).await;
            None
        }
        Err(_) => {
            Failure::HandshakeTime.tell(house, place);
            None
        }
    }
}

/// Lets the client read what it was told: it may have sent more meanwhile.
async fn farewell<IO: AsyncRead + AsyncWrite + Unpin>(mut io: IO) {
    if io.shutdown().await.is_err() {
        return;
    }
    let mut rest = io.take(FAREWELL_BYTES_MAX);
    let _ = tokio::io::copy(&mut rest, &mut tokio::io::sink()).await;
}

impl Failure {
    fn of(error: io::Error, presented: Option<&Arc<Presented>>) -> Self {
        let (Some(presented), Some(cause)) = (presented, error.get_ref()) else { return Self::Handshake(error) };
        let presented = Arc::clone(presented);
        match cause.downcast_ref::<Error>() {
            Some(Error::NoCertificatesPresented) => Self::Client { reason: "it has none".to_owned(), presented },
            Some(Error::InvalidCertificate(cause)) => {
                let doubt = presented.get().and_then(|(_, verified)| verified.err());
                Self::Client { reason: doubt.map_or_else(|| cause.to_string(), str::to_owned), presented }
            }
            Some(_) | None => Self::Handshake(error),
        }
    }

    fn kind(&self) -> Handshake {
        match self {
            Self::HelloTime => Handshake::HelloLate,
            Self::Hello(_) => Handshake::HelloInvalid,
            Self::HandshakeTime => Handshake::Late,
            Self::Handshake(_) => Handshake::Failed,
            Self::Client { .. } => Handshake::ClientRefused,
            Self::Setup(_) => Handshake::NotSetUp,
        }
    }

    /// Counts it. Port scanners and health checks do most of it all the time: nobody wants that in the log by default. A client that
    /// is refused for its certificate gets a line.
    pub(super) fn tell(&self, house: &House, place: Place<'_>) {
        house.gateway.metrics().handshakes.one(self.kind());
        let Place { scheme, host, port, visitor } = place;
        let Self::Client { reason, presented } = self else {
            tracing::debug!(%visitor, %scheme, host, port, "no TLS connection: {self}");
            return;
        };
        let facts = presented.get().and_then(|(certificate, _)| CertificateFacts::of(certificate));
        let Some(CertificateFacts { subject, issuer, serial_number: serial, .. }) = facts else {
            tracing::info!(%visitor, %scheme, host, port, "client refused by its certificate: {reason}");
            return;
        };
        // The client wrote them.
        let (subject, issuer, serial) = (shown(&subject.text), shown(&issuer.text), shown(&serial));
        tracing::info!(
            %visitor, %scheme, host, port, subject, issuer, serial, "client refused by its certificate: {reason}"
        );
    }
}

fn shown(text: &str) -> String {
    text.chars().take(SHOWN_CHARS_MAX).collect()
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HelloTime => f.write_str("the ClientHello did not come in time"),
            Self::Hello(error) => error.fmt(f),
            Self::HandshakeTime => f.write_str("the handshake took too long"),
            Self::Handshake(error) => write!(f, "the handshake failed: {error}"),
            Self::Client { reason, .. } => write!(f, "the client's certificate is refused: {reason}"),
            Self::Setup(error) => write!(f, "TLS cannot be set up: {error}"),
        }
    }
}

/// A round trip over the worst of lines.
const FAREWELL_TIME: Duration = Duration::from_secs(2);
/// More than a client sends before it has read the answer to its last message.
const FAREWELL_BYTES_MAX: u64 = 64 * 1024;
/// Of the names in a certificate; enough to find it.
const SHOWN_CHARS_MAX: usize = 200;
