//! One small document over HTTP, within strict bounds.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, HOST, USER_AGENT};
use http::uri::Scheme;
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// Whom the gateway may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Reach {
    /// What the gateway's operator writes: also private addresses, and this machine without TLS.
    Anywhere,
    /// What an agent writes must not make the gateway knock inside its own network.
    Public,
}

/// Reads the address of a document.
pub(super) fn check(url: &str, reach: Reach) -> Result<Uri, &'static str> {
    let uri: Uri = url.parse().map_err(|_| "must be a URL such as https://idp.example.com/jwks")?;
    let host = uri.host().ok_or("must be a URL such as https://idp.example.com/jwks")?;
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err("must not have a name or a password in it");
    }
    let is_here = matches!(host, "localhost" | "127.0.0.1" | "[::1]");
    match uri.scheme() {
        Some(scheme) if *scheme == Scheme::HTTPS => Ok(uri),
        Some(scheme) if *scheme == Scheme::HTTP && is_here && reach == Reach::Anywhere => Ok(uri),
        _ => {
            Err("must begin with https://; http:// is for a server on this machine only, in a cloud endpoint's policy")
        }
    }
}

/// Gets the document.
pub(super) async fn get(uri: &Uri, reach: Reach) -> Result<Bytes, String> {
    timeout(TIME, get_in_time(uri, reach)).await.map_err(|_| format!("no answer within {} s", TIME.as_secs()))?
}

async fn get_in_time(uri: &Uri, reach: Reach) -> Result<Bytes, String> {
    let host = uri.host().unwrap_or_default();
    let is_tls = uri.scheme() == Some(&Scheme::HTTPS);
    let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
    let name = host.trim_start_matches('[').trim_end_matches(']');
    let tcp = connect(name, port, reach).await?;
    if !is_tls {
        return ask(tcp, uri).await;
    }
    let server = ServerName::try_from(name.to_owned()).map_err(|_| "the host name is not valid".to_owned())?;
    let tls = TlsConnector::from(Arc::clone(&TLS)).connect(server, tcp).await;
    ask(tls.map_err(|error| format!("TLS failed: {error}"))?, uri).await
}

async fn connect(name: &str, port: u16, reach: Reach) -> Result<TcpStream, String> {
    let found = tokio::net::lookup_host((name, port)).await;
    let found: Vec<SocketAddr> = found.map_err(|error| format!("the host is not found: {error}"))?.collect();
    let mut last = "the host has no address that may be asked".to_owned();
    for address in
        found.into_iter().filter(|address| reach == Reach::Anywhere || is_public(address.ip())).take(ADDRESSES_MAX)
    {
        match TcpStream::connect(address).await {
            Ok(tcp) => return Ok(tcp),
            Err(error) => last = format!("no connection: {error}"),
        }
    }
    Err(last)
}

fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            let is_shared = v4.octets()[0] == 100 && (64..128).contains(&v4.octets()[1]);
            !(v4.is_private()
                || v4.is_loopback()
                || v4.is_link_local()
                || v4.is_unspecified()
                || v4.is_broadcast()
                || v4.is_multicast()
                || is_shared)
        }
        IpAddr::V6(v6) => {
            !(v6.is_loopback()
                || v6.is_unspecified()
                || v6.is_multicast()
                || v6.is_unique_local()
                || v6.is_unicast_link_local())
        }
    }
}

async fn ask<IO>(io: IO, uri: &Uri) -> Result<Bytes, String>
where
    IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let failed = |error: hyper::Error| format!("the connection broke: {error}");
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(HEAD_BYTES_MAX)
        .handshake::<_, Empty<Bytes>>(TokioIo::new(io))
        .await
        .map_err(failed)?;
    // Also when time is up in the middle of it.
    let _driver = Driver(tokio::spawn(connection).abort_handle());
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let host = uri.authority().map(|authority| authority.as_str()).unwrap_or_default();
    let request = Request::get(path)
        .header(HOST, host)
        .header(ACCEPT, "application/json")
        .header(USER_AGENT, concat!("adit-gateway/", env!("CARGO_PKG_VERSION")))
        .body(Empty::new())
        .map_err(|error| error.to_string())?;
    let response = sender.send_request(request).await.map_err(failed)?;
    // A redirect is no answer either: where keys come from is for the policy to say.
    if response.status() != StatusCode::OK {
        return Err(format!("the answer has status {}", response.status().as_u16()));
    }
    let body = Limited::new(response.into_body(), BODY_BYTES_MAX).collect().await;
    Ok(body.map_err(|error| format!("the answer is cut or longer than {BODY_BYTES_MAX} bytes: {error}"))?.to_bytes())
}

/// Ends the task of a connection that nobody needs any more.
struct Driver(AbortHandle);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Trusts the public authorities.
static TLS: LazyLock<Arc<ClientConfig>> = LazyLock::new(|| {
    let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    #[expect(clippy::expect_used, reason = "ring has the default versions, always")]
    let builder = builder.with_safe_default_protocol_versions().expect("ring supports TLS 1.2 and 1.3");
    Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
});

/// From the look-up of the name to the last byte.
const TIME: Duration = Duration::from_secs(5);
/// Key sets have some kilobytes.
const BODY_BYTES_MAX: usize = 256 * 1024;
const HEAD_BYTES_MAX: usize = 32 * 1024;
/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 4;
