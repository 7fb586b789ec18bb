//! Connections that begin with TLS: of agents, of visitors of web pages, and those that pass unopened.

use std::fmt;
use std::io;
use std::sync::Arc;

use adit::endpoint_url::{EndpointUrl, Scheme};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::client_hello::{self, HelloError, Replayed};
use super::decide::{Answer, Names, Refusal, Roles, decide};
use super::gate::Pass;
use super::house::House;
use super::{http, raw, socket};
use crate::config::Config;
use crate::http::Protocol;
use crate::http::reach::{PublicEndpoint, Reach, Visitor};
use crate::session::serve_agent;

/// Serves a connection to its end. `pending` is given back once it is known who it is.
pub(super) async fn serve(house: Arc<House>, mut tcp: TcpStream, visitor: Visitor, roles: Roles, pending: Pass) {
    let config = house.gateway.config();
    let hello = timeout(config.limits.client_hello_timeout, client_hello::read(&mut tcp)).await;
    let (hello, kept) = match hello.map_err(|_| Failure::HelloTime).and_then(|read| read.map_err(Failure::Hello)) {
        Ok(read) => read,
        Err(failure) => return failure.tell(visitor),
    };
    let names = Known { reach: &*house.gateway, config: &config, port: visitor.local.port() };
    match decide(roles, &hello, &names) {
        Answer::Agents => serve_as_agent(house, tcp, kept, visitor, pending).await,
        Answer::Https => serve_https(house, tcp, kept, visitor, pending).await,
        Answer::PassThrough(name) => {
            drop(pending);
            raw::serve(&house, tcp, &kept, visitor, Scheme::Tls, name).await;
        }
        Answer::AcmeTls => refuse(tcp, Refusal::NoProtocol, visitor).await,
        Answer::Refuse(refusal) => refuse(tcp, refusal, visitor).await,
    }
}

async fn serve_as_agent(house: Arc<House>, tcp: TcpStream, kept: Vec<u8>, visitor: Visitor, pending: Pass) {
    socket::prepare_link(&tcp);
    let stream = match handshake(&house, &house.agents_tls, tcp, kept).await {
        Ok(stream) => stream,
        Err(failure) => return failure.tell(visitor),
    };
    let Some(_pass) = house.admit_agent() else { return };
    drop(pending);
    serve_agent(Arc::clone(&house.gateway), stream, visitor.peer).await;
}

async fn serve_https(house: Arc<House>, tcp: TcpStream, kept: Vec<u8>, visitor: Visitor, pending: Pass) {
    let stream = match handshake(&house, &house.https_tls, tcp, kept).await {
        Ok(stream) => stream,
        Err(failure) => return failure.tell(visitor),
    };
    let Some(_pass) = house.admit_visitor() else { return };
    drop(pending);
    let protocol = match stream.get_ref().1.alpn_protocol() {
        Some(b"h2") => Protocol::Http2,
        Some(_) => Protocol::Http1,
        None => Protocol::Detect,
    };
    http::serve(&house, stream, visitor, Scheme::Https, protocol, |stream| stream.get_ref().0.io()).await;
}

async fn handshake(
    house: &House,
    acceptor: &TlsAcceptor,
    tcp: TcpStream,
    kept: Vec<u8>,
) -> Result<TlsStream<Replayed<TcpStream>>, Failure> {
    let time = house.gateway.config().limits.tls_handshake_timeout;
    let accept = acceptor.accept(Replayed::new(kept, tcp));
    timeout(time, accept).await.map_err(|_| Failure::HandshakeTime)?.map_err(Failure::Handshake)
}

async fn refuse(mut tcp: TcpStream, refusal: Refusal, visitor: Visitor) {
    tracing::debug!(visitor = %visitor.peer, "TLS connection refused: {refusal}");
    // It fits into any socket's buffer; a client that is gone does not need it.
    let _ = tcp.write_all(&refusal.alert()).await;
    let _ = tcp.shutdown().await;
}

/// Why a connection ended before it began.
enum Failure {
    HelloTime,
    Hello(HelloError),
    HandshakeTime,
    Handshake(io::Error),
}

impl Failure {
    /// Port scanners and health checks do this all the time: nobody wants it in the log by default.
    fn tell(&self, visitor: Visitor) {
        tracing::debug!(visitor = %visitor.peer, "no TLS connection: {self}");
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HelloTime => f.write_str("the ClientHello did not come in time"),
            Self::Hello(error) => error.fmt(f),
            Self::HandshakeTime => f.write_str("the handshake took too long"),
            Self::Handshake(error) => write!(f, "the handshake failed: {error}"),
        }
    }
}

/// The names of the configuration and of the agents.
struct Known<'a, R> {
    reach: &'a R,
    config: &'a Config,
    port: u16,
}

impl<R: Reach> Names for Known<'_, R> {
    fn is_connect_name(&self, name: &str) -> bool {
        self.config.connect.names.iter().any(|connect| connect == name)
    }

    fn passes_through(&self, name: &str, beside_https: bool) -> bool {
        let Ok(tls) = self.reach.public(Scheme::Tls, name, self.port) else { return false };
        let https = if beside_https { self.reach.public(Scheme::Https, name, self.port).ok() } else { None };
        https.is_none_or(|https| specificity(&tls) >= specificity(&https))
    }
}

/// Greater for the more specific of two endpoints that answer for one name.
fn specificity(endpoint: &PublicEndpoint) -> (bool, usize) {
    let url: &EndpointUrl = match endpoint {
        PublicEndpoint::Cloud(cloud) => &cloud.url,
        PublicEndpoint::Agent(target) => &target.url,
    };
    (!url.is_wildcard(), url.host().len())
}
