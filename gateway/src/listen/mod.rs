//! Where everything from outside comes in: sockets, and who serves what comes to them.

mod accept;
mod arrival;
pub mod client_hello;
pub mod decide;
mod gate;
mod handshake;
mod house;
mod http;
pub mod proxy_header;
mod raw;
mod socket;
mod tcp;
mod tls;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::certificates::Certificates;
use crate::config::Config;
use crate::config::certificate::Certificate;
use crate::gateway::Gateway;
use decide::Roles;
use house::House;
use tcp::Ports;

pub use socket::Inherited;

/// The sockets of a configuration, open but not served yet: what connects waits.
#[derive(Debug)]
pub struct Listeners {
    tls: Vec<(Roles, TcpListener)>,
    http: Vec<TcpListener>,
    tcp: BTreeMap<u16, Vec<TcpListener>>,
    tcp_addresses: Vec<IpAddr>,
    inherited: Inherited,
}

/// Why a socket is not open.
#[derive(Debug)]
pub struct ListenError {
    /// The key of the configuration that asks for it.
    pub key: &'static str,
    /// The address.
    pub address: SocketAddr,
    /// What the operating system says.
    pub error: io::Error,
}

/// Sockets that are being served. Dropping it stops them.
#[derive(Debug)]
pub struct Serving {
    house: Arc<House>,
    ports: Ports,
    stop: watch::Sender<bool>,
}

impl Listeners {
    /// Opens all sockets of a configuration, or takes them from `inherited`. Call it within a runtime.
    ///
    /// # Errors
    ///
    /// The first that cannot be opened; none is open then.
    pub fn bind(config: &Config, inherited: Inherited) -> Result<Self, ListenError> {
        let mut roles: BTreeMap<SocketAddr, (&'static str, Roles)> = BTreeMap::new();
        let mut take = |key: &'static str, list: &[SocketAddr], set: fn(&mut Roles)| {
            for address in list {
                set(&mut roles.entry(*address).or_insert((key, Roles::default())).1);
            }
        };
        take("listeners.agents", &config.listeners.agents, |roles| roles.agents = true);
        take("listeners.https", &config.listeners.https, |roles| roles.https = true);
        take("listeners.tls", &config.listeners.tls, |roles| roles.tls = true);
        let open =
            |key, address| socket::listen(address, &inherited).map_err(|error| ListenError { key, address, error });
        let tls: Result<_, ListenError> =
            roles.into_iter().map(|(address, (key, roles))| Ok((roles, open(key, address)?))).collect();
        let http: Result<_, ListenError> =
            config.listeners.http.iter().map(|address| open("listeners.http", *address)).collect();
        let tcp_addresses = config.listeners.tcp.addresses.clone();
        let tcp = tcp::cloud_ports(config).into_iter().map(|port| {
            let sockets = tcp::listen_on(&tcp_addresses, port, &inherited);
            let sockets =
                sockets.map_err(|(address, error)| ListenError { key: "listeners.tcp.addresses", address, error })?;
            Ok((port, sockets))
        });
        let (tls, http, tcp) = (tls?, http?, tcp.collect::<Result<_, ListenError>>()?);
        for address in inherited.left() {
            tracing::warn!(%address, "the handed-over socket is not in the configuration yet; nobody is served there");
        }
        Ok(Self { tls, http, tcp, tcp_addresses, inherited })
    }

    /// The addresses where agents connect, with their real ports.
    #[must_use]
    pub fn agents(&self) -> Vec<SocketAddr> {
        self.tls_addresses(|roles| roles.agents)
    }

    /// The addresses for `https` endpoints, with their real ports.
    #[must_use]
    pub fn https(&self) -> Vec<SocketAddr> {
        self.tls_addresses(|roles| roles.https)
    }

    /// The addresses for `tls` endpoints, with their real ports.
    #[must_use]
    pub fn tls(&self) -> Vec<SocketAddr> {
        self.tls_addresses(|roles| roles.tls)
    }

    /// The addresses for `http` endpoints, with their real ports.
    #[must_use]
    pub fn http(&self) -> Vec<SocketAddr> {
        addresses(&self.http)
    }

    /// The addresses of the configuration's own `tcp` endpoints.
    #[must_use]
    pub fn tcp(&self) -> Vec<SocketAddr> {
        self.tcp.values().flat_map(|sockets| addresses(sockets)).collect()
    }

    /// Begins to serve what connects. From now on agents get public `tcp` endpoints, too, where the configuration has
    /// ports for them. Call it once for a gateway.
    ///
    /// # Errors
    ///
    /// TLS cannot be set up.
    pub fn serve(self, gateway: Arc<Gateway>, certificates: Arc<Certificates>) -> Result<Serving, rustls::Error> {
        let house = House::new(Arc::clone(&gateway), certificates)?;
        let (stop, stopped) = watch::channel(false);
        for (roles, listener) in self.tls {
            tokio::spawn(serve_tls(listener, roles, Arc::clone(&house), stopped.clone()));
        }
        for listener in self.http {
            tokio::spawn(serve_http(listener, Arc::clone(&house), stopped.clone()));
        }
        let ports = Ports::new(&house, self.tcp_addresses, self.inherited, stopped);
        for (port, sockets) in self.tcp {
            ports.adopt(port, sockets);
        }
        gateway.set_tcp_ports(Box::new(ports.clone()));
        gateway.set_served(&house.certificates);
        Ok(Serving { house, ports, stop })
    }

    fn tls_addresses(&self, is_wanted: fn(&Roles) -> bool) -> Vec<SocketAddr> {
        let wanted = self.tls.iter().filter(|(roles, _)| is_wanted(roles));
        wanted.filter_map(|(_, listener)| listener.local_addr().ok()).collect()
    }
}

impl Serving {
    /// Follows a configuration that has been put in force: its certificates, and the ports of its `tcp` endpoints.
    /// What cannot be opened is reported in the log and tried again at the next reload.
    pub fn reload(&self, config: &Config) {
        self.house.certificates.replace(&config.certificates);
        for (port, error) in self.ports.follow(config) {
            tracing::error!(port, "the port of a tcp endpoint cannot be opened: {error}");
        }
    }

    /// Puts other certificates in the place of those of the configuration; connections that are up keep theirs.
    pub fn replace_certificates(&self, certificates: &[Certificate]) {
        self.house.certificates.replace(certificates);
    }

    /// Accepts nothing more; the sockets close. Connections go on.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Waits until all connections have ended but those of agents.
    pub async fn visitors_finished(&self) {
        self.house.no_visitors().await;
    }

    /// Waits until all connections have ended.
    pub async fn finished(&self) {
        self.house.empty().await;
    }
}

async fn serve_tls(listener: TcpListener, roles: Roles, house: Arc<House>, stop: watch::Receiver<bool>) {
    let serving = Arc::clone(&house);
    accept::accept(listener, house, true, stop, |mut tcp, met| {
        let (house, pending) = (Arc::clone(&serving), serving.pending.enter());
        tokio::spawn(async move {
            let Some(visitor) = arrival::visitor(&house, &mut tcp, met).await else { return };
            tls::serve(house, tcp, visitor, roles, pending).await;
        });
    })
    .await;
}

async fn serve_http(listener: TcpListener, house: Arc<House>, stop: watch::Receiver<bool>) {
    let serving = Arc::clone(&house);
    accept::accept(listener, house, false, stop, |tcp, visitor| {
        tokio::spawn(http::serve_plain(Arc::clone(&serving), tcp, visitor));
    })
    .await;
}

fn addresses(sockets: &[TcpListener]) -> Vec<SocketAddr> {
    sockets.iter().filter_map(|socket| socket.local_addr().ok()).collect()
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, address, error } = self;
        write!(f, "{key}: {address} cannot be opened: {error}")?;
        match error.kind() {
            io::ErrorKind::PermissionDenied => f.write_str("; ports below 1024 need CAP_NET_BIND_SERVICE"),
            io::ErrorKind::AddrInUse => f.write_str("; stop the program that has it, or give another address"),
            io::ErrorKind::AddrNotAvailable => f.write_str("; this machine does not have the address"),
            _ => Ok(()),
        }
    }
}

impl std::error::Error for ListenError {}
