//! Connections that begin with TLS: of agents, of visitors of web pages, and those that pass unopened.

use std::sync::Arc;

use adit::endpoint_url::{EndpointUrl, Scheme};
use rustls::ServerConfig;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::client_hello::{self, Hello, Replayed};
use super::decide::{Answer, Names, Refusal, Roles, decide};
use super::gate::Pass;
use super::handshake::{self, Failure, Place};
use super::house::House;
use super::http::Came;
use super::{http, raw, socket};
use crate::acme::Challenges;
use crate::config::Config;
use crate::http::Protocol;
use crate::http::reach::{PublicEndpoint, Reach, Visitor};
use crate::metrics::Closed;
use crate::policy::{BeforeTls, Course, Tls};
use crate::route::{self, Asked};
use crate::session::serve_agent;

/// Serves a connection to its end. `pending` is given back once it is known who it is.
pub(super) async fn serve(house: Arc<House>, mut tcp: TcpStream, visitor: Visitor, roles: Roles, pending: Pass) {
    let config = house.gateway.config();
    let hello = timeout(config.limits.client_hello_timeout, client_hello::read(&mut tcp)).await;
    let (hello, kept) = match hello.map_err(|_| Failure::HelloTime).and_then(|read| read.map_err(Failure::Hello)) {
        Ok(read) => read,
        Err(failure) => {
            let place = Place { scheme: Scheme::Tls, host: "", port: visitor.local.port(), visitor: visitor.peer };
            return failure.tell(&house, place);
        }
    };
    let challenges = house.gateway.challenges();
    let names = Known { reach: &*house.gateway, config: &config, challenges, port: visitor.local.port() };
    match decide(roles, &hello, &names) {
        Answer::Agents => serve_as_agent(house, tcp, kept, visitor, pending).await,
        Answer::Https => serve_https(house, tcp, (hello, kept), visitor, pending).await,
        Answer::PassThrough(_) => {
            drop(pending);
            raw::serve(&house, tcp, Some((hello, kept)), visitor, Scheme::Tls).await;
        }
        Answer::AcmeTls => {
            let name = hello.name.as_deref().unwrap_or_default();
            match challenges.tls(name, &hello.protocols) {
                Some(config) => prove(&house, &config, tcp, (hello, kept), visitor).await,
                None => refuse(&house, tcp, Refusal::NoProtocol, visitor).await,
            }
        }
        Answer::Refuse(refusal) => refuse(&house, tcp, refusal, visitor).await,
    }
}

async fn serve_as_agent(house: Arc<House>, tcp: TcpStream, kept: Vec<u8>, visitor: Visitor, pending: Pass) {
    socket::prepare_link(&tcp);
    let place = Place { scheme: Scheme::Tls, host: "", port: visitor.local.port(), visitor: visitor.peer };
    let io = Replayed::reading_ahead(kept, tcp);
    let Some((stream, _)) = handshake::end_by_default(&house, &house.agents_tls, io, place).await else { return };
    let Some(_pass) = house.admit_agent() else { return };
    drop(pending);
    serve_agent(Arc::clone(&house.gateway), stream, visitor.peer).await;
}

async fn serve_https(
    house: Arc<House>,
    tcp: TcpStream,
    (hello, kept): (Hello, Vec<u8>),
    visitor: Visitor,
    pending: Pass,
) {
    let (name, port) = (hello.name.as_deref(), visitor.local.port());
    let (course, tls, host) = (Course::begin(), Tls::Begun(name), name.unwrap_or_default());
    let asked = Asked { scheme: Scheme::Https, host, port, visitor, tls, course: &course, visit: None };
    let place = Place { scheme: Scheme::Https, host: asked.host, port, visitor: visitor.peer };
    let before = match name {
        // No wildcard of an agent decides about the gateway's own name.
        Some(name) if !house.gateway.config().is_callback_host(name) => route::before_tls(&*house.gateway, &asked),
        Some(_) | None => BeforeTls::Default,
    };
    let io = Replayed::new(kept, tcp);
    let ended = match before {
        BeforeTls::Default => handshake::end_by_default(&house, &house.https_tls, io, place).await,
        BeforeTls::Terminate(termination) => {
            let protocols = house.https_tls.alpn_protocols.clone();
            handshake::end_for_endpoint(&house, io, &termination, protocols, place).await
        }
        BeforeTls::Close => return socket::reset_on_close(io.io()),
    };
    let Some((stream, session)) = ended else { return };
    let Some(_pass) = house.admit_visitor() else { return };
    drop(pending);
    let protocol = match session.protocol() {
        Some(b"h2") => Protocol::Http2,
        Some(_) => Protocol::Http1,
        None => Protocol::Detect,
    };
    let came = Came { visitor, scheme: Scheme::Https, tls: Some(session) };
    http::serve(&house, stream, came, protocol, |stream| stream.get_ref().0.io()).await;
}

/// Shows an authority that a name is the gateway's: the handshake is all there is (RFC 8737).
async fn prove(
    house: &House,
    config: &Arc<ServerConfig>,
    tcp: TcpStream,
    (hello, kept): (Hello, Vec<u8>),
    visitor: Visitor,
) {
    let host = hello.name.as_deref().unwrap_or_default();
    let place = Place { scheme: Scheme::Tls, host, port: visitor.local.port(), visitor: visitor.peer };
    let ended = handshake::end_by_default(house, config, Replayed::new(kept, tcp), place).await;
    let Some((mut stream, _)) = ended else { return };
    tracing::debug!(visitor = %visitor.peer, name = host, "proved a name by acme-tls/1");
    // An authority that is gone has seen what it wanted.
    let _ = timeout(house.gateway.config().limits.tls_handshake_timeout, stream.shutdown()).await;
}

async fn refuse(house: &House, mut tcp: TcpStream, refusal: Refusal, visitor: Visitor) {
    house.gateway.metrics().closed.one(match refusal {
        Refusal::NoName => Closed::NoName,
        Refusal::UnknownName => Closed::UnknownName,
        Refusal::NoProtocol => Closed::NoProtocol,
    });
    tracing::debug!(visitor = %visitor.peer, "TLS connection refused: {refusal}");
    // It fits into any socket's buffer; a client that is gone does not need it.
    let _ = tcp.write_all(&refusal.alert()).await;
    let _ = tcp.shutdown().await;
}

/// The names of the configuration and of the agents.
struct Known<'a, R> {
    reach: &'a R,
    config: &'a Config,
    challenges: &'a Challenges,
    port: u16,
}

impl<R: Reach> Names for Known<'_, R> {
    fn is_connect_name(&self, name: &str) -> bool {
        self.config.connect.names.iter().any(|connect| connect == name)
    }

    fn passes_through(&self, name: &str, beside_https: bool) -> bool {
        if self.config.is_callback_host(name) {
            return false;
        }
        let Ok(tls) = self.reach.public(Scheme::Tls, name, self.port) else { return false };
        let https = if beside_https { self.reach.public(Scheme::Https, name, self.port).ok() } else { None };
        https.is_none_or(|https| specificity(&tls) >= specificity(&https))
    }

    fn is_proving(&self, name: &str) -> bool {
        self.challenges.is_proving(name)
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
