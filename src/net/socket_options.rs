//! Options of TCP sockets by which a peer that is gone without a word is noticed, and what is urgent waits for little.
//!
//! No option is needed for a connection to work: what the system does not know is told once, and done without.

use std::io;
use std::sync::Once;
use std::time::Duration;

use mio::net::TcpStream;
use socket2::{SockRef, TcpKeepalive};

/// Prepares the connection to the gateway. `patience` is how long what was sent may stay unacknowledged: as long as a
/// heartbeat may stay unanswered.
pub(crate) fn prepare_link(socket: &TcpStream, patience: Duration) {
    static UNSENT: Once = Once::new();
    static KEEPALIVE: Once = Once::new();
    static USER_TIMEOUT: Once = Once::new();
    let socket = SockRef::from(socket);
    tell_once(&UNSENT, "TCP_NOTSENT_LOWAT", socket.set_tcp_notsent_lowat(UNSENT_MAX));
    tell_once(&KEEPALIVE, "SO_KEEPALIVE", socket.set_tcp_keepalive(&keepalive(LINK_IDLE)));
    tell_once(&USER_TIMEOUT, "TCP_USER_TIMEOUT", set_user_timeout(&socket, patience));
}

/// Prepares the connection to an upstream: idle ones live as long as both ends are there, middle boxes see that they are
/// in use, and the kernel holds no megabytes for one that stands still.
pub(crate) fn prepare_upstream(socket: &TcpStream) {
    static KEEPALIVE: Once = Once::new();
    static SEND_BUFFER: Once = Once::new();
    static RECEIVE_BUFFER: Once = Once::new();
    let socket = SockRef::from(socket);
    tell_once(&KEEPALIVE, "SO_KEEPALIVE", socket.set_tcp_keepalive(&keepalive(UPSTREAM_IDLE)));
    tell_once(&SEND_BUFFER, "SO_SNDBUF", socket.set_send_buffer_size(UPSTREAM_BUFFER));
    tell_once(&RECEIVE_BUFFER, "SO_RCVBUF", socket.set_recv_buffer_size(UPSTREAM_BUFFER));
}

fn keepalive(idle: Duration) -> TcpKeepalive {
    TcpKeepalive::new().with_time(idle).with_interval(KEEPALIVE_INTERVAL).with_retries(KEEPALIVE_RETRIES)
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn set_user_timeout(socket: &SockRef<'_>, patience: Duration) -> io::Result<()> {
    socket.set_tcp_user_timeout(Some(patience))
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn set_user_timeout(_: &SockRef<'_>, _: Duration) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

fn tell_once(told: &Once, option: &str, result: io::Result<()>) {
    if let Err(error) = result {
        told.call_once(|| log::warn!("the system does not take the socket option {option}: {error}; going on without"));
    }
}

/// Bytes of the link beyond what TCP may send now, with which the kernel takes no more: what a heartbeat, a reset or a
/// keystroke has in front of it on a slow uplink. One frame; the kernel looks at it only when it begins another buffer, so
/// it may hold up to 64 KiB besides. What is in flight does not count.
const UNSENT_MAX: u32 = 16 * 1024;

/// Heartbeats are more frequent by default; should they be set to minutes, address translators of mobile networks still
/// see something in time.
const LINK_IDLE: Duration = Duration::from_secs(30);

/// Idle database connections live long. NAT devices forget after five minutes at the earliest, and an upstream that is
/// gone is noticed after two.
const UPSTREAM_IDLE: Duration = Duration::from_secs(60);

/// Bytes that the kernel is asked to hold at most in each direction of an upstream's connection; how it counts, and what
/// it allows, is its own affair. An upstream is near: these are 200 Mbit/s over 10 ms.
pub(crate) const UPSTREAM_BUFFER: usize = 256 * 1024;

/// Between probes that are not answered.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// So many unanswered probes end the connection.
const KEEPALIVE_RETRIES: u32 = 4;

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use super::*;

    fn socket() -> (TcpListener, TcpStream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let socket = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        socket.set_nonblocking(true).unwrap();
        (listener, TcpStream::from_std(socket))
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn link_is_left_when_nothing_is_acknowledged() {
        let (_listener, socket) = socket();
        prepare_link(&socket, Duration::from_secs(25));
        let socket = SockRef::from(&socket);
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_secs(25)));
        assert_eq!(socket.tcp_notsent_lowat().unwrap(), UNSENT_MAX);
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), LINK_IDLE);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn idle_upstream_is_probed_and_a_slow_one_is_not_cut() {
        let (_listener, socket) = socket();
        prepare_upstream(&socket);
        let socket = SockRef::from(&socket);
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), UPSTREAM_IDLE);
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), KEEPALIVE_INTERVAL);
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), KEEPALIVE_RETRIES);
        // The kernel doubles what it is asked for, for its own bookkeeping.
        for bytes in [socket.send_buffer_size().unwrap(), socket.recv_buffer_size().unwrap()] {
            assert!(bytes <= 2 * UPSTREAM_BUFFER, "{bytes}");
        }
        // With it a peer whose window stays closed would count as gone.
        assert_eq!(socket.tcp_user_timeout().unwrap(), None);
    }

    #[test]
    fn option_that_fails_is_told_once() {
        let told = Once::new();
        tell_once(&told, "SO_TEST", Ok(()));
        assert!(!told.is_completed());
        for _ in 0..2 {
            tell_once(&told, "SO_TEST", Err(io::ErrorKind::Unsupported.into()));
        }
        assert!(told.is_completed());
    }
}
