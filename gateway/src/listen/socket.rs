//! Listening sockets: opened here, or handed over by whoever started the program.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener as StdListener};
use std::sync::{Mutex, Once, PoisonError};
use std::time::Duration;

use listenfd::ListenFd;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};

/// Sockets that were open before the program started, as systemd hands them over (`LISTEN_FDS`). They are found by their
/// address, which is the same as in the configuration. Over a restart nobody is refused at them.
#[derive(Debug, Default)]
pub struct Inherited(Mutex<Vec<(SocketAddr, StdListener)>>);

impl Inherited {
    /// Takes them from the environment, which then has them no more. What is no listening TCP socket is left alone.
    #[must_use]
    pub fn from_environment() -> Self {
        let mut handed = ListenFd::from_env();
        let mut sockets = Vec::new();
        for index in 0..handed.len() {
            let listener = match handed.take_tcp_listener(index) {
                Ok(Some(listener)) => listener,
                Ok(None) => continue,
                Err(error) => {
                    tracing::warn!("the handed-over socket {index} is no listening TCP socket: {error}");
                    continue;
                }
            };
            match listener.local_addr() {
                Ok(address) => sockets.push((address, listener)),
                Err(error) => tracing::warn!("the handed-over socket {index} has no address: {error}"),
            }
        }
        Self(Mutex::new(sockets))
    }

    /// Puts a socket among them.
    ///
    /// # Errors
    ///
    /// It has no address.
    pub fn add(&self, listener: StdListener) -> io::Result<()> {
        let address = listener.local_addr()?;
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((address, listener));
        Ok(())
    }

    /// Whether none was handed over, or all have been asked for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.left().is_empty()
    }

    /// The addresses of those that nobody has asked for.
    #[must_use]
    pub fn left(&self) -> Vec<SocketAddr> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|(address, _)| *address).collect()
    }

    fn take(&self, address: SocketAddr) -> Option<StdListener> {
        let mut sockets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let index = sockets.iter().position(|(has, _)| *has == address)?;
        Some(sockets.swap_remove(index).1)
    }
}

/// Takes the inherited socket of this address, or opens one. Call it within a runtime.
pub(super) fn listen(address: SocketAddr, inherited: &Inherited) -> io::Result<TcpListener> {
    let listener = match inherited.take(address) {
        Some(listener) => listener,
        None => open(address)?,
    };
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

fn open(address: SocketAddr) -> io::Result<StdListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Connections of the program before this one may linger in TIME_WAIT.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // IPv4 has entries of its own.
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// What every accepted connection gets: no delay, and a way to notice that the other end is gone. No option is needed for
/// a connection to work: what the system does not know is told once, and done without.
pub(super) fn prepare(tcp: &TcpStream) {
    static NO_DELAY: Once = Once::new();
    static KEEPALIVE: Once = Once::new();
    tell_once(&NO_DELAY, "TCP_NODELAY", tcp.set_nodelay(true));
    let keepalive =
        TcpKeepalive::new().with_time(KEEPALIVE_TIME).with_interval(KEEPALIVE_INTERVAL).with_retries(KEEPALIVE_RETRIES);
    tell_once(&KEEPALIVE, "SO_KEEPALIVE", SockRef::from(tcp).set_tcp_keepalive(&keepalive));
}

/// What the connection of an agent gets besides. The kernel takes little that it cannot send yet: what waits there has
/// left our hands, and heartbeats and aborts would wait behind it. And an agent that acknowledges nothing is gone, also
/// one that is told something only now and has no heartbeats yet.
pub(super) fn prepare_link(tcp: &TcpStream) {
    #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
    {
        static UNSENT: Once = Once::new();
        tell_once(&UNSENT, "TCP_NOTSENT_LOWAT", SockRef::from(tcp).set_tcp_notsent_lowat(UNSENT_MAX));
    }
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        static USER_TIMEOUT: Once = Once::new();
        let result = SockRef::from(tcp).set_tcp_user_timeout(Some(UNACKNOWLEDGED_MAX));
        tell_once(&USER_TIMEOUT, "TCP_USER_TIMEOUT", result);
    }
    #[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
    let _ = tcp;
}

fn tell_once(told: &Once, option: &str, result: io::Result<()>) {
    // A connection that is gone already refuses every option.
    if let Err(error) = result
        && error.kind() != io::ErrorKind::InvalidInput
    {
        told.call_once(|| {
            tracing::warn!("the system does not take the socket option {option}: {error}; going on without");
        });
    }
}

/// Makes closing the connection a reset, which no client takes for a clean end.
pub(super) fn reset_on_close(tcp: &TcpStream) {
    // Without it the client is told less; there is nothing else to do.
    let _ = SockRef::from(tcp).set_linger(Some(Duration::ZERO));
}

/// The address as people write it: IPv4 that came through an IPv6 socket is IPv4.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        ip @ IpAddr::V4(_) => SocketAddr::new(ip, address.port()),
        IpAddr::V6(_) => address,
    }
}

/// Bytes of a link beyond what it can send now, with which the kernel takes no more: one frame, as at the agent. What is on
/// its way does not count, so fast lines are not slowed down.
const UNSENT_MAX: u32 = 16 * 1024;
/// As long as unanswered keepalive probes take: most agents are given up sooner, by their heartbeat.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(120);
/// After a restart all agents and visitors come at once; the kernel lowers it to its own limit (`somaxconn`).
const BACKLOG: i32 = 4096;
/// Idle database connections live long: NAT devices forget after five minutes at the earliest, and a visitor that is gone
/// is noticed after two.
const KEEPALIVE_TIME: Duration = Duration::from_secs(60);
/// Between probes that are not answered.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// So many unanswered probes end the connection.
const KEEPALIVE_RETRIES: u32 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn inherited_socket_is_taken_by_its_address_and_once() {
        let inherited = Inherited::default();
        let socket = StdListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        inherited.add(socket).unwrap();
        assert_eq!(inherited.left(), [address]);
        let other = listen("127.0.0.1:0".parse().unwrap(), &inherited).unwrap();
        assert_ne!(other.local_addr().unwrap(), address);
        let taken = listen(address, &inherited).unwrap();
        assert_eq!(taken.local_addr().unwrap(), address);
        assert!(inherited.left().is_empty());
        assert_eq!(listen(address, &inherited).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn kernel_takes_little_of_a_link_and_gives_it_up_when_nothing_is_acknowledged() {
        let listener = listen("127.0.0.1:0".parse().unwrap(), &Inherited::default()).unwrap();
        let (client, _) =
            tokio::try_join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept()).unwrap();
        prepare_link(&client);
        assert_eq!(SockRef::from(&client).tcp_notsent_lowat().unwrap(), UNSENT_MAX);
        assert_eq!(SockRef::from(&client).tcp_user_timeout().unwrap(), Some(UNACKNOWLEDGED_MAX));
    }

    #[test]
    fn option_that_fails_is_told_once_and_not_for_a_connection_that_is_gone() {
        let told = Once::new();
        tell_once(&told, "SO_TEST", Err(io::ErrorKind::InvalidInput.into()));
        assert!(!told.is_completed());
        for _ in 0..2 {
            tell_once(&told, "SO_TEST", Err(io::ErrorKind::Unsupported.into()));
        }
        assert!(told.is_completed());
    }

    #[test]
    fn inherited_sockets_are_there_until_they_are_asked_for() {
        let inherited = Inherited::default();
        assert!(inherited.is_empty());
        let socket = StdListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        inherited.add(socket).unwrap();
        assert!(!inherited.is_empty());
        assert!(inherited.take(address).is_some() && inherited.is_empty());
    }

    #[test]
    fn mapped_addresses_are_shown_as_ipv4() {
        for (address, shown) in [
            ("[::ffff:192.0.2.1]:5", "192.0.2.1:5"),
            ("[2001:db8::1]:5", "[2001:db8::1]:5"),
            ("192.0.2.1:5", "192.0.2.1:5"),
        ] {
            assert_eq!(canonical(address.parse().unwrap()).to_string(), shown);
        }
    }
}
