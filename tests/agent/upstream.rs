//! Services behind the agent, each connection on a thread of its own.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use socket2::{Domain, Socket, Type};

use crate::patience::PATIENCE;

pub(crate) type TlsStream = StreamOwned<ServerConnection, TcpStream>;

/// Serves every connection with `serve`.
pub(crate) fn tcp(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let serve = Arc::new(serve);
    thread::spawn(move || {
        for socket in listener.incoming().map_while(Result::ok) {
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket.set_write_timeout(Some(PATIENCE)).unwrap();
            let serve = Arc::clone(&serve);
            thread::spawn(move || serve(socket));
        }
    });
    address
}

/// Like [`tcp`], over TLS.
pub(crate) fn tls(config: Arc<ServerConfig>, serve: impl Fn(TlsStream) + Send + Sync + 'static) -> SocketAddr {
    tcp(move |socket| {
        let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
        serve(StreamOwned::new(connection, socket));
    })
}

/// Sends back what it gets, and its end.
pub(crate) fn echo() -> SocketAddr {
    tcp(|socket| {
        // One descriptor for both directions: hundreds of visitors fit the usual limit of 1024.
        let (mut reader, mut writer) = (&socket, &socket);
        // An abort of the test's ends the copy early.
        let _ = std::io::copy(&mut reader, &mut writer);
        let _ = socket.shutdown(Shutdown::Write);
    })
}

/// An address at which nobody listens.
pub(crate) fn nobody() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

/// A listener whose backlog is full, so that the next connection gets no answer for as long as it lives.
pub(crate) struct Silent {
    pub(crate) address: SocketAddr,
    _open: (Socket, TcpStream),
}

impl Silent {
    pub(crate) fn new() -> Self {
        Self::at((Ipv4Addr::LOCALHOST, 0).into())
    }

    pub(crate) fn at(address: SocketAddr) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&address.into()).unwrap();
        socket.listen(0).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        let first = TcpStream::connect(address).unwrap();
        Self { address, _open: (socket, first) }
    }
}

/// Closes with a TCP reset.
pub(crate) fn abort(socket: TcpStream) {
    socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO)).unwrap();
    drop(socket);
}

/// Reads until this many bytes came.
pub(crate) fn read_exactly(stream: &mut impl Read, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

/// Sends everything; the other end may have gone.
pub(crate) fn send(stream: &mut impl Write, bytes: &[u8]) {
    let _ = stream.write_all(bytes).and_then(|()| stream.flush());
}

/// Bytes in which every misplaced or lost piece shows.
pub(crate) fn pattern(len: usize, seed: u32) -> Vec<u8> {
    let mut state = seed | 1;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()
    };
    (0..len.div_ceil(4)).flat_map(next).take(len).collect()
}
