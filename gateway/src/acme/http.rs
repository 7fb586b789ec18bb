//! Requests to an authority, within strict bounds: each on a connection of its own, for there are ten of them in a month.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{HOST, HeaderValue, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, Request, Response, Uri};
use http_body_util::{BodyExt, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// Asks one authority. Clones share what was answered last.
#[derive(Clone)]
pub(crate) struct Client {
    tls: TlsConnector,
    retry_after: Arc<Mutex<Option<Duration>>>,
}

/// Why there is no answer.
#[derive(Debug)]
struct RequestError(String);

impl Client {
    /// Trusts the public authorities, or those of `roots` alone.
    ///
    /// # Errors
    ///
    /// TLS cannot be set up.
    pub(crate) fn new(roots: &[CertificateDer<'static>]) -> Result<Self, rustls::Error> {
        let mut store = RootCertStore::empty();
        if roots.is_empty() {
            store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
        for root in roots {
            store.add(root.clone())?;
        }
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(store)
            .with_no_client_auth();
        Ok(Self { tls: Arc::new(config).into(), retry_after: Arc::default() })
    }

    /// How long the last answer said to stay away.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        *self.retry_after.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn ask(self, request: Request<BodyWrapper<Bytes>>) -> Result<BytesResponse, RequestError> {
        let host = request.uri().host().unwrap_or_default().to_owned();
        let answer = timeout(TIME, self.ask_in_time(request)).await;
        let answer = answer.map_err(|_| RequestError(format!("no answer within {} s", TIME.as_secs())));
        let response = answer.and_then(|answer| answer).map_err(|error| RequestError(format!("{host}: {error}")))?;
        let told = retry_after(response.headers(), SystemTime::now());
        *self.retry_after.lock().unwrap_or_else(PoisonError::into_inner) = told;
        let (parts, body) = response.into_parts();
        Ok(BytesResponse { parts, body: Box::new(body) })
    }

    async fn ask_in_time(&self, mut request: Request<BodyWrapper<Bytes>>) -> Result<Response<Bytes>, RequestError> {
        let (name, port) = check(request.uri()).map_err(|text| RequestError(text.to_owned()))?;
        let authority = request.uri().authority().map(|authority| authority.as_str().to_owned()).unwrap_or_default();
        let path = request.uri().path_and_query().cloned();
        *request.uri_mut() = path.map_or_else(|| Uri::from_static("/"), Uri::from);
        let host = HeaderValue::from_str(&authority).map_err(|error| RequestError(error.to_string()))?;
        request.headers_mut().insert(HOST, host);
        request.headers_mut().insert(USER_AGENT, HeaderValue::from_static(OWN_NAME));
        let tcp = connect(&name, port).await?;
        let server = ServerName::try_from(name).map_err(|_| RequestError("the host name is not valid".to_owned()))?;
        let tls = self.tls.connect(server, tcp).await;
        let tls = tls.map_err(|error| RequestError(format!("TLS failed: {error}; see acme.directory_ca_file")))?;
        let failed = |error: hyper::Error| RequestError(format!("the connection broke: {error}"));
        let (mut sender, connection) = http1::Builder::new()
            .max_buf_size(HEAD_BYTES_MAX)
            .handshake::<_, BodyWrapper<Bytes>>(TokioIo::new(tls))
            .await
            .map_err(failed)?;
        // Also when time is up in the middle of it.
        let _driver = Driver(tokio::spawn(connection).abort_handle());
        let (parts, body) = sender.send_request(request).await.map_err(failed)?.into_parts();
        let body = Limited::new(body, BODY_BYTES_MAX).collect().await.map_err(|error| {
            RequestError(format!("the answer is cut or longer than {BODY_BYTES_MAX} bytes: {error}"))
        })?;
        Ok(Response::from_parts(parts, body.to_bytes()))
    }
}

impl HttpClient for Client {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let client = self.clone();
        Box::pin(async move { client.ask(request).await.map_err(|error| Error::Other(Box::new(error))) })
    }
}

/// Reads an address of an authority: its host and its port.
///
/// # Errors
///
/// What would be right.
pub(crate) fn check(url: &Uri) -> Result<(String, u16), &'static str> {
    const EXPECTED: &str = "must be a URL such as https://acme-v02.api.letsencrypt.org/directory";
    let host = url.host().filter(|host| !host.is_empty()).ok_or(EXPECTED)?;
    if url.scheme_str() != Some("https") {
        return Err("must begin with https://");
    }
    if url.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err("must not have a name or a password in it");
    }
    let name = host.trim_start_matches('[').trim_end_matches(']');
    Ok((name.to_owned(), url.port_u16().unwrap_or(443)))
}

async fn connect(name: &str, port: u16) -> Result<TcpStream, RequestError> {
    let found = tokio::net::lookup_host((name, port)).await;
    let found = found.map_err(|error| RequestError(format!("the host is not found: {error}")))?;
    let mut last = RequestError("the host has no address".to_owned());
    for address in found.take(ADDRESSES_MAX) {
        match timeout(CONNECT_TIME, TcpStream::connect(address)).await {
            Ok(Ok(tcp)) => return Ok(tcp),
            Ok(Err(error)) => last = RequestError(format!("no connection: {error}")),
            Err(_) => last = RequestError("no connection: it took too long".to_owned()),
        }
    }
    Err(last)
}

/// Seconds, or a date (RFC 9110, 10.2.3).
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    httpdate::parse_http_date(text).ok()?.duration_since(now).ok()
}

/// Ends the task of a connection that nobody needs any more.
struct Driver(AbortHandle);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for RequestError {}

const OWN_NAME: &str = concat!("adit-gateway/", env!("CARGO_PKG_VERSION"), " instant-acme");
/// From the look-up of the name to the last byte; authorities take some seconds to issue.
const TIME: Duration = Duration::from_secs(30);
/// So that an address that swallows everything leaves time for the next one.
const CONNECT_TIME: Duration = Duration::from_secs(5);
/// Chains have some kilobytes.
const BODY_BYTES_MAX: usize = 256 * 1024;
const HEAD_BYTES_MAX: usize = 32 * 1024;
/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let read = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, HeaderValue::from_static(text));
            retry_after(&headers, now).map(|wait| wait.as_secs())
        };
        assert_eq!(read("120"), Some(120));
        assert_eq!(read(" 0 "), Some(0));
        assert_eq!(read("Sun, 06 Nov 1994 08:50:37 GMT"), Some(60));
        for text in ["", "-1", "soon", "Sun, 06 Nov 1994 08:40:37 GMT", "99999999999999999999999"] {
            assert_eq!(read(text), None, "{text}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }

    #[test]
    fn only_https_without_a_password_is_asked() {
        let read = |text: &str| check(&text.parse().unwrap());
        assert_eq!(read("https://ca.example.com/dir"), Ok(("ca.example.com".to_owned(), 443)));
        assert_eq!(read("https://[::1]:14000/dir"), Ok(("::1".to_owned(), 14000)));
        for text in ["http://ca.example.com/dir", "/dir", "ca.example.com", "ftp://x/", "https://a:b@ca.example.com/"] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
