//! Connections of visitors that speak HTTP.

use std::sync::Arc;

use adit::endpoint_url::Scheme;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::house::House;
use super::{arrival, socket};
use crate::http::reach::Visitor;
use crate::http::{self, Ending, Front, Limits, Protocol};
use crate::tls::Session;

/// How a connection came in.
#[derive(Debug)]
pub(super) struct Came {
    pub(super) visitor: Visitor,
    pub(super) scheme: Scheme,
    /// The TLS that has ended.
    pub(super) tls: Option<Arc<Session>>,
}

/// Serves a connection without TLS.
pub(super) async fn serve_plain(house: Arc<House>, mut tcp: TcpStream, met: Visitor) {
    let Some(_pass) = house.admit_visitor() else { return socket::reset_on_close(&tcp) };
    let Some(visitor) = arrival::visitor(&house, &mut tcp, met).await else { return };
    let came = Came { visitor, scheme: Scheme::Http, tls: None };
    serve(&house, tcp, came, Protocol::Detect, |tcp| tcp).await;
}

/// Serves a connection behind whatever it came in; `tcp` gives its socket.
pub(super) async fn serve<IO>(
    house: &House,
    io: IO,
    came: Came,
    protocol: Protocol,
    tcp: impl FnOnce(&IO) -> &TcpStream,
) where
    IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let _open = house.gateway.metrics().visitor(came.scheme.into());
    let limits = Limits::from(&house.gateway.config().limits);
    let Came { visitor, scheme, tls } = came;
    let front = Front { visitor, tls, scheme, protocol, limits };
    match http::serve(Arc::clone(&house.gateway), io, front).await {
        Ending::Closed => {}
        Ending::Cut(io) => socket::reset_on_close(tcp(&io)),
    }
}
