//! Visitors: the same ones while a transcript is made and while it is replayed.

use std::sync::Arc;
use std::time::Duration;

use adit::endpoint_url::{EndpointUrl, Scheme};
use adit_gateway::gateway::Gateway;
use adit_gateway::http::reach::{PublicEndpoint, Reach, Target, Visitor};
use adit_gateway::http::{self, Front, Limits, Protocol};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::stage::PATIENCE;

/// What a visitor wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Errand {
    /// A page of an `http` endpoint.
    Page,
    /// To send something to an `https` endpoint.
    Form,
    /// A page whose upstream is not there.
    Dead,
    /// An echo from a `tcp` endpoint that is internal.
    Raw,
    /// An echo from a `tls` endpoint.
    Sealed,
}

impl Errand {
    /// All of them, in the order in which they go.
    pub(crate) const ALL: [Self; 5] = [Self::Page, Self::Form, Self::Dead, Self::Raw, Self::Sealed];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Page => "page",
            Self::Form => "form",
            Self::Dead => "dead",
            Self::Raw => "raw",
            Self::Sealed => "sealed",
        }
    }

    pub(crate) fn named(name: &str) -> Self {
        Self::ALL.into_iter().find(|errand| errand.name() == name).unwrap_or_else(|| panic!("no visitor is {name}"))
    }

    /// The endpoint that the agent binds for it.
    pub(crate) fn url(self) -> EndpointUrl {
        EndpointUrl::parse(match self {
            Self::Page => "http://page.example.com",
            Self::Form => "https://form.example.com",
            Self::Dead => "http://dead.example.com",
            Self::Raw => "tcp://raw.internal:5432",
            Self::Sealed => "tls://sealed.example.com",
        })
        .unwrap()
    }

    /// Goes there as soon as the endpoint is online, and gives what was answered: status and body, or all bytes.
    pub(crate) async fn run(self, gateway: Arc<Gateway>) -> Vec<u8> {
        let target =
            timeout(PATIENCE, self.target(&gateway)).await.unwrap_or_else(|_| panic!("{self:?} is not online"));
        let answer = async {
            match self {
                Self::Page | Self::Dead => self.ask(gateway, "GET", "").await,
                Self::Form => self.ask(gateway, "POST", "name=value").await,
                Self::Raw | Self::Sealed => echo(&gateway, &target).await,
            }
        };
        timeout(PATIENCE, answer).await.unwrap_or_else(|_| panic!("{self:?} gets no answer"))
    }

    async fn target(self, gateway: &Gateway) -> Target {
        let url = self.url();
        loop {
            let found = match self {
                Self::Raw => gateway.internal("main", &url),
                _ => match gateway.public(url.scheme(), url.host(), url.port()) {
                    Ok(PublicEndpoint::Agent(target)) => Ok(target),
                    Ok(PublicEndpoint::Cloud(_)) => panic!("there are no cloud endpoints"),
                    Err(error) => Err(error),
                },
            };
            match found {
                Ok(target) => return target,
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    }

    async fn ask(self, gateway: Arc<Gateway>, method: &str, body: &str) -> Vec<u8> {
        let url = self.url();
        let (mut visitor, io) = tokio::io::duplex(64 * 1024);
        let limits = Limits::from(&gateway.config().limits);
        let scheme = if url.scheme() == Scheme::Https { Scheme::Https } else { Scheme::Http };
        let front = Front { visitor: from(), tls: None, scheme, protocol: Protocol::Http1, limits };
        let serving = tokio::spawn(http::serve(gateway, io, front));
        let (host, length) = (url.host(), body.len());
        let head = format!("{method} /path?query=1 HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n");
        visitor.write_all(format!("{head}Connection: close\r\n\r\n{body}").as_bytes()).await.unwrap();
        let mut answer = String::new();
        visitor.read_to_string(&mut answer).await.unwrap();
        assert!(matches!(serving.await.unwrap(), http::Ending::Closed));
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        // An error page of the gateway's own may change its words.
        let body = if head.starts_with("HTTP/1.1 200") { body } else { "" };
        format!("{} {body}", &head[9..12]).into_bytes()
    }
}

async fn echo(gateway: &Gateway, target: &Target) -> Vec<u8> {
    let mut stream = gateway.open(target, &from(), false).await.unwrap();
    stream.write_all(b"there and back").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    answer
}

fn from() -> Visitor {
    let (peer, local) = ("198.51.100.7:50000".parse().unwrap(), "192.0.2.80:443".parse().unwrap());
    Visitor { peer, local, number: 9_007_199_254_740_991 }
}
