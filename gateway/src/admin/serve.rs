//! Serves the connections of the admin listener.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use ring::digest::{SHA256, digest};
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::Admin;
use super::caller::Caller;
use super::renewal::{Current, until_refused};
use super::routes;
use super::socket::PrivateSocket;
use super::stall::Stalling;

/// Serves whoever connects to the Unix socket.
pub(super) async fn unix(socket: PrivateSocket, admin: Arc<Admin>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let stream = match socket.listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                pause(&error).await;
                continue;
            }
        };
        // Whoever finds no place is told so by the end of the connection.
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        let admin = Arc::clone(&admin);
        tokio::spawn(async move {
            keep_little(SockRef::from(&stream));
            if let Some(caller) = local(&stream) {
                connection(stream, admin, caller).await;
            }
            drop(place);
        });
    }
}

/// Serves whoever connects to the address, and has a certificate where one is asked for.
pub(super) async fn tcp(socket: TcpListener, tls: Option<Current>, admin: Arc<Admin>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut handshakes = Handshakes::default();
    loop {
        let (stream, peer) = match socket.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                pause(&error).await;
                continue;
            }
        };
        keep_little(SockRef::from(&stream));
        let (admin, places, tls) = (Arc::clone(&admin), Arc::clone(&places), tls.clone());
        let Some(tls) = tls else {
            let Ok(place) = places.try_acquire_owned() else { continue };
            tokio::spawn(async move {
                connection(stream, admin, Caller::Loopback(peer)).await;
                drop(place);
            });
            continue;
        };
        // Strangers take no place of those who have a certificate.
        handshakes.begin(async move {
            let server = Arc::clone(&tls.borrow().server);
            let shaken = certified(stream, peer, server).await;
            let (Some(certified), Ok(place)) = (shaken, places.try_acquire_owned()) else { return };
            tokio::spawn(async move {
                let Certified { stream, chain, caller } = certified;
                let shown = caller.to_string();
                tokio::select! {
                    () = connection(stream, admin, caller) => {}
                    () = until_refused(&chain, tls) => {
                        tracing::info!("admin: the connection of {shown} was ended: it would not get in any more");
                    }
                }
                drop(place);
            });
        });
    }
}

/// Handshakes that are under way, oldest first.
#[derive(Debug, Default)]
struct Handshakes(VecDeque<AbortHandle>);

impl Handshakes {
    /// Begins one. When there are too many, the oldest is given up: whoever has a certificate is done within two round trips, and
    /// strangers who only connect would keep everybody out otherwise.
    fn begin(&mut self, handshake: impl Future<Output = ()> + Send + 'static) {
        if self.0.len() >= HANDSHAKES_MAX {
            self.0.retain(|handshake| !handshake.is_finished());
        }
        if self.0.len() >= HANDSHAKES_MAX
            && let Some(oldest) = self.0.pop_front()
        {
            oldest.abort();
        }
        self.0.push_back(tokio::spawn(handshake).abort_handle());
    }
}

/// A connection of somebody with a certificate.
struct Certified {
    stream: TlsStream<TcpStream>,
    /// The certificates that were shown, the client's own first.
    chain: Vec<CertificateDer<'static>>,
    caller: Caller,
}

/// Ends TLS, and tells who has come.
async fn certified(stream: TcpStream, peer: SocketAddr, tls: Arc<ServerConfig>) -> Option<Certified> {
    let stream = match timeout(HANDSHAKE_TIME, TlsAcceptor::from(tls).accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::debug!(address = %peer, "admin: no TLS: {error}");
            return None;
        }
        Err(_) => {
            tracing::debug!(address = %peer, "admin: TLS took too long");
            return None;
        }
    };
    // The handshake has verified them.
    let chain: Vec<_> = stream.get_ref().1.peer_certificates()?.iter().map(|one| one.clone().into_owned()).collect();
    let fingerprint = digest(&SHA256, chain.first()?);
    let fingerprint = fingerprint.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    Some(Certified { stream, chain, caller: Caller::Certified { address: peer, fingerprint } })
}

async fn connection<IO>(io: IO, admin: Arc<Admin>, caller: Caller)
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let caller = Arc::new(caller);
    let service = {
        let caller = Arc::clone(&caller);
        service_fn(move |request: Request<Incoming>| {
            let (admin, caller) = (Arc::clone(&admin), Arc::clone(&caller));
            async move {
                // Nothing here takes a body: what one has sent is not read.
                let (parts, _) = request.into_parts();
                Ok::<_, Infallible>(routes::answer(&admin, &caller, &parts).await)
            }
        })
    };
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(BUFFER_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(Stalling::new(io)), service)
        .await;
    if let Err(error) = served {
        tracing::debug!("admin: a connection of {caller} has ended: {error}");
    }
}

/// Lets the kernel hold little of what a client has not taken. Otherwise it may be megabytes, and says that there is room
/// again only when much of them is gone: one that reads slowly would look like one that does not read.
fn keep_little(socket: SockRef<'_>) {
    if let Err(error) = socket.set_send_buffer_size(UNSENT_BYTES_MAX) {
        tracing::debug!("admin: the buffer of a connection stays as it is: {error}");
    }
}

fn local(stream: &UnixStream) -> Option<Caller> {
    let cred = stream.peer_cred().ok()?;
    Some(Caller::Local { uid: cred.uid(), pid: cred.pid() })
}

/// When descriptors have run out, trying at once only costs time.
async fn pause(error: &io::Error) {
    tracing::debug!("admin: no connection can be accepted now: {error}");
    tokio::time::sleep(FAILURE_PAUSE).await;
}

/// Connections at a time, of the Unix socket and of the address each: a page, a scraper, and a team that looks.
pub(super) const CONNECTIONS_MAX: usize = 64;
/// Clients that have not shown a certificate yet.
const HANDSHAKES_MAX: usize = 64;
/// A handshake has two round trips.
const HANDSHAKE_TIME: Duration = Duration::from_secs(5);
/// How long a request, and the time between two requests may take.
const HEAD_TIME: Duration = Duration::from_secs(30);
/// What is read of a request, and written of an answer, at a time.
const BUFFER_BYTES_MAX: usize = 16 * 1024;
/// What the kernel holds for a client (Linux takes twice as much, for its own records as well): enough for a megabyte a second at
/// 60 ms, and of it a third or three quarters have to go within the ten seconds that a client may take nothing.
const UNSENT_BYTES_MAX: usize = 64 * 1024;
/// Browsers send some twenty.
const HEADERS_MAX: usize = 64;
const FAILURE_PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests;
