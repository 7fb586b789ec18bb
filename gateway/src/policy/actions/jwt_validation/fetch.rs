//! One small document over HTTP, within strict bounds.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, HOST, USER_AGENT};
use http::uri::Scheme;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::Full;
use tokio::time::timeout;

use super::super::super::lookup::Payer;
use super::super::super::outside::{OutsideFault, ask};

pub(in crate::policy::actions) use super::super::super::outside::Reach;

/// Reads the address of a document.
pub(in crate::policy::actions) fn check(url: &str, reach: Reach) -> Result<Uri, &'static str> {
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

/// What is asked.
#[derive(Debug, Default)]
pub(in crate::policy::actions) struct Asking {
    pub(in crate::policy::actions) method: Method,
    /// Beside those that every request has.
    pub(in crate::policy::actions) headers: HeaderMap,
    pub(in crate::policy::actions) body: Bytes,
}

/// Gets the document.
pub(in crate::policy::actions) async fn get(uri: &Uri, reach: Reach) -> Result<Bytes, String> {
    match send(uri, reach, Asking::default()).await? {
        (StatusCode::OK, body) => Ok(body),
        // A redirect is no answer either: where a document comes from is for the policy to say.
        (status, _) => Err(format!("the answer has status {}", status.as_u16())),
    }
}

/// Asks, and takes whatever is answered.
pub(in crate::policy::actions) async fn send(
    uri: &Uri,
    reach: Reach,
    asking: Asking,
) -> Result<(StatusCode, Bytes), String> {
    let answer = timeout(TIME, send_in_time(uri, reach, asking)).await;
    answer.map_err(|_| format!("no answer within {} s", TIME.as_secs()))?
}

async fn send_in_time(uri: &Uri, reach: Reach, asking: Asking) -> Result<(StatusCode, Bytes), String> {
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let host = uri.authority().map(|authority| authority.as_str()).unwrap_or_default();
    let mut request = Request::new(Full::new(asking.body));
    *request.method_mut() = asking.method;
    *request.uri_mut() = path.parse().map_err(|_| "the path is not valid".to_owned())?;
    *request.headers_mut() = asking.headers;
    let headers = request.headers_mut();
    headers.insert(HOST, HeaderValue::from_str(host).map_err(|_| "the host name is not valid".to_owned())?);
    headers.entry(ACCEPT).or_insert(HeaderValue::from_static("application/json"));
    headers.insert(USER_AGENT, HeaderValue::from_static(concat!("adit-gateway/", env!("CARGO_PKG_VERSION"))));
    let (response, _) =
        ask(uri, reach, Payer::Gateway, request, BODY_BYTES_MAX).await.map_err(|fault| match fault {
            OutsideFault::TooLong => format!("the answer is longer than {BODY_BYTES_MAX} bytes"),
            OutsideFault::Failed(reason) => reason,
        })?;
    Ok((response.status(), response.into_body()))
}

/// From the look-up of the name to the last byte.
const TIME: Duration = Duration::from_secs(5);
/// Key sets have some kilobytes.
const BODY_BYTES_MAX: usize = 256 * 1024;
