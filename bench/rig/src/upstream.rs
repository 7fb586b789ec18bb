//! The upstream: one thread per connection. A visitor's first byte says what it wants, eight more how much:
//!
//! - `D`: that many bytes come down.
//! - `U`: that many bytes go up, then one comes down.
//! - `E`: what comes is sent back, until the end.

use std::io::{self, Read, Write};
use std::mem::MaybeUninit;
use std::net::{TcpListener, TcpStream};
use std::thread;

use argh::FromArgs;
use socket2::SockRef;

use crate::Outcome;

/// serve visitors on a port of 127.0.0.1 until killed
#[derive(FromArgs)]
#[argh(subcommand, name = "serve")]
pub(crate) struct Serve {
    /// the port
    #[argh(positional)]
    port: u16,
}

pub(crate) fn serve(command: &Serve) -> Outcome {
    let listener = TcpListener::bind(("127.0.0.1", command.port))?;
    SockRef::from(&listener).listen(BACKLOG)?;
    for socket in listener.incoming() {
        let socket = socket?;
        thread::Builder::new().stack_size(STACK).spawn(move || {
            // A visitor that went away shows where it is measured.
            let _ = answer(socket);
        })?;
    }
    Ok(serde_json::Value::Null)
}

fn answer(mut socket: TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let mut head = [0; HEAD_LEN];
    socket.read_exact(&mut head)?;
    let [kind, length @ ..] = head;
    let length = u64::from_le_bytes(length);
    match kind {
        b'D' => send(&mut socket, length),
        b'U' => {
            discard(&socket, length)?;
            socket.write_all(b"k")
        }
        _ => echo(&mut socket),
    }
}

/// What a visitor says first.
pub(crate) fn head(kind: u8, length: u64) -> [u8; HEAD_LEN] {
    let mut head = [kind; HEAD_LEN];
    head[1..].copy_from_slice(&length.to_le_bytes());
    head
}

fn echo(socket: &mut TcpStream) -> io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        match socket.read(&mut buffer)? {
            0 => return Ok(()),
            len => socket.write_all(&buffer[..len])?,
        }
    }
}

/// Sends `length` bytes that are the same MiB again and again, and differ within it.
pub(crate) fn send(socket: &mut TcpStream, mut length: u64) -> io::Result<()> {
    let bytes: Vec<u8> = (0..PIECE).map(|at| (at.wrapping_mul(0x9e37_79b9) >> 13).to_le_bytes()[0]).collect();
    while length > 0 {
        let len = usize::try_from(length).map_or(PIECE, |length| length.min(PIECE));
        socket.write_all(&bytes[..len])?;
        length -= len as u64;
    }
    Ok(())
}

/// Takes `length` bytes and lets the kernel drop them: copying them here would be measured as well.
pub(crate) fn discard(socket: &TcpStream, mut length: u64) -> io::Result<()> {
    let mut room = vec![MaybeUninit::uninit(); PIECE];
    let socket = SockRef::from(socket);
    while length > 0 {
        let len = usize::try_from(length).map_or(PIECE, |length| length.min(PIECE));
        match socket.recv_with_flags(&mut room[..len], MSG_TRUNC)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            len => length -= len as u64,
        }
    }
    Ok(())
}

/// Length of what a visitor says first.
pub(crate) const HEAD_LEN: usize = 9;
const PIECE: usize = 1 << 20;
/// Threads that hold a buffer of a page or none.
const STACK: usize = 64 * 1024;
const BACKLOG: i32 = 4096;
/// recv(2) on Linux: for TCP, drop instead of copy.
const MSG_TRUNC: i32 = 0x20;
