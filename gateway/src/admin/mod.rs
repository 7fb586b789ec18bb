//! The admin listener: how whoever runs the gateway looks at it and tells it what to do while it runs.
//!
//! It speaks HTTP/1.1 with JSON, at a Unix socket and, where the configuration says so, at an address. Nothing that a
//! client does there reaches the traffic: what there can be of connections and bytes is bounded, and a client that does
//! not read costs only its own place, for a while.

mod acts;
mod answer;
mod caller;
mod query;
mod renewal;
mod routes;
mod serve;
mod shown_page;
mod socket;
mod stall;
mod tail;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, watch};

use crate::config::admin::{AdminConfig, AdminTls};
use crate::gateway::Gateway;
use crate::quiet::Quiet;
use crate::status_page::History;
use shown_page::ShownPage;
use socket::PrivateSocket;

pub use acts::Order;

/// What the routes work on.
#[derive(Debug)]
pub struct Admin {
    gateway: Arc<Gateway>,
    orders: mpsc::Sender<Order>,
    /// Acts that were refused.
    refusals: Mutex<Quiet<acts::RefusedAct>>,
    /// Places for drains of single sessions.
    drains: Arc<Semaphore>,
    /// Places for those who follow events: at the Unix socket, and at the address.
    tails: [Arc<Semaphore>; 2],
    /// What the status page draws.
    history: History,
    /// The status page as somebody has got it.
    page: ShownPage,
}

/// The sockets of a configuration, open and not served yet.
#[derive(Debug, Default)]
pub struct Listeners {
    unix: Option<Unix>,
    tcp: Option<(Tcp, Option<AdminTls>)>,
}

#[derive(Debug)]
enum Tcp {
    Open(TcpListener),
    /// Another process listens there.
    Taken(SocketAddr),
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
    /// Opens what the configuration asks for. A place that another process has is no error: it is taken as soon
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
                let socket = match open(listen.address) {
                    Ok(socket) => Tcp::Open(socket),
                    Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                        tracing::warn!("admin.listen {}: {error}; tried again until it is free", listen.address);
                        Tcp::Taken(listen.address)
                    }
                    Err(error) => return Err(AdminError::Address(listen.address, error)),
                };
                Some((socket, listen.tls.clone()))
            }
        };
        Ok(Self { unix, tcp })
    }

    /// The address, with its real port.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        match &self.tcp {
            Some((Tcp::Open(socket), _)) => socket.local_addr().ok(),
            Some((Tcp::Taken(_), _)) | None => None,
        }
    }

    /// Begins to serve, until the runtime ends.
    pub fn serve(self, admin: &Arc<Admin>) {
        if self.unix.is_none() && self.tcp.is_none() {
            return;
        }
        let follower = Arc::clone(admin);
        tokio::spawn(async move { follower.history.follow(&follower.gateway).await });
        match self.unix {
            None => {}
            Some(Unix::Open(socket)) => drop(tokio::spawn(serve::unix(socket, Arc::clone(admin)))),
            Some(Unix::Taken(path)) => {
                let admin = Arc::clone(admin);
                drop(tokio::spawn(async move { serve::unix(until_free(path).await, admin).await }));
            }
        }
        if let Some((socket, tls)) = self.tcp {
            let admin = Arc::clone(admin);
            let tls = tls.map(|tls| {
                let (renewed, current) = watch::channel(Arc::new(tls.clone()));
                tokio::spawn(renewal::keep(tls, renewed, Arc::clone(&admin.gateway)));
                current
            });
            tokio::spawn(async move {
                let socket = match socket {
                    Tcp::Open(socket) => socket,
                    Tcp::Taken(address) => until_open(address).await,
                };
                serve::tcp(socket, tls, admin).await;
            });
        }
    }
}

impl Admin {
    /// For one gateway. What only the process can do comes out of the receiver.
    #[must_use]
    pub fn new(gateway: Arc<Gateway>) -> (Arc<Self>, mpsc::Receiver<Order>) {
        let (orders, ordered) = mpsc::channel(ORDERS_MAX);
        (
            Arc::new(Self {
                gateway,
                orders,
                refusals: Mutex::new(Quiet::new()),
                drains: Arc::new(Semaphore::new(DRAINS_MAX)),
                tails: [(); 2].map(|()| Arc::new(Semaphore::new(TAILS_MAX))),
                history: History::default(),
                page: ShownPage::default(),
            }),
            ordered,
        )
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

/// Waits until no other process listens at the address, and takes it.
async fn until_open(address: SocketAddr) -> TcpListener {
    loop {
        tokio::time::sleep(TAKEN_PAUSE).await;
        if let Ok(socket) = open(address) {
            tracing::info!("admin.listen {address} is free now, and served");
            return socket;
        }
    }
}

fn open(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = std::net::TcpListener::bind(address)?;
    socket.set_nonblocking(true)?;
    TcpListener::from_std(socket)
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
/// Those who follow events at a time, at each of the two: they stay, and must leave places to those who come to look or to change
/// something.
const TAILS_MAX: usize = 32;
const _: () = assert!(TAILS_MAX * 2 <= serve::CONNECTIONS_MAX, "as many places are left as they may take");
/// How often a socket is looked at that another process has: a gateway that drains goes on for minutes.
const TAKEN_PAUSE: Duration = Duration::from_secs(1);
