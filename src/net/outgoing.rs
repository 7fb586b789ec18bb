//! How sockets leave the machine: through which interface, in segments of which size.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use mio::net::TcpStream;
use socket2::{Domain, Protocol, Socket, Type};

use crate::config::EgressConfig;

/// What the sockets towards the gateway have in common. The default leaves everything to the system.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outgoing {
    interface: Option<Arc<str>>,
    mss: Option<u32>,
}

impl Outgoing {
    /// Through this network interface only (Linux), and in TCP segments of at most `mss` bytes in both directions.
    #[must_use]
    pub fn new(interface: Option<&str>, mss: Option<u32>) -> Self {
        Self { interface: interface.map(Arc::from), mss }
    }

    /// As the configuration has it.
    #[must_use]
    pub fn of(egress: &EgressConfig) -> Self {
        Self::new(egress.interface.as_deref(), egress.mss)
    }

    /// Begins to connect.
    ///
    /// # Errors
    /// The system's; those that have to do with the interface say so.
    pub(crate) fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        if *self == Self::default() {
            return TcpStream::connect(address);
        }
        let socket = self.socket(address, Type::STREAM, Protocol::TCP)?;
        if let Some(mss) = self.mss {
            // Before the connection begins: the other side learns it from the SYN and keeps to it too.
            socket.set_tcp_mss(mss)?;
        }
        socket.set_nonblocking(true)?;
        match socket.connect(&address.into()) {
            Err(error) if !is_under_way(&error) => Err(error),
            Ok(()) | Err(_) => Ok(TcpStream::from_std(socket.into())),
        }
    }

    /// A socket that leaves through the interface.
    ///
    /// # Errors
    /// As [`Outgoing::connect`].
    pub(crate) fn socket(&self, address: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
        let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
        if let Some(interface) = &self.interface {
            bind(&socket, interface).map_err(|error| explained(interface, &error))?;
        }
        Ok(socket)
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn bind(socket: &Socket, interface: &str) -> io::Result<()> {
    socket.bind_device(Some(interface.as_bytes()))
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn bind(_: &Socket, _: &str) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// The error of a bind to an interface in words that say who can mend it. An interface comes and goes with its line, so
/// that none of them ends the agent.
fn explained(interface: &str, error: &io::Error) -> io::Error {
    let advice = match error.kind() {
        io::ErrorKind::PermissionDenied => "this needs the capability CAP_NET_RAW",
        io::ErrorKind::Unsupported => "only Linux can do this: remove agent.connect_interface",
        _ if is_no_device(error) => "there is no such interface now",
        _ => "the system refuses it",
    };
    io::Error::new(error.kind(), format!("cannot bind to agent.connect_interface {interface}: {advice} ({error})"))
}

/// ENODEV has no kind of its own. The number is the same on every Linux.
fn is_no_device(error: &io::Error) -> bool {
    error.raw_os_error() == Some(19)
}

fn is_under_way(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock || error.raw_os_error() == Some(EINPROGRESS)
}

/// "The connection goes on without you", for which the standard library has no stable kind.
const EINPROGRESS: i32 = if cfg!(any(target_arch = "mips", target_arch = "mips64")) {
    150
} else if cfg!(any(target_os = "linux", target_os = "android")) {
    115
} else {
    36
};

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn interface_that_is_not_there_is_an_error_that_names_it() {
        let outgoing = Outgoing::new(Some("adit-none0"), None);
        let error = outgoing.connect((Ipv4Addr::LOCALHOST, 9).into()).unwrap_err().to_string();
        for word in ["agent.connect_interface adit-none0", "no such interface now"] {
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn missing_capability_is_named() {
        let error = explained("wan", &io::Error::from(io::ErrorKind::PermissionDenied));
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        assert!(error.to_string().contains("agent.connect_interface wan: this needs the capability CAP_NET_RAW"));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn segments_are_no_larger_than_asked_for_in_both_directions() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let socket = Outgoing::new(None, Some(1000)).connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        for mss in [socket2::SockRef::from(&socket).tcp_mss(), socket2::SockRef::from(&accepted).tcp_mss()] {
            let mss = mss.unwrap();
            assert!((500..=1000).contains(&mss), "{mss}");
        }
    }
}
