//! One small document over HTTP, within strict bounds.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, HOST, USER_AGENT};
use http::uri::Scheme;
use http::{Request, StatusCode, Uri};
use http_body_util::Full;
use tokio::time::timeout;

use super::super::super::outside::{OutsideFault, ask};

pub(super) use super::super::super::outside::Reach;

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
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let host = uri.authority().map(|authority| authority.as_str()).unwrap_or_default();
    let request = Request::get(path)
        .header(HOST, host)
        .header(ACCEPT, "application/json")
        .header(USER_AGENT, concat!("adit-gateway/", env!("CARGO_PKG_VERSION")))
        .body(Full::default())
        .map_err(|error| error.to_string())?;
    let (response, _) = ask(uri, reach, request, BODY_BYTES_MAX).await.map_err(|fault| match fault {
        OutsideFault::TooLong => format!("the answer is longer than {BODY_BYTES_MAX} bytes"),
        OutsideFault::Failed(reason) => reason,
    })?;
    // A redirect is no answer either: where keys come from is for the policy to say.
    if response.status() != StatusCode::OK {
        return Err(format!("the answer has status {}", response.status().as_u16()));
    }
    Ok(response.into_body())
}

/// From the look-up of the name to the last byte.
const TIME: Duration = Duration::from_secs(5);
/// Key sets have some kilobytes.
const BODY_BYTES_MAX: usize = 256 * 1024;
