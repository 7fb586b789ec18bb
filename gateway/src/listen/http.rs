//! Connections of visitors that speak HTTP.

use std::sync::Arc;

use adit::endpoint_url::Scheme;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::house::House;
use super::{arrival, socket};
use crate::http::reach::Visitor;
use crate::http::{self, Ending, Front, Limits, Protocol};

/// Serves a connection without TLS.
pub(super) async fn serve_plain(house: Arc<House>, mut tcp: TcpStream, met: Visitor) {
    let Some(_pass) = house.admit_visitor() else { return socket::reset_on_close(&tcp) };
    let Some(visitor) = arrival::visitor(&house, &mut tcp, met).await else { return };
    serve(&house, tcp, visitor, Scheme::Http, Protocol::Detect, |tcp| tcp).await;
}

/// Serves a connection behind whatever it came in; `tcp` gives its socket.
pub(super) async fn serve<IO>(
    house: &House,
    io: IO,
    visitor: Visitor,
    scheme: Scheme,
    protocol: Protocol,
    tcp: impl FnOnce(&IO) -> &TcpStream,
) where
    IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let limits = Limits::from(&house.gateway.config().limits);
    let front = Front { visitor, scheme, protocol, limits };
    match http::serve(Arc::clone(&house.gateway), io, front).await {
        Ending::Closed => {}
        Ending::Cut(io) => socket::reset_on_close(tcp(&io)),
    }
}
