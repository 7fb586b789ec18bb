//! Whom a connection is from. A trusted proxy says so in a PROXY header; everybody else is who its socket says.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::house::House;
use super::proxy_header::{self, Announced, HEADER_BYTES_MAX, HeaderError};
use super::socket;
use crate::http::reach::Visitor;
use crate::metrics::Closed;

/// Tells whom a new connection is from; `met` is what its socket says. The port stays that of our own socket, because the
/// proxy's may be another one and endpoints are found by ours.
///
/// From a trusted proxy the header has to come, and to come first: without it, whoever the proxy lets through would pass
/// for the proxy. From others nothing is read here; a header of theirs is what begins their TLS or HTTP, and no good for
/// that. `None`: the connection was reset.
pub(super) async fn visitor(house: &House, tcp: &mut TcpStream, met: Visitor) -> Option<Visitor> {
    let config = house.gateway.config();
    if !config.listeners.trusted_proxies.announces(met.peer.ip(), met.local.port()) {
        return Some(met);
    }
    match timeout(HEADER_TIME, read(tcp)).await.unwrap_or(Err(Failure::Time)) {
        Ok(Announced::Own) => Some(met),
        Ok(Announced::Passed { source, destination }) => {
            let destination = SocketAddr::new(destination.ip(), met.local.port());
            let visitor =
                Visitor { peer: socket::canonical(source), local: socket::canonical(destination), number: met.number };
            tracing::debug!(proxy = %met.peer, visitor = %visitor.peer, "connection through a proxy");
            Some(visitor)
        }
        Err(failure) => {
            socket::reset_on_close(tcp);
            house.gateway.metrics().closed.one(Closed::NoProxyHeader);
            // Probes that only connect are told at a level that nobody wants by default.
            if matches!(failure, Failure::Header(_) | Failure::Time) && house.may_tell_of_proxies() {
                let key = "listeners.trusted_proxies";
                tracing::warn!(proxy = %met.peer, key, "connections of a trusted proxy are reset: {failure}");
            } else {
                tracing::debug!(proxy = %met.peer, "connection of a trusted proxy reset: {failure}");
            }
            None
        }
    }
}

/// Reads a header and nothing behind it.
async fn read(tcp: &mut TcpStream) -> Result<Announced, Failure> {
    let mut bytes = vec![0; HEADER_BYTES_MAX];
    let mut taken = 0;
    loop {
        let seen = tcp.peek(bytes.get_mut(taken..).unwrap_or_default()).await.map_err(Failure::Io)?;
        if seen == 0 {
            return Err(Failure::Io(io::ErrorKind::UnexpectedEof.into()));
        }
        let parsed = proxy_header::parse(bytes.get(..taken + seen).unwrap_or_default());
        let parsed = parsed.map_err(Failure::Header)?;
        // What was seen of a header that is not whole yet is all of it.
        let end = parsed.map_or(taken + seen, |(_, len)| len);
        tcp.read_exact(bytes.get_mut(taken..end).unwrap_or_default()).await.map_err(Failure::Io)?;
        taken = end;
        if let Some((announced, _)) = parsed {
            return Ok(announced);
        }
    }
}

/// Why it is not known whom a connection of a trusted proxy is from.
enum Failure {
    Time,
    Io(io::Error),
    Header(HeaderError),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Time => write!(f, "no PROXY header came within {} s", HEADER_TIME.as_secs()),
            Self::Io(error) => write!(f, "no PROXY header came: {error}"),
            Self::Header(error) => error.fmt(f),
        }
    }
}

/// Proxies send the header at once; the specification asks for a few seconds, so that a lost packet can be sent again.
const HEADER_TIME: Duration = Duration::from_secs(5);
