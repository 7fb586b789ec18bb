//! The ports of `tcp` endpoints: those of the configuration, and those that agents bind and give back.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use adit::endpoint_url::Scheme;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::accept::accept;
use super::arrival;
use super::house::House;
use super::raw;
use super::socket::{self, Inherited};
use crate::config::Config;
use crate::gateway::TcpPorts;

/// Opens and closes ports while the gateway runs.
#[derive(Clone, Debug)]
pub(super) struct Ports(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Weak, because the gateway in it has this in turn.
    house: Weak<House>,
    runtime: Handle,
    addresses: Vec<IpAddr>,
    inherited: Inherited,
    stop: watch::Receiver<bool>,
    open: Mutex<HashMap<u16, Open>>,
}

#[derive(Debug)]
struct Open {
    /// Whether the configuration has it, and not an agent.
    is_cloud: bool,
    loops: Vec<AbortHandle>,
}

impl Ports {
    pub(super) fn new(
        house: &Arc<House>,
        addresses: Vec<IpAddr>,
        inherited: Inherited,
        stop: watch::Receiver<bool>,
    ) -> Self {
        let (house, runtime) = (Arc::downgrade(house), Handle::current());
        Self(Arc::new(Shared { house, runtime, addresses, inherited, stop, open: Mutex::default() }))
    }

    /// Begins to accept on sockets of the configuration that are open already.
    pub(super) fn adopt(&self, port: u16, sockets: Vec<TcpListener>) {
        let open = self.0.start(sockets, true);
        self.0.lock().insert(port, open);
    }

    /// Opens the ports that a new configuration has more, and closes those that it has no more. Gives what could not be
    /// opened.
    pub(super) fn follow(&self, config: &Config) -> Vec<(u16, io::Error)> {
        let wanted = cloud_ports(config);
        let mut open = self.0.lock();
        let gone: Vec<_> =
            open.iter().filter(|(port, open)| open.is_cloud && !wanted.contains(port)).map(|(port, _)| *port).collect();
        for port in gone {
            open.remove(&port).into_iter().for_each(|open| open.close());
        }
        let mut failed = Vec::new();
        for port in wanted {
            if open.get(&port).is_some_and(|open| open.is_cloud) {
                continue;
            }
            match self.0.listen(port) {
                Ok(sockets) => drop(open.insert(port, self.0.start(sockets, true))),
                Err(error) => failed.push((port, error)),
            }
        }
        failed
    }
}

impl TcpPorts for Ports {
    fn open(&self, port: Option<u16>) -> io::Result<u16> {
        let mut open = self.0.lock();
        let (port, sockets) = match port {
            Some(port) if open.contains_key(&port) => return Err(io::ErrorKind::AddrInUse.into()),
            Some(port) => (port, self.0.listen(port)?),
            None => self.0.listen_anywhere()?,
        };
        open.insert(port, self.0.start(sockets, false));
        Ok(port)
    }

    fn close(&self, port: u16) {
        let mut open = self.0.lock();
        if open.get(&port).is_some_and(|open| !open.is_cloud) {
            open.remove(&port).into_iter().for_each(|open| open.close());
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, HashMap<u16, Open>> {
        // Nothing that holds the lock leaves half-done work behind when it panics.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn listen(&self, port: u16) -> io::Result<Vec<TcpListener>> {
        let _entered = self.runtime.enter();
        listen_on(&self.addresses, port, &self.inherited).map_err(|(_, error)| error)
    }

    /// A port that is free on the first address may be taken on another one.
    fn listen_anywhere(&self) -> io::Result<(u16, Vec<TcpListener>)> {
        let _entered = self.runtime.enter();
        let (first, others) = self.addresses.split_first().ok_or(io::ErrorKind::Unsupported)?;
        let mut last = io::Error::from(io::ErrorKind::AddrInUse);
        for _ in 0..TRIES {
            let socket = socket::listen(SocketAddr::new(*first, 0), &self.inherited)?;
            let port = socket.local_addr()?.port();
            match listen_on(others, port, &self.inherited) {
                Ok(mut sockets) => {
                    sockets.push(socket);
                    return Ok((port, sockets));
                }
                Err((_, error)) => last = error,
            }
        }
        Err(last)
    }

    fn start(&self, sockets: Vec<TcpListener>, is_cloud: bool) -> Open {
        let start = |socket| {
            let house = self.house.upgrade()?;
            let stop = self.stop.clone();
            Some(self.runtime.spawn(accept_visitors(socket, house, stop)).abort_handle())
        };
        Open { is_cloud, loops: sockets.into_iter().filter_map(start).collect() }
    }
}

impl Open {
    fn close(self) {
        self.loops.iter().for_each(AbortHandle::abort);
    }
}

/// The ports of the configuration's own `tcp` endpoints.
pub(super) fn cloud_ports(config: &Config) -> BTreeSet<u16> {
    let urls = config.cloud_endpoints.iter().map(|endpoint| &endpoint.url);
    urls.filter(|url| url.scheme() == Scheme::Tcp).map(adit::endpoint_url::EndpointUrl::port).collect()
}

/// Opens one port on all addresses, or on none.
pub(super) fn listen_on(
    addresses: &[IpAddr],
    port: u16,
    inherited: &Inherited,
) -> Result<Vec<TcpListener>, (SocketAddr, io::Error)> {
    let open = |ip: &IpAddr| {
        let address = SocketAddr::new(*ip, port);
        socket::listen(address, inherited).map_err(|error| (address, error))
    };
    addresses.iter().map(open).collect()
}

async fn accept_visitors(socket: TcpListener, house: Arc<House>, stop: watch::Receiver<bool>) {
    let serving = Arc::clone(&house);
    accept(socket, house, false, stop, |mut tcp, met| {
        let house = Arc::clone(&serving);
        tokio::spawn(async move {
            // While a proxy says whom it is from, the connection has the place of a visitor, too.
            let Some(pass) = house.admit_visitor() else { return socket::reset_on_close(&tcp) };
            let Some(visitor) = arrival::visitor(&house, &mut tcp, met).await else { return };
            drop(pass);
            raw::serve(&house, tcp, None, visitor, Scheme::Tcp).await;
        });
    })
    .await;
}

/// With two addresses, the same port is nearly always free on the other one as well.
const TRIES: usize = 16;
