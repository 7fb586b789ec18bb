//! One request over HTTP to a server outside, within strict bounds.

use std::net::IpAddr;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use http::uri::Scheme;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio_rustls::TlsConnector;

use super::lookup::{Payer, look_up};
use super::public_address::is_public;

/// Whom the gateway may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Reach {
    /// What the gateway's operator writes: also private addresses, and this machine without TLS.
    Anywhere,
    /// What an agent writes must not make the gateway knock inside its own network.
    Public,
}

/// Why there is no reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum OutsideFault {
    /// It has more bytes than the caller takes.
    TooLong,
    /// In words.
    Failed(String),
}

/// Sends a request whose URI is a path, to the server that `uri` names. The caller sets the time; dropping the future ends
/// the connection. Gives also the address of the server.
pub(super) async fn ask(
    uri: &Uri,
    reach: Reach,
    payer: Payer<'_>,
    request: Request<Full<Bytes>>,
    bytes_max: usize,
) -> Result<(Response<Bytes>, IpAddr), OutsideFault> {
    ask_trusting(&TLS, uri, reach, payer, request, bytes_max).await
}

/// As [`ask`], with the authorities of `trust`.
pub(crate) async fn ask_trusting(
    trust: &Arc<ClientConfig>,
    uri: &Uri,
    reach: Reach,
    payer: Payer<'_>,
    request: Request<Full<Bytes>>,
    bytes_max: usize,
) -> Result<(Response<Bytes>, IpAddr), OutsideFault> {
    let host = uri.host().unwrap_or_default();
    let is_tls = uri.scheme() == Some(&Scheme::HTTPS);
    let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
    let name = host.trim_start_matches('[').trim_end_matches(']');
    let (tcp, address) = connect(name, port, reach, payer).await.map_err(OutsideFault::Failed)?;
    if !is_tls {
        return Ok((send(tcp, request, bytes_max).await?, address));
    }
    let server = ServerName::try_from(name.to_owned());
    let server = server.map_err(|_| OutsideFault::Failed("the host name is not valid".to_owned()))?;
    let tls = TlsConnector::from(Arc::clone(trust)).connect(server, tcp).await;
    let tls = tls.map_err(|error| OutsideFault::Failed(format!("TLS failed: {error}")))?;
    Ok((send(tls, request, bytes_max).await?, address))
}

async fn connect(name: &str, port: u16, reach: Reach, payer: Payer<'_>) -> Result<(TcpStream, IpAddr), String> {
    let found = look_up(name, port, payer).await?;
    let mut last = "the host has no address that may be asked".to_owned();
    let allowed = found.into_iter().filter(|address| reach == Reach::Anywhere || is_public(address.ip()));
    for address in allowed.take(ADDRESSES_MAX) {
        match TcpStream::connect(address).await {
            Ok(tcp) => return Ok((tcp, address.ip())),
            Err(error) => last = format!("no connection: {error}"),
        }
    }
    Err(last)
}

async fn send<IO>(io: IO, request: Request<Full<Bytes>>, bytes_max: usize) -> Result<Response<Bytes>, OutsideFault>
where
    IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let failed = |error: hyper::Error| OutsideFault::Failed(format!("the connection broke: {error}"));
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(HEAD_BYTES_MAX)
        .handshake::<_, Full<Bytes>>(TokioIo::new(io))
        .await
        .map_err(failed)?;
    // Also when time is up in the middle of it.
    let _driver = Driver(tokio::spawn(connection).abort_handle());
    let (head, body) = sender.send_request(request).await.map_err(failed)?.into_parts();
    match Limited::new(body, bytes_max).collect().await {
        Ok(body) => Ok(Response::from_parts(head, body.to_bytes())),
        Err(error) if error.is::<LengthLimitError>() => Err(OutsideFault::TooLong),
        Err(error) => Err(OutsideFault::Failed(format!("the answer is cut: {error}"))),
    }
}

/// Ends the task of a connection that nobody needs any more.
struct Driver(AbortHandle);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Trusts the public authorities.
static TLS: LazyLock<Arc<ClientConfig>> =
    LazyLock::new(|| trusting(RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() }));

/// Trusts the public authorities.
pub(crate) fn public_trust() -> Arc<ClientConfig> {
    Arc::clone(&TLS)
}

/// Trusts these authorities alone.
pub(crate) fn trusting(roots: RootCertStore) -> Arc<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    #[expect(clippy::expect_used, reason = "ring has the default versions, always")]
    let builder = builder.with_safe_default_protocol_versions().expect("ring supports TLS 1.2 and 1.3");
    Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
}

const HEAD_BYTES_MAX: usize = 32 * 1024;
/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 4;
