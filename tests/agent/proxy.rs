//! A proxy on loopback that answers as it is told.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use crate::patience::Watched;

/// What happens to a connection.
#[derive(Clone)]
pub(crate) enum Proxying {
    /// HTTP CONNECT: this answer, and nothing behind it.
    Answer(&'static str),
    /// HTTP CONNECT, to the gateway whatever was asked for.
    Connect(SocketAddr),
    /// SOCKS5 with user name and password, to the gateway whatever was asked for.
    Socks5(SocketAddr),
    /// Nobody answers.
    Ignore,
}

pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    state: Arc<Watched<State>>,
}

struct State {
    proxying: Proxying,
    /// What was asked for: heads of HTTP, and of SOCKS the texts in their order.
    asked: Vec<String>,
    ignored: Vec<TcpStream>,
    /// What the agent sent through an HTTP proxy, behind its request.
    passed: Vec<u8>,
}

impl Proxy {
    pub(crate) fn new(proxying: Proxying) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let state =
            Arc::new(Watched::new(State { proxying, asked: Vec::new(), ignored: Vec::new(), passed: Vec::new() }));
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                let shared = Arc::clone(&shared);
                // A test that has ended takes its agent along.
                thread::spawn(move || serve(socket, &shared));
            }
        });
        Self { address, state }
    }

    /// From the next connection on.
    pub(crate) fn set(&self, proxying: Proxying) {
        self.state.with(|state| state.proxying = proxying);
    }

    pub(crate) fn wait_asked(&self) -> String {
        self.state.wait("a request to the proxy", |state| state.asked.first().cloned())
    }

    /// The lengths of the TLS records that the agent has sent.
    pub(crate) fn record_lengths(&self) -> Vec<usize> {
        let passed = self.state.with(|state| state.passed.clone());
        let (mut rest, mut lengths) = (passed.as_slice(), Vec::new());
        while let Some([_, _, _, high, low]) = rest.first_chunk() {
            let len = 5 + usize::from(u16::from_be_bytes([*high, *low]));
            lengths.push(len);
            rest = rest.get(len..).unwrap_or_default();
        }
        lengths
    }

    pub(crate) fn asked(&self) -> usize {
        self.state.with(|state| state.asked.len())
    }
}

fn serve(mut socket: TcpStream, shared: &Arc<Watched<State>>) -> Option<()> {
    match shared.with(|state| state.proxying.clone()) {
        Proxying::Ignore => shared.with(|state| state.ignored.push(socket)),
        Proxying::Answer(answer) => {
            let head = read_head(&socket)?;
            shared.with(|state| state.asked.push(head));
            socket.write_all(answer.as_bytes()).ok()?;
        }
        Proxying::Connect(gateway) => {
            let head = read_head(&socket)?;
            shared.with(|state| state.asked.push(head));
            let far = TcpStream::connect(gateway).ok()?;
            socket.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").ok()?;
            let shared = Arc::clone(shared);
            join(socket, far, move |bytes| shared.with(|state| state.passed.extend(bytes)));
        }
        Proxying::Socks5(gateway) => {
            let asked = greet_socks5(&mut socket)?;
            shared.with(|state| state.asked.push(asked));
            let far = TcpStream::connect(gateway).ok()?;
            socket.write_all(&[5, 0, 0, 1, 127, 0, 0, 1, 0, 0]).ok()?;
            join(socket, far, |_| ());
        }
    }
    Some(())
}

/// The head of a request. Nothing follows it before the answer.
fn read_head(socket: &TcpStream) -> Option<String> {
    let (mut reader, mut head) = (BufReader::new(socket), String::new());
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    Some(head)
}

/// `user password name port`.
fn greet_socks5(socket: &mut TcpStream) -> Option<String> {
    let methods = read_text(socket, 1)?;
    assert!(methods.1.contains(&2), "no password is offered");
    socket.write_all(&[5, 2]).ok()?;
    let user = read_text(socket, 1)?;
    let password = read_text(socket, 0)?;
    socket.write_all(&[1, 0]).ok()?;
    let name = read_text(socket, 4)?;
    assert_eq!(name.0, [5, 1, 0, 3], "the name is not left to the proxy");
    let mut port = [0; 2];
    socket.read_exact(&mut port).ok()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Some(format!("{} {} {} {}", text(&user.1), text(&password.1), text(&name.1), u16::from_be_bytes(port)))
}

/// Some bytes, and then a text behind its length.
fn read_text(socket: &mut TcpStream, before: usize) -> Option<(Vec<u8>, Vec<u8>)> {
    let (mut first, mut len) = (vec![0; before], [0]);
    socket.read_exact(&mut first).ok()?;
    socket.read_exact(&mut len).ok()?;
    let mut text = vec![0; usize::from(len[0])];
    socket.read_exact(&mut text).ok()?;
    Some((first, text))
}

/// Passes bytes both ways, and shows those from `near`.
fn join(near: TcpStream, far: TcpStream, show: impl Fn(&[u8]) + Send + 'static) {
    let (Ok(near_too), Ok(far_too)) = (near.try_clone(), far.try_clone()) else { return };
    thread::spawn(move || copy(near_too, far_too, show));
    copy(far, near, |_| ());
}

fn copy(mut from: TcpStream, mut to: TcpStream, show: impl Fn(&[u8])) {
    let mut bytes = [0; 16 * 1024];
    while let Ok(len @ 1..) = from.read(&mut bytes) {
        show(&bytes[..len]);
        if to.write_all(&bytes[..len]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}
