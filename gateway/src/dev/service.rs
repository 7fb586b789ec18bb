//! The HTTP service to look at when there is no upstream: it answers with what it was asked.

use std::convert::Infallible;
use std::fmt::Write;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Answers whatever comes until the future is dropped.
pub(super) async fn serve(listener: TcpListener) {
    let mut connections = JoinSet::new();
    let free = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        // The semaphore is never closed.
        let Ok(permit) = Arc::clone(&free).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((client, _)) => {
                connections.spawn(async move {
                    serve_connection(client).await;
                    drop(permit);
                });
            }
            // Of one connection, or for want of descriptors: the next turn of the runtime may have some.
            Err(_) => tokio::task::yield_now().await,
        }
        while connections.try_join_next().is_some() {}
    }
}

/// A listener on a free loopback port, and its address.
pub(super) async fn bind() -> io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

async fn serve_connection(client: TcpStream) {
    let service = service_fn(|request| async { Ok::<_, Infallible>(answer(request).await) });
    // What goes wrong here is between the agent and this service, and the agent logs it.
    let _ = http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(client), service).await;
}

async fn answer(request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let Ok((shown, len)) = read(body).await else {
        let mut response = Response::new(Full::from("the request's body broke off\n"));
        *response.status_mut() = http::StatusCode::BAD_REQUEST;
        return response;
    };
    let mut text = GREETING.to_owned();
    // Writing to a String does not fail.
    let _ = writeln!(text, "{} {}", head.method, head.uri);
    for (name, value) in &head.headers {
        let _ = writeln!(text, "{name}: {}", String::from_utf8_lossy(value.as_bytes()));
    }
    if len > 0 {
        let _ = writeln!(text, "\n{len} bytes in the body:\n{}", String::from_utf8_lossy(&shown));
    }
    let mut response = Response::new(Full::from(text));
    let kind = http::HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(http::header::CONTENT_TYPE, kind);
    response
}

/// Reads the whole body and keeps its beginning.
async fn read(mut body: Incoming) -> Result<(BytesMut, u64), hyper::Error> {
    let (mut shown, mut len) = (BytesMut::new(), 0);
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        len += data.len() as u64;
        let room = SHOWN_MAX.saturating_sub(shown.len()).min(data.len());
        shown.extend_from_slice(data.get(..room).unwrap_or_default());
    }
    Ok((shown, len))
}

const GREETING: &str = "Hello from the service that is built into `adit-gateway dev`. It was asked:\n\n";
/// More than a browser opens; the others wait in the socket's queue.
const CONNECTIONS_MAX: usize = 256;
/// How much of a body is repeated, in bytes.
const SHOWN_MAX: usize = 4096;
