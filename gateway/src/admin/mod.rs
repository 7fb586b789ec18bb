//! The admin listener: how whoever runs the gateway looks at it and tells it what to do while it runs.
//!
//! It speaks HTTP/1.1 with JSON, at a Unix socket and, where the configuration says so, at an address. Nothing that a
//! client does there reaches the traffic: what there can be of connections and bytes is bounded, and a client that does
//! not read costs only its own place, for a while.

mod acts;
mod answer;
mod caller;
mod query;
mod routes;
mod serve;
mod socket;
mod stall;
mod tail;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc};

use crate::config::admin::AdminConfig;
use crate::gateway::Gateway;
use socket::PrivateSocket;

pub use acts::Order;

/// What the routes work on.
#[derive(Debug)]
pub struct Admin {
    gateway: Arc<Gateway>,
    orders: mpsc::Sender<Order>,
    /// Places for drains of single sessions.
    drains: Arc<Semaphore>,
}

/// The sockets of a configuration, open and not served yet.
#[derive(Debug, Default)]
pub struct Listeners {
    unix: Option<Unix>,
    tcp: Option<(TcpListener, Option<Arc<ServerConfig>>)>,
}

#[derive(Debug)]
enum Unix {
    Open(PrivateSocket),
    /// Another process answers there.
    Taken(PathBuf),
}

/// Why a socket is not open.
#[derive(Debug)]
pub enum AdminError {
    /// The Unix socket.
    Socket(PathBuf, io::Error),
    /// The address.
    Address(SocketAddr, io::Error),
}

impl Listeners {
    /// Opens what the configuration asks for. A Unix socket at which another process answers is no error: it is taken as soon
    /// as that one has gone, for it may be the gateway that this one takes over from. Call it within a runtime.
    ///
    /// # Errors
    ///
    /// [`AdminError`]
    pub fn bind(config: &AdminConfig) -> Result<Self, AdminError> {
        let unix = match &config.socket {
            None => None,
            Some(path) => Some(match PrivateSocket::bind(path) {
                Ok(socket) => Unix::Open(socket),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                    tracing::warn!("admin.socket {}: {error}; tried again until it is free", path.display());
                    Unix::Taken(path.clone())
                }
                Err(error) => return Err(AdminError::Socket(path.clone(), error)),
            }),
        };
        let tcp = match &config.listen {
            None => None,
            Some(listen) => {
                let opened = std::net::TcpListener::bind(listen.address);
                let opened = opened.and_then(|socket| socket.set_nonblocking(true).map(|()| socket));
                let opened = opened.and_then(TcpListener::from_std);
                let socket = opened.map_err(|error| AdminError::Address(listen.address, error))?;
                Some((socket, listen.tls.as_ref().map(|tls| Arc::clone(&tls.server))))
            }
        };
        Ok(Self { unix, tcp })
    }

    /// The address, with its real port.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.tcp.as_ref().and_then(|(socket, _)| socket.local_addr().ok())
    }

    /// Begins to serve, until the runtime ends.
    pub fn serve(self, admin: &Arc<Admin>) {
        match self.unix {
            None => {}
            Some(Unix::Open(socket)) => drop(tokio::spawn(serve::unix(socket, Arc::clone(admin)))),
            Some(Unix::Taken(path)) => {
                let admin = Arc::clone(admin);
                drop(tokio::spawn(async move { serve::unix(until_free(path).await, admin).await }));
            }
        }
        if let Some((socket, tls)) = self.tcp {
            tokio::spawn(serve::tcp(socket, tls, Arc::clone(admin)));
        }
    }
}

impl Admin {
    /// For one gateway. What only the process can do comes out of the receiver.
    #[must_use]
    pub fn new(gateway: Arc<Gateway>) -> (Arc<Self>, mpsc::Receiver<Order>) {
        let (orders, ordered) = mpsc::channel(ORDERS_MAX);
        (Arc::new(Self { gateway, orders, drains: Arc::new(Semaphore::new(DRAINS_MAX)) }), ordered)
    }
}

/// Waits until no other process answers at the socket, and takes it.
async fn until_free(path: PathBuf) -> PrivateSocket {
    loop {
        tokio::time::sleep(TAKEN_PAUSE).await;
        if let Ok(socket) = PrivateSocket::bind(&path) {
            tracing::info!("admin.socket {} is free now, and served", path.display());
            return socket;
        }
    }
}

impl fmt::Display for AdminError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(path, error) => write!(f, "admin.socket: {}: {error}", path.display()),
            Self::Address(address, error) => write!(f, "admin.listen: {address} cannot be opened: {error}"),
        }
    }
}

impl std::error::Error for AdminError {}

/// Orders that wait: who comes beyond them is told so.
const ORDERS_MAX: usize = 4;
/// Drains of single sessions at a time, each of which may go on for `limits.drain_timeout`.
const DRAINS_MAX: usize = 16;
/// How often a socket is looked at that another process has: a gateway that drains goes on for minutes.
const TAKEN_PAUSE: Duration = Duration::from_secs(1);
